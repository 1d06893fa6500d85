//! An upstream for the runs under load: it answers every HTTP/2 request with one small gRPC message and a trailer, on one
//! thread, so that what limits a run is the proxy. `PORT` is its argument; `benches/load/targets.py` builds and starts it.
//!
//! nginx as the upstream resets a stream whose body it did not wait for, which costs each proxy something else.

use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Builder, SendResponse};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Anything that ends a connection, or this program.
type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Connections that wait to be taken: all of a run come at once.
const BACKLOG: u32 = 4096;
/// Streams of one connection, more than any proxy opens.
const STREAMS: u32 = 1024;
/// The largest window there is: nobody ever waits for one.
const WINDOW: u32 = (1 << 31) - 1;
/// Uncompressed, its length, and that.
const MESSAGE: &[u8] = b"\0\0\0\0\x10pong pong pong !";

fn main() -> Result<(), Failed> {
    let port = std::env::args().nth(1).ok_or("usage: sidetrack-upstream PORT")?.parse()?;
    tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(serve(port))
}

async fn serve(port: u16) -> Result<(), Failed> {
    let listener = listen(port)?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            // However a connection ends, the others go on; what was not answered, the run counts.
            let _ = connection(stream).await;
        });
    }
}

/// Every route of a run has an address of its own, so all of this machine's are listened at.
fn listen(port: u16) -> Result<TcpListener, Failed> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))?;
    Ok(socket.listen(BACKLOG)?)
}

async fn connection(stream: TcpStream) -> Result<(), Failed> {
    stream.set_nodelay(true)?;
    let up = HeaderValue::try_from(stream.local_addr()?.ip().to_string())?;
    let mut settings = Builder::new();
    settings
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_concurrent_streams(STREAMS);
    let mut connection = settings.handshake(stream).await?;
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted?;
        let up = up.clone();
        tokio::spawn(async move {
            // A stream that was reset is one request less.
            let _ = answer(request, respond, up).await;
        });
    }
    Ok(())
}

/// Answers once the request has ended; `up` says which address was asked.
async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    up: HeaderValue,
) -> Result<(), h2::Error> {
    let mut body = request.into_body();
    while let Some(part) = body.data().await {
        body.flow_control().release_capacity(part?.len())?;
    }
    body.trailers().await?;
    let mut head = Response::new(());
    head.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    head.headers_mut().insert("x-up", up);
    let mut rest = respond.send_response(head, false)?;
    rest.send_data(Bytes::from_static(MESSAGE), false)?;
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    rest.send_trailers(trailers)
}
