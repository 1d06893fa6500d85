//! The key on its way onward: our header, our member of `baggage` and our member of `tracestate`, each merged into
//! what is there. Other members are kept byte for byte.

mod cut;

use std::borrow::Cow;

use sidetrack_config::Key;
use sidetrack_config::model::{Carriers, Role};
use smallvec::SmallVec;

use super::trace;
use crate::context::signature::{self, Signature};
use crate::fields::Fields;
use crate::identify::{Identity, Member, cookie_value, join, members};
use crate::route::table::Estate;

/// The most members of a `tracestate` (W3C Trace Context section 3.3.1.1).
const TRACESTATE_MEMBERS: usize = 32;

const BAGGAGE: &str = "baggage";
pub(crate) const TRACESTATE: &str = "tracestate";
const COOKIE: &str = "cookie";
const STRICT: &str = "x-pr-strict";

pub use cut::{Cut, cut, leave};

/// Writes the keys of `identity` into the fields of a request that goes upstream. Where it had no trace it gets one, with
/// the id `hidden`, which says the key, or a random one. `proof` is what proves the keys. What did not count here goes no
/// further: it may count behind us, where nobody asks for `access`.
pub fn stamp(
    fields: &mut Fields,
    identity: &Identity,
    estate: &Estate,
    hidden: Option<u128>,
    proof: Option<&Signature>,
    random: impl FnMut() -> u64,
) {
    let carriers = &estate.carriers;
    cookie(fields, identity, estate);
    if !identity.traced {
        cut::untraced(fields, carriers);
    }
    if identity.keys.is_empty() {
        if estate.role == Role::Gateway {
            fields.remove(signature::FIELD);
        }
        return;
    }
    if let Some(name) = carriers.header.as_deref() {
        fields.insert(name, &list(&identity.keys, ","));
    }
    match proof {
        Some(proof) => fields.insert(signature::FIELD, proof),
        None => drop(fields.remove(signature::FIELD)),
    }
    let dotted = list(&identity.keys, ".");
    if let Some(member) = carriers.baggage.as_deref() {
        baggage(fields, member, &dotted, identity.strict, proof);
    }
    if !identity.traced && (carriers.tracestate.is_some() || hidden.is_some()) {
        trace::begin(fields, &estate.context, hidden, random);
    }
    if let Some(member) = carriers.tracestate.as_deref() {
        tracestate(fields, member, &dotted, identity.traced, proof);
    }
}

/// A value on its way into a field: on the stack, as long as it has a common length.
type Text = SmallVec<[u8; 96]>;

fn list<'a>(keys: &'a [Key], separator: &str) -> Cow<'a, [u8]> {
    match keys {
        [key] => Cow::Borrowed(key.as_bytes()),
        several => Cow::Owned(join(several, separator).into_bytes()),
    }
}

fn member(name: &str, keys: &[u8], property: &[u8]) -> Text {
    let mut text = Text::from_slice(name.as_bytes());
    text.push(b'=');
    text.extend_from_slice(keys);
    text.extend_from_slice(property);
    text
}

fn baggage(fields: &mut Fields, name: &str, keys: &[u8], strict: bool, proof: Option<&Signature>) {
    let mut ours = member(name, keys, if strict { b";strict" } else { b"" });
    if let Some(proof) = proof {
        [b";", signature::PROPERTY, b"=", proof].iter().for_each(|part| ours.extend_from_slice(part));
    }
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

fn tracestate(fields: &mut Fields, name: &str, keys: &[u8], traced: bool, proof: Option<&Signature>) {
    let mut ours = member(name, keys, b"");
    if let Some(proof) = proof {
        let parts = [b",", name.as_bytes(), signature::SUFFIX.as_bytes(), b"=", proof];
        parts.iter().for_each(|part| ours.extend_from_slice(part));
    }
    // A tracestate without a valid traceparent is to be thrown away (W3C Trace Context section 2.3).
    if !traced || !fields.contains(TRACESTATE) {
        return fields.insert(TRACESTATE, &ours);
    }
    let is_ours = |member: &[u8]| {
        let rest = member.strip_prefix(name.as_bytes());
        rest.is_some_and(|rest| rest.is_empty() || rest == signature::SUFFIX.as_bytes())
    };
    lead(fields, is_ours, Some(&ours));
}

/// Writes `ours` in place of the members of `tracestate` that are ours by their names; `None`: takes those out. A member that
/// was changed goes to the front, and the oldest falls off a full list (W3C Trace Context section 3.3.1.4).
pub(crate) fn lead(fields: &mut Fields, is_ours: impl Fn(&[u8]) -> bool, ours: Option<&[u8]>) {
    let list = fields.joined(TRACESTATE, b",");
    let others = members(&list).filter(|member| !is_ours(member.name)).map(|member| member.text.trim_ascii());
    let list: Vec<&[u8]> = ours.into_iter().chain(others).take(TRACESTATE_MEMBERS).collect();
    if list.is_empty() {
        fields.remove(TRACESTATE);
    } else {
        fields.insert(TRACESTATE, &list.join(&b","[..]));
    }
}

/// Takes our cookie out where it does not say what was decided: an app that copies cookies into its own calls would
/// send them elsewhere.
fn cookie(fields: &mut Fields, identity: &Identity, estate: &Estate) {
    let carriers = &estate.carriers;
    let (Some(name), Some(found)) = (carriers.cookie.as_deref(), &estate.cookie) else { return };
    // Most cookies are not ours, and taking them apart costs more than to see that.
    if !fields.get_all(COOKIE).any(|line| found.find(line).is_some()) {
        return;
    }
    cut_pairs(fields, |pair| {
        cookie_value(pair, name).is_some_and(|value| !says(value, &identity.keys, carriers))
    });
}

/// Takes those pairs out of the cookies that `goes` says; whether there were any.
fn cut_pairs(fields: &mut Fields, goes: impl Fn(&[u8]) -> bool) -> bool {
    let ends = |byte: &u8| *byte == b';';
    if !fields.get_all(COOKIE).any(|line| line.split(ends).any(&goes)) {
        return false;
    }
    let without = |line: &[u8]| {
        let kept = line.split(ends).filter(|pair| !goes(pair)).map(<[u8]>::trim_ascii);
        let kept: Vec<&[u8]> = kept.filter(|pair| !pair.is_empty()).collect();
        kept.join(&b"; "[..])
    };
    let lines: Vec<Vec<u8>> = fields.get_all(COOKIE).map(without).filter(|line| !line.is_empty()).collect();
    fields.remove(COOKIE);
    lines.iter().for_each(|line| fields.append(COOKIE, line));
    true
}

/// Whether a cookie's value is the list `keys`.
fn says(value: &[u8], keys: &[Key], carriers: &Carriers) -> bool {
    let items = value.split(|byte| *byte == b'.').map(|item| std::str::from_utf8(item).ok());
    let listed: Option<Vec<Key>> = items.map(|item| Key::parse(item?, carriers.prefix()).ok()).collect();
    listed.is_some_and(|listed| listed == keys)
}

#[cfg(test)]
mod tests;
