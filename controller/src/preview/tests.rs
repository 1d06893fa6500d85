//! The schema refuses what it should: patterns on every API server, rules where there is CEL.

use serde_json::json;

use super::*;

fn spec(value: &Value) -> Preview {
    Preview::new("pr-42", serde_json::from_value(value.clone()).unwrap())
}

#[track_caller]
fn refused(value: &Value, message: &str) {
    let errors = spec(value).validate_cel().unwrap_err().to_string();
    assert!(errors.contains(message), "{errors}");
}

#[test]
fn a_fork_is_deployed_or_cloned() {
    let good = json!({"key": "42", "forks": [
        {"service": "cart"}, {"service": "shop", "endpointsFrom": "shop-42"}, {"service": "checkout", "clone": {"image": "a:b"}},
        {"service": "stock", "namespace": "depot"},
    ]});
    spec(&good).validate_cel().unwrap();
    let both = json!({"key": "42", "forks": [{"service": "shop", "endpointsFrom": "shop-42", "clone": {}}]});
    refused(&both, "not both");
    refused(
        &json!({"key": "42", "forks": [{"service": "shop", "namespace": "depot", "clone": {}}]}),
        "that namespace",
    );
}

#[test]
fn a_key_stays() {
    let old = spec(&json!({"key": "42", "ttl": "1h"}));
    spec(&json!({"key": "42", "ttl": "2h"})).validate_cel_update(&old).unwrap();
    let errors = spec(&json!({"key": "57"})).validate_cel_update(&old).unwrap_err().to_string();
    assert!(errors.contains("the key stays"), "{errors}");
}

#[test]
fn a_preview_is_neither_its_parent_nor_its_alias() {
    spec(&json!({"key": "42", "parents": ["57"], "aliases": ["demo"]})).validate_cel().unwrap();
    refused(&json!({"key": "42", "parents": ["57", "42"]}), "no parent of its own");
    refused(&json!({"key": "42", "aliases": ["42"]}), "take it out of aliases");
}

#[test]
fn the_schema_keeps_its_patterns_and_limits() {
    let definition = definition();
    let spec =
        definition.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties").unwrap();
    assert_eq!(spec["key"]["pattern"], "^[a-z0-9]([a-z0-9]|-[a-z0-9]){0,39}$");
    assert_eq!(spec["key"]["maxLength"], 40);
    assert_eq!(spec["forks"]["maxItems"], 64);
    assert_eq!(spec["forks"]["items"]["properties"]["service"]["maxLength"], 63);
    assert_eq!(definition["spec"]["names"]["shortNames"], json!(["pv"]));
    assert_eq!(definition.get("status"), None);
}

#[test]
fn the_rules_are_in_the_definition() {
    let text = definition().to_string();
    for rule in ["self == oldSelf", "!(has(self.endpointsFrom) && has(self.clone))"] {
        assert!(text.contains(rule), "{rule}");
    }
}
