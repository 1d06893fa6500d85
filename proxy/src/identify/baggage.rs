//! Carriers `baggage` (W3C Baggage) and `tracestate` (W3C Trace Context section 3.3): our member among others'.
//! What surrounds it may be broken; only our own member can be an error.

use sidetrack_config::carriers::Carrier;

use super::list::{decoded, explicit, text};
use super::scan::{Lines, Scan};
use crate::decision::Keys;
use crate::error::{Code, Failure};
use crate::route::table::Table;

/// What our baggage member says.
pub(super) struct Found {
    pub(super) keys: Keys,
    /// Whether it has the property `strict`.
    pub(super) strict: bool,
}

pub(super) fn in_baggage(scan: &Scan<'_>, table: &Table) -> Result<Option<Found>, Failure> {
    let Some(name) = table.estate.carriers.baggage.as_deref() else { return Ok(None) };
    let mut found: Option<Found> = None;
    for value in values(&scan.baggage, name) {
        let value = text(Carrier::Baggage, value)?;
        let (value, properties) = value.split_once(';').unwrap_or((value, ""));
        let keys = explicit(Carrier::Baggage, &decoded(Carrier::Baggage, value.trim())?, '.', table)?;
        let strict = properties.split(';').any(|property| {
            let (name, value) = property.split_once('=').unwrap_or((property, "1"));
            name.trim() == "strict" && !matches!(value.trim(), "0" | "false")
        });
        let strict = strict || found.as_ref().is_some_and(|before| before.strict);
        agree(Carrier::Baggage, found.as_ref().map(|before| &before.keys), &keys)?;
        found = Some(Found { keys, strict });
    }
    Ok(found)
}

pub(super) fn in_tracestate(scan: &Scan<'_>, table: &Table) -> Result<Option<Keys>, Failure> {
    let Some(name) = table.estate.carriers.tracestate.as_deref() else { return Ok(None) };
    let mut found: Option<Keys> = None;
    for value in values(&scan.tracestate, name) {
        let keys = explicit(Carrier::Tracestate, text(Carrier::Tracestate, value)?, '.', table)?;
        agree(Carrier::Tracestate, found.as_ref(), &keys)?;
        found = Some(keys);
    }
    Ok(found)
}

/// One member of a list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member<'a> {
    /// Its name.
    pub(crate) name: &'a [u8],
    /// What follows the name, its properties included; without the `=`.
    pub(crate) value: &'a [u8],
    /// All of it, as it stands in the list.
    pub(crate) text: &'a [u8],
}

/// The members of a list. Bytes, not text: one broken member must not hide the others.
pub(crate) fn members(list: &[u8]) -> impl Iterator<Item = Member<'_>> {
    list.split(|byte| *byte == b',').filter(|text| !text.trim_ascii().is_empty()).map(|text| {
        let end = text.iter().position(|byte| matches!(byte, b'=' | b';')).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        Member { name: name.trim_ascii(), value: rest.strip_prefix(b"=").unwrap_or(rest).trim_ascii(), text }
    })
}

/// The values of the members `name`, in order.
pub(super) fn values<'a>(lines: &Lines<'a>, name: &str) -> impl Iterator<Item = &'a [u8]> {
    let members = lines.iter().flat_map(|line| members(line));
    members.filter(move |member| member.name == name.as_bytes()).map(|member| member.value)
}

/// Two members of our name in one carrier must say the same.
fn agree(carrier: Carrier, before: Option<&Keys>, now: &Keys) -> Result<(), Failure> {
    match before {
        Some(before) if before != now => Err(Failure::new(
            Code::ConflictingKeys,
            format!("{carrier} holds our member twice, with different keys; send it once"),
        )),
        _ => Ok(()),
    }
}
