//! A table of 100,000 previews that comes, changes and goes leaves nothing behind, and takes what it may.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic)] // a helper of a test may fail as a test does

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use sidetrack_config::{Owner, check::parse_for};
use sidetrack_proxy::record::metrics::Metrics;
use sidetrack_proxy::source::keeper::Keeper;
use sidetrack_proxy::source::stream::mirror::{Change, Changes};

/// That of the program, so that what is measured is what a user has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PREVIEWS: u32 = 100_000;
const ROUNDS: u32 = 10;
/// Changes of one version: what a controller sends after a while without a connection.
const STEP: u32 = 10_000;

const FILE: &str = "
listeners: [{address: 127.0.0.1:0}]
domains: [preview.localhost]
";

fn set(kind: &str, value: serde_json::Value) -> Change {
    Change::Set(serde_json::from_value(json!({ kind: value })).unwrap())
}

/// The keeper of a table, and the version of it.
struct Proxy(Keeper, u64);

impl Proxy {
    fn new() -> Self {
        let config = parse_for(Path::new("test.yaml"), FILE, Owner::Controller).unwrap().config;
        let path = Path::new("test.yaml");
        let keeper =
            Keeper::following(path, config, 1, Metrics::new(1), "https://c", Arc::default()).unwrap();
        let mut proxy = Self(keeper, 0);
        let services = (0..4).map(|number| {
            let name = format!("svc-{number}");
            let service = json!({"name": name, "baseline": ["10.0.0.1:80"], "protocol": "http1"});
            (format!("service/{name}").into(), set("service", service))
        });
        proxy.apply(services.collect());
        proxy
    }

    fn apply(&mut self, changes: Changes) {
        self.1 += 1;
        self.0.apply(self.1, &changes).unwrap();
        self.0.tick(Timestamp::now());
    }

    /// Makes a change of every preview.
    fn each(&mut self, change: impl Fn(u32) -> Change) {
        for first in (0..PREVIEWS).step_by(STEP.try_into().unwrap()) {
            let some = first..first + STEP;
            self.apply(some.map(|number| (format!("preview/{number}").into(), change(number))).collect());
        }
    }

    /// Gives every preview a fork with an address of its own.
    fn load(&mut self, network: u32) {
        self.each(|number| {
            let [_, a, b, c] = number.to_be_bytes();
            let forks = json!({format!("svc-{}", number % 4): [format!("{network}.{a}.{b}.{c}:80")]});
            set("preview", json!({"key": number.to_string(), "forks": forks, "onForkDown": "fail"}))
        });
        assert_eq!(self.0.published().load().fork_count(), usize::try_from(PREVIEWS).unwrap());
    }

    /// Bytes of memory that this process has for itself once nothing has happened for a while.
    fn held(&mut self) -> u64 {
        for _ in 0..4 {
            std::thread::sleep(Duration::from_millis(1000));
            self.0.tick(Timestamp::now());
        }
        let told = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
        let anonymous = told.lines().find_map(|line| line.strip_prefix("Pss_Anon:")).unwrap();
        1024 * anonymous.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    }

    fn clear(&mut self) {
        self.each(|_| Change::Removed);
        assert_eq!(self.0.published().load().preview_count(), 0);
    }
}

#[test]
fn it_ends_with_the_memory_that_it_began_with() {
    let mut proxy = Proxy::new();
    let before = proxy.held();
    let mut after = Vec::new();
    for round in 1..=ROUNDS {
        proxy.load(10);
        let loaded = if round == 1 { proxy.held() - before } else { 0 };
        proxy.load(11);
        let replaced = if round == 1 { proxy.held() - before } else { 0 };
        proxy.clear();
        if round == 1 || round == ROUNDS {
            after.push(proxy.held().saturating_sub(before));
        }
        // A preview, its endpoint, their places in two maps, and a tenth for what the allocator can't use.
        assert!(loaded < 270 * u64::from(PREVIEWS), "{loaded} bytes when loaded");
        // The old endpoints lay among what stays: their places are free for the next ones, and not the system's. The
        // map of endpoints had room for both.
        assert!(replaced < 400 * u64::from(PREVIEWS), "{replaced} bytes when replaced");
    }
    // No object is left, but the allocator keeps pages of sizes that were used: 2 MB were seen after one round, less
    // after ten. What a round leaves must not add to it: a preview that stays costs 25 MB in each.
    let [first, last] = after[..] else { panic!("{after:?}") };
    println!("{first} bytes after one round, {last} after {ROUNDS}");
    assert!(first < 4 << 20, "{first} bytes after one round");
    assert!(last < first + (2 << 20), "{first} bytes after one round, {last} after {ROUNDS}");
}
