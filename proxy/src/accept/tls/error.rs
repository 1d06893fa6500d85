//! What can be wrong with certificates, keys and roots, each with the file it is in and what to do.

use std::io;
use std::path::PathBuf;

use super::pem::MAX_FILE_BYTES;

/// Why TLS cannot be set up from what the configuration names.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{}: cannot be read: {source}", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file or folder of the development CA cannot be written.
    #[error("{}: cannot be written: {source}; give stateDir a folder that this user may write", file.display())]
    Write {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is far bigger than any chain or key.
    #[error("{}: larger than {MAX_FILE_BYTES} bytes; name a PEM file with one chain or one key", file.display())]
    TooLarge {
        /// Which.
        file: PathBuf,
    },
    /// A file is broken PEM.
    #[error("{}: not valid PEM: {detail}", file.display())]
    BadPem {
        /// Which.
        file: PathBuf,
        /// What the parser met.
        detail: String,
    },
    /// A file holds no certificate.
    #[error(
        "{}: no certificate in this file; it must hold PEM blocks that begin with \
         `-----BEGIN CERTIFICATE-----`, the leaf first", file.display()
    )]
    NoCertificate {
        /// Which.
        file: PathBuf,
    },
    /// A certificate cannot be used.
    #[error("{}: this certificate cannot be used: {detail}; it must be an X.509 v3 certificate", file.display())]
    BadCertificate {
        /// Which file it is in.
        file: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// A file holds no private key.
    #[error(
        "{}: no private key in this file; it must hold one PEM block `PRIVATE KEY`, `EC PRIVATE KEY` or \
         `RSA PRIVATE KEY`", file.display()
    )]
    NoKey {
        /// Which.
        file: PathBuf,
    },
    /// A private key is locked with a pass phrase.
    #[error(
        "{0}: this private key is encrypted, and nobody is there to type its pass phrase; \
         write it in clear with `openssl pkey -in {0} -out KEY.pem`", file.display()
    )]
    EncryptedKey {
        /// Which file it is in.
        file: PathBuf,
    },
    /// A private key cannot be used.
    #[error(
        "{}: this private key cannot be used: {detail}; use ECDSA (P-256, P-384, P-521), Ed25519, \
         or RSA of 2048 to 8192 bits", file.display()
    )]
    BadKey {
        /// Which file it is in.
        file: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// A private key belongs to another certificate.
    #[error(
        "{}: this private key does not belong to the first certificate in {}; put the leaf first in the chain, \
         or name the key that it was issued for", key_file.display(), cert_file.display()
    )]
    Mismatch {
        /// Where the certificate is.
        cert_file: PathBuf,
        /// Where the key is.
        key_file: PathBuf,
    },
    /// The development CA on disk cannot issue.
    #[error(
        "{}: the development CA is broken: {detail}; remove ca.pem and ca.key to have a new one made \
         (which must be trusted again), or restore them", file.display()
    )]
    Authority {
        /// The file that is wrong.
        file: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The development CA cannot issue for these names.
    #[error("no certificate can be issued for {names}: {detail}; write DNS names or IP addresses")]
    Issue {
        /// The names, joined.
        names: String,
        /// What is wrong.
        detail: String,
    },
    /// No root of an upstream's CA file, or of the system, can be used.
    #[error("no roots to prove upstreams with: {detail}; install ca-certificates, or set tls.caFile")]
    Roots {
        /// What is wrong.
        detail: String,
    },
    /// An upstream's name is none that a certificate could bear.
    #[error(
        "`{name}` is neither a DNS name nor an IP address; set tls.serverName to what the certificate says"
    )]
    ServerName {
        /// The name.
        name: String,
    },
    /// The cryptography itself does not start.
    #[error("the TLS library cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}
