//! A model subscriber reads lines as a proxy does, and must end with what was published.

use proptest::prelude::*;
use sidetrack_config::Key;
use sidetrack_config::stream::{
    self, MAX_ITEM, MAX_LINE, OnForkDown, Preview, Protocol, RawItems, Service, TableHash,
};

use super::*;

/// What a proxy does with lines, and nothing else.
#[derive(Default)]
struct Model {
    epoch: Box<str>,
    version: Option<u64>,
    items: RawItems,
    growing: RawItems,
    snapshots: usize,
    deltas: usize,
    pings: usize,
}

impl Model {
    fn read(&mut self, lines: &[Bytes]) {
        for line in lines {
            assert!(line.len() <= MAX_LINE, "a line of {} bytes", line.len());
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            assert!(line.ends_with(b"\n"));
            match serde_json::from_slice(line).unwrap() {
                Message::Hello(hello) => {
                    assert_eq!(hello.protocol, PROTOCOL);
                    self.epoch = hello.epoch;
                    self.growing.clear();
                }
                Message::Snapshot(part) => {
                    self.growing.extend(part.items);
                    let Some(hash) = part.hash else { continue };
                    self.items = std::mem::take(&mut self.growing);
                    self.version = Some(part.version);
                    self.snapshots += 1;
                    assert_eq!(self.hash(), hash);
                }
                Message::Delta(delta) => {
                    assert_eq!(Some(delta.from), self.version);
                    self.items.extend(delta.upsert);
                    for id in delta.remove {
                        assert!(self.items.remove(&id).is_some(), "{id} was not there");
                    }
                    self.version = Some(delta.to);
                    self.deltas += 1;
                    assert_eq!(self.hash(), delta.hash);
                }
                Message::Ping(ping) => {
                    assert_eq!(Some(ping.version), self.version);
                    self.pings += 1;
                }
            }
        }
    }

    fn hash(&self) -> TableHash {
        let mut hash = TableHash::default();
        for (id, json) in &self.items {
            hash.add(id, json.get());
        }
        hash
    }

    fn table(&self) -> BTreeMap<Box<str>, Item> {
        let mut table = BTreeMap::new();
        for (id, json) in &self.items {
            table.insert(id.clone(), serde_json::from_str(json.get()).unwrap());
        }
        table
    }
}

pub(crate) fn service(name: &str, port: u16) -> Item {
    let baseline = Some(vec![([10, 0, 0, 1], port).into()]);
    Item::Service(Service {
        name: name.into(),
        baseline,
        protocol: Protocol::Http1,
        server_name: None,
        addresses: Vec::new(),
    })
}

fn preview(key: &str, services: &[&str]) -> Item {
    let fork = |service: &&str| ((*service).into(), vec![([10, 0, 0, 2], 80).into()]);
    Item::Preview(Preview {
        key: Key::bare(key).unwrap(),
        forks: services.iter().map(fork).collect(),
        parents: Vec::new(),
        aliases: Vec::new(),
        hosts: Vec::new(),
        on_fork_down: OnForkDown::Fail,
        expires: None,
    })
}

fn items(all: impl IntoIterator<Item = Item>) -> BTreeMap<Box<str>, Item> {
    all.into_iter().map(|item| (item.id().into(), item)).collect()
}

/// A certificate whose text has about so many bytes.
fn large(name: &str, bytes: usize) -> Item {
    let chain = "x".repeat(bytes).into();
    Item::Certificate(stream::Certificate { name: name.into(), chain, key: "".into(), hosts: Vec::new() })
}

fn publish(publisher: &Publisher, all: impl IntoIterator<Item = Item>) -> Updated {
    publisher.update(items(all), About::default())
}

#[tokio::test]
async fn a_subscriber_gets_a_snapshot_and_then_deltas() {
    let publisher = Arc::new(Publisher::new());
    assert!(publisher.subscribe("", None).is_none(), "nobody hears of an empty table before the first");
    let first = publish(&publisher, [service("a", 1), service("b", 1)]);
    let mut subscription = publisher.subscribe("", None).unwrap();
    let mut model = Model::default();
    model.read(&subscription.next().await);
    assert_eq!((model.snapshots, model.version), (1, Some(first.version)));
    let second = publish(&publisher, [service("a", 2), preview("42", &["a"])]);
    assert_eq!(second.version, first.version + 1);
    let lines = subscription.next().await;
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0].len(), second.delta_bytes);
    model.read(&lines);
    assert_eq!(model.table(), items([service("a", 2), preview("42", &["a"])]));
    assert_eq!(publisher.table().unwrap().hash(), model.hash());
}

#[tokio::test]
async fn an_equal_table_is_no_version_and_an_unchanged_item_is_not_serialised_again() {
    let publisher = Publisher::new();
    let first = publish(&publisher, [service("a", 1), service("b", 1)]);
    let before = publisher.table().unwrap();
    let again = publish(&publisher, [service("a", 1), service("b", 1)]);
    assert_eq!((again.version, again.changed), (first.version, false));
    assert!(Arc::ptr_eq(&before, &publisher.table().unwrap()));
    let next = publish(&publisher, [service("a", 1), service("b", 2)]);
    assert_eq!((next.version, next.changed), (first.version + 1, true));
    let text = |table: &Table, id| std::ptr::from_ref(table.text(id).unwrap());
    let after = publisher.table().unwrap();
    assert_eq!(text(&before, "service/a"), text(&after, "service/a"));
    assert_ne!(text(&before, "service/b"), text(&after, "service/b"));
}

#[tokio::test]
async fn one_that_comes_back_gets_what_it_missed() {
    let publisher = Arc::new(Publisher::new());
    let at = publish(&publisher, [service("a", 1)]).version;
    let mut model = Model::default();
    model.read(&publisher.subscribe("", None).unwrap().next().await);
    for port in 2..=4 {
        publish(&publisher, [service("a", port)]);
    }
    model.read(&publisher.subscribe(&model.epoch, Some(at)).unwrap().next().await);
    assert_eq!((model.snapshots, model.deltas, model.version), (1, 3, Some(at + 3)));
    // It lacks nothing: it hears so at once.
    model.read(&publisher.subscribe(&model.epoch, Some(at + 3)).unwrap().next().await);
    assert_eq!((model.snapshots, model.deltas, model.pings), (1, 3, 1));
    // Another epoch, a version that never was, and one that the log has no more.
    for port in 5..1500 {
        publish(&publisher, [service("a", port)]);
    }
    let epoch = model.epoch.clone();
    for (epoch, version) in [("other", at + 1498), (&*epoch, at + 9999), (&*epoch, at), (&*epoch, 0)] {
        let before = model.snapshots;
        model.read(&publisher.subscribe(epoch, Some(version)).unwrap().next().await);
        assert_eq!(model.snapshots, before + 1, "{epoch} {version}");
        assert_eq!(model.table(), items([service("a", 1499)]));
    }
}

#[tokio::test]
async fn a_large_table_comes_in_parts_that_are_made_once() {
    let publisher = Arc::new(Publisher::new());
    let all: Vec<Item> = (0..12).map(|n| large(&format!("c{n}"), MAX_ITEM - 200)).collect();
    publish(&publisher, all.clone());
    let first = publisher.subscribe("", None).unwrap().next().await;
    assert!(first.len() > 4, "{} lines", first.len());
    let mut model = Model::default();
    model.read(&first);
    assert_eq!(model.table(), items(all));
    for _ in 0..200 {
        let again = publisher.subscribe("", None).unwrap().next().await;
        let shared = first.iter().zip(&again).skip(1).all(|(a, b)| a.as_ptr() == b.as_ptr());
        assert!(shared && again.len() == first.len());
    }
}

#[tokio::test]
async fn what_is_too_large_is_left_out_and_named() {
    let publisher = Arc::new(Publisher::new());
    let told = publish(&publisher, [service("a", 1), large("huge", MAX_ITEM)]);
    assert_eq!(told.left_out, ["certificate/huge".into()]);
    let again = publish(&publisher, [service("a", 1), large("huge", MAX_ITEM)]);
    assert_eq!((again.changed, again.left_out), (false, vec!["certificate/huge".into()]));
    publish(&publisher, [service("a", 1), large("huge", 10)]);
    let mut model = Model::default();
    let mut subscription = publisher.subscribe("", None).unwrap();
    model.read(&subscription.next().await);
    assert!(model.items.contains_key("certificate/huge"));
    publish(&publisher, [service("a", 1), large("huge", MAX_ITEM)]);
    model.read(&subscription.next().await);
    assert_eq!(model.table(), items([service("a", 1)]));
}

#[tokio::test]
async fn a_delta_that_is_too_long_for_a_line_is_a_snapshot() {
    let publisher = Arc::new(Publisher::new());
    let at = publish(&publisher, [service("a", 1)]).version;
    let mut subscription = publisher.subscribe("", None).unwrap();
    let mut model = Model::default();
    model.read(&subscription.next().await);
    let all: Vec<Item> = (0..6).map(|n| large(&format!("c{n}"), MAX_ITEM - 200)).collect();
    assert_eq!(publish(&publisher, all.clone()).delta_bytes, 0);
    model.read(&subscription.next().await);
    assert_eq!((model.snapshots, model.version), (2, Some(at + 1)));
    assert_eq!(model.table(), items(all));
}

#[test]
fn a_process_settles_from_its_first_table_on() {
    let settle = Duration::from_secs(15);
    let publisher = Publisher::new().with_settle(settle);
    let began = Instant::now();
    publish(&publisher, [service("a", 1)]);
    assert!(publisher.acks().is_settling(began + settle - Duration::from_millis(1)));
    let over = Instant::now() + settle;
    publish(&publisher, [service("a", 2)]);
    assert!(!publisher.acks().is_settling(over), "a later table does not begin it anew");
}

#[test]
fn what_must_be_acknowledged_is_the_newest_of_the_preview_and_its_services() {
    let publisher = Publisher::new();
    let key = Key::bare("42").unwrap();
    let first = publish(&publisher, [service("a", 1), service("b", 1), preview("42", &["a"])]).version;
    let need = publisher.table().unwrap().need(&key);
    assert_eq!(need.version, first);
    publish(&publisher, [service("a", 1), service("b", 2), preview("42", &["a"])]);
    assert_eq!(publisher.table().unwrap().need(&key), need, "another service is nothing to it");
    let third = publish(&publisher, [service("a", 3), service("b", 2), preview("42", &["a"])]).version;
    let next = publisher.table().unwrap().need(&key);
    assert_eq!(next.version, third);
    assert_ne!(next.hash, need.hash);
    let other = Publisher::new();
    publish(&other, [service("c", 9)]);
    publish(&other, [service("a", 3), preview("42", &["a"])]);
    assert_eq!(other.table().unwrap().need(&key).hash, next.hash, "the same items at another replica");
    let last = publish(&publisher, [service("a", 3)]).version;
    assert_eq!(publisher.table().unwrap().need(&key), Need { version: last, hash: None });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_updates_and_any_disconnects_end_with_the_same_table(
        steps in prop::collection::vec(
            (prop::collection::btree_map(0_u8..12, 0_u16..4, 0..12), any::<bool>(), 0_u8..4), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let publisher = Arc::new(Publisher::new());
            let mut model = Model::default();
            let mut subscription = None;
            for (table, reads, loss) in steps {
                let table = table.iter().map(|(name, port)| service(&name.to_string(), *port));
                let expected = items(table);
                publisher.update(expected.clone(), About::default());
                match loss {
                    0 => subscription = None,
                    1 => (subscription, model.version) = (None, None),
                    _ => {}
                }
                if reads {
                    let subscription = subscription.get_or_insert_with(|| {
                        publisher.subscribe(&model.epoch, model.version).unwrap()
                    });
                    if model.version != publisher.table().map(|table| table.version()) {
                        model.read(&subscription.next().await);
                    }
                    assert_eq!(model.table(), expected);
                    assert_eq!(model.hash(), publisher.table().unwrap().hash());
                }
            }
        });
    }
}

#[test]
fn sidecars_alone_are_told_of_services_that_nobody_else_needs() {
    let publisher = Publisher::new().with_sidecars();
    let of = |items: Vec<Item>| items.into_iter().map(|item| (item.id().into(), item)).collect::<Items>();
    let inside = |port| of(vec![service("inventory", port)]);
    let shared = || of(vec![service("checkout", 1)]);
    let publish = |inside| publisher.publish(shared(), inside, BTreeMap::new(), About::default()).version;
    let first = publish(inside(1));
    let sidecars = publisher.sidecars().unwrap();
    let told = |publisher: &Publisher| publisher.table().unwrap().len();
    assert_eq!((told(&publisher), told(&sidecars)), (1, 2));
    let before = sidecars.table().unwrap().version();
    assert_eq!(publish(inside(2)), first, "gateways have nothing new");
    assert_eq!(sidecars.table().unwrap().version(), before + 1);
    publish(Items::new());
    assert_eq!((told(&publisher), told(&sidecars)), (1, 1));
}
