use std::fs::{create_dir, write};
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::fixture::key;

const FILE: &str = "
listeners: [{address: 127.0.0.1:0}]
domains: [preview.localhost]
services: {shop: {baseline: [127.0.0.1:9000]}}
previewsDir: previews.d
";

/// A keeper of a folder with one preview, which ends after a minute.
fn keeper(folder: &Path, now: Timestamp) -> (Keeper, PathBuf) {
    let (main, preview) = (folder.join("sidetrack.yaml"), folder.join("previews.d/42.yaml"));
    write(&main, FILE).unwrap();
    create_dir(folder.join("previews.d")).unwrap();
    let config = sidetrack_config::load(&main).unwrap().config;
    let mut keeper = Keeper::new(&main, config, 1, Metrics::new(1)).unwrap();
    write(&preview, "{forks: {shop: [127.0.0.1:9110]}, ttl: 1m}").unwrap();
    keeper.reread_previews(&[], now);
    (keeper, main)
}

#[test]
fn a_preview_whose_file_broke_before_a_reload_ends_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let now = Timestamp::now();
    let (mut keeper, main) = keeper(folder.path(), now);
    write(folder.path().join("previews.d/42.yaml"), "{forks: [").unwrap();
    write(&main, format!("{FILE}unknownPreview: baseline\n")).unwrap();
    assert!(keeper.reload(false, now + Duration::from_secs(1)));
    let is_there = |keeper: &Keeper| keeper.published().load().preview(&key("42")).is_some();
    keeper.tick(now + Duration::from_secs(59));
    assert!(is_there(&keeper), "its last good version stays");
    keeper.tick(now + Duration::from_secs(61));
    assert!(!is_there(&keeper), "and so does its end");
    assert!(keeper.published().load().is_gone(&key("42")));
}
