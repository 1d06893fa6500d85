//! One test for each bug that was found and that no module of a promise would have caught every time.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use sidetrack_tests::{Estate, Gateway, World, eventually, get};

use crate::D;

/// A signal that came right after `ready` met its default action and killed the process.
#[tokio::test]
async fn a_signal_right_after_ready() {
    let mut estate = Estate::standard().await;
    for _ in 0..5 {
        let World { estate: same, gateway: first } = estate.start().await;
        first.hang_up();
        assert_eq!(first.send(get(D, "/api/checkout").key("42")).await.upstream(), "checkout-42");
        drop(first);
        let World { estate: same, gateway: mut second } = same.start().await;
        second.terminate();
        assert_eq!(second.ended().await.code(), Some(0));
        estate = same;
    }
}

/// A change that came while another timer of the control loop fired was forgotten.
#[tokio::test]
async fn each_of_many_changes_is_seen() {
    let mut estate = Estate::standard().await;
    estate.config["previewsDir"] = "previews.d".into();
    let folder = estate.folder().join("previews.d");
    fs::create_dir(&folder).unwrap();
    let endpoint = estate.of("checkout-42").endpoint();
    let world = estate.start().await;
    for number in 100..120_u64 {
        let text = json!({"forks": {"checkout": [endpoint]}}).to_string();
        fs::write(folder.join(format!("{number}.yaml")), text).unwrap();
        eventually("the preview is there", async || {
            world.send(get(D, "/api/checkout").key(&number.to_string())).await.status == 200
        })
        .await;
        // Not a wait for anything: it shifts the next change against the timers.
        tokio::time::sleep(Duration::from_millis(7 * (number % 16))).await;
    }
}

/// With `-c` relative to the working directory nothing that the system said had changed was ever found to be ours.
#[tokio::test]
async fn a_relative_path_is_watched_too() {
    let mut estate = Estate::standard().await;
    estate.save();
    let folder = estate.folder();
    let mut gateway = Gateway::start_in(&folder, Path::new("sidetrack.yaml")).await;
    assert_eq!(gateway.send(get(D, "/").key("77")).await.status, 404);
    estate.fork("77", "shop").await;
    estate.save();
    eventually("the change is in force", async || gateway.send(get(D, "/").key("77")).await.status == 200)
        .await;
    gateway.terminate();
    assert_eq!(gateway.ended().await.code(), Some(0));
}

/// The lock of the development CA was opened for writing, which changed the folder, for which the CA was looked at again.
#[tokio::test]
async fn a_gateway_with_a_development_ca_is_idle() {
    let mut estate = Estate::standard().await;
    let tls = json!({"selfSigned": {"names": ["*.preview.localhost"]}});
    estate.config["listeners"] = json!([{"address": "127.0.0.1:0", "tls": tls}]);
    let world = estate.start().await;
    let before = world.cpu();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let used = world.cpu() - before;
    assert!(used < Duration::from_millis(200), "{used:?} of two seconds");
}
