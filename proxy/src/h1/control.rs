//! The fields that say where a message ends and what becomes of its connection. A difference in reading these between
//! two readers is a smuggled message, so that one spelling of each is read and everything else refused (RFC 9112
//! sections 6 and 7, RFC 9110 section 8.6).

use super::Fault;
use crate::fields::Fields;

/// What the fields of one head say of framing and of the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// `Content-Length`.
    pub length: Option<u64>,
    /// Whether `Transfer-Encoding` says `chunked`.
    pub chunked: bool,
    /// Whether `Connection` says `close`.
    pub close: bool,
    /// Whether `Connection` says `keep-alive`.
    pub keep_alive: bool,
}

impl Control {
    /// What `fields` say.
    ///
    /// # Errors
    /// A length that is no plain number or comes twice; a transfer coding that is not exactly one `chunked`; both.
    pub fn of(fields: &Fields) -> Result<Self, Fault> {
        let mut control = Self::default();
        fields.get_all("connection").for_each(|value| control.options(value));
        for value in fields.get_all("content-length") {
            if control.length.is_some() {
                return Err(Fault::Malformed("there are two Content-Length fields"));
            }
            let length = number(value).ok_or(Fault::Malformed("Content-Length is no plain number"))?;
            control.length = Some(length);
        }
        for value in fields.get_all("transfer-encoding") {
            if control.chunked {
                return Err(Fault::Malformed("there are two Transfer-Encoding fields"));
            }
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Fault::Malformed("Transfer-Encoding is something else than chunked"));
            }
            control.chunked = true;
        }
        if control.chunked && control.length.is_some() {
            return Err(Fault::Malformed("there are both Content-Length and Transfer-Encoding"));
        }
        Ok(control)
    }

    fn options(&mut self, value: &[u8]) {
        // What it nearly always says, if anything.
        if value == b"keep-alive" {
            self.keep_alive = true;
            return;
        }
        for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// Whether the connection stays open after the message (RFC 9112 section 9.3).
    pub const fn persists(&self, is_http10: bool) -> bool {
        !self.close && (!is_http10 || self.keep_alive)
    }
}

/// Digits and nothing else, that fit.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 19 {
        return None;
    }
    text.iter().try_fold(0_u64, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u64::from(byte - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[(&str, &str)]) -> Result<Control, Fault> {
        Control::of(&lines.iter().map(|(name, value)| (*name, value.as_bytes())).collect())
    }

    #[test]
    fn one_spelling_of_each() {
        assert_eq!(read(&[("content-length", "12")]).unwrap().length, Some(12));
        assert!(read(&[("transfer-encoding", "Chunked")]).unwrap().chunked);
        let control = read(&[("connection", "Upgrade, close")]).unwrap();
        assert!(control.close && !control.keep_alive);
        for lines in [
            &[("content-length", "1"), ("content-length", "1")][..],
            &[("content-length", "1, 1")],
            &[("content-length", "+1")],
            &[("content-length", "-1")],
            &[("content-length", "0x1")],
            &[("content-length", "1 1")],
            &[("content-length", "")],
            &[("content-length", "99999999999999999999")],
            &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
            &[("transfer-encoding", "chunked, chunked")],
            &[("transfer-encoding", "gzip, chunked")],
            &[("transfer-encoding", "chunked, identity")],
            &[("transfer-encoding", "identity")],
            &[("transfer-encoding", "xchunked")],
            &[("transfer-encoding", "")],
            &[("content-length", "1"), ("transfer-encoding", "chunked")],
            &[("transfer-encoding", "chunked"), ("content-length", "1")],
        ] {
            assert!(matches!(read(lines), Err(Fault::Malformed(_))), "{lines:?}");
        }
    }

    #[test]
    fn who_keeps_a_connection() {
        let of = |value| read(&[("connection", value)]).unwrap();
        assert!(Control::default().persists(false) && !Control::default().persists(true));
        assert!(of("keep-alive").persists(true) && !of("close").persists(false));
        assert!(!of("keep-alive, close").persists(true));
    }
}
