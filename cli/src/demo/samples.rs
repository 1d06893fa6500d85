//! The sample services: tiny HTTP servers on loopback that say which version they are and what they received.

use std::convert::Infallible;
use std::fmt::Write;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, VARY};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Service and version of every sample.
const ALL: [(&str, &str); 6] = [
    ("shop", "baseline"),
    ("checkout", "baseline"),
    ("payment", "baseline"),
    ("shop", "pr-42"),
    ("checkout", "pr-42"),
    ("payment", "pr-57"),
];
/// What an app behind the gateway may want to know, in the order of the answers.
const SHOWN: [&str; 11] = [
    "host",
    "x-pr-id",
    "baggage",
    "traceparent",
    "tracestate",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "forwarded",
    "x-request-id",
];
/// Connections to one sample at once.
const CONNECTIONS: usize = 512;

/// One version of one service, on a port of its own.
pub(super) struct Sample {
    service: &'static str,
    version: &'static str,
    listener: StdListener,
    /// Where it listens.
    pub(super) address: SocketAddr,
}

impl Sample {
    /// Binds all of them to free ports.
    ///
    /// # Errors
    /// When loopback gives no port.
    pub(super) fn all() -> io::Result<Vec<Self>> {
        let bind = |(service, version)| {
            let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok(Self { service, version, listener, address })
        };
        ALL.into_iter().map(bind).collect()
    }

    /// Its name in the template of the configuration: `checkout`, `checkout-42`.
    pub(super) fn name(&self) -> String {
        match self.version.strip_prefix("pr-") {
            Some(key) => format!("{}-{key}", self.service),
            None => self.service.to_owned(),
        }
    }

    /// Answers for as long as the runtime lives.
    ///
    /// # Errors
    /// When the runtime refuses the listener.
    pub(super) async fn serve(self) -> io::Result<()> {
        let Self { service, version, listener, .. } = self;
        let listener = TcpListener::from_std(listener)?;
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
            let Ok((stream, _)) = listener.accept().await else {
                // No descriptor is left, most likely: better soon than never.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            tokio::spawn(async move {
                let answer = service_fn(move |request| async move {
                    Ok::<_, Infallible>(answer(service, version, &request))
                });
                let mut server = http1::Builder::new();
                server.timer(TokioTimer::new());
                // A connection that breaks off is the client's affair.
                let _ = server.serve_connection(TokioIo::new(stream), answer).await;
                drop(slot);
            });
        }
        Ok(())
    }
}

/// A page for browsers from the shop; JSON for all else.
fn answer(service: &str, version: &str, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    let (kind, body) = match service == "shop" && accept.contains("text/html") {
        true => ("text/html; charset=utf-8", include_str!("page.html").replace("@version@", version)),
        false => ("application/json", facts(service, version, request.uri().path(), request.headers())),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(VARY, HeaderValue::from_static("Accept"));
    response
}

/// Who answers, and what arrived. By hand, because the order is for people.
fn facts(service: &str, version: &str, path: &str, fields: &HeaderMap) -> String {
    let quoted = |text: &str| Value::from(text).to_string();
    let mut body = format!(
        "{{\n  \"service\": {},\n  \"version\": {},\n  \"path\": {},\n  \"received\": {{",
        quoted(service),
        quoted(version),
        quoted(path)
    );
    let mut comma = "";
    for name in SHOWN {
        for value in fields.get_all(name) {
            let value = quoted(&String::from_utf8_lossy(value.as_bytes()));
            // Writing to a String can't fail.
            let _ = write!(body, "{comma}\n    {}: {value}", quoted(name));
            comma = ",";
        }
    }
    body.push_str("\n  }\n}\n");
    body
}
