//! What a scripted upstream does with one request.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, TRAILER, UPGRADE};
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};

use super::{Seen, Shared};
use crate::body::{Body, empty, feed, full, pattern};
use crate::websocket::accept_of;

pub(super) async fn answer(
    request: Request<Incoming>,
    connection: usize,
    shared: &Arc<Shared>,
) -> Response<Body> {
    if request.uri().path() == "/healthz" {
        shared.checks.fetch_add(1, Ordering::SeqCst);
        let healthy = shared.healthy.load(Ordering::SeqCst);
        let status = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        return Response::builder().status(status).body(empty()).unwrap();
    }
    shared.seen.lock().unwrap().push(Seen {
        line: format!("{} {}", request.method(), target_of(&request)),
        headers: request.headers().clone(),
        connection,
    });
    let extra: Vec<(String, HeaderValue)> = request.headers().get_all("x-answer").iter().map(split).collect();
    let mut response = obey(request, shared).await;
    for (name, value) in extra {
        response.headers_mut().append(hyper::header::HeaderName::try_from(name).unwrap(), value);
    }
    response.headers_mut().insert("x-upstream", shared.name.parse().unwrap());
    response
}

fn split(value: &HeaderValue) -> (String, HeaderValue) {
    let (name, value) = value.to_str().unwrap().split_once(": ").unwrap();
    (name.to_owned(), HeaderValue::from_str(value).unwrap())
}

async fn obey(request: Request<Incoming>, shared: &Arc<Shared>) -> Response<Body> {
    if request.headers().contains_key(UPGRADE) {
        return upgrade(request);
    }
    let script = request.headers().get("x-act").map(|value| value.to_str().unwrap().to_owned());
    let (verb, number) = match script.as_deref().unwrap_or_default().split_once(' ') {
        Some((verb, number)) => (verb.to_owned(), number.parse::<u64>().unwrap()),
        None => (script.unwrap_or_default(), 0),
    };
    match verb.as_str() {
        "" => Response::new(full(describe(request).await)),
        "status" => {
            let status = u16::try_from(number).unwrap();
            Response::builder().status(status).body(full(describe(request).await)).unwrap()
        }
        "hold" => {
            let body = describe(request).await;
            shared.holding.send_modify(|holding| *holding += 1);
            shared.gate.acquire().await.unwrap().forget();
            shared.holding.send_modify(|holding| *holding -= 1);
            Response::new(full(body))
        }
        "bytes" => Response::new(pattern(number)),
        "stream" => Response::new(stream(number)),
        "events" => events(shared.clone()),
        "trailers" => trailers(describe(request).await),
        "echo" => echo(request),
        "early" => Response::new(full("early")),
        "cut" => cut(),
        other => panic!("no such act: {other}"),
    }
}

fn target_of(request: &Request<Incoming>) -> String {
    request.uri().path_and_query().map_or_else(|| request.uri().to_string(), ToString::to_string)
}

/// Reads the request to its end and says what it was.
async fn describe(request: Request<Incoming>) -> Vec<u8> {
    let (method, target) = (request.method().to_string(), target_of(&request));
    let version = format!("{:?}", request.version());
    let authority = request.uri().authority().map(ToString::to_string);
    let (head, mut body) = request.into_parts();
    let lines: Vec<(&str, String)> = head
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let host = head.headers.get("host").map(|host| host.to_str().unwrap().to_owned()).or(authority);
    let (mut body_len, mut trailers) = (0, Map::new());
    while let Some(Ok(frame)) = body.frame().await {
        body_len += frame.data_ref().map_or(0, |data| data.len() as u64);
        for (name, value) in frame.trailers_ref().into_iter().flatten() {
            trailers.insert(name.to_string(), Value::from(value.to_str().unwrap()));
        }
    }
    let said = json!({
        "method": method, "target": target, "version": version, "host": host,
        "headers": lines, "body_len": body_len, "trailers": trailers,
    });
    said.to_string().into_bytes()
}

fn stream(len: u64) -> Body {
    let (feed, body) = feed();
    tokio::spawn(async move {
        let mut left = len;
        while left > 0 {
            let piece = left.min(64 << 10);
            if !feed.data(vec![b'y'; usize::try_from(piece).unwrap()]).await {
                return;
            }
            left -= piece;
        }
    });
    body
}

fn events(shared: Arc<Shared>) -> Response<Body> {
    let (feed, body) = feed();
    tokio::spawn(async move {
        feed.data("data: first\n\n").await;
        shared.gate.acquire().await.unwrap().forget();
        feed.data("data: second\n\n").await;
    });
    Response::builder().header(CONTENT_TYPE, "text/event-stream").body(body).unwrap()
}

fn trailers(said: Vec<u8>) -> Response<Body> {
    let (feed, body) = feed();
    tokio::spawn(async move {
        feed.data(said).await;
        let mut trailers = HeaderMap::new();
        trailers.insert("x-checksum", HeaderValue::from_static("42"));
        feed.trailers(trailers).await;
    });
    Response::builder().header(TRAILER, "x-checksum").body(body).unwrap()
}

fn echo(request: Request<Incoming>) -> Response<Body> {
    let (feed, body) = feed();
    let mut incoming = request.into_body();
    tokio::spawn(async move {
        while let Some(frame) = incoming.frame().await {
            let Ok(frame) = frame else { return feed.abort().await };
            let Ok(data) = frame.into_data() else { continue };
            if !feed.data(data).await {
                return;
            }
        }
    });
    Response::new(body)
}

fn cut() -> Response<Body> {
    let (feed, body) = feed();
    tokio::spawn(async move {
        feed.data("half").await;
        feed.abort().await;
    });
    Response::builder().header("content-length", "8").body(body).unwrap()
}

fn upgrade(mut request: Request<Incoming>) -> Response<Body> {
    let protocol = request.headers()[UPGRADE].clone();
    let accept = request.headers().get("sec-websocket-key").map(|key| accept_of(key.to_str().unwrap()));
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let stream = TokioIo::new(upgraded.await.unwrap());
        let (mut read, mut write) = tokio::io::split(stream);
        // The far end may go at any time.
        let _ = tokio::io::copy(&mut read, &mut write).await;
        let _ = tokio::io::AsyncWriteExt::shutdown(&mut write).await;
    });
    let mut response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(CONNECTION, "upgrade")
        .header(UPGRADE, protocol)
        .header("x-saw", target_of(&request));
    if let Some(accept) = accept {
        response = response.header("sec-websocket-accept", accept);
    }
    response.body(empty()).unwrap()
}
