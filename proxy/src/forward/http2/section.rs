//! The field section of an answer, as it is read.

use http::StatusCode;

use super::HEAD;
use super::hpack::Line;
use crate::fields::{Fields, ROOM_OF_ANSWER};
use crate::h1::FIELDS;

/// Room for the lines of most answers, and for their bytes.
const ROOM: (usize, usize) = (12, 384);

/// A section, or what is wrong with it.
#[derive(Debug)]
pub(super) struct Section {
    /// What `:status` says.
    pub(super) status: Option<StatusCode>,
    pub(super) fields: Fields,
    pub(super) fault: Option<&'static str>,
    size: usize,
}

impl Default for Section {
    fn default() -> Self {
        let fields = Fields::with_room(ROOM.0 + ROOM_OF_ANSWER.0, ROOM.1 + ROOM_OF_ANSWER.1);
        Self { status: None, fields, fault: None, size: 0 }
    }
}

impl Section {
    /// Adds a line. Behind the first fault nothing is added, so that no section takes more than it may.
    #[inline]
    pub(super) fn take(&mut self, line: Line<'_>) {
        self.size += line.size();
        if self.fault.is_some() {
            return;
        }
        if self.size > HEAD as usize || self.fields.len() >= FIELDS {
            self.fault = Some("the fields are more, or longer, than any may be");
        } else if !line.is_good {
            self.fault = Some("a field has a name or a value that none may have");
        } else if line.name.first() == Some(&b':') {
            let is_first = self.status.is_none() && self.fields.is_empty() && line.name == b":status";
            self.status = if is_first { StatusCode::from_bytes(line.value).ok() } else { None };
            if self.status.is_none() {
                self.fault = Some("the first lines are not those of an answer");
            }
        } else if is_of_connection(&line) {
            self.fault = Some("a field is one that HTTP/2 has no use for");
        } else {
            self.fields.read(line.name, line.tag, line.value);
        }
    }
}

/// Whether a line speaks of a connection (RFC 9113 section 8.2.2).
fn is_of_connection(line: &Line<'_>) -> bool {
    match line.name {
        b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" => true,
        b"te" => line.value != b"trailers",
        _ => false,
    }
}
