//! The development CA, and who may read what.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use sidetrack_tests::{Conn, Estate, Process, World, get, roots_of};

use super::killed::Dice;
use super::{kept, preview, set};
use crate::D;

async fn with_authority() -> Estate {
    let mut estate = kept().await;
    estate.config["listeners"] = json!([{"address": "127.0.0.1:0", "tls": {"selfSigned": {"names": [D]}}}]);
    estate
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// A kill while the CA is made leaves a whole one, or what the next start makes one of.
#[tokio::test]
async fn never_half_an_authority() {
    let mut dice = Dice::new();
    let mut estate = with_authority().await;
    estate.save();
    let state = estate.folder().join("state");
    let mut unfinished = 0;
    for round in 0..12 {
        let file = estate.file();
        let mut process = Process::start(&["gateway", "-c", file.to_str().unwrap()], &estate.folder(), &[]);
        let deadline = Instant::now() + Duration::from_secs(20);
        // One of the steps, and an instant after it: that is what this is about.
        let step = ["ca.lock", "ca.key", "ca.pem"][dice.below(3) as usize];
        while !state.join(step).exists() && Instant::now() < deadline {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_micros(dice.below(3000))).await;
        process.kill();
        let (key, certificate) = (fs::read(state.join("ca.key")).ok(), fs::read(state.join("ca.pem")).ok());
        assert!(key.is_some() || certificate.is_none(), "round {round}: a certificate without its key");
        unfinished += usize::from(certificate.is_none());
        let World { estate: same, mut gateway } = estate.start().await;
        let now = fs::read_to_string(state.join("ca.pem")).unwrap();
        assert!(
            key.is_none_or(|key| key == fs::read(state.join("ca.key")).unwrap()),
            "round {round}: the key stays"
        );
        assert!(
            certificate.is_none_or(|before| before == now.as_bytes()),
            "round {round}: what was there stays"
        );
        let mut conn = Conn::tls(gateway.address(), D, &["h2"], roots_of(&now)).await.unwrap();
        conn.send(get(D, "/")).await.came_from("shop");
        // A dot-file is of another writer, and goes when it is older.
        let names = super::names(&state).into_iter().filter(|name| !name.starts_with('.'));
        let expected = ["ca.key", "ca.lock", "ca.pem", "context.key", "previews.jsonl"];
        assert_eq!(names.collect::<Vec<_>>(), expected, "round {round}");
        gateway.kill();
        estate = same;
        fs::remove_dir_all(&state).unwrap();
    }
    println!("{unfinished} of 12 kills came before the certificate");
}

#[tokio::test]
async fn who_may_read_what() {
    let mut estate = kept().await;
    let endpoint = estate.of("checkout-42").endpoint();
    let (state, folder) = (estate.folder().join("state"), estate.folder().join("previews.d"));
    let World { estate: same, gateway } = estate.start().await;
    estate = same;
    assert_eq!(mode(&state), 0o700, "stateDir is the gateway's own");
    // A file that somebody else has made stays as open, or closed, as it was.
    let file = folder.join("42.yaml");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(set(&gateway, "42", preview(&endpoint)).await.status, 200);
    assert_eq!(mode(&file), 0o640);
    assert_eq!(set(&gateway, "43", preview(&endpoint)).await.status, 201);
    assert_eq!(mode(&folder.join("43.yaml")) & 0o111, 0);
    drop(gateway);
    fs::remove_dir_all(&state).unwrap();
    estate.config["listeners"] = with_authority().await.config["listeners"].take();
    let _world = estate.start().await;
    assert_eq!(
        (mode(&state), mode(&state.join("ca.key")), mode(&state.join("ca.pem"))),
        (0o700, 0o600, 0o644)
    );
}
