//! Carrier `path`: `/pr-42/api/...`, off by default.

use sidetrack_config::carriers::Carrier;
use sidetrack_config::key::strip_prefix;

use super::list::explicit;
use crate::decision::Keys;
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
    if !carriers.path {
        return Ok(None);
    }
    let Some(rest) = head.path().strip_prefix('/') else { return Ok(None) };
    let segment = rest.split_once('/').map_or(rest, |(segment, _)| segment);
    if strip_prefix(segment, carriers.prefix()).is_none() {
        return Ok(None);
    }
    let keys = explicit(Carrier::Path, segment, "--", table)?;
    Ok(Some(Found { keys, skip: segment.len() + 1 }))
}
