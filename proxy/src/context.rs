//! Context that survives applications that lose it: the key in the ids that they hand on.
//!
//! The one way needs nothing but a secret that gateways and the proxies inside share: a trace that a gateway begins has
//! an id that says the key ([`hidden`]). The other way is memory: a sidecar that saw an id and a key come in knows to what
//! a call belongs that goes out with that id alone ([`memory`]). [`edges`] counts what is lost on the way.

pub mod edges;
pub mod hidden;
pub mod ids;
pub mod inside;
pub mod memory;
pub mod replay;
pub mod signature;

use std::time::Duration;

use sidetrack_config::model::{self, TraceFormat};

use crate::identify::Identity;
use hidden::{Hidden, Secrets};

/// What the configuration says about it.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// With which secrets trace ids say keys; none: they don't.
    pub secrets: Secrets,
    /// Whether a trace that begins here says the key in its id.
    pub hides: bool,
    /// Whether a trace id counts of which only the low half came.
    pub reads_bare: bool,
    /// Whether a trace that begins here is sampled.
    pub sampled: bool,
    /// Whether such a trace is told as B3 has it too.
    pub b3: bool,
    /// Whether such a trace is told as Datadog has it too.
    pub datadog: bool,
    /// Whether the keys of what is forwarded are signed.
    pub signs: bool,
    /// Whether only signed keys are taken.
    pub strict: bool,
    /// How long a sidecar remembers which ids came in with which key; zero: not at all.
    pub remember: Duration,
    /// How many ids it remembers at once.
    pub entries: usize,
    /// Domains that belong to the estate, besides those in which hosts carry keys.
    pub declared: Vec<Box<str>>,
}

impl Context {
    /// What `settings` say; `default` are the secrets where they name none.
    pub fn new(settings: &model::Context, default: &Secrets) -> Self {
        Self {
            secrets: settings.secrets.as_ref().map_or_else(|| default.clone(), Secrets::new),
            hides: settings.trace,
            reads_bare: settings.trace64,
            sampled: settings.sampled,
            b3: settings.formats.contains(&TraceFormat::B3),
            datadog: settings.formats.contains(&TraceFormat::Datadog),
            signs: settings.sign,
            strict: settings.require_signed,
            remember: settings.remember,
            entries: settings.remember_entries,
            declared: settings.declared_domains.clone(),
        }
    }

    /// An id that says the key of a request. A list of keys has no place in it, and a part of it would be another list.
    pub fn hide(&self, identity: &Identity, random: u64) -> Option<u128> {
        let [key] = identity.keys[..] else { return None };
        let hidden = Hidden { key, strict: identity.strict };
        self.hides.then(|| self.secrets.hide(hidden, random))?
    }
}
