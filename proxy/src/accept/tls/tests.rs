//! Real handshakes over loopback, with certificates made on the spot.

mod authority;
mod mistakes;
mod names;
mod reload;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, HandshakeKind, RootCertStore,
    SignatureScheme, SupportedProtocolVersion,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sidetrack_config::model::{CertificateFiles, Tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::ServerTls;

pub(super) const BOTH: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

/// What kind of key a test certificate has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ecdsa,
    Rsa,
}

/// A folder with certificates of a throw-away CA.
pub(crate) struct Estate {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) ca: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Estate {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).unwrap();
        fs::write(folder.path().join("root.pem"), ca.pem()).unwrap();
        Self { folder, ca: ca.der().clone(), issuer: Issuer::new(params, key) }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes `stem.crt` and `stem.key`, over what is there, and returns the leaf.
    pub(crate) fn issue(&self, stem: &str, names: &[&str], kind: Kind) -> CertificateDer<'static> {
        self.issue_with(stem, names, kind, |_| {})
    }

    fn issue_with(
        &self,
        stem: &str,
        names: &[&str],
        kind: Kind,
        change: impl FnOnce(&mut CertificateParams),
    ) -> CertificateDer<'static> {
        let key = match kind {
            Kind::Ecdsa => KeyPair::generate().unwrap(),
            Kind::Rsa => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap(),
        };
        let mut params =
            CertificateParams::new(names.iter().map(|n| n.to_string()).collect::<Vec<_>>()).unwrap();
        change(&mut params);
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.path(&format!("{stem}.crt")), leaf.pem()).unwrap();
        fs::write(self.path(&format!("{stem}.key")), key.serialize_pem()).unwrap();
        leaf.der().clone()
    }

    pub(crate) fn pair(&self, stem: &str) -> CertificateFiles {
        CertificateFiles {
            cert_file: self.path(&format!("{stem}.crt")),
            key_file: self.path(&format!("{stem}.key")),
        }
    }

    pub(crate) fn tls(&self, stems: &[&str]) -> Tls {
        Tls::Files(stems.iter().map(|stem| self.pair(stem)).collect())
    }

    pub(crate) fn load(&self, stems: &[&str]) -> ServerTls {
        ServerTls::load(&self.tls(stems), self.folder.path(), Arc::default()).unwrap()
    }
}

/// Serves an echo behind `tls` for as long as the runtime lives.
pub(crate) async fn echo(tls: &ServerTls) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(tls.config());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                while let Ok(byte) = stream.read_u8().await {
                    stream.write_u8(byte).await.unwrap();
                    stream.flush().await.unwrap();
                }
            });
        }
    });
    address
}

/// Sends a byte and wants it back: also what brings a TLS 1.3 ticket in.
pub(crate) async fn ping(stream: &mut TlsStream<TcpStream>) {
    stream.write_u8(7).await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), 7);
}

/// Connects, pings, and keeps the connection.
async fn connect(address: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> TlsStream<TcpStream> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let mut stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await.unwrap();
    ping(&mut stream).await;
    stream
}

fn leaf(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

fn kind(stream: &TlsStream<TcpStream>) -> HandshakeKind {
    stream.get_ref().1.handshake_kind().unwrap()
}

/// A client that trusts `ca`, whatever name a certificate bears, and can verify `schemes` only (`None`: all).
fn client(
    ca: &CertificateDer<'static>,
    version: &'static SupportedProtocolVersion,
    provider: CryptoProvider,
    schemes: Option<&[SignatureScheme]>,
) -> Arc<ClientConfig> {
    let provider = Arc::new(provider);
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone()).unwrap();
    let inner =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let schemes = schemes.map_or_else(|| inner.supported_verify_schemes(), <[_]>::to_vec);
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyName { inner, schemes }))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

fn plain_client(estate: &Estate, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    client(&estate.ca, version, aws_lc_rs::default_provider(), None)
}

/// Proves everything but the name: which certificate came is what the tests look at.
#[derive(Debug)]
struct AnyName {
    inner: Arc<WebPkiServerVerifier>,
    schemes: Vec<SignatureScheme>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.inner.verify_server_cert(leaf, chain, name, ocsp, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            outcome => outcome,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

/// Runs OpenSSL, which we did not write.
fn openssl(arguments: &[&str], files: &[&Path]) -> String {
    let mut command = Command::new("openssl");
    command.args(arguments).args(files);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
