//! Lists of keys as carriers write them.

use std::borrow::Cow;

use sidetrack_config::Key;
use sidetrack_config::carriers::Carrier;

use crate::decision::{Keys, push_key};
use crate::error::{Code, Failure};
use crate::head::Head;
use crate::route::table::Table;

/// Adds the keys of `text` to `keys`, aliases resolved.
///
/// # Errors
/// A sentence for people: which text is no key and why.
pub(super) fn read(keys: &mut Keys, text: &str, separator: char, table: &Table) -> Result<(), String> {
    let prefix = table.estate.carriers.prefix();
    for item in text.split(separator) {
        let item = item.trim_matches([' ', '\t']);
        let key = Key::parse(item, prefix).map_err(|why| format!("{:?} {why}", shown(item)))?;
        if !push_key(keys, table.canonical(key)) {
            return Err("it holds more than 8 keys".to_owned());
        }
    }
    Ok(())
}

/// The list of an explicit carrier that is one text.
pub(super) fn explicit(
    carrier: Carrier,
    text: &str,
    separator: char,
    table: &Table,
) -> Result<Keys, Failure> {
    let mut keys = Keys::new();
    read(&mut keys, text, separator, table).map_err(|why| malformed(carrier, &why))?;
    Ok(keys)
}

/// `malformed_key` of a carrier.
pub(super) fn malformed(carrier: Carrier, why: &str) -> Failure {
    Failure::new(Code::MalformedKey, format!("{carrier}: {why}; write a key such as 42, pr-42 or shop-42"))
}

/// The text of a carrier.
pub(super) fn text(carrier: Carrier, bytes: &[u8]) -> Result<&str, Failure> {
    std::str::from_utf8(bytes).map_err(|_| malformed(carrier, "it holds bytes that are no text"))
}

/// The text of a carrier, percent-decoded.
pub(super) fn decoded(carrier: Carrier, text: &str) -> Result<Cow<'_, str>, Failure> {
    percent_decoded(text).ok_or_else(|| malformed(carrier, "it holds a broken percent escape"))
}

/// The list of our cookie, the first that is one. It only fills in: what is malformed is ignored.
pub(super) fn in_cookie<H: Head>(head: &H, table: &Table) -> Option<Keys> {
    let (name, found) = (table.estate.carriers.cookie.as_deref()?, table.estate.cookie.as_ref()?);
    // Most cookies are not ours, and taking them apart costs more than to see that.
    let named = head.lines("cookie").filter(|line| found.find(line).is_some());
    let pairs = named.flat_map(|line| line.split(|byte| *byte == b';'));
    pairs.filter_map(|pair| cookie_value(pair, name)).find_map(|value| {
        let mut keys = Keys::new();
        read(&mut keys, &percent_decoded(std::str::from_utf8(value).ok()?)?, '.', table).ok()?;
        Some(keys)
    })
}

/// The value of one pair of a `Cookie` field, where it is the cookie `name`; without the quotes that it may stand in (RFC 6265
/// section 4.1.1).
pub(crate) fn cookie_value<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let (before, value) = pair.split_at_checked(pair.iter().position(|byte| *byte == b'=')?)?;
    if before.trim_ascii() != name.as_bytes() {
        return None;
    }
    let value = value.strip_prefix(b"=").unwrap_or(value).trim_ascii();
    let quoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    Some(quoted.unwrap_or(value))
}

/// `%XX` decoded; `None` where an escape is cut off or the result is no text.
pub fn percent_decoded(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => hex(bytes.next()?)? << 4 | hex(bytes.next()?)?,
            other => other,
        });
    }
    String::from_utf8(out).ok().map(Cow::Owned)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// What a client wrote, cut to a length that a message can bear.
pub(super) fn shown(text: &str) -> &str {
    text.char_indices().nth(60).and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}
