//! Carrier `header`: our own, and `x-pr-strict` beside it.

use sidetrack_config::carriers::Carrier;

use super::list::{malformed, read, text};
use crate::decision::Keys;
use crate::error::{Code, Failure};
use crate::head::Head;
use crate::route::table::Table;

/// The keys of our header: repeated lines count as one list, in order.
pub(super) fn keys<H: Head>(head: &H, table: &Table) -> Result<Option<Keys>, Failure> {
    let Some(name) = table.estate.carriers.header.as_deref() else { return Ok(None) };
    let mut keys = None;
    for line in head.lines(name) {
        let text = text(Carrier::Header, line)?;
        read(keys.get_or_insert_default(), text, ',', table)
            .map_err(|why| malformed(Carrier::Header, &why))?;
    }
    Ok(keys)
}

/// Sees to it that no field is our header but for `_`: some servers read both as one, so that neither may pass.
pub(super) fn check_twin<H: Head>(head: &H, table: &Table) -> Result<(), Failure> {
    let Some(ours) = table.estate.carriers.header.as_deref() else { return Ok(()) };
    if !head.has_underscores() && !ours.contains('_') {
        return Ok(());
    }
    let mut names = head.fields().map(|(name, _)| name);
    match names.find(|name| *name != ours.as_bytes() && is_twin(name, ours.as_bytes())) {
        Some(twin) => Err(Failure::new(
            Code::MalformedKey,
            format!(
                "some servers read header {:?} as {ours:?}; send that one only",
                String::from_utf8_lossy(twin)
            ),
        )),
        None => Ok(()),
    }
}

/// Whether a line of `x-pr-strict` asks for strictness: anything but an explicit no does, since a typing error must not turn
/// it off.
pub(crate) const fn is_strict(value: &[u8]) -> bool {
    !matches!(value, b"0" | b"false" | b"")
}

/// Whether a field that some servers read as `x-pr-strict` asks for strictness: who wrote it wants no silent baseline.
pub(crate) fn has_strict_twin<'a>(mut fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> bool {
    fields.any(|(name, value)| is_twin(name, b"x-pr-strict") && is_strict(value))
}

/// Whether `name` is `ours` but for `_` in place of some `-`, or the other way round.
pub(crate) fn is_twin(name: &[u8], ours: &[u8]) -> bool {
    let dashed = |byte: u8| if byte == b'_' { b'-' } else { byte };
    name.len() == ours.len() && name.iter().copied().map(dashed).eq(ours.iter().copied().map(dashed))
}
