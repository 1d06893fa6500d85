//! The spine: what one request meets, each step called once, left to right.
//!
//! accept -> **identify -> route -> admit -> pick -> forward -> record**

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use http::{Request, Response};

use crate::accept::body::ClientBody;
use crate::accept::connection::Connection;
use crate::accept::hints::Hints;
use crate::accept::request::{TargetLimit, check};
use crate::admit::admit;
use crate::decision::Decision;
use crate::error::{Code, Failure};
use crate::forward::body::Source;
use crate::forward::deadline::within;
use crate::forward::forwarded::scheme;
use crate::forward::outgoing::Via;
use crate::forward::{Outgoing, filters, forward};
use crate::head::HttpHead;
use crate::identify::identify;
use crate::pick::{self, Way};
use crate::record::{Record, ResponseBody};
use crate::respond;
use crate::route::route;
use crate::route::table::Table;
use crate::worker::Worker;

/// Answers one request. Whatever happens, there is one answer and one record. `hints` takes 1xx answers to the client.
pub async fn serve(
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    request: Request<ClientBody>,
    hints: Arc<Hints>,
) -> Response<ResponseBody> {
    let table = worker.table.get();
    let mut record = Record::begin(&worker, &connection, &request, &table);
    let tastes = respond::Tastes::of(&request);
    let answer = walk(&worker, &connection, &table, request, hints, &mut record).await;
    let mut response = match answer {
        Ok(response) => response,
        Err(failure) => respond::failure(&failure, tastes.dress(), &mut record),
    };
    respond::finish(&mut response, &worker, &table, &record);
    record.attach(response)
}

/// Answers what came in place of a request. It has its record as every request.
pub fn refuse(worker: &Rc<Worker>, connection: &Rc<Connection>, failure: &Failure) -> Response<ResponseBody> {
    let table = worker.table.get();
    let request = Request::new(ClientBody::Empty);
    let mut record = Record::begin(worker, connection, &request, &table);
    let mut response = respond::failure(failure, respond::Tastes::of(&request).dress(), &mut record);
    respond::finish(&mut response, worker, &table, &record);
    record.attach(response)
}

/// The walk itself.
async fn walk(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    table: &Table,
    request: Request<ClientBody>,
    hints: Arc<Hints>,
    record: &mut Record,
) -> Result<Response<ResponseBody>, Failure> {
    if worker.is_full() {
        return Err(Failure::new(Code::Overloaded, "too many requests are under way; try again"));
    }
    let (parts, body) = request.into_parts();
    let authority = check(&parts, &TargetLimit(worker.limits.uri_bytes))?;
    let head = HttpHead::new(&parts, authority.to_str().unwrap_or_default(), connection.secure);
    let identity = identify(&head, table)?;
    record.identified(&identity);
    let rule = route(&head, &identity, table)?;
    let way = pick::way(rule, table, worker.random())?;
    record.routed(way);
    admit(&head, &identity.keys, record.client(), table)?;
    let (backend, service) = match way {
        Way::To(backend, service) => (backend, service),
        Way::Redirect(to) => {
            let scheme = scheme(connection, &parts.headers);
            return respond::redirect(to, rule, &head, &identity, scheme);
        }
    };
    let (target, reason) =
        pick::target(&identity, service, table).inspect_err(|failure| record.refused(failure))?;
    let generation = table.generation;
    let decision = Decision { identity, rule, backend, service, target, reason, generation };
    record.decided(&decision);
    let via = Via { worker, connection, table, request_id: record.request_id() };
    let outgoing = Outgoing::new(parts, Source::new(body), &decision, authority, hints, &via)?;
    let forwarding = pin!(forward(worker, connection, &decision, outgoing, record));
    let mut response = within(&decision, forwarding).await?;
    filters::answer(response.headers_mut(), &decision);
    Ok(response)
}

#[cfg(test)]
mod tests;
