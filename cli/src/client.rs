//! A small HTTP client for what the commands ask: one request, one connection, everything bounded.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::header::{HOST, HeaderMap, HeaderValue};
use hyper::http::uri::{PathAndQuery, Uri};
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long a whole exchange may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most bytes of an answer: the previews of the largest estate are about half of this.
const MAX_ANSWER: usize = 64 << 20;

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Reply {
    /// Its status.
    pub(crate) status: StatusCode,
    /// What was spoken.
    pub(crate) version: Version,
    /// Its header fields.
    pub(crate) fields: HeaderMap,
    /// Its body.
    pub(crate) body: Bytes,
}

impl Reply {
    /// A field as text; empty where it is missing or no text.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

/// Sends a request with an absolute URI to `to` (`host:port`), over TLS where `tls` says what to trust.
///
/// # Errors
/// Why no whole answer came, in words.
pub(crate) async fn send(
    request: Request<Full<Bytes>>,
    to: &str,
    tls: Option<&Arc<ClientConfig>>,
) -> anyhow::Result<Reply> {
    let exchange = async {
        let stream = TcpStream::connect(to).await.with_context(|| format!("{to} can't be reached"))?;
        let Some(tls) = tls else { return over_http1(stream, request).await };
        let name = request.uri().host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(name).context("the host is no name for TLS")?;
        let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await.context("TLS failed")?;
        match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => over_http2(stream, request).await,
            _ => over_http1(stream, request).await,
        }
    };
    let patience = PATIENCE.as_secs();
    tokio::time::timeout(PATIENCE, exchange)
        .await
        .map_err(|_| anyhow!("{to} gave no whole answer within {patience} s"))?
}

/// Trust in the authorities of a file, and the protocols that a browser offers.
///
/// # Errors
/// When the file holds no certificate.
pub(crate) fn trust(ca: &Path) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    let read = CertificateDer::pem_file_iter(ca).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    for certificate in read.with_context(|| ca.display().to_string())? {
        roots.add(certificate)?;
    }
    ensure!(!roots.is_empty(), "{} holds no certificate", ca.display());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Trust in whoever answers, and the same protocols: for tests, where nobody else can.
///
/// # Errors
/// When TLS can't be set up at all.
pub(crate) fn trust_in_anybody() -> anyhow::Result<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Takes any certificate. That the server has its key is proven all the same.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Trust in what the system trusts, and the same protocols. `option` is the one that names a file in its place.
///
/// # Errors
/// When the system has no roots.
pub(crate) fn trust_of_system(option: &str) -> anyhow::Result<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_platform_verifier()
        .with_context(|| format!("the system's roots can't be read; name a file with {option}"))?
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

async fn over_http1<S>(stream: S, mut request: Request<Full<Bytes>>) -> anyhow::Result<Reply>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // HTTP/1.1 splits the URI over request line and Host (RFC 9112 section 3.2.1).
    let host = request.uri().authority().map_or("", |authority| authority.as_str());
    let host = HeaderValue::from_str(host)?;
    request.headers_mut().entry(HOST).or_insert(host);
    let target = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(target);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let reply = whole(sender.send_request(request).await?).await;
    connection.abort();
    reply
}

async fn over_http2<S>(stream: S, request: Request<Full<Bytes>>) -> anyhow::Result<Reply>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let reply = whole(sender.send_request(request).await?).await;
    connection.abort();
    reply
}

async fn whole(response: Response<Incoming>) -> anyhow::Result<Reply> {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, MAX_ANSWER).collect().await;
    let body = body.map_err(|error| anyhow!("the answer broke off, or is over 64 MiB: {error}"))?.to_bytes();
    Ok(Reply { status: head.status, version: head.version, fields: head.headers, body })
}

/// `text` as a value of a query, or as a segment of a path: all but the unreserved (RFC 3986 section 2.3) escaped.
pub(crate) fn encoded(text: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String can't fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_survives_in_a_query() {
        assert_eq!(encoded("http://a.b/c?d=e&f+g"), "http%3A%2F%2Fa.b%2Fc%3Fd%3De%26f%2Bg");
        assert_eq!(encoded("Az09-._~ é"), "Az09-._~%20%C3%A9");
    }
}
