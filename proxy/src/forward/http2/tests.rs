//! The session as a machine: frames go in, and what it says and wakes is looked at. There are no sockets here and no time.

mod answers;
mod ends;
mod frames;
mod order;
mod windows;
mod writing;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::frame::{self, ACK, END_HEADERS, END_STREAM, Frame, HEAD};
use super::hpack::{Decoder, Encoder};
use super::session::{Ended, Session};
use super::stream::Stream;
use crate::accept::sniff::PREFACE;
use crate::fields::tag;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;

const PING: u8 = 6;
const GOAWAY: u8 = 7;
const UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// Counts how often it is woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Count {
    /// How often it was woken since it was last asked.
    fn take(&self) -> usize {
        self.0.swap(0, Ordering::Relaxed)
    }
}

fn counted() -> (Arc<Count>, Waker) {
    let count = Arc::new(Count::default());
    (Arc::clone(&count), count.into())
}

fn noop() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::head(&mut out, payload.len(), kind, flags, stream);
    out.extend_from_slice(payload);
    out
}

fn settings(list: &[(u16, u32)]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::set(&mut out, list);
    out
}

fn update(stream: u32, more: u32) -> Vec<u8> {
    frame(UPDATE, 0, stream, &more.to_be_bytes())
}

fn reset(stream: u32, reason: u32) -> Vec<u8> {
    frame(RESET, 0, stream, &reason.to_be_bytes())
}

fn go_away(last: u32, reason: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last.to_be_bytes(), reason.to_be_bytes()].concat())
}

/// A session, and the server that it talks to.
struct Server {
    session: Rc<RefCell<Session>>,
    encoder: Encoder,
    decoder: Decoder,
    /// What the session has written, and nobody has looked at.
    sent: Vec<u8>,
}

impl Server {
    /// One that has said nothing yet, and has read what the session says first.
    fn silent() -> Self {
        let mut server = Self {
            session: Rc::new(RefCell::new(Session::default())),
            encoder: Encoder::default(),
            decoder: Decoder::default(),
            sent: Vec::new(),
        };
        server.write();
        assert!(server.sent.starts_with(PREFACE));
        server.sent.drain(..PREFACE.len());
        assert_eq!(server.heard(), ["SETTINGS 2=0 4=65536 6=65536", "WINDOW_UPDATE 0 +6553601"]);
        server
    }

    /// One that has said these settings.
    fn with(list: &[(u16, u32)]) -> Self {
        let mut server = Self::silent();
        server.says(&settings(list));
        assert_eq!(server.heard(), ["SETTINGS ACK"]);
        server
    }

    fn new() -> Self {
        Self::with(&[])
    }

    /// It says something, all of which is whole.
    fn says(&mut self, bytes: &[u8]) {
        let used = self.session.borrow_mut().receive(bytes);
        assert!(used == bytes.len() || self.session.borrow().is_ended(), "{used} of {bytes:02x?}");
    }

    fn section(&mut self, lines: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        self.encoder.begin(&mut out);
        for (name, value) in lines {
            self.encoder.line(&mut out, name.as_bytes(), tag(name.as_bytes()), value.as_bytes());
        }
        out
    }

    /// It says a section.
    fn answers(&mut self, stream: u32, lines: &[(&str, &str)], is_last: bool) {
        let section = self.section(lines);
        let end = if is_last { END_STREAM } else { 0 };
        self.says(&frame(HEADERS, END_HEADERS | end, stream, &section));
    }

    fn body(&mut self, stream: u32, data: &[u8], is_last: bool) {
        self.says(&frame(DATA, if is_last { END_STREAM } else { 0 }, stream, data));
    }

    /// Takes all that waits to be written, as the driver does.
    fn write(&mut self) {
        let mut session = self.session.borrow_mut();
        assert!(session.out.poll_write(&mut self.sent, &mut noop()).is_ready());
        session.written();
    }

    /// What the session has said since it was last asked.
    fn heard(&mut self) -> Vec<String> {
        self.write();
        let sent = std::mem::take(&mut self.sent);
        let mut rest = &sent[..];
        let mut heard = Vec::new();
        while let Some(frame) = Frame::read(rest) {
            let kind = rest[3];
            let payload = &rest[HEAD..HEAD + frame.length];
            rest = &rest[HEAD + frame.length..];
            heard.push(self.told(kind, frame, payload));
        }
        assert!(rest.is_empty());
        heard
    }

    fn told(&mut self, kind: u8, frame: Frame, payload: &[u8]) -> String {
        let id = frame.stream;
        let end = if frame.has(END_STREAM) { " END" } else { "" };
        let reason = |at: usize| format!("{:?}", h2::Reason::from(frame::number(&payload[at..])));
        match kind {
            DATA => format!("DATA {id} {}{end}", payload.len()),
            HEADERS if frame.has(END_HEADERS) => {
                let mut lines = String::new();
                let read = self.decoder.section(payload, |line| {
                    lines += &format!(" {}", String::from_utf8_lossy(line.value));
                });
                read.unwrap();
                format!("HEADERS {id}{lines}{end}")
            }
            HEADERS => format!("HEADERS {id} {}..{end}", payload.len()),
            CONTINUATION => {
                let more = if frame.has(END_HEADERS) { "" } else { ".." };
                format!("CONTINUATION {id} {}{more}", payload.len())
            }
            RESET => format!("RST_STREAM {id} {}", reason(0)),
            SETTINGS if frame.has(ACK) => "SETTINGS ACK".to_owned(),
            SETTINGS => frame::settings(payload)
                .fold("SETTINGS".to_owned(), |text, (which, value)| format!("{text} {which}={value}")),
            PING if frame.has(ACK) => format!("PING ACK {}", String::from_utf8_lossy(payload)),
            PING => format!("PING {}", String::from_utf8_lossy(payload)),
            GOAWAY => format!("GOAWAY {}", reason(4)),
            UPDATE => format!("WINDOW_UPDATE {id} +{}", frame::number(payload)),
            other => panic!("frame {other}"),
        }
    }

    /// Opens a stream, which the server has heard of then.
    fn opened(&mut self, is_last: bool) -> Stream {
        let stream = self.open(is_last, &[(":method", "GET")]);
        let heard = self.heard();
        assert!(heard.len() == 1 && heard[0].starts_with("HEADERS "), "{heard:?}");
        stream
    }

    fn open(&self, is_last: bool, lines: &[(&str, &str)]) -> Stream {
        Stream::open(&self.session, false, is_last, |encoder, out| write(encoder, out, lines))
    }

    fn vacancy(&self, waker: &Waker) -> Poll<Result<(), Ended>> {
        self.session.borrow_mut().poll_vacancy(&mut Context::from_waker(waker))
    }
}

fn write(encoder: &mut Encoder, out: &mut Vec<u8>, lines: &[(&str, &str)]) {
    for (name, value) in lines {
        encoder.line(out, name.as_bytes(), tag(name.as_bytes()), value.as_bytes());
    }
}

/// The status of an answer that is here.
fn status(stream: &mut Stream) -> Result<u16, Ended> {
    match stream.poll_answer(&noop()) {
        Poll::Ready(head) => head.map(|(status, _)| status.as_u16()),
        Poll::Pending => panic!("there is no answer yet"),
    }
}

/// All of a body that is here, and what comes behind it: nothing yet, the end, or a fault.
fn body(stream: &mut Stream) -> (Vec<u8>, Poll<Result<(), Ended>>) {
    let mut whole = Vec::new();
    loop {
        match stream.poll_data(&noop()) {
            Poll::Ready(Ok(0)) => return (whole, Poll::Ready(Ok(()))),
            Poll::Ready(Ok(count)) => {
                assert_eq!(stream.data().len(), count);
                whole.extend_from_slice(&stream.split(count));
            }
            Poll::Ready(Err(why)) => return (whole, Poll::Ready(Err(why))),
            Poll::Pending => return (whole, Poll::Pending),
        }
    }
}

fn room(stream: &Stream) -> Poll<Option<usize>> {
    stream.poll_room(&mut noop())
}
