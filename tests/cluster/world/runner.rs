//! Runs the scenarios: named, chosen by substring, a few at a time, each on a thread and a runtime of its own.
//!
//! The test library's own harness neither tells its end, when the cluster must go, nor its beginning, before which the
//! namespaces must be entered.

use std::collections::VecDeque;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use crate::{Estate, sandbox};

/// One scenario.
#[derive(Clone, Copy)]
pub struct Case {
    /// `module::name`.
    pub name: &'static str,
    /// Runs it; it fails by panicking. The estate is shared by all.
    pub run: fn(Arc<Estate>) -> Scenario,
}

/// A scenario under way.
pub type Scenario = Pin<Box<dyn Future<Output = ()>>>;

/// How many run at once: most of their time is waiting.
const AT_ONCE: usize = 4;

/// Runs those of `cases` that the arguments name, as `cargo test` would, and says how it went.
pub fn run(cases: Vec<Case>) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        cases.iter().for_each(|case| println!("{}: test", case.name));
        return ExitCode::SUCCESS;
    }
    let exact = arguments.iter().any(|argument| argument == "--exact");
    let wanted: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with("--")).collect();
    let fits = |case: &Case| {
        let named =
            |name: &&String| if exact { case.name == **name } else { case.name.contains(name.as_str()) };
        wanted.is_empty() || wanted.iter().any(named)
    };
    let (chosen, others): (Vec<Case>, Vec<Case>) = cases.into_iter().partition(fits);
    sandbox::enter();
    all(chosen, others.len())
}

fn all(chosen: Vec<Case>, others: usize) -> ExitCode {
    let began = Instant::now();
    println!("\nrunning {} tests", chosen.len());
    let count = chosen.len();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let estate = Arc::new(Estate::start(runtime.handle().clone()));
    let queue = Arc::new(Mutex::new(VecDeque::from(chosen)));
    let workers: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let (queue, estate) = (queue.clone(), estate.clone());
            thread::spawn(move || {
                let next = || queue.lock().unwrap().pop_front();
                std::iter::from_fn(next)
                    .filter(|case| !passes(*case, estate.clone()))
                    .map(|case| case.name)
                    .collect()
            })
        })
        .collect();
    let mut failed: Vec<&str> =
        workers.into_iter().flat_map(|worker| -> Vec<_> { worker.join().unwrap() }).collect();
    failed.sort_unstable();
    if !failed.is_empty() {
        estate.tell();
        println!("\nfailures:");
    }
    failed.iter().for_each(|name| println!("    {name}"));
    println!(
        "\ntest result: {}. {} passed; {} failed; 0 ignored; 0 measured; {others} filtered out; finished in {:.2}s\n",
        if failed.is_empty() { "ok" } else { "FAILED" },
        count - failed.len(),
        failed.len(),
        began.elapsed().as_secs_f64()
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(101) }
}

fn passes(case: Case, estate: Arc<Estate>) -> bool {
    let began = Instant::now();
    let body = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on((case.run)(estate));
    };
    let passed = thread::Builder::new().name(case.name.to_owned()).spawn(body).unwrap().join().is_ok();
    let word = if passed { "ok" } else { "FAILED" };
    println!("test {} ... {word} ({:.1} s)", case.name, began.elapsed().as_secs_f64());
    passed
}
