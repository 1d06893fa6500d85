//! The body of a request that comes over HTTP/2: what has come waits until it is used.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;

use crate::fields::Fields;
use crate::h1::FIELDS;
use crate::piece::Piece;

/// Room for what trailers get on their way.
const ADDED: (usize, usize) = (2, 128);

/// A body over HTTP/2.
#[derive(Debug)]
pub struct Incoming {
    frames: RecvStream,
    piece: Piece,
    trailers: Option<Fields>,
    ended: bool,
}

impl Incoming {
    /// The body that `frames` bring behind a head with these `fields`.
    pub fn new(frames: RecvStream, fields: &Fields) -> Self {
        Self { frames, piece: Piece::behind(fields), trailers: None, ended: false }
    }

    /// Waits for bytes, and says how many there are; zero: the body has ended.
    ///
    /// # Errors
    /// The stream broke off.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, h2::Error>> {
        while self.piece.data().is_empty() && !self.ended {
            match ready!(self.frames.poll_data(cx)).transpose()? {
                Some(data) => self.piece.fill(data),
                None => {
                    if let Some(map) = ready!(self.frames.poll_trailers(cx))? {
                        if map.len() > FIELDS {
                            return Poll::Ready(Err(h2::Reason::ENHANCE_YOUR_CALM.into()));
                        }
                        self.trailers = Some(Fields::of(&map, ADDED).ok_or(h2::Reason::PROTOCOL_ERROR)?);
                    }
                    self.ended = true;
                }
            }
        }
        Poll::Ready(Ok(self.piece.data().len()))
    }

    /// The bytes that wait.
    pub fn data(&self) -> &[u8] {
        self.piece.data()
    }

    /// Takes the first `count` of the bytes that wait, or as many as there are.
    pub fn split(&mut self, count: usize) -> Bytes {
        let part = self.piece.split(count);
        // The window opens again as the data is used, and no sooner: that is the back-pressure.
        let _ = self.frames.flow_control().release_capacity(part.len());
        part
    }

    /// The trailers, once, after the end.
    pub fn take_trailers(&mut self) -> Option<Fields> {
        self.trailers.take()
    }

    /// Whether nothing more comes, as far as that is known without waiting.
    pub fn is_ended(&self) -> bool {
        self.piece.data().is_empty() && self.trailers.is_none() && (self.ended || self.frames.is_end_stream())
    }

    /// How many bytes are left, where that is known.
    pub fn left(&self) -> Option<u64> {
        match self.piece.left() {
            // The library has seen to it that so much comes, and takes a lock for each question.
            Some(left) if left > 0 => Some(left),
            _ if self.is_ended() => Some(0),
            left => left,
        }
    }
}
