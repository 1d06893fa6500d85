//! What must be true of every request, and of all of them together.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sidetrack_proxy::record::metrics::Inside;
use sidetrack_proxy::route::table::Hold;

use crate::case::{Case, SEEN};
use crate::client::{Outcome, What};
use crate::model::{Decision, OnDown};
use crate::run::BOUND;
use crate::world::{Version, World};

impl World {
    /// Looks at everything once it is over.
    pub(crate) async fn check(mut self) -> Result<Met, String> {
        self.nothing_is_left()?;
        let met = self.every_request()?;
        // Connections of HTTP/2 end by themselves once nobody has them.
        let (metrics, clock) = (Arc::clone(&self.metrics), Rc::clone(&self.clock));
        drop(self);
        clock.settle().await;
        let open = metrics.worker(0).upstream_connections.get();
        ensure!(open == 0, "{open} connections to upstreams are counted when there is no worker");
        Ok(met)
    }

    fn nothing_is_left(&self) -> Result<(), String> {
        let bytes = self.limits.hold_bytes;
        let all = Hold { timeout: Duration::ZERO, requests: 1, bytes };
        let holding = &self.holding;
        ensure!(holding.take(bytes, &all).is_ok(), "something is held at the end: {holding:?}");
        let in_flight = self.worker.in_flight.get();
        ensure!(in_flight == 0, "{in_flight} requests in flight at the end");
        let stats = self.metrics.worker(0);
        ensure!(stats.requests_in_flight.get() == 0, "the gauge of requests in flight is not zero");
        ensure!(stats.connections.get() == 0, "{} client connections at the end", stats.connections.get());
        let table = self.keeper.published().load();
        let services = table.estate.services.iter().map(|service| &*service.stats);
        let page = self.metrics.encode(services, std::iter::empty(), Inside::default());
        let counted: f64 = values(&page, "sidetrack_requests_total").sum();
        ensure!(counted == self.asked as f64, "{counted} requests counted, {} asked", self.asked);
        Ok(())
    }

    fn every_request(&mut self) -> Result<Met, String> {
        ensure!(self.log.take().unwrap().close(), "the log does not close");
        let text = std::fs::read_to_string(self.log_path()).unwrap();
        let mut lines: HashMap<usize, Vec<Value>> = HashMap::new();
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let path = line["path"].as_str().unwrap_or_default();
            let id = path.trim_start_matches("/r").split('?').next().unwrap();
            let id = id.parse().map_err(|_| format!("a record of nothing: {line}"))?;
            lines.entry(id).or_default().push(line);
        }
        let outcomes = self.outcomes.borrow();
        ensure!(outcomes.len() == self.asked, "{} outcomes of {} requests", outcomes.len(), self.asked);
        let mut met = Met::from([("ejections seen".to_owned(), self.ejections)]);
        for outcome in outcomes.iter() {
            let id = outcome.request.id;
            let about = |why: String| format!("r{id}: {why}\n  {outcome:?}\n  records {:?}", lines.get(&id));
            let lines = lines.get(&id).map_or(&[][..], |lines| lines);
            self.check_one(outcome, lines).map_err(about)?;
            *met.entry(kind(outcome, &lines[0])).or_default() += 1;
        }
        Ok(met)
    }

    fn check_one(&self, outcome: &Outcome, lines: &[Value]) -> Result<(), String> {
        let [line] = lines else { return Err(format!("{} records", lines.len())) };
        let (request, begun, last_step) = (&outcome.request, outcome.begun, outcome.ended.step);
        let took = outcome.ended.at - begun.at;
        ensure!(took <= BOUND, "it took {took:?}");
        // The tables that were in force meanwhile; those of one step may each have been met.
        let first = self.tables.iter().rposition(|version| version.mark.step < begun.step).unwrap_or(0);
        let meant: Vec<_> =
            self.tables[first..].iter().take_while(|version| version.mark.step <= last_step).collect();
        let generation = line["generation"].as_u64().unwrap();
        let at = meant.iter().position(|version| version.generation == generation);
        let Some(at) = at else { return Err(format!("generation {generation} was not in force")) };
        let decide =
            |version: &&Version| version.table.decide(&request.keys, request.is_strict, request.service);
        let before = meant[..at].iter().map(decide).collect();
        let mut decisions: Vec<Decision> = Vec::new();
        let mut since = begun.at;
        for version in &meant[at..] {
            // One that is held asks again, each time the newest table.
            let is_held = matches!(decisions.first(), Some(Decision::Fork { on_down: OnDown::Hold, .. }));
            if version.generation == generation || is_held {
                let decision = decide(version);
                if decisions.last() != Some(&decision) {
                    since = since.max(version.mark.at);
                    decisions.push(decision);
                }
            }
        }
        let arrivals = self.arrivals.borrow();
        let arrivals = arrivals.iter().filter(|arrival| arrival.request == request.id).collect();
        Case { world: self, outcome, line, arrivals, decisions, before, since }.check()
    }
}

/// How often what was met.
pub(crate) type Met = BTreeMap<String, usize>;

/// What became of a request, in few words.
fn kind(outcome: &Outcome, line: &Value) -> String {
    let reason = line["reason"].as_str().unwrap_or("no reason");
    match &outcome.what {
        What::GaveUp => "the client went away".to_owned(),
        What::Answer(answer) if answer.whole => match line["error"].as_str() {
            Some(error) => error.to_owned(),
            None if line["target"] == "fork" && outcome.ended.at > outcome.begun.at + SEEN => {
                format!("{reason}, late")
            }
            None => format!("{reason}, {}", line["target"].as_str().unwrap()),
        },
        What::Answer(_) | What::Closed => "cut".to_owned(),
    }
}

fn values(page: &str, name: &str) -> impl Iterator<Item = f64> {
    let lines = page.lines().filter(move |line| line.split('{').next() == Some(name));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
}
