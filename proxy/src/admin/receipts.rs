//! `GET /v1/receipts/TRACEID`: what is known by now of the requests of a trace, late receipts included.

use http::StatusCode;
use serde_json::{Value, json};

use super::Admin;
use crate::chain::hop::Hop;
use crate::chain::report::Report;
use crate::chain::store::Told;
use crate::hex;

/// What is known of the trace with this id.
pub(super) fn answer(admin: &Admin, id: &str) -> Result<Value, (StatusCode, String)> {
    let trace = (id.len() == 32).then(|| hex::number(id.as_bytes())).flatten();
    let trace = trace.ok_or_else(|| {
        let detail = format!("{id:?} is no trace id; write the 32 digits of the traceparent, in lower case");
        (StatusCode::BAD_REQUEST, detail)
    })?;
    let reports = admin.shared.reports.as_ref().ok_or_else(|| {
        let detail = "no receipts are kept here: context.reports is not set";
        (StatusCode::NOT_FOUND, detail.to_owned())
    })?;
    let table = admin.keeper.borrow().published().load();
    reports.take(&table.estate.context.secrets);
    let told = reports.store.of(trace).ok_or_else(|| {
        let detail = "no request with a key and this trace was answered here within the last 30 s";
        (StatusCode::NOT_FOUND, detail.to_owned())
    })?;
    Ok(json!({ "trace": id, "requests": told.iter().map(request).collect::<Vec<_>>() }))
}

fn request(told: &Told) -> Value {
    let report = |hop: &Hop| told.reports.iter().find(|report| hop.id != 0 && report.hop == hop.id);
    let first = told.hops.first().and_then(report).map_or(0, |report| report.start);
    let hops = told.hops.iter().filter(|hop| !hop.is_cut());
    json!({
        "complete": told.hops.iter().all(|hop| !hop.is_cut()),
        "hops": hops.map(|hop| hop_of(hop, report(hop), first)).collect::<Vec<_>>(),
    })
}

/// One hop; what is not known of it is null.
fn hop_of(hop: &Hop, report: Option<&Report>, first: u64) -> Value {
    let (service, target) = hop.place().rsplit_once('@').unwrap_or((hop.place(), ""));
    let parameter = |name: &str| {
        let mut parameters = hop.text.split(';').filter_map(|part| part.split_once('='));
        parameters.find(|(found, _)| *found == name).map(|(_, value)| value)
    };
    let millis = |micros: u64| micros as f64 / 1000.0;
    json!({
        "depth": hop.depth,
        "service": service,
        "target": target,
        "reason": parameter("reason"),
        "generation": parameter("gen").and_then(|text| text.parse::<u64>().ok()),
        "endpoint": report.and_then(|report| report.endpoint).map(|endpoint| endpoint.to_string()),
        // By the clocks of two machines, which may differ.
        "startMs": report.map(|report| millis(report.start.saturating_sub(first))),
        "durationMs": hop.micros.map(|micros| millis(micros.into())),
    })
}
