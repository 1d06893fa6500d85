//! TLS: which certificate, which protocol, reload without a drop, and the development authority.

use std::fs;

use hyper::Version;
use rcgen::PKCS_RSA_SHA256;
use rustls::version::{TLS12, TLS13};
use serde_json::json;
use sidetrack_tests::{Ca, Conn, Estate, Roots, World, eventually, get};

use crate::D;

const BOTH: &[&str] = &["h2", "http/1.1"];

/// A listener with three certificates: one exact, one wildcard, and the first, for everything else.
async fn certified() -> (World, Ca) {
    let ca = Ca::new();
    let mut estate = Estate::standard().await;
    ca.issue(&["first.test", "preview.localhost"]).write(&estate.folder(), "first");
    ca.issue(&["*.preview.localhost"]).write(&estate.folder(), "wild");
    ca.issue_with(&["checkout.preview.localhost"], &PKCS_RSA_SHA256).write(&estate.folder(), "exact");
    let files = |name: &str| json!({"certFile": format!("{name}.crt"), "keyFile": format!("{name}.key")});
    estate.config["listeners"] = json!([{"address": "127.0.0.1:0", "tls": {"certificates": [files("first"), files("wild"), files("exact")]}}]);
    (estate.start().await, ca)
}

async fn connect(world: &World, sni: &str, alpn: &[&str], roots: Roots) -> std::io::Result<Conn> {
    Conn::tls(world.address(), sni, alpn, roots).await
}

/// Whether a certificate, as DER, is for `name`.
fn is_for(conn: &Conn, name: &str) -> bool {
    let der = conn.certificate.as_ref().unwrap();
    der.windows(name.len()).any(|window| window == name.as_bytes())
}

#[tokio::test]
async fn the_certificate_is_picked_by_name() {
    let (world, ca) = certified().await;
    for (sni, name) in [
        ("checkout.preview.localhost", "checkout.preview.localhost"),
        ("pr-42.preview.localhost", "*.preview.localhost"),
        ("Pr-42.Preview.LOCALHOST", "*.preview.localhost"),
        ("preview.localhost", "first.test"),
    ] {
        let conn = connect(&world, sni, BOTH, ca.roots()).await.unwrap();
        assert!(is_for(&conn, name), "{sni}");
        assert!(name == "first.test" || !is_for(&conn, "first.test"), "{sni}");
    }
    // A wildcard covers one label. The first certificate is shown, and rightly refused by the client.
    for sni in ["a.b.preview.localhost", "elsewhere.test"] {
        assert!(connect(&world, sni, BOTH, ca.roots()).await.is_err(), "{sni}");
    }
}

#[tokio::test]
async fn the_protocol_is_negotiated() {
    let (world, ca) = certified().await;
    for (alpn, version) in [
        (BOTH, Version::HTTP_2),
        (&["http/1.1"][..], Version::HTTP_11),
        (&["h2"][..], Version::HTTP_2),
        (&[][..], Version::HTTP_11),
    ] {
        let mut conn = connect(&world, "pr-42.preview.localhost", alpn, ca.roots()).await.unwrap();
        assert_eq!(conn.version(), version, "{alpn:?}");
        let reply = conn.send(get("pr-42.preview.localhost", "/api/checkout")).await;
        reply.came_from("checkout-42");
        assert_eq!(reply.echo().header("x-forwarded-proto"), Some("https"));
    }
    let nothing_in_common = connect(&world, D, &["spdy/3"], ca.roots()).await;
    assert!(nothing_in_common.is_err(), "RFC 7301: no_application_protocol");
}

#[tokio::test]
async fn a_coalesced_connection_is_routed_by_authority() {
    let (world, ca) = certified().await;
    let mut conn = connect(&world, "pr-42.preview.localhost", BOTH, ca.roots()).await.unwrap();
    for (host, upstream) in [
        ("pr-42.preview.localhost", "checkout-42"),
        ("preview.localhost", "checkout"),
        ("pr-57.preview.localhost", "checkout"),
        ("checkout--pr-42.preview.localhost", "checkout-42"),
    ] {
        let reply = conn.send(get(host, "/api/checkout")).await;
        assert_eq!(reply.upstream(), upstream, "{host}");
    }
}

#[tokio::test]
async fn the_cookie_is_secure_on_tls() {
    let (world, ca) = certified().await;
    let mut conn = connect(&world, D, BOTH, ca.roots()).await.unwrap();
    let reply = conn.send(get(D, "/api/checkout?pr-id=42")).await;
    let [line] = reply.header_lines("set-cookie")[..] else { panic!("{reply:?}") };
    let mut parts: Vec<&str> = line.split("; ").collect();
    assert_eq!(parts.remove(0), "pr-id=42");
    parts.sort_unstable();
    assert_eq!(parts, ["HttpOnly", "Path=/", "SameSite=Lax", "Secure"]);
    assert_eq!(reply.header("clear-site-data"), Some("\"cache\""));
    let same = conn.send(get(D, "/api/checkout").header("cookie", "pr-id=42")).await;
    assert_eq!(same.header("clear-site-data"), None, "nothing was set");
    let cleared = conn.send(get(D, "/api/checkout?pr-id=").header("cookie", "pr-id=42")).await;
    assert_eq!(cleared.header("clear-site-data"), Some("\"cache\""));
}

#[tokio::test]
async fn new_files_are_served_and_no_connection_is_dropped() {
    let (world, ca) = certified().await;
    let sni = "pr-42.preview.localhost";
    let mut open = [
        connect(&world, sni, &["h2"], ca.roots()).await.unwrap(),
        connect(&world, sni, &["http/1.1"], ca.roots()).await.unwrap(),
    ];
    let old = open[0].certificate.clone();
    let folder = world.estate.folder();
    let renewed = ca.issue(&["*.preview.localhost"]);
    renewed.write(&folder, "new");
    // As a renewal does it: key and certificate by rename.
    fs::rename(folder.join("new.key"), folder.join("wild.key")).unwrap();
    fs::rename(folder.join("new.crt"), folder.join("wild.crt")).unwrap();
    eventually("the new certificate is shown", async || {
        connect(&world, sni, BOTH, ca.roots()).await.unwrap().certificate != old
    })
    .await;
    for conn in &mut open {
        conn.send(get(sni, "/api/checkout")).await.came_from("checkout-42");
    }
    // Nonsense leaves the last good one in force.
    let good = connect(&world, sni, BOTH, ca.roots()).await.unwrap().certificate.clone();
    fs::write(folder.join("wild.crt"), "nonsense").unwrap();
    eventually("the bad file is reported", async || {
        world.stderr().iter().any(|line| line.contains("wild.crt"))
    })
    .await;
    assert_eq!(connect(&world, sni, BOTH, ca.roots()).await.unwrap().certificate, good);
}

#[tokio::test]
async fn the_development_authority() {
    let mut estate = Estate::standard().await;
    estate.config["stateDir"] = "state".into();
    estate.config["listeners"] = json!([
        {"address": "127.0.0.1:0", "tls": {"selfSigned": {"names": ["*.preview.localhost", "preview.localhost"]}}},
    ]);
    let file = estate.folder().join("state/ca.pem");
    let world = estate.start().await;
    let pem = fs::read_to_string(&file).unwrap();
    for (sni, host) in [("pr-42.preview.localhost", "pr-42.preview.localhost"), (D, D)] {
        let mut conn = connect(&world, sni, BOTH, sidetrack_tests::roots_of(&pem)).await.unwrap();
        assert_eq!(conn.send(get(host, "/")).await.upstream(), "shop");
    }
    assert!(world.stderr().iter().any(|line| line.contains("ca.pem")), "how to trust it is said");
    // It is kept: a second start shows certificates of the same authority.
    let sidetrack_tests::World { estate, gateway } = world;
    drop(gateway);
    let world = estate.start().await;
    assert_eq!(fs::read_to_string(&file).unwrap(), pem);
    connect(&world, D, BOTH, sidetrack_tests::roots_of(&pem)).await.unwrap();
}

#[tokio::test]
async fn plain_text_on_a_tls_port() {
    let (world, ca) = certified().await;
    let mut raw = world.raw().await;
    raw.write("GET / HTTP/1.1\r\nHost: preview.localhost\r\n\r\n").await;
    assert!(!raw.rest().await.contains("200 OK"));
    connect(&world, D, BOTH, ca.roots()).await.unwrap().send(get(D, "/")).await.came_from("shop");
}

#[tokio::test]
async fn tickets_survive_a_reload() {
    let (world, ca) = certified().await;
    let sni = "pr-42.preview.localhost";
    for version in [&TLS13, &TLS12] {
        let client = Conn::client(ca.roots(), &[version]);
        let mut first = Conn::tls_with(world.address(), sni, client.clone()).await.unwrap();
        assert!(!first.resumed);
        first.send(get(sni, "/")).await.came_from("shop");
        let old = first.certificate.clone();
        // A reload: the wildcard is issued anew.
        ca.issue(&["*.preview.localhost"]).write(&world.estate.folder(), "wild");
        eventually("the new certificate is shown", async || {
            connect(&world, sni, BOTH, ca.roots()).await.is_ok_and(|conn| conn.certificate != old)
        })
        .await;
        let mut again = Conn::tls_with(world.address(), sni, client).await.unwrap();
        assert!(again.resumed, "{version:?}");
        again.send(get(sni, "/")).await.came_from("shop");
    }
}
