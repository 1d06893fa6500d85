//! What the controller itself must not forget: when keys first appeared and when they ended, in a ConfigMap.
//!
//! Each is a line, `KEY SECONDS`: 10,000 keys of 40 bytes are 520 KB, and a ConfigMap may have 1 MiB.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use sidetrack_config::Key;

use super::Change;
use super::follow::Sink;
use crate::names::TAKE_DOWN_UNTIL;
use crate::world::World;

/// The ConfigMap's name.
pub(crate) const NAME: &str = "sidetrack-state";
/// The most keys that are kept of each sort; the newest stay.
const MAX_KEYS: usize = 9_000;

/// Times by key.
type Times = BTreeMap<Key, Timestamp>;

/// The watch's end of it.
#[derive(Default)]
pub(super) struct State {
    listed: Option<ConfigMap>,
}

impl Sink<ConfigMap> for State {
    fn apply(&mut self, object: ConfigMap) -> Option<Change> {
        Some(merge(&object))
    }

    /// What was kept is still known here, and is written again.
    fn delete(&mut self, _: ConfigMap) -> Option<Change> {
        None
    }

    fn list(&mut self) {
        self.listed = None;
    }

    fn listed(&mut self, object: ConfigMap) {
        self.listed = Some(object);
    }

    fn complete(&mut self) -> Option<Change> {
        self.listed.take().map(|object| merge(&object))
    }
}

/// What is stored counts, so that all replicas go by the same times; what is only known here is not lost.
fn merge(object: &ConfigMap) -> Change {
    let (seen, gone) = read(object);
    let until = object.annotations().get(TAKE_DOWN_UNTIL).and_then(|text| text.parse().ok());
    Box::new(move |world: &mut World| {
        let seen = insert(&mut world.seen, seen);
        let asked = std::mem::replace(&mut world.take_down_until, until) != until;
        insert(&mut world.gone, gone) || seen || asked
    })
}

fn insert(known: &mut Times, stored: Times) -> bool {
    let mut changed = false;
    for (key, at) in stored {
        changed |= known.insert(key, at) != Some(at);
    }
    changed
}

/// `seen` and `gone` of a ConfigMap. A line that can't be read is passed over: it costs one key its age.
pub(crate) fn read(object: &ConfigMap) -> (Times, Times) {
    let part = |name: &str| {
        let text = object.data.as_ref().and_then(|data| data.get(name));
        text.map(|text| text.lines().take(MAX_KEYS).filter_map(line).collect()).unwrap_or_default()
    };
    (part("seen"), part("gone"))
}

fn line(line: &str) -> Option<(Key, Timestamp)> {
    let (key, seconds) = line.split_once(' ')?;
    Some((Key::bare(key).ok()?, Timestamp::from_second(seconds.parse().ok()?).ok()?))
}

/// The data of the ConfigMap that says this.
pub(crate) fn write(seen: &Times, gone: &Times) -> BTreeMap<String, String> {
    BTreeMap::from([("seen".to_owned(), lines(seen)), ("gone".to_owned(), lines(gone))])
}

fn lines(times: &Times) -> String {
    let mut newest: Vec<_> = times.iter().map(|(key, at)| (at.as_second(), key)).collect();
    newest.sort_unstable_by(|a, b| b.cmp(a));
    newest.truncate(MAX_KEYS);
    newest.sort_unstable_by(|a, b| a.1.cmp(b.1));
    newest.iter().map(|(at, key)| format!("{key} {at}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(pairs: &[(&str, i64)]) -> Times {
        pairs
            .iter()
            .map(|(key, at)| (Key::bare(key).unwrap(), Timestamp::from_second(*at).unwrap()))
            .collect()
    }

    #[test]
    fn what_is_written_reads_back() {
        let (seen, gone) = (times(&[("42", 1_700_000_000), ("shop-7", 5)]), times(&[("57", -1)]));
        let object = ConfigMap { data: Some(write(&seen, &gone)), ..ConfigMap::default() };
        assert_eq!(read(&object), (seen, gone));
    }

    #[test]
    fn a_mark_to_take_waypoints_down_is_known_and_forgotten() {
        let (mut world, mut object) = (World::default(), ConfigMap::default());
        object.annotations_mut().insert(TAKE_DOWN_UNTIL.to_owned(), "2026-11-20T00:00:00Z".to_owned());
        assert!(merge(&object)(&mut world));
        assert_eq!(world.take_down_until, "2026-11-20T00:00:00Z".parse().ok());
        assert!(!merge(&object)(&mut world));
        assert!(merge(&ConfigMap::default())(&mut world));
        assert_eq!(world.take_down_until, None);
    }

    #[test]
    fn a_line_that_is_no_line_costs_only_itself() {
        let data = BTreeMap::from([("seen".to_owned(), "42 x\nno--key 5\n\n57 7\n".to_owned())]);
        let object = ConfigMap { data: Some(data), ..ConfigMap::default() };
        assert_eq!(read(&object), (times(&[("57", 7)]), Times::new()));
    }

    #[test]
    fn the_oldest_of_too_many_are_left_out() {
        let many: Times = (0..10_000)
            .map(|n: i64| (Key::bare(&n.to_string()).unwrap(), Timestamp::from_second(n).unwrap()))
            .collect();
        let text = lines(&many);
        assert_eq!(text.lines().count(), MAX_KEYS);
        assert!(!text.contains("999 999\n") && text.contains("1000 1000\n"));
    }

    #[test]
    fn stored_times_count_and_unstored_ones_stay() {
        let mut world = World { seen: times(&[("1", 10), ("2", 20)]), ..World::default() };
        let object =
            ConfigMap { data: Some(write(&times(&[("1", 5)]), &Times::new())), ..ConfigMap::default() };
        assert!(merge(&object)(&mut world));
        assert_eq!(world.seen, times(&[("1", 5), ("2", 20)]));
        assert!(!merge(&object)(&mut world));
    }
}
