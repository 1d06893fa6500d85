//! The HTTP/2 connection to a controller: who it is, the token, the two requests.

use std::io::Read;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls_pki_types::ServerName;
use sidetrack_config::model::UpstreamTls;
use sidetrack_config::stream::Report;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::mirror::Position;
use crate::accept::tls::TlsError;
use crate::forward::upstream_tls::{ClientTls, server_name};
use crate::worker::LocalExecutor;

/// Until a connection stands.
const CONNECT: Duration = Duration::from_secs(10);
/// Until a report is answered.
const ANSWER: Duration = Duration::from_secs(5);
/// The longest token: a projected one has about a kilobyte.
const MAX_TOKEN: u64 = 16 << 10;

/// Which controller, and who asks.
#[derive(Clone, Debug)]
pub struct Controller {
    /// As it was written.
    url: Box<str>,
    is_tls: bool,
    host: Box<str>,
    port: u16,
    /// What comes before `/v1/`.
    base: Box<str>,
    /// PEM roots to trust; `None`: the system's.
    ca: Option<PathBuf>,
    /// Where the bearer token is.
    token: Option<PathBuf>,
    node: Box<str>,
}

/// Why a controller can't be followed, as far as that is known before it is asked.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// It is no URL of a controller.
    #[error("--controller {0}: {1}; write one such as https://sidetrack-controller.sidetrack.svc:9443")]
    Url(String, &'static str),
    /// The name of this proxy can't be one.
    #[error("--node {0:?} is no name of a node: write 1 to 253 letters, digits, '-', '_' and '.'")]
    Node(String),
}

/// Why a connection ended, or never was.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    /// The token can't be read.
    #[error("the token in {}: {why}", path.display())]
    Token {
        /// Where it is.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The roots can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// It can't be reached.
    #[error("no connection: {0}")]
    Io(#[from] std::io::Error),
    /// It does not speak HTTP/2.
    #[error("it does not speak HTTP/2: is there another server at this address?")]
    NoHttp2,
    /// In clear is for loopback only.
    #[error("{0} is not on this machine, and a table with keys travels over TLS only; write https://")]
    Clear(IpAddr),
    /// HTTP/2 broke off.
    #[error("the connection broke off: {0}")]
    Http(#[from] hyper::Error),
    /// No sign of life.
    #[error("nothing was heard for {0:?}")]
    Silence(Duration),
    /// It refused.
    #[error("it answered {0}{1}")]
    Status(StatusCode, &'static str),
    /// It ended the stream.
    #[error("it ended the stream")]
    Ended,
    /// What it says can't be followed.
    #[error("a new snapshot is needed: {0}")]
    Lost(#[from] super::mirror::Lost),
    /// A line is longer than a line may be.
    #[error(transparent)]
    TooLong(#[from] super::lines::TooLong),
}

impl Controller {
    /// A controller at `url`, for the proxy called `node`.
    ///
    /// # Errors
    /// What is wrong with the URL or the name.
    pub fn new(url: &str, ca: Option<PathBuf>, token: Option<PathBuf>, node: &str) -> Result<Self, Wrong> {
        let wrong = |why| Wrong::Url(url.to_owned(), why);
        let uri: Uri = url.parse().map_err(|_| wrong("is not a URL"))?;
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong("has another scheme than https")),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| wrong("names no host"))?;
        let host = host.trim_matches(['[', ']']);
        let is_loopback = host.parse::<IpAddr>().map_or(host == "localhost", |ip| ip.is_loopback());
        if !is_tls && !is_loopback {
            return Err(wrong("is in clear and not on this machine, and a table holds keys"));
        }
        if uri.query().is_some() || uri.authority().is_some_and(|authority| authority.as_str().contains('@'))
        {
            return Err(wrong("has a query or a user"));
        }
        let named = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if !(1..=253).contains(&node.len()) || !node.bytes().all(named) {
            return Err(Wrong::Node(node.to_owned()));
        }
        Ok(Self {
            url: url.into(),
            is_tls,
            host: host.into(),
            port: uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 }),
            base: uri.path().trim_end_matches('/').into(),
            ca,
            token,
            node: node.into(),
        })
    }

    /// Its URL, as it was written.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The name of this proxy.
    pub(super) fn node(&self) -> &str {
        &self.node
    }

    /// The token as its file has it now; `None`: there is no such file to read.
    ///
    /// # Errors
    /// Why it can't be read.
    pub(super) fn token(&self) -> Result<Option<String>, Failed> {
        let Some(path) = &self.token else { return Ok(None) };
        let bad = |why: String| Failed::Token { path: path.clone(), why };
        let mut text = String::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(MAX_TOKEN).read_to_string(&mut text))
            .map_err(|error| bad(error.to_string()))?;
        match text.trim() {
            "" => Err(bad("it is empty".to_owned())),
            token => Ok(Some(token.to_owned())),
        }
    }

    /// Connects.
    ///
    /// # Errors
    /// Why there is no connection.
    pub(super) async fn connect(&self) -> Result<Connection, Failed> {
        let connecting = tokio::time::timeout(CONNECT, self.try_connect());
        connecting.await.map_err(|_| Failed::Silence(CONNECT))?
    }

    async fn try_connect(&self) -> Result<Connection, Failed> {
        let stream = TcpStream::connect((&*self.host, self.port)).await?;
        stream.set_nodelay(true)?;
        if !self.is_tls {
            let peer = stream.peer_addr()?.ip();
            return if peer.is_loopback() {
                Connection::over(stream).await
            } else {
                Err(Failed::Clear(peer))
            };
        }
        let settings = UpstreamTls { ca_file: self.ca.clone(), server_name: None };
        // The file of the roots is read again each time: it rotates too.
        let config = ClientTls::default().connector(&settings, true)?;
        let name: ServerName<'static> = server_name(&self.host, &settings)?;
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Connection::over(stream).await,
            _ => Err(Failed::NoHttp2),
        }
    }

    fn request(&self, method: &str, target: &str, body: Bytes) -> Request<Full<Bytes>> {
        let scheme = if self.is_tls { "https" } else { "http" };
        let colons = self.host.contains(':');
        let (open, close) = if colons { ("[", "]") } else { ("", "") };
        let uri = format!("{scheme}://{open}{}{close}:{}{}{target}", self.host, self.port, self.base);
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method.parse().unwrap_or_default();
        *request.uri_mut() = uri.parse().unwrap_or_default();
        request
    }
}

/// One connection, which ends with this value.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    _driver: Driver,
}

struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Connection {
    async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + 'static) -> Result<Self, Failed> {
        let mut builder = http2::Builder::new(LocalExecutor);
        // A dead peer that no packet comes from is found by its silence; this is for a network between that forgets
        // idle connections.
        builder.timer(TokioTimer::new()).keep_alive_interval(Duration::from_secs(10));
        let (sender, driver) = builder.handshake(TokioIo::new(stream)).await?;
        let driver = tokio::task::spawn_local(async move {
            if let Err(error) = driver.await {
                tracing::debug!(%error, "connection to the controller ended");
            }
        });
        Ok(Self { sender, _driver: Driver(driver) })
    }

    /// What reports are sent with.
    pub(super) fn sender(&self) -> SendRequest<Full<Bytes>> {
        self.sender.clone()
    }

    /// Asks for the stream from `position` on; `None`: from a snapshot on.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn stream(
        &mut self,
        controller: &Controller,
        token: Option<&str>,
        position: Option<&Position>,
        patience: Duration,
    ) -> Result<Incoming, Failed> {
        let mut target = format!("/v1/stream?node={}", controller.node);
        if let Some(position) = position {
            target += &format!("&epoch={}&version={}", escaped(&position.epoch), position.version);
        }
        let mut request = controller.request("GET", &target, Bytes::new());
        authorize(&mut request, controller, token)?;
        let asking = self.sender.send_request(request);
        let answer =
            tokio::time::timeout(patience, asking).await.map_err(|_| Failed::Silence(patience))??;
        accepted(&answer)?;
        Ok(answer.into_body())
    }
}

/// Sends a report.
///
/// # Errors
/// Why it did not arrive.
pub(super) async fn report(
    sender: &mut SendRequest<Full<Bytes>>,
    controller: &Controller,
    report: &Report,
) -> Result<(), Failed> {
    let body = serde_json::to_vec(report).map_err(std::io::Error::from)?;
    let mut request = controller.request("POST", "/v1/report", body.into());
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // Read for each one: the token that the connection began with may be over.
    authorize(&mut request, controller, controller.token()?.as_deref())?;
    let asking = sender.send_request(request);
    let answer = tokio::time::timeout(ANSWER, asking).await.map_err(|_| Failed::Silence(ANSWER))??;
    accepted(&answer)
}

fn authorize(
    request: &mut Request<Full<Bytes>>,
    controller: &Controller,
    token: Option<&str>,
) -> Result<(), Failed> {
    let Some(token) = token else { return Ok(()) };
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| {
        let path = controller.token.clone().unwrap_or_default();
        Failed::Token { path, why: "it has a character that no token has".to_owned() }
    })?;
    value.set_sensitive(true);
    request.headers_mut().insert(AUTHORIZATION, value);
    Ok(())
}

fn accepted(answer: &Response<Incoming>) -> Result<(), Failed> {
    let hint = match answer.status() {
        status if status.is_success() => return Ok(()),
        StatusCode::UNAUTHORIZED => ": it does not accept the token; see --controller-token",
        StatusCode::FORBIDDEN => {
            ": the account of this token, or the pod that it is bound to, may not follow it; it says why in its log (debug)"
        }
        StatusCode::NOT_FOUND => ": is this the URL of a controller?",
        _ => "",
    };
    Err(Failed::Status(answer.status(), hint))
}

/// As it may stand in a query (RFC 3986 section 2.3).
fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut escaped, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(byte.into()),
            _ => escaped += &format!("%{byte:02X}"),
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(url: &str) -> String {
        Controller::new(url, None, None, "gw-1").unwrap_err().to_string()
    }

    #[test]
    fn a_url_is_taken_apart() {
        let of = |url: &str| Controller::new(url, None, None, "gw-1").unwrap();
        let plain = of("https://c.sidetrack.svc");
        assert_eq!(
            (plain.is_tls, &*plain.host, plain.port, &*plain.base),
            (true, "c.sidetrack.svc", 443, "")
        );
        let other = of("http://[::1]:9443/base/");
        assert_eq!((other.is_tls, &*other.host, other.port, &*other.base), (false, "::1", 9443, "/base"));
        assert_eq!(other.request("GET", "/v1/x", Bytes::new()).uri(), "http://[::1]:9443/base/v1/x");
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (url, said) in [
            ("controller:9443", "has another scheme"),
            ("ftp://x", "has another scheme"),
            ("http://10.0.0.1:9443", "is in clear and not on this machine"),
            ("https://me@x", "has a query or a user"),
            ("https://x?a=b", "has a query or a user"),
        ] {
            assert!(wrong(url).contains(said), "{url}: {}", wrong(url));
        }
        for node in ["", "a b", "a/b", &"x".repeat(254)] {
            assert!(Controller::new("https://x", None, None, node).is_err(), "{node}");
        }
    }

    #[test]
    fn a_query_holds_any_text() {
        assert_eq!(escaped("a-1.b_c~Z"), "a-1.b_c~Z");
        assert_eq!(escaped("a&b=ü"), "a%26b%3D%C3%BC");
    }
}
