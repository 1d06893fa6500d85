//! Servers that speak first though their clients speak HTTP/2: gRPC servers say their settings as soon as a connection is
//! there, long before the preface of a client that is a network away.

use std::time::Duration;

use serde_json::json;
use sidetrack_tests::{Conn, Estate, Frame, Frames, Gateway, Raw, RawUpstream, Wire, free_port, get};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use super::{INBOUND, sidecar};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What an app has met.
#[derive(Debug, PartialEq, Eq)]
enum Met {
    /// It has said its settings.
    Greeted,
    /// This came first; `None`: the end.
    First(Option<Vec<u8>>),
}

/// An app that says its settings at once, byte by byte, and answers requests.
async fn app() -> (RawUpstream, UnboundedReceiver<Met>) {
    let (tell, met) = unbounded_channel();
    let app = RawUpstream::start(move |mut raw: Raw, _| {
        let tell = tell.clone();
        async move {
            for byte in Frame::bytes(Frame::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]) {
                raw.write([byte]).await;
            }
            let _ = tell.send(Met::Greeted);
            let first = raw.exactly(PREFACE.len()).await;
            let is_client = first.is_some();
            let _ = tell.send(Met::First(first));
            let mut frames = Frames::from(raw);
            while let Some(head) = frames.next_of(Frame::HEADERS).await.filter(|_| is_client) {
                frames.answer(head.stream, "the app").await;
            }
        }
    })
    .await;
    (app, met)
}

/// The sidecar of a pod of the baseline, in front of `app`.
async fn before(app: &RawUpstream) -> (Estate, Gateway) {
    let mut estate = Estate::new();
    let fork = estate.upstream_on("checkout-42", Wire::H2c).await;
    estate.service("checkout", json!({"baseline": ["127.0.0.1:1"], "protocol": "h2c"}));
    estate.service("payment", json!({"baseline": ["127.0.0.1:1"]}));
    *estate.preview("42") = json!({"forks": {"checkout": [fork]}});
    let door = ([127, 0, 0, 1], free_port()).into();
    let sidecar = sidecar(&mut estate, door, &app.endpoint(), None).await;
    (estate, sidecar)
}

async fn text(frames: &mut Frames) -> String {
    String::from_utf8(frames.next_of(Frame::DATA).await.unwrap().payload).unwrap()
}

#[tokio::test]
async fn the_settings_of_a_server_decide_nothing() {
    let (app, mut met) = app().await;
    let (estate, sidecar) = before(&app).await;
    let mut raw = Raw::connect(sidecar.listeners[INBOUND]).await;
    assert_eq!(met.recv().await, Some(Met::Greeted));
    // That nothing comes is all that can be seen of it.
    assert!(timeout(Duration::from_millis(300), raw.exactly(1)).await.is_err(), "the settings were passed");
    let mut frames = Frames::open(raw, &[]).await;
    frames.get(1, "checkout", "/", &[("x-pr-id", "42")]).await;
    frames.next_of(Frame::DATA).await.unwrap();
    assert_eq!(estate.of("checkout-42").count(), 1);
    frames.get(3, "checkout", "/", &[]).await;
    assert_eq!(text(&mut frames).await, "the app");
    // The connection that was opened meanwhile serves it.
    assert_eq!((app.connections(), met.recv().await), (1, Some(Met::First(Some(PREFACE.to_vec())))));
    // So it does the next client, and a client of the older version.
    let mut other = Frames::open(Raw::connect(sidecar.listeners[INBOUND]).await, &[]).await;
    other.get(1, "checkout", "/", &[]).await;
    assert_eq!(text(&mut other).await, "the app");
    let mut old = Conn::http1(sidecar.listeners[INBOUND]).await.unwrap();
    old.send(get("checkout", "/").key("42")).await.came_from("checkout-42");
    assert_eq!(sidecar.metrics().await.sum("sidetrack_opaque_connections_total", &[]), 0.0);
}

#[tokio::test]
async fn a_client_that_speaks_something_else_is_passed_all_the_same() {
    let (app, mut met) = app().await;
    let (_estate, sidecar) = before(&app).await;
    let mut raw = Raw::connect(sidecar.listeners[INBOUND]).await;
    assert_eq!(met.recv().await, Some(Met::Greeted));
    let said = b"\x16\x03\x01 more bytes than a preface has";
    raw.write(said).await;
    assert_eq!(raw.exactly(9).await.unwrap()[3], Frame::SETTINGS, "what was looked at is passed");
    assert_eq!(met.recv().await, Some(Met::First(Some(said[..PREFACE.len()].to_vec()))));
}

#[tokio::test]
async fn a_greeting_that_only_begins_like_settings_is_passed() {
    for (said, ends) in [(&[0][..], false), (&[0, 0], true), (&[0, 0, 6, 4, 1, 0, 0, 0, 0], false)] {
        let app = RawUpstream::start(move |mut raw: Raw, _| async move {
            raw.write(said).await;
            if ends {
                raw.finish().await;
            }
            raw.rest().await;
        })
        .await;
        let (_estate, sidecar) = before(&app).await;
        let mut raw = Raw::connect(sidecar.listeners[INBOUND]).await;
        assert_eq!(raw.exactly(said.len()).await.as_deref(), Some(said), "{said:?} {ends}");
        if ends {
            assert_eq!(raw.rest().await, "");
        }
    }
}
