//! Whether all proxies have a preview in force: pure.

use std::collections::BTreeMap;

use sidetrack_config::Key;

use super::{Local, Proxies, Refusal, Unreachable};
use crate::publish::Need;
use crate::publish::acks::Node;

/// What one proxy has to do with one preview.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Acknowledged,
    Waiting,
    Rejected(Box<str>),
}

/// Puts together what the replicas say. A proxy that has a stream at one replica is judged there, whatever another one
/// remembers of it; at two, for a moment, by the worse. One that left and had it in force still routes by it.
pub(super) fn judge(key: &Key, own: &Local, others: &[Result<Local, Unreachable>]) -> Proxies {
    let absent = |local: &Local| Need { version: local.generation, hash: None };
    let need = |local: &Local| local.needs.get(key).cloned().unwrap_or_else(|| absent(local));
    let wanted = need(own).hash;
    let mut proxies = Proxies::default();
    let mut nodes: BTreeMap<&str, (bool, State)> = BTreeMap::new();
    let replicas = others.iter().filter_map(|other| match other {
        // One of the addresses is our own.
        Ok(local) if local.epoch == own.epoch => None,
        Ok(local) => Some(local),
        Err(unreachable) => {
            proxies.unreachable.push(unreachable.clone());
            None
        }
    });
    for replica in std::iter::once(own).chain(replicas) {
        proxies.settling |= replica.settling;
        let need = need(replica);
        for node in &replica.nodes {
            let state = state(node, &need, need.hash == wanted);
            let known = nodes.entry(&node.node).or_insert_with(|| (node.connected, state.clone()));
            match (known.0, node.connected) {
                (true, false) => {}
                (false, true) => *known = (true, state),
                _ => known.1 = state.max(known.1.clone()),
            }
        }
    }
    for (node, (connected, state)) in nodes {
        proxies.connected += usize::from(connected);
        match state {
            State::Acknowledged => proxies.acknowledged += usize::from(connected),
            State::Waiting => proxies.waiting.push(node.into()),
            State::Rejected(error) => proxies.rejected.push(Refusal { node: node.into(), error }),
        }
    }
    proxies
}

/// Which of these pods do not have in force what `need` says, over all replicas; `None`: there is nothing to have here.
/// Only what they have said counts, wherever they said it.
pub(super) fn late<'p>(
    own: &Local,
    others: &[&Local],
    pods: &'p [Box<str>],
    need: impl Fn(&Local) -> Option<&Need>,
) -> Option<Vec<&'p str>> {
    let wanted = need(own)?;
    let has = |pod: &str| {
        let others = others.iter().copied().filter(|other| other.epoch != own.epoch);
        let said = std::iter::once(own).chain(others).filter_map(|replica| {
            let node = replica.nodes.iter().find(|node| &*node.node == pod)?;
            let need = need(replica);
            let same = need.is_some_and(|need| need.hash == wanted.hash);
            Some((node.connected, state(node, need.unwrap_or(wanted), same) == State::Acknowledged))
        });
        // Where it has a stream is where it is judged; at two, for a moment, by the worse.
        let (connected, left): (Vec<_>, Vec<_>) = said.partition(|(connected, _)| *connected);
        let counted = if connected.is_empty() { left } else { connected };
        !counted.is_empty() && counted.iter().all(|(_, has)| *has)
    };
    Some(pods.iter().map(|pod| &**pod).filter(|pod| !has(pod)).collect())
}

fn state(node: &Node, need: &Need, same_items: bool) -> State {
    let refused = node.rejected.as_ref().filter(|rejected| rejected.version >= need.version);
    match refused {
        _ if same_items && node.acked.is_some_and(|acked| acked >= need.version) => State::Acknowledged,
        Some(rejected) => State::Rejected(rejected.error.clone()),
        None => State::Waiting,
    }
}

impl Proxies {
    /// Whether every proxy has it in force, and there is one.
    pub fn all_acknowledged(&self) -> bool {
        self.reasons().is_empty()
    }

    /// What is missing for that, for a person.
    pub(super) fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.connected == 0 {
            reasons.push("no gateway is connected to the controller".to_owned());
        }
        if self.settling {
            reasons
                .push("the controller has just started: gateways may be on their way back to it".to_owned());
        }
        reasons.extend(self.waiting.iter().map(|node| format!("gateway {node} has not acknowledged it")));
        let waypoints = self.waypoints.iter();
        reasons.extend(waypoints.map(|waypoint| format!("waypoint {waypoint} has not acknowledged it")));
        reasons.extend(self.rejected.iter().map(|r| format!("gateway {} refused it: {}", r.node, r.error)));
        let unreachable = self.unreachable.iter();
        reasons.extend(
            unreachable.map(|u| format!("controller replica {} does not answer: {}", u.replica, u.error)),
        );
        reasons
    }
}

#[cfg(test)]
mod tests {
    use sidetrack_config::stream::TableHash;

    use super::*;
    use crate::publish::acks::Rejected;

    fn key() -> Key {
        Key::bare("42").unwrap()
    }

    fn node(name: &str, connected: bool, acked: u64) -> Node {
        Node { node: name.into(), connected, acked: Some(acked), rejected: None }
    }

    /// A replica whose items are those of `of`, changed in version 10.
    fn replica(epoch: &str, of: Option<&str>, nodes: Vec<Node>) -> Local {
        let needs = of.map(|of| {
            let mut hash = TableHash::default();
            hash.add("preview/42", of);
            (key(), Need { version: 10, hash: Some(hash) })
        });
        Local {
            epoch: epoch.into(),
            generation: 20,
            nodes,
            settling: false,
            needs: needs.into_iter().collect(),
            ports: BTreeMap::new(),
            waypoints: BTreeMap::new(),
        }
    }

    /// The only gateway that a restarted controller has heard of yet had it; another one was on its way.
    #[test]
    fn the_first_that_comes_back_does_not_speak_for_all() {
        let own = Local { settling: true, ..replica("a", Some("new"), vec![node("x", true, 10)]) };
        assert!(!judge(&key(), &own, &[]).all_acknowledged());
        let own = replica("a", Some("new"), vec![node("x", true, 10)]);
        let other = Local { settling: true, ..replica("b", Some("new"), vec![]) };
        assert!(!judge(&key(), &own, &[Ok(other)]).all_acknowledged());
        assert!(judge(&key(), &own, &[]).all_acknowledged());
    }

    #[test]
    fn all_proxies_must_have_it_and_there_must_be_one() {
        let own = replica("a", Some("new"), vec![]);
        assert!(!judge(&key(), &own, &[]).all_acknowledged());
        let own = replica("a", Some("new"), vec![node("x", true, 10), node("y", true, 9)]);
        let judged = judge(&key(), &own, &[]);
        assert_eq!((judged.connected, judged.acknowledged, judged.waiting.len()), (2, 1, 1));
        let own = replica("a", Some("new"), vec![node("x", true, 10), node("y", true, 11)]);
        assert!(judge(&key(), &own, &[]).all_acknowledged());
    }

    #[test]
    fn a_replica_with_other_items_has_acknowledged_nothing() {
        let own = replica("a", Some("new"), vec![node("x", true, 10)]);
        for of in [Some("old"), None] {
            let other = replica("b", of, vec![node("y", true, 99)]);
            let judged = judge(&key(), &own, &[Ok(other)]);
            assert_eq!(judged.waiting, ["y".into()]);
        }
        let other = replica("b", Some("new"), vec![node("y", true, 99)]);
        assert!(judge(&key(), &own, &[Ok(other)]).all_acknowledged());
    }

    #[test]
    fn one_that_left_counts_unless_it_is_elsewhere() {
        let own = replica("a", Some("new"), vec![node("x", true, 10), node("y", false, 9)]);
        assert_eq!(judge(&key(), &own, &[]).waiting, ["y".into()]);
        let other = replica("b", Some("new"), vec![node("y", true, 10)]);
        assert!(judge(&key(), &own, &[Ok(other)]).all_acknowledged());
        let other = replica("b", Some("new"), vec![node("y", true, 3)]);
        assert_eq!(judge(&key(), &own, &[Ok(other)]).waiting, ["y".into()]);
    }

    #[test]
    fn ourselves_among_the_peers_are_not_asked_twice_and_silence_is_not_consent() {
        let own = replica("a", Some("new"), vec![node("x", true, 10)]);
        let again = replica("a", Some("old"), vec![node("x", true, 3)]);
        assert!(judge(&key(), &own, &[Ok(again)]).all_acknowledged());
        let silent = Unreachable { replica: "10.0.0.2:8443".into(), error: "refused".into() };
        let judged = judge(&key(), &own, &[Err(silent)]);
        assert!(!judged.all_acknowledged());
        assert_eq!(judged.reasons(), ["controller replica 10.0.0.2:8443 does not answer: refused"]);
    }

    #[test]
    fn a_refusal_is_told() {
        let mut refusing = node("x", true, 9);
        refusing.rejected = Some(Rejected { version: 10, error: "bad".into() });
        let judged = judge(&key(), &replica("a", Some("new"), vec![refusing.clone()]), &[]);
        assert_eq!(judged.reasons(), ["gateway x refused it: bad"]);
        refusing.acked = Some(12);
        let later = Rejected { version: 13, error: "about another item".into() };
        refusing.rejected = Some(later);
        assert!(judge(&key(), &replica("a", Some("new"), vec![refusing]), &[]).all_acknowledged());
    }

    #[test]
    fn what_is_gone_must_be_gone_everywhere() {
        let own = replica("a", None, vec![node("x", true, 20)]);
        assert!(judge(&key(), &own, &[]).all_acknowledged());
        let behind = replica("b", Some("old"), vec![node("y", true, 20)]);
        assert!(!judge(&key(), &own, &[Ok(behind)]).all_acknowledged());
        let own = replica("a", None, vec![node("x", true, 19)]);
        assert!(!judge(&key(), &own, &[]).all_acknowledged());
    }
}
