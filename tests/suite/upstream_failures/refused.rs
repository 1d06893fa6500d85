//! Requests that an upstream does not read to their end, and upstreams that can't be reached or proven at all.

use serde_json::{Value, json};
use sidetrack_tests::{Ca, Estate, Raw, RawUpstream, Refused, Upstream, Wire, get, post};

use super::{CLIENTS, End, Plan, beside, host};
use crate::D;

/// An upstream that reads so many bytes of what the next connection brings, and ends it.
async fn reading(plan: Plan<(usize, Option<End>)>) -> RawUpstream {
    RawUpstream::start(move |mut raw: Raw, _| {
        let plan = plan.clone();
        async move {
            let (bytes, end) = *plan.lock().unwrap();
            let _ = raw.exactly(bytes).await;
            if let Some(end) = end {
                end.of(raw).await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_request_that_is_not_read_to_its_end() {
    let plan: Plan<(usize, Option<End>)> = Plan::default();
    let upstream = reading(plan.clone()).await;
    let world = beside(&[
        ("deaf1", upstream.endpoint(), json!({})),
        ("deaf2", upstream.endpoint(), json!({"protocol": "h2c"})),
    ])
    .await;
    for service in ["deaf1", "deaf2"] {
        for client in CLIENTS {
            for bytes in [0, 1, 20, 24, 33, 60, 100, 400, 1000, 20_000] {
                // Dropped with bytes unread it is a reset too, as of a process that was killed.
                for end in [Some(End::Reset), None] {
                    *plan.lock().unwrap() = (bytes, end);
                    let what = format!("{service} {client:?} {bytes} {end:?}");
                    let mut conn = client.connect(&world).await;
                    let reply = conn.try_send(post(&host(service), "/", vec![b'x'; 200_000])).await;
                    let reply = reply.unwrap_or_else(|error| panic!("{what}: {error}"));
                    assert_eq!(reply.code(), "upstream_unavailable", "{what}: {reply:?}");
                    // 503: no byte was written, but for what HTTP/2 begins with; 502: it may have been done.
                    let is_unwritten = bytes == 0 || (service == "deaf2" && bytes <= 33);
                    assert!(
                        reply.status == 502 || (reply.status == 503 && is_unwritten),
                        "{what}: {reply:?}"
                    );
                    client.goes_on(&world, &mut conn, &what).await;
                }
            }
        }
    }
}

#[tokio::test]
async fn certificates_that_prove_nothing() {
    let (ca, stranger) = (Ca::new(), Ca::new());
    let name = &["inner.test"][..];
    let mut estate = Estate::standard().await;
    estate.write("inner.pem", &ca.pem);
    let identities = [
        ("expired", ca.issue_for_years(name, 2020, 2021)),
        ("early", ca.issue_for_years(name, 2090, 2091)),
        ("misnamed", ca.issue(&["other.test"])),
        ("foreign", stranger.issue(name)),
        ("good", ca.issue(name)),
    ];
    let mut services = Vec::new();
    for (fault, identity) in identities {
        for (version, wire) in [("1", Wire::Https(identity.clone())), ("2", Wire::H2(identity.clone()))] {
            let service = format!("{fault}{version}");
            estate.baseline_on(&service, wire).await;
            estate.config["services"][&service]["tls"] =
                json!({"caFile": "inner.pem", "serverName": "inner.test"});
            estate.route(&host(&service), "/", &service);
            services.push(service);
        }
    }
    let world = estate.start().await;
    for client in CLIENTS {
        let mut conn = client.connect(&world).await;
        for service in &services {
            let reply = conn.send(get(&host(service), "/")).await;
            match service.starts_with("good") {
                true => reply.came_from(service),
                false => {
                    reply.failed(503, "upstream_unavailable");
                    assert!(
                        reply.text().contains("certificate"),
                        "{service}: it is said why: {}",
                        reply.text()
                    );
                    assert_eq!(world.of(service).count(), 0, "{service}: not a byte of a request went there");
                }
            }
            client.goes_on(&world, &mut conn, service).await;
        }
    }
}

#[tokio::test]
async fn nobody_there() {
    let refused = Refused::new();
    let mut estate = Estate::standard().await;
    let (mut one, mut other) = (Upstream::start("one").await, Upstream::start("other").await);
    for (service, baseline) in [
        ("refused1", json!([refused.address.to_string()])),
        ("refused2", json!([refused.address.to_string()])),
        ("pair", json!([one.endpoint(), other.endpoint()])),
    ] {
        estate.service(service, json!({"baseline": baseline}));
        estate.route(&host(service), "/", service);
    }
    estate.config["services"]["refused2"]["protocol"] = "h2c".into();
    estate.preview("9")["forks"]["shop"] = Value::Array(Vec::new());
    estate.config["workers"] = json!(1);
    let world = estate.start().await;
    one.stop().await;
    other.stop().await;
    for client in CLIENTS {
        let mut conn = client.connect(&world).await;
        for service in ["refused1", "refused2", "pair"] {
            // More often than what ejects an endpoint.
            for _ in 0..5 {
                conn.send(get(&host(service), "/")).await.failed(503, "upstream_unavailable");
            }
            client.goes_on(&world, &mut conn, service).await;
        }
        conn.send(get(D, "/").key("9")).await.failed(503, "fork_unavailable");
        client.goes_on(&world, &mut conn, "no endpoint").await;
    }
    // Both have failed often enough to be ejected, and one of them is. Where nothing else is left, it is tried all the same.
    for (up, name) in [(&mut one, "one"), (&mut other, "other")] {
        up.resume().await;
        for _ in 0..3 {
            world.send(get(&host("pair"), "/")).await.came_from(name);
        }
        up.stop().await;
    }
}
