//! The services: endpoints, protocol, checks and time-outs.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use super::report::{Report, nearest, one_of};
use super::{files, grammar};
use crate::document;
use crate::document::text;
use crate::model::{Endpoint, HealthCheck, HostRewrite, Protocol, Service, Timeouts, UpstreamTls};
use crate::source_map::{At, shortened};

/// The shortest time between two health checks: anything less is a load test.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// All services, in the order of their names. One with a problem keeps its place.
pub(super) fn services(
    written: &BTreeMap<String, document::Service>,
    report: &mut Report<'_>,
) -> Vec<Service> {
    let root = At::ROOT;
    let at = root.key("services");
    written.iter().map(|(name, written)| service(name, written, &at.key(name), report)).collect()
}

fn service(name: &str, written: &document::Service, at: &At<'_>, report: &mut Report<'_>) -> Service {
    if let Err(why) = grammar::service_name(name) {
        let allowed = "letters, digits, '-', '_' and '.', with a letter or digit first and last";
        report.problem_at_key(at, format!("`{}` {why}", shortened(name)), allowed);
    }
    let baseline = written.baseline.as_ref().map(|written| {
        let at = at.key("baseline");
        if written.is_empty() {
            let allowed =
                "at least one endpoint; leave `baseline` out if the service exists only in previews";
            report.problem(&at, "names no endpoint", allowed);
        }
        endpoints(written, &at, report)
    });
    let protocol = protocol(written.protocol);
    Service {
        name: name.into(),
        baseline,
        protocol,
        tls: tls(written, protocol, at, report),
        health_check: written
            .health_check
            .as_ref()
            .and_then(|written| health_check(written, &at.key("healthCheck"), report)),
        timeouts: timeouts(&written.timeouts, &at.key("timeouts"), report),
        host: written
            .host
            .as_ref()
            .and_then(|text| report.read(&at.key("host"), text, host))
            .unwrap_or(HostRewrite::Keep),
        addresses: Vec::new(),
    }
}

/// Endpoints of a service or of a fork.
pub(super) fn endpoints(written: &[text::Endpoint], at: &At<'_>, report: &mut Report<'_>) -> Vec<Endpoint> {
    let endpoints = report.read_all(at, written, grammar::endpoint);
    if endpoints.len() > 1 {
        let mut seen = HashSet::new();
        if let Some(twice) = endpoints.iter().find(|endpoint| !seen.insert(*endpoint)) {
            report.warning(at, format!("names {twice} twice"), "each endpoint once; all get the same share");
        }
    }
    endpoints
}

fn protocol(written: Option<document::Protocol>) -> Protocol {
    match written {
        None | Some(document::Protocol::Http1) => Protocol::Http1,
        Some(document::Protocol::H2c) => Protocol::H2c,
        Some(document::Protocol::Https) => Protocol::Https,
        Some(document::Protocol::H2) => Protocol::H2,
    }
}

fn tls(
    written: &document::Service,
    protocol: Protocol,
    at: &At<'_>,
    report: &mut Report<'_>,
) -> Option<UpstreamTls> {
    if written.tls.is_some() && !protocol.is_tls() && !report.is_troubled(at, "protocol") {
        let message = "is for services that speak TLS, and this one does not";
        report.problem_at_key(&at.key("tls"), message, "`tls` beside `protocol: https` or `protocol: h2`");
    }
    let at = at.key("tls");
    let tls = written.tls.as_ref().map(|written| UpstreamTls {
        ca_file: files::file(written.ca_file.as_ref(), &at.key("caFile"), report),
        server_name: written
            .server_name
            .as_ref()
            .and_then(|text| report.read(&at.key("serverName"), text, grammar::server_name)),
    });
    protocol.is_tls().then(|| tls.unwrap_or_default())
}

fn health_check(
    written: &document::HealthCheck,
    at: &At<'_>,
    report: &mut Report<'_>,
) -> Option<HealthCheck> {
    let path = written.path.as_ref().and_then(|text| report.read(&at.key("path"), text, grammar::url_path));
    let interval = |text: &str| match grammar::duration(text)? {
        short if short < MIN_INTERVAL => Err("is shorter than 10ms".to_owned()),
        interval => Ok(interval),
    };
    let interval = time(&written.interval, &at.key("interval"), Duration::from_secs(5), interval, report);
    let timeout = |text: &str| match grammar::duration(text)? {
        Duration::ZERO => Err("would let no check pass".to_owned()),
        long if long > interval && written.interval.is_some() => Err("is longer than `interval`".to_owned()),
        long if long > interval => Err("is longer than `interval`, which is 5s".to_owned()),
        timeout => Ok(timeout),
    };
    let default = interval.min(Duration::from_secs(1));
    let timeout = time(&written.timeout, &at.key("timeout"), default, timeout, report);
    Some(HealthCheck { path: path?, interval, timeout })
}

fn timeouts(written: &document::Timeouts, at: &At<'_>, report: &mut Report<'_>) -> Timeouts {
    let mut read = |key, text, default| time(text, &at.key(key), default, grammar::duration, report);
    let usual = Timeouts::default();
    Timeouts {
        connect: read("connect", &written.connect, usual.connect),
        response: read("response", &written.response, usual.response),
        idle: read("idle", &written.idle, usual.idle),
    }
}

fn time(
    text: &Option<text::Duration>,
    at: &At<'_>,
    default: Duration,
    parse: impl FnOnce(&str) -> Result<Duration, String>,
    report: &mut Report<'_>,
) -> Duration {
    text.as_ref().and_then(|text| report.read(at, text, parse)).unwrap_or(default)
}

fn host(text: &str) -> Result<HostRewrite, String> {
    match text {
        "keep" => Ok(HostRewrite::Keep),
        "base" => Ok(HostRewrite::Base),
        name => {
            // Unlike the host of a route this one goes upstream, where a port is part of it.
            let legal = grammar::host_name(name).is_ok() || grammar::endpoint(name).is_ok();
            if legal { Ok(HostRewrite::Name(name.into())) } else { Err("is not a host name".into()) }
        }
    }
}

/// Where `name` stands among `services`, which are in the order of their names.
///
/// # Errors
/// What was found and what is allowed.
pub(super) fn find(services: &[Service], name: &str) -> Result<usize, (String, String)> {
    services.binary_search_by(|service| (*service.name).cmp(name)).map_err(|_| {
        let known = || services.iter().map(|service| &*service.name);
        let hint = nearest(name, known()).map(|name| format!(", did you mean `{name}`?"));
        let message = format!("there is no service `{}`{}", shortened(name), hint.unwrap_or_default());
        (message, one_of(known()))
    })
}
