//! Exact bytes: a client and an upstream that say precisely what a test wrote.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::wait::within;

/// A TCP connection with what was read ahead.
pub struct Raw {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Raw {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = within("a connection", TcpStream::connect(address)).await.unwrap();
        Self::new(stream)
    }

    fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    /// Writes bytes; a connection that the far end closed is no failure, reading shows it.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = within("room to write", self.stream.write_all(bytes.as_ref())).await;
    }

    /// Writes bytes, and says whether anybody could still be there.
    ///
    /// # Errors
    /// The far end has closed the connection.
    pub async fn try_write(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        within("room to write", self.stream.write_all(bytes.as_ref())).await
    }

    /// Ends the writing side.
    pub async fn finish(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// The connection itself; nothing may have been read yet.
    pub fn into_stream(self) -> TcpStream {
        assert!(self.buffer.is_empty());
        self.stream
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    /// Reads up to and with the empty line; `None`: the connection ended before.
    pub async fn head(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..at + 4).collect();
                return Some(String::from_utf8_lossy(&head).into_owned());
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// Reads exactly `len` bytes; `None`: the connection ended before.
    pub async fn exactly(&mut self, len: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < len {
            if !self.more().await {
                return None;
            }
        }
        Some(self.buffer.drain(..len).collect())
    }

    /// Reads until the connection ends.
    pub async fn rest(&mut self) -> String {
        while self.more().await {}
        String::from_utf8_lossy(&std::mem::take(&mut self.buffer)).into_owned()
    }

    /// Reads one answer with a `Content-Length`: status, head, body.
    pub async fn answer(&mut self) -> (u16, String, Vec<u8>) {
        let head = self.head().await.expect("an answer, but the connection ended");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length = header(&head, "content-length").map_or(0, |value| value.parse().unwrap());
        let body = self.exactly(length).await.expect("a whole body");
        (status, head, body)
    }

    async fn more(&mut self) -> bool {
        let read = within("bytes", self.stream.read_buf(&mut self.buffer)).await;
        // A reset ends it as much as a close does.
        read.is_ok_and(|count| count > 0)
    }
}

/// The value of a header line in the text of a head.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (each, value) = line.split_once(':')?;
        each.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// An upstream whose every byte a test writes.
pub struct RawUpstream {
    /// Where it listens.
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Drop for RawUpstream {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl RawUpstream {
    /// Starts one; `script` gets each connection and its number, counted from 1.
    pub async fn start<F>(script: impl Fn(Raw, usize) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), script).await
    }

    /// The same at `address`.
    pub async fn start_at<F>(address: SocketAddr, script: impl Fn(Raw, usize) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        let accepting = tokio::spawn(async move {
            let mut tasks = JoinSet::new();
            while let io::Result::Ok((stream, _)) = listener.accept().await {
                let index = count.fetch_add(1, Ordering::SeqCst) + 1;
                tasks.spawn(script(Raw::new(stream), index));
            }
        });
        Self { address, connections, accepting }
    }

    /// Starts one that answers every request of every connection with `answer`, and hands out each head it
    /// read through the returned receiver.
    pub async fn answering(answer: &'static str) -> (Self, tokio::sync::mpsc::UnboundedReceiver<String>) {
        let (heads, receiver) = tokio::sync::mpsc::unbounded_channel();
        let upstream = Self::start(move |mut raw, _| {
            let heads = heads.clone();
            async move {
                while let Some(head) = raw.head().await {
                    let length = header(&head, "content-length").map_or(0, |value| value.parse().unwrap());
                    if raw.exactly(length).await.is_none() {
                        return;
                    }
                    // A test that has seen enough may be gone.
                    let _ = heads.send(head);
                    raw.write(answer).await;
                }
            }
        })
        .await;
        (upstream, receiver)
    }

    /// The address as a configuration writes it.
    pub fn endpoint(&self) -> String {
        self.address.to_string()
    }

    /// How many connections were ever accepted.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl From<TcpStream> for Raw {
    fn from(stream: TcpStream) -> Self {
        Self::new(stream)
    }
}
