//! Carriers `baggage` (W3C Baggage) and `tracestate` (W3C Trace Context section 3.3): our member among others'.
//! What surrounds it may be broken; only our own member can be an error.

use sidetrack_config::carriers::Carrier;

use super::list::{decoded, explicit, percent_decoded, text};
use crate::decision::Keys;
use crate::error::{Code, Failure};
use crate::head::Head;
use crate::route::table::Table;

/// What our baggage member says.
pub(super) struct Found {
    pub(super) keys: Keys,
    /// Whether it has the property `strict`.
    pub(super) strict: bool,
}

pub(super) fn in_baggage<H: Head>(head: &H, table: &Table) -> Result<Option<Found>, Failure> {
    let Some(name) = table.estate.carriers.baggage.as_deref() else { return Ok(None) };
    let mut found: Option<Found> = None;
    for member in named(head, name) {
        if member.name != name.as_bytes() {
            // What we don't read, but services do, must not pass.
            let said = String::from_utf8_lossy(member.name);
            let detail = format!("some services read baggage member {said:?} as {name:?}; write that");
            return Err(Failure::new(Code::MalformedKey, detail));
        }
        let value = text(Carrier::Baggage, member.value)?;
        let value = value.split(';').next().unwrap_or_default();
        let keys = explicit(Carrier::Baggage, &decoded(Carrier::Baggage, value.trim())?, '.', table)?;
        let strict = member.is_strict() || found.as_ref().is_some_and(|before| before.strict);
        agree(Carrier::Baggage, found.as_ref().map(|before| &before.keys), &keys)?;
        found = Some(Found { keys, strict });
    }
    Ok(found)
}

pub(super) fn in_tracestate<H: Head>(head: &H, table: &Table) -> Result<Option<Keys>, Failure> {
    let Some(name) = table.estate.carriers.tracestate.as_deref() else { return Ok(None) };
    let mut found: Option<Keys> = None;
    for value in values(head, name) {
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

impl Member<'_> {
    /// Whether it is called `name`, by itself or once its escapes are resolved.
    pub(crate) fn is(&self, name: &str) -> bool {
        is_named(self.name, name)
    }

    /// Whether it has the property `strict`, and does not deny it.
    pub(crate) fn is_strict(&self) -> bool {
        self.properties().any(|(name, value)| name == b"strict" && !matches!(value, Some(b"0" | b"false")))
    }
}

impl<'a> Member<'a> {
    /// Its properties: their names, and their values where they have any.
    pub(crate) fn properties(self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        self.value.split(|byte| *byte == b';').skip(1).map(|property| {
            let end = property.iter().position(|byte| *byte == b'=').unwrap_or(property.len());
            let (name, value) = property.split_at(end);
            (name.trim_ascii(), value.strip_prefix(b"=").map(<[u8]>::trim_ascii))
        })
    }
}

/// Whether a member called `found` is `name` for somebody: by W3C Baggage (section 3.3.1.1) a name is a token, whose `%` means
/// itself, yet libraries of OpenTelemetry decode names as they do values, trim them, and write them anew.
pub(crate) fn is_named(found: &[u8], name: &str) -> bool {
    found == name.as_bytes()
        || found.iter().any(|byte| matches!(byte, b'%' | b'+')) && decodes_to(found, name)
}

fn decodes_to(found: &[u8], name: &str) -> bool {
    let Ok(text) = std::str::from_utf8(found) else { return false };
    let is_blank = |letter: char| letter.is_whitespace() || letter.is_control();
    percent_decoded(&text.replace('+', " ")).is_some_and(|text| text.trim_matches(is_blank) == name)
}

/// The members of a list. Bytes, not text: one broken member must not hide the others.
pub(crate) fn members(list: &[u8]) -> impl Iterator<Item = Member<'_>> {
    list.split(|byte| *byte == b',').filter(|text| !text.trim_ascii().is_empty()).map(|text| {
        let end = text.iter().position(|byte| matches!(byte, b'=' | b';')).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        Member { name: name.trim_ascii(), value: rest.strip_prefix(b"=").unwrap_or(rest).trim_ascii(), text }
    })
}

/// The members `name` of the baggage, in order; called so by itself, or once escapes are resolved.
pub(super) fn named<'a, H: Head>(head: &'a H, name: &str) -> impl Iterator<Item = Member<'a>> {
    head.lines("baggage").flat_map(members).filter(move |member| member.is(name))
}

/// The values of the members `name` of the tracestate, in order.
pub(super) fn values<'a, H: Head>(head: &'a H, name: &str) -> impl Iterator<Item = &'a [u8]> {
    let members = head.lines("tracestate").flat_map(members);
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
