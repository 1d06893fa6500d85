//! The simulation: the real worker and the real owner of its table between clients and upstreams that do whatever a
//! seed says, while the table changes and time passes.
//!
//! What must hold, whatever the seed: a request without a key never reaches a fork; one with a known key never reaches
//! another key's fork; every request has exactly one record, which says what happened; nothing waits for ever. A model
//! of the table, which shares no code with the proxy, says what each request may meet.
//!
//! A seed that fails is told, with everything that happened:
//!
//!     SIM_SEED=17 cargo test -p sidetrack-proxy --test simulation
//!     SIM_SEEDS=5000 cargo test -p sidetrack-proxy --test simulation    # as many, from SIM_FROM on, which is 0
//!
//! Sockets are real and on loopback: where the system loses a packet meanwhile, as one short of memory for sockets does, a
//! seed that fails is run again. All else, time included, follows from the seed, but for the order in which the runtime
//! wakes several who wait for one thing: that is its own, so one seed in twenty may want to be run twice.
#![cfg(target_os = "linux")]
// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

/// Says why a thing is not so, unless it is.
macro_rules! ensure {
    ($condition:expr, $($why:tt)*) => {
        if !$condition {
            return Err(format!($($why)*));
        }
    };
}

mod case;
mod change;
mod check;
mod client;
mod clock;
mod estate;
mod http2;
mod loss;
mod model;
mod random;
mod run;
mod upstream;
mod wire;
mod world;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::LocalSet;

use check::Met;
use loss::Loss;
use world::World;

/// Seeds of one run of the tests.
const SEEDS: u64 = 300;

/// How often a seed is run at most, where the system loses packets.
const TRIES: usize = 5;

/// What so many seeds must have met.
const WANTED: [&str; 17] = [
    "cut",
    "ejections seen",
    "fork, fork",
    "fork, late",
    "fork_down, baseline",
    "fork_unavailable",
    "no_fork, baseline",
    "no_key, baseline",
    "no_route",
    "parent_fork, fork",
    "preview_expired",
    "the client went away",
    "unknown_preview",
    "unknown_preview, baseline",
    "upstream_protocol",
    "upstream_timeout",
    "upstream_unavailable",
];

/// Why a seed failed, and what happened before.
struct Failed {
    seed: u64,
    why: String,
    trace: Vec<String>,
}

/// Runs one seed; gives what its requests met.
fn simulate(seed: u64) -> Result<Met, Failed> {
    let trace = Rc::new(RefCell::new(Vec::new()));
    let run = || {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let mut world = World::new(seed, &trace).await;
            world.run().await?;
            world.check().await
        })
    };
    let ended = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default())
    });
    if std::env::var_os("SIM_SEED").is_some() {
        println!("{}", trace.borrow().join("\n"));
    }
    ended.map_err(|why| Failed { seed, why, trace: trace.take() })
}

/// Runs one seed until it passes, or fails though the system lost nothing meanwhile.
fn believed(seed: u64) -> Result<Met, Failed> {
    let mut tries = 1;
    loop {
        let loss = Loss::now();
        match simulate(seed) {
            Err(failed) if tries < TRIES && loss.has_grown() => {
                tries += 1;
                println!("SIM_SEED={seed} once more, since packets were lost: {}", failed.why);
                Loss::wait_for_calm();
            }
            ended => return ended,
        }
    }
}

fn from_environment(name: &str) -> Option<u64> {
    Some(std::env::var(name).ok()?.parse().unwrap())
}

#[test]
fn whatever_happens_every_request_meets_what_its_keys_say() {
    let (first, count) = match from_environment("SIM_SEED") {
        Some(seed) => (seed, 1),
        None => (from_environment("SIM_FROM").unwrap_or(0), from_environment("SIM_SEEDS").unwrap_or(SEEDS)),
    };
    let next = AtomicU64::new(first);
    let (met, failures) = (Mutex::new(Met::new()), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().unwrap().get();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    match believed(seed) {
                        Ok(more) => {
                            let mut met = met.lock().unwrap();
                            more.into_iter().for_each(|(what, count)| *met.entry(what).or_default() += count);
                        }
                        Err(failed) => failures.lock().unwrap().push(failed),
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap();
    failures.sort_by_key(|failed| failed.seed);
    if let Some(Failed { seed, why, trace }) = failures.first() {
        println!("{}\n", trace.join("\n"));
        for Failed { seed, why, .. } in &failures[1..] {
            println!("SIM_SEED={seed} failed: {why}");
        }
        panic!("{} of {count} seeds failed; SIM_SEED={seed} failed: {why}", failures.len());
    }
    let met = met.into_inner().unwrap();
    println!("{count} seeds, {met:#?}");
    // What never happens proves nothing.
    let missing: Vec<_> =
        WANTED.iter().filter(|what| met.get(**what).is_none_or(|count| *count == 0)).collect();
    assert!(count < SEEDS || missing.is_empty(), "never met: {missing:?}");
}
