//! An upstream of HTTP/1.1 that takes nothing but whole, well-formed requests, and remembers what it took.

use std::cell::RefCell;
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::judge::Seen;
use super::strict::{Read, Request, Side, read};
use super::world::Log;

/// Serves until the process ends.
pub(crate) async fn serve(listener: TcpListener, service: &'static str, key: &'static str, log: Log) {
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        stream.set_nodelay(true).expect("a connection");
        let server = Server { stream, buffer: Vec::new(), upstream: (service, key), log: Rc::clone(&log) };
        tokio::task::spawn_local(server.run());
    }
}

/// One connection.
struct Server {
    stream: TcpStream,
    buffer: Vec<u8>,
    upstream: (&'static str, &'static str),
    log: Log,
}

impl Server {
    async fn run(mut self) {
        while let Some((request, seen)) = self.request().await {
            let upgrades = request.target.contains("101") && request.all("upgrade").next().is_some();
            if upgrades {
                return self.tunnel(&seen).await;
            }
            let closes = request.target.contains("close");
            // What was answered early is answered.
            if !request.target.contains("early") {
                self.write(answer(&request, closes)).await;
            }
            if closes {
                return;
            }
        }
    }

    /// The next request, noted as soon as its head is here. `None`: the connection has ended.
    async fn request(&mut self) -> Option<(Request, Rc<RefCell<Seen>>)> {
        let mut noted: Option<Rc<RefCell<Seen>>> = None;
        loop {
            let (request, length) = match read(&self.buffer, Side::Proxy) {
                Read::Whole(request, length) => (Some(request), Some(length)),
                Read::Cut(request) => (request, None),
                Read::Bad(request, why) => {
                    self.note(request.unwrap_or_default(), Some(format!("{why} in {}", self.text())));
                    // Nothing that follows could be read.
                    return None;
                }
            };
            if let Some(request) = request {
                if noted.is_none() {
                    self.greet(&request).await;
                }
                let seen = noted.get_or_insert_with(|| self.note(Request::default(), None));
                let mut seen = seen.borrow_mut();
                seen.request = request.clone();
                seen.is_whole = length.is_some();
                if let Some(length) = length {
                    self.buffer.drain(..length);
                    drop(seen);
                    return Some((request, noted?));
                }
            }
            if self.stream.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                if noted.is_none() && !self.buffer.is_empty() {
                    self.note(Request::default(), Some(format!("a part of a head: {}", self.text())));
                }
                return None;
            }
        }
    }

    /// What is said when the head of a request is here and its body may not be.
    async fn greet(&mut self, request: &Request) {
        if request.target.contains("hint") {
            self.write("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".to_owned()).await;
        }
        if request.target.contains("early") {
            self.write(answer(request, false)).await;
        } else if request.all("expect").next().is_some() {
            self.write("HTTP/1.1 100 Continue\r\n\r\n".to_owned()).await;
        }
    }

    /// Switches protocols, and notes what comes then.
    async fn tunnel(mut self, seen: &RefCell<Seen>) {
        // Before its 101 nothing of the next protocol may be here.
        if !self.buffer.is_empty() {
            seen.borrow_mut().wrong = Some(format!("bytes before the 101: {}", self.text()));
        }
        self.write(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n".to_owned(),
        )
        .await;
        loop {
            seen.borrow_mut().tunnel = Some(self.buffer.clone());
            if self.stream.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                return;
            }
        }
    }

    fn note(&self, request: Request, wrong: Option<String>) -> Rc<RefCell<Seen>> {
        let seen = Seen { upstream: self.upstream, request, is_whole: false, tunnel: None, wrong };
        let seen = Rc::new(RefCell::new(seen));
        self.log.borrow_mut().push(Rc::clone(&seen));
        seen
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.buffer).into_owned()
    }

    /// Writes; who has gone meanwhile is seen to have gone by reading.
    async fn write(&mut self, text: String) {
        let _ = self.stream.write_all(text.as_bytes()).await;
    }
}

fn answer(request: &Request, closes: bool) -> String {
    let close = if closes { "connection: close\r\n" } else { "" };
    let (framing, body) = match request.method.as_str() {
        "HEAD" => ("content-length: 2", ""),
        _ if request.target.contains("chunk") => ("transfer-encoding: chunked", "2\r\nok\r\n0\r\n\r\n"),
        _ => ("content-length: 2", "ok"),
    };
    format!("HTTP/1.1 200 OK\r\n{close}{framing}\r\n\r\n{body}")
}
