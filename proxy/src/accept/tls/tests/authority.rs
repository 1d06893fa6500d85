//! The development CA: made once, kept, never lost silently.

use std::os::unix::fs::PermissionsExt;
use std::thread;

use super::*;
use crate::accept::tls::dev_ca::{DevCa, trust_hint};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn it_is_made_once_and_closed_to_others() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("deep/state");
    let [cert_file, key_file] = DevCa::files(&state);
    let first = DevCa::open(&state).unwrap();
    assert_eq!((mode(&state), mode(&key_file)), (0o700, 0o600));
    let key = fs::read(&key_file).unwrap();
    let again = DevCa::open(&state).unwrap();
    assert_eq!(again.certificate(), first.certificate());
    assert_eq!(fs::read(&key_file).unwrap(), key);

    let text = openssl(&["x509", "-noout", "-text", "-in"], &[&cert_file]);
    for wanted in ["CA:TRUE, pathlen:0", "Certificate Sign, CRL Sign", "CN = Sidetrack development CA "] {
        assert!(text.contains(wanted), "{text}");
    }
    fs::set_permissions(&key_file, fs::Permissions::from_mode(0o644)).unwrap();
    DevCa::open(&state).unwrap();
    assert_eq!(mode(&key_file), 0o600, "a key that others could read is closed");
}

#[test]
fn openssl_believes_what_it_issues() {
    let folder = tempfile::tempdir().unwrap();
    let ca = DevCa::open(folder.path()).unwrap();
    let names = ["*.preview.localhost", "preview.localhost", "127.0.0.1", "::1"].map(Box::from);
    let leaf = ca.issue(&names).unwrap();
    assert!(!leaf.ends_soon());
    let (der, pem) = (folder.path().join("leaf.der"), folder.path().join("leaf.pem"));
    fs::write(&der, leaf.key.cert[0].as_ref()).unwrap();
    fs::write(&pem, openssl(&["x509", "-inform", "DER", "-in"], &[&der])).unwrap();
    let root = folder.path().join("ca.pem");
    let root = root.to_str().unwrap();
    let purpose = ["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", root];
    for name in [["-verify_hostname", "pr-42.preview.localhost"], ["-verify_ip", "::1"]] {
        let said = openssl(&[&purpose[..], &name].concat(), &[&pem]);
        assert!(said.contains(": OK"), "{said}");
    }
    // Platforms refuse 398 days.
    let days = |days: u64| (days * 86_400).to_string();
    openssl(&["x509", "-noout", "-checkend", &days(395), "-in"], &[&pem]);
    let late =
        Command::new("openssl").args(["x509", "-noout", "-checkend", &days(398), "-in"]).arg(&pem).output();
    assert!(!late.unwrap().status.success(), "valid for 398 days or more");
}

#[test]
fn processes_that_start_together_share_one() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let made: Vec<_> = thread::scope(|scope| {
        let open = || DevCa::open(&state).unwrap().certificate().clone();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(made.iter().all(|certificate| *certificate == made[0]));
}

#[test]
fn a_crash_between_key_and_certificate_is_mended() {
    let folder = tempfile::tempdir().unwrap();
    let [cert_file, key_file] = DevCa::files(folder.path());
    DevCa::open(folder.path()).unwrap();
    let key = fs::read(&key_file).unwrap();
    fs::remove_file(&cert_file).unwrap();
    fs::write(cert_file.with_added_extension("partial"), "half of it").unwrap();
    DevCa::open(folder.path()).unwrap();
    assert_eq!(fs::read(&key_file).unwrap(), key);
    assert!(!cert_file.with_added_extension("partial").exists());
}

#[test]
fn a_broken_one_is_reported_and_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let [cert_file, key_file] = DevCa::files(folder.path());
    let estate = Estate::new();
    estate.issue("leaf", &["leaf.test"], Kind::Ecdsa);
    DevCa::open(folder.path()).unwrap();
    let (cert, key) = (fs::read(&cert_file).unwrap(), fs::read(&key_file).unwrap());
    let foreign = fs::read(estate.pair("leaf").key_file).unwrap();
    let leaf = fs::read(estate.pair("leaf").cert_file).unwrap();
    type Case<'a> = (Option<&'a [u8]>, Option<&'a [u8]>, &'a str);
    let table: [Case<'_>; 6] = [
        (Some(&cert), None, "ca.pem: the development CA is broken: its key, ca.key, is missing"),
        (Some(&cert), Some(b"nonsense"), "ca.key: the development CA is broken"),
        (Some(&cert), Some(b"\xff\xfe"), "ca.key: the development CA is broken: it is not a PEM file"),
        (Some(b"nonsense"), Some(&key), "ca.pem: the development CA is broken"),
        (Some(&cert), Some(&foreign), "ca.key does not belong to it; remove ca.pem and ca.key"),
        (Some(&leaf), Some(&foreign), "is not that of a CA"),
    ];
    for (cert, key, wanted) in table {
        for (file, text) in [(&cert_file, cert), (&key_file, key)] {
            let _ = fs::remove_file(file);
            text.map_or(Ok(()), |text| fs::write(file, text)).unwrap();
        }
        let error = DevCa::open(folder.path()).err().unwrap().to_string();
        assert!(error.contains(wanted), "{error}\nlacks: {wanted}");
        assert_eq!(fs::read(&cert_file).ok().as_deref(), cert, "left as it was");
    }
}

#[test]
fn an_expired_one_is_renewed_with_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let [cert_file, key_file] = DevCa::files(folder.path());
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let old = params.self_signed(&key).unwrap();
    fs::write(&cert_file, old.pem()).unwrap();
    fs::write(&key_file, key.serialize_pem()).unwrap();
    let renewed = DevCa::open(folder.path()).unwrap();
    assert_ne!(renewed.certificate(), old.der());
    assert_eq!(fs::read_to_string(&key_file).unwrap(), key.serialize_pem());
    assert!(!renewed.issue(&["shop.localhost".into()]).unwrap().ends_soon());
}

#[test]
fn the_hint_can_be_pasted() {
    let hint = trust_hint(Path::new("/srv/it's here/ca.pem"));
    for wanted in ["update-ca-certificates", "curl --cacert '/srv/it'\\''s here/ca.pem'", "certutil -d sql:"]
    {
        assert!(hint.contains(wanted), "{hint}");
    }
}
