//! An upstream of HTTP/2. The library that reads it is strict by itself; what it refuses is noted as wrong, and what it
//! takes is looked at again.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{SendResponse, handshake};
use http::{HeaderMap, Response};
use tokio::net::{TcpListener, TcpStream};

use super::judge::Seen;
use super::strict::Request;
use super::world::Log;

type Noted = Rc<RefCell<Seen>>;

/// Serves until the process ends.
pub(crate) async fn serve(listener: TcpListener, service: &'static str, key: &'static str, log: Log) {
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        tokio::task::spawn_local(connection(stream, (service, key), Rc::clone(&log)));
    }
}

async fn connection(stream: TcpStream, upstream: (&'static str, &'static str), log: Log) {
    let note = |request: Request, wrong: Option<String>| {
        let seen = Seen { upstream, request, is_whole: false, tunnel: None, wrong };
        let seen = Rc::new(RefCell::new(seen));
        log.borrow_mut().push(Rc::clone(&seen));
        seen
    };
    let Ok(mut streams) = handshake(stream).await else { return };
    while let Some(accepted) = streams.accept().await {
        match accepted {
            Ok((request, respond)) => {
                let (parts, body) = request.into_parts();
                let read = read(&parts);
                let wrong = wrong(&read);
                let noted = note(read, wrong);
                tokio::task::spawn_local(stream_of(noted, body, respond));
            }
            Err(error) if error.is_library() => {
                drop(note(Request::default(), Some(format!("no HTTP/2: {error}"))))
            }
            Err(_) => return,
        }
    }
}

fn read(parts: &http::request::Parts) -> Request {
    let mut fields = lines(&parts.headers);
    if let Some(authority) = parts.uri.authority() {
        fields.push(("host".to_owned(), authority.as_str().into()));
    }
    Request {
        method: parts.method.to_string(),
        target: parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        fields,
        ..Request::default()
    }
}

fn lines(map: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    map.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect()
}

/// What no request of HTTP/2 may have (RFC 9113 section 8.2.2).
fn wrong(request: &Request) -> Option<String> {
    let of_connection = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];
    let found = of_connection.iter().find(|name| request.all(name).next().is_some());
    let hosts = request.all("host").count();
    match found {
        Some(name) => Some(format!("{name} in HTTP/2")),
        None if hosts > 1 => Some("two hosts".to_owned()),
        None if request.all("content-length").count() > 1 => Some("two lengths".to_owned()),
        None if request.all("content-length").any(<[u8]>::is_empty) => {
            Some("no length in its field".to_owned())
        }
        None => None,
    }
}

/// Reads one request to its end, and answers it.
async fn stream_of(noted: Noted, mut body: RecvStream, mut respond: SendResponse<Bytes>) {
    let target = noted.borrow().request.target.clone();
    let is_early = target.contains("early");
    if noted.borrow().request.all("expect").next().is_some() {
        let _ = respond.send_informational(Response::builder().status(100).body(()).expect("an answer"));
    }
    let mut answer = |is_head: bool| {
        let length = if is_head { "0" } else { "2" };
        let response = Response::builder().header("content-length", length).body(()).expect("an answer");
        if let Ok(mut stream) = respond.send_response(response, is_head) {
            let _ = stream.send_data(Bytes::from_static(b"ok"), true);
        }
    };
    let is_head = noted.borrow().request.method == "HEAD";
    if is_early {
        answer(is_head);
    }
    while let Some(data) = body.data().await {
        // Reset: this was all.
        let Ok(data) = data else { return };
        let _ = body.flow_control().release_capacity(data.len());
        noted.borrow_mut().request.body.extend_from_slice(&data);
    }
    let Ok(trailers) = body.trailers().await else { return };
    let mut seen = noted.borrow_mut();
    seen.request.trailers = trailers.as_ref().map(lines).unwrap_or_default();
    let length = seen.request.all("content-length").next().map(<[u8]>::to_vec);
    if length.is_some_and(|length| length != seen.request.body.len().to_string().into_bytes()) {
        seen.wrong = Some("content-length is not what came".to_owned());
    }
    seen.is_whole = true;
    if !is_early {
        answer(is_head);
    }
}
