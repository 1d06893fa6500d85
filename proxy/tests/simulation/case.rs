//! What must be true of one request.

use std::time::Duration;

use serde_json::Value;

use crate::client::{Outcome, What};
use crate::model::{Decision, OnDown};
use crate::upstream::{Arrival, Manner, Upstream};
use crate::world::{HOLD, LONGEST_CONNECT, RESPONSE, World};

/// After so long a request that is held has seen that its fork is there: it looks ten times a second.
pub(crate) const SEEN: Duration = Duration::from_millis(400);

/// What was written down about one request.
pub(crate) struct Case<'a> {
    pub(crate) world: &'a World,
    pub(crate) outcome: &'a Outcome,
    pub(crate) line: &'a Value,
    pub(crate) arrivals: Vec<&'a Arrival>,
    /// What the tables say that it may have met.
    pub(crate) decisions: Vec<Decision>,
    /// What tables said before the one of its record: where it was held, it may have met these first.
    pub(crate) before: Vec<Decision>,
    /// Since when the last of them was the one.
    pub(crate) since: Duration,
}

impl Case<'_> {
    pub(crate) fn check(&self) -> Result<(), String> {
        for arrival in &self.arrivals {
            self.arrived(arrival)?;
        }
        // Twice only over a kept connection that died, and what may be done twice.
        let most = if self.outcome.request.body.is_some() { 1 } else { 2 };
        ensure!(self.arrivals.len() <= most, "it arrived {} times: {:?}", self.arrivals.len(), self.arrivals);
        let line = self.line;
        match &self.outcome.what {
            What::Closed => {
                // The head of an answer whose body breaks off at once may be lost with it.
                let dies = |arrival: &&&Arrival| self.may_die(arrival.upstream);
                ensure!(
                    self.arrivals.last().filter(dies).is_some(),
                    "the connection ended without an answer"
                );
                ensure!(line["aborted"] == true, "the answer was cut, and the record says nothing of it");
                Ok(())
            }
            // Where its answer came at the same moment, nobody knows which was first.
            What::GaveUp => Ok(()),
            What::Answer(answer) => {
                let status: u64 = answer.first.split(' ').nth(1).unwrap().parse().unwrap();
                self.went_on()?;
                ensure!(line["status"] == status, "the record says another status than {status}");
                let aborted = line.get("aborted").is_some();
                ensure!(
                    aborted != answer.whole,
                    "whole: {}, but the record says aborted: {aborted}",
                    answer.whole
                );
                self.receipt(answer.get("x-pr-route"))?;
                match answer.get("x-upstream") {
                    Some(id) => self.answered(id.parse().unwrap(), answer.whole),
                    None => {
                        let body: Value =
                            serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
                        let code = body["code"].as_str().unwrap();
                        ensure!(line["error"] == code, "the record does not say {code}");
                        ensure!(body["status"] == status, "the body says another status");
                        self.failed(code, status)
                    }
                }
            }
        }
    }

    /// Whether an upstream may see it.
    fn arrived(&self, arrival: &Arrival) -> Result<(), String> {
        let (request, upstream) = (&self.outcome.request, self.upstream(arrival.upstream));
        let name = upstream.name();
        ensure!(
            !request.keys.is_empty() || upstream.preview.is_none(),
            "a request without a key reached {name}"
        );
        ensure!(upstream.service == request.service, "a request for s{} reached {name}", request.service);
        let is_allowed = self
            .decisions
            .iter()
            .any(|decision| self.targets(decision).any(|set| set.contains(&upstream.id)));
        ensure!(is_allowed, "it reached {name}; allowed: {:?}", self.decisions);
        let keys = if request.keys.is_empty() { Vec::new() } else { vec![request.keys.join(",")] };
        ensure!(arrival.keys == keys, "it reached {name} with the keys {:?}", arrival.keys);
        let is_strict = request.is_strict && !request.keys.is_empty();
        ensure!(arrival.is_strict == is_strict, "strict: {is_strict}, and at {name}: {}", arrival.is_strict);
        Ok(())
    }

    /// The sets that a decision allows, whatever is down.
    fn targets<'a>(&self, decision: &'a Decision) -> impl Iterator<Item = &'a Vec<usize>> {
        let (first, second) = match decision {
            Decision::Fork { set, on_down: OnDown::Baseline, baseline, .. }
                if !self.outcome.request.is_strict =>
            {
                (Some(set), baseline.as_ref())
            }
            Decision::Fork { set, .. } | Decision::Baseline { set, .. } => (Some(set), None),
            Decision::Error(_) => (None, None),
        };
        first.into_iter().chain(second)
    }

    /// What a receipt may say is what the record says.
    fn receipt(&self, receipt: Option<&str>) -> Result<(), String> {
        let (request, line) = (&self.outcome.request, self.line);
        // Without a key there is none, nor where it did not come to a reason.
        let reason = line["reason"].as_str().filter(|_| !request.keys.is_empty());
        let (Some(receipt), Some(reason)) = (receipt, reason) else {
            ensure!(receipt.is_none() && reason.is_none(), "receipt {receipt:?}, reason {reason:?}");
            return Ok(());
        };
        // The last where the fork went while the request waited for it.
        let absent = ["unknown_preview", "preview_expired", "no_route"];
        let is_absent = line["error"].as_str().is_some_and(|code| absent.contains(&code));
        let at = line["preview"].as_str().unwrap_or(if is_absent { "none" } else { "baseline" });
        let wanted = format!("s{}@{at};reason={reason};gen={}", request.service, line["generation"]);
        ensure!(receipt == wanted, "the receipt is {receipt}, and the record says {wanted}");
        Ok(())
    }

    /// An upstream answered.
    fn answered(&self, id: usize, whole: bool) -> Result<(), String> {
        let (line, upstream) = (self.line, self.upstream(id));
        let name = upstream.name();
        ensure!(
            self.arrivals.last().is_some_and(|last| last.upstream == id),
            "{name} answered and was not asked last"
        );
        ensure!(line["endpoint"] == upstream.address.to_string(), "the record does not say {name}");
        let side = if upstream.preview.is_some() { "fork" } else { "baseline" };
        ensure!(line["target"] == side, "the record does not say {side}");
        ensure!(line["preview"].as_str() == upstream.preview.as_deref(), "the record says another preview");
        ensure!(line["error"].is_null(), "the record says that there was an error");
        let reason = line["reason"].as_str().unwrap();
        let is_reason = |decision: &Decision| match decision {
            Decision::Fork { set, is_parents, .. } if set.contains(&id) => {
                reason == if *is_parents { "parent_fork" } else { "fork" }
            }
            Decision::Fork { baseline: Some(set), .. } if set.contains(&id) => {
                reason == "fork_down" && self.may_be_down(decision)
            }
            Decision::Baseline { set, reason: wanted } => set.contains(&id) && reason == *wanted,
            Decision::Fork { .. } | Decision::Error(_) => false,
        };
        ensure!(
            self.decisions.iter().any(is_reason),
            "{name} answered because of {reason}; allowed: {:?}",
            self.decisions
        );
        ensure!(whole || self.may_die(id), "half a body of {name}, which sent all of it");
        Ok(())
    }

    /// The proxy answered by itself.
    fn failed(&self, code: &str, status: u64) -> Result<(), String> {
        let must = self.decisions.iter().find_map(|decision| self.must_succeed(decision));
        if let (Some(name), [_]) = (must, &*self.decisions) {
            return Err(format!(
                "{code}, though {name} was there all the time; allowed: {:?}",
                self.decisions
            ));
        }
        let took = self.outcome.ended.at - self.outcome.begun.at;
        let is_strict = self.outcome.request.is_strict;
        let any = |decision: &Decision, is_meant: &dyn Fn(Manner) -> bool| {
            self.targets(decision)
                .flatten()
                .any(|id| self.manners(*id).iter().any(|manner| is_meant(*manner)))
        };
        let allows = |decision: &Decision| match (decision, code) {
            (Decision::Error(wanted), _) => code == *wanted,
            (Decision::Fork { on_down, .. }, "fork_unavailable") => {
                (*on_down != OnDown::Baseline || is_strict)
                    && self.may_be_down(decision)
                    && (*on_down != OnDown::Hold || took >= HOLD || self.may_be_full())
            }
            (Decision::Fork { on_down: OnDown::Baseline, baseline: None, .. }, "no_route") => {
                !is_strict && self.may_be_down(decision)
            }
            (_, "upstream_unavailable") if status == 503 => {
                let is_down = |set: &Vec<usize>| set.iter().all(|id| self.is_down(*id));
                let has_baseline =
                    !matches!(decision, Decision::Fork { .. }) || self.targets(decision).count() == 2;
                has_baseline && self.targets(decision).all(is_down)
            }
            (_, "upstream_unavailable") => {
                any(decision, &|manner| manner.is_breaking() || manner == Manner::Dies)
                    || self.targets(decision).flatten().any(|id| self.was_cut(*id))
            }
            (_, "upstream_timeout") => {
                took >= RESPONSE
                    && any(decision, &|manner| {
                        matches!(manner, Manner::Hangs | Manner::Late(_) | Manner::Swallows)
                    })
            }
            // Noise in place of HTTP/2 may pass for the end of the connection.
            (_, "upstream_protocol") => any(decision, &|manner| manner == Manner::Babbles),
            _ => false,
        };
        ensure!(self.decisions.iter().any(allows), "{code} after {took:?}; allowed: {:?}", self.decisions);
        Ok(())
    }

    /// The upstream that answers in any case, and nothing else can be the answer.
    fn must_succeed(&self, decision: &Decision) -> Option<String> {
        let set = match decision {
            Decision::Fork { set, .. } | Decision::Baseline { set, .. } => set,
            Decision::Error(_) => return None,
        };
        let is_kind = |id: usize, is_kind: &dyn Fn(Manner) -> bool| {
            !self.was_cut(id) && self.manners(id).iter().all(|manner| is_kind(*manner))
        };
        let harmless =
            set.iter().all(|id| is_kind(*id, &|manner| manner.is_good() || manner == Manner::Refuses));
        let sure = set.iter().find(|id| is_kind(**id, &Manner::is_good));
        sure.filter(|_| harmless).map(|id| self.upstream(*id).name())
    }

    /// A request that is held goes on as soon as its fork is there, wherever that is declared by then.
    fn went_on(&self) -> Result<(), String> {
        let (Some(Decision::Fork { on_down: OnDown::Hold, .. }), Some(last)) =
            (self.decisions.first(), self.decisions.last())
        else {
            return Ok(());
        };
        // Those that keep an attempt waiting keep it from looking; over HTTP/2 it may be another's, which began before.
        let is_quick = |manner: Manner| manner.is_good() || manner == Manner::Refuses;
        let waited_for = self.outcome.begun.at.saturating_sub(LONGEST_CONNECT);
        let was_quick =
            |id: &usize| self.upstream(*id).manners_since(waited_for, self.ended()).into_iter().all(is_quick);
        let decisions = self.before.iter().chain(&self.decisions);
        if !decisions.flat_map(|decision| self.targets(decision)).flatten().all(was_quick) {
            return Ok(());
        }
        let up = match last {
            Decision::Fork { set, .. } | Decision::Baseline { set, .. } => {
                set.iter().filter_map(|id| self.upstream(*id).good_since(self.ended())).min()
            }
            Decision::Error(_) => Some(self.since),
        };
        let ended = self.outcome.ended.at;
        let is_late = |up: &Duration| ended.saturating_sub((*up).max(self.since)) > SEEN;
        ensure!(
            !up.is_some_and(|up| is_late(&up)),
            "held until {ended:?}, though {last:?} was there since {up:?}"
        );
        Ok(())
    }

    /// Whether each endpoint of a fork may have been down, or there is none.
    fn may_be_down(&self, decision: &Decision) -> bool {
        matches!(decision, Decision::Fork { set, .. } if set.iter().all(|id| self.is_down(*id)))
    }

    /// Whether others may have taken all places of those that are held.
    fn may_be_full(&self) -> bool {
        let outcomes = self.world.outcomes.borrow();
        let beside = outcomes
            .iter()
            .filter(|other| other.begun.step <= self.ended() && other.ended.step >= self.begun());
        let keyed = beside.filter(|other| !other.request.keys.is_empty()).count();
        keyed > self.world.limits.hold_requests || self.world.limits.hold_bytes < 10_000
    }

    fn upstream(&self, id: usize) -> &Upstream {
        &self.world.upstreams[id]
    }

    fn begun(&self) -> usize {
        self.outcome.begun.step
    }

    fn ended(&self) -> usize {
        self.outcome.ended.step
    }

    fn manners(&self, id: usize) -> Vec<Manner> {
        self.upstream(id).manners(self.begun(), self.ended())
    }

    fn is_down(&self, id: usize) -> bool {
        self.manners(id).into_iter().any(|manner| self.upstream(id).is_down_when(manner))
    }

    /// Whether its answer may break off.
    fn may_die(&self, id: usize) -> bool {
        let breaks_off = |manner| matches!(manner, Manner::Dies | Manner::Stalls);
        self.manners(id).into_iter().any(breaks_off) || self.was_cut(id)
    }

    fn was_cut(&self, id: usize) -> bool {
        self.upstream(id).was_cut(self.begun(), self.ended())
    }
}
