//! What is heard against a model of what was said.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// A controller of one map: the text of each preview by its key.
#[derive(Default)]
struct Said {
    version: u64,
    items: BTreeMap<String, String>,
}

impl Said {
    fn hash(&self) -> String {
        let mut hash = TableHash::default();
        for (id, text) in &self.items {
            hash.add(id, text);
        }
        hash.to_string()
    }

    fn item(key: &str, forks: u8) -> (String, String) {
        let forks: BTreeMap<String, [String; 0]> = (0..forks).map(|n| (format!("s{n}"), [])).collect();
        let item = json!({"preview": {"key": key, "forks": forks, "onForkDown": "fail"}});
        (format!("preview/{key}"), item.to_string())
    }

    fn delta(&mut self, upsert: &[(String, u8)], remove: &[String]) -> String {
        let items: Vec<_> = upsert.iter().map(|(key, forks)| Self::item(key, *forks)).collect();
        let gone: Vec<String> = remove.iter().map(|key| format!("preview/{key}")).collect();
        for id in &gone {
            self.items.remove(id);
        }
        let texts: Vec<_> = items.iter().map(|(id, text)| format!("\"{id}\":{text}")).collect();
        self.items.extend(items);
        self.version += 1;
        format!(
            r#"{{"delta":{{"from":{},"to":{},"upsert":{{{}}},"remove":{},"hash":"{}"}}}}"#,
            self.version - 1,
            self.version,
            texts.join(","),
            json!(gone),
            self.hash()
        )
    }

    fn snapshot(&self, parts: usize) -> Vec<String> {
        let texts: Vec<_> = self.items.iter().map(|(id, text)| format!("\"{id}\":{text}")).collect();
        let mut lines: Vec<_> =
            texts.chunks(texts.len().div_ceil(parts).max(1)).map(|some| some.join(",")).collect();
        if lines.is_empty() {
            lines.push(String::new());
        }
        let last = lines.len() - 1;
        let hash =
            |at: usize| if at == last { format!(r#","hash":"{}""#, self.hash()) } else { String::new() };
        let line = |(at, items): (usize, &String)| {
            format!(r#"{{"snapshot":{{"version":{},"items":{{{items}}}{}}}}}"#, self.version, hash(at))
        };
        lines.iter().enumerate().map(line).collect()
    }
}

fn hello(mirror: &mut Mirror, epoch: &str) {
    let line = json!({"hello": {"protocol": 1, "epoch": epoch}}).to_string();
    assert_eq!(mirror.line(line.as_bytes()), Ok(Heard::Hello));
}

/// A mirror that has heard of the previews 1 and 2.
fn following() -> (Mirror, Said) {
    let (mut mirror, mut said) = (Mirror::default(), Said::default());
    said.delta(&[("1".into(), 1), ("2".into(), 0)], &[]);
    hello(&mut mirror, "e");
    for line in said.snapshot(1) {
        mirror.line(line.as_bytes()).unwrap();
    }
    (mirror, said)
}

/// Takes changes in as a table would.
fn take(table: &mut BTreeMap<String, Item>, mirror: &mut Mirror) {
    for (id, change) in mirror.pending() {
        match change {
            Change::Set(item) => drop(table.insert(id.to_string(), item.clone())),
            Change::Removed => drop(table.remove(&**id)),
            Change::Bad(why) => panic!("{id}: {why}"),
        }
    }
    mirror.settled();
}

proptest! {
    #[test]
    fn whatever_is_said_is_heard(steps in prop::collection::vec((
        prop::collection::btree_map("[a-d]", 0u8..3, 0..3), prop::collection::btree_set("[e-h]", 0..2),
        0u8..4, any::<bool>(),
    ), 1..12)) {
        let (mut mirror, mut said) = following();
        let mut table = BTreeMap::new();
        for (upsert, remove, way, settles) in steps {
            let upsert: Vec<_> = upsert.into_iter().collect();
            let remove: Vec<_> = remove.into_iter().collect();
            let delta = said.delta(&upsert, &remove);
            // As a delta, or by a new connection as a snapshot, of this life or of another one.
            match way {
                0 | 1 => prop_assert_eq!(mirror.line(delta.as_bytes()), Ok(Heard::Changed)),
                _ => {
                    mirror.lose_position();
                    hello(&mut mirror, if way == 2 { "e" } else { "other" });
                    for line in said.snapshot(usize::from(way)) {
                        mirror.line(line.as_bytes()).unwrap();
                    }
                    if way == 3 {
                        mirror.disconnected();
                        hello(&mut mirror, "other");
                    }
                }
            }
            if mirror.position().is_some_and(|at| &*at.epoch != "e") {
                // The next deltas are of the life that is heard now.
                prop_assert_eq!(way, 3);
                mirror.lose_position();
                hello(&mut mirror, "e");
                for line in said.snapshot(1) {
                    mirror.line(line.as_bytes()).unwrap();
                }
            }
            prop_assert_eq!(mirror.position().map(|at| at.version), Some(said.version));
            // A table that could not be made yet is made with what comes later.
            if settles {
                take(&mut table, &mut mirror);
            }
        }
        take(&mut table, &mut mirror);
        let expected: BTreeMap<_, _> =
            said.items.iter().map(|(id, text)| (id.clone(), serde_json::from_str(text).unwrap())).collect();
        prop_assert_eq!(table, expected);
    }
}

#[test]
fn what_does_not_fit_changes_nothing() {
    let (mut mirror, mut said) = following();
    mirror.settled();
    let good = said.delta(&[("3".into(), 2)], &["1".into()]);
    for (from, to, why) in [
        ("\"from\":1", "\"from\":0", "a change of version 0 came, and this proxy has version 1"),
        ("\"s1\"", "\"s2\"", "version 2 has the hash"),
        ("\"remove\":[\"preview/1\"]", "\"remove\":[\"preview/1\",\"preview/1\"]", "names preview/1 twice"),
        ("\"remove\":[\"preview/1\"]", "\"remove\":[\"preview/3\"]", "names preview/3 twice"),
        ("\"delta\"", "\"delt\"", "is no message of this protocol"),
    ] {
        assert!(good.contains(from), "{good}");
        let lost = mirror.line(good.replace(from, to).as_bytes()).unwrap_err();
        assert!(lost.to_string().contains(why), "{lost}");
        assert!(mirror.pending().is_empty(), "{why}");
        assert_eq!(mirror.position().map(|at| at.version), Some(1));
    }
    assert_eq!(mirror.line(good.as_bytes()), Ok(Heard::Changed));
    assert_eq!(mirror.pending().len(), 2);
}

#[test]
fn half_a_snapshot_is_none() {
    let (mut mirror, mut said) = following();
    said.delta(&[("3".into(), 0)], &[]);
    mirror.settled();
    let parts = said.snapshot(2);
    assert_eq!(mirror.line(parts[0].as_bytes()), Ok(Heard::Begun));
    assert!(mirror.line(said.delta(&[], &[]).as_bytes()).is_err(), "no change amid a snapshot");
    mirror.disconnected();
    assert!(mirror.pending().is_empty());
    assert_eq!(mirror.position().map(|at| at.version), Some(1), "what it had it has");
    hello(&mut mirror, "e");
    let twice = parts[0].replace("\"version\":2", "\"version\":3");
    assert_eq!(mirror.line(parts[0].as_bytes()), Ok(Heard::Begun));
    assert!(mirror.line(twice.as_bytes()).is_err(), "parts of two versions");
}

#[test]
fn another_protocol_and_another_life() {
    let (mut mirror, mut said) = following();
    let other = json!({"hello": {"protocol": 2, "epoch": "e"}}).to_string();
    assert!(mirror.line(other.as_bytes()).unwrap_err().to_string().contains("it speaks protocol 2"));
    hello(&mut mirror, "another");
    assert_eq!(mirror.position(), None);
    assert!(mirror.line(said.delta(&[], &[]).as_bytes()).is_err());
    assert!(Mirror::default().line(said.snapshot(1)[0].as_bytes()).is_err(), "before hello");
}

#[test]
fn what_is_not_understood_is_told_without_secrets() {
    let secret = r#"{"certificate":{"name":"a/b","chain":1,"key":"-----BEGIN PRIVATE KEY-----"}}"#;
    for (id, text, said) in [
        ("rule/a", r#"{"rule":{}}"#, "unknown variant"),
        ("certificate/a/b", secret, "it is no certificate"),
        ("service/b", r#"{"service":{"name":"a","protocol":"http1"}}"#, "it is service/a"),
    ] {
        let mut hash = TableHash::default();
        hash.add(id, text);
        let line = format!(r#"{{"snapshot":{{"version":1,"items":{{"{id}":{text}}},"hash":"{hash}"}}}}"#);
        let mut mirror = Mirror::default();
        hello(&mut mirror, "e");
        assert_eq!(mirror.line(line.as_bytes()), Ok(Heard::Whole(true)));
        let Some(Change::Bad(why)) = mirror.pending().get(id) else { panic!("{:?}", mirror.pending()) };
        assert!(why.contains(said) && !why.contains("PRIVATE"), "{why}");
    }
}

#[test]
fn an_item_has_a_bound() {
    let key = "x".repeat(MAX_ITEM);
    let line = format!(r#"{{"snapshot":{{"version":1,"items":{{"rule/a":"{key}"}},"hash":"0"}}}}"#);
    let mut mirror = Mirror::default();
    hello(&mut mirror, "e");
    assert!(mirror.line(line.as_bytes()).unwrap_err().to_string().contains("more than 1048576"));
}
