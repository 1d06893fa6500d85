//! The pure steps of the walk, with 10 forks and with 100,000: identify, route, pick, and what is written onward; and the
//! same as HTTP/2 writes it and reads it.
//! `cargo bench -p sidetrack-benches`.

use std::hint::black_box;

use criterion::Criterion;
use sidetrack_benches::{BIG, DOMAIN, Failed, SMALL, Size, refused, request, table};
use sidetrack_proxy::fields::{Fields, Skips};
use sidetrack_proxy::forward::carriers::stamp;
use sidetrack_proxy::forward::http2::hpack::{Decoder, Encoder};
use sidetrack_proxy::head::PlainHead;
use sidetrack_proxy::identify::identify;
use sidetrack_proxy::pick;
use sidetrack_proxy::route::route;
use sidetrack_proxy::route::table::{Endpoint, Table};

/// A worker that has nothing under way.
struct Quiet;

impl pick::View for Quiet {
    fn outstanding(&self, _: &Endpoint) -> u32 {
        0
    }

    fn is_ejected(&self, _: &Endpoint) -> bool {
        false
    }
}

fn main() -> Result<(), Failed> {
    let mut criterion = Criterion::default().configure_from_args();
    for size in [SMALL, BIG] {
        steps(&mut criterion, size, &*table(size)?)?;
    }
    stamping(&mut criterion, &*table(SMALL)?)?;
    sections(&mut criterion, &*table(SMALL)?)?;
    criterion.final_summary();
    Ok(())
}

/// Requests that name a preview in each way, and one that names none. The last preview of an estate: what is found
/// first is not cheaper here, but that should show.
fn requests(size: Size) -> [(&'static str, PlainHead); 5] {
    let number = size.forks - 1;
    let service = size.service(number);
    let (plain, other) = (request(service), request((service + 1) % size.services));
    let mut by_host = plain.clone();
    by_host.authority = format!("pr-{number}.service-{service}.{DOMAIN}");
    let key = number.to_string();
    [
        ("fork by header", plain.clone().with("x-pr-id", &key)),
        ("fork by host", by_host),
        ("fork by baggage", plain.clone().with("baggage", format!("user=7,pr-id={key}"))),
        ("no fork", other.with("x-pr-id", &key)),
        ("no key", plain),
    ]
}

fn steps(criterion: &mut Criterion, size: Size, table: &Table) -> Result<(), Failed> {
    for (name, head) in requests(size) {
        let id = |step: &str| format!("{step}, {name}, {} forks", size.forks);
        let identity = identify(&head, table).map_err(refused)?;
        let rule = route(&head, &identity, table).map_err(refused)?;
        let service = pick::way(rule, table, 7).map_err(refused)?.service().ok_or("it is redirected")?;
        criterion.bench_function(&id("identify"), |bencher| {
            bencher.iter(|| identify(black_box(&head), black_box(table)));
        });
        criterion.bench_function(&id("route"), |bencher| {
            bencher.iter(|| {
                route(black_box(&head), black_box(&identity), black_box(table)).map(|found| found.index)
            });
        });
        criterion.bench_function(&id("pick"), |bencher| {
            bencher.iter(|| {
                black_box(pick::way(black_box(rule), black_box(table), 7)).ok()?;
                let (target, _) = pick::target(black_box(&identity), service, black_box(table)).ok()?;
                pick::endpoint(target.endpoints(), &Quiet, &[], 7).map(|endpoint| endpoint.id)
            });
        });
        criterion.bench_function(&id("all"), |bencher| {
            bencher.iter(|| whole(black_box(&head), black_box(table)));
        });
    }
    Ok(())
}

/// The three steps in a row.
fn whole(head: &PlainHead, table: &Table) -> Option<u64> {
    let identity = identify(head, table).ok()?;
    let service = pick::way(route(head, &identity, table).ok()?, table, 7).ok()?.service()?;
    let (target, _) = pick::target(&identity, service, table).ok()?;
    pick::endpoint(target.endpoints(), &Quiet, &[], 7).map(|endpoint| endpoint.id)
}

/// What goes onward. The copy of the fields that each turn needs is measured by itself, to be taken off.
fn stamping(criterion: &mut Criterion, table: &Table) -> Result<(), Failed> {
    let key = "9";
    let bare = request(9).with("x-pr-id", key);
    let full = bare.clone().with("baggage", "user=7,pr-id=9").with("tracestate", "pr-id=9,vendor=1");
    for (name, head) in [("stamp, into bare fields", bare), ("stamp, into our own", full)] {
        let identity = identify(&head, table).map_err(refused)?;
        let fields = fields(&head);
        criterion.bench_function(&format!("{name}, copy alone"), |bencher| {
            bencher.iter(|| black_box(&fields).clone());
        });
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut fields = black_box(&fields).clone();
                stamp(&mut fields, black_box(&identity), &table.estate, None, None, || 7);
                fields
            });
        });
    }
    Ok(())
}

/// A head that goes on and on over one HTTP/2 connection: of its lines one is another each time.
fn sections(criterion: &mut Criterion, table: &Table) -> Result<(), Failed> {
    let head = request(9).with("x-pr-id", "9");
    let identity = identify(&head, table).map_err(refused)?;
    let mut fields = fields(&head);
    stamp(&mut fields, &identity, &table.estate, None, None, || 7);
    let (mut encoder, mut number) = (Encoder::default(), 0_u64);
    let mut write = |out: &mut Vec<u8>| {
        number += 1;
        encoder.begin(out);
        for (name, tag, value) in fields.tagged(Skips::new(["host"])) {
            encoder.line(out, name, tag, value);
        }
        encoder.named(out, "x-request-id", format!("{number:032x}").as_bytes());
    };
    let mut decoder = Decoder::default();
    let mut read = |section: &[u8]| {
        let mut fields = Fields::with_room(20, 1_024);
        let result = decoder.section(section, |line| fields.read(line.name, line.tag, line.value));
        result.map(|()| fields)
    };
    let mut section = Vec::new();
    for _ in 0..3 {
        section.clear();
        write(&mut section);
        read(&section)?;
    }
    criterion
        .bench_function("read a section of HTTP/2", |bencher| bencher.iter(|| read(black_box(&section))));
    criterion.bench_function("write a section of HTTP/2", |bencher| {
        bencher.iter(|| {
            section.clear();
            write(black_box(&mut section));
        });
    });
    Ok(())
}

fn fields(head: &PlainHead) -> Fields {
    head.fields.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect()
}
