//! 1xx answers of an upstream on their way to the client (RFC 9110 section 15.2).

use std::cell::RefCell;

use http::{Response, StatusCode};

use crate::chain::hop::ROUTE;
use crate::fields::{Fields, Skips, Turn};
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

/// The 1xx answers that wait. Who asks the upstream and who answers the client are one task, so that nobody has to be
/// woken: after each step of the one the other looks here.
#[derive(Debug, Default)]
pub struct Hints(RefCell<Vec<Hint>>);

impl Hints {
    /// Sends a 1xx head before the final answer.
    pub fn send(&self, status: StatusCode, mut fields: Fields) {
        strip_hop_by_hop(&mut fields);
        // It has no body, and says so only to who reads it otherwise (RFC 9110 section 8.6).
        fields.remove("content-length");
        // It is before the answer, which says both as it should.
        fields.remove("set-cookie");
        fields.remove(ROUTE);
        let mut waiting = self.0.borrow_mut();
        if waiting.len() < MOST {
            waiting.push(Hint { status, fields });
        }
    }

    /// Takes those that wait.
    pub fn take(&self) -> Vec<Hint> {
        self.0.take()
    }
}

impl Hint {
    /// Writes it as HTTP/1.1 does.
    pub fn write(&self, out: &mut Vec<u8>) {
        write::status_line(out, self.status);
        self.fields.write(out, Skips::new([]));
        out.extend_from_slice(b"\r\n");
    }

    /// As HTTP/2 has it.
    pub fn into_http2(self) -> Response<()> {
        let mut hint = Response::new(());
        *hint.status_mut() = self.status;
        *hint.headers_mut() = self.fields.into_map(Turn::Later);
        hint
    }
}
