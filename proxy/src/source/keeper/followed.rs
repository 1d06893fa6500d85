//! The table of a controller: items become services, routes and previews of the model, and from there on go the way
//! that those of a file go. What a change costs depends on the change and not on the table.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use sidetrack_config::check::{Checked, Taken};
use sidetrack_config::model::{
    self, Config, Endpoint, HostRewrite, Role, Secret, Spoken, Timeouts, UpstreamTls,
};
use sidetrack_config::stream::{self, Item};
use sidetrack_config::{Key, read_route};

use super::slots::{Slot, Slots};
use super::{Conflict, Keeper, Lives, warn_of_restart, without_previews};
use crate::accept::tls::Provided;
use crate::app::ports::Wanted;
use crate::context::hidden::Secrets;
use crate::record::metrics::Metrics;
use crate::route::build::{About, Builder};
use crate::route::hosts::Routes;
use crate::route::table::{Estate, Preview, Service};
use crate::source::origin::Origin;
use crate::source::stream::mirror::{Change, Changes};

/// What is kept of a controller's table beside the table.
pub(super) struct Followed {
    url: Box<str>,
    slots: Slots,
    /// The services that are there, by number.
    live: BTreeSet<usize>,
    routes: BTreeMap<Box<str>, model::Route>,
    /// What routes and domains have taken.
    taken: Taken,
    /// Previews that some of their names were withheld from.
    withheld: BTreeMap<Key, stream::Preview>,
    gone: HashSet<Key>,
    /// Ports of waypoints, by namespace and number.
    ports: BTreeMap<(Box<str>, u16), stream::Port>,
    certificates: Arc<Provided>,
}

impl Followed {
    /// The controller.
    pub(super) fn url(&self) -> &str {
        &self.url
    }
}

/// Changes sorted by what they are about.
#[derive(Default)]
struct Sorted<'a> {
    services: Vec<&'a stream::Service>,
    services_gone: Vec<&'a str>,
    routes: Vec<&'a stream::Route>,
    routes_gone: Vec<&'a str>,
    previews: Vec<&'a stream::Preview>,
    previews_gone: Vec<Key>,
    gone: Vec<Key>,
    gone_forgotten: Vec<Key>,
    certificates: Vec<stream::Certificate>,
    certificates_gone: Vec<Box<str>>,
    ports: Vec<&'a stream::Port>,
    ports_gone: Vec<(Box<str>, u16)>,
    /// The secrets of trace ids, where they are others now; none: they are gone.
    secrets: Option<&'a [Box<str>]>,
}

impl<'a> Sorted<'a> {
    fn new(changes: &'a Changes) -> Result<Self, String> {
        let mut sorted = Self::default();
        for (id, change) in changes {
            match change {
                Change::Bad(why) => return Err(format!("{id}: {why}")),
                Change::Removed => sorted.removed(id),
                Change::Set(Item::Service(service)) => sorted.services.push(service),
                Change::Set(Item::Route(route)) => sorted.routes.push(route),
                Change::Set(Item::Preview(preview)) => sorted.previews.push(preview),
                Change::Set(Item::Gone(gone)) => sorted.gone.push(gone.key),
                Change::Set(Item::Certificate(certificate)) => sorted.certificates.push(certificate.clone()),
                Change::Set(Item::Port(port)) => sorted.ports.push(port),
                Change::Set(Item::Secrets(secrets)) => sorted.secrets = Some(&secrets.secrets),
            }
        }
        Ok(sorted)
    }

    fn removed(&mut self, id: &'a str) {
        match id.split_once('/') {
            Some(("service", name)) => self.services_gone.push(name),
            Some(("route", name)) => self.routes_gone.push(name),
            Some(("preview", key)) => self.previews_gone.extend(Key::bare(key)),
            Some(("gone", key)) => self.gone_forgotten.extend(Key::bare(key)),
            Some(("certificate", name)) => self.certificates_gone.push(name.into()),
            Some(("port", name)) => self.ports_gone.extend(
                name.rsplit_once('/')
                    .and_then(|(namespace, port)| Some((namespace.into(), port.parse().ok()?))),
            ),
            Some(("secrets", _)) => self.secrets = Some(&[]),
            // It was never taken in.
            _ => {}
        }
    }

    /// The services that forks and routes name.
    fn names(&self) -> impl Iterator<Item = &'a str> {
        let forks = self.previews.iter().flat_map(|preview| preview.forks.keys());
        let backends = self.routes.iter().flat_map(|route| match &route.action {
            stream::Action::Forward(backends) => backends.as_slice(),
            stream::Action::Redirect(_) => &[],
        });
        forks
            .map(|name| &**name)
            .chain(backends.filter_map(|backend| backend.service.as_deref()))
            .chain(self.services.iter().map(|service| &*service.name))
            .chain(self.ports.iter().map(|port| &*port.service))
    }
}

impl Keeper {
    /// A keeper that follows the controller at `url`; `config` says everything but services, routes and previews.
    /// Requests are answered by 503 until the first [`Keeper::apply`].
    ///
    /// # Errors
    /// A setting that can't be used, in words.
    pub fn following(
        origin: impl Into<Origin>,
        config: Config,
        workers: usize,
        metrics: Arc<Metrics>,
        url: &str,
        certificates: Arc<Provided>,
    ) -> Result<Self, String> {
        let taken = Taken::new(&[], &config.domains, &config.carriers);
        let mut keeper =
            Self::empty(origin.into(), &config, Builder::new(workers), metrics, Lives::unkept())?;
        keeper.followed = Some(Box::new(Followed {
            url: url.into(),
            slots: Slots::default(),
            live: BTreeSet::new(),
            routes: BTreeMap::new(),
            taken,
            withheld: BTreeMap::new(),
            gone: HashSet::new(),
            ports: BTreeMap::new(),
            certificates,
        }));
        let why = format!("no routing table yet: waiting for the controller at {url}");
        keeper.estate().waiting = Some(why.into());
        keeper.publish();
        Ok(keeper)
    }

    /// The controller that is followed, and whether a table of it is in force.
    pub fn controller(&self) -> Option<(&str, bool)> {
        let followed = self.followed.as_ref()?;
        Some((followed.url(), self.table.estate.waiting.is_none()))
    }

    /// The ports that the controller's table asks this proxy for, where it is a waypoint: those of other namespaces are not
    /// sent to it.
    pub fn ports(&self) -> BTreeMap<u16, Wanted> {
        let followed = self.followed.iter().filter(|_| self.config.role == Role::Waypoint);
        let ports = followed.flat_map(|followed| followed.ports.values());
        let wanted = ports.map(|port| {
            let spoken = match port.spoken {
                stream::Spoken::Http => Spoken::Http,
                stream::Spoken::Detect => Spoken::Detect,
                stream::Spoken::Tcp => Spoken::Tcp,
            };
            (port.port, Wanted { service: port.service.clone(), spoken })
        });
        wanted.collect()
    }

    /// Says why the newest version of the controller is not in force; `None`: it is.
    pub fn refused_version(&mut self, why: Option<String>) {
        self.status.version = why;
    }

    /// Makes a table of the one in force and `changes`, and publishes it as `version`. A preview whose names others
    /// have goes without them; a certificate that can't be used leaves the one before it.
    ///
    /// # Errors
    /// The item that can't be taken, and why. The table in force stays then.
    pub fn apply(&mut self, version: u64, changes: &Changes) -> Result<(), String> {
        let Some(mut followed) = self.followed.take() else {
            return Err("this proxy follows no controller".into());
        };
        let applied = Sorted::new(changes).and_then(|sorted| self.apply_sorted(&mut followed, &sorted));
        self.followed = Some(followed);
        applied?;
        self.table.generation = version;
        self.publish();
        Ok(())
    }

    fn apply_sorted(&mut self, followed: &mut Followed, sorted: &Sorted<'_>) -> Result<(), String> {
        // All that can fail comes first; a number more than is used harms nobody.
        self.sweep(followed);
        for name in sorted.names() {
            self.number(followed, name)?;
        }
        let routes = sorted
            .routes
            .iter()
            .map(|route| {
                read_route(route, |name| followed.slots.known(name)).map_err(|error| error.to_string())
            })
            .collect::<Result<Vec<_>, _>>()?;
        let services = self.build_services(followed, sorted)?;
        let now = Timestamp::now();
        let moved = self.set_services(followed, services);
        let routes_changed = self.set_routes(followed, routes, &sorted.routes_gone);
        if self.table.estate.waiting.is_some() {
            self.estate().waiting = None;
        }
        self.rebuild_forks(&moved, now);
        self.set_previews(followed, sorted, now);
        if routes_changed {
            self.check_names(followed, now);
        }
        self.retry_withheld(followed, now);
        self.set_certificates(followed, sorted);
        self.set_secrets(sorted);
        for port in &sorted.ports_gone {
            followed.ports.remove(port);
        }
        let ports = sorted.ports.iter().map(|port| ((port.namespace.clone(), port.port), (*port).clone()));
        followed.ports.extend(ports);
        Ok(())
    }

    /// Takes in what a file says that is not the controller's: everything but services, routes and previews.
    pub(super) fn adopt_settings(&mut self, checked: Checked) -> Result<(), String> {
        for warning in &checked.warnings {
            tracing::warn!("{warning}");
        }
        let mut estate = self.builder.estate(&checked.config)?;
        estate.waiting = self.table.estate.waiting.clone();
        // The services are the same, and those among them that are not there have no name.
        estate.known = self.table.estate.known.clone();
        warn_of_restart(&self.config, &checked.config);
        self.config = without_previews(&checked.config);
        self.table.estate = Arc::new(estate);
        self.table.index_keys();
        if let Some(mut followed) = self.followed.take() {
            let now = Timestamp::now();
            let routes = followed.learn_taken(&self.config);
            self.estate().routes = Arc::new(Routes::new(&routes, &self.config.carriers));
            self.check_names(&mut followed, now);
            self.retry_withheld(&mut followed, now);
            self.followed = Some(followed);
        }
        self.publish();
        tracing::info!("configuration applied");
        Ok(())
    }

    /// What was read from a file, with the services that a controller said.
    pub(super) fn with_services(&self, mut checked: Checked) -> Checked {
        if self.followed.is_some() {
            checked.config.services.clone_from(&self.config.services);
        }
        checked
    }

    /// The estate of the next table: copied when the first change of it is made, since the last table has it too.
    fn estate(&mut self) -> &mut Estate {
        Arc::make_mut(&mut self.table.estate)
    }

    /// Lets numbers be used again that nothing means any more, where they are many.
    fn sweep(&mut self, followed: &mut Followed) {
        if !followed.slots.is_wasteful() {
            return;
        }
        let forks = self.table.previews().flat_map(|preview| preview.forks.iter().map(|(number, _)| number));
        let backends = followed.routes.values().flat_map(|route| match &route.action {
            model::Action::Forward(backends) => backends.as_slice(),
            model::Action::Redirect(_) => &[],
        });
        let mut used: BTreeSet<usize> = forks.chain(backends.filter_map(|backend| backend.service)).collect();
        used.extend(&followed.live);
        followed.slots.free_all_but(&used);
    }

    /// Gives `name` a number; a new one stands for a service that is not there.
    fn number(&mut self, followed: &mut Followed, name: &str) -> Result<(), String> {
        let services = &self.config.services;
        let old = |number: usize| services.get(number).map(|service| &*service.name);
        let number = match followed.slots.number(name, old) {
            Slot::Known(_) => return Ok(()),
            Slot::Reused(number) | Slot::New(number) => number,
        };
        let absent = absent(name);
        if let Some(place) = self.config.services.get_mut(number) {
            self.builder.forget_service(&place.name);
            *place = absent.clone();
        } else {
            self.config.services.push(absent.clone());
        }
        let built = Arc::new(self.builder.service(number, &absent)?);
        let services = &mut self.estate().services;
        match services.get_mut(number) {
            Some(place) => *place = built,
            None => services.push(built),
        }
        Ok(())
    }

    fn build_services(
        &mut self,
        followed: &Followed,
        sorted: &Sorted<'_>,
    ) -> Result<Vec<(bool, model::Service, Service)>, String> {
        let there = sorted.services.iter().map(|item| (true, service(item)));
        // As if it had never been there: what a table is must not depend on the way to it.
        let gone = sorted.services_gone.iter().map(|name| (false, absent(name)));
        let builder = &mut self.builder;
        there
            .chain(gone)
            .filter_map(|(is_there, service)| {
                let number = followed.slots.known(&service.name)?;
                let built = builder.service(number, &service);
                Some(built.map(|built| (is_there, service, built)))
            })
            .collect()
    }

    /// Puts services in their places; gives those whose forks are spoken to in another way now.
    fn set_services(
        &mut self,
        followed: &mut Followed,
        services: Vec<(bool, model::Service, Service)>,
    ) -> BTreeSet<usize> {
        let mut moved = BTreeSet::new();
        for (is_there, service, built) in services {
            let number = built.index;
            let estate = Arc::make_mut(&mut self.table.estate);
            if let Some(place) = estate.services.get_mut(number) {
                *place = Arc::new(built);
            }
            // A name that is no service's any more must not pass for one: who calls it leaves the estate.
            match is_there {
                true if followed.live.insert(number) => estate.known.insert(&service.name, number),
                false if followed.live.remove(&number) => estate.known.remove(&service.name),
                _ => {}
            }
            let Some(before) = self.config.services.get_mut(number) else { continue };
            if before.addresses != service.addresses {
                estate.known.remove_addresses(&before.addresses, number);
                estate.known.add_addresses(&service.addresses, number);
            }
            if (before.protocol, &before.tls) != (service.protocol, &service.tls) {
                moved.insert(number);
            }
            *before = service;
        }
        moved
    }

    fn set_routes(&mut self, followed: &mut Followed, changed: Vec<model::Route>, gone: &[&str]) -> bool {
        if changed.is_empty() && gone.is_empty() {
            return false;
        }
        for name in gone {
            followed.routes.remove(*name);
        }
        followed.routes.extend(changed.into_iter().map(|route| (route.name.clone(), route)));
        let routes = followed.learn_taken(&self.config);
        self.estate().routes = Arc::new(Routes::new(&routes, &self.config.carriers));
        true
    }

    /// Makes the forks of these services anew, with the addresses that they have.
    fn rebuild_forks(&mut self, moved: &BTreeSet<usize>, now: Timestamp) {
        if moved.is_empty() {
            return;
        }
        let is_meant =
            |preview: &&Arc<Preview>| preview.forks.iter().any(|(number, _)| moved.contains(&number));
        let meant: Vec<_> = self.table.previews().filter(is_meant).map(Arc::clone).collect();
        for preview in meant {
            // With the names that it has: no other preview has them.
            let about = About { expires: preview.expires(), ..About::default() };
            let _ = self.place(preview.key, &model_of(&preview), about, now);
        }
    }

    fn set_previews(&mut self, followed: &mut Followed, sorted: &Sorted<'_>, now: Timestamp) {
        for key in &sorted.previews_gone {
            self.take_out(key);
            followed.withheld.remove(key);
            self.status.previews.remove(key);
            if followed.gone.contains(key) {
                self.table.set_gone(*key, true);
            }
        }
        for key in &sorted.gone_forgotten {
            followed.gone.remove(key);
            self.table.set_gone(*key, false);
            self.table.set_former(*key, None);
        }
        // First all of them leave, so that a name can go from one to another.
        let stats: Vec<_> = sorted.previews.iter().map(|preview| self.take_out(&preview.key)).collect();
        for (preview, before) in sorted.previews.iter().zip(stats) {
            self.set_preview(followed, preview, before, now);
        }
        for key in &sorted.gone {
            followed.gone.insert(*key);
            if self.table.preview(key).is_none() {
                self.table.set_gone(*key, true);
            }
        }
        // What the controller does not remember nobody does.
        for key in sorted.previews_gone.iter().filter(|key| !followed.gone.contains(key)) {
            self.table.set_former(*key, None);
        }
    }

    /// Puts in a preview with all names that it can have, and says which it can't.
    fn set_preview(
        &mut self,
        followed: &mut Followed,
        item: &stream::Preview,
        before: Option<Arc<Preview>>,
        now: Timestamp,
    ) {
        let key = item.key;
        let mut problems = Vec::new();
        let mut preview = followed.preview(item, &mut problems);
        // Each turn takes a name away, so there are as many as there are names at most.
        for _ in 0..=preview.aliases.len() + preview.hosts.len() {
            let stats = before.as_ref().map(|before| before.stats.share()).unwrap_or_default();
            let about = About { expires: item.expires, stats, ..About::default() };
            let Err(conflict) = self.place(key, &preview, about, now) else { break };
            problems.push(conflict.to_string());
            match conflict {
                Conflict::Alias(alias, _) => preview.aliases.retain(|other| *other != alias),
                Conflict::Host(host, _) => preview.hosts.retain(|other| *other != host),
                Conflict::Key(..) => break,
            }
        }
        if problems.is_empty() {
            self.status.previews.remove(&key);
            followed.withheld.remove(&key);
            return;
        }
        let problem = problems.join("; ");
        if self.status.previews.get(&key) != Some(&problem) {
            tracing::error!(%key, "the preview goes without some of its names: {problem}");
            self.status.previews.insert(key, problem);
        }
        followed.withheld.insert(key, item.clone());
    }

    /// Takes away names that routes or domains have taken meanwhile.
    fn check_names(&mut self, followed: &mut Followed, now: Timestamp) {
        let meant: Vec<_> =
            self.table.previews().filter(|preview| !followed.allows(preview)).map(Arc::clone).collect();
        for preview in meant {
            let item = followed.withheld.remove(&preview.key).unwrap_or_else(|| self.item_of(&preview));
            let before = self.take_out(&preview.key);
            self.set_preview(followed, &item, before, now);
        }
    }

    /// Gives names to previews that wait for them, as far as they are free now.
    fn retry_withheld(&mut self, followed: &mut Followed, now: Timestamp) {
        for (key, item) in followed.withheld.clone() {
            let before = self.take_out(&key);
            self.set_preview(followed, &item, before, now);
        }
    }

    fn set_certificates(&mut self, followed: &Followed, sorted: &Sorted<'_>) {
        if sorted.certificates.is_empty() && sorted.certificates_gone.is_empty() {
            return;
        }
        let bad = followed.certificates.change(&sorted.certificates_gone, &sorted.certificates);
        let named = sorted.certificates.iter().map(|certificate| &certificate.name);
        for name in named.chain(&sorted.certificates_gone) {
            self.status.certificates.remove(name);
        }
        for (name, error) in bad {
            tracing::error!(%name, "certificate not taken, the one before it stays: {error}");
            self.status.certificates.insert(name, error.to_string());
        }
    }

    /// Takes the secrets of trace ids and signatures. Those of the file, where it names some, count in their place.
    fn set_secrets(&mut self, sorted: &Sorted<'_>) {
        let Some(texts) = sorted.secrets else { return };
        let secrets: Vec<Secret> = texts.iter().map(|text| Secret(text.as_bytes().to_vec())).collect();
        self.builder.set_secrets(Secrets::new(&secrets));
        let context = self.builder.context(&self.config);
        self.estate().context = context;
    }

    /// A preview of the table as it travels.
    fn item_of(&self, preview: &Preview) -> stream::Preview {
        let forks = preview.forks.iter().filter_map(|(number, endpoints)| {
            let name = self.config.services.get(number)?.name.clone();
            Some((name, endpoints.iter().map(|endpoint| endpoint.address).collect()))
        });
        stream::Preview {
            key: preview.key,
            forks: forks.collect(),
            parents: preview.parents().to_vec(),
            aliases: preview.aliases().to_vec(),
            hosts: preview.hosts().to_vec(),
            on_fork_down: match preview.on_fork_down {
                model::OnForkDown::Fail => stream::OnForkDown::Fail,
                model::OnForkDown::Baseline => stream::OnForkDown::Baseline,
                model::OnForkDown::Hold => stream::OnForkDown::Hold,
            },
            expires: preview.expires(),
        }
    }
}

impl Followed {
    /// Learns anew what routes and domains have taken; gives the routes.
    fn learn_taken(&mut self, config: &Config) -> Vec<model::Route> {
        let routes: Vec<_> = self.routes.values().cloned().collect();
        self.taken = Taken::new(&routes, &config.domains, &config.carriers);
        routes
    }

    /// Whether nobody else has taken a name of `preview`.
    fn allows(&self, preview: &Preview) -> bool {
        preview.aliases().iter().all(|alias| self.taken.alias(alias.as_str()).is_ok())
            && preview.hosts().iter().all(|host| self.taken.host(host).is_ok())
    }

    /// A preview of the model, without the names that routes and domains have.
    fn preview(&self, item: &stream::Preview, problems: &mut Vec<String>) -> model::Preview {
        let mut allowed = |name: &str, judged: Result<(), String>| {
            problems.extend(judged.as_ref().err().map(|why| format!("{name} {why}")));
            judged.is_ok()
        };
        let forks = item.forks.iter().filter_map(|(name, addresses)| {
            Some((self.slots.known(name)?, addresses.iter().copied().map(Endpoint::Address).collect()))
        });
        let aliases = item.aliases.iter().filter(|alias| **alias != item.key);
        model::Preview {
            forks: forks.collect(),
            parents: item.parents.iter().copied().take(sidetrack_config::key::MAX_KEYS).collect(),
            aliases: aliases
                .copied()
                .filter(|alias| allowed(alias.as_str(), self.taken.alias(alias.as_str())))
                .collect(),
            hosts: item.hosts.iter().filter(|host| allowed(host, self.taken.host(host))).cloned().collect(),
            ttl: None,
            on_fork_down: match item.on_fork_down {
                stream::OnForkDown::Fail => model::OnForkDown::Fail,
                stream::OnForkDown::Baseline => model::OnForkDown::Baseline,
                stream::OnForkDown::Hold => model::OnForkDown::Hold,
            },
            access: None,
        }
    }
}

/// A preview of the table as one of the model.
fn model_of(preview: &Preview) -> model::Preview {
    let forks = preview.forks.iter().map(|(number, endpoints)| {
        (number, endpoints.iter().map(|endpoint| Endpoint::Address(endpoint.address)).collect())
    });
    model::Preview {
        forks: forks.collect(),
        parents: preview.parents().to_vec(),
        aliases: preview.aliases().to_vec(),
        hosts: preview.hosts().to_vec(),
        ttl: None,
        on_fork_down: preview.on_fork_down,
        access: preview.access().cloned(),
    }
}

/// A service of the model.
fn service(item: &stream::Service) -> model::Service {
    let protocol = match item.protocol {
        stream::Protocol::Http1 => model::Protocol::Http1,
        stream::Protocol::H2c => model::Protocol::H2c,
        stream::Protocol::Https => model::Protocol::Https,
        stream::Protocol::H2 => model::Protocol::H2,
    };
    let baseline = item.baseline.as_ref();
    model::Service {
        name: item.name.clone(),
        baseline: baseline.map(|list| list.iter().copied().map(Endpoint::Address).collect()),
        protocol,
        tls: protocol.is_tls().then(|| UpstreamTls { ca_file: None, server_name: item.server_name.clone() }),
        health_check: None,
        timeouts: Timeouts::default(),
        host: HostRewrite::Keep,
        addresses: item.addresses.clone(),
    }
}

/// A service that something names and that is not there.
fn absent(name: &str) -> model::Service {
    model::Service {
        name: name.into(),
        baseline: None,
        protocol: model::Protocol::Http1,
        tls: None,
        health_check: None,
        timeouts: Timeouts::default(),
        host: HostRewrite::Keep,
        addresses: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
