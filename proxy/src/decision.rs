//! The one value that says what was decided about a request. Forwarding, logs, metrics, receipts and `explain`
//! all read it; none of them decides anything again.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use sidetrack_config::key::{Key, MAX_KEYS};
use smallvec::SmallVec;

use crate::identify::Identity;
use crate::place::Here;
use crate::route::rule::{Backend, Rule};
use crate::route::table::{Endpoint, Preview, Service};

/// The keys of one request, in order, canonical, without duplicates; at most [`MAX_KEYS`].
pub type Keys = SmallVec<[Key; 1]>;

/// Adds `key` unless it is there already; `false` where the list is full.
pub fn push_key(keys: &mut Keys, key: Key) -> bool {
    if keys.contains(&key) {
        return true;
    }
    if keys.len() == MAX_KEYS {
        return false;
    }
    keys.push(key);
    true
}

/// Why a request got the target it got. A closed set: metrics, logs, receipts and `explain` use these words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A named preview forks the service.
    Fork,
    /// A parent of a named preview forks the service.
    ParentFork,
    /// The previews are known, and none of them changed this service.
    NoFork,
    /// The request names no preview.
    NoKey,
    /// A fork is declared and cannot be reached.
    ForkDown,
    /// A named preview is not there.
    UnknownPreview,
}

impl Reason {
    /// Every reason, in the order of the index that [`Reason::index`] gives.
    pub const ALL: [Self; 6] =
        [Self::Fork, Self::ParentFork, Self::NoFork, Self::NoKey, Self::ForkDown, Self::UnknownPreview];

    /// The word of the contract.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fork => "fork",
            Self::ParentFork => "parent_fork",
            Self::NoFork => "no_fork",
            Self::NoKey => "no_key",
            Self::ForkDown => "fork_down",
            Self::UnknownPreview => "unknown_preview",
        }
    }

    /// Position in [`Reason::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which side answers, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// A fork.
    Fork,
    /// The shared baseline.
    Baseline,
    /// Neither: the proxy answered by itself.
    None,
}

impl Side {
    /// Every side, in the order of the index that [`Side::index`] gives.
    pub const ALL: [Self; 3] = [Self::Fork, Self::Baseline, Self::None];

    /// The word of the contract.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fork => "fork",
            Self::Baseline => "baseline",
            Self::None => "none",
        }
    }

    /// Position in [`Side::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// Where a request goes; borrowed from the table of the request, so that deciding writes nothing shared.
#[derive(Clone, Copy, Debug)]
pub enum Target<'t> {
    /// To the fork that this preview declares.
    Fork(&'t Preview, &'t [Arc<Endpoint>]),
    /// To the shared endpoints, or to where a connection was meant to go.
    Baseline(&'t [Arc<Endpoint>]),
    /// To the workload behind this sidecar, which is a fork of this preview, whether the table knows it or not.
    Own(&'t Key, &'t [Arc<Endpoint>]),
}

impl<'t> Target<'t> {
    /// The endpoints to choose from.
    pub const fn endpoints(self) -> &'t [Arc<Endpoint>] {
        match self {
            Self::Fork(_, endpoints) | Self::Baseline(endpoints) | Self::Own(_, endpoints) => endpoints,
        }
    }

    /// Which side this is.
    pub const fn side(self) -> Side {
        match self {
            Self::Fork(..) | Self::Own(..) => Side::Fork,
            Self::Baseline(_) => Side::Baseline,
        }
    }

    /// The preview whose fork it is.
    pub const fn preview(self) -> Option<Key> {
        match self {
            Self::Fork(preview, _) => Some(preview.key),
            Self::Own(key, _) => Some(*key),
            Self::Baseline(_) => None,
        }
    }
}

/// What identify, route and pick say about one request.
#[derive(Clone, Debug)]
pub struct Decision<'t> {
    /// What was read from the request.
    pub identity: Rc<Identity>,
    /// The rule that it met.
    pub rule: &'t Rule,
    /// The backend of that rule that it fell to.
    pub backend: &'t Backend,
    /// The service of that backend.
    pub service: &'t Service,
    /// Where it goes.
    pub target: Target<'t>,
    /// Why.
    pub reason: Reason,
    /// The table that was asked.
    pub generation: u64,
    /// What holds at the place where it came in.
    pub here: Here<'t>,
}
