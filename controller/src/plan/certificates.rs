//! Certificates: which Secrets the listeners name, whether a chain and its key can be used, and for which hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sidetrack_config::stream::{Certificate, Item, MAX_ITEM};

use crate::world::{Name, TlsSecret, World};

/// The most bytes that chain and key may have together: what JSON makes of them has to fit an item.
const MAX_BYTES: usize = MAX_ITEM - (64 << 10);

/// More certificates than any chain has: the usual one has two or three.
const MAX_CHAIN: usize = 32;

/// Secrets and what checking them came to. The verdict depends on nothing but the texts, so that plans stay pure; a
/// check of an RSA key takes a millisecond, and a plan is made for each change of an endpoint.
static KNOWN: Mutex<BTreeMap<Name, (Arc<TlsSecret>, Verdict)>> = Mutex::new(BTreeMap::new());

/// Whether a Secret can be used, or why not.
type Verdict = Result<(), String>;

/// The Secrets that are named, and for which hosts.
#[derive(Debug)]
pub(super) struct Certificates<'a> {
    world: &'a World,
    named: BTreeMap<Name, Named>,
    /// Who is first to have certificates for a host.
    owners: BTreeMap<Box<str>, Box<str>>,
}

/// Who names a Secret.
#[derive(Debug, Default)]
struct Named {
    /// Whether somebody names it for no host in particular.
    for_any: bool,
    /// For these hosts, each with the rank of who says so.
    hosts: BTreeSet<(Box<str>, Box<str>)>,
}

impl<'a> Certificates<'a> {
    /// Those of a world; none is named yet.
    pub(super) fn new(world: &'a World) -> Self {
        Self { world, named: BTreeMap::new(), owners: BTreeMap::new() }
    }

    /// Whether a Secret can be used, or why not.
    pub(super) fn check(&self, name: &Name) -> Verdict {
        let secret = self.world.secrets.get(name);
        let secret =
            secret.ok_or_else(|| format!("there is no Secret `{name}` of type `kubernetes.io/tls`"))?;
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((same, result)) = known.get(name)
            && (Arc::ptr_eq(same, secret) || same.chain == secret.chain && same.key == secret.key)
        {
            return result.clone();
        }
        let result = check(&secret.chain, &secret.key).map_err(|why| format!("the Secret `{name}` {why}"));
        known.insert(name.clone(), (Arc::clone(secret), result.clone()));
        result
    }

    /// Notes that an object names a Secret that can be used, for `host` or for none in particular. Where objects want
    /// one host, the one with the smallest rank has it: nobody can put a certificate in place of another's.
    pub(super) fn prefer(&mut self, name: &Name, host: Option<&str>, rank: &str) {
        let named = self.named.entry(name.clone()).or_default();
        let Some(host) = host else {
            named.for_any = true;
            return;
        };
        named.hosts.insert((host.into(), rank.into()));
        let owner = self.owners.entry(host.into()).or_insert_with(|| rank.into());
        if rank < &**owner {
            *owner = rank.into();
        }
    }

    /// Those that are named, for the table.
    pub(super) fn into_items(self) -> Vec<Item> {
        let Self { world, named, owners } = self;
        KNOWN
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|name, _| world.secrets.contains_key(name));
        let item = |(name, named): (Name, Named)| {
            let secret = world.secrets.get(&name)?;
            let is_owned = |(host, rank): &(Box<str>, Box<str>)| owners.get(host) == Some(rank);
            let hosts: BTreeSet<Box<str>> =
                named.hosts.into_iter().filter(is_owned).map(|(host, _)| host).collect();
            // An empty list would mean whatever the leaf says, and so the very hosts that it lost.
            (named.for_any || !hosts.is_empty()).then(|| {
                Item::Certificate(Certificate {
                    name: name.to_string().into(),
                    chain: secret.chain.clone(),
                    key: secret.key.clone(),
                    hosts: hosts.into_iter().collect(),
                })
            })
        };
        named.into_iter().filter_map(item).collect()
    }
}

/// Whether rustls can sign with this chain and key; the error completes "the Secret ...".
fn check(chain: &str, key: &str) -> Verdict {
    let bytes: usize = [chain, key].iter().map(|text| json_bytes(text)).sum();
    if bytes > MAX_BYTES {
        return Err(format!(
            "takes {bytes} bytes with `tls.crt` and `tls.key`; at most {MAX_BYTES} can be served"
        ));
    }
    let certificates = CertificateDer::pem_slice_iter(chain.as_bytes())
        .take(MAX_CHAIN + 1)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("has no PEM in `tls.crt`: {error}"))?;
    if certificates.is_empty() || certificates.len() > MAX_CHAIN {
        let found = if certificates.is_empty() { "no" } else { "too many" };
        return Err(format!(
            "has {found} certificates in `tls.crt`; write the leaf first, then the rest of its chain"
        ));
    }
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|error| format!("has no private key in PEM in `tls.key`: {error}"))?;
    let signer = any_supported_type(&key)
        .map_err(|error| format!("has a key in `tls.key` that can't be used: {error}"))?;
    CertifiedKey::new(certificates, signer).keys_match().map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            "has a key in `tls.key` that is not that of the certificate in `tls.crt`".into()
        }
        other => format!("has a certificate in `tls.crt` that can't be used: {other}"),
    })
}

/// How many bytes a text takes in JSON, quotes included.
fn json_bytes(text: &str) -> usize {
    let escaped = |c: char| match c {
        '"' | '\\' | '\n' | '\r' | '\t' => 2,
        '\0'..'\u{20}' => 6,
        other => other.len_utf8(),
    };
    2 + text.chars().map(escaped).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["a.example.com".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn secret((chain, key): (String, String)) -> Arc<TlsSecret> {
        Arc::new(TlsSecret { meta: Default::default(), chain: chain.into(), key: key.into() })
    }

    #[test]
    fn a_pair_that_cannot_be_used_says_what_is_wrong() {
        let (chain, key) = pair();
        assert_eq!(check(&chain, &key), Ok(()));
        assert_eq!(check(&format!("text\n{chain}{chain}"), &key), Ok(()), "a chain");
        let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let foreign = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let cases = [
            (String::new(), key.clone(), "no certificates"),
            (chain.repeat(33), key.clone(), "too many certificates"),
            (chain.replace("-----END", "----"), key.clone(), "tls.crt"),
            (garbage.into(), key.clone(), "can't be used"),
            (chain.clone(), String::new(), "no private key"),
            (chain.clone(), foreign.into(), "can't be used"),
            (chain.clone(), pair().1, "not that of the certificate"),
            (format!("{chain}{}", "\u{1}".repeat(MAX_ITEM / 6)), key, "bytes"),
        ];
        for (chain, key, word) in cases {
            let said = check(&chain, &key).unwrap_err();
            assert!(said.contains(word), "{word}: {said}");
        }
    }

    #[test]
    fn what_may_be_served_fits_an_item() {
        let texts = ["plain\n\"\\\t", "\u{1}\u{7f}é\u{8}\u{c}"];
        for text in texts {
            assert!(serde_json::to_string(text).unwrap().len() <= json_bytes(text), "{text:?}");
        }
        assert_eq!(json_bytes(texts[0]), serde_json::to_string(texts[0]).unwrap().len());
    }

    #[test]
    fn a_changed_secret_is_checked_again() {
        let name = Name::new("memo", "cert");
        let (chain, key) = pair();
        let mut world = World::default();
        world.secrets.insert(name.clone(), secret((chain.clone(), pair().1)));
        assert!(Certificates::new(&world).check(&name).is_err());
        assert!(Certificates::new(&world).check(&name).is_err());
        world.secrets.insert(name.clone(), secret((chain, key)));
        assert_eq!(Certificates::new(&world).check(&name), Ok(()));
        world.secrets.clear();
        assert!(Certificates::new(&world).check(&name).is_err());
    }

    #[test]
    fn nobody_takes_the_host_of_another() {
        let mut world = World::default();
        let names = ["a", "b", "c"].map(|name| Name::new("ns", name));
        for name in &names {
            world.secrets.insert(name.clone(), secret(pair()));
        }
        let mut certificates = Certificates::new(&world);
        certificates.prefer(&names[0], Some("shop.example.com"), "2");
        certificates.prefer(&names[1], Some("shop.example.com"), "1");
        certificates.prefer(&names[1], Some("cart.example.com"), "1");
        certificates.prefer(&names[2], Some("shop.example.com"), "1");
        certificates.prefer(&names[2], Some("shop.example.com"), "3");
        let items = certificates.into_items();
        let said: Vec<_> = items
            .iter()
            .map(|item| match item {
                Item::Certificate(one) => format!("{} {}", one.name, one.hosts.join(" ")),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(said, ["ns/b cart.example.com shop.example.com", "ns/c shop.example.com"]);
    }
}
