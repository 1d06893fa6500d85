//! The previews of a cluster, as its controller knows them.

use anyhow::bail;
use serde_json::{Map, Value, json};

use super::table;
use crate::cluster::{Asker, Said};
use crate::out::Style;

/// What `preview set` and `preview rm` say where a controller is named: the cluster is the truth there.
pub(super) fn not_here(key: &str) -> anyhow::Error {
    anyhow::anyhow!(
        "previews of a cluster come from what is deployed in it. To make preview {key}, label the pods of a Deployment \
         sidetrack.dev/pr: \"{key}\" and sidetrack.dev/fork-of: SERVICE, or kubectl apply a Preview (sidetrack.dev/v1alpha1); \
         to remove it, delete those. Leave --controller and SIDETRACK_CONTROLLER away to change a gateway in file mode"
    )
}

/// Asks for all.
///
/// # Errors
/// When the controller does not answer, or refuses.
pub(super) fn listed(asker: &Asker, as_json: bool) -> anyhow::Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(asker.ask("/v1/previews"))? {
        Said::Document(_, document) if as_json => Ok(document.to_string()),
        Said::Document(_, document) => Ok(table::of_cluster(&document, Style::new())),
        Said::NotNow(why) => bail!("the controller does not answer: {why}"),
    }
}

/// A preview of the controller in the shape that the table of a gateway has.
pub(super) fn reshaped(preview: &Value) -> Value {
    let mut reshaped = preview.as_object().cloned().unwrap_or_default();
    let forks = preview.get("forks").and_then(Value::as_array).into_iter().flatten();
    let forks: Map<String, Value> = forks.map(fork).collect();
    reshaped.insert("forks".to_owned(), forks.into());
    let phase = preview.get("phase").and_then(Value::as_str).unwrap_or("unknown");
    let source = match preview.get("ready").and_then(Value::as_bool) {
        Some(true) => "cluster, in force".to_owned(),
        _ => format!("cluster, {phase}"),
    };
    reshaped.insert("source".to_owned(), source.into());
    reshaped.into()
}

/// Endpoints are counted in a cluster: their addresses say nothing to a person.
fn fork(fork: &Value) -> (String, Value) {
    let text = |name: &str| fork.get(name).and_then(Value::as_str).unwrap_or("");
    let ready = fork.get("endpoints").and_then(Value::as_u64).unwrap_or(0);
    let said = match text("state") {
        "Routed" => format!("{ready} ready"),
        state => state.to_owned(),
    };
    (text("service").to_owned(), json!([{"address": said}]))
}
