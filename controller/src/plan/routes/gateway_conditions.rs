//! Conditions as the Gateway API wants them: merged by type, stamped with the generation they are about, and with the
//! time at which their status last changed.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::super::{ObjectId, StatusWrite};
use crate::world::{Meta, Name};

/// The API version of the objects here.
pub(super) const API_VERSION: &str = "gateway.networking.k8s.io/v1";

/// Messages of conditions have at most 32,768 characters; nobody reads that many.
const MAX_MESSAGE: usize = 2048;

/// What is wrong, as a condition says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// One word of the specification.
    pub(super) reason: &'static str,
    /// For a person.
    pub(super) message: String,
}

impl Problem {
    /// A problem with its word and its sentence.
    pub(super) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// One condition.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    kind: &'static str,
    holds: bool,
    reason: &'static str,
    message: String,
}

impl Condition {
    /// A condition that holds, with a reason and a message.
    pub(super) fn holds(kind: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, holds: true, reason, message: message.into() }
    }

    /// A condition that does not hold, because of `problem`.
    pub(super) fn fails(kind: &'static str, problem: &Problem) -> Self {
        Self { kind, holds: false, reason: problem.reason, message: problem.message.clone() }
    }

    /// `kind`, with `fine` as its reason where there is no problem.
    pub(super) fn of(kind: &'static str, fine: &'static str, problem: Option<&Problem>) -> Self {
        match problem {
            Some(problem) => Self::fails(kind, problem),
            None => Self::holds(kind, fine, ""),
        }
    }
}

/// What conditions are stamped with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    /// The generation of the object that they are about.
    pub(super) generation: i64,
    /// The time.
    pub(super) now: Timestamp,
}

impl Stamp {
    /// `old` with `ours` in it. Types in `owned` that `ours` does not have are taken out; those of others stay as and
    /// where they are, as the specification demands.
    pub(super) fn merge(self, old: &Value, ours: &[Condition], owned: &[&str]) -> Value {
        let old = old.as_array().map(Vec::as_slice).unwrap_or_default();
        let mut merged: Vec<Value> = old
            .iter()
            .filter_map(|was| {
                let kind = was["type"].as_str().unwrap_or_default();
                match ours.iter().find(|condition| condition.kind == kind) {
                    Some(condition) => Some(self.write(condition, was)),
                    None => (!owned.contains(&kind)).then(|| was.clone()),
                }
            })
            .collect();
        let is_new = |condition: &&Condition| !old.iter().any(|was| was["type"] == condition.kind);
        merged.extend(ours.iter().filter(is_new).map(|condition| self.write(condition, &Value::Null)));
        Value::Array(merged)
    }

    fn write(self, condition: &Condition, was: &Value) -> Value {
        let status = if condition.holds { "True" } else { "False" };
        let since = match was["lastTransitionTime"].as_str() {
            Some(since) if was["status"] == status => since.to_owned(),
            _ => self.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        };
        json!({
            "type": condition.kind,
            "status": status,
            "observedGeneration": self.generation,
            "lastTransitionTime": since,
            "reason": condition.reason,
            "message": condition.message.chars().take(MAX_MESSAGE).collect::<String>(),
        })
    }
}

/// `status` with other `fields`; what else is in it stays.
pub(super) fn with(status: &Value, fields: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    let mut status: Map<String, Value> = status.as_object().cloned().unwrap_or_default();
    status.extend(fields.into_iter().map(|(name, value)| (name.to_owned(), value)));
    Value::Object(status)
}

/// An object as Events and status writes name it.
pub(super) fn object(api_version: &str, kind: &str, name: &Name, meta: &Meta) -> ObjectId {
    ObjectId { api_version: api_version.into(), kind: kind.into(), name: name.clone(), uid: meta.uid.clone() }
}

/// The write of a status, where it says something else than `old`.
pub(super) fn write(
    object: impl FnOnce() -> ObjectId,
    plural: &'static str,
    old: &Value,
    status: Value,
) -> Option<StatusWrite> {
    (*old != status).then(|| StatusWrite { object: object(), plural, status })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(now: &str) -> Stamp {
        Stamp { generation: 3, now: now.parse().unwrap() }
    }

    #[test]
    fn the_time_changes_with_the_status_only() {
        let fine = [Condition::holds("Accepted", "Accepted", "")];
        let first = stamp("2026-01-01T00:00:00.5Z").merge(&Value::Null, &fine, &[]);
        assert_eq!(first[0]["lastTransitionTime"], "2026-01-01T00:00:00Z");
        assert_eq!(stamp("2026-01-02T00:00:00Z").merge(&first, &fine, &[]), first);
        let bad = [Condition::fails("Accepted", &Problem::new("Invalid", "no"))];
        let later = stamp("2026-01-02T00:00:00Z").merge(&first, &bad, &[]);
        assert_eq!(later[0]["lastTransitionTime"], "2026-01-02T00:00:00Z");
        assert_eq!((&later[0]["status"], &later[0]["reason"]), (&json!("False"), &json!("Invalid")));
        assert_eq!(later[0]["observedGeneration"], 3);
    }

    #[test]
    fn conditions_of_others_stay_where_they_are() {
        let old = json!([{"type": "example.com/Mine", "status": "True"}, {"type": "PartiallyInvalid"}]);
        let ours = [Condition::holds("Accepted", "Accepted", "")];
        let merged = stamp("2026-01-01T00:00:00Z").merge(&old, &ours, &["Accepted", "PartiallyInvalid"]);
        let kinds: Vec<_> = merged.as_array().unwrap().iter().map(|c| c["type"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["example.com/Mine", "Accepted"]);
        assert_eq!(merged[0], old[0]);
    }

    #[test]
    fn a_long_message_is_cut() {
        let ours = [Condition::holds("Accepted", "Accepted", "é".repeat(40_000))];
        let merged = stamp("2026-01-01T00:00:00Z").merge(&Value::Null, &ours, &[]);
        assert_eq!(merged[0]["message"].as_str().unwrap().chars().count(), MAX_MESSAGE);
    }
}
