//! Every wrong file, and what the error says of it.

use super::*;

#[test]
fn each_mistake_names_its_file_and_what_to_do() {
    let estate = Estate::new();
    estate.issue("shop", &["shop.test"], Kind::Ecdsa);
    estate.issue("other", &["other.test"], Kind::Ecdsa);
    let (good, other) = (estate.pair("shop"), estate.pair("other"));
    let key = fs::read_to_string(&good.key_file).unwrap();
    let cut = key.lines().take(2).collect::<Vec<_>>().join("\n");
    let locked = openssl(&["pkey", "-aes256", "-passout", "pass:x", "-in"], &[&good.key_file]);
    let old_locked = ["pkey", "-traditional", "-aes256", "-passout", "pass:x", "-in"];
    let old_locked = openssl(&old_locked, &[&good.key_file]);
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let weak = openssl(&["genrsa", "-traditional", "1024"], &[]);
    let files = [
        ("empty.pem", ""),
        ("cut.pem", &cut),
        ("locked.pem", &locked),
        ("old-locked.pem", &old_locked),
        ("garbage.pem", garbage),
        ("weak.pem", &weak),
    ];
    for (name, text) in files {
        fs::write(estate.path(name), text).unwrap();
    }
    fs::write(estate.path("huge.pem"), vec![b'\n'; (1 << 20) + 1]).unwrap();

    let file = |name: &str| estate.path(name);
    let table = [
        (file("none.pem"), good.key_file.clone(), "none.pem: cannot be read: No such file"),
        (good.cert_file.clone(), file("none.pem"), "none.pem: cannot be read: No such file"),
        (estate.folder.path().to_owned(), good.key_file.clone(), "cannot be read: Is a directory"),
        (file("empty.pem"), good.key_file.clone(), "empty.pem: no certificate in this file"),
        (good.key_file.clone(), good.key_file.clone(), "shop.key: no certificate in this file"),
        (file("cut.pem"), good.key_file.clone(), "cut.pem: not valid PEM"),
        (file("huge.pem"), good.key_file.clone(), "huge.pem: larger than 1048576 bytes"),
        (file("garbage.pem"), good.key_file.clone(), "garbage.pem: this certificate cannot be used"),
        (good.cert_file.clone(), good.cert_file.clone(), "shop.crt: no private key in this file"),
        (good.cert_file.clone(), file("cut.pem"), "cut.pem: not valid PEM"),
        (good.cert_file.clone(), file("locked.pem"), "`openssl pkey -in"),
        (good.cert_file.clone(), file("old-locked.pem"), "`openssl pkey -in"),
        (good.cert_file.clone(), file("weak.pem"), "weak.pem: this private key cannot be used"),
        (good.cert_file.clone(), other.key_file, "other.key: this private key does not belong to"),
    ];
    for (cert_file, key_file, wanted) in table {
        let tls = Tls::Files(vec![CertificateFiles { cert_file, key_file }]);
        let error = ServerTls::load(&tls, estate.folder.path(), Arc::default()).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}\nlacks: {wanted}");
    }
}

#[test]
fn an_expired_certificate_is_used_all_the_same() {
    let estate = Estate::new();
    estate.issue_with("old", &["old.test"], Kind::Ecdsa, |params| {
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    estate.load(&["old"]);
}

#[test]
fn a_name_that_no_certificate_can_bear_is_refused() {
    let estate = Estate::new();
    let tls = Tls::SelfSigned { names: vec!["bücher.localhost".into()] };
    let error = ServerTls::load(&tls, estate.folder.path(), Arc::default()).unwrap_err().to_string();
    assert!(error.contains("no certificate can be issued for bücher.localhost"), "{error}");
}
