//! The routing table: one immutable snapshot that every request takes once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sidetrack_config::key::Key;
use sidetrack_config::model::{
    Access, Carriers, HealthCheck, HostRewrite, OnForkDown, Protocol, Role, Timeouts, UnknownPreview,
};

use crate::record::metrics::{PreviewStats, ServiceStats};
use crate::route::compact::ByKey;
pub use crate::route::compact::{Endpoints, Forks, Moment};
use crate::route::hosts::Routes;
use crate::route::sharded::Sharded;

/// One snapshot. Cloning it is cheap: a change makes a clone, changes that and publishes it.
#[derive(Clone, Debug)]
pub struct Table {
    /// The version number of this snapshot.
    pub generation: u64,
    /// What only the main file changes.
    pub estate: Arc<Estate>,
    /// The previews, by canonical key.
    pub(crate) previews: Sharded<ByKey, ()>,
    /// Alias -> key.
    pub(crate) aliases: Sharded<Key, Key>,
    /// Host of a preview -> key.
    pub(crate) hosts: Sharded<Box<str>, Key>,
    /// Keys that ended within the last seven days.
    pub(crate) gone: Sharded<Key, ()>,
    /// Forks of all previews.
    pub(crate) forks: usize,
}

/// What holds for the whole estate. Cloning it copies a pointer per service.
#[derive(Clone, Debug)]
pub struct Estate {
    /// Which carriers are read.
    pub carriers: Carriers,
    /// The domains below which a label may carry a key, longest first.
    pub domains: Vec<Box<str>>,
    /// What happens to a key that names no preview.
    pub unknown_preview: UnknownPreview,
    /// Who may send a keyed request, where a preview says nothing else.
    pub access: Option<Access>,
    /// Headers that hold secrets; they never go onward.
    pub secret_headers: Vec<http::HeaderName>,
    /// Gateway or waypoint.
    pub role: Role,
    /// The services.
    pub services: Vec<Arc<Service>>,
    /// Host and path to service.
    pub routes: Arc<Routes>,
    /// Why nothing can be routed yet, where no table has come.
    pub waiting: Option<Arc<str>>,
    /// The longest time that a request may wait for a fork.
    pub hold: Hold,
}

/// How much may wait for forks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// For how long.
    pub timeout: Duration,
    /// How many requests at once.
    pub requests: usize,
    /// How many bytes with them.
    pub bytes: u64,
}

/// A service and its shared endpoints.
#[derive(Debug)]
pub struct Service {
    /// Position in [`Estate::services`].
    pub index: usize,
    /// Its name.
    pub name: Box<str>,
    /// The shared endpoints; `None`: it exists only in previews.
    pub baseline: Option<Endpoints>,
    /// Its time-outs.
    pub timeouts: Timeouts,
    /// What `Host` says upstream.
    pub host: HostRewrite,
    /// Its counters, which outlive this snapshot.
    pub stats: Arc<ServiceStats>,
}

/// One preview. There are many: see `route/compact.rs` for the shapes of its parts, and `proxy/tests/memory.rs` for
/// its size.
#[derive(Debug)]
pub struct Preview {
    /// Its canonical key.
    pub key: Key,
    /// Service index -> endpoints.
    pub forks: Forks,
    /// What few previews have.
    pub(crate) rare: Option<Box<Rare>>,
    /// What happens when a fork is down.
    pub on_fork_down: OnForkDown,
    /// When its key first appeared, where it is this proxy that counts.
    pub since: Moment,
    /// When it ends.
    pub(crate) expires: Moment,
    /// Whether it is of the main file, which the admin API does not change.
    pub of_main_file: bool,
    /// Its counters.
    pub stats: PreviewStats,
}

/// What few previews have.
#[derive(Clone, Debug)]
pub(crate) struct Rare {
    /// Keys asked next where the preview has no fork.
    pub(crate) parents: Box<[Key]>,
    /// Other names.
    pub(crate) aliases: Box<[Key]>,
    /// Exact hosts.
    pub(crate) hosts: Box<[Box<str>]>,
    /// Who may reach it, in place of [`Estate::access`].
    pub(crate) access: Option<Access>,
}

impl Preview {
    /// The endpoints of its fork of a service, where it declares one.
    pub fn fork(&self, service: &Service) -> Option<&[Arc<Endpoint>]> {
        self.forks.get(service.index)
    }

    /// Keys asked next where this preview has no fork.
    pub fn parents(&self) -> &[Key] {
        self.rare.as_ref().map_or(&[], |rare| &rare.parents)
    }

    /// Other names of it.
    pub fn aliases(&self) -> &[Key] {
        self.rare.as_ref().map_or(&[], |rare| &rare.aliases)
    }

    /// Its exact hosts.
    pub fn hosts(&self) -> &[Box<str>] {
        self.rare.as_ref().map_or(&[], |rare| &rare.hosts)
    }

    /// Who may reach it, in place of [`Estate::access`].
    pub fn access(&self) -> Option<&Access> {
        self.rare.as_ref()?.access.as_ref()
    }

    /// When it ends.
    pub fn expires(&self) -> Option<jiff::Timestamp> {
        self.expires.get()
    }
}

/// One address that requests go to. It keeps its identity from snapshot to snapshot, and with it its connections.
#[derive(Debug)]
pub struct Endpoint {
    /// Unique in this process: the key of what each worker keeps for it.
    pub id: u64,
    /// Where it is.
    pub address: SocketAddr,
    /// What it speaks.
    pub upstream: Arc<Upstream>,
    /// The name that its certificate must have.
    pub server_name: Option<Box<rustls_pki_types::ServerName<'static>>>,
    /// What the active check says; `true` where there is none.
    pub(crate) healthy: AtomicBool,
}

impl Endpoint {
    /// What the active check says; `true` where there is none.
    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }
}

/// How to talk to the endpoints of a service.
#[derive(Debug)]
pub struct Upstream {
    /// HTTP version, and whether over TLS.
    pub protocol: Protocol,
    /// The TLS settings, where the protocol has TLS.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Until a connection stands; zero: no limit.
    pub connect_timeout: Duration,
    /// The active check.
    pub health_check: Option<HealthCheck>,
}

impl PartialEq for Upstream {
    fn eq(&self, other: &Self) -> bool {
        let same_tls = match (&self.tls, &other.tls) {
            (None, None) => true,
            // The cache gives the same settings for the same files, so other settings are another object.
            (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs),
            _ => false,
        };
        same_tls
            && (self.protocol, self.connect_timeout, &self.health_check)
                == (other.protocol, other.connect_timeout, &other.health_check)
    }
}

impl Table {
    /// The preview of a canonical key.
    pub fn preview(&self, key: &Key) -> Option<&Arc<Preview>> {
        self.previews.entry(key).map(|(ByKey(preview), ())| preview)
    }

    /// The key that `name` means: itself, or the preview that it is an alias of.
    pub fn canonical(&self, name: Key) -> Key {
        self.alias(&name).unwrap_or(name)
    }

    /// The key of the preview that has this alias.
    pub fn alias(&self, name: &Key) -> Option<Key> {
        self.aliases.get(name).copied()
    }

    /// The key of the preview that has this host, an IPv6 address without its brackets.
    pub fn host(&self, host: &str) -> Option<Key> {
        self.hosts.get(host).copied()
    }

    /// Whether the key was there within the last seven days.
    pub fn is_gone(&self, key: &Key) -> bool {
        self.gone.get(key).is_some()
    }

    /// Every preview, in no order.
    pub fn previews(&self) -> impl Iterator<Item = &Arc<Preview>> {
        self.previews.iter().map(|(ByKey(preview), ())| preview)
    }

    /// How many previews there are.
    pub const fn preview_count(&self) -> usize {
        self.previews.len()
    }

    /// How many forks there are.
    pub const fn fork_count(&self) -> usize {
        self.forks
    }

    /// Who may send a request with these keys of this preview: its own rule, else the estate's.
    pub fn access(&self, key: &Key) -> Option<&Access> {
        self.preview(key).and_then(|preview| preview.access()).or(self.estate.access.as_ref())
    }
}
