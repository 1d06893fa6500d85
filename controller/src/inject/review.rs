//! Injection in the words of the API server.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::PoisonError;

use bytes::Bytes;
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview, Operation};
use serde_json::Value;

use super::pod::Pod;
use super::{Asked, Settings, Verdict};
use crate::run::SharedWorld;

/// The most bytes of the authorities' certificates: an annotation of every pod, of which all together have 256 KiB.
const MAX_CA: u64 = 64 << 10;

/// Answers the body of a webhook's request with the body of its answer. Nothing, which is no answer, where the cluster is
/// not known or something of ours is wrong: the pod is made without a sidecar then.
pub(crate) fn answer(
    world: &SharedWorld,
    settings: Option<&Settings>,
    native: Option<bool>,
    is_whole: bool,
    body: &Bytes,
) -> Bytes {
    let (Some(settings), Some(native), true) = (settings, native, is_whole) else { return Bytes::new() };
    let ca = match authorities(&settings.ca_file) {
        Ok(ca) => ca,
        Err(error) => {
            tracing::error!(file = %settings.ca_file.display(), %error, "no sidecar can be injected");
            return Bytes::new();
        }
    };
    let review = match serde_json::from_slice(body) {
        Ok(asked) => review(world, settings, native, &ca, asked),
        Err(error) => {
            AdmissionResponse::invalid(format!("this is no AdmissionReview: {error}")).into_review()
        }
    };
    serde_json::to_vec(&review).unwrap_or_default().into()
}

fn authorities(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(file)?.take(MAX_CA).read_to_string(&mut text)?;
    match text.contains("-----BEGIN CERTIFICATE-----") {
        true => Ok(text),
        false => Err(io::Error::new(io::ErrorKind::InvalidData, "it holds no certificate")),
    }
}

/// Gives the pod of a review what it asks for. The planning thread waits for the verdict, and for nothing else of it.
pub(super) fn review(
    world: &SharedWorld,
    settings: &Settings,
    native: bool,
    ca: &str,
    asked: AdmissionReview<DynamicObject>,
) -> AdmissionReview<DynamicObject> {
    let request: AdmissionRequest<DynamicObject> = match asked.try_into() {
        Ok(request) => request,
        Err(error) => return AdmissionResponse::invalid(error).into_review(),
    };
    let response = AdmissionResponse::from(&request);
    let is_part = request.sub_resource.as_deref().is_some_and(|part| !part.is_empty());
    if request.kind.kind != "Pod" || request.operation != Operation::Create || is_part {
        return response.into_review();
    }
    let pod = request.object.and_then(|object| serde_json::to_value(object).ok()).unwrap_or_default();
    let namespace = request.namespace.as_deref().unwrap_or_default();
    let verdict = {
        let world = &world.read().unwrap_or_else(PoisonError::into_inner);
        Asked { pod: Pod(&pod), namespace, world, settings, native, ca }.verdict()
    };
    match verdict {
        Verdict::Leave => response,
        Verdict::Refuse(why) => {
            // The warning reaches who makes the pod, which may be a controller that tells nobody.
            let metadata = |field: &str| pod.pointer(&format!("/metadata/{field}")).and_then(Value::as_str);
            let name = metadata("name").or_else(|| metadata("generateName")).unwrap_or_default();
            tracing::info!(namespace, pod = name, why, "a pod is made without a sidecar");
            warned(response, vec![format!("without a sidecar: {why}")])
        }
        Verdict::Inject(after, warnings) => patched(warned(response, warnings), &pod, &after),
    }
    .into_review()
}

fn patched(response: AdmissionResponse, before: &Value, after: &Value) -> AdmissionResponse {
    match response.clone().with_patch(json_patch::diff(before, after)) {
        Ok(patched) => patched,
        Err(error) => {
            tracing::error!(%error, "a patch can't be written");
            response
        }
    }
}

/// Warnings are shown to whoever makes the pod, behind the name of who warns.
fn warned(mut response: AdmissionResponse, warnings: Vec<String>) -> AdmissionResponse {
    let warnings: Vec<String> = warnings.into_iter().map(|warning| format!("sidetrack: {warning}")).collect();
    response.warnings = (!warnings.is_empty()).then_some(warnings);
    response
}
