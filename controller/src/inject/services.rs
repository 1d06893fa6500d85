//! Which Services a pod is behind.

use std::collections::BTreeMap;

use super::Asked;
use crate::names::BASELINE_OF;
use crate::world::{Name, Service};

/// The Services that select the pod, in order. A Service that a waypoint is in front of is in the world as its owner
/// wrote it; the one that stands for it meanwhile is nobody's name.
pub(super) fn selecting<'a>(asked: &Asked<'a>) -> BTreeMap<&'a Name, &'a Service> {
    let labels = asked.pod.labels();
    let selects = |service: &Service| {
        let mut selector = service.selector.iter();
        !service.external
            && !service.selector.is_empty()
            && !service.meta.labels.contains_key(BASELINE_OF)
            && selector.all(|(name, value)| labels(name) == Some(value))
    };
    let from = asked.world.services.range(Name::new(asked.namespace, "")..);
    let of_namespace = from.take_while(|(name, _)| *name.namespace == *asked.namespace);
    of_namespace.map(|(name, service)| (name, &**service)).filter(|(_, service)| selects(service)).collect()
}
