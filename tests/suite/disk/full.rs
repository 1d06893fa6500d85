//! No room: a clear answer, and nothing has changed. A limit of the size of files stands for a disk of that size: the
//! system cuts a write at it and fails the next, as a full disk does, and no mount is needed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sidetrack_tests::{Estate, Gateway, Reply, eventually, get};

use super::{kept, known, preview, set, unset};
use crate::D;

/// Every file of a folder, with what is in it.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let read = |name: String| (name.clone(), fs::read(folder.join(name)).unwrap());
    super::names(folder).into_iter().map(read).collect()
}

async fn table(gateway: &Gateway) -> Value {
    gateway.admin("/v1/previews").await.json()["previews"].take()
}

#[track_caller]
fn is_told(reply: &Reply, folder: &str) {
    assert_eq!(
        (reply.status, reply.header("content-type")),
        (507, Some("application/problem+json")),
        "{reply:?}"
    );
    let detail = reply.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains(folder) && detail.contains("make room there"), "{detail}");
}

#[tokio::test]
async fn a_full_disk_changes_nothing() {
    let estate = kept().await;
    let folder = estate.folder().join("previews.d");
    let (shop, fork) = (estate.of("shop").endpoint(), estate.of("checkout-42").endpoint());
    estate.save();
    let mut gateway = Gateway::start_limited(&estate.file()).await;
    let localhost = format!("localhost:{}", estate.of("checkout-42").address.port());
    assert_eq!(set(&gateway, "named", preview(&localhost)).await.status, 201);
    let (files_before, table_before) = (files(&folder), table(&gateway).await);
    // Longer than the buffers in between, so that it breaks off in the middle.
    let padded = format!("{}\n{}", preview(&fork), "# what fills a disk\n".repeat(4000));
    for (bytes, text) in [(0, preview(&shop).to_string()), (4096, padded.clone())] {
        gateway.limit_files(Some(bytes));
        for key in ["42", "new", "named"] {
            is_told(&set(&gateway, key, &text).await, "previews.d");
            assert_eq!(files(&folder), files_before, "{bytes} {key}");
            assert_eq!(table(&gateway).await, table_before, "{bytes} {key}");
        }
        gateway.send(get(D, "/api/checkout").key("42")).await.came_from("checkout-42");
        gateway.send(get(D, "/api/checkout").key("named")).await.came_from("checkout-42");
        gateway.send(get(D, "/").key("57")).await.came_from("shop-57");
        gateway.send(get(D, "/").key("new")).await.failed(404, "unknown_preview");
    }
    // What makes room works.
    assert_eq!(unset(&gateway, "57").await.status, 200);
    gateway.limit_files(None);
    for (key, status) in [("42", 200), ("new", 201), ("named", 200)] {
        assert_eq!(set(&gateway, key, &padded).await.status, status, "{key}");
    }
    gateway.kill();
    let gateway = Gateway::start(&estate.file()).await;
    for key in ["42", "new", "named"] {
        assert_eq!(known(&gateway, key).await["forks"]["checkout"][0]["address"], fork, "{key}");
    }
    assert!(known(&gateway, "57").await.is_null());
}

/// What would not outlast a restart is not acknowledged: here, that a preview that had ended begins a new life.
#[tokio::test]
async fn a_new_life_that_cannot_be_kept() {
    let estate = kept().await;
    let mut short = preview(&estate.of("checkout-42").endpoint());
    short["ttl"] = "1s".into();
    estate.write("previews.d/9.yaml", short.to_string());
    estate.save();
    let mut gateway = Gateway::start_limited(&estate.file()).await;
    let keyed = || get(D, "/api/checkout").key("9");
    eventually("it has ended", async || gateway.send(keyed()).await.status == 410).await;
    gateway.limit_files(Some(0));
    is_told(&set(&gateway, "9", json!({"forks": {}})).await, "state");
    gateway.send(keyed()).await.failed(410, "preview_expired");
    gateway.limit_files(None);
    assert_eq!(set(&gateway, "10", json!({"forks": {}})).await.status, 201, "which has all saved");
    gateway.kill();
    let mut gateway = Gateway::start(&estate.file()).await;
    gateway.send(keyed()).await.failed(410, "preview_expired");
    assert_eq!(set(&gateway, "9", preview(&estate.of("checkout-42").endpoint())).await.status, 201);
    gateway.kill();
    let gateway = Gateway::start(&estate.file()).await;
    gateway.send(keyed()).await.came_from("checkout-42");
}

/// A gateway starts without room too, and serves what is there; only a development CA it can't do without.
#[tokio::test]
async fn a_start_on_a_full_disk() {
    let estate: Estate = kept().await;
    estate.save();
    let file = estate.file();
    let arguments = ["gateway", "-c", file.to_str().unwrap()];
    let mut process = sidetrack_tests::Process::start_full(&arguments, &estate.folder());
    process.says("ready generation=").await;
    process.says("the lives of previews can't be kept").await;
}
