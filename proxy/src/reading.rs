//! Step 2 as a whole: what a request says, as far as it counts from who asks, at the place where it asks. What does not count
//! is taken out of the head. The walk and `explain` ask it alike.

use std::net::IpAddr;
use std::time::Instant;

use sidetrack_config::model::Place;

use crate::context::edges::Call;
use crate::context::inside;
use crate::context::replay::{self, is_replay};
use crate::error::{Code, Failure};
use crate::forward::carriers;
use crate::head::{HttpHead, RequestHead};
use crate::identify::{Identity, identify};
use crate::place::{self, Here};
use crate::route::table::Table;
use crate::worker::Shared;

/// Who asks, and where.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'t> {
    /// The place that it came in at.
    pub place: &'t Place,
    /// What is known there besides the table.
    pub here: Here<'t>,
    /// Its address.
    pub client: IpAddr,
}

/// A head as it came, with what was checked of it before.
#[derive(Debug)]
pub struct Asked<'a> {
    /// The head.
    pub head: &'a mut RequestHead,
    /// Its authority, which was checked.
    pub authority: &'a str,
    /// Whether it came over TLS.
    pub is_secure: bool,
}

impl Asked<'_> {
    fn view(&self) -> HttpHead<'_> {
        HttpHead::new(self.head, self.authority, self.is_secure)
    }
}

/// What a request says.
#[derive(Debug)]
pub struct Reading {
    /// The keys that count, and how they go onward.
    pub identity: Identity,
    /// What is to be told of a call inside.
    pub call: Option<Call>,
    /// What was taken out of the head.
    pub taken: Taken,
}

/// What was taken out of a head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Carriers, since the call leaves the estate.
    pub by_egress: bool,
    /// Carriers, since the client may not set them.
    pub carriers: bool,
    /// Ids that say a key which the client may not name.
    pub ids: bool,
}

/// Reads a request of `asker`. `shared` has what a sidecar remembers and counts; without it nothing is.
///
/// # Errors
/// As [`identify`]; `access_denied` where a client that may not name previews does so in the URL, or forbids that the
/// baseline answers in place of the one that it names.
pub fn read(
    asked: &mut Asked<'_>,
    asker: &Asker<'_>,
    table: &Table,
    shared: Option<&Shared>,
    now: Instant,
) -> Result<Reading, Failure> {
    let mut taken = Taken::default();
    if place::leaves(asker.place, &asker.here, asked.authority, table) {
        taken.by_egress = carriers::leave(&mut asked.head.fields, &table.estate);
        return Ok(Reading { identity: Identity::left(), call: None, taken });
    }
    let is_trusted = table.estate.carriers.trusts(asker.client);
    if !is_trusted {
        let cut = carriers::cut(&mut asked.head.fields, &table.estate.carriers);
        if cut.carriers && cut.strict {
            return Err(Failure::new(
                Code::AccessDenied,
                "this client's address may not name previews, and the request is not to be answered by the baseline",
            ));
        }
        taken.carriers = cut.carriers || cut.strict;
    }
    let mut identity = identify(&asked.view(), table)?;
    if !is_trusted {
        identity = identity.distrusted()?;
        // By what was cut a cache may tell the answer from others, and would keep it for those who may say it.
        identity.is_private |= taken.carriers;
    }
    if is_replay(&asked.view(), &identity, asker.client, is_trusted, table) {
        replay::cut(&mut asked.head.fields);
        identity.traced = false;
        taken.ids = true;
    }
    let attend = |shared| inside::attend(&asked.view(), &mut identity, asker.place, table, shared, now);
    let call = shared.and_then(attend);
    place::stamp(asker.place, &mut identity, table);
    Ok(Reading { identity, call, taken })
}

#[cfg(test)]
mod tests;
