//! Carrier `host`: `pr-42.D`, `pr-42.api.D`, `api--pr-42.D`, `pr-42--api.D`, lists of them, aliases, and the exact
//! hosts of a preview. A label that begins with the prefix anywhere else is an error, never baseline.

use std::borrow::Cow;

use sidetrack_config::Key;
use sidetrack_config::carriers::Carrier;
use sidetrack_config::key::strip_prefix;

use super::list::{malformed, shown};
use super::{RouteHost, host_of};
use crate::decision::{Keys, push_key};
use crate::error::Failure;
use crate::head::Head;
use crate::route::table::Table;

/// The keys of a host, and what is left of it.
pub(super) struct Found {
    pub(super) keys: Option<Keys>,
    pub(super) rest: RouteHost,
}

/// Reads the host of a request.
pub(super) fn read<H: Head>(head: &H, table: &Table) -> Result<Found, Failure> {
    let raw = host_of(head.authority());
    let host = lower(raw);
    let (keys, rest) = read_host(&host, table).map_err(|why| malformed(Carrier::Host, &why))?;
    let rest = match (rest, host) {
        (RouteHost::Whole, Cow::Owned(host)) => RouteHost::Owned(host.into()),
        (RouteHost::Tail(from), Cow::Owned(host)) => {
            RouteHost::Owned(host.get(from..).unwrap_or_default().into())
        }
        (rest, _) => rest,
    };
    Ok(Found { keys, rest })
}

fn lower(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}

/// Reads a host in lower case without its port: of a request, of `Origin`, or one that a preview claims.
pub(crate) fn read_host(host: &str, table: &Table) -> Result<(Option<Keys>, RouteHost), String> {
    let Some(prefix) = table.estate.carriers.host_prefix.as_deref() else {
        return Ok((None, RouteHost::Whole));
    };
    if let Some(key) = table.host(host) {
        return Ok((Some(Keys::from_slice(&[key])), RouteHost::OfPreview));
    }
    let Some(below) = below_a_domain(host, &table.estate.domains) else {
        return Ok((None, RouteHost::Whole));
    };
    let (label, others) = below.split_once('.').unwrap_or((below, ""));
    if let Some(misplaced) = others.split('.').find(|label| holds_prefix(label, prefix)) {
        return Err(format!("{:?} is not the first label of the host", shown(misplaced)));
    }
    // Nearly every host without a key ends here.
    if table.has_no_aliases() && !holds_prefix(label, prefix) {
        return Ok((None, RouteHost::Whole));
    }
    let after = label.len() + 1;
    let behind = host.get(after..).unwrap_or_default();
    let Some(split) = read_label(label, prefix, (table, behind))? else {
        return Ok((None, RouteHost::Whole));
    };
    let rest = match split.service {
        None => RouteHost::Tail(after),
        // `pr-42--api.D`: what is left is the end of the host as it stands.
        Some(service) if label.ends_with(service) => RouteHost::Tail(label.len() - service.len()),
        Some(service) => RouteHost::Owned(format!("{service}.{behind}").into()),
    };
    Ok((Some(split.keys), rest))
}

/// The labels of `host` below the longest domain that it is in.
fn below_a_domain<'a>(host: &'a str, domains: &[Box<str>]) -> Option<&'a str> {
    domains
        .iter()
        .find_map(|domain| host.strip_suffix(&**domain)?.strip_suffix('.'))
        .filter(|below| !below.is_empty())
}

fn begins(label: &str, prefix: &str) -> bool {
    strip_prefix(label, prefix).is_some()
}

/// Whether a label, or a part of it, begins with the prefix; hyphens too many don't hide it.
fn holds_prefix(label: &str, prefix: &str) -> bool {
    begins(label, prefix) || parts(label).any(|part| begins(part.trim_start_matches('-'), prefix))
}

/// The parts of a label between `--`; the `--` of `xn--`, with which a label in Punycode begins, joins nothing.
fn parts(label: &str) -> impl Iterator<Item = &str> {
    let from = if label.starts_with("xn--") { 4 } else { 0 };
    // By hand: a search for a text costs more to begin than most labels are long.
    let mut pairs = label.as_bytes().windows(2).enumerate().skip(from);
    let first = pairs.find(|(_, pair)| pair == b"--").map_or(label.len(), |(at, _)| at);
    let (first, rest) = label.split_at_checked(first).unwrap_or((label, ""));
    std::iter::once(first).chain(rest.strip_prefix("--").into_iter().flat_map(|rest| rest.split("--")))
}

struct Split<'a> {
    keys: Keys,
    service: Option<&'a str>,
}

/// Reads a first label: keys on one side, at most one service on the other, joined by `--`. `names`: the table, and what
/// follows the label.
fn read_label<'a>(label: &'a str, prefix: &str, names: (&Table, &str)) -> Result<Option<Split<'a>>, String> {
    let parts: smallvec::SmallVec<[Part<'a>; 4]> =
        parts(label).map(|part| Part::read(part, prefix, names)).collect::<Result<_, _>>()?;
    if !parts.iter().any(|part| matches!(part, Part::Key(_))) {
        return match begins(label, prefix) {
            true => Err(format!("label {:?} begins with {prefix:?} and holds no key", shown(label))),
            false => Ok(None),
        };
    }
    let mut keys = Keys::new();
    for part in &parts {
        if let Part::Key(key) = part
            && !push_key(&mut keys, *key)
        {
            return Err("it holds more than 8 keys".to_owned());
        }
    }
    let service = service_side(label, &parts)
        .ok_or_else(|| format!("label {:?} must be keys and one service, joined by '--'", shown(label)))?;
    // `pr---42--pr-57`: the first is no service, but a key that nobody can read.
    let is_odd =
        |name: &str| name.is_empty() || name.starts_with('-') || name.ends_with('-') || begins(name, prefix);
    if service.is_some_and(is_odd) {
        return Err(format!("label {:?} has an empty part, or a '-' too many", shown(label)));
    }
    Ok(Some(Split { keys, service }))
}

enum Part<'a> {
    Key(Key),
    Plain(&'a str),
}

impl<'a> Part<'a> {
    fn read(text: &'a str, prefix: &str, (table, behind): (&Table, &str)) -> Result<Self, String> {
        if begins(text.trim_start_matches('-'), prefix) {
            let key = Key::parse(text, prefix).map_err(|why| format!("{:?} {why}", shown(text)))?;
            return Ok(Self::Key(table.canonical(key)));
        }
        Ok(table.label(text, behind).map_or(Self::Plain(text), Self::Key))
    }
}

/// The plain parts of a label where they stand together at one end of it: `None` where they do not.
fn service_side<'a>(label: &'a str, parts: &[Part<'a>]) -> Option<Option<&'a str>> {
    let is_key = |part: &Part<'_>| matches!(part, Part::Key(_));
    let leading = parts.iter().take_while(|part| is_key(part)).count();
    let trailing = parts.iter().rev().take_while(|part| is_key(part)).count();
    let plain: usize = parts.iter().filter(|part| !is_key(part)).count();
    let length = |side: &[Part<'a>]| -> usize {
        let texts: usize =
            side.iter().map(|part| if let Part::Plain(text) = part { text.len() } else { 0 }).sum();
        texts + 2 * side.len().saturating_sub(1)
    };
    if plain == 0 {
        Some(None)
    } else if leading + plain == parts.len() {
        let service = length(parts.get(leading..)?);
        Some(Some(label.get(label.len() - service..)?))
    } else if plain + trailing == parts.len() {
        Some(Some(label.get(..length(parts.get(..plain)?))?))
    } else {
        None
    }
}
