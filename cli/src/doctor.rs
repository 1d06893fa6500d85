//! `sidetrack doctor`: which services lose the key on the way to others, what they hand on, and how to mend it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use hyper::Method;
use serde_json::{Value, json};

use crate::admin::Admin;
use crate::out::{self, Style};

/// How to mend it, by language; `docs/propagation.md` has the same.
const RECIPES: &str = include_str!("doctor/recipes.md");

/// Whom to ask, and what to print.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Admin address of a running sidecar or waypoint; may be repeated
    #[arg(
        long,
        env = "SIDETRACK_ADMIN",
        default_value = "127.0.0.1:9901",
        value_name = "HOST:PORT",
        value_delimiter = ','
    )]
    admin: Vec<String>,
    /// The file with their token, where admin.tokenFile is set
    #[arg(long, env = "SIDETRACK_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Print how to mend it in this language only
    #[arg(long, value_enum, value_name = "LANGUAGE")]
    lang: Option<Language>,
    /// Print what was found as one JSON object
    #[arg(long)]
    json: bool,
}

/// A language that there is a recipe for.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Language {
    Java,
    Node,
    Python,
    Go,
    Dotnet,
    Ruby,
    Php,
    Rust,
}

impl Language {
    const fn heading(self) -> &'static str {
        match self {
            Self::Java => "Java",
            Self::Node => "Node.js",
            Self::Python => "Python",
            Self::Go => "Go",
            Self::Dotnet => ".NET",
            Self::Ruby => "Ruby",
            Self::Php => "PHP",
            Self::Rust => "Rust",
        }
    }
}

/// The recipe of one language, its heading included; all of them where none is named.
fn recipe(language: Option<Language>) -> String {
    let Some(language) = language else { return RECIPES.to_owned() };
    let mut all = RECIPES.split("### ").filter(|text| text.lines().next() == Some(language.heading()));
    all.next().map(|text| format!("### {text}")).unwrap_or_default()
}

/// The calls of one service to another, as all proxies that were asked saw them.
#[derive(Debug, Default)]
struct Edge {
    service: String,
    callee: String,
    kept: u64,
    lost: u64,
    repaired: u64,
    survived: BTreeMap<String, u64>,
    last_lost: Option<String>,
}

impl Edge {
    fn add(&mut self, said: &Value) {
        let count = |name: &str| said.get(name).and_then(Value::as_u64).unwrap_or(0);
        self.kept += count("kept");
        self.lost += count("lost");
        self.repaired += count("repaired");
        for (survivor, count) in said.get("survived").and_then(Value::as_object).into_iter().flatten() {
            *self.survived.entry(survivor.clone()).or_default() += count.as_u64().unwrap_or(0);
        }
        // Times of one form, which sort as texts.
        self.last_lost =
            self.last_lost.take().max(Some(text(said, "lastLost")).filter(|time| !time.is_empty()));
    }

    fn document(&self) -> Value {
        let Self { service, callee, kept, lost, repaired, survived, last_lost } = self;
        json!({
            "service": service, "callee": callee, "kept": kept, "lost": lost, "repaired": repaired,
            "survived": survived, "lastLost": last_lost,
        })
    }

    /// What the caller does wrong, and what that means.
    fn diagnosis(&self) -> String {
        let survived = |name: &str| self.survived.get(name).copied().unwrap_or(0);
        let (trace, request, none) = (survived("trace"), survived("request-id"), survived("none"));
        let who = if self.service == "unknown" { "a caller of it" } else { self.service.as_str() };
        let mut said = String::new();
        if trace > 0 && self.repaired > 0 {
            let _ = writeln!(
                said,
                "{who} hands on the trace and no baggage: the propagator of baggage is missing."
            );
        } else if request > 0 && self.repaired > 0 {
            let _ = writeln!(said, "{who} hands on X-Request-Id, and neither baggage nor a trace.");
        }
        if none > 0 {
            let _ = writeln!(
                said,
                "{none} of them came with nothing at all while every request of {who} had a key: it hands on nothing, or \
                 they are of a job in the background."
            );
        }
        let unrepaired = self.lost.saturating_sub(self.repaired);
        if unrepaired > 0 {
            let _ = writeln!(said, "{unrepaired} of them met the baseline in place of a fork.");
        }
        said
    }
}

fn text(object: &Value, name: &str) -> String {
    object.get(name).and_then(Value::as_str).unwrap_or("").to_owned()
}

/// Asks, and prints. 0: nothing is lost; 1: something is; 2: one of them can't be asked.
pub(crate) fn run(options: &Options) -> ExitCode {
    let mut edges: BTreeMap<(String, String), Edge> = BTreeMap::new();
    for address in &options.admin {
        let admin = Admin::at(address, options.token_file.clone());
        let said = match admin.ask(Method::GET, "/v1/context", String::new()) {
            Ok(said) => said.document,
            Err(error) => {
                out::fail(&format!("{error:#}"));
                return ExitCode::from(2);
            }
        };
        for told in said.get("edges").and_then(Value::as_array).into_iter().flatten() {
            let (service, callee) = (text(told, "service"), text(told, "callee"));
            let edge = edges.entry((service.clone(), callee.clone())).or_default();
            (edge.service, edge.callee) = (service, callee);
            edge.add(told);
        }
        if text(&said, "role") == "gateway" && !options.json {
            crate::out::tell(&format!(
                "{address} is a gateway, which sees no calls between services; ask sidecars and waypoints"
            ));
        }
    }
    let edges: Vec<Edge> = edges.into_values().collect();
    let is_ill = edges.iter().any(|edge| edge.lost > 0);
    let page = if options.json {
        json!({"lost": is_ill, "edges": edges.iter().map(Edge::document).collect::<Vec<_>>()}).to_string()
    } else {
        page(&edges, options.lang, Style::new())
    };
    match out::say(&page) {
        ExitCode::SUCCESS if !is_ill => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// What was found, for people.
fn page(edges: &[Edge], language: Option<Language>, style: Style) -> String {
    let mut page = String::new();
    if edges.is_empty() {
        return "no call with a key was seen yet: send some requests that name a preview, and ask again"
            .to_owned();
    }
    for edge in edges {
        let all = edge.kept + edge.lost;
        let name = style.bold(&format!("{} -> {}", edge.service, edge.callee));
        let survivors: Vec<_> = edge.survived.iter().map(|(name, count)| format!("{name} {count}")).collect();
        let verdict = match edge.lost {
            0 => style.good(&format!("all of {all} calls kept the key")),
            lost => style.bad(&format!("{lost} of {all} calls lost the key, {} got it back", edge.repaired)),
        };
        let _ = writeln!(page, "{name}  {verdict}\n    came along: {}", survivors.join(", "));
        if let Some(time) = &edge.last_lost {
            let _ = writeln!(page, "    last lost: {time}");
        }
        for line in edge.diagnosis().lines() {
            let _ = writeln!(page, "    {line}");
        }
    }
    if edges.iter().any(|edge| edge.lost > 0) {
        let _ = write!(page, "\n{}\n\n{}", style.bold("How to mend it"), recipe(language));
    }
    page
}

#[cfg(test)]
mod tests;
