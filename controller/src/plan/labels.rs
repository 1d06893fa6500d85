//! Small questions about labels and names.

use crate::names::{FORK_OF, FORK_OF_NAMESPACE, KEEP};
use crate::world::Labels;

/// Whether every label of `small` is in `large`.
pub(super) fn is_subset(small: &Labels, large: &Labels) -> bool {
    small.iter().all(|(key, value)| large.get(key) == Some(value))
}

/// Namespace and name of the Service that labels in `namespace` say they fork.
pub(super) fn fork_of<'a>(namespace: &'a str, labels: &'a Labels) -> Option<(&'a str, &'a str)> {
    let service = labels.get(FORK_OF).filter(|name| !name.is_empty())?;
    let namespace =
        labels.get(FORK_OF_NAMESPACE).filter(|name| !name.is_empty()).map_or(namespace, |name| name);
    Some((namespace, service))
}

/// Whether labels or annotations exempt from the TTL.
pub(super) fn is_kept(labels: &Labels) -> bool {
    labels.get(KEEP).is_some_and(|value| !value.eq_ignore_ascii_case("false"))
}

/// `text` in at most `max` characters: what is too long ends in a hash of all of it, so that two long names stay two.
pub(super) fn bounded(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let hash = format!("{:08x}", sidetrack_config::stream::item_hash("name", text) >> 32);
    let room = max.saturating_sub(hash.len() + 1);
    let cut = (0..=room).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    let head = text.get(..cut).unwrap_or_default().trim_end_matches(['-', '.', '_']);
    format!("{head}-{hash}")
}
