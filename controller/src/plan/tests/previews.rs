//! `Preview` objects: their forks, conflicts, names and status.

use super::super::ForkState;
use super::cluster::{Cluster, NOW, at, labels, listed, spec};
use crate::names::{KEEP, REPOSITORY};
use crate::preview::{ForkSpec, Phase, PreviewSpec, PreviewStatus};
use crate::world::Name;
use sidetrack_config::stream::OnForkDown;

fn status(plan: &super::Plan, name: &str) -> PreviewStatus {
    plan.previews[&Name::new("shop", name)].clone()
}

fn condition(status: &PreviewStatus, type_: &str) -> (String, String, String) {
    let found = status.conditions.iter().find(|condition| condition.type_ == type_);
    let found = found.unwrap_or_else(|| panic!("no {type_} in {:?}", status.conditions));
    (found.status.clone(), found.reason.clone(), found.message.clone())
}

#[test]
fn a_preview_and_the_labelled_fork_that_it_means_are_one() {
    let mut cluster = Cluster::shop();
    cluster.preview("shop", "mine", 5, spec("42", vec![listed("checkout")]));
    let plan = cluster.plan();
    assert_eq!(plan.endpoints("42", "checkout.shop"), Some(&[][..]), "declared, and not deployed yet");
    assert_eq!(status(&plan, "mine").phase, Some(Phase::Pending));
    cluster.fork("shop", "42", "checkout", 10);
    cluster.ingress("shop", "preview.example.com", "checkout");
    let plan = cluster.plan();
    assert_eq!(plan.endpoints("42", "checkout.shop").unwrap().len(), 1);
    assert_eq!(plan.states(), [("checkout-42".to_owned(), ForkState::Routed)]);
    let status = status(&plan, "mine");
    assert_eq!(status.phase, Some(Phase::Ready));
    assert_eq!(status.ready.as_deref(), Some("1/1"));
    assert_eq!(status.url.as_deref(), Some("https://pr-42.preview.example.com"));
    assert_eq!(status.observed_generation, Some(1));
    let (is_true, reason, _) = condition(&status, "Fork-checkout");
    assert_eq!((&*is_true, &*reason), ("True", "Routed"));
    assert_eq!(condition(&status, "Ready").0, "True");
    assert_eq!(condition(&status, "Accepted").0, "True");
}

#[test]
fn a_condition_keeps_its_time_until_its_status_changes() {
    let mut cluster = Cluster::shop();
    cluster.preview("shop", "mine", 5, spec("42", vec![listed("checkout")]));
    let plan = cluster.plan();
    cluster.apply(&plan);
    assert_eq!(status(&cluster.plan_at(NOW + 60), "mine"), status(&plan, "mine"));
    cluster.fork("shop", "42", "checkout", 10);
    let later = status(&cluster.plan_at(NOW + 60), "mine");
    let time = |type_: &str| later.conditions.iter().find(|c| c.type_ == type_).unwrap().last_transition_time;
    assert_eq!(time("Fork-checkout"), at(NOW + 60));
    assert_eq!(time("Accepted"), at(NOW));
}

#[test]
fn the_spec_says_the_terms() {
    let mut cluster = Cluster::shop();
    let spec = PreviewSpec {
        ttl: Some("1d".into()),
        parents: vec!["7".into(), "pr-42".into()],
        aliases: vec!["demo".into()],
        hosts: vec!["uat.example.com".into()],
        on_fork_down: crate::preview::OnForkDown::Baseline,
        ..spec("42", Vec::new())
    };
    cluster.preview("shop", "mine", NOW, spec);
    cluster.ingress("shop", "preview.example.com", "checkout");
    let plan = cluster.plan();
    let preview = plan.preview("42").unwrap();
    assert_eq!(preview.parents.len(), 1, "it is not its own parent");
    assert_eq!(preview.on_fork_down, OnForkDown::Baseline);
    assert_eq!(preview.expires, Some(at(NOW + 86_400)));
    let status = status(&plan, "mine");
    assert_eq!(status.urls, ["https://pr-42.preview.example.com", "https://uat.example.com"]);
    assert_eq!(status.phase, Some(Phase::Ready));
    assert_eq!(status.expires, Some(at(NOW + 86_400)));
}

#[test]
fn a_preview_ends() {
    let mut cluster = Cluster::shop();
    let spec = PreviewSpec { ttl: Some("2h".into()), ..spec("42", vec![listed("checkout")]) };
    cluster.preview("shop", "mine", NOW, spec);
    cluster.fork("shop", "42", "checkout", 10);
    let word = |plan: &super::Plan| condition(&status(plan, "mine"), "Expiring").1;
    assert_eq!(word(&cluster.plan()), "NotYet");
    assert_eq!(word(&cluster.plan_at(NOW + 3600)), "Expiring");
    let plan = cluster.plan_at(NOW + 7200);
    assert_eq!(word(&plan), "Expired");
    assert_eq!(status(&plan, "mine").phase, Some(Phase::Expired));
    assert_eq!(status(&plan, "mine").urls, [""; 0]);
    assert!(plan.preview("42").is_none() && plan.items.contains_key("gone/42"));
    cluster.edit_preview("shop", "mine").meta.labels = labels([(KEEP, "true")]);
    let plan = cluster.plan_at(NOW + 7200);
    assert!(plan.preview("42").is_some() && !plan.items.contains_key("gone/42"));
    assert_eq!(status(&plan, "mine").expires, None);
}

#[test]
fn of_two_previews_with_one_key_the_older_stays() {
    let mut cluster = Cluster::shop();
    cluster.baseline("shop", "cart");
    cluster.preview("shop", "a-new", 20, spec("42", vec![listed("cart")]));
    cluster.preview("shop", "b-old", 10, spec("PR-42", vec![listed("checkout")]));
    let plan = cluster.plan();
    let forks: Vec<_> = plan.preview("42").unwrap().forks.keys().collect();
    assert_eq!(forks, [&Box::<str>::from("checkout.shop")]);
    let new = status(&plan, "a-new");
    assert_eq!(new.phase, Some(Phase::Degraded));
    assert_eq!(condition(&new, "Accepted").1, "Conflict");
    assert_eq!(condition(&new, "Fork-cart").1, "Conflict");
    assert_eq!(condition(&status(&plan, "b-old"), "Accepted").1, "Accepted");
    // One that has ended claims nothing.
    cluster.edit_preview("shop", "b-old").spec.ttl = Some("1s".into());
    let plan = cluster.plan();
    let forks: Vec<_> = plan.preview("42").unwrap().forks.keys().collect();
    assert_eq!(forks, [&Box::<str>::from("cart.shop")]);
    assert_eq!(status(&plan, "b-old").phase, Some(Phase::Expired));
}

#[test]
fn a_preview_of_another_repository_conflicts_unless_it_lists_the_fork() {
    let mut cluster = Cluster::shop();
    cluster.baseline("shop", "cart");
    let mine = PreviewSpec { repository: Some("mine".into()), ..spec("42", vec![listed("cart")]) };
    cluster.preview("shop", "mine", 20, mine);
    cluster.fork("shop", "42", "cart", 30).meta.annotations = labels([(REPOSITORY, "mine")]);
    cluster.fork("shop", "42", "checkout", 10).meta.annotations = labels([(REPOSITORY, "theirs")]);
    let plan = cluster.plan();
    assert_eq!(
        plan.states(),
        [("checkout-42".to_owned(), ForkState::Routed), ("cart-42".to_owned(), ForkState::Conflict)]
    );
    assert_eq!(condition(&status(&plan, "mine"), "Accepted").1, "Conflict");
    cluster.edit_preview("shop", "mine").spec.forks.push(listed("checkout"));
    let plan = cluster.plan();
    assert!(plan.forks.iter().all(|fork| fork.state == ForkState::Routed), "{:?}", plan.forks);
    assert_eq!(status(&plan, "mine").ready.as_deref(), Some("2/2"));
}

#[test]
fn endpoints_from_a_service() {
    let mut cluster = Cluster::shop();
    let from = |name: &str| ForkSpec { endpoints_from: Some(name.into()), ..listed("checkout") };
    cluster.preview("shop", "mine", 5, spec("42", vec![from("mine")]));
    let plan = cluster.plan();
    assert_eq!(plan.endpoints("42", "checkout.shop"), Some(&[][..]));
    assert!(condition(&status(&plan, "mine"), "Fork-checkout").2.contains("there is no Service shop/mine"));
    cluster.service("shop", "mine", labels([("app", "mine")]));
    cluster.pod("shop", "mine", 5, labels([("app", "mine")]), None);
    assert_eq!(cluster.plan().endpoints("42", "checkout.shop").unwrap().len(), 1);
    // Not a pod of another key, and not the baseline.
    cluster.pod("shop", "other", 5, labels([("app", "mine"), (crate::names::PR, "57")]), None);
    assert_eq!(cluster.plan().endpoints("42", "checkout.shop").unwrap().len(), 1);
    cluster.edit_preview("shop", "mine").spec.forks = vec![from("checkout")];
    let plan = cluster.plan();
    assert_eq!(plan.endpoints("42", "checkout.shop"), Some(&[][..]));
    assert_eq!(condition(&status(&plan, "mine"), "Fork-checkout").1, "Invalid");
}

#[test]
fn the_older_preview_keeps_a_name() {
    let mut cluster = Cluster::shop();
    let named = |key: &str, aliases: &[&str], hosts: &[&str]| PreviewSpec {
        aliases: aliases.iter().map(ToString::to_string).collect(),
        hosts: hosts.iter().map(ToString::to_string).collect(),
        ..spec(key, Vec::new())
    };
    cluster.preview("shop", "old", 10, named("42", &["demo", "57"], &["uat.example.com"]));
    let hosts = ["uat.example.com", "demo.preview.example.com", "own.example.com"];
    cluster.preview("shop", "new", 20, named("57", &["demo", "mine"], &hosts));
    let plan = cluster.plan();
    let (old, new) = (plan.preview("42").unwrap(), plan.preview("57").unwrap());
    assert_eq!(old.aliases.len(), 1, "a key is stronger than an alias");
    assert_eq!(old.hosts.len(), 1);
    assert_eq!(new.aliases.iter().map(|alias| alias.as_str()).collect::<Vec<_>>(), ["mine"]);
    assert_eq!(new.hosts, [Box::from("own.example.com")]);
    let (_, reason, message) = condition(&status(&plan, "new"), "Accepted");
    assert_eq!(reason, "InvalidSetting");
    assert!(message.contains("alias `demo` belongs to preview `42`, which is older"), "{message}");
    assert_eq!(status(&plan, "new").phase, Some(Phase::Ready), "it loses the name and nothing else");
}

#[test]
fn what_is_no_key_is_said() {
    let mut cluster = Cluster::shop();
    cluster.preview("shop", "mine", 5, spec("4_2", vec![listed("checkout")]));
    let plan = cluster.plan();
    assert_eq!(condition(&status(&plan, "mine"), "Accepted").1, "InvalidKey");
    assert_eq!(status(&plan, "mine").phase, Some(Phase::Degraded));
    assert_eq!(plan.notices_of("InvalidKey").len(), 1);
}

#[test]
fn a_preview_that_may_not_fork_a_service_fails_there() {
    let mut cluster = Cluster::shop();
    cluster.baseline("other", "cart");
    let cart = ForkSpec { namespace: Some("other".into()), ..listed("cart") };
    cluster.preview("shop", "mine", 5, spec("42", vec![listed("checkout"), cart]));
    let plan = cluster.plan();
    assert!(plan.states().contains(&("mine".to_owned(), ForkState::NotAllowed)), "{:?}", plan.states());
    assert_eq!(plan.endpoints("42", "cart.other"), Some(&[][..]), "a test must not pass on the baseline");
    assert_eq!(status(&plan, "mine").phase, Some(Phase::Degraded));
}

#[test]
fn a_preview_that_is_deleted_is_gone() {
    let mut cluster = Cluster::shop();
    cluster.preview("shop", "mine", 5, spec("42", Vec::new()));
    let plan = cluster.plan();
    cluster.apply(&plan);
    cluster.edit_preview("shop", "mine").meta.deleting = true;
    let plan = cluster.plan();
    assert!(plan.items.contains_key("gone/42") && plan.preview("42").is_none());
    assert!(plan.previews.is_empty());
}
