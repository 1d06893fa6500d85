//! How the key survives: secrets from a file, and how much is remembered.

use std::net::SocketAddr;

use super::report::Report;
use super::{Owner, files, grammar};
use crate::document::text::Address;
use crate::document::{self, Required};
use crate::model::{Context, Role, TraceFormat};
use crate::source_map::At;

pub(super) fn context(
    written: &document::Context,
    role: Role,
    owner: Owner,
    report: &mut Report<'_>,
) -> Context {
    let root = At::ROOT;
    let at = root.key("context");
    let default = Context::default();
    let remember = written.remember.as_ref();
    let require_signed = written.require == Some(Required::Signed);
    if require_signed && role == Role::Gateway {
        let allowed = "`access` or `carriers.from`, which say whose keys a gateway takes";
        report.problem_at_key(&at.key("require"), "is for waypoints and sidecars, and this is none", allowed);
    }
    let needs_secret = require_signed || written.sign == Some(true) && role != Role::Gateway;
    // A controller sends the secrets; until then no key passes.
    if needs_secret && written.key_file.is_none() && owner == Owner::File {
        let message = "there is no secret to tell a signature by";
        report.problem(&at.key("keyFile"), message, "the file that the gateways have");
    }
    let (reports, reports_as) = addresses(written, role, &at, report);
    Context {
        secrets: files::secrets(written.key_file.as_ref(), &at.key("keyFile"), report),
        trace: written.trace.unwrap_or(default.trace),
        trace64: written.trace64.unwrap_or(default.trace64),
        sampled: written.sampled.unwrap_or(default.sampled),
        sign: written.sign.unwrap_or(default.sign),
        require_signed,
        formats: match &written.formats {
            Some(formats) => report.read_all(&at.key("formats"), formats, format),
            None => default.formats,
        },
        remember: remember
            .and_then(|text| report.read(&at.key("remember"), text, grammar::duration))
            .unwrap_or(default.remember),
        remember_entries: written
            .remember_entries
            .and_then(|count| usize::try_from(count).ok())
            .unwrap_or(default.remember_entries),
        reports,
        reports_as,
        report_to: match &written.report_to {
            Some(networks) => report.read_all(&at.key("reportTo"), networks, grammar::network),
            None => default.report_to,
        },
        declared_domains: match &written.declared_domains {
            Some(domains) => report.read_all(&at.key("declaredDomains"), domains, grammar::dns_name),
            None => default.declared_domains,
        },
    }
}

/// Where reports come in, and what is told of it.
fn addresses(
    written: &document::Context,
    role: Role,
    at: &At<'_>,
    report: &mut Report<'_>,
) -> (Option<SocketAddr>, Option<SocketAddr>) {
    let mut read = |text: Option<&Address>, name| {
        text.and_then(|text| report.read(&at.key(name), text, grammar::address))
    };
    let reports = read(written.reports.as_ref(), "reports");
    let told = read(written.reports_as.as_ref(), "reportsAs");
    if written.reports.is_some() && role != Role::Gateway {
        let message = "is for gateways, and nobody reports to this proxy";
        report.warning(&at.key("reports"), message, "`reportTo`, with the networks of gateways");
    }
    if written.reports_as.is_some() && written.reports.is_none() {
        report.problem_at_key(&at.key("reportsAs"), "names what is not there", "`reports` beside it");
    }
    if let Some(told) = told.filter(|told| told.ip().is_unspecified()) {
        let message = format!("{told} is no address that others could send to");
        report.problem(&at.key("reportsAs"), message, "the IP by which proxies inside reach this gateway");
    }
    (reports, told)
}

fn format(text: &str) -> Result<TraceFormat, String> {
    match text {
        "b3" => Ok(TraceFormat::B3),
        "datadog" => Ok(TraceFormat::Datadog),
        _ => Err("is no format that we write".into()),
    }
}
