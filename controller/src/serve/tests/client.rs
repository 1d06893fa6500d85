//! A client over TLS: whole answers, and lines of a stream.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderMap};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use sidetrack_config::stream::{Message, Report};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::super::tls::roots;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

enum Sender {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

/// One connection.
pub(super) struct Client {
    sender: Sender,
    /// The certificate that it was shown.
    pub(super) certificate: Vec<u8>,
}

/// A whole answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) fields: HeaderMap,
    pub(super) body: Bytes,
}

impl Reply {
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }
}

impl Client {
    pub(super) async fn connect(address: SocketAddr, files: &Path, http2: bool) -> Self {
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots(&files.join("ca.crt")).unwrap())
            .with_no_client_auth();
        if http2 {
            config.alpn_protocols = vec![b"h2".to_vec()];
        }
        let stream = tls(config, address).await;
        let certificate = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
        let sender = if http2 {
            let (sender, connection) =
                http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            Sender::Two(sender)
        } else {
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            Sender::One(sender)
        };
        Self { sender, certificate }
    }

    /// A connection on which a test says HTTP/1.1 by itself.
    pub(super) async fn raw(address: SocketAddr, files: &Path) -> TlsStream<TcpStream> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots(&files.join("ca.crt")).unwrap())
            .with_no_client_auth();
        tls(config, address).await
    }

    pub(super) async fn send(
        &mut self,
        method: Method,
        target: &str,
        token: Option<&str>,
        body: Bytes,
    ) -> http::Response<Incoming> {
        let mut request = Request::builder().method(method).header("host", "localhost");
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let whole = format!("https://localhost{target}");
        let answer = async {
            match &mut self.sender {
                Sender::One(sender) => {
                    sender.send_request(request.uri(target).body(Full::new(body)).unwrap()).await
                }
                Sender::Two(sender) => {
                    sender.send_request(request.uri(whole).body(Full::new(body)).unwrap()).await
                }
            }
        };
        timeout(PATIENCE, answer).await.unwrap().unwrap()
    }

    pub(super) async fn ask(
        &mut self,
        method: Method,
        target: &str,
        token: Option<&str>,
        body: Bytes,
    ) -> Reply {
        let response = self.send(method, target, token, body).await;
        let (head, body) = response.into_parts();
        let body = timeout(PATIENCE, body.collect()).await.unwrap().unwrap().to_bytes();
        Reply { status: head.status, fields: head.headers, body }
    }

    pub(super) async fn get(&mut self, target: &str, token: Option<&str>) -> Reply {
        self.ask(Method::GET, target, token, Bytes::new()).await
    }

    pub(super) async fn report(
        &mut self,
        node: &str,
        epoch: &str,
        version: u64,
        error: Option<&str>,
    ) -> Reply {
        let report = Report { node: node.into(), epoch: epoch.into(), version, error: error.map(Into::into) };
        let body = serde_json::to_vec(&report).unwrap().into();
        self.ask(Method::POST, "/v1/report", Some("proxy"), body).await
    }

    /// Says as somebody else that a version is in force.
    pub(super) async fn report_as(&mut self, token: &str, node: &str, epoch: &str, version: u64) -> Reply {
        let report = Report { node: node.into(), epoch: epoch.into(), version, error: None };
        let body = serde_json::to_vec(&report).unwrap().into();
        self.ask(Method::POST, "/v1/report", Some(token), body).await
    }

    /// Follows the table as `node`.
    pub(super) async fn follow(&mut self, node: &str, more: &str) -> Lines {
        self.follow_as("proxy", node, more).await
    }

    /// The same as somebody else.
    pub(super) async fn follow_as(&mut self, token: &str, node: &str, more: &str) -> Lines {
        let target = format!("/v1/stream?node={node}{more}");
        let response = self.send(Method::GET, &target, Some(token), Bytes::new()).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "application/x-ndjson");
        Lines { body: response.into_body(), held: Vec::new(), ready: VecDeque::new(), bytes: 0 }
    }
}

async fn tls(config: ClientConfig, address: SocketAddr) -> TlsStream<TcpStream> {
    let tcp = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap()
}

/// The lines of a stream.
pub(super) struct Lines {
    body: Incoming,
    held: Vec<u8>,
    ready: VecDeque<Message>,
    /// Bytes so far.
    pub(super) bytes: usize,
}

impl Lines {
    /// The next message; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Message> {
        while self.ready.is_empty() {
            let frame = timeout(PATIENCE, self.body.frame()).await.expect("a line in time")?.ok()?;
            let Ok(data) = frame.into_data() else { continue };
            self.bytes += data.len();
            self.held.extend_from_slice(&data);
            while let Some(end) = self.held.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.held.drain(..=end).collect();
                self.ready.push_back(serde_json::from_slice(&line).unwrap());
            }
        }
        self.ready.pop_front()
    }

    /// Reads until the table has `version`; gives the epoch of the hello, if it came.
    pub(super) async fn until(&mut self, version: u64) -> Option<Box<str>> {
        let mut epoch = None;
        loop {
            let reached = match self.next().await.expect("the stream goes on") {
                Message::Hello(hello) => {
                    epoch = Some(hello.epoch);
                    0
                }
                Message::Snapshot(part) if part.hash.is_some() => part.version,
                Message::Snapshot(_) => 0,
                Message::Delta(delta) => delta.to,
                Message::Ping(ping) => ping.version,
            };
            if reached >= version {
                return epoch;
            }
        }
    }
}
