//! A TLS connection that breaks off: in its handshake, in the answer, between them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;
use sidetrack_tests::{Ca, Estate, RawUpstream, Wire, get};
use tokio::io::{AsyncReadExt, copy};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::{CLIENTS, host};

/// Stands before a TLS server, lets so many bytes of it through, and ends the connection; one that idles ends with the
/// next number. Counts what it lets through.
async fn relay(to: SocketAddr, most: watch::Receiver<u64>, through: Arc<AtomicU64>) -> RawUpstream {
    RawUpstream::start(move |raw, _| {
        let (mut most, through) = (most.clone(), through.clone());
        async move {
            let limit = *most.borrow_and_update();
            let (mut near, mut far) = (raw.into_stream(), TcpStream::connect(to).await.unwrap());
            let ((mut from_near, mut to_near), (from_far, mut to_far)) = (near.split(), far.split());
            let mut from_far = from_far.take(limit);
            let down = async {
                let mut bytes = vec![0; 1 << 14];
                while let Ok(count @ 1..) = from_far.read(&mut bytes).await {
                    through.fetch_add(count as u64, Ordering::SeqCst);
                    if copy(&mut &bytes[..count], &mut to_near).await.is_err() {
                        break;
                    }
                }
            };
            tokio::select! {
                () = down => {}
                _ = copy(&mut from_near, &mut to_far) => {}
                _ = most.changed() => {}
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_tls_connection_that_breaks_off_anywhere() {
    /// From cut to cut; no multiple of anything in TLS or HTTP.
    const STEP: usize = 29;
    let ca = Ca::new();
    let mut estate = Estate::standard().await;
    estate.write("inner.pem", &ca.pem);
    let identity = ca.issue(&["inner.test"]);
    let (most, through) = (watch::Sender::new(u64::MAX), Arc::new(AtomicU64::new(0)));
    let mut relays = Vec::new();
    for (name, wire) in [("https", Wire::Https(identity.clone())), ("h2", Wire::H2(identity))] {
        estate.upstream_on(name, wire).await;
        let relay = relay(estate.of(name).address, most.subscribe(), through.clone()).await;
        estate.service(
            name,
            json!({
                "baseline": [relay.endpoint()],
                "protocol": name,
                "tls": {"caFile": "inner.pem", "serverName": "inner.test"},
            }),
        );
        estate.route(&host(name), "/", name);
        relays.push(relay);
    }
    estate.config["workers"] = json!(1);
    // None is kept: each request meets a handshake of its own.
    estate.config["limits"] = json!({"upstreamIdleConnections": 0});
    let world = estate.start().await;
    for name in ["https", "h2"] {
        let ask = || get(&host(name), "/").act("bytes 300");
        most.send_replace(u64::MAX);
        let before = through.load(Ordering::SeqCst);
        assert_eq!(world.send(ask()).await.body.len(), 300);
        let whole = usize::try_from(through.load(Ordering::SeqCst) - before).unwrap();
        assert!(whole > 1000, "a handshake is among it: {whole}");
        let mut told = std::collections::BTreeSet::new();
        for client in CLIENTS {
            let mut conn = client.connect(&world).await;
            for after in (0..whole).step_by(STEP) {
                most.send_replace(after as u64);
                let what = format!("{name} {client:?} {after} of {whole}");
                match conn.try_send(ask()).await {
                    // What is missing may be of the connection and not of the answer.
                    Ok(reply) if reply.status == 200 => assert_eq!(reply.body.len(), 300, "{what}"),
                    Ok(reply) => {
                        assert_eq!(reply.code(), "upstream_unavailable", "{what}: {reply:?}");
                        told.insert(reply.status);
                    }
                    Err(_) => assert!(after > whole / 2, "{what}: there was a status to tell"),
                }
                client.goes_on(&world, &mut conn, &what).await;
            }
        }
        assert_eq!(
            told.into_iter().collect::<Vec<_>>(),
            [502, 503],
            "before the handshake was through, and after"
        );
    }
}
