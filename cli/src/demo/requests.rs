//! The requests that the demo shows: printed as curl lines for people, and sent by `--check`, from one list.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where a request goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// The listener without TLS.
    Plain,
    /// The listener with TLS.
    Tls,
    /// The admin listener.
    Admin,
}

/// One request, and what must come of it.
pub(super) struct Case {
    /// What it shows.
    pub(super) title: &'static str,
    pub(super) door: Door,
    /// The host, without port; not used on the admin listener.
    host: &'static str,
    /// Path and query.
    target: &'static str,
    pub(super) headers: &'static [(&'static str, &'static str)],
    /// The status of the answer.
    pub(super) status: u16,
    /// `X-PR-Route` without the generation; empty: there must be none.
    pub(super) receipt: &'static str,
    /// A member of the JSON that is answered.
    pub(super) says: (&'static str, &'static str),
}

const BASE: &str = "preview.localhost";

impl Case {
    const fn new(title: &'static str, host: &'static str, target: &'static str) -> Self {
        let says = ("version", "baseline");
        Self { title, door: Door::Plain, host, target, headers: &[], status: 200, receipt: "", says }
    }

    const fn through(mut self, door: Door) -> Self {
        self.door = door;
        self
    }

    const fn with(mut self, headers: &'static [(&'static str, &'static str)]) -> Self {
        self.headers = headers;
        self
    }

    const fn gets(mut self, version: &'static str, receipt: &'static str) -> Self {
        self.says = ("version", version);
        self.receipt = receipt;
        self
    }

    /// What comes of it, in short.
    pub(super) fn outcome(&self) -> String {
        match (self.status, self.says, self.receipt) {
            (200, (_, says), "") => says.to_owned(),
            (200, _, receipt) => receipt.to_owned(),
            (status, (_, code), _) => format!("{status} {code}"),
        }
    }

    const fn says(mut self, name: &'static str, value: &'static str) -> Self {
        self.says = (name, value);
        self
    }

    const fn fails(mut self, status: u16, code: &'static str, receipt: &'static str) -> Self {
        self.status = status;
        self.says = ("code", code);
        self.receipt = receipt;
        self
    }
}

const TRACEPARENT: (&str, &str) = ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");

/// All of them, in the order of telling.
pub(super) const CASES: [Case; 17] =
    [
        Case::new("no key: the baseline", BASE, "/api/checkout"),
        Case::new("PR 42 by header", BASE, "/api/checkout")
            .with(&[("X-PR-ID", "42")])
            .gets("pr-42", "checkout@42;reason=fork"),
        Case::new("by subdomain", "pr-42.preview.localhost", "/").gets("pr-42", "shop@42;reason=fork"),
        Case::new("a service it left alone", "pr-42.preview.localhost", "/api/payment")
            .gets("baseline", "payment@baseline;reason=no_fork"),
        Case::new("over TLS", "pr-42.preview.localhost", "/api/checkout")
            .through(Door::Tls)
            .gets("pr-42", "checkout@42;reason=fork"),
        Case::new("a service's own host", "checkout--pr-42.preview.localhost", "/")
            .through(Door::Tls)
            .gets("pr-42", "checkout@42;reason=fork"),
        Case::new("by query, and a cookie for what follows", BASE, "/?pr-id=42")
            .gets("pr-42", "shop@42;reason=fork"),
        Case::new("by cookie", BASE, "/api/checkout")
            .with(&[("Cookie", "pr-id=42")])
            .gets("pr-42", "checkout@42;reason=fork"),
        Case::new("by baggage", BASE, "/api/checkout")
            .with(&[("baggage", "tenant=acme,pr-id=42")])
            .gets("pr-42", "checkout@42;reason=fork"),
        Case::new("by tracestate", BASE, "/api/checkout")
            .with(&[TRACEPARENT, ("tracestate", "pr-id=42")])
            .gets("pr-42", "checkout@42;reason=fork"),
        Case::new("PR 57 takes its parent's fork", "pr-57.preview.localhost", "/api/checkout")
            .gets("pr-42", "checkout@42;reason=parent_fork"),
        Case::new("two keys: the first that has a fork", BASE, "/api/payment")
            .with(&[("X-PR-ID", "42,57")])
            .gets("pr-57", "payment@57;reason=fork"),
        Case::new("a fork that is down, with a way out", "pr-66.preview.localhost", "/api/payment")
            .gets("baseline", "payment@baseline;reason=fork_down"),
        Case::new("the same, strict", "pr-66.preview.localhost", "/api/payment")
            .with(&[("X-PR-Strict", "1")])
            .fails(503, "fork_unavailable", "payment@66;reason=fork_down"),
        Case::new("a preview that is not there", BASE, "/api/checkout").with(&[("X-PR-ID", "999")]).fails(
            404,
            "unknown_preview",
            "checkout@none;reason=unknown_preview",
        ),
        Case::new("two carriers that differ", "pr-42.preview.localhost", "/")
            .with(&[("X-PR-ID", "57")])
            .fails(400, "conflicting_keys", ""),
        Case::new("why, step by step", "", "/v1/explain?url=http://pr-57.preview.localhost/api/checkout")
            .through(Door::Admin)
            .says("reason", "parent_fork"),
    ];

/// Where a running demo is found.
pub(super) struct Place {
    pub(super) http: SocketAddr,
    pub(super) https: SocketAddr,
    pub(super) admin: SocketAddr,
    /// The development CA.
    pub(super) ca: PathBuf,
    /// The folder of everything it wrote.
    pub(super) folder: PathBuf,
}

impl Place {
    /// The address behind a door.
    pub(super) const fn address(&self, door: Door) -> SocketAddr {
        match door {
            Door::Plain => self.http,
            Door::Tls => self.https,
            Door::Admin => self.admin,
        }
    }

    /// The URL of a request.
    pub(super) fn url(&self, case: &Case) -> String {
        match case.door {
            Door::Admin => format!("http://{}{}", self.admin, case.target),
            door => self.page(door, case.host, case.target),
        }
    }

    /// A URL of the gateway.
    pub(super) fn page(&self, door: Door, host: &str, target: &str) -> String {
        let (scheme, default) = if door == Door::Tls { ("https", 443) } else { ("http", 80) };
        match self.address(door).port() {
            port if port == default => format!("{scheme}://{host}{target}"),
            port => format!("{scheme}://{host}:{port}{target}"),
        }
    }

    /// The request as a line for a shell.
    pub(super) fn curl(&self, case: &Case) -> String {
        let mut line = String::from("curl");
        if case.door != Door::Admin {
            line.push_str(" -i");
        }
        if case.door == Door::Tls {
            let _ = write!(line, " --cacert {}", quoted(&self.ca.display().to_string()));
        }
        for (name, value) in case.headers {
            let _ = write!(line, " -H {}", quoted(&format!("{name}: {value}")));
        }
        let _ = write!(line, " {}", quoted(&self.url(case)));
        line
    }
}

/// A word for a shell: bare where no shell reads anything into it, else in single quotes.
pub(super) fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/:,@%+".contains(&byte);
    match !word.is_empty() && word.bytes().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_shell_reads_anything_into_a_word() {
        for (word, shown) in [
            ("http://a.b:80/c", "http://a.b:80/c"),
            ("http://a/?b=c", "'http://a/?b=c'"),
            ("", "''"),
            ("it's", r"'it'\''s'"),
            ("$HOME `x`", "'$HOME `x`'"),
        ] {
            assert_eq!(quoted(word), shown);
        }
    }

    #[test]
    fn a_usual_port_is_left_out() {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let place =
            Place { http: at(80), https: at(8443), admin: at(1), ca: PathBuf::new(), folder: PathBuf::new() };
        assert_eq!(place.page(Door::Plain, "a.test", "/"), "http://a.test/");
        assert_eq!(place.page(Door::Tls, "a.test", "/"), "https://a.test:8443/");
    }
}
