//! HTTP/2 frame by frame: an upstream that says precisely what a test wrote, in the order it wrote it.

use std::future::Future;

use crate::raw::{Raw, RawUpstream};

/// One frame (RFC 9113 section 4.1).
#[derive(Clone, Debug)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream; zero: the connection.
    pub stream: u32,
    /// What follows its head.
    pub payload: Vec<u8>,
}

impl Frame {
    /// DATA.
    pub const DATA: u8 = 0;
    /// HEADERS.
    pub const HEADERS: u8 = 1;
    /// RST_STREAM.
    pub const RESET: u8 = 3;
    /// SETTINGS.
    pub const SETTINGS: u8 = 4;
    /// PING.
    pub const PING: u8 = 6;
    /// GOAWAY.
    pub const GO_AWAY: u8 = 7;
    /// WINDOW_UPDATE.
    pub const WINDOW: u8 = 8;
    /// The flag END_STREAM; of SETTINGS and PING: ACK.
    pub const END: u8 = 1;
    /// The flag END_HEADERS.
    const WHOLE: u8 = 4;

    /// Whether it ends its side of the stream.
    pub fn ends(&self) -> bool {
        self.flags & Self::END != 0
    }

    /// A frame as it travels.
    pub fn bytes(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    /// A head as it travels; with `ends` nothing follows it.
    pub fn head_bytes(stream: u32, fields: &[(&str, &str)], ends: bool) -> Vec<u8> {
        // Literal fields, new names, no table (RFC 7541 section 6.2.2): short ones only.
        let mut block = Vec::new();
        for (name, value) in fields {
            assert!(name.len() < 127 && value.len() < 127);
            block.extend([0, name.len() as u8]);
            block.extend(name.as_bytes());
            block.push(value.len() as u8);
            block.extend(value.as_bytes());
        }
        let flags = Self::WHOLE | if ends { Self::END } else { 0 };
        Self::bytes(Self::HEADERS, flags, stream, &block)
    }

    /// Of RST_STREAM: the reason.
    pub fn reason(&self) -> u32 {
        u32::from_be_bytes(self.payload[..4].try_into().unwrap())
    }
}

/// The server's side of one connection.
pub struct Frames(Raw);

impl Frames {
    /// The client's side: says hello with these settings.
    pub async fn open(mut raw: Raw, settings: &[(u16, u32)]) -> Self {
        raw.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        let mut frames = Self(raw);
        frames.settings(settings).await;
        frames
    }

    /// Takes the client's preface, and says hello with these settings.
    pub async fn accept(mut raw: Raw, settings: &[(u16, u32)]) -> Self {
        raw.exactly(24).await.expect("the preface of a client");
        let mut frames = Self(raw);
        frames.settings(settings).await;
        frames
    }

    /// Sends settings.
    pub async fn settings(&mut self, settings: &[(u16, u32)]) {
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        self.send(Frame::SETTINGS, 0, 0, &payload).await;
    }

    /// Asks for a path, as a client.
    pub async fn get(&mut self, stream: u32, host: &str, path: &str, fields: &[(&str, &str)]) {
        let own = [(":method", "GET"), (":scheme", "http"), (":authority", host), (":path", path)];
        self.head(stream, &[&own, fields].concat(), true).await;
    }

    /// The reason of the GOAWAY that ends the connection; `None`: it ended without one.
    pub async fn gone(&mut self) -> Option<u32> {
        let away = self.next_of(Frame::GO_AWAY).await?;
        Some(u32::from_be_bytes(away.payload[4..8].try_into().unwrap()))
    }

    /// The next frame; `None`: the connection has ended. The client's settings are taken on the way.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            let head = self.0.exactly(9).await?;
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            let stream = u32::from_be_bytes(head[5..9].try_into().unwrap()) & 0x7fff_ffff;
            let payload = self.0.exactly(length).await?;
            let frame = Frame { kind: head[3], flags: head[4], stream, payload };
            match frame.kind {
                Frame::SETTINGS if frame.ends() => {}
                Frame::SETTINGS => self.send(Frame::SETTINGS, Frame::END, 0, &[]).await,
                _ => return Some(frame),
            }
        }
    }

    /// The next frame that is of `kind`, whatever comes before it.
    pub async fn next_of(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if frame.kind == kind {
                return Some(frame);
            }
        }
    }

    /// Everything that the client has said by now, up to its answer to a ping.
    pub async fn said(&mut self) -> Vec<Frame> {
        self.send(Frame::PING, 0, 0, b"said all").await;
        let mut said = Vec::new();
        while let Some(frame) = self.next().await {
            if frame.kind == Frame::PING && frame.ends() {
                break;
            }
            said.push(frame);
        }
        said
    }

    /// Sends a frame.
    pub async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.0.write(Frame::bytes(kind, flags, stream, payload)).await;
    }

    /// Sends a head; with `ends` nothing follows it.
    pub async fn head(&mut self, stream: u32, fields: &[(&str, &str)], ends: bool) {
        self.0.write(Frame::head_bytes(stream, fields, ends)).await;
    }

    /// The connection, for bytes that make no whole frame.
    pub fn into_raw(self) -> Raw {
        self.0
    }

    /// Sends a whole answer.
    pub async fn answer(&mut self, stream: u32, body: &str) {
        self.head(stream, &[(":status", "200")], false).await;
        self.send(Frame::DATA, Frame::END, stream, body.as_bytes()).await;
    }

    /// Resets a stream.
    pub async fn reset(&mut self, stream: u32, reason: u32) {
        self.send(Frame::RESET, 0, stream, &reason.to_be_bytes()).await;
    }

    /// Goes away: streams above `last` are not processed.
    pub async fn go_away(&mut self, last: u32) {
        self.send(Frame::GO_AWAY, 0, 0, &[last.to_be_bytes(), 0u32.to_be_bytes()].concat()).await;
    }

    /// Opens the client's window of a stream, or of the connection, by so many bytes.
    pub async fn window(&mut self, stream: u32, by: u32) {
        self.send(Frame::WINDOW, 0, stream, &by.to_be_bytes()).await;
    }
}

impl From<Raw> for Frames {
    /// Goes on with a connection that has said hello.
    fn from(raw: Raw) -> Self {
        Self(raw)
    }
}

impl RawUpstream {
    /// Starts one that speaks HTTP/2 with these settings; `script` gets each connection and its number, counted from 1.
    pub async fn http2<F>(
        settings: &'static [(u16, u32)],
        script: impl Fn(Frames, usize) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::start(move |raw, index| {
            let script = script.clone();
            async move { script(Frames::accept(raw, settings).await, index).await }
        })
        .await
    }
}
