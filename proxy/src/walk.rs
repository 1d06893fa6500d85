//! The spine: what one request meets, each step called once, left to right.
//!
//! accept -> **identify -> route -> admit -> pick -> forward -> record**

use std::pin::pin;
use std::rc::Rc;

use crate::accept::body::ClientBody;
use crate::accept::connection::Connection;
use crate::accept::hints::Hints;
use crate::accept::request::check;
use crate::admit::admit;
use crate::decision::{Decision, Reason, Target};
use crate::error::Failure;
use crate::forward::body::Source;
use crate::forward::deadline::within;
use crate::forward::forwarded::scheme;
use crate::forward::outgoing::{Via, max_forwards};
use crate::forward::{Outgoing, filters, forward};
use crate::head::{HttpHead, RequestHead};
use crate::identify::identify;
use crate::pick::{self, Way};
use crate::record::Record;
use crate::respond::{self, Answer, Dress, is_grpc};
use crate::route::route;
use crate::route::table::Table;
use crate::worker::Worker;

/// Answers one request. Whatever happens, there is one answer and one record. `hints` takes 1xx answers to the client.
pub async fn serve(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    head: RequestHead,
    body: ClientBody,
    hints: Rc<Hints>,
) -> Answer {
    let table = worker.table.get();
    let mut record = Record::begin(worker, connection, &head, &table);
    let dress = Dress::of(&head);
    let walked = pin!(walk(worker, connection, &table, (head, body), hints, &mut record)).await;
    let mut answer = match walked {
        Ok(answer) => answer,
        Err(failure) => respond::failure(&failure, dress, &mut record),
    };
    respond::finish(&mut answer, worker, &table, &record);
    record.attach(answer)
}

/// Answers what came in place of a request. It has its record as every request.
pub fn refuse(worker: &Rc<Worker>, connection: &Rc<Connection>, failure: &Failure) -> Answer {
    let table = worker.table.get();
    let head = RequestHead::none();
    let mut record = Record::begin(worker, connection, &head, &table);
    let mut answer = respond::failure(failure, Dress::of(&head), &mut record);
    respond::finish(&mut answer, worker, &table, &record);
    record.attach(answer)
}

/// The walk itself.
async fn walk(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    table: &Table,
    (head, body): (RequestHead, ClientBody),
    hints: Rc<Hints>,
    record: &mut Record,
) -> Result<Answer, Failure> {
    worker.has_room(connection)?;
    let authority = check(&head, &worker.limits)?;
    let view = HttpHead::new(&head, &authority, connection.secure);
    let identity = Rc::new(identify(&view, table)?);
    record.identified(&identity);
    let rule = route(&view, &identity, table)?;
    let way = pick::way(rule, table, worker.random())?;
    record.routed(way);
    admit(&view, &identity.keys, record.client(), table)?;
    let (backend, service) = match way {
        Way::To(backend, service) => (backend, service),
        Way::Redirect(to) => {
            let scheme = scheme(connection, &head.fields);
            return Ok(respond::redirect(to, rule, &view, &identity, scheme));
        }
    };
    let (target, reason) =
        pick::target(&identity, service, table).inspect_err(|failure| record.refused(failure))?;
    if let (Target::Fork(preview, _), Reason::ParentFork) = (target, reason) {
        // Who may see a preview may not for that see those that it stands on.
        admit(&view, &[preview.key], record.client(), table)?;
    }
    let generation = table.generation;
    let decision = Decision { identity, rule, backend, service, target, reason, generation };
    record.decided(&decision);
    if max_forwards(&head) == Some(0) {
        return Ok(respond::options());
    }
    let via = Via { worker, connection, table, request_id: record.request_id() };
    let limits = &worker.limits;
    // A call of gRPC may listen for as long as its stream may idle.
    let patience = if is_grpc(&head.fields) { service.timeouts.idle } else { limits.body_timeout };
    let source = Source::new(body, limits.body_bytes, patience)?;
    let outgoing = Outgoing::new(head, source, &decision, authority, hints, &via)?;
    let forwarding = pin!(forward(worker, connection, &decision, outgoing, record));
    let mut answer = within(&decision, forwarding).await?;
    filters::answer(&mut answer.fields, &decision);
    Ok(answer)
}

#[cfg(test)]
mod tests;
