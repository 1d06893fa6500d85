//! The routing table: one immutable snapshot that every request takes once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use memchr::memmem;
use sidetrack_config::key::Key;
use sidetrack_config::model::{
    Access, Carriers, HealthCheck, HostRewrite, OnForkDown, Protocol, Role, Timeouts, UnknownPreview,
    Workload,
};

use crate::chain::Settings as ChainSettings;
use crate::context::Context;
use crate::record::metrics::{PreviewStats, ServiceStats};
use crate::route::candidates::Candidates;
use crate::route::compact::ByKey;
pub use crate::route::compact::{Endpoints, Forks, Moment};
use crate::route::former::Former;
use crate::route::hosts::Routes;
use crate::route::known::Known;
use crate::route::rule::Rule;
use crate::route::sharded::Sharded;

/// The number of [`Estate::elsewhere`], which no service of a table has.
pub(crate) const ELSEWHERE: usize = usize::MAX;

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
    /// The names of those, and of previews that could not be read.
    pub(crate) former: Former,
    /// Index of the key -> previews; `None`: nobody here reads trace ids.
    pub(crate) candidates: Option<Candidates>,
    /// Previews that say for themselves who may reach them.
    pub(crate) restricted: usize,
    /// Forks of all previews.
    pub(crate) forks: usize,
}

/// What holds for the whole estate. Cloning it copies a pointer per service.
#[derive(Clone, Debug)]
pub struct Estate {
    /// Which carriers are read.
    pub carriers: Carriers,
    /// Finds the name of our cookie, where there is one: to make it ready takes longer than to search most lines.
    pub(crate) cookie: Option<memmem::Finder<'static>>,
    /// The domains below which a label may carry a key, longest first.
    pub domains: Vec<Box<str>>,
    /// What happens to a key that names no preview.
    pub unknown_preview: UnknownPreview,
    /// Who may send a keyed request, where a preview says nothing else.
    pub access: Option<Access>,
    /// Headers that hold secrets; they never go onward.
    pub secret_headers: Vec<http::HeaderName>,
    /// Gateway, waypoint or sidecar.
    pub role: Role,
    /// The workload that a sidecar belongs to.
    pub workload: Option<Workload>,
    /// How the key survives applications that hand on less than all carriers.
    pub context: Context,
    /// The services.
    pub services: Vec<Arc<Service>>,
    /// Names and addresses -> position in [`Estate::services`].
    pub(crate) known: Known,
    /// What stands for a service where a request is for none of these and goes where it was meant to go.
    pub(crate) elsewhere: Arc<Service>,
    /// Host and path to service.
    pub routes: Arc<Routes>,
    /// How hops report, and whom they believe.
    pub chain: ChainSettings,
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
    /// The port at which callers inside the cluster reach it, where that is known.
    pub port: Option<u16>,
    /// The rule of requests that no route brings here, but the listener that they came in on.
    pub direct: Rule,
    /// Its counters, which outlive this snapshot.
    pub stats: Arc<ServiceStats>,
}

impl Estate {
    /// Fields of requests by whose names this estate reads keys and secrets.
    pub fn own_fields(&self) -> impl Iterator<Item = &str> {
        self.carriers.headers().chain(self.secret_headers.iter().map(http::HeaderName::as_str))
    }

    /// The service of this name, where it is there.
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.known.named(name).and_then(|at| self.services.get(at)).map(AsRef::as_ref)
    }

    /// The service that callers inside the cluster reach at `address`.
    pub fn at(&self, address: SocketAddr) -> Option<&Service> {
        self.known.at(address).and_then(|at| self.services.get(at)).map(AsRef::as_ref)
    }

    /// The services that are ports of a Service of this name: `checkout.shop:grpc` of `checkout.shop`.
    pub fn ports<'t>(&'t self, name: &str) -> impl Iterator<Item = &'t Service> + Clone {
        self.known.ports(name).iter().filter_map(|at| self.services.get(*at)).map(AsRef::as_ref)
    }

    /// The service with this number.
    pub fn numbered(&self, number: usize) -> Option<&Service> {
        let elsewhere = || (number == ELSEWHERE).then_some(&*self.elsewhere);
        self.services.get(number).map(AsRef::as_ref).or_else(elsewhere)
    }
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

impl Service {
    /// Whether what the table has of its baseline are addresses that others stand behind, and not they themselves.
    pub fn hides_its_pods(&self) -> bool {
        let baseline = self.baseline.as_deref().unwrap_or_default();
        !baseline.is_empty() && baseline.iter().all(|endpoint| endpoint.behind != Behind::One)
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
    /// Who answers there.
    pub(crate) behind: Behind,
    /// What the active check says; `true` where there is none.
    pub(crate) healthy: AtomicBool,
}

/// Who answers at the address of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Behind {
    /// One process, or pod.
    One,
    /// Those that a name stands for, in turn.
    Name,
    /// The pods of the service, of which the cluster keeps its own list. Beside pods that the table knows it is the last
    /// resort: the table may be old, and they gone.
    Service,
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

    /// The key that `name` means: itself, or the preview that it is an alias of, or was, where nothing else has the name.
    pub fn canonical(&self, name: Key) -> Key {
        let former = || self.former.alias(&name).filter(|_| self.preview(&name).is_none());
        self.alias(&name).or_else(former).unwrap_or(name)
    }

    /// The key that `label` means as a part of the first label of a host, which `rest` follows: that of the preview that
    /// has this alias, or had it, where no route has that host by now.
    pub fn label(&self, label: &str, rest: &str) -> Option<Key> {
        let name = Key::bare(label).ok()?;
        self.alias(&name).or_else(|| {
            let former = self.former.alias(&name)?;
            (!self.estate.routes.has(&format!("{label}.{rest}"))).then_some(former)
        })
    }

    /// Whether no label of a host can be an alias.
    pub fn has_no_aliases(&self) -> bool {
        self.aliases.is_empty() && self.former.has_no_aliases()
    }

    /// The key of the preview that has this alias.
    pub fn alias(&self, name: &Key) -> Option<Key> {
        self.aliases.get(name).copied()
    }

    /// The key of the preview that has this host, an IPv6 address without its brackets; or had it, where no route has it by
    /// now.
    pub fn host(&self, host: &str) -> Option<Key> {
        let former = || self.former.host(host).filter(|_| !self.estate.routes.has(host));
        self.hosts.get(host).copied().or_else(former)
    }

    /// Whether the key was there within the last seven days.
    pub fn is_gone(&self, key: &Key) -> bool {
        self.gone.get(key).is_some()
    }

    /// Whether not everybody may name every preview here.
    pub fn restricts(&self) -> bool {
        self.estate.access.is_some() || self.estate.carriers.from.is_some() || self.restricted > 0
    }

    /// The keys that have this index, as a trace id says it; none where nobody reads trace ids.
    pub fn keys_of_index(&self, index: u16) -> impl Iterator<Item = &Key> {
        self.candidates.iter().flat_map(move |candidates| candidates.keys(index))
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
        if self.restricted == 0 {
            return self.estate.access.as_ref();
        }
        self.preview(key).and_then(|preview| preview.access()).or(self.estate.access.as_ref())
    }
}
