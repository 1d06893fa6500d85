//! What a plan wants written.

use std::sync::Arc;

use super::*;
use crate::preview::PreviewSpec;
use crate::world::{Meta, Preview};

fn world(status: Option<PreviewStatus>) -> World {
    let meta = Meta { uid: "u1".into(), ..Meta::default() };
    let spec = PreviewSpec { key: "42".into(), ..PreviewSpec::default() };
    let preview = Preview { meta, spec, status };
    World { previews: BTreeMap::from([(Name::new("shop", "pr-42"), Arc::new(preview))]), ..World::default() }
}

fn plan(status: &PreviewStatus) -> Plan {
    let previews = BTreeMap::from([(Name::new("shop", "pr-42"), status.clone())]);
    Plan { previews, ..Plan::default() }
}

fn statuses(writes: &[Write]) -> Vec<Value> {
    let status =
        |write: &Write| if let Write::Preview { status, .. } = write { Some(status.clone()) } else { None };
    writes.iter().filter_map(status).collect()
}

#[test]
fn a_status_that_is_there_is_not_written() {
    let status = PreviewStatus { phase: Some(Phase::Ready), ..PreviewStatus::default() };
    let none = BTreeMap::new();
    assert!(
        statuses(&wants(&plan(&status), Vec::new(), &world(Some(status.clone())), &none, &|_| None))
            .is_empty()
    );
    assert_eq!(statuses(&wants(&plan(&status), Vec::new(), &world(None), &none, &|_| None)).len(), 1);
}

#[test]
fn what_is_acknowledged_stays_until_a_new_leader_knows_better() {
    let known = PreviewStatus { acknowledged_generation: Some(17), ..PreviewStatus::default() };
    let (plan, world, none) = (plan(&PreviewStatus::default()), world(Some(known)), BTreeMap::new());
    assert!(statuses(&wants(&plan, Vec::new(), &world, &none, &|_| None)).is_empty());
    let written = |now| statuses(&wants(&plan, Vec::new(), &world, &none, &|_| Some(now)));
    assert_eq!(written(None), [json!({"acknowledgedGeneration": null})]);
    assert_eq!(written(Some(18)), [json!({"acknowledgedGeneration": 18})]);
}

#[test]
fn what_a_status_says_no_more_is_taken_away() {
    let before =
        PreviewStatus { url: Some("https://pr-42.example.com".to_owned()), ..PreviewStatus::default() };
    let after = PreviewStatus { phase: Some(Phase::Expired), ..PreviewStatus::default() };
    let writes = wants(&plan(&after), Vec::new(), &world(Some(before)), &BTreeMap::new(), &|_| None);
    assert_eq!(statuses(&writes)[0], json!({"phase": "Expired", "url": null}));
}

#[test]
fn a_refused_clone_is_told_in_the_status_for_as_long_as_it_is_wanted() {
    let ready = PreviewStatus { phase: Some(Phase::Ready), ..PreviewStatus::default() };
    let name = Name::new("shop", "pr-42");
    let refused = Refused { since: Timestamp::from_second(7).unwrap(), message: "quota is spent".into() };
    let refused = BTreeMap::from([(name.clone(), refused)]);
    let mut plan = plan(&ready);
    let writes = wants(&plan, Vec::new(), &world(Some(ready.clone())), &refused, &|_| None);
    assert!(statuses(&writes).is_empty(), "the clone is not wanted any more");
    plan.clones.push(CloneWrite { preview: name, manifest: json!({"kind": "Deployment"}) });
    let writes = wants(&plan, Vec::new(), &world(Some(ready)), &refused, &|_| None);
    let status = &statuses(&writes)[0];
    assert_eq!(status["phase"], "Degraded");
    assert_eq!(status["conditions"][0]["reason"], "WriteRefused");
    assert_eq!(status["conditions"][0]["message"], "quota is spent");
}

#[test]
fn a_preview_that_is_gone_has_no_status() {
    let status = PreviewStatus::default();
    assert!(
        statuses(&wants(&plan(&status), Vec::new(), &World::default(), &BTreeMap::new(), &|_| None))
            .is_empty()
    );
}
