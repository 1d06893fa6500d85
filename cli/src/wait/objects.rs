//! `Preview` objects, read through the kubeconfig or as the pod that this runs in.

use anyhow::Context;
use serde_json::{Value, json};
use sidetrack_config::Key;
use sidetrack_controller::lookup::{Found, Lookup};
use sidetrack_controller::preview::Phase;

use super::{Goal, Standing};

/// The objects of a cluster.
pub(super) struct Objects(Lookup);

impl Objects {
    /// Finds the cluster.
    pub(super) async fn connect() -> anyhow::Result<Self> {
        let lookup = Lookup::connect().await.context(
            "there is no kubeconfig to read Preview objects through; name one in KUBECONFIG, or the controller with \
             --controller https://HOST:PORT",
        )?;
        Ok(Self(lookup))
    }

    /// Where the objects of a key stand.
    pub(super) async fn standing(&self, key: Key, goal: Goal) -> anyhow::Result<Standing> {
        let found = self.0.find(key).await;
        let found = found
            .context("the Preview objects can't be read; --controller URL asks the controller itself")?;
        Ok(judged(key, goal, &found))
    }
}

fn judged(key: Key, goal: Goal, found: &[Found]) -> Standing {
    let mut reasons = Vec::new();
    match (goal, found.is_empty()) {
        (Goal::Ready, true) => reasons.push(format!(
            "no Preview object has the key {key}; one that only labelled forks have is seen with --controller URL"
        )),
        (Goal::Ready, false) => reasons.extend(found.iter().flat_map(missing)),
        (Goal::Deleted, _) => {
            reasons.extend(found.iter().map(|found| format!("the Preview {} is still there", found.name)));
        }
    }
    Standing { reached: reasons.is_empty(), reasons, document: document(key, found) }
}

fn missing(found: &Found) -> Vec<String> {
    let Found { name, generation, status } = found;
    if status.observed_generation != *generation {
        return vec![format!(
            "the controller has not looked at generation {} of {name} yet",
            generation.unwrap_or(0)
        )];
    }
    let phase = status.phase;
    let mut reasons = Vec::new();
    if phase != Some(Phase::Ready) {
        let failed = status
            .conditions
            .iter()
            .filter(|condition| condition.status != "True" && condition.type_ != "Expiring");
        reasons.extend(failed.map(|c| format!("{name}: {}: {}: {}", c.type_, c.reason, c.message)));
        if reasons.is_empty() {
            reasons.push(
                phase.map_or_else(
                    || format!("{name} has no phase yet"),
                    |phase| format!("{name} is {phase:?}"),
                ),
            );
        }
    } else if status.acknowledged_generation.is_none() {
        reasons.push(format!("{name}: some gateway has not acknowledged it; --controller URL says which"));
    }
    reasons
}

fn document(key: Key, found: &[Found]) -> Value {
    let previews: Vec<Value> = found
        .iter()
        .map(|found| json!({"name": found.name, "generation": found.generation, "status": found.status}))
        .collect();
    let url = found.iter().find_map(|found| found.status.url.as_deref());
    json!({"key": key.as_str(), "url": url, "previews": previews})
}

#[cfg(test)]
mod tests {
    use sidetrack_controller::preview::{Condition, PreviewStatus};

    use super::*;

    fn found(status: PreviewStatus) -> Found {
        Found { name: "shop/pr-42".to_owned(), generation: Some(3), status }
    }

    fn reached(goal: Goal, found: &[Found]) -> bool {
        judged(Key::bare("42").unwrap(), goal, found).reached
    }

    #[test]
    fn ready_is_observed_ready_and_acknowledged() {
        let good = PreviewStatus {
            phase: Some(Phase::Ready),
            observed_generation: Some(3),
            acknowledged_generation: Some(17),
            ..PreviewStatus::default()
        };
        assert!(reached(Goal::Ready, &[found(good.clone())]));
        for bad in [
            PreviewStatus { observed_generation: Some(2), ..good.clone() },
            PreviewStatus { acknowledged_generation: None, ..good.clone() },
            PreviewStatus { phase: Some(Phase::Degraded), ..good.clone() },
            PreviewStatus::default(),
        ] {
            assert!(!reached(Goal::Ready, &[found(good.clone()), found(bad)]));
        }
        assert!(!reached(Goal::Ready, &[]));
        assert!(reached(Goal::Deleted, &[]));
        assert!(!reached(Goal::Deleted, &[found(good)]));
    }

    #[test]
    fn the_condition_of_the_fork_is_told() {
        let condition = Condition {
            type_: "Fork-checkout".to_owned(),
            status: "False".to_owned(),
            reason: "NotReady".to_owned(),
            message: "no endpoint is ready".to_owned(),
            ..Condition::default()
        };
        let status = PreviewStatus {
            phase: Some(Phase::Pending),
            observed_generation: Some(3),
            conditions: vec![condition],
            ..PreviewStatus::default()
        };
        let standing = judged(Key::bare("42").unwrap(), Goal::Ready, &[found(status)]);
        assert_eq!(standing.reasons, ["shop/pr-42: Fork-checkout: NotReady: no endpoint is ready"]);
    }
}
