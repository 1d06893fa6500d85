//! What would happen to a request, step by step and why: the same pure steps as the walk, and nothing sent.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Instant, SystemTime};

use serde::Serialize;
use sidetrack_config::Key;
use sidetrack_config::model::{OnForkDown, Place, Role, Scheme};

use crate::decide::{Told, Verdict, decide};
use crate::decision::{Decision, Reason, Target};
use crate::error::Failure;
use crate::forward::{fork_unavailable, nothing_instead, unavailable};
use crate::head::{Head, HttpHead, PlainHead, RequestHead};
use crate::identify::{Identity, Onward, join};
use crate::pick::{self, View, Way};
use crate::place::Here;
use crate::reading::{Asked, Asker, Reading, Taken, read};
use crate::respond::location;
use crate::route::rule::{Action, Backend, Rule};
use crate::route::table::{Endpoint, Table};
use crate::worker::Shared;

/// One step and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The step's name.
    pub step: &'static str,
    /// What came of it, for people.
    pub result: String,
}

/// What would happen to a request. What was not decided, because a step before it failed, is null.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The canonical keys, in order.
    pub keys: Vec<Key>,
    /// The first carrier that held them.
    pub carrier: Option<&'static str>,
    /// Whether a baseline answer for a preview that is down or not there is forbidden.
    pub strict: bool,
    /// The route, by its name, or by its position in the file.
    pub route: Option<String>,
    /// Where the route redirects to, if it does.
    pub redirect: Option<String>,
    /// The service that the route names; where it has several, the first that has a weight.
    pub service: Option<String>,
    /// `fork` or `baseline`.
    pub target: Option<&'static str>,
    /// Why.
    pub reason: Option<&'static str>,
    /// The preview whose fork it is.
    pub preview: Option<Key>,
    /// An endpoint that it could go to.
    pub endpoint: Option<String>,
    /// The table that was asked.
    pub generation: u64,
    /// The host that routes were matched against.
    pub host: Option<String>,
    /// The path that routes were matched against.
    pub path: Option<String>,
    /// The error that the proxy would answer, where it would.
    pub error: Option<Problem>,
    /// Every step.
    pub steps: Vec<Step>,
}

/// An error that the proxy would answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The word of the contract.
    pub code: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong.
    pub detail: String,
}

/// A view without loads: nothing is under way, and what workers have ejected is theirs.
struct Fresh;

impl View for Fresh {
    fn outstanding(&self, _: &Endpoint) -> u32 {
        0
    }

    fn is_ejected(&self, _: &Endpoint) -> bool {
        false
    }
}

/// Explains a request from `client`. `shared` has what a sidecar remembers, where it is asked while it runs.
pub fn explain(head: &PlainHead, client: IpAddr, table: &Table, shared: Option<&Shared>) -> Explanation {
    let mut explanation = Explanation { generation: table.generation, ..Explanation::default() };
    if let Err(failure) = walk(head, client, table, shared, &mut explanation) {
        explanation.steps.push(Step { step: "answer", result: failure.to_string() });
        explanation.error = Some(Problem {
            code: failure.code.as_str(),
            status: failure.status(),
            detail: failure.detail.into(),
        });
    }
    explanation
}

fn walk(
    head: &PlainHead,
    client: IpAddr,
    table: &Table,
    shared: Option<&Shared>,
    explanation: &mut Explanation,
) -> Result<(), Failure> {
    let place = match table.estate.role {
        Role::Gateway => Place::Edge,
        // Inside, the host names the service, as callers write it.
        Role::Waypoint | Role::Sidecar => Place::Outbound(None),
    };
    let asker = Asker { place: &place, here: Here::default(), client };
    let (authority, is_secure) = (&*head.authority, head.is_secure);
    let mut head = RequestHead::of(head)?;
    let mut asked = Asked { head: &mut head, authority, is_secure };
    let Reading { identity, taken, .. } = read(&mut asked, &asker, table, shared, Instant::now())?;
    let (identity, head) = (Rc::new(identity), HttpHead::new(&head, authority, is_secure));
    explanation.identified(&head, &identity, taken);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut told = Teller { explanation, table, client, is_keyed: !identity.keys.is_empty() };
    let verdict = decide(&head, Rc::clone(&identity), &asker, table, (0, now), &mut told)?;
    let Decision { service, target, reason, .. } = match verdict {
        Verdict::Go(decision) => decision,
        Verdict::Redirect(to, rule) => {
            let scheme = if is_secure { Scheme::Https } else { Scheme::Http };
            let location = location(to, rule, &head, &identity, scheme);
            explanation.say("redirect", format!("{} to {location}", to.status));
            explanation.redirect = Some(location);
            return Ok(());
        }
    };
    if explanation.picked(target, reason) {
        return Ok(());
    }
    // What forwarding does when nothing takes the connection.
    let Target::Fork(preview, _) = target else { return Err(unavailable(service, None)) };
    explanation.reason = Some(Reason::ForkDown.as_str());
    match preview.on_fork_down {
        OnForkDown::Baseline if !identity.strict => {
            let baseline = pick::baseline(service, Some(&preview.key))
                .map_err(|_| nothing_instead(service, preview.key))?;
            match explanation.picked(baseline, Reason::ForkDown) {
                true => Ok(()),
                false => Err(unavailable(service, None)),
            }
        }
        OnForkDown::Hold => {
            let limit = table.estate.hold.timeout;
            explanation.say("hold", format!("it waits for an endpoint, {limit:?} at most, and fails then"));
            Ok(())
        }
        OnForkDown::Fail | OnForkDown::Baseline => Err(fork_unavailable(service, preview.key)),
    }
}

/// Writes down what is decided.
struct Teller<'a> {
    explanation: &'a mut Explanation,
    table: &'a Table,
    client: IpAddr,
    is_keyed: bool,
}

impl Told for Teller<'_> {
    fn routed(&mut self, rule: &Rule, way: Way<'_>) {
        self.explanation.ruled(rule, self.table);
        if let Way::To(_, service) = way {
            self.explanation.service = Some(service.name.to_string());
            self.explanation.say("route", format!("service {}", service.name));
        }
    }

    fn admitted(&mut self) {
        if self.is_keyed {
            self.explanation.say("admit", format!("{} may send keyed requests", self.client));
        }
    }

    fn refused(&mut self, _: &Failure, _: u64) {}
}

impl Explanation {
    fn say(&mut self, step: &'static str, result: String) {
        self.steps.push(Step { step, result });
    }

    /// Says where it goes; `false`: no endpoint there is healthy.
    fn picked(&mut self, target: Target<'_>, reason: Reason) -> bool {
        self.target = Some(target.side().as_str());
        self.reason = Some(reason.as_str());
        self.preview = target.preview();
        let of = self.preview.map_or_else(|| "the baseline".to_owned(), |key| format!("the fork of {key}"));
        self.say("pick", format!("{of}, because: {reason} ({})", why(reason)));
        let endpoint = pick::endpoint(target.endpoints(), &Fresh, &[], 0);
        self.endpoint = endpoint.map(|endpoint| endpoint.address.to_string());
        let declared = target.endpoints().len();
        self.say(
            "endpoint",
            match &self.endpoint {
                Some(address) => format!("{address}, of {declared} declared"),
                None => format!("none is healthy, of {declared} declared"),
            },
        );
        self.endpoint.is_some()
    }

    /// Says which route it is, its place among those of the same host and path, and who shares its requests.
    fn ruled(&mut self, rule: &Rule, table: &Table) {
        self.route = Some(rule.label().into_owned());
        let (place, of) = rule.order;
        let place =
            if of > 1 { format!(", number {place} of {of} for its host and path") } else { String::new() };
        self.say("route", format!("{rule}{place}"));
        let Action::Forward(backends) = &rule.action else { return };
        if backends.len() > 1 {
            let name = |backend: &Backend| {
                let service = backend.service.and_then(|index| table.estate.services.get(index));
                service.map_or("no known service", |service| &*service.name)
            };
            let shares: Vec<_> =
                backends.iter().map(|backend| format!("{} {}", name(backend), backend.weight)).collect();
            self.say("route", format!("shared by weight: {}", shares.join(", ")));
        }
    }

    fn identified(&mut self, head: &impl Head, identity: &Identity, taken: Taken) {
        self.keys = identity.keys.to_vec();
        self.carrier = identity.carrier.map(|carrier| carrier.as_str());
        self.strict = identity.strict;
        let (host, path) = (identity.host_text(head).into_owned(), identity.path(head).to_owned());
        for (is_so, what) in [
            (
                taken.carriers,
                "carriers are taken out: this client's address may not name previews (carriers.from)",
            ),
            (taken.ids, "ids are taken out: they say a preview that this client may not name"),
            (taken.by_egress, "carriers are taken out: the call leaves the estate"),
        ] {
            if is_so {
                self.say("identify", what.to_owned());
            }
        }
        self.say(
            "identify",
            match identity.carrier {
                Some(carrier) => format!("key {} in the {carrier}", join(&identity.keys, ",")),
                None if identity.onward == Onward::Stamped => {
                    format!("no key in any carrier; it gets that of this fork, {}", join(&identity.keys, ","))
                }
                None => "no key in any carrier".to_owned(),
            },
        );
        self.say("identify", format!("host {host:?} and path {path:?} are left for the routes"));
        self.host = Some(host);
        self.path = Some(path);
    }
}

const fn why(reason: Reason) -> &'static str {
    match reason {
        Reason::Fork => "a named preview forks this service",
        Reason::ParentFork => "a parent of a named preview forks this service",
        Reason::NoFork => "the preview is known and did not change this service",
        Reason::NoKey => "the request names no preview",
        Reason::ForkDown => "the fork is declared and can't be reached",
        Reason::UnknownPreview => "a named preview is not there",
    }
}

#[cfg(test)]
mod tests {
    use sidetrack_config::model::{self, Backend as Share, Filters, HostPattern, Redirect, Route};

    use super::*;
    use crate::fixture::{ESTATE, table_of};

    /// [`ESTATE`] with a route that is shared, one that redirects, and one that leads nowhere.
    fn table() -> Table {
        let share = |service, weight| Share { service, weight, filters: Filters::default() };
        let exactly = |host: &str| Route::to(HostPattern::Exact(host.into()), "/", 0);
        let mut shared = exactly("a.test");
        shared.name = "shop/web/0".into();
        shared.action = model::Action::Forward(vec![share(Some(2), 0), share(Some(0), 9), share(None, 1)]);
        let mut moved = exactly("b.test");
        let to = Redirect { scheme: Some(Scheme::Https), host: None, port: None, path: None, status: 301 };
        moved.action = model::Action::Redirect(to);
        let mut posted = moved.clone();
        posted.method = Some("POST".into());
        let mut nowhere = exactly("c.test");
        nowhere.action = model::Action::Forward(Vec::new());
        table_of(ESTATE, |config| config.routes.extend([shared, moved, posted, nowhere])).0
    }

    fn told(url: &str) -> (Explanation, String) {
        let explanation = explain(&PlainHead::get(url), [127, 0, 0, 1].into(), &table(), None);
        let steps = explanation.steps.iter().map(|step| format!("{}: {}", step.step, step.result));
        let text = steps.collect::<Vec<_>>().join("\n");
        (explanation, text)
    }

    #[test]
    fn a_route_says_its_name_its_place_and_its_shares() {
        let (explanation, text) = told("http://a.test/");
        assert_eq!(explanation.route.as_deref(), Some("shop/web/0"));
        assert_eq!(explanation.service.as_deref(), Some("checkout"));
        assert!(text.contains("route: shared by weight: shop 0, checkout 9, no known service 1"), "{text}");
        let (explanation, text) = told("http://pr-42.b.test/x?y");
        assert_eq!(
            (explanation.error.map(|error| error.code), explanation.route),
            (Some("no_route"), None),
            "{text}"
        );
        let (explanation, text) = told("http://b.test/x?y");
        assert_eq!(explanation.redirect.as_deref(), Some("https://b.test/x?y"));
        assert!(text.contains("routes[8] (path /), number 2 of 2 for its host and path"), "{text}");
        assert!(text.contains("redirect: 301 to https://b.test/x?y"), "{text}");
        let (explanation, text) = told("http://c.test/");
        let error = explanation.error.expect(&text);
        assert_eq!((error.code, error.status), ("internal", 500));
        assert!(error.detail.contains("no backend has a weight above zero"), "{}", error.detail);
    }

    /// What it says is what a request meets: who may not name a preview, and who may not see a parent's.
    #[test]
    fn it_refuses_and_takes_out_what_the_walk_does() {
        let explained = |lines: &str, head: PlainHead, client: [u8; 4]| {
            let table = crate::fixture::estate_with(lines);
            explain(&head, client.into(), &table, None)
        };
        let named = || PlainHead::get("preview.localhost/api/checkout").with("x-pr-id", "57");
        let from = "carriers: {from: [10.0.0.0/8]}";
        let inside = explained(from, named(), [10, 0, 0, 1]);
        assert_eq!((inside.target, inside.reason), (Some("fork"), Some("parent_fork")));
        let outside = explained(from, named(), [203, 0, 113, 9]);
        assert_eq!((outside.target, outside.reason), (Some("baseline"), Some("no_key")));
        assert!(outside.steps[0].result.contains("carriers.from"), "{:?}", outside.steps);
        let text = ESTATE.replace("'42': {", "'42': {access: {allow: [10.0.0.0/8]}, ");
        let table = crate::fixture::table(&text);
        let parent = |client: [u8; 4]| explain(&named(), client.into(), &table, None);
        assert_eq!(parent([10, 0, 0, 1]).target, Some("fork"));
        let error = parent([203, 0, 113, 9]).error.expect("a parent's fork is guarded");
        assert_eq!((error.code, error.status), ("access_denied", 403));
    }
}
