//! What to say about each Preview.

use std::time::Duration;

use jiff::Timestamp;

use super::claims::{Asked, Claim};
use super::links::Links;
use super::settle::Group;
use super::{Fork, ForkState, Notice};
use crate::preview::{Condition, Phase, PreviewStatus};

/// The most conditions about forks: twice what a Preview can list, for those that are labelled besides.
const MAX_FORKS: usize = 128;

/// What the status of one Preview is made of.
#[derive(Debug)]
pub(super) struct Report<'r, 'a> {
    pub(super) asked: &'r Asked<'a>,
    /// The key that is its own.
    pub(super) group: Option<&'r Group<'a>>,
    /// The forks that it lists, and those of its key that nobody refused.
    pub(super) forks: &'r [(&'r Claim<'a>, &'r Fork)],
    pub(super) links: &'r Links,
    pub(super) warn_before: Duration,
    pub(super) now: Timestamp,
}

impl Report<'_, '_> {
    /// The status. The same facts give the same status, times included.
    pub(super) fn status(&self) -> PreviewStatus {
        let forks = self.forks.iter().map(|(_, fork)| *fork);
        let ready = forks.clone().filter(|fork| fork.state == ForkState::Routed).count();
        let phase = self.phase();
        let urls = match (self.group, &self.asked.key, phase) {
            (Some(group), Ok(key), Phase::Pending | Phase::Ready | Phase::Degraded) => {
                self.links.of(key, &group.terms.hosts)
            }
            _ => Vec::new(),
        };
        let mut conditions = vec![self.accepted(), self.ready(phase, ready), self.expiring()];
        conditions.extend(self.forks.iter().take(MAX_FORKS).map(|(_, fork)| self.fork(fork)));
        self.keep_times(&mut conditions);
        PreviewStatus {
            phase: Some(phase),
            ready: Some(format!("{ready}/{}", forks.count())),
            url: urls.first().cloned(),
            urls,
            expires: self.asked.terms.expires,
            observed_generation: Some(self.asked.object.meta.generation),
            acknowledged_generation: None,
            conditions,
        }
    }

    fn phase(&self) -> Phase {
        let forks = || self.forks.iter().map(|(_, fork)| fork.state);
        if self.has_ended() {
            return Phase::Expired;
        }
        if self.asked.key.is_err() || self.asked.conflict.is_some() || forks().any(|state| !state.is_routed())
        {
            return Phase::Degraded;
        }
        if forks().any(|state| state != ForkState::Routed) { Phase::Pending } else { Phase::Ready }
    }

    fn has_ended(&self) -> bool {
        self.asked.terms.expires.is_some_and(|end| end <= self.now)
    }

    /// Whether the object itself is as it can be used.
    fn accepted(&self) -> Condition {
        match (&self.asked.key, &self.asked.conflict) {
            (Err(why), _) => self.condition("Accepted", false, "InvalidKey", why),
            (_, Some(why)) => self.condition("Accepted", false, "Conflict", why),
            _ if self.asked.problems.is_empty() => self.condition("Accepted", true, "Accepted", ""),
            _ => self.condition("Accepted", false, "InvalidSetting", &self.asked.problems.join("; ")),
        }
    }

    fn ready(&self, phase: Phase, ready: usize) -> Condition {
        let all = self.forks.len();
        let first = self.forks.iter().map(|(_, fork)| *fork).find(|fork| fork.state != ForkState::Routed);
        let why = first.map(|fork| format!(": {}: {}", fork.service.name, fork.message)).unwrap_or_default();
        let message = format!("{ready} of {all} forks are ready{why}");
        match phase {
            Phase::Ready => self.condition("Ready", true, "Ready", &message),
            Phase::Pending => self.condition("Ready", false, "Pending", &message),
            Phase::Degraded => self.condition("Ready", false, "Degraded", &message),
            Phase::Expired => {
                self.condition("Ready", false, "Expired", "its TTL is over: nothing of it is routed")
            }
        }
    }

    fn expiring(&self) -> Condition {
        let Some(end) = self.asked.terms.expires else {
            return self.condition("Expiring", false, "NoEnd", "it stays until it is deleted");
        };
        let warned = end.checked_sub(self.warn_before).is_ok_and(|warning| warning <= self.now);
        match (self.has_ended(), warned) {
            (true, _) => self.condition("Expiring", true, "Expired", &format!("it ended at {end}")),
            (_, true) => self.condition("Expiring", true, "Expiring", &format!("it ends at {end}")),
            _ => self.condition("Expiring", false, "NotYet", &format!("it ends at {end}")),
        }
    }

    fn fork(&self, fork: &Fork) -> Condition {
        let is_routed = fork.state == ForkState::Routed;
        self.condition(&self.fork_type(fork), is_routed, fork.state.as_str(), &fork.message)
    }

    /// `Fork-SERVICE`, with its namespace where that is not the Preview's own.
    fn fork_type(&self, fork: &Fork) -> String {
        match fork.service.namespace == self.asked.name.namespace {
            true => format!("Fork-{}", fork.service.name),
            false => format!("Fork-{}.{}", fork.service.name, fork.service.namespace),
        }
    }

    fn condition(&self, type_: &str, is_true: bool, reason: &str, message: &str) -> Condition {
        Condition {
            type_: type_.to_owned(),
            status: if is_true { "True" } else { "False" }.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            last_transition_time: self.now,
            observed_generation: Some(self.asked.object.meta.generation),
        }
    }

    /// A condition whose status is what it was keeps its time.
    fn keep_times(&self, conditions: &mut [Condition]) {
        let before = self.asked.object.status.as_ref().map(|status| &status.conditions);
        for condition in conditions {
            let old = before.into_iter().flatten().find(|old| old.type_ == condition.type_);
            if let Some(old) = old.filter(|old| old.status == condition.status) {
                condition.last_transition_time = old.last_transition_time;
            }
        }
    }

    /// What people should hear about the object itself.
    pub(super) fn notices(&self, notices: &mut Vec<Notice>) {
        let mut tell = |warning, reason, message: &str| {
            notices.push(Notice { about: self.asked.id(), warning, reason, message: message.into() });
        };
        for condition in [self.accepted(), self.expiring()] {
            match (&*condition.type_, &*condition.status, &*condition.reason) {
                ("Accepted", "False", "InvalidKey") => tell(true, "InvalidKey", &condition.message),
                ("Accepted", "False", "Conflict") => tell(true, "Conflict", &condition.message),
                ("Accepted", "False", _) => tell(true, "InvalidSetting", &condition.message),
                ("Expiring", "True", "Expired") => tell(false, "Expired", &condition.message),
                ("Expiring", "True", _) => tell(true, "Expiring", &condition.message),
                _ => {}
            }
        }
    }
}
