//! No text makes the check panic, and what it accepts the schema accepts too.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod schema_tools;

use std::path::Path;

use proptest::prelude::*;
use proptest::sample::Index;
use sidetrack_config::{Key, parse, parse_preview};

/// What is changed.
const FILES: [&str; 3] =
    [include_str!("good/example.yaml"), include_str!("good/full.yaml"), include_str!("good/gateway.yaml")];

/// What is put in where something is taken out.
const PIECES: [&str; 40] = [
    "",
    " ",
    "\n",
    "\n  ",
    ": ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    ", ",
    "\"",
    "'",
    "#",
    "&a ",
    "*a",
    "<<: ",
    "~",
    "null",
    "true",
    "false",
    "off",
    "0",
    "-1",
    "1e999",
    ".nan",
    "99999999999999999999999",
    "42",
    "pr-",
    "é",
    "\t",
    "\u{0}",
    "!!int ",
    "!x ",
    "|\n",
    "---\n",
    "7d",
    "8MiB",
    "*.example.com",
    "127.0.0.1:9000",
];

/// A good file without what needs files on disk.
fn without_files(text: &str) -> String {
    const NEED_FILES: [&str; 10] = [
        "tls:",
        "certificates:",
        "secretFile",
        "tokenFile",
        "keyFile",
        "require: signed",
        "sign: true",
        "previewsDir",
        "accessLog",
        "stateDir",
    ];
    let lines = text.lines().filter(|line| !NEED_FILES.iter().any(|word| line.contains(word)));
    lines.flat_map(|line| [line, "\n"]).collect()
}

fn mutated(text: &str, changes: &[(Index, usize, Index)]) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for (at, len, piece) in changes {
        let at = at.index(chars.len() + 1);
        let end = (at + len).min(chars.len());
        chars.splice(at..end, piece.get(&PIECES).chars());
    }
    chars.into_iter().collect()
}

#[test]
fn the_good_files_are_good() {
    for text in FILES {
        parse(Path::new("a.yaml"), &without_files(text)).unwrap_or_else(|problems| panic!("{problems}"));
        schema_tools::validate(&schema_tools::read(text)).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_changed_file_never_panics(
        file in any::<Index>(),
        changes in prop::collection::vec((any::<Index>(), 0_usize..20, any::<Index>()), 1..5),
    ) {
        let text = mutated(&without_files(FILES[file.index(FILES.len())]), &changes);
        match parse(Path::new("a.yaml"), &text) {
            Ok(_) => {
                let accepted = schema_tools::validate(&schema_tools::read(&text));
                prop_assert!(accepted.is_ok(), "{:?}\n{}", accepted, text);
            }
            Err(problems) => {
                prop_assert!(!problems.0.is_empty());
                let told = problems.to_string();
                // "invalid type" and "missing field" are serde's words: the shape check must have been first.
                prop_assert!(!told.contains("invalid type") && !told.contains("missing field"), "{}\n{}", told, text);
                prop_assert!(!told.contains("unknown field") && !told.contains("did not match"), "{}\n{}", told, text);
            }
        }
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,200}|([a-z]{1,4}: ?[\\[{\"'a-z0-9,\\]}]{0,9}\n){0,9}") {
        let _ = parse(Path::new("a.yaml"), &text);
        let main = parse(Path::new("a.yaml"), "listeners: [{address: 127.0.0.1:0}]").unwrap();
        let _ = parse_preview(Path::new("1.yaml"), &Key::bare("1").unwrap(), &text, &main.config);
    }
}

/// One wrong value each that the schema refuses and the check refuses as well.
#[test]
fn both_refuse() {
    for wrong in [
        "[]",
        "{listeners: 1}",
        "{listeners: []}",
        "{listeners: [{}]}",
        "{listeners: [{address: '127.0.0.1:1', port: 1}]}",
        "{listeners: [{address: 1}]}",
        "{listeners: [{address: '127.0.0.1:1'}], workers: 0}",
        "{listeners: [{address: '127.0.0.1:1'}], workers: 1.5}",
        "{listeners: [{address: '127.0.0.1:1'}], role: edge}",
        "{listeners: [{address: '127.0.0.1:1'}], role: }",
        "{listeners: [{address: '127.0.0.1:1'}], accessLog: true}",
        "{listeners: [{address: '127.0.0.1:1'}], accessLog: on}",
        "{listeners: [{address: '127.0.0.1:1'}], carriers: {query: true}}",
        "{listeners: [{address: '127.0.0.1:1'}], carriers: {query: ''}}",
        "{listeners: [{address: '127.0.0.1:1'}], carriers: {path: name}}",
        "{listeners: [{address: '127.0.0.1:1'}], carriers: {aliases: [x]}}",
        "{listeners: [{address: '127.0.0.1:1'}], routes: [{host: '*'}]}",
        "{listeners: [{address: '127.0.0.1:1'}], services: {s: {}}, routes: [{host: '*', service: s, path: x}]}",
        "{listeners: [{address: '127.0.0.1:1'}], access: {header: {name: 'a b', secretFile: x}}}",
        "{listeners: [{address: '127.0.0.1:1'}], limits: {holdRequests: -1}}",
        "{listeners: [{address: '127.0.0.1:1'}], previews: {'1': {parents: [1, 2, 3, 4, 5, 6, 7, 8, 9]}}}",
        "{listeners: [{address: '127.0.0.1:1'}], services: {s: {baseline: []}}}",
        "{listeners: [{address: '127.0.0.1:1'}], stateDir: ''}",
    ] {
        assert!(parse(Path::new("a.yaml"), wrong).is_err(), "the check accepts {wrong}");
        assert!(schema_tools::validate(&schema_tools::read(wrong)).is_err(), "the schema accepts {wrong}");
    }
}
