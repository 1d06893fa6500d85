//! `docs/preview.md`: every field of the object `Preview`, as its schema tells it.
//!
//! `UPDATE_GOLDEN=1 cargo test -p sidetrack-controller --test page` writes the page anew.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::fs;
use std::path::Path;

#[test]
fn the_page_is_what_the_schema_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/preview.md");
    let page = sidetrack_controller::preview::page();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        page, committed,
        "docs/preview.md is old: UPDATE_GOLDEN=1 cargo test -p sidetrack-controller --test page"
    );
}

#[test]
fn every_field_has_a_meaning() {
    for line in sidetrack_controller::preview::page().lines().filter(|line| line.starts_with("| `")) {
        assert!(line.split('|').nth(2).is_some_and(|meaning| meaning.trim().ends_with('.')), "{line}");
    }
}
