//! `/livez`, `/readyz` and `/metrics`, in clear: nothing secret is in them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::{Contact, Metrics};

/// Connections at once: kubelet and a few scrapers.
const MAX_CONNECTIONS: usize = 64;
/// How long a head may take to come.
const HEAD: Duration = Duration::from_secs(10);
/// From which age on the readiness page speaks of it.
const STALE: Duration = Duration::from_secs(10);

/// Serves until it is dropped.
pub(crate) async fn serve(listener: TcpListener, metrics: Arc<Metrics>, contact: Arc<Contact>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (metrics, contact) = (Arc::clone(&metrics), Arc::clone(&contact));
        tokio::spawn(async move {
            connection(stream, &metrics, &contact).await;
            drop(place);
        });
    }
}

async fn connection(stream: TcpStream, metrics: &Metrics, contact: &Contact) {
    let service = service_fn(|request: Request<Incoming>| async move {
        Ok::<_, std::convert::Infallible>(answer(&request, metrics, contact))
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD);
    // A client that breaks off is nobody's concern.
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

fn answer(request: &Request<Incoming>, metrics: &Metrics, contact: &Contact) -> Response<Full<Bytes>> {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let (status, text) = match request.uri().path() {
        _ if !is_read => (StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD\n".to_owned()),
        "/livez" => (StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => readiness(metrics, contact),
        "/metrics" => (StatusCode::OK, metrics.page()),
        _ => (StatusCode::NOT_FOUND, "there are /livez, /readyz and /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let kind = http::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}

/// Ready from the first table on; what is known may be old.
fn readiness(metrics: &Metrics, contact: &Contact) -> (StatusCode, String) {
    let age = contact.age();
    if !metrics.has_planned() {
        let why = if age > STALE { "the API server does not answer" } else { "the cluster is being listed" };
        return (StatusCode::SERVICE_UNAVAILABLE, format!("no table yet: {why}\n"));
    }
    let mut text = format!("ok: a table of {} items\n", metrics.items());
    if age > STALE {
        text +=
            &format!("stale: the API server last answered {} s ago; the last table stays\n", age.as_secs());
    }
    (StatusCode::OK, text)
}
