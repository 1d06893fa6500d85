//! The table: files that change while requests flow, bad files, previews that come, end and survive.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};
use sidetrack_tests::{Estate, Gateway, World, delete, eventually, get, put};

use crate::D;

/// The upstream that answers key 42 at checkout, or the code of the error.
async fn answers(world: &World, key: &str) -> String {
    let reply = world.send(get(D, "/api/checkout").key(key)).await;
    reply.header("x-upstream").map_or_else(|| reply.code(), str::to_owned)
}

/// The standard estate with preview 42 taken out of the file, its fork still running.
async fn without_42() -> (Estate, Value) {
    let mut estate = Estate::standard().await;
    let preview = estate.config["previews"].as_object_mut().unwrap().remove("42").unwrap();
    (estate, preview)
}

#[tokio::test]
async fn a_file_that_is_rewritten() {
    let (estate, preview) = without_42().await;
    estate.save();
    let mut world = estate.start().await;
    assert_eq!(answers(&world, "42").await, "unknown_preview");
    let before = world.generation().await;
    world.estate.config["previews"]["42"] = preview;
    world.estate.save();
    eventually("the preview is there", async || answers(&world, "42").await == "checkout-42").await;
    assert!(world.generation().await > before);
    let reply = world.send(get(D, "/api/checkout").key("42")).await;
    let generation = world.generation().await;
    assert_eq!(reply.receipts(), [format!("checkout@42;reason=fork;gen={generation}")]);
}

#[tokio::test]
async fn a_file_that_is_renamed_into_place() {
    let (estate, preview) = without_42().await;
    let mut world = estate.start().await;
    world.estate.config["previews"]["42"] = preview;
    let (file, fresh) = (world.estate.file(), world.estate.folder().join("fresh"));
    for expected in ["checkout-42", "preview_expired", "checkout-42"] {
        if expected == "preview_expired" {
            let mut without = world.estate.config.clone();
            without["previews"].as_object_mut().unwrap().remove("42");
            fs::write(&fresh, without.to_string()).unwrap();
        } else {
            fs::write(&fresh, world.estate.config.to_string()).unwrap();
        }
        fs::rename(&fresh, &file).unwrap();
        eventually("the rename has its effect", async || answers(&world, "42").await == expected).await;
    }
}

#[tokio::test]
async fn a_mounted_config_map() {
    let (mut estate, preview) = without_42().await;
    let folder = estate.folder();
    let mount = folder.join("mount");
    // As the kubelet lays it out: file -> ..data/file, ..data -> a folder of the time.
    let publish = |name: &str, config: &Value| {
        fs::create_dir_all(mount.join(name)).unwrap();
        fs::write(mount.join(name).join("sidetrack.yaml"), config.to_string()).unwrap();
        symlink(name, mount.join("..data_tmp")).unwrap();
        fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
    };
    publish("..2026_01", &estate.config);
    symlink("..data/sidetrack.yaml", mount.join("sidetrack.yaml")).unwrap();
    let gateway = Gateway::start(&mount.join("sidetrack.yaml")).await;
    let status = async || gateway.send(get(D, "/api/checkout").key("42")).await.status;
    assert_eq!(status().await, 404);
    estate.config["previews"]["42"] = preview;
    publish("..2026_02", &estate.config);
    fs::remove_dir_all(mount.join("..2026_01")).unwrap();
    eventually("the swap has its effect", async || status().await == 200).await;
    estate.config["previews"].as_object_mut().unwrap().remove("42");
    publish("..2026_03", &estate.config);
    fs::remove_dir_all(mount.join("..2026_02")).unwrap();
    eventually("and the next one too", async || status().await == 410).await;
}

#[tokio::test]
async fn no_request_is_lost_to_a_reload() {
    let world = World::standard().await;
    let address = world.address();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut clients = Vec::new();
    for _ in 0..4 {
        let stopped = stopped.clone();
        clients.push(tokio::spawn(async move {
            let mut conn = sidetrack_tests::Conn::http1(address).await.unwrap();
            let mut sent = 0;
            while !*stopped.borrow() {
                conn.send(get(D, "/api/checkout").key("42")).await.came_from("checkout-42");
                sent += 1;
            }
            sent
        }));
    }
    let mut config = world.estate.config.clone();
    for round in 0..5 {
        let before = world.generation().await;
        config["previews"][format!("new-{round}")] = json!({"forks": {}});
        fs::write(world.estate.file(), config.to_string()).unwrap();
        world.reloaded(before).await;
    }
    stop.send(true).unwrap();
    for client in clients {
        assert!(client.await.unwrap() > 0);
    }
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_says_so() {
    let world = World::standard().await;
    let ready = world.admin("/readyz").await;
    assert_eq!(ready.status, 200);
    let metric = async |name: &str| world.metrics().await.sum(name, &[]);
    assert_eq!(metric("sidetrack_config_last_reload_ok").await, 1.0);
    let generation = world.generation().await;
    fs::write(world.estate.file(), "services:\n  shop:\n    baselin: [127.0.0.1:1]\n").unwrap();
    eventually("the bad file was seen", async || metric("sidetrack_config_last_reload_ok").await == 0.0)
        .await;
    assert_eq!(answers(&world, "42").await, "checkout-42");
    assert_eq!(world.generation().await, generation);
    let ready = world.admin("/readyz").await;
    assert_eq!(ready.status, 200, "the last good table serves: {}", ready.text());
    assert!(ready.text().contains("sidetrack.yaml:3:5"), "{}", ready.text());
    let said = world.stderr().join("\n");
    for part in ["sidetrack.yaml:3:5", "baselin", "baseline"] {
        assert!(said.contains(part), "{part:?} in {said}");
    }
    world.estate.save();
    eventually("the good file was seen", async || metric("sidetrack_config_last_reload_ok").await == 1.0)
        .await;
    assert!(!world.admin("/readyz").await.text().contains("sidetrack.yaml:3:5"));
}

#[tokio::test]
async fn a_signal_reads_the_files_again() {
    let (mut estate, preview) = without_42().await;
    // The file is a link to where nobody watches.
    let far = tempfile::tempdir().unwrap();
    let target = far.path().join("real.yaml");
    fs::write(&target, estate.config.to_string()).unwrap();
    let link = estate.folder().join("link.yaml");
    symlink(&target, &link).unwrap();
    let gateway = Gateway::start(&link).await;
    estate.config["previews"]["42"] = preview;
    fs::write(&target, estate.config.to_string()).unwrap();
    gateway.hang_up();
    eventually("the file was read again", async || {
        gateway.send(get(D, "/api/checkout").key("42")).await.status == 200
    })
    .await;
}

async fn with_folder() -> (World, Value) {
    let (mut estate, preview) = without_42().await;
    estate.config["previewsDir"] = "previews.d".into();
    fs::create_dir(estate.folder().join("previews.d")).unwrap();
    (estate.start().await, preview)
}

/// Puts a preview into the folder, as a file of its own, and waits until it is in force.
async fn written(world: &World, key: &str, preview: &Value) {
    world.estate.write(&format!("previews.d/{key}.yaml"), preview.to_string());
    eventually("it is in force", async || answers(world, key).await == "checkout-42").await;
}

/// Has the main file read again, with everything that it names, for another setting in it.
async fn read_anew(world: &World) {
    let generation = world.gateway.generation().await;
    let mut config = world.estate.config.clone();
    config["limits"]["drainTimeout"] = "3s".into();
    fs::write(world.estate.file(), config.to_string()).unwrap();
    world.gateway.reloaded(generation).await;
}

#[tokio::test]
async fn a_folder_of_previews() {
    let (mut world, preview) = with_folder().await;
    let file = world.estate.folder().join("previews.d/42.yaml");
    assert_eq!(answers(&world, "42").await, "unknown_preview");
    // Within a second; the fastest of some rounds counts, since a machine may stand still for a moment.
    for round in 1.. {
        let began = std::time::Instant::now();
        fs::write(&file, preview.to_string()).unwrap();
        eventually("added", async || answers(&world, "42").await == "checkout-42").await;
        if began.elapsed().as_millis() < 2000 {
            break;
        }
        assert!(round < 5, "each of five took too long, the last one {:?}", began.elapsed());
        fs::remove_file(&file).unwrap();
        eventually("removed", async || answers(&world, "42").await == "preview_expired").await;
    }
    let other = world.estate.upstream("other").await;
    fs::write(&file, json!({"forks": {"checkout": [other]}}).to_string()).unwrap();
    eventually("changed", async || answers(&world, "42").await == "other").await;
    // A bad file leaves the last good one of its own preview in force, and everything else alone.
    let folder = world.estate.folder().join("previews.d");
    fs::write(&file, "forks: {nowhere: [127.0.0.1:1]}").unwrap();
    fs::write(folder.join("58.yaml"), preview.to_string()).unwrap();
    eventually("a neighbour was added", async || answers(&world, "58").await == "checkout-42").await;
    eventually("the bad file is reported", async || {
        world.stderr().iter().any(|line| line.contains("42.yaml"))
            && world.stderr().join("").contains("nowhere")
    })
    .await;
    assert_eq!(answers(&world, "42").await, "other");
    for name in [".59.yaml", "59.yaml.tmp", "59.json", "README"] {
        fs::write(folder.join(name), preview.to_string()).unwrap();
    }
    fs::write(folder.join("60.yaml"), preview.to_string()).unwrap();
    eventually("another was added", async || answers(&world, "60").await == "checkout-42").await;
    assert_eq!(answers(&world, "59").await, "unknown_preview", "only KEY.yaml counts");
    fs::remove_file(&file).unwrap();
    eventually("removed", async || answers(&world, "42").await == "preview_expired").await;
}

#[tokio::test]
async fn a_bad_preview_at_start_is_left_out() {
    let (mut estate, preview) = without_42().await;
    estate.config["previewsDir"] = "previews.d".into();
    estate.write("previews.d/42.yaml", preview.to_string());
    estate.write("previews.d/58.yaml", "forks: [");
    // A key in both places is an error of the file in the folder.
    estate.write("previews.d/57.yaml", preview.to_string());
    let world = estate.start().await;
    assert_eq!(answers(&world, "42").await, "checkout-42");
    assert_eq!(answers(&world, "58").await, "unknown_preview");
    assert_eq!(answers(&world, "57").await, "checkout", "the main file's 57 forks only shop");
    let said = world.stderr().join("\n");
    assert!(said.contains("58.yaml") && said.contains("57.yaml"), "{said}");
}

#[tokio::test]
async fn the_older_claim_stays() {
    let (world, mut preview) = with_folder().await;
    let folder = world.estate.folder().join("previews.d");
    preview["aliases"] = json!(["demo"]);
    written(&world, "42", &preview).await;
    fs::write(folder.join("58.yaml"), preview.to_string()).unwrap();
    eventually("the second claim is refused", async || {
        world.stderr().iter().any(|line| line.contains("58.yaml") && line.contains("demo"))
    })
    .await;
    assert_eq!(answers(&world, "58").await, "unknown_preview");
    let reply = world.send(get("demo.checkout.preview.localhost", "/")).await;
    assert_eq!(reply.receipt(), "checkout@42;reason=fork");
    assert!(world.admin("/readyz").await.text().contains("58"), "{}", world.admin("/readyz").await.text());
}

/// Whatever its key is, and also once everything is read anew; and who was refused is not so for good.
#[tokio::test]
async fn the_older_claim_of_a_name_stays_and_ends_with_its_preview() {
    let (world, mut preview) = with_folder().await;
    let folder = world.estate.folder().join("previews.d");
    preview["hosts"] = json!(["uat.example.com"]);
    written(&world, "58", &preview).await;
    fs::write(folder.join("43.yaml"), preview.to_string()).unwrap();
    eventually("the second is refused", async || world.admin("/readyz").await.text().contains("\"43\""))
        .await;
    read_anew(&world).await;
    assert_eq!(answers(&world, "58").await, "checkout-42");
    assert_eq!(answers(&world, "43").await, "unknown_preview");
    fs::remove_file(folder.join("58.yaml")).unwrap();
    eventually("the name is free", async || answers(&world, "43").await == "checkout-42").await;
    assert_eq!(answers(&world, "58").await, "preview_expired");
}

/// What was watched was the folder that had the name before, and previews of one that can't be read are not gone.
#[tokio::test]
async fn a_folder_of_previews_is_replaced() {
    let (world, preview) = with_folder().await;
    let folder = world.estate.folder().join("previews.d");
    written(&world, "42", &preview).await;
    fs::rename(&folder, world.estate.folder().join("old.d")).unwrap();
    fs::create_dir(&folder).unwrap();
    let began = std::time::Instant::now();
    written(&world, "58", &preview).await;
    eventually("the first is gone", async || answers(&world, "42").await == "preview_expired").await;
    written(&world, "59", &preview).await;
    assert!(began.elapsed().as_secs() < 20, "the poll has seen it, and no watch");
    fs::rename(&folder, world.estate.folder().join("new.d")).unwrap();
    // A link to itself: what is behind it nobody can say.
    std::os::unix::fs::symlink(&folder, &folder).unwrap();
    read_anew(&world).await;
    assert_eq!(answers(&world, "58").await, "checkout-42");
}

#[tokio::test]
async fn previews_by_request() {
    let (mut world, preview) = with_folder().await;
    let host = world.admin.to_string();
    let file = world.estate.folder().join("previews.d/42.yaml");
    let made = world.ask(put(&host, "/v1/previews/42", preview.to_string())).await;
    assert!([200, 201].contains(&made.status), "{made:?}");
    assert_eq!(answers(&world, "42").await, "checkout-42", "in force when the answer is here");
    assert!(file.exists());
    let listed = world.admin("/v1/previews").await;
    assert!(listed.text().contains("\"42\"") && listed.text().contains("\"57\""), "{}", listed.text());
    // It survives a restart.
    let World { estate, gateway } = world;
    drop(gateway);
    world = estate.start().await;
    let host = world.admin.to_string();
    assert_eq!(answers(&world, "42").await, "checkout-42");
    let bad = world.ask(put(&host, "/v1/previews/43", r#"{"forks": {"nowhere": ["x"]}, "tll": "1h"}"#)).await;
    assert_eq!(bad.status, 400, "{bad:?}");
    for part in ["nowhere", "tll"] {
        assert!(bad.text().contains(part), "{part} in {}", bad.text());
    }
    assert!(!world.estate.folder().join("previews.d/43.yaml").exists());
    for refused in [
        world.ask(put(&host, "/v1/previews/57", preview.to_string())).await,
        world.ask(delete(&host, "/v1/previews/57")).await,
    ] {
        assert_eq!(refused.status, 409, "57 is the main file's: {refused:?}");
    }
    let no_key = world.ask(put(&host, "/v1/previews/4_3", preview.to_string())).await;
    assert_eq!(no_key.status, 400, "{no_key:?}");
    let gone = world.ask(delete(&host, "/v1/previews/42")).await;
    assert!([200, 204].contains(&gone.status), "{gone:?}");
    assert_eq!(answers(&world, "42").await, "preview_expired");
    assert!(!file.exists());
    assert_eq!(world.ask(delete(&host, "/v1/previews/42")).await.status, 404);
}

#[tokio::test]
async fn time_to_live_counts_across_restarts() {
    let mut estate = Estate::standard().await;
    estate.preview("42")["ttl"] = "8s".into();
    let world = estate.start().await;
    assert_eq!(answers(&world, "42").await, "checkout-42");
    let end = world.admin("/v1/previews/42").await.json()["expires"].take();
    assert!(end.is_string(), "{end}");
    // Changing something else does not begin it anew, nor does a restart.
    let World { mut estate, gateway } = world;
    drop(gateway);
    estate.preview("58");
    let world = estate.start().await;
    let known = world.admin("/v1/previews/42").await;
    assert!(known.status == 404 || known.json()["expires"] == end, "{known:?}, and it was {end}");
    eventually("it has expired", async || answers(&world, "42").await == "preview_expired").await;
    let World { estate, gateway } = world;
    drop(gateway);
    let world = estate.start().await;
    assert_eq!(answers(&world, "42").await, "preview_expired", "what was there is remembered");
}

/// By a name of a preview that had ended, or whose file broke, a request came to the baseline where a route is for any host.
#[tokio::test]
async fn other_names_of_a_preview_that_is_not_there() {
    let (mut estate, mut preview) = without_42().await;
    let folder = estate.folder().join("previews.d");
    fs::create_dir(&folder).unwrap();
    estate.config["previewsDir"] = "previews.d".into();
    estate.config["routes"].as_array_mut().unwrap().push(json!({"host": "*", "service": "checkout"}));
    preview["aliases"] = json!(["demo"]);
    preview["hosts"] = json!(["uat.example.com"]);
    let put_42 = async |world: &World| {
        let host = world.admin.to_string();
        world.ask(put(&host, "/v1/previews/42", preview.to_string())).await.status
    };
    let all_say = async |world: &World, expected: &str| {
        for host in [format!("demo.{D}"), format!("demo--checkout.{D}"), "UAT.example.com".to_owned()] {
            let reply = world.send(get(&host, "/api/checkout").header("x-pr-strict", "1")).await;
            let says = reply.header("x-upstream").map_or_else(|| reply.code(), str::to_owned);
            assert_eq!(says, expected, "{host}");
        }
        assert_eq!(answers(world, "demo").await, expected);
    };
    let restarted = async |world: World| {
        let World { estate, mut gateway } = world;
        gateway.terminate();
        gateway.ended().await;
        estate.start().await
    };
    let mut world = estate.start().await;
    assert_eq!(world.send(get("uat.example.com", "/")).await.upstream(), "checkout", "no preview's yet");
    assert_eq!(put_42(&world).await, 201);
    all_say(&world, "checkout-42").await;
    assert!(world.ask(delete(&world.admin.to_string(), "/v1/previews/42")).await.status < 300);
    all_say(&world, "preview_expired").await;
    world = restarted(world).await;
    all_say(&world, "preview_expired").await;
    assert_eq!(put_42(&world).await, 201, "its own names are no other's");
    all_say(&world, "checkout-42").await;
    fs::write(folder.join("42.yaml"), "{forks: [").unwrap();
    world = restarted(world).await;
    all_say(&world, "unknown_preview").await;
    // A route of exactly that host is whose the host is now.
    let routes = world.estate.config["routes"].as_array_mut().unwrap();
    routes.push(json!({"host": "uat.example.com", "service": "shop"}));
    world.estate.save();
    eventually("the route has it", async || {
        world.send(get("uat.example.com", "/")).await.header("x-upstream") == Some("shop")
    })
    .await;
}

#[tokio::test]
async fn tables_that_contradict_themselves_are_refused() {
    for (what, change) in [
        ("an alias that is a route", json!({"previews": {"42": {"forks": {}, "aliases": ["checkout"]}}})),
        (
            "a host that is a route",
            json!({"previews": {"42": {"forks": {}, "hosts": ["preview.localhost"]}}}),
        ),
        (
            "one alias twice",
            json!({"previews": {
            "42": {"forks": {}, "aliases": ["demo"]}, "57": {"forks": {}, "aliases": ["demo"]}}}),
        ),
        (
            "one host twice",
            json!({"previews": {
            "42": {"forks": {}, "hosts": ["a.test"]}, "57": {"forks": {}, "hosts": ["a.test"]}}}),
        ),
        (
            "a route with the prefix",
            json!({"routes": [{"host": "pr-x.preview.localhost", "service": "shop"}]}),
        ),
        (
            "one route twice",
            json!({"routes": [
            {"host": "preview.localhost", "service": "shop"},
            {"host": "PREVIEW.localhost", "path": "/", "service": "checkout"}]}),
        ),
        ("a service nobody knows", json!({"routes": [{"host": "a.test", "service": "nobody"}]})),
    ] {
        let mut estate = Estate::standard().await;
        for (field, value) in change.as_object().unwrap() {
            estate.config[field] = value.clone();
        }
        estate.save();
        let output = sidetrack_tests::run(&estate.folder(), &["check", "-c", "sidetrack.yaml"]).await;
        assert_eq!(output.code, 64, "{what}: {output:?}");
        assert!(output.stderr.contains("sidetrack.yaml:"), "{what}: {}", output.stderr);
    }
}
