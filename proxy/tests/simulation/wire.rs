//! HTTP/1.1 as both sides of the simulation read it, with no code of the proxy's.

use std::fmt;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::clock::Clock;

/// The most bytes of a message here.
const MOST: usize = 1 << 16;

/// A message, as far as it came.
#[derive(Clone, Default)]
pub(crate) struct Message {
    pub(crate) first: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) whole: bool,
}

impl fmt::Debug for Message {
    /// Without what is another with each run.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        for (name, value) in self.fields.iter().filter(|(name, _)| name != "date") {
            write!(f, ", {name}: {value}")?;
        }
        let body = String::from_utf8_lossy(&self.body);
        let body = body.split(",\"requestId\"").next().unwrap();
        write!(f, " [{body}]{}", if self.whole { "" } else { " cut" })
    }
}

impl Message {
    /// The values of a field, in order.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let fields = self.fields.iter().filter(|(field, _)| field == name);
        fields.map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }
}

/// A connection, with what was read ahead.
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    read: Vec<u8>,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream, read: Vec::new() }
    }

    /// Reads more; `false`: nothing comes any more.
    async fn more(&mut self, clock: &Clock) -> bool {
        assert!(self.read.len() < MOST, "a message without an end");
        let got = self.stream.read_buf(&mut self.read).await;
        clock.moved();
        got.is_ok_and(|count| count > 0)
    }

    /// The next message; `None`: not even a head came.
    pub(crate) async fn message(&mut self, clock: &Clock, is_request: bool) -> Option<Message> {
        let end = loop {
            if let Some(at) = self.read.windows(4).position(|end| end == b"\r\n\r\n") {
                break at;
            }
            if !self.more(clock).await {
                return None;
            }
        };
        let head = String::from_utf8(self.read.drain(..end + 4).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let first = lines.next().unwrap().to_owned();
        let fields = lines.map(|line| line.split_once(':').unwrap());
        let fields = fields.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())).collect();
        let mut message = Message { first, fields, ..Message::default() };
        self.body(&mut message, clock, is_request).await;
        Some(message)
    }

    async fn body(&mut self, message: &mut Message, clock: &Clock, is_request: bool) {
        if message.get("transfer-encoding") == Some("chunked") {
            while let Some(length) = self.line(clock).await {
                let length = usize::from_str_radix(&length, 16).unwrap();
                if !self.take(length, message, clock).await || self.line(clock).await.is_none() {
                    return;
                }
                if length == 0 {
                    message.whole = true;
                    return;
                }
            }
        } else if let Some(length) = message.get("content-length").map(|text| text.parse().unwrap()) {
            message.whole = self.take(length, message, clock).await;
        } else {
            assert!(is_request, "an answer without a length: {message:?}");
            message.whole = true;
        }
    }

    async fn line(&mut self, clock: &Clock) -> Option<String> {
        loop {
            if let Some(at) = self.read.windows(2).position(|end| end == b"\r\n") {
                let line = String::from_utf8(self.read.drain(..at + 2).collect()).unwrap();
                return Some(line.trim_end().to_owned());
            }
            if !self.more(clock).await {
                return None;
            }
        }
    }

    async fn take(&mut self, length: usize, message: &mut Message, clock: &Clock) -> bool {
        while self.read.len() < length {
            if !self.more(clock).await {
                message.body.append(&mut self.read);
                return false;
            }
        }
        message.body.extend(self.read.drain(..length));
        true
    }
}
