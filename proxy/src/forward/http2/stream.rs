//! One exchange over a connection that it shares with others.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::StatusCode;

use super::hpack::Encoder;
use super::session::{Ended, Session};
use super::state::State;
use crate::fields::{Fields, Skips};
use crate::piece::Piece;

/// A stream. Dropped before its end it is reset.
pub struct Stream {
    session: Rc<RefCell<Session>>,
    state: Rc<RefCell<State>>,
    id: u32,
    /// What came of the body, and waits to be used.
    piece: Piece,
}

impl Stream {
    /// Opens a stream, of which there has to be room for one more, with the head that `write` writes. Behind it there `is_last`
    /// nothing more. The answer to HEAD has a length and no body.
    pub(super) fn open(
        session: &Rc<RefCell<Session>>,
        is_head: bool,
        is_last: bool,
        write: impl FnOnce(&mut Encoder, &mut Vec<u8>),
    ) -> Self {
        let (id, state) = session.borrow_mut().open(is_head, is_last, write);
        Self { session: Rc::clone(session), state, id, piece: Piece::default() }
    }

    /// Waits for the head of the answer, or one of those before it.
    ///
    /// # Errors
    /// None will come.
    pub(super) fn poll_answer(&mut self, cx: &Context<'_>) -> Poll<Result<(StatusCode, Fields), Ended>> {
        let (status, fields) = ready!(self.state.borrow_mut().poll_answer(cx))?;
        self.piece = Piece::behind(&fields);
        Poll::Ready(Ok((status, fields)))
    }

    /// Waits until the upstream takes some of the body, and says how much; `None`: it takes no more.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        self.session.borrow_mut().poll_room(&self.state, cx)
    }

    /// Sends a part of the body, for which there is room.
    pub fn send(&self, data: &[u8], is_last: bool) {
        self.session.borrow_mut().data(self.id, &self.state, data, is_last);
    }

    /// Ends the body with trailers. What they may not say (RFC 9113 section 8.2.2) is left out.
    pub fn send_trailers(&self, trailers: &Fields) {
        const OF_CONNECTION: Skips<6> = Skips::new([
            "connection",
            "keep-alive",
            "proxy-connection",
            "te",
            "transfer-encoding",
            "upgrade",
        ]);
        self.session.borrow_mut().trailers(self.id, &self.state, |encoder, out| {
            for (name, tag, value) in trailers.tagged(OF_CONNECTION) {
                encoder.line(out, name, tag, value);
            }
        });
    }

    /// Waits for bytes, and says how many there are; zero: the body has ended.
    ///
    /// # Errors
    /// The stream broke off.
    pub fn poll_data(&mut self, cx: &Context<'_>) -> Poll<Result<usize, Ended>> {
        if self.piece.data().is_empty() {
            self.piece.fill(ready!(self.state.borrow_mut().poll_data(cx))?.into());
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
        self.session.borrow_mut().used(self.id, &self.state, part.len());
        part
    }

    /// The trailers, once, after the end.
    pub fn take_trailers(&self) -> Option<Fields> {
        self.state.borrow_mut().take_trailers()
    }

    /// Whether nothing more comes, as far as that is known without waiting.
    pub fn is_ended(&self) -> bool {
        self.piece.data().is_empty() && self.state.borrow().is_used_up()
    }

    /// How many bytes are left, where that is known.
    pub fn left(&self) -> Option<u64> {
        if self.is_ended() { Some(0) } else { self.piece.left() }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let unused = self.piece.data().len() + self.state.borrow().unused();
        self.session.borrow_mut().leave(self.id, &self.state, unused);
    }
}
