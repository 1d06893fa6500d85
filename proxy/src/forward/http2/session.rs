//! One connection, as a client of HTTP/2 sees it (RFC 9113): what both ends have said, and the streams under way. It moves
//! no bytes: what came is given to `receive`, what is to go out waits in `out`.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use foldhash::fast::FixedState;
use h2::Reason;

use super::frame::{self, ACK, END_HEADERS, END_STREAM, Frame, Kind, PADDED, PAYLOAD, PRIORITY};
use super::hpack::{Decoder, Encoder};
use super::output::Output;
use super::section::Section;
use super::state::State;
use super::{CONNECTION_WINDOW, HEAD, STREAM_WINDOW, STREAMS};
use crate::accept::sniff::PREFACE;

/// The largest window (RFC 9113 section 6.9.1).
const LARGEST: i64 = 0x7fff_ffff;
/// Where windows begin, unless the peer says otherwise (RFC 9113 section 6.9.2).
const WINDOW: u32 = 65_535;
/// The last stream that a connection may have.
const LAST: u32 = 0x7fff_ffff;
/// Those who wait for a stream of theirs, and those who did and are not known to have given up.
const OPENING: usize = 2 * STREAMS;
/// The most frames of one section.
const PIECES: usize = 64;
/// The most octets of one. Those of an answer whose head is too long are read all the same, or all others on the connection
/// would end with it.
const SECTION: usize = 8 * HEAD as usize;

/// Why a stream ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// The upstream reset it.
    #[error("the upstream reset the stream: {0}")]
    Reset(Reason),
    /// The upstream went away without it (RFC 9113 section 6.8).
    #[error("the upstream went away: {0}")]
    Left(Reason),
    /// What came is not HTTP/2, or no answer.
    #[error("{0}")]
    Malformed(&'static str),
    /// The connection ended.
    #[error("the connection ended: {0}")]
    Closed(io::ErrorKind),
}

/// What ends a connection or a stream: what its peer is told, and what a person is.
pub(super) type Fault = (Reason, &'static str);

const SIZE: Fault = (Reason::FRAME_SIZE_ERROR, "a frame has a length that none of its kind has");
const IDLE: Fault = (Reason::PROTOCOL_ERROR, "a frame is of a stream that was never opened");
const OVERFLOW: Fault = (Reason::FLOW_CONTROL_ERROR, "a window is larger than any may be");
const NOTHING: Fault = (Reason::PROTOCOL_ERROR, "a window opens by nothing");
const PADDING: Fault = (Reason::PROTOCOL_ERROR, "there is more padding than frame");

/// What the peer has asked for (RFC 9113 section 6.5.2).
struct Peer {
    streams: usize,
    window: u32,
    frame: usize,
}

/// DATA of which not all has come.
struct Arriving {
    id: u32,
    left: usize,
    padding: usize,
    is_last: bool,
}

/// A section of which not all has come.
struct Block {
    id: u32,
    is_last: bool,
    bytes: Vec<u8>,
    pieces: usize,
}

/// What may come, and what of it has been used since the peer was last told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    left: i64,
    used: u32,
    size: u32,
}

impl Room {
    /// The room of `size` octets, all of it free.
    pub(super) const fn new(size: u32) -> Self {
        Self { left: size as i64, used: 0, size }
    }

    /// So many came; whether they may.
    fn takes(&mut self, count: usize) -> bool {
        self.left -= wide(count);
        self.left >= 0
    }

    /// So many were used; how many the peer is to be told of, once they are half of all, or of what is left: else streams
    /// that nobody reads would leave nothing to those that somebody does.
    pub(super) fn used(&mut self, count: usize) -> Option<u32> {
        self.used = self.used.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        let least = i64::from(self.size).min(self.left).max(i64::from(STREAM_WINDOW)) / 2;
        if i64::from(self.used) < least {
            return None;
        }
        let used = std::mem::take(&mut self.used);
        self.left += i64::from(used);
        Some(used)
    }
}

/// A connection.
pub struct Session {
    /// What waits to be written.
    pub(super) out: Output,
    /// Octets that came.
    pub(super) read: u64,
    /// Whether a PING is on its way, and was not answered.
    pub(super) is_pinged: bool,
    /// How often it was looked after: about once a second.
    pub(super) ticks: u32,
    /// How much had come when a stream was given up of which nothing was heard, nor of any other meanwhile.
    doubted: Option<u64>,
    encoder: Encoder,
    decoder: Decoder,
    streams: HashMap<u32, Rc<RefCell<State>>, FixedState>,
    /// The stream that is opened next.
    next: u32,
    peer: Peer,
    /// What the peer takes of all bodies together.
    window: i64,
    /// What may come of all bodies together.
    room: Room,
    arriving: Option<Arriving>,
    block: Option<Block>,
    /// Whether the peer has said what it asks for, which it has to say first.
    is_greeted: bool,
    /// The last stream that the peer answers, once it goes away.
    gone: Option<u32>,
    ended: Option<Ended>,
    is_retired: bool,
    /// Who waits until another stream may be opened.
    opening: Vec<Waker>,
    /// Streams whose bodies wait for room, the first the one that waits longest.
    waiting: VecDeque<Rc<RefCell<State>>>,
    /// How many have their turn, and have not sent yet.
    turns: usize,
}

/// A length as windows have it.
fn wide(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl Default for Session {
    /// A new connection, our first words ready to be written.
    fn default() -> Self {
        let mut out = Output::default();
        out.bytes.extend_from_slice(PREFACE);
        frame::set(&mut out.bytes, &[(2, 0), (4, STREAM_WINDOW), (6, HEAD)]);
        frame::window_update(&mut out.bytes, 0, CONNECTION_WINDOW - WINDOW);
        Self {
            out,
            read: 0,
            is_pinged: false,
            ticks: 0,
            doubted: None,
            encoder: Encoder::default(),
            decoder: Decoder::default(),
            streams: HashMap::default(),
            next: 1,
            peer: Peer { streams: STREAMS, window: WINDOW, frame: PAYLOAD },
            window: i64::from(WINDOW),
            room: Room::new(CONNECTION_WINDOW),
            arriving: None,
            block: None,
            is_greeted: false,
            gone: None,
            ended: None,
            is_retired: false,
            opening: Vec::new(),
            waiting: VecDeque::new(),
            turns: 0,
        }
    }
}

impl Session {
    /// How many streams the peer takes at once.
    pub(super) const fn most_streams(&self) -> usize {
        self.peer.streams
    }

    /// Whether it opens no streams any more: the peer said so, or it has ended.
    pub(super) const fn is_going(&self) -> bool {
        self.ended.is_some() || self.gone.is_some() || self.next > LAST
    }

    /// Whether the peer has said that it takes fewer streams than `lent`, and has all that it takes.
    pub(super) fn takes_fewer_than(&self, lent: u32) -> bool {
        let most = self.peer.streams;
        let are_more = usize::try_from(lent).is_ok_and(|lent| lent > most);
        // One that takes none for a while is waited for.
        self.is_greeted && most > 0 && self.streams.len() >= most && are_more
    }

    /// How many streams were opened, in any measure that grows.
    pub(super) const fn opened(&self) -> u32 {
        self.next
    }

    /// Whether its peer may be dead: somebody has waited for it in vain, and it has said nothing since.
    pub(super) fn is_doubted(&self) -> bool {
        self.doubted == Some(self.read)
    }

    /// Whether it has ended.
    pub(super) const fn is_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Whether nothing is left to do but to close it.
    pub(super) fn is_through(&self) -> bool {
        self.ended.is_some() || (self.streams.is_empty() && (self.is_retired || self.is_going()))
    }

    /// No new streams are wanted of it.
    pub(super) fn retire(&mut self) {
        self.is_retired = true;
        self.out.tell();
    }

    /// The connection is closed.
    pub(super) fn close(&mut self, why: io::ErrorKind) {
        self.out.discard();
        self.end(Ended::Closed(why));
    }

    /// Nothing is left to do, and the peer is told so.
    pub(super) fn leave_peer(&mut self) {
        if self.ended.is_none() {
            frame::go_away(&mut self.out.bytes, Reason::NO_ERROR);
            self.end(Ended::Closed(io::ErrorKind::ConnectionAborted));
        }
    }

    fn end(&mut self, why: Ended) {
        self.ended.get_or_insert(why);
        self.arriving = None;
        for (_, stream) in self.streams.drain() {
            stream.borrow_mut().end(why);
        }
        self.waiting.clear();
        self.wake_openers();
        self.out.tell();
    }

    /// The peer breaks the rules: it is told so, and that is all.
    fn fail(&mut self, (reason, why): Fault) {
        if self.out.discard() {
            frame::go_away(&mut self.out.bytes, reason);
        }
        self.end(Ended::Malformed(why));
    }

    /// Asks for a sign of life.
    pub(super) fn ping(&mut self) {
        if !std::mem::replace(&mut self.is_pinged, true) {
            frame::ping(&mut self.out.bytes, 0, b"sidetrck");
            self.out.tell();
        }
    }

    fn wake_openers(&mut self) {
        self.opening.drain(..).for_each(Waker::wake);
    }

    /// Waits until another stream may be opened.
    ///
    /// # Errors
    /// None may any more.
    pub(super) fn poll_vacancy(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        if let Some(why) = self.ended {
            return Poll::Ready(Err(why));
        }
        if self.is_going() {
            return Poll::Ready(Err(Ended::Left(Reason::NO_ERROR)));
        }
        // How many the peer takes it says first of all. Those that it refused would have begun to send their bodies.
        let most = if self.is_greeted { self.peer.streams } else { 1 };
        // Nor does any begin while the peer takes nothing: what clients begin and leave again would pile up here.
        if self.streams.len() < most && self.out.takes_heads() {
            return Poll::Ready(Ok(()));
        }
        // Who waits may be asked often, by what else it waits for.
        if !self.opening.iter().any(|waker| waker.will_wake(cx.waker())) {
            // Some have given up since. Those who have not come again.
            if self.opening.len() >= OPENING {
                self.wake_openers();
            }
            self.opening.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Opens a stream with the section that `write` writes, behind which there `is_last` nothing more. The answer to HEAD has
    /// a length and no body.
    pub(super) fn open(
        &mut self,
        is_head: bool,
        is_last: bool,
        write: impl FnOnce(&mut Encoder, &mut Vec<u8>),
    ) -> (u32, Rc<RefCell<State>>) {
        let id = self.next;
        self.next += 2;
        let began = (self.read, self.ticks);
        let stream = State::new(i64::from(self.peer.window), is_head, is_last, began);
        let stream = Rc::new(RefCell::new(stream));
        self.streams.insert(id, Rc::clone(&stream));
        self.section(id, is_last, write);
        (id, stream)
    }

    fn section(&mut self, id: u32, is_last: bool, write: impl FnOnce(&mut Encoder, &mut Vec<u8>)) {
        let Self { encoder, out, peer, .. } = self;
        frame::headers(&mut out.bytes, id, is_last, peer.frame, |out| {
            encoder.begin(out);
            write(encoder, out);
        });
        self.out.tell();
    }

    /// Sends trailers.
    pub(super) fn trailers(
        &mut self,
        id: u32,
        stream: &RefCell<State>,
        write: impl FnOnce(&mut Encoder, &mut Vec<u8>),
    ) {
        if stream.borrow().is_sending() {
            self.section(id, true, write);
            self.sent(id, stream);
        }
    }

    /// Waits until some of a body may be sent, and says how much; `None`: the peer takes no more of it.
    pub(super) fn poll_room(
        &mut self,
        stream: &Rc<RefCell<State>>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<usize>> {
        let mut state = stream.borrow_mut();
        let is_in = state.takes_turn();
        self.turns = self.turns.saturating_sub(usize::from(is_in));
        let room = wide(self.out.room()).min(self.window).min(state.window);
        let is_sending = state.is_sending();
        // Nobody goes before those that wait, nor before who was told to go and has not gone yet.
        let is_alone = self.waiting.is_empty() && self.turns == 0;
        if is_sending && room > 0 && (is_in || is_alone) {
            // Where others wait each has a frame of it.
            let most = if is_alone { room } else { room.min(state.share.max(1)) };
            return Poll::Ready(usize::try_from(most).ok());
        }
        if is_sending {
            state.wait(cx);
            if state.window > 0 && state.queues() {
                // Whose turn ended for want of room goes on with it.
                if state.share > 0 {
                    self.waiting.push_front(Rc::clone(stream));
                } else {
                    state.share = wide(PAYLOAD);
                    self.waiting.push_back(Rc::clone(stream));
                }
            }
        }
        drop(state);
        if is_in {
            self.admit();
        }
        if is_sending { Poll::Pending } else { Poll::Ready(None) }
    }

    /// All that waited was written, so that there is room.
    pub(super) fn written(&mut self) {
        self.wake_openers();
        self.admit();
    }

    /// Some of what waited was written.
    pub(super) fn wrote(&mut self) {
        if self.out.takes_heads() {
            self.wake_openers();
        }
    }

    /// Lets the one in that waits longest for room, where there is some.
    fn admit(&mut self) {
        if self.window > 0 && self.out.room() > 0 {
            while let Some(stream) = self.waiting.pop_front() {
                if stream.borrow_mut().let_in() {
                    self.turns += 1;
                    return;
                }
            }
        }
    }

    /// Sends a part of a body, for which there is room.
    pub(super) fn data(&mut self, id: u32, stream: &RefCell<State>, data: &[u8], is_last: bool) {
        if !stream.borrow().is_sending() {
            return;
        }
        self.window -= wide(data.len());
        stream.borrow_mut().sends(wide(data.len()));
        let mut rest = data;
        while rest.len() > self.peer.frame {
            let (piece, others) = rest.split_at(self.peer.frame);
            frame::data(&mut self.out.bytes, id, piece, false);
            rest = others;
        }
        frame::data(&mut self.out.bytes, id, rest, is_last);
        self.out.tell();
        self.admit();
        if is_last {
            self.sent(id, stream);
        }
    }

    /// All of a request is sent.
    fn sent(&mut self, id: u32, stream: &RefCell<State>) {
        let mut state = stream.borrow_mut();
        state.is_sent = true;
        if state.is_over() {
            self.forget(id);
        }
    }

    fn forget(&mut self, id: u32) -> Option<Rc<RefCell<State>>> {
        let stream = self.streams.remove(&id);
        self.wake_openers();
        if self.is_through() {
            self.out.tell();
        }
        stream
    }

    /// `count` octets of a body were used, of which the peer is told in time: the window opens as data is used, and no sooner.
    pub(super) fn used(&mut self, id: u32, stream: &RefCell<State>, count: usize) {
        self.used_nowhere(count);
        let mut state = stream.borrow_mut();
        if let Some(more) = state.room.used(count)
            && state.is_receiving()
        {
            frame::window_update(&mut self.out.bytes, id, more);
            self.out.tell();
        }
    }

    /// Nobody wants more of a stream, of which so much came that was not used.
    pub(super) fn leave(&mut self, id: u32, stream: &RefCell<State>, unused: usize) {
        self.used_nowhere(unused);
        if self.streams.contains_key(&id) {
            self.forget(id);
            let (read, ticks) = stream.borrow().began;
            // Who leaves at once has not waited: for one of the ticks at most.
            if read == self.read && self.ticks.wrapping_sub(ticks) > 1 {
                self.doubted = Some(read);
            }
            frame::reset(&mut self.out.bytes, id, Reason::CANCEL);
            self.out.tell();
        }
        let mut state = stream.borrow_mut();
        if state.is_queued() {
            // A peer that takes nothing would have us keep what nobody waits for.
            self.waiting.retain(|waiting| !std::ptr::eq(&**waiting, stream));
        }
        let had_turn = state.leaves();
        drop(state);
        self.pass(had_turn);
    }

    /// A stream ends before its end, and with it its turn.
    fn end_stream(&mut self, stream: &RefCell<State>, why: Ended) {
        stream.borrow_mut().end(why);
        let had_turn = stream.borrow_mut().takes_turn();
        self.pass(had_turn);
    }

    /// The turn of who will not take it is the next one's.
    fn pass(&mut self, had_turn: bool) {
        if had_turn {
            self.turns = self.turns.saturating_sub(1);
            self.admit();
        }
    }

    /// One stream breaks the rules: it is reset.
    fn break_off(&mut self, id: u32, (reason, why): Fault) {
        if let Some(stream) = self.forget(id) {
            self.end_stream(&stream, Ended::Malformed(why));
            frame::reset(self.out.reply(), id, reason);
        }
    }

    /// Octets of a body came that no stream has any more.
    fn used_nowhere(&mut self, count: usize) {
        if let Some(more) = self.room.used(count) {
            frame::window_update(&mut self.out.bytes, 0, more);
            self.out.tell();
        }
    }

    /// Takes what came, and says how much of it was used; the rest is not whole.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        while self.ended.is_none() {
            match self.step(rest) {
                Ok(Some(count)) => rest = rest.get(count..).unwrap_or_default(),
                Ok(None) => break,
                Err(fault) => self.fail(fault),
            }
        }
        bytes.len() - rest.len()
    }

    /// Takes one frame, or what is here of one with DATA; `None`: there is not enough of it.
    fn step(&mut self, bytes: &[u8]) -> Result<Option<usize>, Fault> {
        if let Some(arriving) = self.arriving.take() {
            return Ok(self.arrive(arriving, bytes));
        }
        let Some(frame) = Frame::read(bytes) else { return Ok(None) };
        if !self.is_greeted && (frame.kind != Kind::Settings || frame.has(ACK)) {
            return Err((Reason::PROTOCOL_ERROR, "what came first is not HTTP/2"));
        }
        if frame.length > PAYLOAD {
            return Err((Reason::FRAME_SIZE_ERROR, "a frame is longer than it may be"));
        }
        if self
            .block
            .as_ref()
            .is_some_and(|block| frame.kind != Kind::Continuation || frame.stream != block.id)
        {
            return Err((Reason::PROTOCOL_ERROR, "a frame came within a section"));
        }
        let behind = bytes.get(frame::HEAD..).unwrap_or_default();
        if frame.kind == Kind::Data {
            return self.begin_data(frame, behind);
        }
        let Some(payload) = behind.get(..frame.length) else { return Ok(None) };
        self.frame(frame, payload)?;
        Ok(Some(frame::HEAD + frame.length))
    }

    fn frame(&mut self, frame: Frame, payload: &[u8]) -> Result<(), Fault> {
        match frame.kind {
            Kind::Headers => self.headers(frame, payload),
            Kind::Continuation => self.continuation(frame, payload),
            Kind::Reset => self.reset(frame, payload),
            Kind::Settings => self.settings(frame, payload),
            Kind::PushPromise => Err((Reason::PROTOCOL_ERROR, "an answer was pushed, which we forbid")),
            Kind::Ping => self.pinged(frame, payload),
            Kind::GoAway => self.go_away(frame, payload),
            Kind::WindowUpdate => self.window_update(frame, payload),
            Kind::Priority => self.prioritized(frame),
            Kind::Data | Kind::Unknown => Ok(()),
        }
    }

    /// Nobody heeds it, but it has a form (RFC 9113 section 6.3).
    fn prioritized(&mut self, frame: Frame) -> Result<(), Fault> {
        if frame.stream == 0 {
            return Err((Reason::PROTOCOL_ERROR, "a priority of no stream"));
        }
        if frame.length != 5 {
            self.break_off(frame.stream, SIZE);
        }
        Ok(())
    }

    /// Whether this is a stream that we have opened, now or before.
    const fn is_ours(&self, id: u32) -> bool {
        id % 2 == 1 && id < self.next
    }

    fn begin_data(&mut self, frame: Frame, behind: &[u8]) -> Result<Option<usize>, Fault> {
        if !self.is_ours(frame.stream) {
            return Err(IDLE);
        }
        let mut own = 0;
        let mut padding = 0;
        if frame.has(PADDED) {
            let Some(first) = behind.first() else { return Ok(None) };
            (own, padding) = (1, usize::from(*first));
        }
        let Some(left) = frame.length.checked_sub(own + padding) else {
            return Err(PADDING);
        };
        if !self.room.takes(frame.length) {
            return Err((Reason::FLOW_CONTROL_ERROR, "more came than the window of the connection"));
        }
        self.used_nowhere(own + padding);
        if let Some(stream) = self.streams.get(&frame.stream).cloned() {
            let mut state = stream.borrow_mut();
            let fault = if !state.is_receiving() {
                Some((Reason::STREAM_CLOSED, "a body came behind the end of its answer"))
            } else if !state.has_head() {
                Some((Reason::PROTOCOL_ERROR, "a body came before the head of its answer"))
            } else if !state.room.takes(frame.length) {
                Some((Reason::FLOW_CONTROL_ERROR, "more came than the window of the stream"))
            } else if !state.announced(left) {
                Some((Reason::PROTOCOL_ERROR, "a body is longer than its head says"))
            } else {
                // What padding takes is free again at once.
                if let Some(more) = state.room.used(own + padding) {
                    frame::window_update(&mut self.out.bytes, frame.stream, more);
                }
                None
            };
            drop(state);
            if let Some(fault) = fault {
                self.break_off(frame.stream, fault);
            }
        }
        let arriving = Arriving { id: frame.stream, left, padding, is_last: frame.has(END_STREAM) };
        let Some(rest) = behind.get(own..) else { return Ok(None) };
        let taken = self.arrive(arriving, rest).unwrap_or(0);
        Ok(Some(frame::HEAD + own + taken))
    }

    /// Takes what is here of a body.
    fn arrive(&mut self, mut arriving: Arriving, bytes: &[u8]) -> Option<usize> {
        let data = bytes.get(..arriving.left.min(bytes.len())).unwrap_or_default();
        let stream = self.streams.get(&arriving.id).cloned();
        match &stream {
            Some(stream) => stream.borrow_mut().arrived(data),
            None => self.used_nowhere(data.len()),
        }
        arriving.left -= data.len();
        let skipped = if arriving.left == 0 { arriving.padding.min(bytes.len() - data.len()) } else { 0 };
        arriving.padding -= skipped;
        let taken = data.len() + skipped;
        if arriving.left + arriving.padding > 0 {
            self.arriving = Some(arriving);
            return (taken > 0).then_some(taken);
        }
        if let Some(stream) = stream.filter(|_| arriving.is_last) {
            self.finish(arriving.id, &stream);
        }
        Some(taken)
    }

    /// All of an answer has come.
    fn finish(&mut self, id: u32, stream: &Rc<RefCell<State>>) {
        let finished = stream.borrow_mut().finish();
        match finished {
            Err(why) => self.break_off(id, (Reason::PROTOCOL_ERROR, why)),
            Ok(()) if stream.borrow().is_sent => drop(self.forget(id)),
            Ok(()) => {}
        }
    }

    fn headers(&mut self, frame: Frame, payload: &[u8]) -> Result<(), Fault> {
        if !self.is_ours(frame.stream) {
            return Err(IDLE);
        }
        let section = fragment(frame, payload).ok_or(PADDING)?;
        let is_last = frame.has(END_STREAM);
        if frame.has(END_HEADERS) {
            return self.heard(frame.stream, is_last, section);
        }
        self.block = Some(Block { id: frame.stream, is_last, bytes: section.to_vec(), pieces: 1 });
        Ok(())
    }

    fn continuation(&mut self, frame: Frame, payload: &[u8]) -> Result<(), Fault> {
        let Some(mut block) = self.block.take() else {
            return Err((Reason::PROTOCOL_ERROR, "a section goes on that has not begun"));
        };
        block.bytes.extend_from_slice(payload);
        block.pieces += 1;
        if block.bytes.len() > SECTION || block.pieces > PIECES {
            return Err((Reason::ENHANCE_YOUR_CALM, "a section is longer than any may be"));
        }
        if frame.has(END_HEADERS) {
            return self.heard(block.id, block.is_last, &block.bytes);
        }
        self.block = Some(block);
        Ok(())
    }

    /// A section has come. It is read also where nobody waits for it: the table has to stay what the peer's is.
    fn heard(&mut self, id: u32, is_last: bool, bytes: &[u8]) -> Result<(), Fault> {
        let mut section = Section::default();
        let read = self.decoder.section(bytes, |line| section.take(line));
        read.map_err(|_| (Reason::COMPRESSION_ERROR, "a section can't be read"))?;
        let Some(stream) = self.streams.get(&id).cloned() else { return Ok(()) };
        let heard = stream.borrow_mut().heard(section, is_last);
        match heard {
            Err(fault) => self.break_off(id, fault),
            Ok(()) if is_last => self.finish(id, &stream),
            Ok(()) => {}
        }
        Ok(())
    }

    fn reset(&mut self, frame: Frame, payload: &[u8]) -> Result<(), Fault> {
        if payload.len() != 4 {
            return Err(SIZE);
        }
        if !self.is_ours(frame.stream) {
            return Err(IDLE);
        }
        if let Some(stream) = self.forget(frame.stream) {
            // What came before stays, and is used.
            self.end_stream(&stream, Ended::Reset(frame::number(payload).into()));
        }
        Ok(())
    }

    fn settings(&mut self, frame: Frame, payload: &[u8]) -> Result<(), Fault> {
        if frame.stream != 0 {
            return Err((Reason::PROTOCOL_ERROR, "settings of a stream"));
        }
        if frame.has(ACK) {
            return if payload.is_empty() { Ok(()) } else { Err(SIZE) };
        }
        if !payload.len().is_multiple_of(6) {
            return Err(SIZE);
        }
        self.is_greeted = true;
        // Of many the last one counts: each of them would go through all streams.
        let mut window = self.peer.window;
        for (which, value) in frame::settings(payload) {
            let size = usize::try_from(value).unwrap_or(usize::MAX);
            match which {
                1 => self.encoder.resize(size),
                2 if value != 0 => return Err((Reason::PROTOCOL_ERROR, "a server asks for pushed answers")),
                3 => self.peer.streams = size,
                4 if i64::from(value) > LARGEST => return Err(OVERFLOW),
                4 => window = value,
                5 if !(16_384..=16_777_215).contains(&value) => {
                    return Err((Reason::PROTOCOL_ERROR, "frames of a length that none may have"));
                }
                // What is written at once is bounded, however much the peer takes.
                5 => self.peer.frame = size.min(4 * PAYLOAD),
                // The others are those of an extension, or hints.
                _ => {}
            }
        }
        self.resize(window)?;
        self.wake_openers();
        frame::heard_settings(self.out.reply());
        Ok(())
    }

    /// The windows of all streams begin, and began, with another size (RFC 9113 section 6.9.2).
    fn resize(&mut self, window: u32) -> Result<(), Fault> {
        let more = i64::from(window) - i64::from(self.peer.window);
        if more == 0 {
            return Ok(());
        }
        self.peer.window = window;
        for stream in self.streams.values() {
            if !stream.borrow_mut().widen(more) {
                return Err(OVERFLOW);
            }
        }
        Ok(())
    }

    fn pinged(&mut self, frame: Frame, payload: &[u8]) -> Result<(), Fault> {
        if payload.len() != 8 {
            return Err(SIZE);
        }
        if frame.stream != 0 {
            return Err((Reason::PROTOCOL_ERROR, "a ping of a stream"));
        }
        if frame.has(ACK) {
            self.is_pinged = false;
        } else {
            frame::ping(self.out.reply(), ACK, payload);
        }
        Ok(())
    }

    fn go_away(&mut self, frame: Frame, payload: &[u8]) -> Result<(), Fault> {
        let Some((last, rest)) = payload.split_at_checked(4).filter(|(_, rest)| rest.len() >= 4) else {
            return Err(SIZE);
        };
        if frame.stream != 0 {
            return Err((Reason::PROTOCOL_ERROR, "a stream goes away"));
        }
        let last = frame::number(last) & LAST;
        let why = Ended::Left(frame::number(rest).into());
        self.gone = Some(self.gone.map_or(last, |gone| gone.min(last)));
        let left: Vec<_> = self.streams.extract_if(|id, _| *id > last).collect();
        for (_, stream) in left {
            self.end_stream(&stream, why);
        }
        self.wake_openers();
        Ok(())
    }

    fn window_update(&mut self, frame: Frame, payload: &[u8]) -> Result<(), Fault> {
        if payload.len() != 4 {
            return Err(SIZE);
        }
        let more = i64::from(frame::number(payload) & LAST);
        if frame.stream == 0 {
            if more == 0 {
                return Err(NOTHING);
            }
            self.window += more;
            if self.window > LARGEST {
                return Err(OVERFLOW);
            }
            self.admit();
            return Ok(());
        }
        if !self.is_ours(frame.stream) {
            return Err(IDLE);
        }
        let Some(stream) = self.streams.get(&frame.stream).cloned() else { return Ok(()) };
        if more == 0 {
            self.break_off(frame.stream, NOTHING);
        } else if !stream.borrow_mut().widen(more) {
            self.break_off(frame.stream, OVERFLOW);
        }
        Ok(())
    }
}

/// The part of HEADERS that belongs to the section; `None`: there is more padding than frame.
fn fragment(frame: Frame, payload: &[u8]) -> Option<&[u8]> {
    let (padding, rest) = match payload.split_first() {
        Some((padding, rest)) if frame.has(PADDED) => (usize::from(*padding), rest),
        None if frame.has(PADDED) => return None,
        _ => (0, payload),
    };
    let rest = rest.get(if frame.has(PRIORITY) { 5 } else { 0 }..)?;
    rest.get(..rest.len().checked_sub(padding)?)
}
