//! Our reader.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use sidetrack_proxy::accept::body::ClientBody;
use sidetrack_proxy::accept::http2::incoming::Incoming;
use sidetrack_proxy::fields::Fields;
use sidetrack_proxy::forward::body::Source;
use sidetrack_proxy::forward::http2::hpack::{Encoder, Known};
use sidetrack_proxy::forward::http2::{Answered, Link, NoAnswer};
use sidetrack_proxy::record::metrics::WorkerStats;
use tokio::time::Instant;

use super::peer::Peer;
use super::script::Script;
use super::{Lines, Read, STREAM_WINDOW};

/// Asks, and reads the answer.
pub(super) async fn read(script: &Script) -> (Read, Vec<u8>) {
    let source = source(script).await;
    let (peer, wire) = Peer::begin(script);
    let stats = Arc::new(WorkerStats::default());
    let mut link = Link::open(0, wire, &stats, Instant::now());
    let mut read = Read::default();
    peer.begun.notified().await;
    match link.stream(Instant::now()) {
        None => read.fault = Some("no stream".to_owned()),
        Some(stream) => {
            let is_head = script.method == Method::HEAD;
            let write = |encoder: &mut Encoder, out: &mut Vec<u8>| {
                match script.method {
                    Method::GET => encoder.known(out, Known::MethodGet),
                    Method::POST => encoder.known(out, Known::MethodPost),
                    _ => encoder.named(out, ":method", b"HEAD"),
                }
                encoder.known(out, Known::SchemeHttp);
                encoder.named(out, ":authority", b"a.example");
                encoder.named(out, ":path", b"/");
            };
            let early = &mut read.early;
            let hint = |status: http::StatusCode, fields| early.push((status.as_u16(), lines(&fields)));
            match stream.exchange(is_head, write, source, false, Duration::ZERO, hint).await {
                Ok(answered) => body(script, &peer, answered, &mut read).await,
                Err(NoAnswer::Malformed) => read.fault = Some("malformed".to_owned()),
                Err(NoAnswer::Ended { why, .. }) => read.fault = Some(why.to_string()),
                Err(NoAnswer::Client) => panic!("the client is here"),
            }
        }
    }
    drop(link);
    (read, peer.end().await)
}

async fn body(script: &Script, peer: &Peer, answered: Answered, read: &mut Read) {
    let (status, fields, mut stream, mut upload) = answered;
    read.head = Some((status.as_u16(), lines(&fields)));
    if script.is_late {
        peer.said.notified().await;
    }
    let ended = poll_fn(|cx| {
        loop {
            if let Some(sending) = &mut upload
                && sending.poll(&stream, cx).map(|sent| sent.expect("the client is here")).is_ready()
            {
                upload = None;
            }
            match stream.poll_data(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(why)) => return Poll::Ready(Err(why)),
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(count)) => {
                    assert!(count <= STREAM_WINDOW as usize, "{count} octets are held");
                    assert_eq!(count, stream.data().len());
                    read.body.extend_from_slice(&stream.split(count));
                }
            }
        }
    });
    match ended.await {
        Ok(()) => read.trailers = stream.take_trailers().map(|trailers| lines(&trailers)),
        Err(why) => read.fault = Some(why.to_string()),
    }
}

fn lines(fields: &Fields) -> Lines {
    let mut lines = Lines::new();
    for (name, value) in fields.iter() {
        lines.entry(name.escape_ascii().to_string()).or_default().push(value.escape_ascii().to_string());
    }
    lines
}

/// A body that is here already, from a client over HTTP/2.
async fn source(script: &Script) -> Option<Rc<Source>> {
    if script.method != Method::POST {
        return None;
    }
    let (near, far) = tokio::io::duplex(1 << 20);
    let window = 1 << 20;
    let (mut client, connection) = h2::client::handshake(near).await.expect("a client");
    tokio::task::spawn_local(connection);
    let mut server = h2::server::Builder::new();
    server.initial_window_size(window).initial_connection_window_size(window);
    let serving = server.handshake::<_, Bytes>(far);
    let request = http::Request::post("http://a.example/").body(()).expect("a request");
    let (_, mut body) = client.send_request(request, false).expect("a stream");
    body.send_data(vec![b'b'; script.body].into(), true).expect("a body");
    let mut server = serving.await.expect("a server");
    let (request, respond) = server.accept().await.expect("a request").expect("it is whole");
    tokio::task::spawn_local(async move {
        // Neither end is closed before the body is used.
        let _respond = respond;
        let _client = client;
        while server.accept().await.is_some() {}
    });
    let incoming = Incoming::new(request.into_body(), &Fields::with_room(0, 0));
    let source = Source::new(ClientBody::Http2(Box::new(incoming)), 0, Duration::ZERO, &Rc::default());
    Some(Rc::new(source.unwrap_or_else(|_| panic!("a body of any length"))))
}
