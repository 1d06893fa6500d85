//! A certificate authority that lives as long as a test.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SignatureAlgorithm, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{RootCertStore, ServerConfig};

/// A certificate chain and its key, PEM.
#[derive(Clone)]
pub struct Identity {
    /// The leaf.
    pub cert: String,
    /// The private key.
    pub key: String,
}

impl Identity {
    /// Writes `NAME.crt` and `NAME.key` into `folder`.
    pub fn write(&self, folder: &Path, name: &str) {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join(format!("{name}.crt")), &self.cert).unwrap();
        fs::write(folder.join(format!("{name}.key")), &self.key).unwrap();
    }

    /// The same for a server of this world.
    pub(crate) fn server(&self, alpn: &[&str]) -> Arc<ServerConfig> {
        let chain = CertificateDer::pem_slice_iter(self.cert.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let versions = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = versions.unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

/// A certificate authority.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate, PEM.
    pub pem: String,
}

impl Default for Ca {
    fn default() -> Self {
        Self::new()
    }
}

impl Ca {
    /// Makes a new one.
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority of a test");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// An ECDSA certificate for `names`.
    pub fn issue(&self, names: &[&str]) -> Identity {
        self.issue_with(names, &rcgen::PKCS_ECDSA_P256_SHA256)
    }

    /// A certificate for `names` with a key of `algorithm`.
    pub fn issue_with(&self, names: &[&str], algorithm: &'static SignatureAlgorithm) -> Identity {
        self.sign(CertificateParams::default(), names, algorithm)
    }

    /// An ECDSA certificate for `names` that is good from the first day of one year to that of another.
    pub fn issue_for_years(&self, names: &[&str], from: i32, to: i32) -> Identity {
        let mut params = CertificateParams::default();
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        self.sign(params, names, &rcgen::PKCS_ECDSA_P256_SHA256)
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        names: &[&str],
        algorithm: &'static SignatureAlgorithm,
    ) -> Identity {
        let owned: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        params.subject_alt_names = CertificateParams::new(owned).unwrap().subject_alt_names;
        params.distinguished_name.push(DnType::CommonName, names[0]);
        let key = KeyPair::generate_for(algorithm).unwrap();
        Identity { cert: params.signed_by(&key, &self.issuer).unwrap().pem(), key: key.serialize_pem() }
    }

    /// What a client that trusts this authority trusts.
    pub fn roots(&self) -> RootCertStore {
        roots_of(&self.pem)
    }
}

/// What a client that trusts the certificates of a PEM text trusts.
pub fn roots_of(pem: &str) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    roots
}
