//! Carrier `alias`: what other tools write. A value that is no key of ours is theirs, and not our error.

use sidetrack_config::Key;
use sidetrack_config::carriers::Place;

use super::baggage::{named, values};
use super::list::percent_decoded;
use super::{query, trace_parent};
use crate::decision::Keys;
use crate::head::Head;
use crate::route::table::Table;

/// The first value, in the order of the configured sets, that names a preview here; and whether it is in the URL.
pub(super) fn read<H: Head>(head: &H, table: &Table) -> Option<(Keys, bool)> {
    let mut places = table.estate.carriers.aliases.iter().flat_map(|tool| tool.places);
    places.find_map(|place| {
        let key = one(place, head, table)?;
        Some((Keys::from_slice(&[key]), matches!(place, Place::Query(_))))
    })
}

fn one<H: Head>(place: &Place, head: &H, table: &Table) -> Option<Key> {
    match place {
        Place::Header(name) => {
            head.lines(name).find_map(|value| known(std::str::from_utf8(value).ok()?, table))
        }
        Place::Baggage(name) => named(head, name).find_map(|member| {
            let value = std::str::from_utf8(member.value.split(|byte| *byte == b';').next()?).ok()?;
            known(&percent_decoded(value.trim())?, table)
        }),
        Place::Tracestate(name) if trace_parent(head).is_some() => {
            values(head, name).find_map(|value| known(std::str::from_utf8(value).ok()?, table))
        }
        Place::Tracestate(_) => None,
        Place::Query(name) => known(&query::value(head.query()?, name)?, table),
    }
}

fn known(text: &str, table: &Table) -> Option<Key> {
    let key = table.canonical(Key::parse(text.trim(), table.estate.carriers.prefix()).ok()?);
    table.preview(&key).map(|preview| preview.key)
}
