//! `sidetrack preview`: the previews of a running proxy in file mode, over its admin listener, and those of a cluster.

mod cluster;
mod table;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::ExitCode;

use anyhow::bail;
use clap::ValueEnum;
use hyper::Method;
use serde_json::Value;

use crate::admin::Admin;
use crate::client::encoded;
use crate::cluster::Controller;
use crate::out::{self, Style};

/// What to do with previews.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// List the previews of a running proxy or of a cluster, and what is wrong with them
    #[command(
        after_help = "Examples:\n  sidetrack preview ls\n  sidetrack preview ls --controller https://sidetrack.example.com --token-file token\n  sidetrack preview ls --json | jq '.previews[].key'"
    )]
    Ls(Ls),
    /// Set a preview: all its forks and settings, in place of what was there
    #[command(
        after_help = "The preview is kept as KEY.yaml under previewsDir, and is in force when the command ends.\n\
        \nExamples:\n  sidetrack preview set 42 checkout=10.1.2.3:8080 --ttl 72h\n  \
        sidetrack preview set 57 payment=10.1.2.4:8080,10.1.2.5:8080 --parent 42 --alias fast-pay\n  \
        sidetrack preview set 58 checkout=           # a fork that has no endpoint yet"
    )]
    Set(Set),
    /// Remove a preview
    #[command(after_help = "Example:\n  sidetrack preview rm 42")]
    Rm(Rm),
}

/// `preview ls`.
#[derive(clap::Args)]
pub(crate) struct Ls {
    /// Print the answer as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: Admin,
    #[command(flatten)]
    controller: Controller,
}

/// `preview set`.
#[derive(clap::Args)]
pub(crate) struct Set {
    /// The key: the number of the PR, or a name such as shop-42
    key: String,
    /// A service that the PR changed, and where its fork listens: HOST:PORT, several joined by commas
    #[arg(value_name = "SERVICE=ADDR[,ADDR]", required_unless_present = "parent", value_parser = fork)]
    forks: Vec<(String, Vec<String>)>,
    /// How long after its first appearance it ends, such as 72h [default: never]
    #[arg(long, value_name = "TIME")]
    ttl: Option<String>,
    /// A preview whose forks serve where this one has none; may be repeated
    #[arg(long = "parent", id = "parent", value_name = "KEY")]
    parents: Vec<String>,
    /// Another name of this preview; may be repeated
    #[arg(long = "alias", value_name = "NAME")]
    aliases: Vec<String>,
    /// A host name of this preview; may be repeated
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<String>,
    /// What happens when no endpoint of a fork works [default: fail]
    #[arg(long, value_enum, value_name = "POLICY")]
    on_fork_down: Option<OnForkDown>,
    #[command(flatten)]
    admin: Admin,
    #[command(flatten)]
    controller: Controller,
}

#[derive(Clone, Copy, ValueEnum)]
enum OnForkDown {
    /// The request fails with 503 fork_unavailable
    Fail,
    /// The baseline answers
    Baseline,
    /// The request waits for an endpoint, for limits.holdTimeout at most
    Hold,
}

/// `preview rm`.
#[derive(clap::Args)]
pub(crate) struct Rm {
    /// The key
    key: String,
    #[command(flatten)]
    admin: Admin,
    #[command(flatten)]
    controller: Controller,
}

/// `checkout=10.1.2.3:8080,10.1.2.4:8080`. The proxy knows services and the grammar of addresses.
fn fork(text: &str) -> Result<(String, Vec<String>), String> {
    match text.split_once('=') {
        Some((service, list)) if !service.is_empty() => {
            let addresses = list.split(',').map(str::trim).filter(|address| !address.is_empty());
            Ok((service.to_owned(), addresses.map(str::to_owned).collect()))
        }
        _ => Err("write SERVICE=HOST:PORT, as in checkout=10.1.2.3:8080".to_owned()),
    }
}

/// Does it, and says what came of it.
pub(crate) fn run(command: &Command) -> ExitCode {
    let done = match command {
        Command::Ls(options) => ls(options),
        Command::Set(options) => set(options),
        Command::Rm(options) => rm(options),
    };
    match done {
        Ok(text) => out::say(&text),
        Err(error) => out::fail(&format!("{error:#}")),
    }
}

fn ls(options: &Ls) -> anyhow::Result<String> {
    if let Some(asker) = options.controller.asker(options.admin.token_file())? {
        return cluster::listed(&asker, options.json);
    }
    let said = options.admin.ask(Method::GET, "/v1/previews", String::new())?;
    if options.json { Ok(said.text) } else { Ok(table::listed(&said.document, Style::new())) }
}

fn set(options: &Set) -> anyhow::Result<String> {
    if options.controller.url().is_some() {
        return Err(cluster::not_here(&options.key));
    }
    let said = options.admin.ask(Method::PUT, &target(&options.key), document(options)?)?.document;
    let about = said.get("preview").filter(|preview| !preview.is_null());
    let Some(about) = about else {
        return Ok(format!("preview {} is set, and has ended already: its ttl is over", options.key));
    };
    Ok(format!("set in generation {}\n{}", generation(&said), table::of([about], Style::new())))
}

fn rm(options: &Rm) -> anyhow::Result<String> {
    if options.controller.url().is_some() {
        return Err(cluster::not_here(&options.key));
    }
    let said = options.admin.ask(Method::DELETE, &target(&options.key), String::new())?.document;
    let key = said.get("deleted").and_then(Value::as_str).unwrap_or(&options.key);
    Ok(format!("preview {key} is removed in generation {}", generation(&said)))
}

fn target(key: &str) -> String {
    format!("/v1/previews/{}", encoded(key))
}

fn generation(said: &Value) -> u64 {
    said.get("generation").and_then(Value::as_u64).unwrap_or(0)
}

/// The preview as the YAML that the proxy keeps: in lines, because problems come with the number of theirs.
fn document(options: &Set) -> anyhow::Result<String> {
    let mut forks = BTreeMap::new();
    for (service, addresses) in &options.forks {
        if forks.insert(service, addresses).is_some() {
            bail!("service {service} is named twice; join its addresses by commas: {service}=ADDR,ADDR");
        }
    }
    let mut yaml = String::from("forks:");
    yaml.push_str(if forks.is_empty() { " {}\n" } else { "\n" });
    for (service, addresses) in forks {
        let _ = writeln!(yaml, "  {}: {}", quoted(service), list(addresses));
    }
    for (name, values) in
        [("parents", &options.parents), ("aliases", &options.aliases), ("hosts", &options.hosts)]
    {
        if !values.is_empty() {
            let _ = writeln!(yaml, "{name}: {}", list(values));
        }
    }
    if let Some(ttl) = &options.ttl {
        let _ = writeln!(yaml, "ttl: {}", quoted(ttl));
    }
    if let Some(policy) = options.on_fork_down.and_then(|policy| policy.to_possible_value()) {
        let _ = writeln!(yaml, "onForkDown: {}", policy.get_name());
    }
    Ok(yaml)
}

fn list(values: &[String]) -> String {
    let values: Vec<String> = values.iter().map(|value| quoted(value)).collect();
    format!("[{}]", values.join(", "))
}

/// A text in quotes: a text of JSON is one of YAML.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        set: Set,
    }

    fn document_of(arguments: &[&str]) -> String {
        let line = Line::try_parse_from([&["set"], arguments].concat()).unwrap();
        document(&line.set).unwrap_or_else(|error| error.to_string())
    }

    #[test]
    fn what_is_put_is_quoted_and_in_lines() {
        let all =
            ["7", "shop=a:1, b:2", "checkout=", "--parent", "4\"2", "--alias", "yes", "--host", "h.test"];
        let document = document_of(&[&all[..], &["--ttl", "72h", "--on-fork-down", "hold"]].concat());
        let expected = r#"forks:
  "checkout": []
  "shop": ["a:1", "b:2"]
parents: ["4\"2"]
aliases: ["yes"]
hosts: ["h.test"]
ttl: "72h"
onForkDown: hold
"#;
        assert_eq!(document, expected);
        assert_eq!(document_of(&["7", "--parent", "42"]), "forks: {}\nparents: [\"42\"]\n");
    }

    #[test]
    fn a_preview_is_never_emptied_by_mistake() {
        for wrong in [&["7"][..], &["7", "shop"], &["7", "=a:1"]] {
            assert!(Line::try_parse_from([&["set"], wrong].concat()).is_err(), "{wrong:?}");
        }
        let twice = document_of(&["7", "shop=a:1", "shop=b:2"]);
        assert!(twice.contains("shop is named twice"), "{twice}");
    }
}
