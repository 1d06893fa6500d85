//! Every field of the configuration with at least one wrong value, and the full message that a person gets.
//!
//! `UPDATE_GOLDEN=1 cargo test -p sidetrack-config --test golden` writes the messages anew; the difference is
//! then for a reader to judge.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod schema_tools;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use sidetrack_config::Problems;

/// The wrong files, in order, each with what is said about it.
fn cases() -> Vec<(PathBuf, Problems)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    assert!(files.len() > 15, "the golden files are there");
    let judge = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        // Paths in the files are relative to the folder of this member, and messages begin with a bare name.
        let name = Path::new(path.file_name().unwrap()).to_owned();
        let problems =
            sidetrack_config::parse(&name, &text).expect_err(&format!("{} is wrong", name.display()));
        (path, problems)
    };
    files.into_iter().map(judge).collect()
}

#[test]
fn messages() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    for (path, problems) in cases() {
        let golden = path.with_extension("txt");
        let told = format!("{problems}\n");
        if update {
            fs::write(&golden, told).unwrap();
        } else {
            let expected = fs::read_to_string(&golden).unwrap_or_default();
            assert_eq!(told, expected, "{} differs", golden.display());
        }
    }
}

#[test]
fn every_message_has_a_place_and_says_what_is_allowed() {
    for (path, problems) in cases() {
        let lines = fs::read_to_string(&path).unwrap().lines().count() as u64;
        let mut before = (0, 0);
        for problem in &problems.0 {
            assert!((1..=lines + 1).contains(&problem.line) && problem.column > 0, "{problem}");
            assert!(before <= (problem.line, problem.column), "{problem} is out of order");
            before = (problem.line, problem.column);
            let syntax = problem.message.starts_with("is not valid YAML");
            assert!(syntax || !problem.allowed.is_empty(), "{problem} does not say what is allowed");
        }
    }
}

#[test]
fn every_field_has_a_wrong_value() {
    let told: BTreeSet<_> = cases()
        .iter()
        .flat_map(|(_, problems)| problems.0.iter().map(|problem| schema_tools::pattern(&problem.path)))
        .collect();
    let fields = schema_tools::fields();
    assert!(fields.len() > 80, "{fields:#?}");
    let missing: Vec<_> = fields.iter().filter(|field| !told.contains(*field)).collect();
    assert!(missing.is_empty(), "no wrong value for {missing:#?}");
}
