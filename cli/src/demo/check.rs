//! `demo --check`: sends every request that the demo shows, through real sockets, and judges each answer.

use std::sync::Arc;

use anyhow::ensure;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Version};
use rustls::ClientConfig;
use serde_json::Value;

use super::requests::{CASES, Case, Door, Place};
use crate::client::{self, Reply};
use crate::out::{self, Style};

/// Sends all; `true`: every answer was right.
pub(super) async fn run(place: &Place) -> bool {
    let style = Style::new();
    let trust = match client::trust(&place.ca) {
        Ok(trust) => trust,
        Err(error) => {
            out::fail(&format!("{} {error:#}", style.bad("FAIL")));
            return false;
        }
    };
    let mut passed = 0;
    for case in &CASES {
        let outcome = send(case, place, &trust).await;
        let verdict = match &outcome {
            Ok(reply) => judge(case, reply),
            Err(error) => Err(anyhow::anyhow!("{error:#}")),
        };
        passed += usize::from(verdict.is_ok());
        out::say(&told(case, place, outcome.as_ref().ok(), &verdict, style));
    }
    out::say(&format!("\n{passed} of {} passed", CASES.len()));
    passed == CASES.len()
}

async fn send(case: &Case, place: &Place, trust: &Arc<ClientConfig>) -> anyhow::Result<Reply> {
    let mut request = Request::builder().uri(place.url(case));
    for (name, value) in case.headers {
        request = request.header(*name, *value);
    }
    let to = place.address(case.door).to_string();
    client::send(request.body(Full::new(Bytes::new()))?, &to, (case.door == Door::Tls).then_some(trust)).await
}

fn judge(case: &Case, reply: &Reply) -> anyhow::Result<()> {
    ensure!(reply.status.as_u16() == case.status, "the status must be {}", case.status);
    let receipt = reply.field("x-pr-route");
    let (decision, generation) = receipt.rsplit_once(";gen=").unwrap_or((receipt, ""));
    ensure!(decision == case.receipt, "the receipt must be {:?}, and is {receipt:?}", case.receipt);
    let is_numbered = generation.parse::<u64>().is_ok();
    ensure!(is_numbered != case.receipt.is_empty(), "the receipt must end with the generation: {receipt:?}");
    let body: Value = serde_json::from_slice(&reply.body)?;
    let (name, wanted) = case.says;
    let said = body.get(name).and_then(Value::as_str).unwrap_or("");
    ensure!(said == wanted, "{name:?} in the body must be {wanted:?}, and is {said:?}");
    Ok(())
}

/// One request in three lines at most: the verdict, what was sent, and what is wrong.
fn told(
    case: &Case,
    place: &Place,
    reply: Option<&Reply>,
    verdict: &anyhow::Result<()>,
    style: Style,
) -> String {
    let mark = if verdict.is_ok() { style.good("PASS") } else { style.bad("FAIL") };
    let mut lines = format!("{mark}  {}", style.bold(case.title));
    let headers: String = case.headers.iter().map(|(name, value)| format!("  {name}: {value}")).collect();
    lines.push_str(&format!("\n      GET {}{headers}", place.url(case)));
    if let Some(reply) = reply {
        let protocol = if reply.version == Version::HTTP_2 { "HTTP/2" } else { "HTTP/1.1" };
        let receipt = match reply.field("x-pr-route") {
            "" => "no receipt",
            receipt => receipt,
        };
        let (name, _) = case.says;
        lines.push_str(&format!(
            "\n      {protocol} {}  {receipt}  {name}: {}",
            reply.status,
            said(name, reply)
        ));
    }
    if let Err(error) = verdict {
        lines.push_str(&format!("\n      {}", style.bad(&format!("{error:#}"))));
    }
    lines
}

fn said(name: &str, reply: &Reply) -> String {
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    body.get(name).and_then(Value::as_str).unwrap_or("nothing").to_owned()
}
