//! In the words of the API server.

use bytes::Bytes;
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionResponse, AdmissionReview};

use super::*;
use crate::inject::review::{answer, review};
use crate::run::SharedWorld;

fn asked(kind: &str, operation: &str, object: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "r1", "kind": {"group": "", "version": "v1", "kind": kind},
            "resource": {"group": "", "version": "v1", "resource": "things"}, "namespace": "shop",
            "operation": operation, "userInfo": {"username": "ci"}, "object": object,
        },
    })
}

fn response(kind: &str, operation: &str, object: &Value) -> AdmissionResponse {
    let asked: AdmissionReview<DynamicObject> =
        serde_json::from_value(asked(kind, operation, object)).unwrap();
    let world = SharedWorld::new(world().into());
    let response = review(&world, &settings(), true, CA, asked).response.unwrap();
    assert!(response.allowed && response.uid == "r1", "{response:?}");
    response
}

#[test]
fn the_answer_is_a_patch_of_the_pod() {
    let response = response("Pod", "CREATE", &pod());
    let patch: json_patch::Patch = serde_json::from_slice(&response.patch.unwrap()).unwrap();
    let mut patched = pod();
    json_patch::patch(&mut patched, &patch).unwrap();
    assert_eq!(patched, injected(&world(), &pod(), true));
    assert_eq!(response.warnings, None);
}

#[test]
fn what_is_no_new_pod_is_let_through_as_it_is() {
    for (kind, operation) in [("Pod", "UPDATE"), ("Deployment", "CREATE")] {
        assert_eq!(response(kind, operation, &pod()).patch, None);
    }
}

#[test]
fn what_stands_in_the_way_is_a_warning() {
    let mut on_node = pod();
    on_node["spec"]["hostNetwork"] = json!(true);
    let response = response("Pod", "CREATE", &on_node);
    assert_eq!(response.patch, None);
    let warnings = response.warnings.unwrap();
    assert!(warnings[0].starts_with("sidetrack: without a sidecar: ") && warnings[0].contains("hostNetwork"));
}

/// No answer at all, so that `failurePolicy: Ignore` makes the pod without a sidecar.
#[test]
fn what_is_missing_is_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { ca_file: folder.path().join("ca.crt"), ..settings() };
    let world = SharedWorld::new(super::world().into());
    let body = Bytes::from(asked("Pod", "CREATE", &pod()).to_string());
    let said = |settings, native, is_whole| answer(&world, settings, native, is_whole, &body);
    assert_eq!(said(Some(&settings), Some(true), true), Bytes::new(), "there is no file");
    std::fs::write(&settings.ca_file, "not yet").unwrap();
    assert_eq!(said(Some(&settings), Some(true), true), Bytes::new(), "there is no certificate in it");
    std::fs::write(&settings.ca_file, CA).unwrap();
    assert!(
        String::from_utf8(said(Some(&settings), Some(true), true).to_vec()).unwrap().contains("JSONPatch")
    );
    assert_eq!(said(None, Some(true), true), Bytes::new());
    assert_eq!(said(Some(&settings), None, true), Bytes::new());
    assert_eq!(said(Some(&settings), Some(true), false), Bytes::new());
}
