//! Step 3: the rule that a request meets, by host, path and what else its route asks for.

pub mod build;
pub(crate) mod candidates;
pub mod compact;
pub mod former;
pub mod hosts;
pub(crate) mod known;
pub mod rule;
pub mod sharded;
pub mod snapshot;
pub mod table;

use crate::error::{Code, Failure};
use crate::head::Head;
use crate::identify::{Identity, RouteHost, path_segment};
use hosts::{is_within, normalised};
use rule::Rule;
use table::Table;

/// The rule that says what becomes of this request.
///
/// # Errors
/// `upstream_unavailable` where no table has come yet; `no_route` where no route matches; `malformed_request` where a
/// lenient server would read the path as one that another route matches, or that names a preview, so that what we route
/// and what it serves would differ.
pub fn route<'t, H: Head>(head: &H, identity: &Identity, table: &'t Table) -> Result<&'t Rule, Failure> {
    if let Some(why) = &table.estate.waiting {
        // Not `no_route`: whoever waits for a preview must be able to tell that it may still come.
        return Err(Failure::new(Code::UpstreamUnavailable, &**why));
    }
    let path = identity.path(head);
    let found = find(head, identity, table, path);
    let number = |rule: Option<&Rule>| rule.map(|rule| rule.index);
    let hides_key =
        |lenient: &str| identity.path_skip == 0 && path_segment(lenient, &table.estate.carriers).is_some();
    if let Some(lenient) = normalised(path)
        && (hides_key(&lenient) || number(find(head, identity, table, &lenient)) != number(found))
    {
        return Err(Failure::new(
            Code::MalformedRequest,
            "the path reads as another route or preview once '..', '//', '\\' and percent-encodings are resolved; write it resolved",
        ));
    }
    found.ok_or_else(|| {
        let (host, path) = (identity.host_text(head), short(path));
        Failure::new(Code::NoRoute, format!("no route matches host {:?} and path {path:?}", short(&host)))
    })
}

fn find<'t, H: Head>(head: &H, identity: &Identity, table: &'t Table, path: &str) -> Option<&'t Rule> {
    let routes = &table.estate.routes;
    let own = table.estate.carriers.query.as_deref();
    let fits = |rule: &Rule| rule.fits(head, own);
    match &identity.host {
        // A host of its own has no rest: a wildcard route may know it, else it stands for the domain that it is below,
        // else for the shortest one that has a route.
        RouteHost::OfPreview => {
            let own = identity.host_text(head);
            let domains = &table.estate.domains;
            let above = domains.iter().filter(|domain| is_within(&own, domain));
            routes
                .find_named(&own, path, fits)
                .or_else(|| {
                    above.chain(domains.iter().rev()).find_map(|base| routes.find_named(base, path, fits))
                })
                .or_else(|| routes.find(&own, path, fits))
        }
        _ => routes.find(&identity.host_text(head), path, fits),
    }
}

/// At most 80 characters of what a client wrote, for a message.
fn short(text: &str) -> &str {
    text.char_indices().nth(80).and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}

#[cfg(test)]
mod tests;
