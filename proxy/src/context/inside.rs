//! What a proxy inside the estate does with the context of a request: at a sidecar, what comes in is remembered, and what
//! goes out gets back what it lost; there and at a waypoint, what callers lose is told. A gateway does none of it.

use std::time::Instant;

use sidetrack_config::carriers::Carrier;
use sidetrack_config::model::{Place, Role};

use super::edges::Call;
use super::ids::Ids;
use super::memory::{Hold, Memory, Said};
use crate::head::Head;
use crate::identify::Identity;
use crate::route::table::Table;
use crate::worker::{Shared, Worker};

fn memory(shared: &Shared) -> &Memory {
    shared.memory.get_or_init(|| Memory::new(Instant::now()))
}

/// What is to be told of a call, or of what came in. A call of a sidecar's workload gets the keys back that it lost.
#[inline]
pub fn attend<H: Head>(
    head: &H,
    identity: &mut Identity,
    place: &Place,
    table: &Table,
    shared: &Shared,
    now: Instant,
) -> Option<Call> {
    let estate = &table.estate;
    match (estate.role, place) {
        (Role::Gateway, _) => None,
        (_, Place::Inbound) => (identity.carrier == Some(Carrier::Trace)).then(Call::arrived),
        (_, Place::Outbound(_)) => {
            let is_busy = || shared.metrics.is_inbound_keyed();
            Call::of_workload(head, identity, estate, memory(shared), is_busy, now)
        }
        (Role::Waypoint | Role::Sidecar, Place::Service(_) | Place::Edge) => {
            Call::at_waypoint(head, identity, &estate.carriers)
        }
    }
}

/// Remembers what came in to the workload of a sidecar, for as long as it is under way and a while longer.
pub fn came_in<H: Head>(head: &H, identity: &Identity, table: &Table, worker: &Worker, now: Instant) -> Hold {
    let (context, memory) = (&table.estate.context, memory(&worker.shared));
    let ids = Ids::of(head);
    if identity.keys.is_empty() {
        memory.came_in_unkeyed(&ids, context, now)
    } else {
        let said = Said { keys: identity.keys.clone(), strict: identity.strict };
        memory.came_in(&ids, said, context, now)
    }
}
