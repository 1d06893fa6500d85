//! Carrier `trace`: the key in the id of a trace that a gateway began. Inside the estate only: at the edge a caller says
//! what it wants, and an id that it happens to bring says nothing.

use sidetrack_config::model::Role;

use crate::context::hidden::{Hidden, index_of, is_bare};
use crate::context::ids::Ids;
use crate::head::Head;
use crate::hex;
use crate::route::table::Table;

pub(super) fn read<H: Head>(head: &H, table: &Table) -> Option<Hidden> {
    let context = &table.estate.context;
    if table.estate.role == Role::Gateway || context.secrets.is_empty() {
        return None;
    }
    let ids = Ids::of(head);
    // A gateway's own request ids say the key too.
    let request = ids.request.filter(|id| id.len() == 32).and_then(hex::number);
    let whole = |id: &u128| context.reads_bare || !is_bare(*id);
    let mut ids = ids.traces.into_iter().chain(request).filter(whole);
    ids.find_map(|id| context.secrets.read(id, table.keys_of_index(index_of(id))))
}
