//! `sidetrack explain`: what a running proxy would do with a request, step by step and why, and nothing is sent upstream; or,
//! with `--send`, which way the real request went.

mod chain;
mod send;

use std::fmt::Write;
use std::net::IpAddr;
use std::process::ExitCode;

use hyper::Method;
use serde_json::Value;

use crate::admin::Admin;
use crate::client::encoded;
use crate::out::{self, Style};

/// The request to explain.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The URL as a client would write it
    url: String,
    /// A header line of the request; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header_line)]
    headers: Vec<String>,
    /// Its method [default: GET; POST with --data]
    #[arg(short = 'X', long = "request", value_name = "METHOD")]
    method: Option<String>,
    /// The address that the client would have
    #[arg(long, value_name = "IP", conflicts_with = "send")]
    client: Option<IpAddr>,
    /// Print what is known as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: Admin,
    #[command(flatten)]
    sending: send::Sending,
}

fn header_line(line: &str) -> Result<String, String> {
    match line.split_once(':') {
        Some((name, _)) if !name.trim().is_empty() => Ok(line.to_owned()),
        _ => Err("write NAME: VALUE, as in 'X-PR-ID: 42'".to_owned()),
    }
}

/// Asks and prints.
pub(crate) fn run(options: &Options) -> ExitCode {
    if options.sending.send {
        return send::run(options);
    }
    match options.admin.ask(Method::GET, &target(options), String::new()) {
        Ok(said) if options.json => out::say(&said.text),
        Ok(said) => out::say(&page(options, &said.document, Style::new())),
        Err(error) => out::fail(&format!("{error:#}")),
    }
}

impl Options {
    fn method(&self) -> &str {
        match (&self.method, self.sending.has_body()) {
            (Some(method), _) => method,
            (None, true) => "POST",
            (None, false) => "GET",
        }
    }

    /// The request for people, and an empty line.
    fn request(&self) -> String {
        let mut text = format!("{} {}\n", self.method(), self.url);
        for line in &self.headers {
            let _ = writeln!(text, "{line}");
        }
        text.push('\n');
        text
    }
}

fn target(options: &Options) -> String {
    let mut target =
        format!("/v1/explain?url={}&method={}", encoded(&options.url), encoded(options.method()));
    for line in &options.headers {
        target.push_str("&header=");
        target.push_str(&encoded(line));
    }
    if let Some(client) = options.client {
        target.push_str("&client=");
        target.push_str(&encoded(&client.to_string()));
    }
    target
}

/// The answer for people: the request, every step, and the end of it.
fn page(options: &Options, said: &Value, style: Style) -> String {
    let mut page = options.request();
    let mut before = "";
    for step in said.get("steps").and_then(Value::as_array).into_iter().flatten() {
        let name = text(step, "step");
        // A step that says several things is named once.
        let shown = if name == before { "" } else { name };
        let _ = writeln!(page, "  {}  {}", style.bold(&format!("{shown:<9}")), text(step, "result"));
        before = name;
    }
    let _ = write!(page, "\n  {}", outcome(said, style));
    page
}

fn outcome(said: &Value, style: Style) -> String {
    let generation = said.get("generation").and_then(Value::as_u64).unwrap_or(0);
    if let Some(error) = said.get("error").filter(|error| !error.is_null()) {
        let status = error.get("status").and_then(Value::as_u64).unwrap_or(0);
        let answer = style.bad(&format!("the proxy answers {status} {}", text(error, "code")));
        return format!("{answer} (generation {generation})");
    }
    let side = match said.get("preview").and_then(Value::as_str) {
        Some(key) => key,
        None => text(said, "target"),
    };
    let at = style.good(&format!("{}@{side}", text(said, "service")));
    match said.get("endpoint").and_then(Value::as_str) {
        Some(endpoint) => {
            format!("{at} at {endpoint} (reason {}, generation {generation})", text(said, "reason"))
        }
        None => format!("{at}, once an endpoint of it is healthy (generation {generation})"),
    }
}

fn text<'a>(object: &'a Value, name: &str) -> &'a str {
    object.get(name).and_then(Value::as_str).unwrap_or("")
}
