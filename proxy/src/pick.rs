//! Step 4: which backend, which target and which endpoint. Pure: loads, ejections, time and seed are arguments.

pub mod passive;

use std::sync::Arc;

use sidetrack_config::key::{Key, MAX_KEYS};
use sidetrack_config::model::{Redirect, UnknownPreview};
use smallvec::SmallVec;

use crate::decision::{Reason, Target};
use crate::error::{Code, Failure};
use crate::identify::Identity;
use crate::route::rule::{Action, Backend, Rule};
use crate::route::table::{Behind, Endpoint, Preview, Service, Table};

/// What a rule does with one request.
#[derive(Clone, Copy, Debug)]
pub enum Way<'t> {
    /// It goes to the service of this backend, or to a fork of it.
    To(&'t Backend, &'t Service),
    /// The client is sent elsewhere.
    Redirect(&'t Redirect),
}

impl<'t> Way<'t> {
    /// The service that it goes to.
    pub const fn service(self) -> Option<&'t Service> {
        match self {
            Self::To(_, service) => Some(service),
            Self::Redirect(_) => None,
        }
    }
}

/// What `rule` does with the request that `seed` was drawn for: of its backends each takes its share by weight.
///
/// # Errors
/// `internal` where no backend has a weight, or the one that was drawn is no service: the Gateway API wants 500.
pub fn way<'t>(rule: &'t Rule, table: &'t Table, seed: u64) -> Result<Way<'t>, Failure> {
    let backends = match &rule.action {
        Action::Redirect(to) => return Ok(Way::Redirect(to)),
        Action::Forward(backends) => backends,
    };
    let broken = |why: &str| Failure::new(Code::Internal, format!("route {rule}: {why}"));
    let backend = weighted(backends, seed).ok_or_else(|| broken("no backend has a weight above zero"))?;
    let service = backend.service.and_then(|index| table.estate.numbered(index));
    let service = service.ok_or_else(|| broken("the backend of this request is no service that is known"))?;
    Ok(Way::To(backend, service))
}

/// One backend, each as likely as its weight says.
fn weighted(backends: &[Backend], seed: u64) -> Option<&Backend> {
    let total: u64 = backends.iter().map(|backend| u64::from(backend.weight)).sum();
    let mut drawn = below(total, seed);
    backends.iter().find(|backend| match drawn.checked_sub(u64::from(backend.weight)) {
        Some(left) => {
            drawn = left;
            false
        }
        None => true,
    })
}

/// The target of a request for `service`: the first preview that declares a fork of it, named keys in order and
/// then their parents breadth-first; else the baseline.
///
/// # Errors
/// `unknown_preview` or `preview_expired` where policy or `X-PR-Strict` forbids the baseline; `no_route` where the
/// service has no baseline.
pub fn target<'t>(
    identity: &Identity,
    service: &'t Service,
    table: &'t Table,
) -> Result<(Target<'t>, Reason), Failure> {
    target_or(identity, service, table, |key| baseline(service, key))
}

/// As [`target`], with what `baseline` gives in place of the service's own.
///
/// # Errors
/// As [`target`].
pub fn target_or<'t>(
    identity: &Identity,
    service: &'t Service,
    table: &'t Table,
    baseline: impl Fn(Option<&Key>) -> Result<Target<'t>, Failure>,
) -> Result<(Target<'t>, Reason), Failure> {
    if identity.keys.is_empty() {
        return Ok((baseline(None)?, Reason::NoKey));
    }
    let named: Named<'_> = identity.keys.iter().map(|key| table.preview(key).map(AsRef::as_ref)).collect();
    let unknown = identity.keys.iter().zip(&named).find(|(_, preview)| preview.is_none()).map(|(key, _)| key);
    if let Some(key) = unknown
        && table.estate.unknown_preview == UnknownPreview::Reject
    {
        return Err(absent(key, table));
    }
    if let Some(found) = declared(&named, service, table) {
        return Ok(found);
    }
    match unknown {
        Some(key) if identity.strict => Err(absent(key, table)),
        Some(_) => Ok((baseline(unknown)?, Reason::UnknownPreview)),
        None => Ok((baseline(identity.keys.first())?, Reason::NoFork)),
    }
}

/// The previews that a request names, each where it is there.
type Named<'t> = SmallVec<[Option<&'t Preview>; 2]>;

/// Previews and their parents.
pub type Lineage<'t> = SmallVec<[&'t Preview; 2 * MAX_KEYS]>;

/// The first fork that the keys or their parents declare, even one that is down.
fn declared<'t>(named: &Named<'t>, service: &Service, table: &'t Table) -> Option<(Target<'t>, Reason)> {
    let named = named.iter().copied().flatten();
    let of = |preview: &'t Preview| Some(Target::Fork(preview, preview.fork(service)?));
    if let Some(fork) = named.clone().find_map(of) {
        return Some((fork, Reason::Fork));
    }
    let first_parent = named.clone().count();
    let fork = lineage(named, table).into_iter().skip(first_parent).find_map(of)?;
    Some((fork, Reason::ParentFork))
}

/// Previews, and behind them their parents, breadth-first, of which at most eight count.
pub fn lineage<'t>(named: impl Iterator<Item = &'t Preview>, table: &'t Table) -> Lineage<'t> {
    let mut queue: Lineage<'t> = named.collect();
    let first_parent = queue.len();
    let mut next = 0;
    while let Some(preview) = queue.get(next).copied() {
        // A parent that is not there takes nobody's place among the eight.
        for parent in preview.parents().iter().filter_map(|parent| table.preview(&table.canonical(*parent))) {
            let is_new = queue.iter().all(|other| other.key != parent.key);
            if is_new && queue.len() < first_parent + MAX_KEYS {
                queue.push(parent);
            }
        }
        next += 1;
    }
    queue
}

/// The baseline of a service.
///
/// # Errors
/// `no_route` where it has none.
pub fn baseline<'t>(service: &'t Service, key: Option<&Key>) -> Result<Target<'t>, Failure> {
    service.baseline.as_deref().map(Target::Baseline).ok_or_else(|| {
        let detail = match key {
            Some(key) => {
                format!("service {} exists only in previews, and {key} does not fork it", service.name)
            }
            None => format!("service {} exists only in previews; name one, as in X-PR-ID: 42", service.name),
        };
        Failure::new(Code::NoRoute, detail)
    })
}

/// A named preview that is not there.
fn absent(key: &Key, table: &Table) -> Failure {
    let failure = match table.is_gone(key) {
        true => Failure::new(Code::PreviewExpired, format!("preview {key} has ended")),
        false => Failure::new(Code::UnknownPreview, format!("no preview {key} is known here")),
    };
    failure.about(*key)
}

/// What a worker knows of the endpoints.
pub trait View {
    /// Requests under way to it.
    fn outstanding(&self, endpoint: &Endpoint) -> u32;
    /// Whether it is passively ejected now.
    fn is_ejected(&self, endpoint: &Endpoint) -> bool;
}

/// One endpoint of a set, by power of two choices: of two drawn by `seed`, the one with fewer requests under way
/// (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing"). Unhealthy ones and those in `tried`
/// are left out; an address of the service itself, unless no pod is left that is not ejected; and ejected ones, unless
/// nothing else is left. `None`: nothing is left at all.
pub fn endpoint<'t>(
    set: &'t [Arc<Endpoint>],
    view: &impl View,
    tried: &[u64],
    seed: u64,
) -> Option<&'t Arc<Endpoint>> {
    let usable = |endpoint: &Endpoint| endpoint.is_healthy() && !tried.contains(&endpoint.id);
    if let [only] = set {
        return usable(only).then_some(only);
    }
    let best = |accept: &dyn Fn(&Endpoint) -> bool| {
        let count = set.iter().filter(|endpoint| accept(endpoint)).count();
        let nth = |number: usize| set.iter().filter(|endpoint| accept(endpoint)).nth(number);
        let (first, second) = draw_two(count, seed)?;
        let (first, second) = (nth(first)?, nth(second)?);
        Some(if view.outstanding(second) < view.outstanding(first) { second } else { first })
    };
    let serves = |endpoint: &Endpoint| usable(endpoint) && !view.is_ejected(endpoint);
    best(&|endpoint| serves(endpoint) && endpoint.behind != Behind::Service)
        .or_else(|| best(&serves))
        .or_else(|| best(&usable))
}

/// Two different numbers below `count`, or the only one twice; `None` below zero.
fn draw_two(count: usize, seed: u64) -> Option<(usize, usize)> {
    let below = |limit: usize, seed: u64| {
        usize::try_from(below(u64::try_from(limit).unwrap_or(1), seed)).unwrap_or(0)
    };
    if count < 2 {
        return (count == 1).then_some((0, 0));
    }
    let first = below(count, seed);
    let step = 1 + below(count - 1, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    Some((first, (first + step) % count))
}

/// A number below `limit`. The high half of a product is spread evenly enough, and costs no division.
fn below(limit: u64, seed: u64) -> u64 {
    u64::try_from((u128::from(seed) * u128::from(limit)) >> 64).unwrap_or(0)
}

#[cfg(test)]
mod tests;
