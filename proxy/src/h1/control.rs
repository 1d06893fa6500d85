//! The fields that say where a message ends and what becomes of its connection. A difference in reading these between
//! two readers is a smuggled message, so that one spelling of each is read and everything else refused (RFC 9112
//! sections 6 and 7, RFC 9110 section 8.6).

use super::Fault;

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
    /// Whether there is an `Upgrade`, and `Connection` names it.
    pub upgrade: bool,
}

impl Control {
    /// Reads one field line, its name in lower case.
    ///
    /// # Errors
    /// A length that is no plain number or comes twice; a transfer coding that is not exactly one `chunked`; both.
    #[inline]
    pub fn note(&mut self, name: &[u8], value: &[u8]) -> Result<(), Fault> {
        match name {
            b"connection" => self.options(value),
            b"content-length" => {
                if self.length.is_some() {
                    return Err(Fault::Malformed("there are two Content-Length fields"));
                }
                self.length =
                    Some(number(value).ok_or(Fault::Malformed("Content-Length is no plain number"))?);
            }
            b"transfer-encoding" => {
                if self.chunked {
                    return Err(Fault::Malformed("there are two Transfer-Encoding fields"));
                }
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Fault::Malformed("Transfer-Encoding is something else than chunked"));
                }
                self.chunked = true;
            }
            _ => return Ok(()),
        }
        if self.chunked && self.length.is_some() {
            return Err(Fault::Malformed("there are both Content-Length and Transfer-Encoding"));
        }
        Ok(())
    }

    fn options(&mut self, value: &[u8]) {
        for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            self.upgrade |= option.eq_ignore_ascii_case(b"upgrade");
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
        let mut control = Control::default();
        lines.iter().try_for_each(|(name, value)| control.note(name.as_bytes(), value.as_bytes()))?;
        Ok(control)
    }

    #[test]
    fn one_spelling_of_each() {
        assert_eq!(read(&[("content-length", "12")]).unwrap().length, Some(12));
        assert!(read(&[("transfer-encoding", "Chunked")]).unwrap().chunked);
        let control = read(&[("connection", "Upgrade, close")]).unwrap();
        assert!(control.close && control.upgrade && !control.keep_alive);
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
            &[("transfer-encoding", "\x0bchunked")],
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
