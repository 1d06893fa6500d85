//! Which certificate a client gets, by name, kind of key and version.

use rustls::{CipherSuite, SignatureScheme};

use super::*;
use crate::accept::tls::choose::Certificates;
use crate::accept::tls::pem::Identity;

#[tokio::test]
async fn the_name_picks_exact_then_wildcard_then_first() {
    let estate = Estate::new();
    let first = estate.issue("first", &["first.test", "also.test"], Kind::Ecdsa);
    let wild = estate.issue("wild", &["*.Example.com"], Kind::Ecdsa);
    let exact = estate.issue("exact", &["api.example.com"], Kind::Ecdsa);
    let address = echo(&estate.load(&["first", "wild", "exact"])).await;
    let table = [
        ("api.example.com", &exact),
        ("API.example.COM", &exact),
        ("shop.example.com", &wild),
        ("SHOP.EXAMPLE.COM", &wild),
        ("a.b.example.com", &first),
        ("x.api.example.com", &first),
        ("example.com", &first),
        ("also.test", &first),
        ("unknown.test", &first),
        ("com", &first),
        ("127.0.0.1", &first),
    ];
    for version in BOTH {
        let client = plain_client(&estate, version);
        for (name, wanted) in table {
            let stream = connect(address, &client, name).await;
            assert_eq!(leaf(&stream), *wanted, "{name} over {version:?}");
            assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        }
    }
}

#[tokio::test]
async fn of_two_kinds_the_client_gets_the_one_it_can_verify() {
    let estate = Estate::new();
    let other = estate.issue("other", &["other.test"], Kind::Ecdsa);
    let ecdsa = estate.issue("ecdsa", &["shop.test"], Kind::Ecdsa);
    let rsa = estate.issue("rsa", &["*.test"], Kind::Rsa);
    let address = echo(&estate.load(&["other", "ecdsa", "rsa"])).await;
    let only_rsa: &[_] = &[SignatureScheme::RSA_PSS_SHA256, SignatureScheme::RSA_PKCS1_SHA256];
    let only_ecdsa: &[_] = &[SignatureScheme::ECDSA_NISTP256_SHA256];
    for version in BOTH {
        for (schemes, wanted) in [(None, &ecdsa), (Some(only_ecdsa), &ecdsa), (Some(only_rsa), &rsa)] {
            let client = client(&estate.ca, version, aws_lc_rs::default_provider(), schemes);
            assert_eq!(
                leaf(&connect(address, &client, "shop.test").await),
                *wanted,
                "{schemes:?} {version:?}"
            );
        }
    }
    // No name matches: of all, the first that the client can verify.
    let client_of = |schemes| client(&estate.ca, BOTH[1], aws_lc_rs::default_provider(), schemes);
    assert_eq!(leaf(&connect(address, &client_of(None), "a.b").await), other);
    assert_eq!(leaf(&connect(address, &client_of(Some(only_rsa)), "a.b").await), rsa);
}

#[tokio::test]
async fn tls12_suites_count_as_much_as_schemes() {
    let estate = Estate::new();
    estate.issue("ecdsa", &["shop.test"], Kind::Ecdsa);
    let rsa = estate.issue("rsa", &["shop.test"], Kind::Rsa);
    let address = echo(&estate.load(&["ecdsa", "rsa"])).await;
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.retain(|s| s.suite() == CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256);
    let client = client(&estate.ca, &rustls::version::TLS12, provider, None);
    assert_eq!(leaf(&connect(address, &client, "shop.test").await), rsa);
}

#[tokio::test]
async fn every_form_of_key_is_read() {
    let estate = Estate::new();
    for (stem, kind, label) in [("ec", Kind::Ecdsa, "EC PRIVATE KEY"), ("rsa", Kind::Rsa, "RSA PRIVATE KEY")]
    {
        let certificate = estate.issue(stem, &["shop.test"], kind);
        for traditional in [false, true] {
            if traditional {
                let text = openssl(&["pkey", "-traditional", "-in"], &[&estate.pair(stem).key_file]);
                assert!(text.contains(label), "{text}");
                fs::write(estate.pair(stem).key_file, text).unwrap();
            }
            let address = echo(&estate.load(&[stem])).await;
            let stream = connect(address, &plain_client(&estate, BOTH[1]), "shop.test").await;
            assert_eq!(leaf(&stream), certificate);
        }
    }
}

#[test]
fn no_name_that_a_client_can_send_is_misread() {
    let estate = Estate::new();
    estate.issue("first", &["first.test"], Kind::Ecdsa);
    estate.issue("wild", &["*.example.com"], Kind::Ecdsa);
    let identities = ["first", "wild"].map(|stem| Identity::read(&estate.pair(stem)).unwrap());
    let certificates = Certificates::new(&identities);
    let schemes = [SignatureScheme::ECDSA_NISTP256_SHA256];
    let long = format!("{}.example.com", "a".repeat(100_000));
    for (name, wild) in [("", false), (".", false), ("..", false), ("*.example.com", true), (&long, true)] {
        let chosen = certificates.choose(&Certificates::default(), Some(name), &schemes).unwrap();
        assert!(Arc::ptr_eq(&chosen, &identities[usize::from(wild)].key), "{name:.40}");
    }
    assert!(Certificates::new(&[]).choose(&Certificates::default(), Some("shop.test"), &schemes).is_none());
    // A client that can verify nothing of ours still gets one, and with it an alert that says why.
    assert!(certificates.choose(&Certificates::default(), Some("first.test"), &[]).is_some());
}
