//! What is on disk: whole after any kill, unchanged by a full disk, for nobody's eyes where it is nobody's business.

mod authority;
mod full;
mod killed;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sidetrack_tests::{Estate, Gateway, Reply, World, delete, eventually, put, run};

/// The standard estate with `previewsDir` and `stateDir`, whose own previews are in the folder.
async fn kept() -> Estate {
    let mut estate = Estate::standard().await;
    estate.config["previewsDir"] = "previews.d".into();
    estate.config["stateDir"] = "state".into();
    let previews = std::mem::take(&mut estate.config["previews"]);
    for (key, preview) in previews.as_object().unwrap() {
        estate.write(&format!("previews.d/{key}.yaml"), preview.to_string());
    }
    estate
}

/// A preview whose fork of `checkout` is the endpoint `endpoint`.
fn preview(endpoint: &str) -> Value {
    json!({"forks": {"checkout": [endpoint]}})
}

async fn set(gateway: &Gateway, key: &str, text: impl ToString) -> Reply {
    gateway.ask(put(&gateway.admin.to_string(), &format!("/v1/previews/{key}"), text.to_string())).await
}

async fn unset(gateway: &Gateway, key: &str) -> Reply {
    gateway.ask(delete(&gateway.admin.to_string(), &format!("/v1/previews/{key}"))).await
}

/// What the table says of the preview of `key`; null: there is none.
async fn known(gateway: &Gateway, key: &str) -> Value {
    let reply = gateway.admin(&format!("/v1/previews/{key}")).await;
    if reply.status == 404 { Value::Null } else { reply.json() }
}

/// The names in a folder, in order.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

/// Two gateways may have one folder: what either is told, both do, also where both are told at once.
#[tokio::test]
async fn two_gateways_with_one_folder() {
    let estate = kept().await;
    let (one, other) = (estate.of("shop").endpoint(), estate.of("checkout-42").endpoint());
    let folder = estate.folder().join("previews.d");
    let World { estate, gateway: first } = estate.start().await;
    let second = Gateway::start(&estate.file()).await;
    for round in 0..10 {
        let key = format!("r-{round}");
        let (left, right) =
            tokio::join!(set(&first, &key, preview(&one)), set(&second, &key, preview(&other)));
        assert!(left.status < 300 && right.status < 300, "{left:?} {right:?}");
        let text = fs::read_to_string(folder.join(format!("{key}.yaml"))).unwrap();
        let file: Value = serde_json::from_str(&text).unwrap();
        eventually("both do what the file says", async || {
            let mut agree = true;
            for gateway in [&first, &second] {
                let table = known(gateway, &key).await;
                agree &= table["forks"]["checkout"][0]["address"] == file["forks"]["checkout"][0];
            }
            agree
        })
        .await;
        assert_eq!(unset(&first, &key).await.status, 200);
        eventually("both know that it went", async || known(&second, &key).await.is_null()).await;
    }
}

/// What is no folder is refused at the start; what becomes none later stops nobody, and the log or the answer says so.
#[tokio::test]
async fn a_folder_that_is_a_file() {
    for name in ["state", "previews.d"] {
        let mut estate = Estate::standard().await;
        estate.config["previewsDir"] = "previews.d".into();
        estate.config["stateDir"] = "state".into();
        estate.write(name, "");
        estate.save();
        let refused = run(&estate.folder(), &["gateway", "-c", "sidetrack.yaml"]).await;
        assert!(refused.code == 64 && refused.stderr.contains("is no folder"), "{name}: {refused:?}");
    }
    let world = kept().await.start().await;
    let endpoint = world.of("checkout-42").endpoint();
    let becomes_a_file = |name: &str| {
        fs::remove_dir_all(world.estate.folder().join(name)).unwrap();
        world.estate.write(name, "");
    };
    becomes_a_file("state");
    assert_eq!(set(&world, "43", preview(&endpoint)).await.status, 201);
    let warned = |line: &String| line.contains("state/previews.jsonl") && line.contains("can't be kept");
    let warnings = || world.stderr().iter().filter(|line| warned(line)).count();
    eventually("it is said", async || warnings() > 0).await;
    becomes_a_file("previews.d");
    let refused = set(&world, "44", preview(&endpoint)).await;
    assert_eq!(refused.status, 507);
    assert!(
        refused.text().contains("previews.d") && refused.text().contains("a folder"),
        "{}",
        refused.text()
    );
    assert!(known(&world, "44").await.is_null());
    assert_eq!(warnings(), 1, "{:?}", world.stderr());
}
