//! Proof that a gateway of this estate let a key in: a MAC over the keys, and until when it counts. It goes beside the
//! keys in each place where they travel, since applications hand on one or another; any one of them proves the keys.
//!
//! ```text
//! X-PR-Signature: 69a4c3f0-8d3e...      baggage: pr-id=42;sig=69a4c3f0-8d3e...      tracestate: pr-id-sig=69a4c3f0-8d3e...
//!                 until    MAC, 128 bits
//! ```
//!
//! A trace id that says the key is a proof by itself.

use sidetrack_config::Key;
use sidetrack_config::carriers::Carrier;
use sidetrack_config::model::Role;

use super::hidden::Secrets;
use crate::error::{Code, Failure};
use crate::fields::Fields;
use crate::head::Head;
use crate::hex;
use crate::identify::{Identity, Member, Onward, members};
use crate::route::table::Estate;

/// The field.
pub const FIELD: &str = "x-pr-signature";
/// The property of our member of `baggage`.
pub const PROPERTY: &[u8] = b"sig";
/// What the member of `tracestate` is called after: the name of ours and this.
pub const SUFFIX: &str = "-sig";

/// How long a signature counts, in seconds: as long as a job that a request began may go on to call others.
const LIFE: u64 = 3600;
/// How many signatures of one request are tried.
const TRIED: usize = 8;

/// What the MAC is of, so that one secret can serve other purposes too.
const PURPOSE: &[u8] = b"sidetrack keys\0";

/// A signature as it travels: digits of the second since 1970 until which it counts, `-`, 32 digits of the MAC.
pub type Signature = Box<[u8]>;

/// Signs `keys` at `now`, in seconds since 1970; `None`: there is no secret to sign with.
pub fn sign(secrets: &Secrets, keys: &[Key], now: u64) -> Option<Signature> {
    let until = now.saturating_add(LIFE);
    let tag = secrets.tag(&parts(keys, &until.to_be_bytes()))?;
    Some([format!("{until:x}-").as_bytes(), &hex::digits::<32>(tag)].concat().into())
}

/// What proves the keys of a request on its way onward at `now`: our own signature where they were proven here, else, inside
/// the estate, the one that it came with.
pub fn onward(fields: &Fields, identity: &Identity, estate: &Estate, now: u64) -> Option<Signature> {
    let context = &estate.context;
    if identity.keys.is_empty() {
        return None;
    }
    match (estate.role, context.signs) {
        (Role::Gateway, true) => sign(&context.secrets, &identity.keys, now),
        (Role::Gateway, false) => None,
        (Role::Waypoint | Role::Sidecar, true) if context.strict || identity.onward == Onward::Stamped => {
            sign(&context.secrets, &identity.keys, now)
        }
        (Role::Waypoint | Role::Sidecar, _) => {
            found(fields.iter(), estate).first().map(|text| (*text).into())
        }
    }
}

/// Lets a request pass whose keys are proven at `now`, and every one without a key.
///
/// # Errors
/// `access_denied`: nothing in the request proves its keys.
pub fn check<H: Head>(head: &H, identity: &Identity, estate: &Estate, now: u64) -> Result<(), Failure> {
    let Some(key) = identity.keys.first() else { return Ok(()) };
    let secrets = &estate.context.secrets;
    let is_proven = identity.carrier == Some(Carrier::Trace)
        // It is of this very sidecar.
        || identity.onward == Onward::Stamped
        || found(head.fields(), estate).into_iter().any(|text| proves(secrets, &identity.keys, text, now));
    if is_proven {
        return Ok(());
    }
    let detail = if secrets.is_empty() {
        "this proxy takes signed keys only, and has no secret yet to tell a signature by: the controller that it follows \
         sends them (`--context-secrets`)"
            .to_owned()
    } else {
        format!(
            "no gateway of this estate has signed the key in time, and this proxy takes signed ones only: send the request \
             through the gateway, and have applications hand on `baggage`, `tracestate` or `{FIELD}`"
        )
    };
    Err(Failure::new(Code::AccessDenied, detail).about(*key))
}

/// What is signed.
fn parts<'a>(keys: &'a [Key], until: &'a [u8]) -> Vec<&'a [u8]> {
    let keys = keys.iter().flat_map(|key| [key.as_bytes(), b","]);
    [PURPOSE, until].into_iter().chain(keys).collect()
}

fn proves(secrets: &Secrets, keys: &[Key], text: &[u8], now: u64) -> bool {
    let parsed = || {
        let (until, tag) = std::str::from_utf8(text).ok()?.split_once('-')?;
        let is_digits = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !(1..=16).contains(&until.len()) || tag.len() != 32 || !is_digits(until) || !is_digits(tag) {
            return None;
        }
        Some((u64::from_str_radix(until, 16).ok()?, u128::from_str_radix(tag, 16).ok()?))
    };
    parsed().is_some_and(|(until, tag)| {
        // One that counts for longer than we sign for was made by another clock, or another.
        (now..=now.saturating_add(2 * LIFE)).contains(&until)
            && secrets.verify(&parts(keys, &until.to_be_bytes()), tag)
    })
}

/// The signatures of a request.
fn found<'a>(fields: impl Iterator<Item = (&'a [u8], &'a [u8])>, estate: &Estate) -> Vec<&'a [u8]> {
    let carriers = &estate.carriers;
    let mut found = Vec::new();
    for (name, value) in fields {
        match name {
            b"baggage" => found.extend(
                members(value)
                    .filter(|member| carriers.baggage.as_deref().map(str::as_bytes) == Some(member.name))
                    .flat_map(Member::properties)
                    .filter_map(|(name, value)| value.filter(|_| name == PROPERTY)),
            ),
            b"tracestate" => found.extend(
                members(value)
                    .filter(|member| {
                        let ours = carriers.tracestate.as_deref().map(str::as_bytes);
                        member.name.strip_suffix(SUFFIX.as_bytes()).is_some_and(|name| Some(name) == ours)
                    })
                    .map(|member| member.value.trim_ascii()),
            ),
            name if name == FIELD.as_bytes() => found.push(value.trim_ascii()),
            _ => {}
        }
    }
    found.truncate(TRIED);
    found
}

#[cfg(test)]
mod tests;
