//! Carriers `baggage` (W3C Baggage) and `tracestate` (W3C Trace Context section 3.3): our member among others'.
//! What surrounds it may be broken; only our own member can be an error.

use sidetrack_config::carriers::Carrier;

use super::list::{explicit, malformed, percent_decoded};
use super::scan::{Lines, Scan};
use crate::decision::Keys;
use crate::error::{Code, Failure};
use crate::route::table::Table;

/// What our baggage member says.
pub(super) struct Member {
    pub(super) keys: Keys,
    /// Whether it has the property `strict`.
    pub(super) strict: bool,
}

pub(super) fn in_baggage(scan: &Scan<'_>, table: &Table) -> Result<Option<Member>, Failure> {
    let Some(name) = table.estate.carriers.baggage.as_deref() else { return Ok(None) };
    let mut found: Option<Member> = None;
    for member in members(&scan.baggage, name) {
        let (value, properties) = member.split_once(';').unwrap_or((member, ""));
        let value = percent_decoded(value.trim())
            .ok_or_else(|| malformed(Carrier::Baggage, "it holds a broken percent escape"))?;
        let keys = explicit(Carrier::Baggage, &value, ".", table)?;
        let strict = properties.split(';').any(|property| {
            let (name, value) = property.split_once('=').unwrap_or((property, "1"));
            name.trim() == "strict" && !matches!(value.trim(), "0" | "false")
        });
        let strict = strict || found.as_ref().is_some_and(|before| before.strict);
        agree(Carrier::Baggage, found.as_ref().map(|before| &before.keys), &keys)?;
        found = Some(Member { keys, strict });
    }
    Ok(found)
}

pub(super) fn in_tracestate(scan: &Scan<'_>, table: &Table) -> Result<Option<Keys>, Failure> {
    let Some(name) = table.estate.carriers.tracestate.as_deref() else { return Ok(None) };
    let mut found: Option<Keys> = None;
    for value in members(&scan.tracestate, name) {
        let keys = explicit(Carrier::Tracestate, value.trim(), ".", table)?;
        agree(Carrier::Tracestate, found.as_ref(), &keys)?;
        found = Some(keys);
    }
    Ok(found)
}

/// The values of the members `name`, in order.
pub(super) fn members<'a>(lines: &Lines<'a>, name: &str) -> impl Iterator<Item = &'a str> {
    lines
        .iter()
        .filter_map(|line| std::str::from_utf8(line).ok())
        .flat_map(|line| line.split(','))
        .filter_map(move |member| {
            let member = member.trim_matches([' ', '\t']);
            let (key, value) = member.split_once('=').unwrap_or((member, ""));
            (key.trim_matches([' ', '\t']) == name).then_some(value)
        })
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
