//! Objects of custom resources: Previews and the Gateway API. They are read one by one, since what their CRDs allow
//! depends on the version that a cluster has; one that can't be read is logged and passed over.

use kube::core::DynamicObject;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tracing::warn;

use super::{meta, name};
use crate::world::{Gateway, GatewayClass, HttpRoute, Preview, ReferenceGrant};

/// A `Preview`.
pub fn preview(object: DynamicObject) -> Option<Preview> {
    let Parts { spec, status } = parts::<_, Value>("Preview", &object)?;
    // A status that another version wrote is written anew; it hides no spec.
    let status = status.and_then(|status| serde_json::from_value(status).ok());
    Some(Preview { meta: meta(&object.metadata), spec, status })
}

/// A GatewayClass.
pub fn gateway_class(object: DynamicObject) -> Option<GatewayClass> {
    let Parts { spec, status } = parts("GatewayClass", &object)?;
    Some(GatewayClass { meta: meta(&object.metadata), spec, status: status.unwrap_or_default() })
}

/// A Gateway.
pub fn gateway(object: DynamicObject) -> Option<Gateway> {
    let Parts { spec, status } = parts("Gateway", &object)?;
    Some(Gateway { meta: meta(&object.metadata), spec, status: status.unwrap_or_default() })
}

/// An HTTPRoute.
pub fn http_route(object: DynamicObject) -> Option<HttpRoute> {
    let Parts { spec, status } = parts("HTTPRoute", &object)?;
    Some(HttpRoute { meta: meta(&object.metadata), spec, status: status.unwrap_or_default() })
}

/// A ReferenceGrant.
pub fn reference_grant(object: DynamicObject) -> Option<ReferenceGrant> {
    let Parts { spec, .. } = parts::<_, Value>("ReferenceGrant", &object)?;
    Some(ReferenceGrant { meta: meta(&object.metadata), spec })
}

/// What an object has besides its metadata.
#[derive(Deserialize)]
struct Parts<S, T> {
    spec: S,
    #[serde(default = "none")]
    status: Option<T>,
}

fn none<T>() -> Option<T> {
    None
}

fn parts<S: DeserializeOwned, T: DeserializeOwned>(
    kind: &str,
    object: &DynamicObject,
) -> Option<Parts<S, T>> {
    match Parts::deserialize(&object.data) {
        Ok(parts) => Some(parts),
        Err(error) => {
            warn!("{kind} {} can't be read, and is left out: {error}", name(&object.metadata));
            None
        }
    }
}
