//! Applications that call each other, and hand on what such applications do: some fields of the request, and none of an
//! answer.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use sidetrack_tests::{Body, Call, Conn, feed, full, get};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

/// When an application makes its calls.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// Before it answers, one after the other.
    Before,
    /// Before it answers, all at once.
    AtOnce,
    /// All at once; the first callee is told to hold, and the answer comes when all others are there.
    First,
    /// When it has answered.
    After,
    /// Between head and trailers, as a stream of gRPC does.
    Meanwhile,
}

struct Shared {
    name: String,
    hands_on: Vec<&'static str>,
    when: When,
    calls: Mutex<Vec<SocketAddr>>,
    seen: Mutex<Vec<HeaderMap>>,
}

impl Shared {
    fn new(name: &str, when: When) -> Self {
        Self {
            name: name.to_owned(),
            hands_on: Vec::new(),
            when,
            calls: Mutex::default(),
            seen: Mutex::default(),
        }
    }
}

/// An application. It goes away with its value.
pub(super) struct App {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

impl Drop for App {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl App {
    /// One that hands on these fields.
    pub(super) async fn start(name: &str, when: When, hands_on: &[&'static str]) -> Self {
        let shared = Arc::new(Shared { hands_on: hands_on.to_vec(), ..Shared::new(name, when) });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared))).abort_handle();
        Self { address, shared, accepting }
    }

    /// Says whom it calls from now on.
    pub(super) fn calls(&self, callees: &[SocketAddr]) {
        *self.shared.calls.lock().unwrap() = callees.to_vec();
    }

    /// The fields of every request so far.
    pub(super) fn seen(&self) -> Vec<HeaderMap> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Where it is, as a configuration says it.
    pub(super) fn endpoint(&self) -> String {
        self.address.to_string()
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let is_http2 = shared.when == When::Meanwhile;
            let service = service_fn(move |request| {
                let shared = Arc::clone(&shared);
                async move { Ok::<_, Infallible>(answer(request, shared).await) }
            });
            let io = TokioIo::new(stream);
            // How a connection ends is seen from the other side.
            if is_http2 {
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(io, service).await;
            } else {
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
            }
        });
    }
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Response<Body> {
    let fields = request.headers().clone();
    shared.seen.lock().unwrap().push(fields.clone());
    let callees = shared.calls.lock().unwrap().clone();
    let grpc = shared.when == When::Meanwhile;
    let call = move |to: SocketAddr, shared: &Shared, fields: &HeaderMap| {
        let handed_on =
            shared.hands_on.iter().flat_map(|name| fields.get_all(*name).iter().map(move |v| (*name, v)));
        let call = handed_on
            .fold(get("callee", "/"), |call: Call, (name, value)| call.header(name, value.to_str().unwrap()));
        async move {
            match grpc {
                true => Conn::http2(to).await.unwrap().send(call.grpc()).await,
                false => Conn::http1(to).await.unwrap().send(call).await,
            }
        }
    };
    let response = Response::builder().header("x-upstream", &shared.name);
    match shared.when {
        When::Before => {
            for to in callees {
                call(to, &shared, &fields).await;
            }
        }
        When::AtOnce => {
            let all: Vec<_> =
                callees.into_iter().map(|to| tokio::spawn(call(to, &shared, &fields))).collect();
            for one in all {
                one.await.unwrap();
            }
        }
        When::First => {
            let [held, others @ ..] = &callees[..] else { panic!("nobody to be called") };
            let mut told = fields.clone();
            told.insert("x-act", "hold".parse().unwrap());
            tokio::spawn(call(
                *held,
                &Shared {
                    hands_on: [&shared.hands_on[..], &["x-act"]].concat(),
                    ..Shared::new("", When::First)
                },
                &told,
            ));
            for to in others {
                call(*to, &shared, &fields).await;
            }
        }
        When::After => {
            tokio::spawn(async move {
                for to in callees {
                    call(to, &shared, &fields).await;
                }
            });
        }
        When::Meanwhile => {
            let (feed, body) = feed();
            tokio::spawn(async move {
                feed.data("one").await;
                for to in callees {
                    call(to, &shared, &fields).await;
                }
                feed.trailers(HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]))
                    .await;
            });
            return response.header("content-type", "application/grpc").body(body).unwrap();
        }
    }
    response.body(full("ok")).unwrap()
}
