//! The key on its way onward: our header, our member of `baggage` and our member of `tracestate`, each merged into
//! what is there. Other members are kept byte for byte.

use sidetrack_config::Key;
use sidetrack_config::model::Carriers;
use smallvec::SmallVec;

use crate::fields::Fields;
use crate::hex;
use crate::identify::{Identity, Member, cookie_value, members};

/// The most members of a `tracestate` (W3C Trace Context section 3.3.1.1).
const TRACESTATE_MEMBERS: usize = 32;

const BAGGAGE: &str = "baggage";
const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
const COOKIE: &str = "cookie";

/// Writes the keys of `identity` into the fields of a request that goes upstream. `random` makes the trace id where
/// the request had no trace.
pub fn stamp(fields: &mut Fields, identity: &Identity, carriers: &Carriers, random: impl FnMut() -> u64) {
    cookie(fields, identity, carriers);
    if identity.keys.is_empty() {
        return;
    }
    if let Some(name) = carriers.header.as_deref() {
        fields.insert(name, &list(&identity.keys, b','));
    }
    let dotted = list(&identity.keys, b'.');
    if let Some(member) = carriers.baggage.as_deref() {
        baggage(fields, member, &dotted, identity.strict);
    }
    if let Some(member) = carriers.tracestate.as_deref() {
        tracestate(fields, member, &dotted, identity.traced, random);
    }
}

/// A value on its way into a field: on the stack, as long as it has a common length.
type Text = SmallVec<[u8; 96]>;

fn list(keys: &[Key], separator: u8) -> Text {
    let mut text = Text::new();
    for key in keys {
        if !text.is_empty() {
            text.push(separator);
        }
        text.extend_from_slice(key.as_bytes());
    }
    text
}

fn member(name: &str, keys: &[u8], property: &[u8]) -> Text {
    let mut text = Text::from_slice(name.as_bytes());
    text.push(b'=');
    text.extend_from_slice(keys);
    text.extend_from_slice(property);
    text
}

fn baggage(fields: &mut Fields, name: &str, keys: &[u8], strict: bool) {
    let ours = member(name, keys, if strict { b";strict" } else { b"" });
    if !fields.contains(BAGGAGE) {
        return fields.append(BAGGAGE, &ours);
    }
    let list = fields.joined(BAGGAGE, b",");
    let is_ours = |member: &Member<'_>| member.name == name.as_bytes();
    let found: Vec<Member<'_>> = members(&list).collect();
    let mut said = found.iter().filter(|member| is_ours(member)).map(|member| member.text.trim_ascii());
    let is_one_line = fields.get_all(BAGGAGE).nth(1).is_none();
    if (said.next(), said.next()) == (Some(&ours[..]), None) && is_one_line {
        return;
    }
    // In the place of the first one of ours; at the front where there was none, since lists are cut at their end.
    let place = found.iter().position(is_ours).unwrap_or(0);
    let mut list: Vec<&[u8]> =
        found.iter().filter(|member| !is_ours(member)).map(|member| member.text).collect();
    list.insert(place, &ours);
    fields.insert(BAGGAGE, &list.join(&b","[..]));
}

fn tracestate(fields: &mut Fields, name: &str, keys: &[u8], traced: bool, mut random: impl FnMut() -> u64) {
    if !traced {
        fields.insert(TRACEPARENT, &new_traceparent(&mut random));
    }
    let ours = member(name, keys, b"");
    // A tracestate without a valid traceparent is to be thrown away (W3C Trace Context section 2.3).
    if !traced || !fields.contains(TRACESTATE) {
        return fields.insert(TRACESTATE, &ours);
    }
    let list = fields.joined(TRACESTATE, b",");
    // A member that was changed goes to the front, and the oldest falls off a full list (section 3.3.1.4).
    let others = members(&list).filter(|member| member.name != name.as_bytes());
    let others = others.map(|member| member.text.trim_ascii());
    let list: Vec<&[u8]> = std::iter::once(&ours[..]).chain(others).take(TRACESTATE_MEMBERS).collect();
    fields.insert(TRACESTATE, &list.join(&b","[..]));
}

/// A new trace: sampled, so that the tracers of the estate keep what a test did.
fn new_traceparent(random: &mut impl FnMut() -> u64) -> Vec<u8> {
    let mut id = || u128::from(random());
    let trace = (id() << 64) | id() | 1;
    [&b"00-"[..], &hex::digits::<32>(trace), b"-", &hex::digits::<16>(id() | 1), b"-01"].concat()
}

/// Takes our cookie out where it does not say what was decided: an app that copies cookies into its own calls would
/// send them elsewhere.
fn cookie(fields: &mut Fields, identity: &Identity, carriers: &Carriers) {
    let Some(name) = carriers.cookie.as_deref() else { return };
    // Most cookies are not ours, and taking them apart costs more than to see that.
    let is_name = |part: &[u8]| part.first() == name.as_bytes().first() && part == name.as_bytes();
    let names_it = |line: &[u8]| line.windows(name.len().max(1)).any(is_name);
    if !fields.get_all(COOKIE).any(names_it) {
        return;
    }
    let is_stale =
        |pair: &[u8]| cookie_value(pair, name).is_some_and(|value| !says(value, &identity.keys, carriers));
    let ends = |byte: &u8| *byte == b';';
    if !fields.get_all(COOKIE).any(|line| line.split(ends).any(is_stale)) {
        return;
    }
    let without = |line: &[u8]| {
        let kept = line.split(ends).filter(|pair| !is_stale(pair)).map(<[u8]>::trim_ascii);
        let kept: Vec<&[u8]> = kept.filter(|pair| !pair.is_empty()).collect();
        kept.join(&b"; "[..])
    };
    let lines: Vec<Vec<u8>> = fields.get_all(COOKIE).map(without).filter(|line| !line.is_empty()).collect();
    fields.remove(COOKIE);
    lines.iter().for_each(|line| fields.append(COOKIE, line));
}

/// Whether a cookie's value is the list `keys`.
fn says(value: &[u8], keys: &[Key], carriers: &Carriers) -> bool {
    let items = value.split(|byte| *byte == b'.').map(|item| std::str::from_utf8(item).ok());
    let listed: Option<Vec<Key>> = items.map(|item| Key::parse(item?, carriers.prefix()).ok()).collect();
    listed.is_some_and(|listed| listed == keys)
}

#[cfg(test)]
mod tests;
