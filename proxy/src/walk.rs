//! The spine: what one request meets, each step called once, left to right.
//!
//! accept -> **identify -> route -> admit -> pick -> forward -> record**

use std::pin::pin;
use std::rc::Rc;

use sidetrack_config::model::Place;

use crate::accept::body::ClientBody;
use crate::accept::connection::Connection;
use crate::accept::hints::Hints;
use crate::accept::request::check;
use crate::chain;
use crate::context::inside;
use crate::decide::{Verdict, decide};
use crate::decision::Target;
use crate::error::Failure;
use crate::forward::body::Source;
use crate::forward::deadline::within;
use crate::forward::forwarded::scheme;
use crate::forward::outgoing::{Via, max_forwards};
use crate::forward::{Outgoing, filters, forward};
use crate::head::{HttpHead, RequestHead};
use crate::place::Here;
use crate::reading::{Asked, Asker, Reading, read};
use crate::record::Record;
use crate::respond::{self, Answer, Dress};
use crate::route::snapshot::Held;
use crate::worker::Worker;

/// Answers one request. Whatever happens, there is one answer and one record. `head` becomes what goes onward; `hints` takes
/// 1xx answers to the client.
pub async fn serve(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    head: &mut RequestHead,
    body: ClientBody,
    hints: &Hints,
) -> Answer {
    let table = worker.table.get();
    let mut record = Record::begin(worker, connection, head, &table);
    let dress = Dress::of(head);
    record.set_grpc(dress == Dress::Grpc);
    let walked = pin!(walk(worker, connection, &table, (head, body), hints, &mut record)).await;
    let mut answer = match walked {
        Ok(answer) => answer,
        Err(failure) => respond::failure(&failure, dress, &mut record),
    };
    respond::finish(&mut answer, &table, &mut record);
    record.attach(answer)
}

/// Answers what came in place of a request. It has its record as every request.
pub fn refuse(worker: &Rc<Worker>, connection: &Rc<Connection>, failure: &Failure) -> Answer {
    let table = worker.table.get();
    let head = RequestHead::none();
    let mut record = Record::begin(worker, connection, &head, &table);
    let mut answer = respond::failure(failure, Dress::of(&head), &mut record);
    respond::finish(&mut answer, &table, &mut record);
    record.attach(answer)
}

/// The walk itself.
async fn walk(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    table: &Rc<Held>,
    (head, body): (&mut RequestHead, ClientBody),
    hints: &Hints,
    record: &mut Record,
) -> Result<Answer, Failure> {
    worker.has_room(connection)?;
    let authority = check(head, &worker.limits)?;
    let place = &connection.listener.place;
    let meant = worker.meant.endpoint(connection, &table.estate);
    let here = Here::new(place, connection, table, meant.as_ref());
    let asker = Asker { place, here, client: record.client() };

    let is_secure = connection.secure;
    let mut asked = Asked { head, authority: &authority, is_secure };
    let Reading { identity, call, taken } =
        read(&mut asked, &asker, table, Some(&worker.shared), record.started())?;
    let identity = Rc::new(identity);
    record.identified(&identity, taken);

    let view = HttpHead::new(head, &authority, is_secure);
    let chance = (worker.random(), worker.seconds());
    let verdict = decide(&view, Rc::clone(&identity), &asker, table, chance, record);
    record.called(call);
    let decision = match verdict? {
        Verdict::Go(decision) => decision,
        Verdict::Redirect(to, rule) => {
            let scheme = scheme(connection, &head.fields);
            return Ok(respond::redirect(to, rule, &view, &identity, scheme));
        }
    };
    record.decided(&decision);
    if *place == Place::Inbound && !matches!(decision.target, Target::Fork(..)) {
        record.came_in(inside::came_in(&view, &identity, table, worker, record.started()));
    }
    if max_forwards(head) == Some(0) {
        record.answers_itself();
        return Ok(respond::options());
    }

    let via = Via { worker, connection, table, request_id: record.request_id(), hidden: record.hidden() };
    let limits = &worker.limits;
    // A call of gRPC may listen for as long as its stream may idle.
    let patience = if record.is_grpc() { decision.service.timeouts.idle } else { limits.body_timeout };
    let source = Source::new(body, limits.body_bytes, patience, table.own_fields())?;
    let outgoing = Outgoing::new(head, source, &decision, authority, hints, &via)?;
    let how = (place, record.is_grpc());
    record.chained(chain::begin(&mut outgoing.head.fields, &decision, how, worker, table));
    let forwarding = pin!(forward(worker, connection, &decision, &outgoing, record));
    let mut answer = within(&decision, forwarding).await?;
    filters::answer(&mut answer.fields, &decision);
    Ok(answer)
}

#[cfg(test)]
mod tests;
