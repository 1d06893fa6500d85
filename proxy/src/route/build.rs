//! From the checked model to the table: names become indexes, addresses become endpoints that keep their identity
//! from one snapshot to the next.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};

use memchr::memmem;
use rustls_pki_types::ServerName;
use sidetrack_config::Key;
use sidetrack_config::model::{self, Config, Role};

use foldhash::fast::RandomState;

use super::candidates::Candidates;
use super::compact::ByKey;
use super::former::{Former, Names};
use super::hosts::{Routes, bare};
use super::known::Known;
use super::rule::Rule;
use super::sharded::Sharded;
use super::table::{
    Behind, ELSEWHERE, Endpoint, Endpoints, Estate, Hold, Moment, Preview, Rare, Service, Table, Upstream,
};
use crate::chain::Settings as ChainSettings;
use crate::context::Context;
use crate::context::hidden::Secrets;
use crate::forward::upstream_tls::{ClientTls, server_name};
use crate::identify::read_host;
use crate::record::metrics::{PreviewStats, ServiceStats};

/// Makes tables, and remembers what must stay the same between them.
#[derive(Debug)]
pub struct Builder {
    workers: usize,
    tls: ClientTls,
    /// By the hash of their identity, which each of them has; of two with one hash the later is found.
    endpoints: HashMap<u64, Weak<Endpoint>>,
    /// Those that left a table, by that hash, and how often they may still be looked at.
    released: Vec<(u64, u8)>,
    /// How many of them were alive at the last look.
    given_up: usize,
    hasher: RandomState,
    /// Endpoints with an active check that nobody has asked for yet.
    unchecked: Vec<Weak<Endpoint>>,
    next_id: u64,
    upstreams: HashMap<Box<str>, Arc<Upstream>>,
    stats: HashMap<Box<str>, Arc<ServiceStats>>,
    names: HashMap<(Box<str>, u16), Vec<SocketAddr>>,
    elsewhere: Arc<Service>,
    /// Those of trace ids where the file names none.
    secrets: Secrets,
}

/// How often it is looked whether an endpoint that left a table is dead: snapshots and requests hold it for a while.
const LOOKS: u8 = 10;
/// Room for endpoints that may be kept beyond what is used.
const SPARE: usize = 1024;

/// What a preview has that its text does not say.
#[derive(Debug, Default)]
pub struct About {
    /// When its key first appeared.
    pub since: Moment,
    /// When it ends.
    pub expires: Option<jiff::Timestamp>,
    /// Whether it is of the main file.
    pub of_main_file: bool,
    /// Its counters.
    pub stats: PreviewStats,
}

/// Why a preview can't join the table.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// The alias names another preview.
    #[error("alias {0} already names preview {1}")]
    Alias(Key, Key),
    /// The key is an alias of another preview.
    #[error("{0} is an alias of preview {1}")]
    Key(Key, Key),
    /// The host names another preview.
    #[error("host {0} already names preview {1}")]
    Host(Box<str>, Key),
}

impl Builder {
    /// A builder for a proxy with so many workers.
    pub fn new(workers: usize) -> Self {
        Self {
            workers,
            tls: ClientTls::default(),
            endpoints: HashMap::new(),
            released: Vec::new(),
            given_up: 0,
            hasher: RandomState::default(),
            unchecked: Vec::new(),
            next_id: 1,
            upstreams: HashMap::new(),
            stats: HashMap::new(),
            names: HashMap::new(),
            elsewhere: Arc::new(elsewhere(workers)),
            secrets: Secrets::default(),
        }
    }

    /// Whether there are secrets of trace ids for a file that names none.
    pub fn has_secrets(&self) -> bool {
        !self.secrets.is_empty()
    }

    /// What `config` says of context, with the secrets that it does not name.
    pub fn context(&self, config: &Config) -> Context {
        Context::new(&config.context, &self.secrets)
    }

    /// Sets the secrets of trace ids, for the next estate of a file that names none.
    pub fn set_secrets(&mut self, secrets: Secrets) {
        self.secrets = secrets;
    }

    /// Sets the addresses of a name; `true` if they are others than before.
    pub fn resolved(&mut self, name: &str, port: u16, mut addresses: Vec<SocketAddr>) -> bool {
        addresses.sort_unstable();
        addresses.dedup();
        let before = self.names.insert((name.into(), port), addresses.clone());
        before.as_ref() != Some(&addresses)
    }

    /// Keeps the addresses of these names only.
    pub fn forget_names(&mut self, keep: impl Fn(&str, u16) -> bool) {
        self.names.retain(|(name, port), _| keep(name, *port));
    }

    /// What a file says about the whole estate.
    ///
    /// # Errors
    /// A TLS setting of a service that can't be used, in words.
    pub fn estate(&mut self, config: &Config) -> Result<Estate, String> {
        let services = config
            .services
            .iter()
            .enumerate()
            .map(|(index, service)| self.service(index, service).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()?;
        let names: HashSet<&str> = config.services.iter().map(|service| &*service.name).collect();
        let kept = |name: &str| names.contains(name);
        self.upstreams.retain(|name, _| kept(name));
        self.stats.retain(|name, _| kept(name));
        let secrets = config.access.iter().chain(config.previews.values().filter_map(|p| p.access.as_ref()));
        Ok(Estate {
            carriers: config.carriers.clone(),
            cookie: config.carriers.cookie.as_deref().map(|name| memmem::Finder::new(name).into_owned()),
            domains: config.domains.clone(),
            unknown_preview: config.unknown_preview,
            access: config.access.clone(),
            secret_headers: secrets
                .filter_map(|access| {
                    http::HeaderName::from_bytes(access.header.as_ref()?.name.as_bytes()).ok()
                })
                .collect(),
            role: config.role,
            workload: config.workload.clone(),
            context: self.context(config),
            chain: ChainSettings::new(config),
            known: Known::of(&config.services),
            elsewhere: Arc::clone(&self.elsewhere),
            services,
            routes: Arc::new(Routes::new(&config.routes, &config.carriers)),
            waiting: None,
            hold: Hold {
                timeout: config.limits.hold_timeout,
                requests: config.limits.hold_requests,
                bytes: config.limits.hold_bytes,
            },
        })
    }

    /// A service of the model, as the one with this number.
    ///
    /// # Errors
    /// A TLS setting that can't be used, in words.
    pub fn service(&mut self, index: usize, service: &model::Service) -> Result<Service, String> {
        let upstream = self.upstream(service)?;
        let stats = self
            .stats
            .entry(service.name.clone())
            .or_insert_with(|| Arc::new(ServiceStats::new(&service.name, self.workers)));
        let stats = Arc::clone(stats);
        Ok(Service {
            index,
            name: service.name.clone(),
            baseline: service.baseline.as_ref().map(|list| self.endpoints(list, service, &upstream)),
            timeouts: service.timeouts,
            host: service.host.clone(),
            port: service.addresses.first().map(SocketAddr::port),
            direct: Rule::direct(index, &service.name),
            stats,
        })
    }

    /// How to talk to a service: the same as before unless something about it changed, so that connections stay.
    fn upstream(&mut self, service: &model::Service) -> Result<Arc<Upstream>, String> {
        let tls = service.protocol.is_tls().then(|| {
            let settings = service.tls.clone().unwrap_or_default();
            self.tls
                .connector(&settings, service.protocol.is_http2())
                .map_err(|error| format!("service {}: {error}", service.name))
        });
        let upstream = Upstream {
            protocol: service.protocol,
            tls: tls.transpose()?,
            connect_timeout: service.timeouts.connect,
            health_check: service.health_check.clone(),
        };
        if let Some(before) = self.upstreams.get(&service.name)
            && **before == upstream
        {
            return Ok(Arc::clone(before));
        }
        let upstream = Arc::new(upstream);
        self.upstreams.insert(service.name.clone(), Arc::clone(&upstream));
        Ok(upstream)
    }

    fn endpoints(
        &mut self,
        list: &[model::Endpoint],
        service: &model::Service,
        upstream: &Arc<Upstream>,
    ) -> Endpoints {
        let found = list.iter().flat_map(|endpoint| {
            let (addresses, host) = match endpoint {
                // Its text is needed where it is to be proved only.
                model::Endpoint::Address(address) => {
                    (vec![*address], service.tls.is_some().then(|| address.ip().to_string()))
                }
                model::Endpoint::Name(name, port) => {
                    let found = self.names.get(&(name.clone(), *port)).cloned().unwrap_or_default();
                    (found, Some(name.to_string()))
                }
            };
            let tls = service.tls.as_ref().zip(host);
            let name = tls.and_then(|(tls, host)| server_name(&host, tls).ok());
            let alone = match endpoint {
                model::Endpoint::Address(_) => Behind::One,
                model::Endpoint::Name(..) => Behind::Name,
            };
            addresses.into_iter().map(move |address| {
                let is_service = service.addresses.contains(&address);
                (address, name.clone(), if is_service { Behind::Service } else { alone })
            })
        });
        let found: Vec<_> = found.collect();
        let endpoint = |(address, name, behind)| self.endpoint(address, upstream, name, behind);
        found.into_iter().map(endpoint).collect()
    }

    /// The endpoint with this address, way to be spoken to, name that it must prove, and who answers there.
    fn endpoint(
        &mut self,
        address: SocketAddr,
        upstream: &Arc<Upstream>,
        server_name: Option<ServerName<'static>>,
        behind: Behind,
    ) -> Arc<Endpoint> {
        let identity = self.identity(address, upstream, server_name.as_ref(), behind);
        if let Some(known) = self.endpoints.get(&identity).and_then(Weak::upgrade)
            // The address of a dropped upstream may have been given out again, and hashes may meet.
            && Arc::ptr_eq(&known.upstream, upstream)
            && (known.address, known.server_name.as_deref(), known.behind)
                == (address, server_name.as_ref(), behind)
        {
            return known;
        }
        let endpoint = Arc::new(Endpoint {
            id: self.next_id,
            address,
            upstream: Arc::clone(upstream),
            server_name: server_name.map(Box::new),
            behind,
            healthy: AtomicBool::new(true),
        });
        self.next_id += 1;
        self.endpoints.insert(identity, Arc::downgrade(&endpoint));
        if upstream.health_check.is_some() {
            self.unchecked.push(Arc::downgrade(&endpoint));
        }
        endpoint
    }

    /// The endpoints with an active check that were made since this was last asked.
    pub fn take_unchecked(&mut self) -> Vec<Weak<Endpoint>> {
        std::mem::take(&mut self.unchecked)
    }

    /// Says that these endpoints have left the table.
    pub fn released(&mut self, endpoints: &[Arc<Endpoint>]) {
        let identities = endpoints.iter().map(|endpoint| {
            let Endpoint { address, upstream, server_name, behind, .. } = &**endpoint;
            (self.identity(*address, upstream, server_name.as_deref(), *behind), LOOKS)
        });
        let identities: Vec<_> = identities.collect();
        self.released.extend(identities);
    }

    /// Lets go of what is left of endpoints that nobody holds any more. To be asked once a second or so.
    pub fn sweep(&mut self) {
        for (identity, looks) in std::mem::take(&mut self.released) {
            match self.endpoints.get(&identity).map(Weak::strong_count) {
                None => {}
                Some(0) => {
                    self.endpoints.remove(&identity);
                }
                Some(_) if looks > 1 => self.released.push((identity, looks - 1)),
                // Another preview has it too, or a long request; those that die later are looked for all at once.
                Some(_) => self.given_up += 1,
            }
        }
        if self.given_up > self.endpoints.len() / 2 + SPARE {
            self.given_up = 0;
            self.endpoints.retain(|_, endpoint| endpoint.strong_count() > 0);
        }
        if self.endpoints.capacity() > 4 * self.endpoints.len() + SPARE {
            self.endpoints.shrink_to(2 * self.endpoints.len());
        }
    }

    fn identity(
        &self,
        address: SocketAddr,
        upstream: &Arc<Upstream>,
        server_name: Option<&ServerName<'static>>,
        behind: Behind,
    ) -> u64 {
        self.hasher.hash_one((address, Arc::as_ptr(upstream).addr(), server_name, behind))
    }

    /// Whether a service must be spoken to in another way than before, though its settings are the same: a file of
    /// roots says something else.
    ///
    /// # Errors
    /// A TLS setting that can't be used, in words.
    pub fn has_other_roots(&mut self, services: &[model::Service]) -> Result<bool, String> {
        let mut changed = false;
        for service in services.iter().filter(|service| service.tls.is_some()) {
            let before = self.upstreams.get(&service.name).map(Arc::clone);
            let now = self.upstream(service)?;
            changed |= before.is_none_or(|before| !Arc::ptr_eq(&before, &now));
        }
        Ok(changed)
    }

    /// Forgets what was kept for a service of this name.
    pub fn forget_service(&mut self, name: &str) {
        self.upstreams.remove(name);
        self.stats.remove(name);
    }

    /// A preview of the model, ready for a table.
    pub fn preview(
        &mut self,
        key: Key,
        preview: &model::Preview,
        config: &Config,
        about: About,
    ) -> Arc<Preview> {
        let forks = preview.forks.iter().filter_map(|(index, list)| {
            let service = config.services.get(*index)?;
            let upstream = self.upstreams.get(&service.name).map(Arc::clone)?;
            Some((*index, self.endpoints(list, service, &upstream)))
        });
        let model::Preview { parents, aliases, hosts, access, .. } = preview;
        let is_plain = parents.is_empty() && aliases.is_empty() && hosts.is_empty() && access.is_none();
        let rare = (!is_plain).then(|| {
            let (aliases, hosts) = (aliases.as_slice().into(), hosts.as_slice().into());
            Box::new(Rare { parents: parents.as_slice().into(), aliases, hosts, access: access.clone() })
        });
        Arc::new(Preview {
            key,
            forks: forks.collect(),
            rare,
            on_fork_down: preview.on_fork_down,
            since: about.since,
            expires: about.expires.map(Moment::from).unwrap_or_default(),
            of_main_file: about.of_main_file,
            stats: about.stats,
        })
    }
}

/// What stands for a service where a request is for none.
fn elsewhere(workers: usize) -> Service {
    let name = "elsewhere";
    Service {
        index: ELSEWHERE,
        name: name.into(),
        baseline: None,
        timeouts: model::Timeouts::default(),
        host: model::HostRewrite::Keep,
        port: None,
        direct: Rule::direct(ELSEWHERE, name),
        stats: Arc::new(ServiceStats::new(name, workers)),
    }
}

impl Table {
    /// A table without previews.
    pub fn new(generation: u64, estate: Estate) -> Self {
        let mut table = Self {
            generation,
            estate: Arc::new(estate),
            previews: Sharded::default(),
            aliases: Sharded::default(),
            hosts: Sharded::default(),
            gone: Sharded::default(),
            former: Former::default(),
            candidates: None,
            restricted: 0,
            forks: 0,
        };
        table.index_keys();
        table
    }

    /// Makes the index of keys where trace ids are read here, and lets go of it where they are not.
    pub fn index_keys(&mut self) {
        if self.estate.role == Role::Gateway && !self.restricts() {
            self.candidates = None;
        } else if self.candidates.is_none() {
            let mut candidates = Candidates::default();
            self.previews().for_each(|preview| candidates.insert(preview));
            self.candidates = Some(candidates);
        }
    }

    /// Puts `preview` in place of what its key had.
    ///
    /// # Errors
    /// The name that another preview has; the table is then unchanged.
    pub fn insert(&mut self, preview: Arc<Preview>) -> Result<(), Conflict> {
        self.conflict(&preview)?;
        self.take(&preview.key);
        for alias in preview.aliases() {
            self.aliases.insert(*alias, preview.key);
        }
        for host in preview.hosts() {
            self.hosts.insert(bare(host).into(), preview.key);
        }
        self.forks += preview.forks.len();
        self.gone.remove(&preview.key);
        self.former.forget(&preview.key);
        if let Some(candidates) = &mut self.candidates {
            candidates.insert(&preview);
        }
        self.restricted += usize::from(preview.access().is_some());
        self.previews.insert(ByKey(preview), ());
        self.index_keys();
        Ok(())
    }

    fn conflict(&self, preview: &Preview) -> Result<(), Conflict> {
        let key = preview.key;
        if let Some(other) = self.alias(&key) {
            return Err(Conflict::Key(key, other));
        }
        for alias in preview.aliases() {
            let other = self.alias(alias).or_else(|| self.preview(alias).map(|other| other.key));
            if let Some(other) = other.filter(|other| *other != key) {
                return Err(Conflict::Alias(*alias, other));
            }
        }
        for host in preview.hosts() {
            // Below a domain, a label that is an alias names a preview too, and the older claim stays.
            let by_label = read_host(host, self).ok().and_then(|(keys, _)| keys).unwrap_or_default();
            let by_label = by_label.into_iter().filter(|other| self.former.names(other).is_none());
            let mut others = self.hosts.get(bare(host)).copied().into_iter().chain(by_label);
            if let Some(other) = others.find(|other| *other != key) {
                return Err(Conflict::Host(host.clone(), other));
            }
        }
        Ok(())
    }

    /// Takes the preview of `key` out. Its names stay known as those of one that is not there.
    pub fn remove(&mut self, key: &Key) -> Option<Arc<Preview>> {
        let before = self.take(key)?;
        if let Some(names) = Names::of(&before) {
            self.former.set(*key, names);
        }
        self.index_keys();
        Some(before)
    }

    /// The same, with the index of keys as it was: what takes its place may need it.
    fn take(&mut self, key: &Key) -> Option<Arc<Preview>> {
        let before = Arc::clone(self.preview(key)?);
        self.previews.remove(key);
        if let Some(candidates) = &mut self.candidates {
            candidates.remove(key);
        }
        for alias in before.aliases() {
            self.aliases.remove(alias);
        }
        for host in before.hosts() {
            self.hosts.remove(bare(host));
        }
        self.forks -= before.forks.len();
        self.restricted -= usize::from(before.access().is_some());
        Some(before)
    }

    /// Remembers that `key` was there, or forgets it.
    pub fn set_gone(&mut self, key: Key, gone: bool) {
        if gone {
            self.gone.insert(key, ());
        } else {
            self.gone.remove(&key);
        }
    }

    /// Remembers the names that the preview of `key`, which is not there, had; `None`: nobody needs to know them.
    pub fn set_former(&mut self, key: Key, names: Option<Arc<Names>>) {
        match names {
            Some(names) => self.former.set(key, names),
            None => self.former.forget(&key),
        }
    }

    /// The names that the preview of `key`, which is not there, had.
    pub fn former(&self, key: &Key) -> Option<&Arc<Names>> {
        self.former.names(key)
    }
}
