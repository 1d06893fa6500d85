//! Carrier `origin`: a page of a preview calls another host of ours. Preflights and plain cross-origin calls carry
//! no header of ours; the page's own host is in `Origin`.

use super::host::read_host;
use super::host_of;
use crate::decision::Keys;
use crate::head::Head;
use crate::route::hosts::is_within;
use crate::route::table::Table;

pub(super) fn read<H: Head>(head: &H, table: &Table) -> Option<Keys> {
    if !table.estate.carriers.origin || !(is_preflight(head) || is_ours(head, table)) {
        return None;
    }
    let origin = std::str::from_utf8(head.lines("origin").last()?).ok()?;
    let authority = origin.split_once("://")?.1;
    let (keys, _) = read_host(&host_of(authority).to_ascii_lowercase(), table).ok()?;
    keys.filter(|keys| keys.iter().all(|key| table.preview(key).is_some()))
}

/// Whether a browser asks what a page may ask.
fn is_preflight<H: Head>(head: &H) -> bool {
    head.method() == "OPTIONS" && head.field("access-control-request-method").is_some()
}

/// Whether the request goes to a domain of ours.
fn is_ours<H: Head>(head: &H, table: &Table) -> bool {
    let host = host_of(head.authority()).to_ascii_lowercase();
    table.estate.domains.iter().any(|domain| is_within(&host, domain))
}
