//! The commands, run as a user runs them.

use serde_json::{Value, json};
use sidetrack_tests::{Estate, World, get, run};

use crate::D;

#[tokio::test]
async fn check_a_good_file() {
    let estate = Estate::standard().await;
    estate.save();
    // Its listener's port is taken, so whoever opens a socket fails.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut fixed = estate.config.clone();
    fixed["listeners"][0]["address"] = taken.local_addr().unwrap().to_string().into();
    estate.write("fixed.yaml", fixed.to_string());
    for file in ["sidetrack.yaml", "fixed.yaml"] {
        let output = run(&estate.folder(), &["check", "-c", file]).await;
        assert_eq!(output.code, 0, "{output:?}");
    }
}

const BAD: &str = "services:\n  shop:\n    baseline: [127.0.0.1:99999]\n    protocl: http1\nroutes:\n  - {host: a.test, service: shpo}\n";

#[tokio::test]
async fn a_bad_file_is_refused_with_every_problem_at_once() {
    let estate = Estate::standard().await;
    estate.write("bad.yaml", BAD);
    for command in ["check", "gateway"] {
        let output = run(&estate.folder(), &[command, "-c", "bad.yaml"]).await;
        assert_eq!(output.code, 64, "{output:?}");
        for part in ["bad.yaml:3:", "99999", "bad.yaml:4:5", "protocl", "protocol", "bad.yaml:6:", "shpo"] {
            assert!(output.stderr.contains(part), "{command}: {part} in {}", output.stderr);
        }
        assert!(!output.stderr.contains("listening"), "{}", output.stderr);
    }
    let missing = run(&estate.folder(), &["check", "-c", "missing.yaml"]).await;
    assert_eq!(missing.code, 64, "{missing:?}");
    assert!(missing.stderr.contains("missing.yaml"), "{missing:?}");
}

#[tokio::test]
async fn an_open_door_is_warned_of() {
    let mut estate = Estate::standard().await;
    estate.config["listeners"][0]["address"] = "0.0.0.0:0".into();
    estate.save();
    let open = run(&estate.folder(), &["check", "-c", "sidetrack.yaml"]).await;
    assert_eq!(open.code, 0, "{open:?}");
    assert!(format!("{}{}", open.stdout, open.stderr).contains("access"), "{open:?}");
    estate.config["access"] = json!({"allow": ["127.0.0.0/8"]});
    estate.save();
    let closed = run(&estate.folder(), &["check", "-c", "sidetrack.yaml"]).await;
    assert!(!closed.stderr.to_lowercase().contains("warn"), "{closed:?}");
}

#[tokio::test]
async fn schema() {
    let folder = std::env::temp_dir();
    let output = run(&folder, &["schema"]).await;
    assert_eq!(output.code, 0, "{output:?}");
    let schema: Value = serde_json::from_str(&output.stdout).unwrap();
    for field in ["listeners", "services", "routes", "previews", "previewsDir", "unknownPreview", "limits"] {
        assert!(schema["properties"][field].is_object(), "{field}");
    }
    assert_eq!(schema["additionalProperties"], false, "unknown keys are refused");
}

#[tokio::test]
async fn explain_for_people_and_for_programs() {
    let world = World::standard().await;
    let url = "http://pr-42.preview.localhost/api/checkout";
    let output = world.command(&["explain", url]).await;
    assert_eq!(output.code, 0, "{output:?}");
    let endpoint = world.of("checkout-42").endpoint();
    for part in ["42", "host", "checkout", "fork", endpoint.as_str()] {
        assert!(output.stdout.contains(part), "{part} in {}", output.stdout);
    }
    let said = world.explain(url, &[]).await;
    let generation = world.generation().await as u64;
    for (field, value) in [
        ("keys", json!(["42"])),
        ("carrier", json!("host")),
        ("service", json!("checkout")),
        ("target", json!("fork")),
        ("reason", json!("fork")),
        ("endpoint", json!(endpoint)),
        ("generation", json!(generation)),
    ] {
        assert_eq!(said[field], value, "{field} in {said:#}");
    }
    let header = world.explain("http://preview.localhost/api/checkout", &["X-PR-ID: 42"]).await;
    assert_eq!(header["carrier"], "header");
    assert_eq!(world.of("checkout-42").count(), 0, "explaining sends nothing");
}

#[tokio::test]
async fn nobody_to_ask() {
    let refused = sidetrack_tests::Refused::new();
    let admin = refused.address.to_string();
    let folder = std::env::temp_dir();
    for arguments in [vec!["explain", "http://a.test/"], vec!["preview", "ls"]] {
        let output = run(&folder, &[arguments.as_slice(), &["--admin", &admin]].concat()).await;
        assert!(output.code > 0, "{output:?}");
        assert!(output.stderr.contains(&admin), "who was asked: {}", output.stderr);
    }
}

#[tokio::test]
async fn previews_from_the_command_line() {
    let mut estate = Estate::standard().await;
    estate.config["previewsDir"] = "previews.d".into();
    std::fs::create_dir(estate.folder().join("previews.d")).unwrap();
    let (one, two) = (estate.upstream("one").await, estate.upstream("two").await);
    let world = estate.start().await;
    let set =
        world.command(&["preview", "set", "pr-7", &format!("checkout={one}"), &format!("shop={two}")]).await;
    assert_eq!(set.code, 0, "{set:?}");
    world.send(get(D, "/api/checkout").key("7")).await.came_from("one");
    world.send(get(D, "/").key("7")).await.came_from("two");
    let listed = world.command(&["preview", "ls"]).await;
    assert_eq!(listed.code, 0, "{listed:?}");
    for part in ["7", "42", "57", "checkout", "shop"] {
        assert!(listed.stdout.contains(part), "{part} in {}", listed.stdout);
    }
    let bad = world.command(&["preview", "set", "8", &format!("nowhere={one}")]).await;
    assert!(bad.code > 0 && bad.stderr.contains("nowhere"), "{bad:?}");
    let main_file = world.command(&["preview", "rm", "42"]).await;
    assert!(main_file.code > 0, "{main_file:?}");
    let removed = world.command(&["preview", "rm", "7"]).await;
    assert_eq!(removed.code, 0, "{removed:?}");
    assert_ne!(world.send(get(D, "/api/checkout").key("7")).await.status, 200);
    assert!(!world.estate.folder().join("previews.d/7.yaml").exists());
    assert!(world.command(&["preview", "rm", "7"]).await.code > 0, "it is gone already");
}

#[tokio::test]
async fn help_and_completions() {
    let folder = std::env::temp_dir();
    let help = run(&folder, &["--help"]).await;
    assert_eq!(help.code, 0, "{help:?}");
    for command in ["demo", "gateway", "check", "schema", "explain", "preview", "wait", "completions"] {
        assert!(help.stdout.contains(command), "{command} in {}", help.stdout);
        let help = run(&folder, &[command, "--help"]).await;
        assert_eq!(help.code, 0, "{command}: {help:?}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&folder, &["completions", shell]).await;
        assert_eq!(script.code, 0, "{script:?}");
        assert!(script.stdout.contains("explain"), "{shell}");
    }
    let version = run(&folder, &["--version"]).await;
    assert_eq!(version.stdout.trim(), format!("sidetrack {}", env!("CARGO_PKG_VERSION")));
    assert_eq!(run(&folder, &["nonsense"]).await.code, 2);
}

#[tokio::test]
async fn the_demo_checks_itself() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &["demo", "--check"]).await;
    assert_eq!(output.code, 0, "{output:?}");
    for part in ["pr-42", "reason=fork", "https://"] {
        assert!(output.stdout.contains(part), "{part} in {}", output.stdout);
    }
}
