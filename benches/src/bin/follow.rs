//! What a change of a controller's table costs a proxy, from the line to the published table, with 1,000 services and
//! 100,000 previews: `cargo run --release -p sidetrack-benches --bin follow`.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sidetrack_benches::Failed;
use sidetrack_config::stream::TableHash;
use sidetrack_config::{Owner, parse_for};
use sidetrack_proxy::record::metrics::Metrics;
use sidetrack_proxy::source::keeper::Keeper;
use sidetrack_proxy::source::stream::mirror::Mirror;

/// Services of the estate.
const SERVICES: usize = 1_000;
/// Previews of the estate.
const PREVIEWS: usize = 100_000;
/// Changes that are timed.
const CHANGES: usize = 1_000;
/// Items of one part of the snapshot.
const PART: usize = 2_000;

const FILE: &str = "listeners: [{address: \"127.0.0.1:0\"}]\ndomains: [bench.test]\n";

fn main() -> Result<(), Failed> {
    let config = parse_for(Path::new("bench.yaml"), FILE, Owner::Controller)?.config;
    let path = Path::new("bench.yaml");
    let keeper = Keeper::following(path, config, 1, Metrics::new(1), "https://bench", Arc::default())?;
    let mut proxy = Proxy { keeper, mirror: Mirror::default(), hash: TableHash::default(), version: 1 };
    let begun = Instant::now();
    proxy.snapshot()?;
    println!("| change | median us | p99 us | most us |\n|---|---|---|---|");
    println!("| snapshot of {PREVIEWS} previews | {} | | |", begun.elapsed().as_micros());
    for (name, item) in [
        ("endpoints of one preview", preview as fn(usize, usize) -> (String, String)),
        ("endpoints of one service", service),
        ("one route", route),
    ] {
        let mut times = (0..CHANGES).map(|turn| proxy.change(item, turn)).collect::<Result<Vec<_>, _>>()?;
        times.sort_unstable();
        let at = |share: usize| times.get(times.len() * share / 1000).map_or(0, Duration::as_micros);
        println!("| {name} | {} | {} | {} |", at(500), at(990), at(999));
    }
    Ok(())
}

struct Proxy {
    keeper: Keeper,
    mirror: Mirror,
    hash: TableHash,
    version: u64,
}

impl Proxy {
    fn snapshot(&mut self) -> Result<(), Failed> {
        self.mirror.line(br#"{"hello":{"protocol":1,"epoch":"bench"}}"#)?;
        let services = (0..SERVICES).flat_map(|number| [service(number, 0), route(number, 0)]);
        let items: Vec<_> = services.chain((0..PREVIEWS).map(|number| preview(number, 0))).collect();
        for part in items.chunks(PART) {
            part.iter().for_each(|(id, text)| self.hash.add(id, text));
            let texts: Vec<_> = part.iter().map(|(id, text)| format!("\"{id}\":{text}")).collect();
            let is_last = std::ptr::eq(part.as_ptr_range().end, items.as_ptr_range().end);
            let hash = if is_last { format!(",\"hash\":\"{}\"", self.hash) } else { String::new() };
            let line = format!("{{\"snapshot\":{{\"version\":1,\"items\":{{{}}}{hash}}}}}", texts.join(","));
            self.mirror.line(line.as_bytes())?;
        }
        self.apply()
    }

    /// Another endpoint for one item, timed.
    fn change(
        &mut self,
        item: fn(usize, usize) -> (String, String),
        turn: usize,
    ) -> Result<Duration, Failed> {
        let number = turn * 7 % SERVICES;
        let (id, before) = item(number, turn / SERVICES);
        let (_, after) = item(number, turn / SERVICES + 1);
        self.hash.take(&id, &before);
        self.hash.add(&id, &after);
        let (from, to, hash) = (self.version, self.version + 1, self.hash);
        self.version = to;
        let line = format!(
            "{{\"delta\":{{\"from\":{from},\"to\":{to},\"upsert\":{{\"{id}\":{after}}},\"hash\":\"{hash}\"}}}}"
        );
        let begun = Instant::now();
        self.mirror.line(line.as_bytes())?;
        self.apply()?;
        Ok(begun.elapsed())
    }

    fn apply(&mut self) -> Result<(), Failed> {
        self.keeper.apply(self.version, self.mirror.pending())?;
        self.mirror.settled();
        Ok(())
    }
}

fn service(number: usize, turn: usize) -> (String, String) {
    let text = format!(
        r#"{{"service":{{"name":"service-{number}","baseline":["127.1.{turn}.1:9"],"protocol":"http1"}}}}"#
    );
    (format!("service/service-{number}"), text)
}

fn route(number: usize, turn: usize) -> (String, String) {
    let text = format!(
        r#"{{"route":{{"name":"r{number}","host":"service-{number}.bench.test","path":{{"prefix":"/"}},"rank":"{turn}","action":{{"forward":[{{"service":"service-{number}","weight":1}}]}}}}}}"#
    );
    (format!("route/r{number}"), text)
}

fn preview(number: usize, turn: usize) -> (String, String) {
    let service = number % SERVICES;
    let text = format!(
        r#"{{"preview":{{"key":"{number}","forks":{{"service-{service}":["127.2.{turn}.1:9"]}},"aliases":["branch-{number}"],"onForkDown":"fail","expires":"2126-01-01T00:00:00Z"}}}}"#
    );
    (format!("preview/{number}"), text)
}
