//! Carrier `path`: `/pr-42/api/...`, off by default.

use sidetrack_config::Key;
use sidetrack_config::carriers::Carrier;
use sidetrack_config::key::strip_prefix;
use sidetrack_config::model::Carriers;

use super::list::{malformed, shown};
use crate::decision::{Keys, push_key};
use crate::error::Failure;
use crate::head::Head;
use crate::route::table::Table;

/// The keys of the first segment.
pub(super) struct Found {
    pub(super) keys: Keys,
    /// Length of the segment with its slash.
    pub(super) skip: usize,
}

pub(super) fn read<H: Head>(head: &H, table: &Table) -> Result<Option<Found>, Failure> {
    let carriers = &table.estate.carriers;
    let Some(segment) = segment(head.path(), carriers) else { return Ok(None) };
    let mut keys = Keys::new();
    for item in segment.split("--") {
        let wrong = |why: &str| malformed(Carrier::Path, &format!("{:?} {why}", shown(item)));
        // As in the host: `--` joins keys that each have the prefix, so that `/pr-4--2` is no list.
        strip_prefix(item, carriers.prefix()).ok_or_else(|| wrong("has no prefix"))?;
        let key = Key::parse(item, carriers.prefix()).map_err(|why| wrong(&why.to_string()))?;
        if !push_key(&mut keys, table.canonical(key)) {
            return Err(malformed(Carrier::Path, "it holds more than 8 keys"));
        }
    }
    Ok(Some(Found { keys, skip: segment.len() + 1 }))
}

/// The first segment of a path, where it is to be read as keys.
pub(crate) fn segment<'a>(path: &'a str, carriers: &Carriers) -> Option<&'a str> {
    let first = path.strip_prefix('/')?.split('/').next()?;
    (carriers.path && strip_prefix(first, carriers.prefix()).is_some()).then_some(first)
}
