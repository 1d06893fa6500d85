//! PEM files read into what rustls signs with, and the few facts about a leaf that we decide by.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sidetrack_config::model::CertificateFiles;
use sidetrack_config::stream::Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::error::TlsError;

/// More than any chain or bundle of roots needs: the system's whole bundle is about 220 KiB.
pub(super) const MAX_FILE_BYTES: u64 = 1 << 20;

/// A certificate that ends sooner than this is reported, and renewed where we issue it ourselves.
const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// A chain with its key, and what the leaf says about itself.
#[derive(Debug)]
pub(super) struct Identity {
    /// What rustls signs with.
    pub(super) key: Arc<CertifiedKey>,
    /// The DNS names of the leaf, lower case; a wildcard begins with `*.`.
    pub(super) names: Vec<Box<str>>,
    /// When it begins and ends, in seconds since 1970.
    not_before: i64,
    not_after: i64,
}

impl Identity {
    /// Joins a chain and its key; `cert_file` and `key_file` are for the messages.
    pub(super) fn new(
        chain: Vec<CertificateDer<'static>>,
        key: &PrivateKeyDer<'_>,
        cert_file: &Path,
        key_file: &Path,
    ) -> Result<Self, TlsError> {
        let bad_certificate =
            |detail: String| TlsError::BadCertificate { file: cert_file.to_owned(), detail };
        let signer = any_supported_type(key)
            .map_err(|error| TlsError::BadKey { file: key_file.to_owned(), detail: error.to_string() })?;
        let leaf =
            chain.first().ok_or_else(|| TlsError::NoCertificate { file: cert_file.to_owned() })?.clone();
        let key = CertifiedKey::new(chain, signer);
        key.keys_match().map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                TlsError::Mismatch { cert_file: cert_file.to_owned(), key_file: key_file.to_owned() }
            }
            other => bad_certificate(other.to_string()),
        })?;
        let (_, leaf) =
            X509Certificate::from_der(&leaf).map_err(|error| bad_certificate(error.to_string()))?;
        Ok(Self {
            key: Arc::new(key),
            names: dns_names(&leaf).map_err(bad_certificate)?,
            not_before: leaf.validity().not_before.timestamp(),
            not_after: leaf.validity().not_after.timestamp(),
        })
    }

    /// Reads one certificate of the configuration.
    pub(super) fn read(files: &CertificateFiles) -> Result<Self, TlsError> {
        let chain = certificates(&files.cert_file)?;
        let key = private_key(&files.key_file)?;
        Self::new(chain, &key, &files.cert_file, &files.key_file)
    }

    /// Reads one certificate of the controller; messages call it by the name of its Secret.
    pub(super) fn provided(certificate: &Certificate) -> Result<Self, TlsError> {
        let origin = PathBuf::from(format!("certificate {}", certificate.name));
        let chain = chain_in(certificate.chain.as_bytes(), &origin)?;
        let key = key_in(certificate.key.as_bytes(), &origin)?;
        let identity = Self::new(chain, &key, &origin, &origin)?;
        identity.warn_if_untimely(&origin);
        Ok(identity)
    }

    /// Whether it has ended or is about to.
    pub(super) fn ends_soon(&self) -> bool {
        self.not_after < unix_now() + SOON.as_secs().cast_signed()
    }

    /// Tells the log of a certificate that clients refuse today or will refuse soon.
    pub(super) fn warn_if_untimely(&self, origin: &Path) {
        let (file, now) = (origin.display(), unix_now());
        let days = (self.not_after - now) / (24 * 60 * 60);
        if self.not_after < now {
            tracing::warn!(%file, "this certificate has expired, clients refuse it: renew it");
        } else if self.ends_soon() {
            tracing::warn!(%file, days, "this certificate expires soon: renew it");
        } else if self.not_before > now {
            tracing::warn!(%file, "this certificate is not valid yet: check the clock of this machine");
        }
        if self.names.is_empty() {
            tracing::warn!(%file, "this certificate has no DNS name (subjectAltName), so no SNI picks it");
        }
    }
}

/// The DNS names in the subjectAltName of `leaf`. The common name is no name (RFC 9525 section 2).
fn dns_names(leaf: &X509Certificate<'_>) -> Result<Vec<Box<str>>, String> {
    let Some(names) = leaf.subject_alternative_name().map_err(|error| error.to_string())? else {
        return Ok(Vec::new());
    };
    let dns = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase().into_boxed_str()),
        _ => None,
    });
    Ok(dns.collect())
}

/// All certificates of a PEM file, in order; at least one.
pub(crate) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    chain_in(&read(file)?, file)
}

fn chain_in(text: &[u8], file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::BadPem { file: file.to_owned(), detail: error.to_string() })?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate { file: file.to_owned() });
    }
    Ok(chain)
}

/// The first private key of a PEM file: PKCS#8, SEC1 or PKCS#1.
fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    key_in(&read(file)?, file)
}

fn key_in(text: &[u8], file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        pem::Error::NoItemsFound if is_encrypted(text) => TlsError::EncryptedKey { file: file.to_owned() },
        pem::Error::NoItemsFound => TlsError::NoKey { file: file.to_owned() },
        // The old form keeps the label of a clear key and says `Proc-Type: 4,ENCRYPTED` within the block.
        _ if is_encrypted(text) => TlsError::EncryptedKey { file: file.to_owned() },
        other => TlsError::BadPem { file: file.to_owned(), detail: other.to_string() },
    })
}

fn is_encrypted(text: &[u8]) -> bool {
    text.windows(b"ENCRYPTED".len()).any(|window| window == b"ENCRYPTED")
}

/// The bytes of a file, at most [`MAX_FILE_BYTES`].
pub(super) fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    let mut text = Vec::new();
    File::open(file)
        .and_then(|opened| opened.take(MAX_FILE_BYTES + 1).read_to_end(&mut text))
        .map_err(|source| TlsError::Read { file: file.to_owned(), source })?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(TlsError::TooLarge { file: file.to_owned() });
    }
    Ok(text)
}

/// Seconds since 1970.
pub(super) fn unix_now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed())
}
