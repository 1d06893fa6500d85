//! What a reload changes, and what it must not.

use super::*;
use crate::accept::tls::TlsError;

#[tokio::test]
async fn a_reload_serves_new_connections_and_keeps_open_ones_and_sessions() {
    for version in BOTH {
        let estate = Estate::new();
        let old = estate.issue("shop", &["shop.test"], Kind::Ecdsa);
        let tls = estate.load(&["shop"]);
        let address = echo(&tls).await;
        let returning = plain_client(&estate, version);
        let mut open = connect(address, &returning, "shop.test").await;
        assert_eq!((leaf(&open), kind(&open)), (old, HandshakeKind::Full));

        assert!(!tls.reload().unwrap(), "nothing changed yet");
        // Of the same kind: a TLS 1.2 session is bound to a suite, and that to the kind of key.
        let new = estate.issue("shop", &["shop.test"], Kind::Ecdsa);
        assert!(tls.reload().unwrap());
        assert!(!tls.reload().unwrap(), "nothing changed since");

        ping(&mut open).await;
        let resumed = connect(address, &returning, "shop.test").await;
        assert_eq!(kind(&resumed), HandshakeKind::Resumed, "{version:?}");
        let fresh = connect(address, &plain_client(&estate, version), "shop.test").await;
        assert_eq!((leaf(&fresh), kind(&fresh)), (new, HandshakeKind::Full));
    }
}

#[tokio::test]
async fn a_failed_reload_keeps_what_was_there() {
    let estate = Estate::new();
    let old = estate.issue("shop", &["shop.test"], Kind::Ecdsa);
    let tls = estate.load(&["shop"]);
    let address = echo(&tls).await;
    let served = async || leaf(&connect(address, &plain_client(&estate, BOTH[1]), "shop.test").await);

    // A renewal writes the certificate first; between the two writes the key does not match.
    let key = fs::read(estate.pair("shop").key_file).unwrap();
    let new = estate.issue("shop", &["shop.test"], Kind::Ecdsa);
    let new_key = fs::read(estate.pair("shop").key_file).unwrap();
    fs::write(estate.pair("shop").key_file, key).unwrap();
    assert!(matches!(tls.reload().unwrap_err(), TlsError::Mismatch { .. }));
    assert_eq!(served().await, old);

    fs::remove_file(estate.pair("shop").key_file).unwrap();
    assert!(matches!(tls.reload().unwrap_err(), TlsError::Read { .. }));
    assert_eq!(served().await, old);

    fs::write(estate.pair("shop").key_file, new_key).unwrap();
    assert!(tls.reload().unwrap());
    assert_eq!(served().await, new);
}

#[tokio::test]
async fn another_set_of_files_replaces_the_old_one() {
    let estate = Estate::new();
    let one = estate.issue("one", &["one.test"], Kind::Ecdsa);
    let two = estate.issue("two", &["two.test"], Kind::Ecdsa);
    let tls = estate.load(&["one"]);
    let address = echo(&tls).await;
    let client = plain_client(&estate, BOTH[1]);
    assert_eq!(leaf(&connect(address, &client, "two.test").await), one);

    let both = estate.tls(&["one", "two"]);
    assert!(tls.replace(&both, estate.folder.path()).unwrap());
    assert!(!tls.replace(&both, estate.folder.path()).unwrap());
    let wanted = ["one.crt", "one.key", "two.crt", "two.key"].map(|name| estate.path(name));
    assert_eq!(tls.files(), wanted);
    let resumed = connect(address, &client, "two.test").await;
    assert_eq!(kind(&resumed), HandshakeKind::Resumed, "tickets survive");
    assert_eq!(leaf(&connect(address, &plain_client(&estate, BOTH[1]), "two.test").await), two);

    let missing = estate.tls(&["one", "none"]);
    tls.replace(&missing, estate.folder.path()).unwrap_err();
    assert_eq!(tls.files(), wanted, "a source that cannot be read is not taken over");
    assert!(!tls.reload().unwrap());
}

#[tokio::test]
async fn a_self_signed_listener_follows_its_authority() {
    let estate = Estate::new();
    let state = estate.path("state");
    let names =
        |names: &[&str]| Tls::SelfSigned { names: names.iter().map(|name| Box::from(*name)).collect() };
    let tls = ServerTls::load(&names(&["*.preview.localhost"]), &state, Arc::default()).unwrap();
    assert_eq!(tls.files(), [state.join("ca.pem"), state.join("ca.key")]);
    let address = echo(&tls).await;
    let trusted = || {
        let ca = crate::accept::tls::pem::certificates(&state.join("ca.pem")).unwrap();
        client(&ca[0], BOTH[1], aws_lc_rs::default_provider(), None)
    };
    let first = leaf(&connect(address, &trusted(), "pr-42.preview.localhost").await);

    assert!(!tls.reload().unwrap(), "the certificate is still the right one");
    assert_eq!(leaf(&connect(address, &trusted(), "pr-42.preview.localhost").await), first);

    assert!(tls.replace(&names(&["preview.localhost"]), &state).unwrap());
    assert_ne!(leaf(&connect(address, &trusted(), "preview.localhost").await), first);

    fs::remove_file(state.join("ca.pem")).unwrap();
    fs::remove_file(state.join("ca.key")).unwrap();
    assert!(tls.reload().unwrap(), "a new authority, a new certificate");
    connect(address, &trusted(), "preview.localhost").await;
}
