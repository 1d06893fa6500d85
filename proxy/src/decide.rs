//! Steps 3 to 5 up to the endpoint: what becomes of a request whose keys are known. Pure. The walk and `explain` ask it
//! alike, each with somebody who is told of every step.

use std::rc::Rc;

use sidetrack_config::model::Redirect;

use crate::admit::admit;
use crate::context::signature;
use crate::decision::{Decision, Reason, Target};
use crate::error::Failure;
use crate::head::Head;
use crate::identify::Identity;
use crate::pick::{self, Way};
use crate::place;
use crate::reading::Asker;
use crate::route::rule::Rule;
use crate::route::table::Table;

/// What becomes of a request.
#[derive(Debug)]
pub enum Verdict<'t> {
    /// It goes to a target.
    Go(Decision<'t>),
    /// Its client is sent elsewhere, by this rule.
    Redirect(&'t Redirect, &'t Rule),
}

/// Who is told of each step while it is taken: what comes after it may fail.
pub trait Told {
    /// The request met this rule, and goes this way.
    fn routed(&mut self, rule: &Rule, way: Way<'_>);
    /// Its client may send it.
    fn admitted(&mut self);
    /// There is no target for it, and this is why.
    fn refused(&mut self, failure: &Failure, generation: u64);
}

/// Decides. Of what is drawn by weight `seed` is drawn; `now` is in seconds since 1970.
///
/// # Errors
/// As [`place::rule`], [`pick::way`], [`admit`], [`signature::check`] and [`Here::target`](crate::place::Here::target).
pub fn decide<'t, H: Head>(
    head: &H,
    identity: Rc<Identity>,
    asker: &Asker<'t>,
    table: &'t Table,
    (seed, now): (u64, u64),
    told: &mut impl Told,
) -> Result<Verdict<'t>, Failure> {
    let Asker { place, here, client } = *asker;
    let rule = place::rule(place, head, &identity, table, &here)?;
    let way = pick::way(rule, table, seed)?;
    told.routed(rule, way);
    admit(head, &identity.keys, client, table)?;
    if table.estate.context.strict {
        signature::check(head, &identity, &table.estate, now)?;
    }
    told.admitted();
    let (backend, service) = match way {
        Way::To(backend, service) => (backend, service),
        Way::Redirect(to) => return Ok(Verdict::Redirect(to, rule)),
    };
    let (target, reason) = here
        .target(&identity, service, table)
        .inspect_err(|failure| told.refused(failure, table.generation))?;
    if let (Target::Fork(preview, _), Reason::ParentFork) = (target, reason) {
        // Who may see a preview may not for that see those that it stands on.
        admit(head, &[preview.key], client, table)?;
    }
    let generation = table.generation;
    Ok(Verdict::Go(Decision { identity, rule, backend, service, target, reason, generation, here }))
}
