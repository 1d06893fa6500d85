//! Step 2: which keys does a request carry, and where. Pure: it reads the head and the table, nothing else.
//!
//! The carriers are asked in order of precedence. The explicit ones must agree; the others only fill in.

mod baggage;
mod header;
mod host;
mod list;
mod origin;
mod path;
mod query;
#[cfg(test)]
mod tests;
mod tools;
mod trace;
mod traceparent;

use std::borrow::Cow;

use sidetrack_config::carriers::Carrier;
use sidetrack_config::key::Key;

use crate::decision::Keys;
use crate::error::{Code, Failure};
use crate::head::Head;
use crate::route::table::Table;

pub(crate) use baggage::{Member, is_named, members};
pub(crate) use header::{has_strict_twin, is_strict, is_twin};
pub(crate) use host::read_host;
pub(crate) use list::cookie_value;
pub use list::percent_decoded;
pub(crate) use path::segment as path_segment;
pub use query::strip as strip_query;
pub(crate) use query::value as query_value;
pub use traceparent::{TraceParent, only as only_traceparent, parse as parse_traceparent};

/// What was read from a request: its keys, and what carriers in the URL leave of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The canonical keys, in order; empty: the request names no preview.
    pub keys: Keys,
    /// The first carrier that held them.
    pub carrier: Option<Carrier>,
    /// Whether a baseline answer for a preview that is not there, or down, is an error in any case.
    pub strict: bool,
    /// The host that routes are matched against.
    pub host: RouteHost,
    /// Length of the path segment that carried the key, with its slash; zero: none did.
    pub path_skip: usize,
    /// Whether the query holds our parameter, which does not go onward.
    pub strip_query: bool,
    /// What the answer does to the cookie.
    pub cookie: CookieChange,
    /// Whether the trace context of the request is a valid one.
    pub traced: bool,
    /// Whether a cache can't tell the answer from others: the key is neither in the URL nor in our header, or did not count.
    pub is_private: bool,
    /// What becomes of the carriers on their way onward.
    pub onward: Onward,
}

/// What becomes of the carriers of a request on their way onward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Onward {
    /// They say what the request said.
    Carried,
    /// The request said nothing, and gets the key of the fork whose sidecar this is.
    Stamped,
    /// The request leaves the estate, and they were taken out.
    Left,
}

/// The host with the key taken out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteHost {
    /// The host as it came.
    Whole,
    /// The host from this byte on: `api.D` of `pr-42.api.D`.
    Tail(usize),
    /// Put together, or brought to lower case.
    Owned(Box<str>),
    /// The whole host is one of a preview's `hosts`.
    OfPreview,
}

/// What the answer does to the browser's cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieChange {
    /// Nothing.
    Keep,
    /// Sets it to the keys.
    Set,
    /// Clears it.
    Clear,
}

impl Identity {
    /// That of a request that leaves the estate: nothing in it is ours to read.
    pub fn left() -> Self {
        Self {
            keys: Keys::new(),
            carrier: None,
            strict: false,
            host: RouteHost::Whole,
            path_skip: 0,
            strip_query: false,
            cookie: CookieChange::Keep,
            traced: false,
            is_private: false,
            onward: Onward::Left,
        }
    }

    /// The host that routes are matched against.
    pub fn host_text<'a, H: Head>(&'a self, head: &'a H) -> Cow<'a, str> {
        let host = host_of(head.authority());
        match &self.host {
            RouteHost::Whole => Cow::Borrowed(host),
            RouteHost::OfPreview => Cow::Owned(host.to_ascii_lowercase()),
            RouteHost::Tail(from) => Cow::Borrowed(host.get(*from..).unwrap_or_default()),
            RouteHost::Owned(text) => Cow::Borrowed(text),
        }
    }

    /// The path that routes are matched against and that goes onward.
    pub fn path<'a, H: Head>(&self, head: &'a H) -> &'a str {
        match head.path().get(self.path_skip..) {
            Some("" | "*") | None => "/",
            Some(rest) => rest,
        }
    }

    /// The segment that carried the key, with its slash; empty: none did.
    pub fn path_prefix<'a, H: Head>(&self, head: &'a H) -> &'a str {
        head.path().get(..self.path_skip).unwrap_or_default()
    }
}

/// The host of `host:port`, without the trailing dot of an absolute name.
pub fn host_of(authority: &str) -> &str {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(host, _)| host),
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    host.strip_suffix('.').unwrap_or(host)
}

/// The caller's trace, where there is exactly one and it is valid.
fn trace_parent<H: Head>(head: &H) -> Option<TraceParent> {
    only_traceparent(head.lines("traceparent"))
}

/// Reads the keys of a request.
///
/// # Errors
/// `malformed_key` where an explicit carrier holds something else than keys, `conflicting_keys` where two of them
/// differ. Both are the caller's to mend: neither may end in a silent baseline.
pub fn identify<H: Head>(head: &H, table: &Table) -> Result<Identity, Failure> {
    let carriers = &table.estate.carriers;
    header::check_twin(head, table)?;
    let host = host::read(head, table)?;
    let path = path::read(head, table)?;
    let query = query::read(head, table)?;
    let baggage = baggage::in_baggage(head, table)?;
    let traced = trace_parent(head).is_some();
    let tracestate = if traced { baggage::in_tracestate(head, table)? } else { None };

    let mut identity = Identity {
        keys: Keys::new(),
        carrier: None,
        strict: head.lines("x-pr-strict").any(is_strict)
            || (head.has_underscores() && has_strict_twin(head.fields()))
            || baggage.as_ref().is_some_and(|found| found.strict),
        host: host.rest,
        path_skip: path.as_ref().map_or(0, |found| found.skip),
        strip_query: query.present,
        cookie: CookieChange::Keep,
        traced,
        is_private: false,
        onward: Onward::Carried,
    };
    identity.take_explicit(Carrier::Header, header::keys(head, table)?)?;
    identity.take_explicit(Carrier::Host, host.keys)?;
    identity.take_explicit(Carrier::Path, path.map(|found| found.keys))?;
    identity.take_explicit(Carrier::Query, query.keys)?;
    identity.take_explicit(Carrier::Baggage, baggage.map(|found| found.keys))?;
    identity.take_explicit(Carrier::Tracestate, tracestate)?;
    let navigates = || {
        head.method() == "GET" && head.lines("sec-fetch-mode").last().is_none_or(|mode| mode == b"navigate")
    };
    if query.present && carriers.cookie.is_some() && navigates() {
        identity.cookie = if query.cleared { CookieChange::Clear } else { CookieChange::Set };
    }
    if identity.keys.is_empty() {
        identity.fill_in(head, table, query.cleared);
    }
    Ok(identity)
}

impl Identity {
    #[inline]
    fn take_explicit(&mut self, carrier: Carrier, keys: Option<Keys>) -> Result<(), Failure> {
        let Some(keys) = keys else { return Ok(()) };
        match self.carrier {
            None => {
                self.keys = keys;
                self.carrier = Some(carrier);
                self.is_private = matches!(carrier, Carrier::Baggage | Carrier::Tracestate);
                Ok(())
            }
            Some(_) if self.keys == keys => Ok(()),
            Some(first) => Err(Failure::new(
                Code::ConflictingKeys,
                format!(
                    "{first} says {}, {carrier} says {}; send one of them, or the same in both",
                    join(&self.keys, ","),
                    join(&keys, ",")
                ),
            )),
        }
    }

    /// Carriers that only fill in: they never conflict, and what they hold wrongly is ignored.
    fn fill_in<H: Head>(&mut self, head: &H, table: &Table, cleared: bool) {
        let found = tools::read(head, table)
            .map(|(keys, in_url)| (Carrier::Alias, keys, !in_url))
            .or_else(|| {
                let cookie = if cleared { None } else { list::in_cookie(head, table) };
                cookie.map(|keys| (Carrier::Cookie, keys, true))
            })
            .or_else(|| origin::read(head, table).map(|keys| (Carrier::Origin, keys, true)))
            .or_else(|| {
                let hidden = trace::read(head, table)?;
                self.strict |= hidden.strict;
                Some((Carrier::Trace, Keys::from_iter([hidden.key]), true))
            });
        if let Some((carrier, keys, is_private)) = found {
            self.carrier = Some(carrier);
            self.keys = keys;
            self.is_private = is_private;
        }
    }
}

impl Identity {
    /// Lets go of the keys.
    pub fn forget(&mut self) {
        self.keys.clear();
        self.carrier = None;
        self.is_private = false;
    }

    /// What is left of it where the client may not name previews in fields, which were cut before: a key that an `Origin`
    /// or an id gave is none.
    ///
    /// # Errors
    /// `access_denied` where the URL names one: nobody writes that by accident, and it must not end in a silent baseline.
    pub fn distrusted(mut self) -> Result<Self, Failure> {
        match self.carrier {
            None => Ok(self),
            Some(Carrier::Origin | Carrier::Trace) => {
                self.forget();
                Ok(self)
            }
            Some(carrier) => {
                let detail = format!("this client's address may not name previews, and the {carrier} does");
                Err(Failure::new(Code::AccessDenied, detail))
            }
        }
    }
}

/// The keys, joined.
pub fn join(keys: &[Key], separator: &str) -> String {
    let mut text = String::new();
    for (at, key) in keys.iter().enumerate() {
        text.push_str(if at == 0 { "" } else { separator });
        text.push_str(key.as_str());
    }
    text
}
