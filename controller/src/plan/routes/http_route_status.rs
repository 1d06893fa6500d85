//! What is said about an HTTPRoute to each of its parents.

use serde::Deserialize;
use serde_json::{Value, json};

use super::gateway_conditions::{Condition, Problem, Stamp};
use super::gateway_listener::GROUP;
use super::http_route_rule::Compiled;
use crate::gateway_api::ParentRef;
use crate::names::CONTROLLER;

/// The most parents that a status has room for.
const MAX_PARENTS: usize = 32;

/// Conditions of a parent that are ours.
const OWNED: [&str; 3] = ["Accepted", "ResolvedRefs", "PartiallyInvalid"];

/// What of a route is not served.
#[derive(Debug)]
pub(super) enum Refused {
    /// Nothing is.
    Whole(Problem),
    /// Some rules are not.
    Part(Problem),
}

/// What of the rules is not served, and why.
pub(super) fn refused(rules: &[Compiled]) -> Option<Refused> {
    let bad = || rules.iter().enumerate().filter_map(|(index, rule)| Some((index, rule.refused.as_ref()?)));
    let (_, first) = bad().next()?;
    let each = |what: &str| -> Vec<String> {
        bad().map(|(index, problem)| format!("{what} {index} ({})", problem.message)).collect()
    };
    let then = "requests that match get 500";
    Some(match bad().count() == rules.len() {
        true => Refused::Whole(Problem::new(first.reason, format!("{}: {then}", each("rule").join(", ")))),
        // The specification wants the message to begin so.
        false => {
            Refused::Part(Problem::new(first.reason, format!("{}: {then}", each("Dropped Rule").join(", "))))
        }
    })
}

/// The conditions for one parent.
pub(super) fn conditions(
    not_attached: Option<Problem>,
    refused: Option<&Refused>,
    unresolved: Option<&Problem>,
) -> Vec<Condition> {
    let whole = match refused {
        Some(Refused::Whole(problem)) => Some(problem),
        _ => None,
    };
    let not_accepted = not_attached.as_ref().or(whole);
    let mut conditions = vec![
        Condition::of("Accepted", "Accepted", not_accepted),
        Condition::of("ResolvedRefs", "ResolvedRefs", unresolved),
    ];
    if let (None, Some(Refused::Part(problem))) = (not_accepted, refused) {
        conditions.push(Condition::holds("PartiallyInvalid", problem.reason, &*problem.message));
    }
    conditions
}

/// Whether a status has something of ours in it, which may have to go.
pub(super) fn has_entry(status: &Value) -> bool {
    status["parents"].as_array().into_iter().flatten().any(is_ours)
}

fn is_ours(entry: &Value) -> bool {
    entry["controllerName"] == CONTROLLER
}

/// The parents of a status: ours as they are now, in their places; those of other controllers untouched.
pub(super) fn parents(
    old: &Value,
    said: &[(&ParentRef, Vec<Condition>)],
    namespace: &str,
    stamp: Stamp,
) -> Value {
    let old = old.as_array().map(Vec::as_slice).unwrap_or_default();
    let is_for = |entry: &Value, parent: &ParentRef| {
        ParentRef::deserialize(&entry["parentRef"])
            .is_ok_and(|was| full(&was, namespace) == full(parent, namespace))
    };
    let write = |parent: &ParentRef, conditions: &[Condition], was: &Value| {
        json!({
            "parentRef": parent_ref(parent),
            "controllerName": CONTROLLER,
            "conditions": stamp.merge(&was["conditions"], conditions, &OWNED),
        })
    };
    let kept = old.iter().filter_map(|entry| match is_ours(entry) {
        true => {
            let (parent, conditions) = said.iter().find(|(parent, _)| is_for(entry, parent))?;
            Some(write(parent, conditions, entry))
        }
        false => Some(entry.clone()),
    });
    let is_new = |parent: &ParentRef| !old.iter().any(|entry| is_ours(entry) && is_for(entry, parent));
    let new = said.iter().filter(|(parent, _)| is_new(parent));
    let new = new.map(|(parent, conditions)| write(parent, conditions, &Value::Null));
    kept.chain(new).take(MAX_PARENTS).collect()
}

/// A reference with its defaults, so that two can be compared.
fn full(parent: &ParentRef, namespace: &str) -> ParentRef {
    ParentRef {
        group: Some(parent.group.clone().unwrap_or_else(|| GROUP.into())),
        kind: Some(parent.kind.clone().unwrap_or_else(|| "Gateway".into())),
        namespace: Some(parent.namespace.clone().unwrap_or_else(|| namespace.into())),
        ..parent.clone()
    }
}

/// A reference as it is written, with the defaults that the API server gives it: a status that lacked them would
/// differ from what is stored for ever.
fn parent_ref(parent: &ParentRef) -> Value {
    let mut value = serde_json::to_value(parent).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.entry("group").or_insert_with(|| GROUP.into());
        fields.entry("kind").or_insert_with(|| "Gateway".into());
    }
    value
}
