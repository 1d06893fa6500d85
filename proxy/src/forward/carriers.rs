//! The key on its way onward: our header, our member of `baggage` and our member of `tracestate`, each merged into
//! what is there. Other members are kept byte for byte.

use http::{HeaderMap, HeaderName, HeaderValue};
use sidetrack_config::Key;
use sidetrack_config::model::Carriers;

use crate::hex;
use crate::identify::{Identity, Member, cookie_value, join, members};

/// The most members of a `tracestate` (W3C Trace Context section 3.3.1.1).
const TRACESTATE_MEMBERS: usize = 32;

const PR_ID: HeaderName = HeaderName::from_static("x-pr-id");
const BAGGAGE: HeaderName = HeaderName::from_static("baggage");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Writes the keys of `identity` into the fields of a request that goes upstream. `random` makes the trace id where
/// the request had no trace.
pub fn stamp(fields: &mut HeaderMap, identity: &Identity, carriers: &Carriers, random: impl FnMut() -> u64) {
    cookie(fields, identity, carriers);
    if identity.keys.is_empty() {
        return;
    }
    if let Some(name) = named(carriers.header.as_deref()) {
        set(fields, name, join(&identity.keys, ",").as_bytes());
    }
    let dotted = join(&identity.keys, ".");
    if let Some(member) = carriers.baggage.as_deref() {
        baggage(fields, member, &dotted, identity.strict);
    }
    if let Some(member) = carriers.tracestate.as_deref() {
        tracestate(fields, member, &dotted, identity.traced, random);
    }
}

fn named(name: Option<&str>) -> Option<HeaderName> {
    match name? {
        "x-pr-id" => Some(PR_ID),
        other => HeaderName::from_bytes(other.as_bytes()).ok(),
    }
}

/// Makes `text` the one line of a field.
fn set(fields: &mut HeaderMap, name: HeaderName, text: &[u8]) {
    if let Ok(value) = HeaderValue::from_bytes(text) {
        fields.insert(name, value);
    }
}

/// The text of all lines of a field, joined as one list (RFC 9110 section 5.3).
fn joined(fields: &HeaderMap, name: &HeaderName) -> Vec<u8> {
    let lines: Vec<&[u8]> = fields.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    lines.join(&b","[..])
}

fn baggage(fields: &mut HeaderMap, name: &str, keys: &str, strict: bool) {
    let ours = [name, "=", keys, if strict { ";strict" } else { "" }].concat();
    if !fields.contains_key(&BAGGAGE) {
        return set(fields, BAGGAGE, ours.as_bytes());
    }
    let list = joined(fields, &BAGGAGE);
    let is_ours = |member: &Member<'_>| member.name == name.as_bytes();
    let found: Vec<Member<'_>> = members(&list).collect();
    let mut said = found.iter().filter(|member| is_ours(member)).map(|member| member.text.trim_ascii());
    let is_one_line = fields.get_all(&BAGGAGE).iter().nth(1).is_none();
    if (said.next(), said.next()) == (Some(ours.as_bytes()), None) && is_one_line {
        return;
    }
    // In the place of the first one of ours; at the front where there was none, since lists are cut at their end.
    let place = found.iter().position(is_ours).unwrap_or(0);
    let mut list: Vec<&[u8]> =
        found.iter().filter(|member| !is_ours(member)).map(|member| member.text).collect();
    list.insert(place, ours.as_bytes());
    set(fields, BAGGAGE, &list.join(&b","[..]));
}

fn tracestate(fields: &mut HeaderMap, name: &str, keys: &str, traced: bool, mut random: impl FnMut() -> u64) {
    if !traced {
        set(fields, TRACEPARENT, &new_traceparent(&mut random));
    }
    let ours = [name, "=", keys].concat();
    // A tracestate without a valid traceparent is to be thrown away (W3C Trace Context section 2.3).
    if !traced || !fields.contains_key(&TRACESTATE) {
        return set(fields, TRACESTATE, ours.as_bytes());
    }
    let list = joined(fields, &TRACESTATE);
    // A member that was changed goes to the front, and the oldest falls off a full list (section 3.3.1.4).
    let others = members(&list).filter(|member| member.name != name.as_bytes());
    let others = others.map(|member| member.text.trim_ascii());
    let list: Vec<&[u8]> = std::iter::once(ours.as_bytes()).chain(others).take(TRACESTATE_MEMBERS).collect();
    set(fields, TRACESTATE, &list.join(&b","[..]));
}

/// A new trace: sampled, so that the tracers of the estate keep what a test did.
fn new_traceparent(random: &mut impl FnMut() -> u64) -> Vec<u8> {
    let mut id = || u128::from(random());
    let trace = (id() << 64) | id() | 1;
    [&b"00-"[..], &hex::digits::<32>(trace), b"-", &hex::digits::<16>(id() | 1), b"-01"].concat()
}

/// Takes our cookie out where it does not say what was decided: an app that copies cookies into its own calls would
/// send them elsewhere.
fn cookie(fields: &mut HeaderMap, identity: &Identity, carriers: &Carriers) {
    let Some(name) = carriers.cookie.as_deref() else { return };
    let is_stale =
        |pair: &[u8]| cookie_value(pair, name).is_some_and(|value| !says(value, &identity.keys, carriers));
    let ends = |byte: &u8| *byte == b';';
    let holds = |line: &HeaderValue| line.as_bytes().split(ends).any(is_stale);
    if !fields.get_all(http::header::COOKIE).iter().any(holds) {
        return;
    }
    let lines: Vec<HeaderValue> = fields
        .get_all(http::header::COOKIE)
        .iter()
        .filter_map(|line| {
            if !line.as_bytes().split(ends).any(is_stale) {
                return Some(line.clone());
            }
            let kept = line.as_bytes().split(ends).filter(|pair| !is_stale(pair)).map(<[u8]>::trim_ascii);
            let kept: Vec<&[u8]> = kept.filter(|pair| !pair.is_empty()).collect();
            (!kept.is_empty()).then(|| HeaderValue::from_bytes(&kept.join(&b"; "[..])).ok()).flatten()
        })
        .collect();
    fields.remove(http::header::COOKIE);
    for line in lines {
        fields.append(http::header::COOKIE, line);
    }
}

/// Whether a cookie's value is the list `keys`.
fn says(value: &[u8], keys: &[Key], carriers: &Carriers) -> bool {
    let items = value.split(|byte| *byte == b'.').map(|item| std::str::from_utf8(item).ok());
    let listed: Option<Vec<Key>> = items.map(|item| Key::parse(item?, carriers.prefix()).ok()).collect();
    listed.is_some_and(|listed| listed == keys)
}

#[cfg(test)]
mod tests;
