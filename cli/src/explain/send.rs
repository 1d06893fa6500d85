//! `sidetrack explain --send`: the real request goes out, and every hop that it met is told. What is known when the answer
//! comes stands in its fields; for late receipts the gateway's admin listener is asked.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use bytes::Bytes;
use http_body_util::Full;
use hyper::http::uri::{Scheme, Uri};
use hyper::{Method, Request};
use serde_json::json;

use super::chain::Chain;
use crate::client::{self, Reply};
use crate::out::{self, Style};

/// How often the gateway is asked for late receipts.
const PAUSE: Duration = Duration::from_millis(100);
/// Where nothing new comes for so long, nothing is waited for.
const QUIET: Duration = Duration::from_millis(500);

/// How a request is sent.
#[derive(clap::Args)]
#[command(next_help_heading = "Sending")]
pub(super) struct Sending {
    /// Send the request, and tell every hop that it met
    #[arg(long)]
    pub(super) send: bool,
    /// Its body
    #[arg(short, long, value_name = "TEXT", requires = "send")]
    data: Option<String>,
    /// Trust the authorities of this file, and no others
    #[arg(long, value_name = "FILE", requires = "send")]
    cacert: Option<PathBuf>,
    /// Trust any certificate
    #[arg(short = 'k', long, requires = "send", conflicts_with = "cacert")]
    insecure: bool,
    /// Connect to ADDR in place of HOST and PORT; may be repeated
    #[arg(long, value_name = "HOST:PORT:ADDR", requires = "send", value_parser = resolve)]
    resolve: Vec<(String, SocketAddr)>,
    /// How long to wait for late receipts, such as 500ms or 2s
    #[arg(long, value_name = "TIME", requires = "send", default_value = "2s", value_parser = time)]
    wait: Duration,
}

impl Sending {
    /// Whether the request has a body.
    pub(super) const fn has_body(&self) -> bool {
        self.data.is_some()
    }
}

/// `HOST:PORT:ADDR`: what stands in a URL, and where to connect for it.
fn resolve(text: &str) -> Result<(String, SocketAddr), String> {
    let wrong = || "write HOST:PORT:ADDR, as in preview.example.com:443:10.0.0.1".to_owned();
    let (host, rest) = text.split_once(':').ok_or_else(wrong)?;
    let (port, address) = rest.split_once(':').ok_or_else(wrong)?;
    let address: IpAddr = address.trim_matches(['[', ']']).parse().map_err(|_| wrong())?;
    let number: u16 = port.parse().map_err(|_| wrong())?;
    Ok((format!("{}:{number}", host.to_ascii_lowercase()), SocketAddr::new(address, number)))
}

/// A length of time.
fn time(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let number: u64 = number.parse().map_err(|_| "write a length of time such as 500ms or 2s".to_owned())?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        _ => Err("write a length of time such as 500ms or 2s".to_owned()),
    }
}

/// Sends and prints.
pub(super) fn run(options: &super::Options) -> ExitCode {
    let begun = Instant::now();
    let reply = match send(options) {
        Ok(reply) => reply,
        Err(error) => return out::fail(&format!("{error:#}")),
    };
    let took = begun.elapsed();
    let (chain, unasked) = late(options, Chain::of(&reply.fields));
    let notes = notes(&chain, unasked);
    if options.json {
        let document = json!({
            "status": reply.status.as_u16(),
            "durationMs": took.as_secs_f64() * 1000.0,
            "trace": chain.trace,
            "complete": chain.complete,
            "hops": chain.json(),
            "notes": notes,
        });
        return out::say(&document.to_string());
    }
    let style = Style::new();
    let status = format!("{} in {:.1} ms ({:?})", reply.status, took.as_secs_f64() * 1000.0, reply.version);
    let status = if reply.status.is_server_error() { style.bad(&status) } else { style.bold(&status) };
    let mut page = format!("{}  {status}\n\n{}", options.request(), chain.tree(style));
    if let Some(trace) = &chain.trace {
        page.push_str(&format!("\n  {}\n", style.dim(&format!("trace {trace}"))));
    }
    for note in notes {
        page.push_str(&format!("\n  {note}\n"));
    }
    out::say(&page)
}

/// Sends the request, as a browser would: with no trace of its own, so that the gateway begins one.
fn send(options: &super::Options) -> anyhow::Result<Reply> {
    let sending = &options.sending;
    let url: Uri = options.url.parse().with_context(|| format!("{:?} is no URL", options.url))?;
    let secure = url.scheme() == Some(&Scheme::HTTPS);
    let host = url.host().filter(|_| secure || url.scheme() == Some(&Scheme::HTTP));
    let host =
        host.ok_or_else(|| anyhow!("{:?} does not begin with http://HOST or https://HOST", options.url))?;
    let port = url.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let to = sending.target(host, port);
    let method = Method::from_bytes(options.method().as_bytes()).context("that is no method")?;
    let mut request = Request::builder().method(method).uri(url);
    for line in &options.headers {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        request = request.header(name.trim(), value.trim());
    }
    let body = Full::new(Bytes::from(sending.data.clone().unwrap_or_default()));
    let request = request.body(body).context("the request can't be sent")?;
    let tls = match (secure, sending.insecure, &sending.cacert) {
        (false, _, _) => None,
        (true, true, _) => Some(client::trust_in_anybody()?),
        (true, false, Some(file)) => Some(client::trust(file)?),
        (true, false, None) => Some(client::trust_of_system("--cacert")?),
    };
    ensure!(
        secure || !(sending.insecure || sending.cacert.is_some()),
        "--insecure and --cacert are for https://"
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(client::send(request, &to, tls.as_ref()))
}

impl Sending {
    /// Where to connect for a host and port.
    fn target(&self, host: &str, port: u16) -> String {
        let asked = format!("{}:{port}", host.to_ascii_lowercase());
        if let Some((_, address)) = self.resolve.iter().find(|(name, _)| *name == asked) {
            return address.to_string();
        }
        // As browsers and curl have it (RFC 6761 section 6.3); systems differ.
        if host.eq_ignore_ascii_case("localhost") || host.to_ascii_lowercase().ends_with(".localhost") {
            return SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string();
        }
        asked
    }
}

/// Asks the gateway for receipts until no new ones come, or the time is over. With the reason why it was not asked.
fn late(options: &super::Options, mut chain: Chain) -> (Chain, Option<String>) {
    let Some(trace) = chain.trace.clone() else { return (chain, None) };
    let begun = Instant::now();
    let mut changed = begun;
    loop {
        let told = match options.admin.ask(Method::GET, &format!("/v1/receipts/{trace}"), String::new()) {
            Ok(said) => Chain::told(&said.document),
            Err(error) => return (chain, Some(format!("{error:#}"))),
        };
        if let Some(told) = told {
            if told.hops.len() != chain.hops.len() {
                changed = Instant::now();
            }
            chain = told;
        }
        if begun.elapsed() + PAUSE > options.sending.wait || changed.elapsed() > QUIET {
            return (chain, None);
        }
        std::thread::sleep(PAUSE);
    }
}

/// What there is to say besides.
fn notes(chain: &Chain, unasked: Option<String>) -> Vec<String> {
    let mut notes = Vec::new();
    match chain.hops.as_slice() {
        [] => notes.push(
            "The answer has no receipt: the request had no key, or what answered is no gateway of Sidetrack.".to_owned(),
        ),
        [only] => notes.push(format!(
            "{} answered; nothing is known of calls behind it: it makes none, has no sidecar and no waypoint behind it, or \
             drops the context (see sidetrack doctor).",
            only.service
        )),
        _ => {}
    }
    if !chain.complete {
        notes.push(
            "Some hops are missing: their calls had no answer yet, or there was no room for them.".to_owned(),
        );
    }
    if let Some(why) = unasked {
        notes.push(format!("Endpoints and late hops are not known; the gateway was not asked: {why}"));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to_connect() {
        let options = |resolve: &[&str]| Sending {
            send: true,
            data: None,
            cacert: None,
            insecure: false,
            resolve: resolve.iter().map(|text| super::resolve(text).unwrap()).collect(),
            wait: Duration::ZERO,
        };
        assert_eq!(options(&[]).target("A.Test", 80), "a.test:80");
        assert_eq!(options(&[]).target("pr-42.preview.Localhost", 8443), "127.0.0.1:8443");
        assert_eq!(options(&["A.test:443:10.0.0.1"]).target("a.TEST", 443), "10.0.0.1:443");
        assert_eq!(options(&["a.test:443:[::1]"]).target("a.test", 443), "[::1]:443");
        assert_eq!(options(&["a.test:443:10.0.0.1"]).target("a.test", 80), "a.test:80");
        for bad in ["", "a", "a:80", "a:x:1.2.3.4", "a:80:host"] {
            assert!(super::resolve(bad).is_err(), "{bad}");
        }
        assert_eq!(time("1500ms"), Ok(Duration::from_millis(1500)));
        assert_eq!(time("2s"), Ok(Duration::from_secs(2)));
        for bad in ["", "2", "s", "2m"] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }
}
