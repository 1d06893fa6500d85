//! The readers of ids: what is read of any fields is what was written, a key comes of an id that holds, and what is
//! remembered of a request is what its ids came in with, or nothing.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use sidetrack_config::carriers::Carrier;
use sidetrack_config::model::{Role, Secret};
use sidetrack_proxy::context::Context;
use sidetrack_proxy::context::edges::Call;
use sidetrack_proxy::context::hidden::{Secrets, index, index_of, is_bare};
use sidetrack_proxy::context::ids::Ids;
use sidetrack_proxy::context::memory::{Memory, Said};
use sidetrack_proxy::head::PlainHead;
use sidetrack_proxy::identify::identify;
use sidetrack_proxy::route::build::{About, Builder};
use sidetrack_proxy::route::table::Table;

use crate::estate::{config, head, table};

/// That of the seeds.
const SECRET: &[u8] = b"0123456789abcdef";

/// The table of a waypoint that reads trace ids.
fn inside() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut config = config().clone();
        config.role = Role::Waypoint;
        config.context.secrets = Some(vec![Secret(SECRET.to_vec())]);
        let mut builder = Builder::new(1);
        let mut table = Table::new(1, builder.estate(&config).expect("no TLS is configured"));
        for (key, preview) in &config.previews {
            let preview = builder.preview(*key, preview, &config, About::default());
            table.insert(preview).expect("no two share a name");
        }
        table
    })
}

/// `METHOD URL` and lines of `name: value`.
pub(crate) fn check(bytes: &[u8]) {
    let Some(head) = head(bytes) else { return };
    let ids = Ids::of(&head);
    what_is_read_was_written(&ids);
    a_key_comes_of_an_id_that_holds(&head, &ids);
    what_is_remembered_came_in(&head, &ids);
}

fn what_is_read_was_written(ids: &Ids<'_>) {
    assert!(ids.traces.len() <= 4);
    for (at, id) in ids.traces.iter().enumerate() {
        assert!(*id != 0 && !ids.traces[..at].contains(id), "{ids:?}");
        let again = PlainHead::get("a.test").with("traceparent", format!("00-{id:032x}-00000000000000ff-00"));
        assert_eq!(Ids::of(&again).traces.as_slice(), [*id]);
    }
    if let Some(id) = ids.request {
        assert!((16..=128).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic));
    }
}

fn a_key_comes_of_an_id_that_holds(head: &PlainHead, ids: &Ids<'_>) {
    if let Ok(identity) = identify(head, table()) {
        assert_ne!(identity.carrier, Some(Carrier::Trace), "at the edge");
    }
    let Ok(identity) = identify(head, inside()) else { return };
    if identity.carrier != Some(Carrier::Trace) {
        return;
    }
    let [key] = identity.keys[..] else { panic!("{identity:?}") };
    assert!(inside().preview(&key).is_some(), "{key} is not there");
    let request = ids.request.and_then(|id| u128::from_str_radix(std::str::from_utf8(id).ok()?, 16).ok());
    let secrets = Secrets::new([&Secret(SECRET.to_vec())]);
    let holds = |id: &u128| {
        !is_bare(*id) && index_of(*id) == index(&key) && secrets.read(*id, [key].iter()).is_some()
    };
    assert!(ids.traces.iter().chain(&request).any(holds), "{ids:?} do not say {key}");
}

fn what_is_remembered_came_in(head: &PlainHead, ids: &Ids<'_>) {
    let Ok(before) = identify(head, table()) else { return };
    let now = Instant::now();
    let context = Context { remember: Duration::from_secs(30), entries: 100, ..Context::default() };
    let (memory, key) = (Memory::new(now), *config().previews.keys().next().expect("a preview"));
    let goes_out = |memory: &Memory| {
        let mut identity = before.clone();
        let call = Call::of_workload(head, &mut identity, &table().estate, memory, || false, now);
        assert_eq!(call.is_some(), !identity.keys.is_empty(), "{call:?} {identity:?}");
        identity
    };
    assert_eq!(goes_out(&memory), before, "nothing is known");
    let said = Said { keys: [key].into_iter().collect(), strict: true };
    let _ = memory.came_in(ids, said, &context, now);
    let restored = goes_out(&memory);
    // Two traces with one low half are not told apart, though one request has both.
    let lows = || ids.traces.iter().map(|id| id & u128::from(u64::MAX));
    let is_clear = lows().enumerate().all(|(at, low)| lows().take(at).all(|other| other != low));
    if !before.keys.is_empty() || ids.is_empty() {
        assert_eq!(restored, before);
    } else if !is_clear {
        assert!(restored.keys.is_empty() || restored.keys.as_slice() == [key]);
    } else {
        assert_eq!((restored.keys.as_slice(), restored.strict), (&[key][..], true));
    }
    let _ = memory.came_in_unkeyed(ids, &context, now);
    assert_eq!(goes_out(&memory).keys, before.keys, "with and without a key");
    memory.sweep(context.remember, now + context.remember);
    assert!(memory.is_empty());
}
