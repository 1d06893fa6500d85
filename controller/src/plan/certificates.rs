//! Certificates: which Secrets the listeners name, whether a chain and its key can be used, and for which hosts.

use std::collections::{BTreeMap, BTreeSet};

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sidetrack_config::stream::{Certificate, Item, MAX_ITEM};

use crate::world::{Name, World};

/// The most bytes that chain and key may have together: what JSON makes of them has to fit an item.
const MAX_BYTES: usize = MAX_ITEM - (64 << 10);

/// More certificates than any chain has: the usual one has two or three.
const MAX_CHAIN: usize = 32;

/// The Secrets that are named, each checked once.
#[derive(Debug)]
pub(super) struct Certificates<'a> {
    world: &'a World,
    checked: BTreeMap<Name, Result<(), String>>,
    hosts: BTreeMap<Name, BTreeSet<Box<str>>>,
}

impl<'a> Certificates<'a> {
    /// Those of a world; none is named yet.
    pub(super) fn new(world: &'a World) -> Self {
        Self { world, checked: BTreeMap::new(), hosts: BTreeMap::new() }
    }

    /// Whether a Secret can be used, or why not.
    pub(super) fn check(&mut self, name: &Name) -> Result<(), String> {
        if let Some(known) = self.checked.get(name) {
            return known.clone();
        }
        let result = match self.world.secrets.get(name) {
            Some(secret) => {
                check(&secret.chain, &secret.key).map_err(|why| format!("the Secret `{name}` {why}"))
            }
            None => Err(format!("there is no Secret `{name}` of type `kubernetes.io/tls`")),
        };
        self.checked.insert(name.clone(), result.clone());
        result
    }

    /// Notes that a listener for `host` names a Secret that can be used; `None`: for all hosts.
    pub(super) fn prefer(&mut self, name: &Name, host: Option<&str>) {
        self.hosts.entry(name.clone()).or_default().extend(host.map(Box::from));
    }

    /// Those that are named, for the table.
    pub(super) fn into_items(self) -> Vec<Item> {
        let world = self.world;
        self.hosts
            .into_iter()
            .filter_map(|(name, hosts)| {
                let secret = world.secrets.get(&name)?;
                Some(Item::Certificate(Certificate {
                    name: name.to_string().into(),
                    chain: secret.chain.clone(),
                    key: secret.key.clone(),
                    hosts: hosts.into_iter().collect(),
                }))
            })
            .collect()
    }
}

/// Whether rustls can sign with this chain and key; the error completes "the Secret ...".
fn check(chain: &str, key: &str) -> Result<(), String> {
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
