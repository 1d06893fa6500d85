//! A second opinion on HTTP/1.1: the same bytes through our reader of request heads and through hyper's server. What
//! both accept they must read alike; what hyper refuses we refuse; and where we alone refuse, one of the strictnesses
//! listed in [`STRICTER`] must be the reason.

// The helpers of a test may do as a test may.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use sidetrack_proxy::h1::Bounds;
use sidetrack_proxy::h1::Fault;
use sidetrack_proxy::h1::request::parse;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Where we refuse what hyper takes, and why that is right.
const STRICTER: [(&str, &str); 9] = [
    ("a line of the head ends without CR", "some readers don't end a line there"),
    (
        "there are two Content-Length fields",
        "even equal ones: a list of lengths is nothing that a client sends",
    ),
    ("there are both Content-Length and Transfer-Encoding", "RFC 9112 section 6.1: the mark of a smuggler"),
    (
        "Content-Length is no plain number",
        "beside Transfer-Encoding hyper doesn't read it at all, and drops it",
    ),
    ("Transfer-Encoding is something else than chunked", "a coding before it would have to be undone"),
    ("there are two Transfer-Encoding fields", "the same in two lines"),
    ("the request target holds a character that has to be percent-encoded", "cut by one, sent on by another"),
    ("Transfer-Encoding is newer than the version of the request", "RFC 9112 section 6.1"),
    (
        "the request target is no path",
        "a host and a port are the target of CONNECT only: RFC 9112 section 3.2.3",
    ),
];

/// What a reader made of a head.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    method: String,
    /// The authority where the target is absolute, and the path.
    target: (Option<String>, Option<String>),
    fields: Vec<(String, Vec<u8>)>,
    /// The length of the body; `None`: in chunks.
    length: Option<u64>,
}

fn ours(bytes: &[u8]) -> Result<Option<Read>, Fault> {
    Ok(parse(bytes, Bounds::UPSTREAM)?.map(|(head, _)| Read {
        method: head.head.method.to_string(),
        target: (head.head.authority.map(|name| name.to_string()), Some(head.head.target.to_string())),
        fields: sorted(
            head.head
                .fields
                .iter()
                .map(|(name, value)| (String::from_utf8(name.to_vec()).unwrap(), value.to_vec())),
        ),
        length: head.body.left(),
    }))
}

fn fields(map: &http::HeaderMap) -> Vec<(String, Vec<u8>)> {
    sorted(map.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())))
}

fn sorted(fields: impl Iterator<Item = (String, Vec<u8>)>) -> Vec<(String, Vec<u8>)> {
    let mut list: Vec<_> = fields.collect();
    // Between different names the order means nothing, and a map has its own.
    list.sort_by(|one, other| one.0.cmp(&other.0));
    list
}

/// `None`: no request came out of the bytes.
async fn hypers(bytes: Vec<u8>) -> Option<Read> {
    let seen: Arc<Mutex<Option<Read>>> = Arc::default();
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let to = Arc::clone(&seen);
    let service = service_fn(move |request: Request<Incoming>| {
        let read = Read {
            method: request.method().to_string(),
            target: (
                request.uri().authority().map(ToString::to_string),
                request.uri().path_and_query().map(ToString::to_string),
            ),
            fields: fields(request.headers()),
            length: request.body().size_hint().exact(),
        };
        to.lock().unwrap().get_or_insert(read);
        async { Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new().boxed())) }
    });
    let serving = http1::Builder::new().serve_connection(TokioIo::new(server), service);
    let sending = async move {
        client.write_all(&bytes).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // A server that closes early is no fault of the test.
        let _ = client.read_to_end(&mut answer).await;
    };
    let _ = tokio::join!(serving, sending);
    seen.lock().unwrap().take()
}

/// Asserts that the two readers agree on `bytes`; says whether both accept.
fn compare(bytes: &[u8]) -> Result<bool, TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let theirs = runtime.block_on(hypers(bytes.to_vec()));
    match (ours(bytes), theirs) {
        (Ok(Some(ours)), theirs) => {
            prop_assert_eq!(Some(ours), theirs, "we take what hyper reads otherwise");
            Ok(true)
        }
        (Ok(None), theirs) => {
            prop_assert_eq!(None, theirs, "we wait for more where hyper sees the end");
            Ok(false)
        }
        (Err(Fault::Malformed(why)), Some(theirs)) => {
            let is_listed = STRICTER.iter().any(|(listed, _)| *listed == why);
            prop_assert!(is_listed, "we refuse what hyper takes: {} {:?}", why, theirs);
            Ok(false)
        }
        (Err(_), _) => Ok(false),
    }
}

/// One of these, mostly the first.
fn mostly(usual: &'static str, odd: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop_oneof![12 => Just(usual), 1 => prop::sample::select(odd)]
}

fn field() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "Host",
        "X-PR-ID",
        "x_pr_id",
        "Cookie",
        "Content-Length",
        "Transfer-Encoding",
        "Connection",
        "Expect",
        "TE",
        "Upgrade",
        "a",
        "A-B",
        "x(y",
        "",
        " a",
        "a ",
        "ä",
    ]);
    let value = prop::sample::select(vec![
        "a",
        "",
        "4",
        "04",
        "+4",
        "4, 4",
        "0x4",
        "99999999999999999999",
        "chunked",
        "Chunked",
        "gzip, chunked",
        "chunked, chunked",
        "identity",
        "close",
        "keep-alive, Upgrade",
        "100-continue",
        "a b\tc",
        "a\rb",
        "a\0b",
        "\x7f",
        "pr-id=42; b=c",
        "ä",
    ]);
    let colon = mostly(": ", &[":", " : ", ":\t", "", "::", ":  "]);
    let end = mostly("\r\n", &["\n", "\r", "\r\n ", "\r\n\t", "\r\r\n", " \r\n"]);
    (name, colon, value, end).prop_map(|(name, colon, value, end)| [name, colon, value, end].concat())
}

fn head() -> impl Strategy<Value = Vec<u8>> {
    let before = mostly("", &["\r\n", "\n", "\r\n\r\n", " ", "\r"]);
    let method = mostly("GET", &["POST", "OPTIONS", "G(T", "get", "", "M-SEARCH", "PRI"]);
    let target = mostly(
        "/a/b?c=d",
        &[
            "/",
            "*",
            "http://h/x",
            "http://u@h/",
            "h:80",
            "/#f",
            "/a b",
            "/ä",
            "//h",
            "",
            "!",
            "/%zz",
            "/a\\b",
            "/<",
            "/\"",
        ],
    );
    let version = mostly("HTTP/1.1", &["HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "http/1.1", "HTTP/1.1 ", ""]);
    let end = mostly("\r\n", &["\n", "\r", "\r\r\n"]);
    let fields = prop::collection::vec(field(), 0..5);
    (before, method, target, version, end, fields, mostly("\r\n", &["\n", "\r", ""])).prop_map(
        |(before, method, target, version, end, fields, last)| {
            [before, method, " ", target, " ", version, end, &fields.concat(), last].concat().into_bytes()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn heads_that_are_odd_in_places(bytes in head()) {
        compare(&bytes)?;
    }

    #[test]
    fn heads_with_a_byte_changed(bytes in head(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = bytes;
        let at = at.index(bytes.len());
        bytes[at] = byte;
        compare(&bytes)?;
    }
}

#[test]
fn both_take_a_plain_request() {
    let taken = |text: &str| compare(text.as_bytes()).unwrap();
    assert!(taken("GET /a?b HTTP/1.1\r\nHost: x\r\nX-A: 1\r\nx-a:  2 \r\n\r\n"));
    assert!(taken("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"));
    assert!(taken("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"));
    assert!(taken("\r\nGET http://h/x HTTP/1.0\r\n\r\n"));
    assert!(!taken("GET / HTTP/1.1\r\nHost: x\r\n"));
}
