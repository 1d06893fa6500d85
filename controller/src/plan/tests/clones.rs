//! Clones.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;

use super::super::{ForkState, Plan, clone_sources};
use super::cluster::{Cluster, NOW, cloned, labels, spec};
use crate::names::{CLONE_WORKER, PREVIEW_UID};
use crate::preview::{CloneSpec, Phase, PreviewSpec};
use crate::world::{Name, WorkloadKind};

fn image(image: &str) -> CloneSpec {
    CloneSpec { image: Some(image.into()), ..CloneSpec::default() }
}

fn shop(clone: CloneSpec) -> Cluster {
    let mut cluster = Cluster::shop();
    cluster.preview("shop", "mine", NOW, spec("42", vec![cloned("checkout", clone)]));
    cluster
}

fn refusal(plan: &Plan) -> (ForkState, &str) {
    assert_eq!(plan.clones, []);
    let [fork] = &plan.forks[..] else { panic!("{:?}", plan.forks) };
    (fork.state, &fork.message)
}

#[test]
fn a_clone_is_made_routed_kept_and_taken_away() {
    let mut cluster = shop(image("app:2"));
    assert_eq!(clone_sources(&cluster.world), BTreeSet::from([Name::new("shop", "checkout")]));
    let plan = cluster.plan();
    let [clone] = &plan.clones[..] else { panic!("{:?}", plan.forks) };
    assert_eq!(clone.manifest["metadata"]["name"], "checkout-pr-42");
    assert_eq!(plan.endpoints("42", "checkout.shop"), Some(&[][..]));
    cluster.apply(&plan);
    let sources = [Name::new("shop", "checkout"), Name::new("shop", "checkout-pr-42")];
    assert_eq!(clone_sources(&cluster.world), BTreeSet::from(sources));
    let plan = cluster.plan();
    assert_eq!((&plan.clones[..], &plan.deletions[..]), (&[][..], &[][..]));
    assert_eq!(plan.endpoints("42", "checkout.shop").unwrap().len(), 1);
    // Somebody changes it; it is brought back in step.
    let mut changed = cluster.clone();
    changed.edit_deployment("shop", "checkout-pr-42").replicas = 0;
    assert_eq!(changed.plan().clones.len(), 1);
    let mut changed = cluster.clone();
    let mut manifest =
        (**changed.edit_deployment("shop", "checkout-pr-42").manifest.as_ref().unwrap()).clone();
    manifest["spec"]["template"]["spec"]["containers"][0]["image"] = json!("app:evil");
    changed.edit_deployment("shop", "checkout-pr-42").manifest = Some(Arc::new(manifest));
    assert_eq!(changed.plan().clones.len(), 1);
    // The Preview asks for another image, or the baseline changes.
    let mut changed = cluster.clone();
    changed.edit_preview("shop", "mine").spec.forks = vec![cloned("checkout", image("app:3"))];
    assert_eq!(changed.plan().clones.len(), 1);
    // Until its new pods stand for it, the old ones are routed, and it is not called ready.
    let rolling = |cluster: &mut Cluster| {
        let plan = cluster.plan();
        assert_eq!(plan.endpoints("42", "checkout.shop").unwrap().len(), 1);
        let status = &plan.previews[&Name::new("shop", "mine")];
        (status.phase == Some(Phase::Ready), plan.forks[0].message.contains("is being rolled out"))
    };
    assert_eq!(rolling(&mut cluster), (true, false));
    assert_eq!(rolling(&mut changed), (false, true));
    let mut changed = cluster.clone();
    changed.edit_deployment("shop", "checkout-pr-42").updating = true;
    assert_eq!(rolling(&mut changed), (false, true));
    // It is deleted with its Preview, with its end, and when nobody asks for it: never otherwise.
    for end in ["deleting", "gone", "ttl", "fork", "key"] {
        let mut cluster = cluster.clone();
        let preview = cluster.edit_preview("shop", "mine");
        match end {
            "deleting" => preview.meta.deleting = true,
            "ttl" => preview.spec.ttl = Some("1s".into()),
            "fork" => preview.spec.forks.clear(),
            "key" => preview.spec.key = "43".into(),
            _ => cluster.world.previews.clear(),
        }
        let plan = cluster.plan_at(NOW + 1);
        let [deletion] = &plan.deletions[..] else { panic!("{end}: {:?}", plan.deletions) };
        assert_eq!(deletion.name, Name::new("shop", "checkout-pr-42"));
        assert_eq!(deletion.orphan_of.is_some(), end == "gone", "{end}");
        assert_eq!(plan.clones.len(), usize::from(end == "key"), "{end}");
    }
    // Its Service or its baseline is away for a moment: it stays.
    let mut away = cluster.clone();
    away.world.services.clear();
    assert_eq!(away.plan().deletions, []);
    let mut away = cluster.clone();
    away.world.workloads.remove(&(WorkloadKind::Deployment, Name::new("shop", "checkout")));
    assert_eq!(away.plan().deletions, []);
}

#[test]
fn nothing_else_is_ever_deleted() {
    let mut cluster = shop(image("app:2"));
    let plan = cluster.plan();
    cluster.apply(&plan);
    cluster.world.previews.clear();
    let workload = cluster.edit_deployment("shop", "checkout-pr-42");
    let ours = workload.clone();
    for change in ["uid", "hash", "owner"] {
        let workload = cluster.edit_deployment("shop", "checkout-pr-42");
        *workload = ours.clone();
        match change {
            "uid" => drop(workload.meta.labels.remove(PREVIEW_UID)),
            "hash" => workload.meta.annotations.clear(),
            _ => workload.meta.owner = Some(("Rollout".into(), "x".into())),
        }
        assert_eq!(cluster.plan().deletions, [], "{change}");
    }
    *cluster.edit_deployment("shop", "checkout-pr-42") = ours;
    assert_eq!(cluster.plan().deletions.len(), 1, "and this one is");
}

#[test]
fn the_manifest_of_a_clone() {
    let clone = CloneSpec {
        env: [("LEVEL".to_owned(), "debug".to_owned())].into(),
        args: Some(vec!["--fast".into()]),
        patch: Some(json!({
            "metadata": {"name": "evil", "labels": {"team": "a"}},
            "spec": {"template": {
                "metadata": {"labels": {"sidetrack.dev/pr": "7", "extra": "x"}},
                "spec": {"containers": [{"name": "log", "$patch": "delete"}]},
            }},
        })),
        ..image("app:2")
    };
    let plan = shop(clone).plan();
    let manifest = &plan.clones[0].manifest;
    let uid = &plan.clones[0].manifest["metadata"]["ownerReferences"][0]["uid"];
    let metadata = &manifest["metadata"];
    assert_eq!(metadata["name"], "checkout-pr-42");
    assert_eq!(metadata["namespace"], "shop");
    assert_eq!(
        metadata["labels"],
        json!({
            "sidetrack.dev/pr": "42",
            "sidetrack.dev/fork-of": "checkout",
            "sidetrack.dev/preview": "mine",
            "sidetrack.dev/preview-uid": uid,
            "team": "a",
        })
    );
    assert_eq!(metadata.get("uid"), None);
    assert_eq!(metadata.get("resourceVersion"), None);
    assert_eq!(metadata["ownerReferences"][0]["kind"], "Preview");
    assert_eq!(metadata["annotations"].as_object().unwrap().len(), 1, "the hash only");
    assert_eq!(manifest.get("status"), None);
    let spec = &manifest["spec"];
    assert_eq!(spec["replicas"], 1);
    let ours = json!({"sidetrack.dev/pr": "42", "sidetrack.dev/fork-of": "checkout", "sidetrack.dev/preview-uid": uid});
    assert_eq!(spec["selector"], json!({"matchLabels": ours}));
    let pods = &spec["template"]["metadata"]["labels"];
    assert_eq!(pods.get("app"), None, "by that the Service selects");
    assert_eq!(
        (&pods["tier"], &pods["extra"], &pods["sidetrack.dev/pr"]),
        (&json!("web"), &json!("x"), &json!("42"))
    );
    let containers = spec["template"]["spec"]["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 1);
    assert_eq!(containers[0]["image"], "app:2");
    assert_eq!(containers[0]["args"], json!(["--fast"]));
    let variables = json!([
        {"name": "LEVEL", "value": "debug"},
        {"name": "HOME_URL", "value": "x"},
        {"name": "SIDETRACK_KEY", "value": "42"},
        {"name": "SIDETRACK_SERVICE", "value": "checkout"},
    ]);
    assert_eq!(containers[0]["env"], variables);
    assert_eq!(spec["template"]["spec"]["initContainers"][0]["env"].as_array().unwrap().len(), 2);
}

#[test]
fn what_cannot_be_cloned_is_refused() {
    let with = |clone: CloneSpec| shop(clone).plan();
    let other = || CloneSpec { deployment: Some("other".into()), ..image("x") };
    let plan = with(other());
    assert_eq!(refusal(&plan), (ForkState::Invalid, "there is no Deployment shop/other"));
    let plan = with(CloneSpec { container: Some("sidecar".into()), ..image("x") });
    assert_eq!(refusal(&plan), (ForkState::Invalid, "the Deployment has no container `sidecar`"));
    let pods = json!({"spec": {"template": {"metadata": {"labels": {"app": "checkout"}}}}});
    let plan = with(CloneSpec { patch: Some(pods), ..image("x") });
    assert_eq!(refusal(&plan).0, ForkState::Leaks);
    let plan = with(CloneSpec { patch: Some(json!({"spec": null})), ..image("x") });
    assert_eq!(refusal(&plan).0, ForkState::Invalid);
    // A worker, which no Service selects.
    let mut cluster = shop(other());
    let manifest = super::cluster::manifest("other");
    cluster.deployment("shop", "other", 0, labels([("app", "other")])).manifest = Some(Arc::new(manifest));
    let plan = cluster.plan();
    assert!(refusal(&plan).1.contains("eat the shared queue"), "{:?}", plan.forks);
    cluster.edit_deployment("shop", "other").meta.annotations = labels([(CLONE_WORKER, "true")]);
    assert_eq!(cluster.plan().clones.len(), 1);
    // Somebody else's Deployment has the name.
    let mut cluster = shop(image("x"));
    cluster.deployment("shop", "checkout-pr-42", 0, labels([("app", "mine")]));
    let plan = cluster.plan();
    assert!(refusal(&plan).1.contains("is there already"), "{:?}", plan.forks);
    // Its manifest has not been read.
    let mut cluster = shop(image("x"));
    cluster.edit_deployment("shop", "checkout").manifest = None;
    let plan = cluster.plan();
    assert_eq!(refusal(&plan).0, ForkState::NotReady);
}

#[test]
fn names_are_bounded_and_differ() {
    let long = "a".repeat(60);
    let mut cluster = Cluster::shop();
    cluster.baseline("shop", &long);
    let key = "b".repeat(40);
    cluster.preview("shop", "mine", NOW, spec(&key, vec![cloned(&long, image("x"))]));
    let plan = cluster.plan();
    let name = plan.clones[0].manifest["metadata"]["name"].as_str().unwrap();
    assert!(name.len() <= 63, "{name}");
    // Two Services before one Deployment.
    let mut cluster = shop(image("x"));
    cluster.service("shop", "second", labels([("app", "checkout")]));
    cluster.edit_preview("shop", "mine").spec.forks.push(cloned("second", image("x")));
    let plan = cluster.plan();
    let names: BTreeSet<&str> =
        plan.clones.iter().map(|clone| clone.manifest["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    cluster.apply(&plan);
    let plan = cluster.plan();
    assert_eq!((&plan.clones[..], &plan.deletions[..]), (&[][..], &[][..]));
}

#[test]
fn an_expired_preview_makes_no_clone() {
    let mut cluster = Cluster::shop();
    let spec = PreviewSpec { ttl: Some("1s".into()), ..spec("42", vec![cloned("checkout", image("x"))]) };
    cluster.preview("shop", "mine", NOW - 5, spec);
    let plan = cluster.plan();
    assert_eq!(plan.clones, []);
    let at = Name::new("shop", "mine");
    assert_eq!(plan.previews[&at].ready.as_deref(), Some("0/1"));
}
