//! Where keys are found: legal names, and no two readers of one place.

use super::grammar;
use super::report::{Report, nearest, one_of};
use crate::carriers::{Place, TOOLS, Tool, tool_names};
use crate::document::text::{Text, ToolName};
use crate::document::{self, Carrier};
use crate::key::MAX_LEN;
use crate::model::{Carriers, Role};
use crate::source_map::{At, shortened};

/// Headers with a meaning of their own: a key or a secret in one of them would be lost, or would break it.
const RESERVED: &[&str] = &[
    "accept",
    "baggage",
    "cache-control",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "date",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "origin",
    "proxy-connection",
    "set-cookie",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-pr-route",
    "x-pr-signature",
    "x-pr-strict",
    "x-request-id",
];

/// Words that a person writes to turn something off or on, and that nobody means as a name.
const SWITCHES: &[&str] = &["off", "no", "none", "null", "false", "on", "yes", "true"];

/// The longest prefix: with the longest key it still is one label of a DNS name.
const MAX_PREFIX: usize = 63 - MAX_LEN;

pub(super) fn carriers(written: &document::Carriers, role: Role, report: &mut Report<'_>) -> Carriers {
    let root = At::ROOT;
    let at = root.key("carriers");
    let carriers = Carriers {
        header: name(&at.key("header"), written.header.as_ref(), "x-pr-id", header, report),
        host_prefix: name(&at.key("hostPrefix"), written.host_prefix.as_ref(), "pr-", prefix, report),
        path: written.path.unwrap_or(false),
        query: name(&at.key("query"), written.query.as_ref(), "pr-id", grammar::query_name, report),
        baggage: name(&at.key("baggage"), written.baggage.as_ref(), "pr-id", grammar::token, report),
        tracestate: name(
            &at.key("tracestate"),
            written.tracestate.as_ref(),
            "pr-id",
            grammar::tracestate_key,
            report,
        ),
        cookie: name(&at.key("cookie"), written.cookie.as_ref(), "pr-id", grammar::token, report),
        origin: written.origin.unwrap_or(true),
        aliases: tools(&at.key("aliases"), &written.aliases, report),
        from: written
            .from
            .as_ref()
            .map(|written| report.read_all(&at.key("from"), written, grammar::network)),
    };
    one_reader_each(&at, &carriers, report);
    if written.from.is_some() && role != Role::Gateway {
        let message = "is for gateways: who calls inside is another service, and its keys are those that a gateway let in";
        let allowed = "`context.require: signed`, which takes only keys that a gateway has signed";
        report.problem_at_key(&at.key("from"), message, allowed);
    }
    carriers
}

fn name(
    at: &At<'_>,
    written: Option<&Carrier>,
    default: &str,
    parse: impl FnOnce(&str) -> Result<Box<str>, String>,
    report: &mut Report<'_>,
) -> Option<Box<str>> {
    match written {
        None => Some(default.into()),
        Some(Carrier::Off(_)) => None,
        Some(Carrier::Name(text)) => report.read(at, text, |text| {
            if SWITCHES.iter().any(|word| text.eq_ignore_ascii_case(word)) {
                return Err("would be its name".into());
            }
            parse(text)
        }),
    }
}

/// The name of a header that may hold a key or a secret.
pub(super) fn header(text: &str) -> Result<Box<str>, String> {
    let name = grammar::token(text)?.to_ascii_lowercase();
    match RESERVED.contains(&name.as_str()) {
        true => Err("is a header with a meaning of its own".into()),
        false => Ok(name.into()),
    }
}

/// The beginning of a label that carries a key.
fn prefix(text: &str) -> Result<Box<str>, String> {
    let legal = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    match text {
        "" => Err("is empty".into()),
        _ if text.len() > MAX_PREFIX => Err(format!(
            "is longer than {MAX_PREFIX} characters: with a key of {MAX_LEN} it must fit one label of a host"
        )),
        _ if !legal || text.starts_with('-') || text.contains("--") => {
            Err("cannot begin a label of a host: a-z, 0-9 and '-', no '-' first, no '--'".into())
        }
        _ => Ok(text.to_ascii_lowercase().into()),
    }
}

fn tools(at: &At<'_>, written: &[ToolName], report: &mut Report<'_>) -> Vec<Tool> {
    let mut tools: Vec<Tool> = Vec::new();
    for (index, name) in written.iter().enumerate() {
        let at = at.index(index);
        let text = name.text();
        match TOOLS.iter().find(|tool| tool.name == text) {
            Some(tool) if tools.contains(tool) => {
                report.problem(&at, format!("`{text}` is named twice"), "each tool once");
            }
            Some(tool) => tools.push(*tool),
            None => {
                let hint = nearest(text, tool_names()).map(|name| format!(", did you mean `{name}`?"));
                let message =
                    format!("`{}` is not a tool we know{}", shortened(text), hint.unwrap_or_default());
                report.problem(&at, message, one_of(tool_names()));
            }
        }
    }
    tools
}

/// Two carriers that read one place would see each other's keys.
fn one_reader_each(at: &At<'_>, carriers: &Carriers, report: &mut Report<'_>) {
    let places = carriers.aliases.iter().flat_map(|tool| tool.places.iter().map(move |place| (tool, place)));
    for (tool, place) in places {
        let (key, ours, theirs) = match place {
            Place::Header(name) => ("header", &carriers.header, name),
            Place::Baggage(name) => ("baggage", &carriers.baggage, name),
            Place::Tracestate(name) => ("tracestate", &carriers.tracestate, name),
            Place::Query(name) => ("query", &carriers.query, name),
        };
        if ours.as_deref() == Some(*theirs) {
            let message = format!("`{theirs}` is also read for the tool `{}`", tool.name);
            report.problem(&at.key(key), message, "a name that no tool of `aliases` uses");
        }
    }
}

/// Whether keys are read from the header `name`.
pub(super) fn reads_header(carriers: &Carriers, name: &str) -> bool {
    let mut places = carriers.aliases.iter().flat_map(|tool| tool.places);
    carriers.header.as_deref() == Some(name)
        || places.any(|place| matches!(place, Place::Header(other) if *other == name))
}
