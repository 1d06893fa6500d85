//! 1xx answers of an upstream on their way to the client (RFC 9110 section 15.2).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::Waker;

use futures_util::task::AtomicWaker;
use http::{Response, StatusCode};

use crate::fields::Fields;
use crate::forward::rewrite::strip_hop_by_hop;
use crate::h1::write;

/// The most that wait for one client: what does not fit is left out, since all but the final answer are optional.
const MOST: usize = 8;

/// One of them.
#[derive(Debug)]
pub struct Hint {
    status: StatusCode,
    fields: Fields,
}

/// The 1xx answers that wait. The upstream's side fills it from a callback that has to be `Send`; it is the same
/// thread all the same.
#[derive(Debug, Default)]
pub struct Hints {
    waiting: Mutex<Vec<Hint>>,
    any: AtomicBool,
    waker: AtomicWaker,
}

impl Hints {
    /// Sends a 1xx head before the final answer.
    pub fn send(&self, status: StatusCode, mut fields: Fields) {
        strip_hop_by_hop(&mut fields);
        let hint = Hint { status, fields };
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < MOST {
            waiting.push(hint);
            drop(waiting);
            self.any.store(true, Ordering::Release);
            self.waker.wake();
        }
    }

    /// Wakes `waker` when one comes.
    pub fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Whether one waits.
    pub fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// Takes those that wait.
    pub fn take(&self) -> Vec<Hint> {
        self.any.store(false, Ordering::Release);
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Hint {
    /// Writes it as HTTP/1.1 does.
    pub fn write(&self, out: &mut Vec<u8>) {
        write::status_line(out, self.status);
        self.fields.write(out, []);
        out.extend_from_slice(b"\r\n");
    }

    /// As HTTP/2 has it.
    pub fn to_http2(&self) -> Response<()> {
        let mut hint = Response::new(());
        *hint.status_mut() = self.status;
        *hint.headers_mut() = self.fields.to_map();
        hint
    }
}
