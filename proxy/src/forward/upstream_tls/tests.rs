//! Real upstreams behind TLS: proven, or refused.

use rustls::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::*;
use crate::accept::tls::tests::{Estate, Kind, echo, ping};

fn by(estate: &Estate, name: Option<&str>) -> UpstreamTls {
    UpstreamTls { ca_file: Some(estate.path("root.pem")), server_name: name.map(Box::from) }
}

/// Connects as the proxy would; the ALPN that was agreed on.
async fn try_connect(
    known: &ClientTls,
    address: std::net::SocketAddr,
    host: &str,
    tls: &UpstreamTls,
    http2: bool,
) -> std::io::Result<Vec<u8>> {
    let connector = TlsConnector::from(known.connector(tls, http2).unwrap());
    let stream = TcpStream::connect(address).await?;
    let mut stream = connector.connect(server_name(host, tls).unwrap(), stream).await?;
    ping(&mut stream).await;
    Ok(stream.get_ref().1.alpn_protocol().unwrap().to_vec())
}

#[tokio::test]
async fn an_upstream_is_proven_by_root_and_name() {
    let (estate, stranger) = (Estate::new(), Estate::new());
    estate.issue("shop", &["shop.test", "127.0.0.1"], Kind::Ecdsa);
    let address = echo(&estate.load(&["shop"])).await;
    let known = ClientTls::default();
    let ok = |outcome: std::io::Result<Vec<u8>>| outcome.unwrap();
    let (plain, named) = (by(&estate, None), by(&estate, Some("shop.test")));
    assert_eq!(ok(try_connect(&known, address, "127.0.0.1", &plain, true).await), b"h2");
    assert_eq!(ok(try_connect(&known, address, "shop.test", &plain, false).await), b"http/1.1");
    assert_eq!(ok(try_connect(&known, address, "10.0.0.1", &named, true).await), b"h2");

    let refused = |outcome: std::io::Result<Vec<u8>>| {
        let error = outcome.unwrap_err();
        matches!(error.get_ref().and_then(|e| e.downcast_ref()), Some(Error::InvalidCertificate(_)))
    };
    assert!(refused(try_connect(&known, address, "other.test", &plain, true).await), "wrong name");
    assert!(
        refused(try_connect(&known, address, "shop.test", &by(&stranger, None), true).await),
        "wrong root"
    );
    assert!(
        refused(try_connect(&known, address, "shop.test", &UpstreamTls::default(), true).await),
        "not the system's"
    );
}

#[test]
fn configurations_are_shared_until_the_file_changes() {
    let estate = Estate::new();
    let known = ClientTls::default();
    let first = known.connector(&by(&estate, None), true).unwrap();
    let same = known.connector(&by(&estate, Some("shop.test")), true).unwrap();
    assert!(Arc::ptr_eq(&first, &same), "the name is no part of it");
    let http1 = known.connector(&by(&estate, None), false).unwrap();
    assert!(!Arc::ptr_eq(&first, &http1));

    std::fs::copy(Estate::new().path("root.pem"), estate.path("root.pem")).unwrap();
    let changed = known.connector(&by(&estate, None), true).unwrap();
    assert!(!Arc::ptr_eq(&first, &changed));
    drop((first, same, http1));
    let other = Estate::new();
    let _kept = known.connector(&by(&other, None), true).unwrap();
    let left = known.known.lock().unwrap();
    assert_eq!(left.len(), 2, "what nobody uses is forgotten: {left:?}");
}

#[test]
fn a_wrong_ca_file_is_an_error_that_names_it() {
    let estate = Estate::new();
    std::fs::write(estate.path("root.pem"), "nothing").unwrap();
    let error = ClientTls::default().connector(&by(&estate, None), true).unwrap_err().to_string();
    assert!(error.contains("root.pem: no certificate in this file"), "{error}");
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    std::fs::write(estate.path("root.pem"), garbage).unwrap();
    let error = ClientTls::default().connector(&by(&estate, None), true).unwrap_err().to_string();
    assert!(error.contains("root.pem: this certificate cannot be used"), "{error}");
}

#[test]
fn names_of_every_form_are_read() {
    let none = UpstreamTls::default();
    let fixed = UpstreamTls { server_name: Some("fixed.test".into()), ..UpstreamTls::default() };
    let table = [
        ("shop.test", &none, Some("shop.test")),
        ("shop.test.", &none, Some("shop.test")),
        ("10.0.0.1", &none, Some("10.0.0.1")),
        ("[::1]", &none, Some("::1")),
        ("::1", &none, Some("::1")),
        ("not a host", &fixed, Some("fixed.test")),
        ("not a host", &none, None),
        ("", &none, None),
    ];
    for (host, tls, wanted) in table {
        let name = server_name(host, tls);
        assert_eq!(name.as_ref().ok().map(|name| name.to_str().into_owned()).as_deref(), wanted, "{host}");
        if let Err(error) = name {
            assert!(error.to_string().contains("set tls.serverName"), "{error}");
        }
    }
}
