//! Carrier `query`: `?pr-id=42`, stripped before forwarding; an empty value clears the cookie.

use std::borrow::Cow;

use sidetrack_config::carriers::Carrier;

use super::list::{decoded, malformed, percent_decoded, read as read_list};
use crate::decision::Keys;
use crate::error::Failure;
use crate::head::Head;
use crate::route::table::Table;

/// What the query says.
#[derive(Default)]
pub(super) struct Found {
    /// The keys, where there are any.
    pub(super) keys: Option<Keys>,
    /// Whether our parameter is there at all.
    pub(super) present: bool,
    /// Whether it is there with an empty value.
    pub(super) cleared: bool,
}

pub(super) fn read<H: Head>(head: &H, table: &Table) -> Result<Found, Failure> {
    let (Some(name), Some(query)) = (table.estate.carriers.query.as_deref(), head.query()) else {
        return Ok(Found::default());
    };
    let mut found = Found::default();
    let mut keys = Keys::new();
    for (_, value) in query.split('&').map(split).filter(|(n, _)| is(n, name)) {
        found.present = true;
        if value.is_empty() {
            found.cleared = true;
            continue;
        }
        read_list(&mut keys, &decoded(Carrier::Query, value)?, ',', table)
            .map_err(|why| malformed(Carrier::Query, &why))?;
    }
    if found.cleared && !keys.is_empty() {
        return Err(malformed(Carrier::Query, "the parameter is there twice, once empty"));
    }
    found.keys = (!keys.is_empty()).then_some(keys);
    Ok(found)
}

fn split(pair: &str) -> (&str, &str) {
    pair.split_once('=').unwrap_or((pair, ""))
}

/// Whether a name, perhaps percent-encoded, is `wanted`.
fn is(name: &str, wanted: &str) -> bool {
    name == wanted || (name.contains('%') && percent_decoded(name).is_some_and(|name| name == wanted))
}

/// The first value of the parameter `name`, percent-decoded: for the carriers of other tools, and for routes.
pub(crate) fn value<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    query.split('&').map(split).find(|(n, _)| is(n, name)).and_then(|(_, value)| percent_decoded(value))
}

/// The query without the parameter `name`, every other byte as it was; `None` where nothing is left.
pub fn strip(query: &str, name: &str) -> Option<String> {
    let kept: Vec<&str> = query.split('&').filter(|pair| !is(split(pair).0, name)).collect();
    (!kept.is_empty()).then(|| kept.join("&"))
}
