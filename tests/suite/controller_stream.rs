//! Following a controller: a table that comes by the stream, changes, is refused, is kept on disk, and ends by itself.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::{Value, json};
use sidetrack_tests::{Ca, Conn, Controller, Estate, World, delete, eventually, get, put, run};

use crate::D;

/// The upstream that answers, or the code of the error.
async fn answers(world: &World, key: Option<&str>) -> String {
    let call = get(D, "/");
    let reply = world
        .send(match key {
            Some(key) => call.key(key),
            None => call,
        })
        .await;
    reply.header("x-upstream").map_or_else(|| reply.code(), str::to_owned)
}

/// An estate with the upstreams `shop` and `shop-42`, and a controller whose first version has both.
async fn shop() -> (Estate, Controller) {
    let mut estate = Estate::new();
    let baseline = estate.upstream("shop").await;
    let fork = estate.upstream("shop-42").await;
    let controller = Controller::start().await;
    controller.service("shop", &[baseline]);
    controller.route(D, "/", "shop");
    controller.preview("42", "shop", &[fork]);
    (estate, controller)
}

/// The same, followed and in force.
async fn followed() -> (World, Controller) {
    let (estate, controller) = shop().await;
    let world = controller.gateway(estate).await;
    assert_eq!(controller.acknowledged().await, Value::Null);
    (world, controller)
}

fn table_file(world: &World) -> PathBuf {
    world.estate.folder().join("state/table.jsonl")
}

/// What is on disk, once it has `text`.
async fn on_disk(world: &World, text: &str) {
    eventually("the disk has it", async || {
        fs::read_to_string(table_file(world)).is_ok_and(|all| all.contains(text))
    })
    .await;
}

async fn ready(world: &World) -> (u16, Value) {
    let reply = world.admin("/readyz").await;
    (reply.status, serde_json::from_str(reply.text()).unwrap())
}

/// Ends the gateway as `kill -9` does and starts another one on the same folder.
async fn killed(world: World, controller: &Controller) -> World {
    let World { estate, gateway } = world;
    drop(gateway);
    controller.gateway(estate).await
}

#[tokio::test]
async fn until_the_first_table_it_says_that_it_waits() {
    let (estate, controller) = shop().await;
    let world = controller.gateway(estate).await;
    for key in [None, Some("42")] {
        let call = get(D, "/");
        let reply = world
            .send(match key {
                Some(key) => call.key(key),
                None => call,
            })
            .await;
        assert_eq!((reply.status, &*reply.code()), (503, "upstream_unavailable"));
        assert!(
            reply.text().contains("no routing table yet: waiting for the controller at https://127.0.0.1:")
        );
    }
    let (status, body) = ready(&world).await;
    assert_eq!((status, &body["ready"]), (503, &json!(false)));
    assert_eq!(controller.acknowledged().await, Value::Null);
    assert_eq!(answers(&world, None).await, "shop");
    assert_eq!(answers(&world, Some("42")).await, "shop-42");
    let reply = world.send(get(D, "/").key("42")).await;
    assert_eq!(reply.receipts(), ["shop@42;reason=fork;gen=1"]);
    let (status, body) = ready(&world).await;
    assert_eq!((status, &body["ready"]), (200, &json!(true)));
    assert_eq!(body["controller"]["connected"], true);
    let metrics = world.metrics().await;
    assert_eq!(metrics.sum("sidetrack_controller_connected", &[]), 1.0);
    assert_eq!(metrics.sum("sidetrack_controller_version", &[]), 1.0);
    assert!(metrics.sum("sidetrack_controller_last_contact_seconds", &[]) < 15.0);
}

#[tokio::test]
async fn changes_come_one_by_one() {
    let (mut world, controller) = followed().await;
    let other = world.estate.upstream("shop-43").await;
    controller.preview("43", "shop", &[other]);
    controller.set("preview/42", json!({"key": "42", "forks": {"shop": []}, "onForkDown": "fail"}));
    assert_eq!(controller.acknowledged().await, Value::Null);
    assert_eq!(answers(&world, Some("43")).await, "shop-43");
    assert_eq!(answers(&world, Some("42")).await, "fork_unavailable");
    controller.remove("preview/43");
    controller.set("gone/43", json!({"key": "43", "at": "2026-11-20T00:00:00Z"}));
    controller.remove("preview/42");
    assert_eq!(controller.acknowledged().await, Value::Null);
    assert_eq!(answers(&world, Some("43")).await, "preview_expired");
    assert_eq!(answers(&world, Some("42")).await, "unknown_preview");
    controller.remove("gone/43");
    controller.remove("service/shop");
    assert_eq!(controller.acknowledged().await, Value::Null);
    assert_eq!(answers(&world, Some("43")).await, "unknown_preview");
    assert_eq!(answers(&world, None).await, "no_route");
    assert_eq!(controller.asked().len(), 1, "all of it on one connection");
    assert_eq!(world.metrics().await.sum("sidetrack_generation", &[]), 4.0);
}

#[tokio::test]
async fn a_fork_may_come_before_its_service() {
    let mut estate = Estate::new();
    let (fork, baseline) = (estate.upstream("late-42").await, estate.upstream("late").await);
    let controller = Controller::start().await;
    controller.preview("42", "late", &[fork]);
    controller.route(D, "/", "late");
    let world = controller.gateway(estate).await;
    assert_eq!(controller.acknowledged().await, Value::Null);
    assert_eq!(answers(&world, Some("42")).await, "late-42");
    assert_eq!(answers(&world, None).await, "no_route");
    controller.service("late", &[baseline]);
    assert_eq!(controller.acknowledged().await, Value::Null);
    assert_eq!(answers(&world, Some("42")).await, "late-42");
    assert_eq!(answers(&world, None).await, "late");
}

/// Makes a delta one that can't be followed.
type Spoil = fn(&mut Value);

#[tokio::test]
async fn what_does_not_fit_is_asked_for_anew() {
    let spoils: [(&str, Spoil); 3] = [
        ("hash", |delta| delta["delta"]["hash"] = "00000000000000ff".into()),
        ("from", |delta| delta["delta"]["from"] = 7.into()),
        ("kind", |delta| *delta = json!({"patch": {}})),
    ];
    for (what, spoil) in spoils {
        let (mut world, controller) = followed().await;
        let other = world.estate.upstream("shop-43").await;
        controller.preview("43", "shop", &[other]);
        controller.publish_spoiled(spoil);
        assert_eq!(controller.reported(2).await, Value::Null, "{what}");
        assert_eq!(answers(&world, Some("43")).await, "shop-43", "{what}");
        let asked = controller.asked();
        assert!(asked.len() >= 2 && !asked[1].resumes(), "{what}: {asked:?}");
    }
}

#[tokio::test]
async fn a_snapshot_in_parts_is_one_table() {
    let (estate, controller) = shop().await;
    controller.items_per_part(1);
    for number in 0..20 {
        controller.preview(&format!("x{number}"), "shop", &[]);
    }
    controller.publish();
    let world = controller.gateway(estate).await;
    assert_eq!(controller.reported(1).await, Value::Null);
    assert_eq!(world.metrics().await.sum("sidetrack_table_previews", &[]), 21.0);
    assert_eq!(answers(&world, Some("42")).await, "shop-42");
    // Half a snapshot, and then the end: nothing of it shows.
    controller.say(&json!({"snapshot": {"version": 9, "items": {}}}).to_string());
    controller.say(&json!({"delta": {"from": 1, "to": 2, "hash": "0"}}).to_string());
    eventually("it asks anew", async || controller.asked().len() > 1).await;
    assert_eq!(answers(&world, Some("42")).await, "shop-42");
    on_disk(&world, "preview/42").await;
    let world = killed(world, &controller).await;
    assert_eq!(answers(&world, Some("42")).await, "shop-42");
}

#[tokio::test]
async fn it_serves_from_its_disk_while_the_controller_is_down() {
    let (mut world, mut controller) = followed().await;
    let other = world.estate.upstream("shop-43").await;
    controller.preview("43", "shop", &[other]);
    assert_eq!(controller.acknowledged().await, Value::Null);
    on_disk(&world, "preview/43").await;
    let mode = fs::metadata(table_file(&world)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it may hold keys");
    controller.stop().await;
    eventually("it notices", async || ready(&world).await.1["controller"]["stale"] == true).await;
    assert_eq!(ready(&world).await.0, 200);
    assert_eq!(answers(&world, Some("43")).await, "shop-43");
    let world = killed(world, &controller).await;
    for (key, upstream) in [(None, "shop"), (Some("42"), "shop-42"), (Some("43"), "shop-43")] {
        assert_eq!(answers(&world, key).await, upstream);
    }
    let (status, body) = ready(&world).await;
    assert_eq!((status, &body["controller"]["stale"], &body["generation"]), (200, &json!(true), &json!(2)));
    assert_eq!(world.metrics().await.sum("sidetrack_controller_connected", &[]), 0.0);
    // It comes back, and only what is new is asked for.
    controller.resume().await;
    controller.remove("preview/42");
    controller.publish();
    assert_eq!(controller.reported(3).await, Value::Null);
    assert_eq!(answers(&world, Some("42")).await, "unknown_preview");
    assert!(controller.asked().last().unwrap().resumes());
}

#[tokio::test]
async fn a_controller_that_began_anew_is_believed() {
    let (world, mut controller) = followed().await;
    controller.stop().await;
    controller.begin_epoch("epoch 2 & more");
    controller.remove("preview/42");
    controller.publish();
    controller.resume().await;
    assert_eq!(controller.reported(2).await, Value::Null);
    assert_eq!(answers(&world, Some("42")).await, "unknown_preview");
    assert_eq!(answers(&world, None).await, "shop");
    // Its epoch may be any text, also in a query.
    controller.stop().await;
    let before = controller.asked().len();
    controller.resume().await;
    eventually("it asks again", async || controller.asked().len() > before).await;
    assert!(controller.asked().last().unwrap().target.contains("epoch=epoch%202%20%26%20more&version=2"));
}

#[tokio::test]
async fn a_torn_or_broken_file_costs_only_what_is_broken() {
    let (mut world, mut controller) = followed().await;
    let other = world.estate.upstream("shop-43").await;
    controller.preview("43", "shop", &[other]);
    assert_eq!(controller.acknowledged().await, Value::Null);
    on_disk(&world, "preview/43").await;
    controller.stop().await;
    let file = table_file(&world);
    let whole = fs::read(&file).unwrap();
    // Torn in the delta: the snapshot is left. Torn in the snapshot, or nonsense: nothing is.
    let delta = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap();
    for (content, key, answer) in [
        (whole[..whole.len() - 1].to_vec(), "43", "unknown_preview"),
        (whole[..whole.len() - 1].to_vec(), "42", "shop-42"),
        ([&whole[..delta], b"\nnonsense\n"].concat(), "42", "shop-42"),
        (whole[..delta / 2].to_vec(), "42", "upstream_unavailable"),
        (b"nonsense\n".to_vec(), "42", "upstream_unavailable"),
        (Vec::new(), "42", "upstream_unavailable"),
        (whole.clone(), "43", "shop-43"),
    ] {
        let World { estate, gateway } = world;
        drop(gateway);
        fs::File::create(&file).unwrap().write_all(&content).unwrap();
        world = controller.gateway(estate).await;
        assert_eq!(answers(&world, Some(key)).await, answer, "{}", String::from_utf8_lossy(&content));
    }
    // What is left over is as good a base as any: the deltas since are asked for.
    controller.resume().await;
    controller.remove("preview/43");
    controller.publish();
    assert_eq!(controller.reported(3).await, Value::Null);
    assert_eq!(answers(&world, Some("43")).await, "unknown_preview");
}

#[tokio::test]
async fn killed_while_it_writes() {
    let (mut world, mut controller) = followed().await;
    on_disk(&world, "preview/42").await;
    for round in 0..3 {
        // A burst that is still being written when the process ends.
        for number in 0..300 {
            controller.preview(&format!("r{round}-{number}"), "shop", &[]);
            controller.publish();
        }
        let seen = controller.reports().len();
        eventually("some of it has come", async || controller.reports().len() > seen).await;
        controller.stop().await;
        world = killed(world, &controller).await;
        assert_eq!(answers(&world, Some("42")).await, "shop-42");
        assert_eq!(answers(&world, None).await, "shop");
        controller.resume().await;
        assert_eq!(controller.reported(controller.version()).await, Value::Null);
        let previews = world.metrics().await.sum("sidetrack_table_previews", &[]);
        assert_eq!(previews, f64::from(301 + 300 * round));
    }
}

#[tokio::test]
async fn silence_is_taken_for_death() {
    let (world, controller) = followed().await;
    controller.be_quiet(true);
    eventually("it asks again", async || controller.asked().len() > 1).await;
    assert!(controller.asked()[1].resumes(), "what it has is good");
    assert_eq!(answers(&world, Some("42")).await, "shop-42");
    eventually("the log says why", async || {
        world.stderr().iter().any(|line| line.contains("nothing was heard for 15s"))
    })
    .await;
}

#[tokio::test]
async fn tokens_rotate_and_may_be_refused() {
    let (world, controller) = followed().await;
    let shown = |at: usize| controller.asked()[at].authorization.clone().unwrap();
    assert_eq!(shown(0), "Bearer first");
    controller.set_token("second\n");
    eventually("the new token is shown", async || controller.asked().len() > 1).await;
    assert_eq!(shown(1), "Bearer second");
    assert!(controller.asked()[1].resumes());
    // It says anew what it has in force: by the version that it goes on from nobody knows.
    let version = controller.version();
    let told = || controller.reports().iter().filter(|report| report["version"] == version).count();
    eventually("it reports over the new connection", async || told() >= 2).await;
    controller.remove("preview/42");
    assert_eq!(controller.acknowledged().await, Value::Null);
    controller.refuse(Some(401));
    controller.set_token("third");
    eventually("it is said", async || {
        world.stderr().iter().any(|line| line.contains("401 Unauthorized: it does not accept the token"))
    })
    .await;
    assert!(!world.stderr().iter().any(|line| line.contains("third")), "no token is ever told");
    assert_eq!(answers(&world, None).await, "shop");
    controller.refuse(None);
    controller.remove("gone/1");
    assert_eq!(controller.acknowledged().await, Value::Null);
}

#[tokio::test]
async fn what_is_not_understood_leaves_the_last_good_table() {
    let (mut world, controller) = followed().await;
    let other = world.estate.upstream("shop-43").await;
    for (id, text, said) in [
        ("rule/a", r#"{"rule":{}}"#, "rule/a: it can't be understood: unknown variant `rule`"),
        (
            "route/bad",
            r#"{"route":{"name":"bad","host":"*","path":{"prefix":"x"},"rank":"","action":{"forward":[]}}}"#,
            "does not begin with `/`",
        ),
        (
            "preview/7",
            r#"{"preview":{"key":"8","forks":{},"onForkDown":"fail"}}"#,
            "preview/7: it is preview/8",
        ),
    ] {
        controller.set_raw(id, text);
        controller.remove("preview/42");
        let error = controller.acknowledged().await;
        assert!(error.as_str().unwrap().contains(said), "{error}");
        assert_eq!(answers(&world, Some("42")).await, "shop-42", "the last good table is whole");
        let (status, body) = ready(&world).await;
        assert_eq!((status, body["controller"]["error"] == error), (200, true), "{body}");
        assert_eq!(world.gateway.metrics().await.sum("sidetrack_controller_version_refused", &[]), 1.0);
        // The next version is good again, with all that came meanwhile, and no snapshot is needed for it.
        controller.remove(id);
        controller.preview("43", "shop", std::slice::from_ref(&other));
        assert_eq!(controller.acknowledged().await, Value::Null);
        assert_eq!(answers(&world, Some("43")).await, "shop-43");
        assert_eq!(answers(&world, Some("42")).await, "unknown_preview");
        let fork = world.of("shop-42").endpoint();
        controller.preview("42", "shop", &[fork]);
        assert_eq!(controller.acknowledged().await, Value::Null);
    }
    assert_eq!(controller.asked().len(), 1);
}

#[tokio::test]
async fn names_that_others_have_are_withheld_until_they_are_free() {
    let (mut world, controller) = followed().await;
    let (a, b) = (world.estate.upstream("a").await, world.estate.upstream("b").await);
    let preview = |key: &str, fork: &str, aliases: &[&str]| {
        let item = json!({"key": key, "forks": {"shop": [fork]}, "aliases": aliases, "onForkDown": "fail"});
        controller.set(&format!("preview/{key}"), item);
    };
    preview("a", &a, &["demo"]);
    assert_eq!(controller.acknowledged().await, Value::Null);
    preview("b", &b, &["demo", "other"]);
    assert_eq!(controller.acknowledged().await, Value::Null, "one name is no reason to stop everybody");
    for (key, upstream) in [("demo", "a"), ("other", "b"), ("b", "b")] {
        assert_eq!(answers(&world, Some(key)).await, upstream);
    }
    assert!(ready(&world).await.1["previewsWithProblems"]["b"].as_str().unwrap().contains("demo"));
    preview("a", &a, &[]);
    assert_eq!(controller.acknowledged().await, Value::Null);
    assert_eq!(answers(&world, Some("demo")).await, "b");
    assert!(ready(&world).await.1["previewsWithProblems"].as_object().unwrap().is_empty());
    // A route for a host takes the label from an alias: who asks for it without a key must not reach a preview.
    preview("b", &b, &["api"]);
    assert_eq!(controller.acknowledged().await, Value::Null);
    let of_api = async || world.send(get(&format!("api.{D}"), "/")).await.upstream().to_owned();
    assert_eq!(of_api().await, "b");
    controller.route(&format!("api.{D}"), "/", "shop");
    assert_eq!(controller.acknowledged().await, Value::Null);
    assert_eq!(of_api().await, "shop");
    controller.remove(&format!("route/api.{D}/"));
    assert_eq!(controller.acknowledged().await, Value::Null);
    assert_eq!(of_api().await, "b");
}

#[tokio::test]
async fn a_preview_ends_while_the_controller_is_away() {
    let (world, mut controller) = followed().await;
    let fork = world.of("shop-42").endpoint();
    let expires = |seconds: i64| {
        let at = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let item = json!({"key": "42", "forks": {"shop": [fork.clone()]}, "onForkDown": "fail",
            "expires": at_text(i64::try_from(at).unwrap() + seconds)});
        controller.set("preview/42", item);
    };
    expires(3600);
    assert_eq!(controller.acknowledged().await, Value::Null);
    assert_eq!(answers(&world, Some("42")).await, "shop-42");
    expires(4);
    assert_eq!(controller.acknowledged().await, Value::Null);
    on_disk(&world, r#""to":3"#).await;
    controller.stop().await;
    eventually("it ends by itself", async || answers(&world, Some("42")).await == "preview_expired").await;
    assert_eq!(answers(&world, None).await, "shop");
    let world = killed(world, &controller).await;
    assert_eq!(answers(&world, Some("42")).await, "preview_expired", "also for the next start");
}

/// A time as RFC 3339 has it.
fn at_text(seconds: i64) -> String {
    let output = std::process::Command::new("date")
        .args(["-u", "-d", &format!("@{seconds}"), "+%Y-%m-%dT%H:%M:%SZ"])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn the_admin_api_says_whose_the_previews_are() {
    let (world, controller) = followed().await;
    let admin = world.admin.to_string();
    for call in [put(&admin, "/v1/previews/7", "forks: {}"), delete(&admin, "/v1/previews/42")] {
        let reply = world.ask(call).await;
        assert_eq!(reply.status, 409);
        assert!(reply.text().contains(&format!("the controller at {} owns the previews", controller.url())));
    }
    let listed: Value = serde_json::from_str(world.admin("/v1/previews/42").await.text()).unwrap();
    assert_eq!(listed["source"], "controller");
    assert_eq!(answers(&world, Some("42")).await, "shop-42");
}

#[tokio::test]
async fn certificates_come_and_rotate_under_traffic() {
    let (mut estate, controller) = shop().await;
    estate.config["listeners"] = json!([{"address": "127.0.0.1:0", "tls": {}}]);
    let ca = Ca::new();
    let secret = |name: &str, names: &[&str], hosts: &[&str]| {
        let identity = ca.issue(names);
        controller.set(
            &format!("certificate/{name}"),
            json!({"name": name, "chain": identity.cert, "key": identity.key, "hosts": hosts}),
        );
    };
    let world = controller.gateway(estate).await;
    let dial = async |sni: &str| Conn::tls(world.address(), sni, &["h2", "http/1.1"], ca.roots()).await;
    assert!(dial(D).await.is_err(), "there is none yet");
    secret("shop/wild", &[D, "*.preview.localhost"], &[]);
    assert_eq!(controller.acknowledged().await, Value::Null);
    let mut open = dial(D).await.unwrap();
    open.send(get(D, "/").key("42")).await.came_from("shop-42");
    let first = open.certificate.clone();
    secret("shop/wild", &[D, "*.preview.localhost"], &[]);
    // Preferred for its host, though another one bears the name too.
    secret("shop/zz", &["*.preview.localhost"], &["pr-42.preview.localhost"]);
    assert_eq!(controller.acknowledged().await, Value::Null);
    open.send(get(D, "/")).await.came_from("shop");
    let second = dial(D).await.unwrap().certificate;
    assert_ne!(second, first);
    let wild = dial("x.preview.localhost").await.unwrap().certificate;
    assert_eq!(wild, second);
    assert_ne!(dial("pr-42.preview.localhost").await.unwrap().certificate, wild);
    // A bad one leaves the one before it, and everything else of its version.
    controller
        .set("certificate/shop/wild", json!({"name": "shop/wild", "chain": "nonsense", "key": "secret!"}));
    controller.remove("preview/42");
    assert_eq!(controller.acknowledged().await, Value::Null);
    let mut again = dial(D).await.unwrap();
    assert_eq!(again.certificate, second);
    assert_eq!(again.send(get(D, "/").key("42")).await.code(), "unknown_preview");
    let problems = ready(&world).await.1["controller"]["certificatesWithProblems"].clone();
    assert!(problems["shop/wild"].as_str().unwrap().contains("no certificate"), "{problems}");
    assert!(!world.stderr().iter().any(|line| line.contains("secret!")));
    open.send(get(D, "/")).await.came_from("shop");
    controller.remove("certificate/shop/wild");
    controller.remove("certificate/shop/zz");
    assert_eq!(controller.acknowledged().await, Value::Null);
    assert!(dial(D).await.is_err());
}

#[tokio::test]
async fn the_file_says_the_rest_and_may_change() {
    let (mut world, controller) = followed().await;
    world.estate.config["unknownPreview"] = "baseline".into();
    world.estate.save();
    eventually("the setting is in force", async || answers(&world, Some("9")).await == "shop").await;
    assert_eq!(answers(&world, Some("42")).await, "shop-42", "the table is still the controller's");
    world.estate.config["services"] = json!({"shop": {"baseline": ["127.0.0.1:1"]}});
    world.estate.save();
    eventually("the mistake is told", async || {
        ready(&world).await.1["configuration"]["error"]
            .as_str()
            .is_some_and(|text| text.contains("`services`"))
    })
    .await;
    assert_eq!(answers(&world, Some("42")).await, "shop-42");
    controller.remove("preview/42");
    assert_eq!(controller.acknowledged().await, Value::Null);
    assert_eq!(answers(&world, Some("42")).await, "shop");
}

#[tokio::test]
async fn two_owners_are_refused() {
    let (mut estate, controller) = shop().await;
    estate.config["previewsDir"] = "previews.d".into();
    estate.save();
    let file = estate.file().to_str().unwrap().to_owned();
    let mut arguments = vec!["gateway".to_owned(), "-c".to_owned(), file.clone()];
    arguments.extend(controller.arguments());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // `Estate::new` writes `services`, `routes` and `previews` that are empty, which says nothing.
    let output = run(&estate.folder(), &arguments).await;
    assert_eq!(output.code, 64, "{output:?}");
    assert!(output.stderr.contains("`previewsDir` is the controller's to say"), "{output:?}");
    for (url, said) in [("http://10.0.0.1:1", "is in clear"), ("x:1", "has another scheme")] {
        let output = run(&estate.folder(), &["gateway", "-c", &file, "--controller", url]).await;
        assert_eq!(output.code, 64, "{output:?}");
        assert!(output.stderr.contains(said), "{output:?}");
    }
}
