//! HTTP clients: one value, one connection.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::{HeaderMap, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use crate::body::Body;
use crate::call::Call;
use crate::reply::Reply;
use crate::wait::{PATIENCE, within, within_time};

/// What a TLS client trusts.
pub type Roots = RootCertStore;

/// An answer whose head is here and whose body is still to be read.
pub type Opened = Response<Incoming>;

enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

/// One connection of a client.
pub struct Conn {
    sender: Sender,
    scheme: &'static str,
    /// The certificate that the server showed, DER; `None` without TLS.
    pub certificate: Option<Vec<u8>>,
    /// Whether the TLS session is an earlier one's.
    pub resumed: bool,
    /// How long the head of an answer may take.
    pub patience: Duration,
    _driver: Guard,
}

type Driver = JoinHandle<Result<(), hyper::Error>>;

/// Ends the connection with its value.
struct Guard(Driver);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Conn {
    /// HTTP/1.1 in clear.
    pub async fn http1(address: SocketAddr) -> io::Result<Self> {
        Self::over(tcp(address).await?, Version::HTTP_11, "http").await
    }

    /// The same on a connection that stands: one that was opened in another network namespace.
    pub async fn http1_on(stream: std::net::TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Self::over(TcpStream::from_std(stream)?, Version::HTTP_11, "http").await
    }

    /// HTTP/2 in clear, by prior knowledge.
    pub async fn http2(address: SocketAddr) -> io::Result<Self> {
        Self::over(tcp(address).await?, Version::HTTP_2, "http").await
    }

    /// TLS with `sni`, speaking what the server picked from `alpn`.
    pub async fn tls(address: SocketAddr, sni: &str, alpn: &[&str], roots: Roots) -> io::Result<Self> {
        let mut config = client_config(roots, rustls::ALL_VERSIONS);
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Self::tls_with(address, sni, Arc::new(config)).await
    }

    /// What several connections share that resume one session.
    pub fn client(roots: Roots, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
        Arc::new(client_config(roots, versions))
    }

    /// TLS as `config` says.
    pub async fn tls_with(address: SocketAddr, sni: &str, config: Arc<ClientConfig>) -> io::Result<Self> {
        let name = ServerName::try_from(sni.to_owned()).unwrap();
        let connecting = TlsConnector::from(config).connect(name, tcp(address).await?);
        let stream = within("a TLS handshake", connecting).await?;
        let session = stream.get_ref().1;
        let certificate =
            session.peer_certificates().and_then(|chain| chain.first()).map(|leaf| leaf.to_vec());
        let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
        let version = match session.alpn_protocol() {
            Some(b"h2") => Version::HTTP_2,
            _ => Version::HTTP_11,
        };
        let conn = Self::over(stream, version, "https").await?;
        Ok(Self { certificate, resumed, ..conn })
    }

    async fn over<S>(stream: S, version: Version, scheme: &'static str) -> io::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let io = TokioIo::new(stream);
        if version == Version::HTTP_2 {
            // Nothing that a test sends or asks for is to be refused on this side.
            let mut builder = http2::Builder::new(TokioExecutor::new());
            let handshake = builder.max_header_list_size(1 << 20).handshake(io);
            let (sender, driver) =
                within("an HTTP/2 handshake", handshake).await.map_err(io::Error::other)?;
            let driver = tokio::spawn(driver);
            return Ok(Self::new(Sender::Http2(sender), scheme, driver));
        }
        let (sender, driver) = http1::handshake(io).await.map_err(io::Error::other)?;
        let driver = tokio::spawn(driver.with_upgrades());
        Ok(Self::new(Sender::Http1(sender), scheme, driver))
    }

    fn new(sender: Sender, scheme: &'static str, driver: Driver) -> Self {
        Self { sender, scheme, certificate: None, resumed: false, patience: PATIENCE, _driver: Guard(driver) }
    }

    /// The version this connection speaks.
    pub fn version(&self) -> Version {
        match self.sender {
            Sender::Http1(_) => Version::HTTP_11,
            Sender::Http2(_) => Version::HTTP_2,
        }
    }

    /// Whether the connection cannot take another request.
    pub fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }

    /// Sends and waits for the head of the answer.
    pub async fn open(&mut self, call: Call) -> Result<Opened, hyper::Error> {
        self.open_noting(call, |_, _| ()).await
    }

    /// The same, and tells `note` of every informational answer (1xx) before it.
    pub async fn open_noting(
        &mut self,
        call: Call,
        note: impl Fn(u16, &HeaderMap) + Send + Sync + 'static,
    ) -> Result<Opened, hyper::Error> {
        let mut request = call.build(self.version(), self.scheme);
        hyper::ext::on_informational(&mut request, move |early| {
            note(early.status().as_u16(), early.headers())
        });
        match &mut self.sender {
            Sender::Http1(sender) => {
                within("a free connection", sender.ready()).await?;
                within_time("the head of an answer", self.patience, sender.send_request(request)).await
            }
            Sender::Http2(sender) => {
                within("a free stream", sender.ready()).await?;
                within_time("the head of an answer", self.patience, sender.send_request(request)).await
            }
        }
    }

    /// Sends and reads the whole answer.
    pub async fn try_send(&mut self, call: Call) -> Result<Reply, hyper::Error> {
        let opened = self.open(call).await?;
        within("the end of an answer", read(opened)).await
    }

    /// Sends and reads the whole answer, which must come.
    pub async fn send(&mut self, call: Call) -> Reply {
        self.try_send(call).await.unwrap()
    }

    /// Sends and reads the whole answer, with every informational answer before it.
    pub async fn send_noting(&mut self, call: Call) -> (Vec<(u16, HeaderMap)>, Reply) {
        let notes = Arc::new(Mutex::new(Vec::new()));
        let pen = notes.clone();
        let note = move |status, headers: &HeaderMap| pen.lock().unwrap().push((status, headers.clone()));
        let opened = self.open_noting(call, note).await.unwrap();
        let reply = within("the end of an answer", read(opened)).await.unwrap();
        let notes = notes.lock().unwrap().clone();
        (notes, reply)
    }
}

fn client_config(roots: Roots, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    builder.with_root_certificates(roots).with_no_client_auth()
}

async fn tcp(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = within("a connection", TcpStream::connect(address)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Reads an answer to its end.
pub(crate) async fn read(opened: Opened) -> Result<Reply, hyper::Error> {
    let (head, body) = opened.into_parts();
    let collected = body.collect().await?;
    let trailers = collected.trailers().cloned().unwrap_or_default();
    Ok(Reply {
        status: head.status.as_u16(),
        version: head.version,
        headers: head.headers,
        body: collected.to_bytes(),
        trailers,
    })
}
