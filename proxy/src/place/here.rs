//! What a sidecar knows besides the table: where a connection was meant to go, and what stands behind it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use sidetrack_config::Key;
use sidetrack_config::model::Place;

use crate::accept::connection::Connection;
use crate::decision::{Reason, Target};
use crate::error::Failure;
use crate::identify::Identity;
use crate::pick;
use crate::route::table::{Endpoint, Service, Table};

/// What holds at the place where a request came in; nothing but at a sidecar.
#[derive(Clone, Copy, Debug, Default)]
pub struct Here<'t> {
    /// Where the connection was meant to go, where the system redirected it.
    pub original: Option<SocketAddr>,
    /// The same as an endpoint, or the workload: it stands for the baseline of any service.
    meant: Option<&'t Arc<Endpoint>>,
    own: Own<'t>,
}

/// What it means that the workload is a fork.
#[derive(Clone, Copy, Debug, Default)]
enum Own<'t> {
    /// It is none.
    #[default]
    None,
    /// It gets all that comes in.
    All(&'t Key),
    /// Its calls to itself stay with it: it is the endpoint of its fork that has this address.
    Calls(&'t Key, IpAddr),
}

impl<'t> Here<'t> {
    /// What holds for requests of `connection`; `meant` is where they were meant to go.
    pub fn new(
        place: &Place,
        connection: &Connection,
        table: &'t Table,
        meant: Option<&'t Arc<Endpoint>>,
    ) -> Self {
        let key = || table.estate.workload.as_ref()?.key.as_ref();
        let own = match place {
            Place::Edge | Place::Service(_) => return Self::default(),
            Place::Inbound => key().map_or(Own::None, Own::All),
            Place::Outbound(_) if connection.original.is_some() => {
                key().map_or(Own::None, |key| Own::Calls(key, connection.peer.ip().to_canonical()))
            }
            Place::Outbound(_) => Own::None,
        };
        Self { original: connection.original.as_deref().copied(), meant, own }
    }

    /// Whether it is known where requests go that nothing says more about.
    pub const fn passes(&self) -> bool {
        self.meant.is_some()
    }

    /// What stands for the baseline of `service`.
    ///
    /// # Errors
    /// As [`pick::baseline`].
    pub fn baseline(&self, service: &'t Service, key: Option<&Key>) -> Result<Target<'t>, Failure> {
        match self.meant {
            Some(meant) => Ok(Target::Baseline(std::slice::from_ref(meant))),
            None => pick::baseline(service, key),
        }
    }

    /// As [`pick::target`], for this place.
    ///
    /// # Errors
    /// As [`pick::target`].
    pub fn target(
        &self,
        identity: &Identity,
        service: &'t Service,
        table: &'t Table,
    ) -> Result<(Target<'t>, Reason), Failure> {
        let picked = pick::target_or(identity, service, table, |key| self.baseline(service, key));
        match (self.own, picked) {
            (Own::None, picked) => picked,
            (Own::All(own), picked) => {
                let workload = self.baseline(service, identity.keys.first())?.endpoints();
                Ok((Target::Own(own, workload), reason(identity, own, picked)?))
            }
            (Own::Calls(own, address), Ok((Target::Fork(preview, set), reason))) if preview.key == *own => {
                let is_here = |at: &&Arc<Endpoint>| at.address.ip().to_canonical() == address;
                let here = set.iter().find(is_here).map_or(set, std::slice::from_ref);
                Ok((Target::Fork(preview, here), reason))
            }
            (Own::Calls(..), picked) => picked,
        }
    }
}

/// Why a request came to the fork `own`, where the table would have sent it to what was `picked`.
fn reason(
    identity: &Identity,
    own: &Key,
    picked: Result<(Target<'_>, Reason), Failure>,
) -> Result<Reason, Failure> {
    match picked {
        Ok((Target::Fork(preview, _), reason)) if preview.key == *own => Ok(reason),
        // It names another fork, which is not what it got.
        Ok((Target::Fork(..), _)) => Ok(Reason::NoFork),
        // The table may not know the preview, or no longer.
        _ if identity.keys.contains(own) => Ok(Reason::Fork),
        picked => picked.map(|(_, reason)| reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::table;
    use crate::forward::meant::Meant;
    use crate::head::PlainHead;
    use crate::identify::identify;

    const POD: &str = "
listeners: [{address: 127.0.0.1:1, direction: inbound}]
role: sidecar
sidecar: {service: checkout, key: 42}
services: {checkout: {baseline: [10.0.0.1:8080]}}
previews:
  '42': {forks: {checkout: [10.0.0.6:8080, 10.0.0.7:8080]}}
  '57': {forks: {checkout: [10.0.0.8:8080]}}
  '58': {parents: ['42']}
  '59': {}
";

    /// What becomes of a request with these keys in a pod of preview `own`, which may be none of the table's.
    fn answered(own: &str, keys: &str) -> String {
        let table = table(POD);
        let app = Meant::default().at("10.0.0.7:8080".parse().unwrap(), false);
        let own = Key::bare(own).unwrap();
        let here = Here { original: Some(app.address), meant: Some(&app), own: Own::All(&own) };
        let head = PlainHead::get("checkout").with("x-pr-id", keys);
        let head = if keys.is_empty() { PlainHead::get("checkout") } else { head };
        let service = table.estate.service("checkout").unwrap();
        match here.target(&identify(&head, &table).unwrap(), service, &table) {
            Ok((target, reason)) => {
                assert!(matches!(target, Target::Own(..)) && Arc::ptr_eq(&target.endpoints()[0], &app));
                format!("{} {reason}", target.preview().unwrap())
            }
            Err(failure) => failure.code.to_string(),
        }
    }

    #[test]
    fn what_comes_in_to_a_fork_is_answered_by_it_and_says_so() {
        for (own, keys, expected) in [
            ("42", "42", "42 fork"),
            ("42", "58", "42 parent_fork"),
            ("42", "", "42 no_key"),
            ("42", "59", "42 no_fork"),
            // What named another fork has not got that.
            ("42", "57", "42 no_fork"),
            ("42", "99", "42 unknown_preview"),
            // The table may not know the pod's own preview yet, or no longer.
            ("60", "60", "60 fork"),
            ("60", "42", "60 no_fork"),
        ] {
            assert_eq!(answered(own, keys), expected, "{keys:?} in a pod of {own}");
        }
    }

    #[test]
    fn calls_of_a_fork_to_itself_stay_in_their_pod() {
        let table = table(POD);
        let own = Key::bare("42").unwrap();
        let service = table.estate.service("checkout").unwrap();
        let target = |keys: &str, address: &str| {
            let here = Here { own: Own::Calls(&own, address.parse().unwrap()), ..Here::default() };
            let identity = identify(&PlainHead::get("checkout").with("x-pr-id", keys), &table).unwrap();
            let (target, _) = here.target(&identity, service, &table).unwrap();
            target.endpoints().iter().map(|at| at.address.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(target("42", "10.0.0.7"), ["10.0.0.7:8080"]);
        assert_eq!(target("42", "10.0.0.5").len(), 2, "the pod is no endpoint of the fork yet");
        assert_eq!(target("57", "10.0.0.7"), ["10.0.0.8:8080"]);
    }
}
