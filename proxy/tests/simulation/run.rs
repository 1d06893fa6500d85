//! The schedule of a seed: what happens, one thing after the other, until everybody goes home.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use sidetrack_proxy::drain::Phase;
use sidetrack_proxy::pick::View;
use sidetrack_proxy::route::table::Endpoint;
use std::sync::Arc;

use crate::client::{Carrier, Request};
use crate::upstream::Manner;
use crate::world::{FILES, HOLD, MAIN, NOWHERE, World};

/// What happens between the beginning and the drain.
const STEPS: usize = 160;
/// The longest rest of an ejected endpoint.
const LONGEST_REST: Duration = Duration::from_secs(60);
/// No request takes longer: two connects that get no answer and one answer that does not come for each of three
/// endpoints of a fork and of a baseline, a hold, and a slow client.
pub(crate) const BOUND: Duration = Duration::from_secs(30);

impl World {
    /// Everything that happens.
    pub(crate) async fn run(&mut self) -> Result<(), String> {
        for _ in 0..STEPS {
            self.clock.next_step();
            match self.random.below(100) {
                0..=47 => self.ask(),
                48..=63 => self.fault().await,
                64..=73 => self.change().await,
                _ => {
                    let time = match self.random.below(4) {
                        0 => self.random.millis(1, 50),
                        1 | 2 => self.random.millis(50, 500),
                        _ => self.random.millis(500, 2_500),
                    };
                    self.note(&format!("{time:?} pass"));
                    self.pass(time).await;
                }
            }
            self.clock.settle().await;
            self.look_at_ejections()?;
        }
        self.drain().await
    }

    /// Lets time pass, with a tick of the control thread each second.
    async fn pass(&mut self, time: Duration) {
        let end = self.clock.now() + time;
        while self.clock.now() < end {
            let left = end.min(self.next_tick) - self.clock.now();
            let step = self.random.millis(10, 150).min(left);
            self.clock.advance(step).await;
            if self.clock.now() >= self.next_tick {
                self.next_tick += Duration::from_secs(1);
                self.tick();
            }
        }
    }

    fn ask(&mut self) {
        let service = self.random.below(self.book.table.services.len());
        let known: Vec<String> = self.book.table.previews.keys().cloned().collect();
        let mut keys = Vec::new();
        let count = *self.random.pick(&[0, 0, 1, 1, 1, 1, 2, 2, 3]);
        for _ in 0..count {
            let any: Vec<&str> = MAIN.into_iter().chain(FILES).chain(NOWHERE).collect();
            let key = match known.is_empty() || self.random.chance(20) {
                true => (*self.random.pick(&any)).to_owned(),
                false => self.random.pick(&known).clone(),
            };
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        let carriers = [
            Carrier::Header,
            Carrier::Header,
            Carrier::Query,
            Carrier::Baggage,
            Carrier::Cookie,
            Carrier::Host,
        ];
        let usable = if keys.len() > 1 { &carriers[..5] } else { &carriers };
        let request = Request {
            id: self.asked,
            service,
            keys,
            carrier: *self.random.pick(usable),
            is_strict: self.random.chance(20),
            body: self.random.chance(25).then(|| self.random.below(300)),
            patience: self.random.chance(12).then(|| self.random.millis(2, 4_000)),
            on_new_connection: self.random.chance(40),
        };
        self.note(&format!("{request:?}"));
        self.asked += 1;
        let (clients, outcomes, trace) = (self.clients.clone(), self.outcomes.clone(), self.trace.clone());
        self.under_way.push(tokio::task::spawn_local(async move {
            let clock = clients.clock.clone();
            let outcome = clients.ask(request).await;
            let now = clock.now().as_secs_f64();
            let (id, what) = (outcome.request.id, &outcome.what);
            trace.borrow_mut().push(format!("{:4} {now:8.3}s   r{id}: {what:?}", clock.step()));
            outcomes.borrow_mut().push(outcome);
        }));
    }

    /// An upstream that somebody may ask behaves otherwise.
    async fn fault(&mut self) {
        let table = &self.book.table;
        let forks = table.previews.values().flat_map(|live| live.preview.forks.values());
        let mut named: Vec<usize> = table.services.iter().flatten().chain(forks).flatten().copied().collect();
        named.sort_unstable();
        if named.is_empty() {
            return;
        }
        // What is down, somebody waits for.
        let is_down = |id: &usize| self.upstreams[*id].is_down_when(self.upstreams[*id].manner());
        let down: Vec<usize> = named.iter().copied().filter(is_down).collect();
        let heals = !down.is_empty() && self.random.chance(40);
        let upstream = self.upstreams[*self.random.pick(if heals { &down } else { &named })].clone();
        let manner = match self.random.below(16) {
            _ if heals => Manner::Answers,
            0..=5 => Manner::Answers,
            6 => Manner::Says503,
            7 => Manner::Late(self.random.next() % 3_000),
            8 => Manner::Hangs,
            9..=11 => Manner::Refuses,
            12 => Manner::Swallows,
            13 => Manner::Closes,
            14 => *self.random.pick(&[Manner::Resets, Manner::BreaksOff]),
            _ => *self.random.pick(&[Manner::Dies, Manner::Stalls, Manner::Babbles]),
        };
        let cut = self.random.chance(30);
        self.note(&format!("{} {manner:?}{}", upstream.name(), if cut { ", connections cut" } else { "" }));
        upstream.behave(manner, cut).await;
    }

    /// The table changes.
    async fn change(&mut self) {
        if self.is_followed {
            let key = *self.random.pick(&[MAIN.as_slice(), FILES.as_slice()].concat());
            match self.random.below(10) {
                0..=4 => {
                    let preview = self.new_or_moved(key).await;
                    self.set(key, preview);
                }
                5..=7 => self.take(key),
                _ => {
                    let service = self.random.below(self.book.table.services.len());
                    let set = self.new_set(service, None, 1).await;
                    self.set_baseline(service, set);
                }
            }
            return;
        }
        let key = *self.random.pick(&FILES);
        let has_file = self.book.file_keys().iter().any(|other| other == key);
        match self.random.below(13) {
            0..=3 => {
                let preview = self.new_or_moved(key).await;
                self.put(key, preview);
            }
            4..=5 => self.delete(key),
            6 => {
                let preview = self.new_or_moved(key).await;
                self.write(key, Some(preview));
            }
            7 | 8 if has_file => self.write(key, None),
            9 if has_file => self.unlink(key),
            _ => self.new_main().await,
        }
    }

    /// A preview that is new, or the one that is there with a fork elsewhere.
    async fn new_or_moved(&mut self, key: &str) -> crate::model::Preview {
        let before = self.book.table.previews.get(key).map(|live| live.preview.clone());
        let Some(mut preview) = before.filter(|preview| !preview.forks.is_empty()) else {
            return self.new_preview(key).await;
        };
        if self.random.chance(40) {
            return self.new_preview(key).await;
        }
        let services: Vec<usize> = preview.forks.keys().copied().collect();
        let service = *self.random.pick(&services);
        for upstream in preview.forks.remove(&service).unwrap_or_default() {
            let upstream = self.upstreams[upstream].clone();
            if self.random.chance(50) {
                upstream.behave(Manner::Refuses, true).await;
            }
        }
        let least = usize::from(!self.random.chance(15));
        let set = self.new_set(service, Some(key), least).await;
        preview.forks.insert(service, set);
        preview
    }

    async fn new_main(&mut self) {
        let (mut services, mut main) = (self.book.table.services.clone(), self.book.main.clone());
        let mut rejects_unknown = self.book.table.rejects_unknown;
        match self.random.below(4) {
            0 => rejects_unknown = !rejects_unknown,
            1 => {
                let service = self.random.below(services.len());
                services[service] = match self.random.chance(15) {
                    true => None,
                    false => Some(self.new_set(service, None, 1).await),
                };
            }
            2 => {
                let key = *self.random.pick(&MAIN);
                let preview = self.new_or_moved(key).await;
                main.insert(key.to_owned(), preview);
            }
            _ => {
                main.remove(*self.random.pick(&MAIN));
            }
        }
        self.reload(services, main, rejects_unknown);
    }

    /// Nobody asks any more; everybody gets an answer, and goes.
    async fn drain(&mut self) -> Result<(), String> {
        self.clock.next_step();
        self.note("drain");
        self.clients.hang_up();
        self.phase.send_replace(Phase::Draining);
        let end = self.clock.now() + BOUND + HOLD;
        while !self.serving.is_finished() || self.under_way.iter().any(|request| !request.is_finished()) {
            if self.clock.now() > end {
                let count = self.under_way.iter().filter(|request| !request.is_finished()).count();
                let serving = !self.serving.is_finished();
                return Err(format!("something waits for ever: {count} requests, worker serving: {serving}"));
            }
            self.pass(Duration::from_millis(100)).await;
        }
        // What failed in a task of ours failed.
        for request in std::mem::take(&mut self.under_way) {
            request.await.map_err(|error| format!("a client panicked: {error}"))?;
        }
        (&mut self.serving).await.map_err(|error| format!("the worker panicked: {error}"))
    }

    /// No set is ejected as a whole, and nobody who did nothing wrong.
    fn look_at_ejections(&mut self) -> Result<(), String> {
        let table = self.worker.table.get();
        let now = self.clock.now();
        let baselines = table
            .estate
            .services
            .iter()
            .filter_map(|service| Some((service.index, None, service.baseline.as_deref()?)));
        let forks = table.previews().flat_map(|preview| {
            preview.forks.iter().map(|(service, set)| (service, Some(preview.key.to_string()), set))
        });
        let by_address: HashMap<_, _> =
            self.upstreams.iter().map(|upstream| (upstream.address, upstream)).collect();
        let mut sets = BTreeMap::new();
        for (service, key, set) in baselines.chain(forks) {
            let ids: Vec<u64> = set.iter().map(|endpoint| endpoint.id).collect();
            let before = self.sets.get(&(service, key.clone())).filter(|(before, _)| *before == ids);
            let since = before.map_or(now, |(_, since)| *since);
            let is_ejected = |endpoint: &Arc<Endpoint>| self.worker.pool.is_ejected(endpoint);
            // What was ejected beside others may be left alone by a change of the table.
            let is_old = since.is_zero() || now - since > LONGEST_REST;
            if is_old && !set.is_empty() && set.iter().all(is_ejected) {
                return Err(format!("every endpoint of s{service} of {key:?} is ejected"));
            }
            for endpoint in set.iter().filter(|endpoint| is_ejected(endpoint)) {
                self.ejections += 1;
                let upstream = by_address[&endpoint.address];
                let step = self.clock.step();
                if !upstream.was_cut(0, step)
                    && !upstream.manners(0, step).iter().any(|manner| manner.may_eject())
                {
                    return Err(format!("{} is ejected for nothing", upstream.name()));
                }
            }
            sets.insert((service, key), (ids, since));
        }
        self.sets = sets;
        Ok(())
    }
}
