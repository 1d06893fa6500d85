//! 1xx answers of an upstream on their way to the client (RFC 9110 section 15.2).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::Waker;

use futures_util::task::AtomicWaker;
use http::{HeaderMap, Response, StatusCode};

use crate::forward::rewrite::strip_hop_by_hop;

/// The most that wait for one client: what does not fit is left out, since all but the final answer are optional.
const MOST: usize = 8;

/// The 1xx answers that wait. The upstream's side fills it from a callback that has to be `Send`; it is the same
/// thread all the same.
#[derive(Debug, Default)]
pub struct Hints {
    waiting: Mutex<Vec<Response<()>>>,
    any: AtomicBool,
    waker: AtomicWaker,
}

impl Hints {
    /// Sends a 1xx head before the final answer.
    pub fn send(&self, status: StatusCode, fields: &HeaderMap) {
        let mut hint = Response::new(());
        *hint.status_mut() = status;
        *hint.headers_mut() = fields.clone();
        strip_hop_by_hop(hint.headers_mut());
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
    pub fn take(&self) -> Vec<Response<()>> {
        self.any.store(false, Ordering::Release);
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A 1xx head as HTTP/1.1 writes it.
pub fn as_http1(hint: &Response<()>) -> Vec<u8> {
    let status = hint.status();
    let mut head =
        format!("HTTP/1.1 {} {}\r\n", status.as_str(), status.canonical_reason().unwrap_or("")).into_bytes();
    for (name, value) in hint.headers() {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}
