//! SIGKILL at any instant: what was acknowledged is in force after it, and nothing of it hinders the next start.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::json;
use sidetrack_tests::{Conn, Estate, Gateway, World, delete, eventually, get, put};

use super::{kept, known, names, preview, set, unset};
use crate::D;

/// Numbers that look random and are the same again with the same seed.
pub(super) struct Dice(u64);

impl Dice {
    /// With a seed that is said, so that a failure can be had again.
    pub(super) fn new() -> Self {
        let seed = RandomState::new().hash_one(0) | 1;
        println!("seed {seed}");
        Self(seed)
    }

    pub(super) fn below(&mut self, most: u64) -> u64 {
        // Xorshift.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % most
    }
}

/// The endpoint that a preview has, as a port; `None`: there is no preview.
type Version = Option<u16>;

/// What a client knows of its keys: what was acknowledged, and what it asked for without hearing more.
#[derive(Default)]
struct Client {
    acknowledged: BTreeMap<String, Version>,
    asked: Option<(String, Version)>,
    answers: usize,
}

impl Client {
    fn new(number: usize) -> Self {
        Self {
            acknowledged: (0..4).map(|key| (format!("c{number}-{key}"), None)).collect(),
            ..Self::default()
        }
    }

    /// Sets and removes previews, as fast as it is answered, until nobody answers.
    async fn work(&mut self, gateway: std::net::SocketAddr, mut dice: Dice) {
        let host = gateway.to_string();
        let Ok(mut conn) = Conn::http1(gateway).await else { return };
        loop {
            let key = self.acknowledged.keys().nth(dice.below(4) as usize).unwrap().clone();
            let removes = self.acknowledged[&key].is_some() && dice.below(3) == 0;
            let version = (!removes).then(|| 1 + dice.below(65_000) as u16);
            let path = format!("/v1/previews/{key}");
            let call = match version {
                Some(port) => put(&host, &path, preview(&format!("127.0.0.1:{port}")).to_string()),
                None => delete(&host, &path),
            };
            self.asked = Some((key.clone(), version));
            let Ok(reply) = conn.try_send(call).await else { return };
            assert!([200, 201].contains(&reply.status), "{reply:?}");
            self.acknowledged.insert(key, version);
            self.asked = None;
            self.answers += 1;
        }
    }

    /// Whether `key` may be at `version`; from now on it is known to be.
    fn finds(&mut self, key: &str, version: Version) -> bool {
        let asked = self.asked.as_ref().is_some_and(|(asked, to)| asked == key && *to == version);
        let before = self.acknowledged.insert(key.to_owned(), version);
        asked || before == Some(version)
    }
}

/// Every preview of the table, with its version.
async fn in_force(gateway: &Gateway) -> BTreeMap<String, u16> {
    let said = gateway.admin("/v1/previews").await.json();
    assert_eq!(said["problems"], json!({}), "nothing refuses to load");
    let port = |preview: &serde_json::Value| {
        let address = preview["forks"]["checkout"][0]["address"].as_str().unwrap();
        address.rsplit(':').next().unwrap().parse().unwrap()
    };
    let previews = said["previews"].as_array().unwrap().iter();
    previews.map(|one| (one["key"].as_str().unwrap().to_owned(), port(one))).collect()
}

/// What was being written when it was killed.
fn left(folder: &Path) -> Vec<String> {
    names(folder).into_iter().filter(|name| name.starts_with('.')).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_acknowledged_is_lost() {
    const ROUNDS: usize = 30;
    let mut dice = Dice::new();
    let mut estate = kept().await;
    for key in ["42", "57"] {
        fs::remove_file(estate.folder().join(format!("previews.d/{key}.yaml"))).unwrap();
    }
    let folders = [estate.folder().join("previews.d"), estate.folder().join("state")];
    let mut clients: Vec<Client> = (0..3).map(Client::new).collect();
    let mut interrupted = 0;
    for round in 0..ROUNDS {
        let World { estate: same, mut gateway } = estate.start().await;
        estate = same;
        let now = in_force(&gateway).await;
        for client in &mut clients {
            let keys: Vec<String> = client.acknowledged.keys().cloned().collect();
            for key in keys {
                let found = now.get(&key).copied();
                let said = (client.acknowledged[&key], client.asked.clone());
                assert!(client.finds(&key, found), "round {round}: {key} is at {found:?}, not {said:?}");
            }
            client.asked = None;
        }
        let admin = gateway.admin;
        let working = clients.into_iter().map(|mut client| {
            let dice = Dice(dice.below(u64::MAX) | 1);
            tokio::spawn(async move {
                client.work(admin, dice).await;
                client
            })
        });
        let working: Vec<_> = working.collect();
        // The instant of the kill is what this is about.
        tokio::time::sleep(Duration::from_micros(dice.below(200_000))).await;
        gateway.kill();
        clients = Vec::new();
        for client in working {
            clients.push(client.await.unwrap());
        }
        interrupted += clients.iter().filter(|client| client.asked.is_some()).count();
    }
    let answers: usize = clients.iter().map(|client| client.answers).sum();
    println!("{answers} answers, {interrupted} requests hit by {ROUNDS} kills");
    assert!(answers > 0 && interrupted > 0);
    // What kills have left is of one file each at most, and goes once nobody can be at it any more.
    for folder in &folders {
        let left = left(folder);
        assert!(left.len() <= ROUNDS, "{left:?}");
        for name in left {
            let file = File::options().write(true).open(folder.join(name)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
        }
    }
    let world = estate.start().await;
    in_force(&world).await;
    for folder in &folders {
        assert_eq!(left(folder), [""; 0], "{}", folder.display());
    }
}

/// When the preview 9 ends.
async fn end(gateway: &Gateway) -> String {
    known(gateway, "9").await["expires"].as_str().unwrap_or_default().to_owned()
}

/// A preview that had ended was put again and acknowledged: it has the life of the second, after a kill too.
#[tokio::test]
async fn a_second_life_survives() {
    let estate = kept().await;
    let endpoint = estate.of("checkout-42").endpoint();
    let timed = |ttl: &str| json!({"forks": {"checkout": [endpoint]}, "ttl": ttl});
    let World { estate, mut gateway } = estate.start().await;
    assert_eq!(set(&gateway, "9", timed("1s")).await.status, 201);
    let keyed = || get(D, "/api/checkout").key("9");
    eventually("it has ended", async || gateway.send(keyed()).await.status == 410).await;
    // With an alias that is another's it can't come back, and has ended still after a restart.
    let mine = || json!({"forks": {}, "aliases": ["mine"]});
    assert_eq!(set(&gateway, "10", mine()).await.status, 201);
    assert_eq!(set(&gateway, "9", mine()).await.status, 409);
    assert_eq!(set(&gateway, "11", json!({"forks": {}})).await.status, 201, "which has all saved");
    gateway.kill();
    let World { estate, mut gateway } = estate.start().await;
    gateway.send(keyed()).await.failed(410, "preview_expired");
    assert_eq!(set(&gateway, "9", timed("1h")).await.status, 201);
    let promised = end(&gateway).await;
    gateway.kill();
    let world = estate.start().await;
    world.send(keyed()).await.came_from("checkout-42");
    assert_eq!(end(&world).await, promised);
}

/// A preview whose file went while no gateway looked is gone, and begins a new life when it comes again.
#[tokio::test]
async fn who_went_meanwhile_begins_anew() {
    let estate = kept().await;
    let mut timed = preview(&estate.of("checkout-42").endpoint());
    timed["ttl"] = "1h".into();
    estate.write("previews.d/9.yaml", timed.to_string());
    let World { estate, mut gateway } = estate.start().await;
    let first = end(&gateway).await;
    gateway.kill();
    let World { estate, mut gateway } = estate.start().await;
    assert_eq!(end(&gateway).await, first, "a restart prolongs nothing");
    gateway.kill();
    fs::remove_file(estate.folder().join("previews.d/9.yaml")).unwrap();
    let world = estate.start().await;
    world.send(get(D, "/api/checkout").key("9")).await.failed(410, "preview_expired");
    world.estate.write("previews.d/9.yaml", timed.to_string());
    eventually("it is there again", async || !end(&world).await.is_empty()).await;
    assert!(end(&world).await > first, "{first}");
}

/// An answered DELETE is final, for a file that another has written too.
#[tokio::test]
async fn who_was_removed_stays_away() {
    let World { estate, mut gateway } = kept().await.start().await;
    assert_eq!(unset(&gateway, "42").await.status, 200);
    gateway.kill();
    let world: World = Estate::start(estate).await;
    world.send(get(D, "/api/checkout").key("42")).await.failed(410, "preview_expired");
    world.send(get(D, "/").key("57")).await.came_from("shop-57");
}
