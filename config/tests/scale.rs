//! A big estate loads in seconds. `ESTATE=100000 cargo test --release -p sidetrack-config --test scale -- --nocapture`
//! measures the size that we promise; without it the same runs small.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::fmt::Write;
use std::path::Path;
use std::time::Instant;

use sidetrack_config::check::PreviewParser;
use sidetrack_config::{Key, parse};

const SERVICES: usize = 1_000;

fn previews() -> usize {
    std::env::var("ESTATE").map_or(2_000, |count| count.parse().unwrap())
}

fn estate(previews: usize) -> String {
    let mut text =
        String::from("listeners: [{address: 127.0.0.1:8080}]\ndomains: [preview.localhost]\nservices:\n");
    for n in 0..SERVICES {
        writeln!(text, "  service-{n}: {{baseline: [10.0.{}.{}:80]}}", n / 250, n % 250).unwrap();
    }
    text.push_str("routes:\n");
    for n in 0..SERVICES {
        writeln!(text, "  - {{host: service-{n}.preview.localhost, service: service-{n}}}").unwrap();
    }
    text.push_str("previews:\n");
    for n in 0..previews {
        writeln!(
            text,
            "  \"{n}\":\n    forks:\n      service-{}: [10.1.{}.{}:80]",
            n % SERVICES,
            n / 250 % 250,
            n % 250
        )
        .unwrap();
        writeln!(text, "    aliases: [demo-{n}]").unwrap();
    }
    text
}

#[test]
fn a_big_estate_loads() {
    let text = estate(previews());
    let start = Instant::now();
    let checked = parse(Path::new("big.yaml"), &text).unwrap_or_else(|problems| panic!("{problems}"));
    println!("{} previews, {} KiB: checked in {:?}", previews(), text.len() >> 10, start.elapsed());
    assert_eq!(checked.config.services.len(), SERVICES);
    assert_eq!(checked.config.previews.len(), previews());
    assert_eq!(checked.warnings, []);
}

#[test]
fn a_big_estate_that_is_all_wrong_is_told_in_short() {
    let text = estate(previews()).replace("forks:", "fork:");
    let start = Instant::now();
    let problems = parse(Path::new("big.yaml"), &text).unwrap_err();
    println!("{} previews, all wrong: told in {:?}", previews(), start.elapsed());
    assert_eq!(problems.0.len(), 1_000);
    assert_eq!(problems.to_string().lines().count(), 51);
}

#[test]
fn many_preview_files_load() {
    let config = parse(Path::new("big.yaml"), &estate(0)).unwrap().config;
    let parser = PreviewParser::new(&config);
    let start = Instant::now();
    for n in 0..previews() {
        let text = format!("forks: {{service-{}: [10.1.0.1:80]}}\naliases: [demo-{n}]\n", n % SERVICES);
        let key = Key::bare(&n.to_string()).unwrap();
        let preview = parser.parse(Path::new("1.yaml"), &key, &text).unwrap();
        assert_eq!(preview.forks.len(), 1);
    }
    println!("{} preview files: checked in {:?}", previews(), start.elapsed());
}
