//! From an entry to its line.
//!
//! A line is one line, whatever a client sent: control characters and the line ends of Unicode are escaped in both
//! formats, which also keeps terminal sequences away from whoever reads the log on a terminal.

use std::fmt::{self, Display};
use std::io::Write;
use std::time::Duration;

use sidetrack_config::Key;

use super::entry::Entry;
use crate::record::metrics::shown;

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// One JSON object.
    Json,
    /// `name=value`, separated by spaces; a value with other than letters, digits and plain signs is quoted as in JSON.
    Text,
}

/// Appends the line of `entry`, with its end.
pub(super) fn write(entry: &Entry, format: Format, out: &mut Vec<u8>) {
    let mut line = Line { out, format, first: true };
    let [request_id, host, path, service, user_agent] = entry.texts.all();
    let time = jiff::Timestamp::try_from(entry.time).unwrap_or_default();
    line.quoted("time", format_args!("{time:.3}"));
    line.text("request_id", request_id);
    line.quoted("client", entry.client.to_canonical());
    line.plain("connection", entry.connection);
    line.quoted("protocol", entry.protocol);
    line.quoted("scheme", entry.scheme);
    line.text("method", entry.method.as_ref().map_or("", http::Method::as_str).as_bytes());
    line.text("host", host);
    line.text("path", path);
    match entry.keys.as_slice() {
        [] => line.null("keys"),
        keys => line.quoted("keys", Joined(keys)),
    }
    line.quoted_if("carrier", entry.carrier);
    line.text("service", service);
    line.quoted("target", entry.target.as_str());
    match entry.reason {
        Some(reason) => line.quoted("reason", reason),
        None => line.null("reason"),
    }
    line.quoted_if("preview", entry.preview);
    line.plain("generation", entry.generation);
    line.quoted_if("endpoint", entry.endpoint);
    line.plain("retries", entry.retries);
    line.plain("status", shown(entry.status));
    line.quoted_if("error", entry.error);
    line.plain("request_bytes", entry.request_bytes);
    line.plain("response_bytes", entry.response_bytes);
    line.milliseconds("duration_ms", entry.duration);
    if let Some(upstream) = entry.upstream {
        line.milliseconds("upstream_ms", upstream);
    }
    if entry.aborted {
        line.plain("aborted", true);
    }
    line.text("user_agent", user_agent);
    line.end();
}

/// A line in the making. Writing to a `Vec` can't fail, so the results of `write!` are let go.
struct Line<'a> {
    out: &'a mut Vec<u8>,
    format: Format,
    first: bool,
}

impl Line<'_> {
    fn name(&mut self, name: &str) {
        let first = std::mem::replace(&mut self.first, false);
        let _ = match self.format {
            Format::Json => write!(self.out, "{}\"{name}\":", if first { '{' } else { ',' }),
            Format::Text => write!(self.out, "{}{name}=", if first { "" } else { " " }),
        };
    }

    /// A number or a truth.
    fn plain(&mut self, name: &str, value: impl Display) {
        self.name(name);
        let _ = write!(self.out, "{value}");
    }

    fn null(&mut self, name: &str) {
        self.plain(name, if self.format == Format::Json { "null" } else { "-" });
    }

    /// One of our own words, in which nothing needs an escape.
    fn quoted(&mut self, name: &str, value: impl Display) {
        let quote = if self.format == Format::Json { "\"" } else { "" };
        self.plain(name, format_args!("{quote}{value}{quote}"));
    }

    fn quoted_if(&mut self, name: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.quoted(name, value);
        }
    }

    fn milliseconds(&mut self, name: &str, value: Duration) {
        let micros = value.as_micros();
        self.plain(name, format_args!("{}.{:03}", micros / 1_000, micros % 1_000));
    }

    /// What came from outside; empty is absent.
    fn text(&mut self, name: &str, value: &[u8]) {
        if value.is_empty() {
            return self.null(name);
        }
        self.name(name);
        // A lone `-` is what stands for nothing.
        if self.format == Format::Text && value != b"-" && value.iter().all(is_bare) {
            self.out.extend_from_slice(value);
            return;
        }
        self.out.push(b'"');
        escape(value, self.out);
        self.out.push(b'"');
    }

    fn end(self) {
        self.out.extend_from_slice(if self.format == Format::Json { b"}\n" } else { b"\n" });
    }
}

/// Keys with commas between them: no key holds one.
struct Joined<'a>(&'a [Key]);

impl Display for Joined<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, key) in self.0.iter().enumerate() {
            let comma = if position > 0 { "," } else { "" };
            write!(f, "{comma}{key}")?;
        }
        Ok(())
    }
}

/// Whether a byte may stand in an unquoted value.
fn is_bare(byte: &u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b'=')
}

/// Appends `value` as the inside of a JSON string; what is no UTF-8 becomes U+FFFD.
fn escape(value: &[u8], out: &mut Vec<u8>) {
    for chunk in value.utf8_chunks() {
        for char in chunk.valid().chars() {
            let _ = match char {
                '"' | '\\' => write!(out, "\\{char}"),
                '\u{2028}' | '\u{2029}' => write!(out, "\\u{:04x}", u32::from(char)),
                _ if char.is_control() => write!(out, "\\u{:04x}", u32::from(char)),
                _ => write!(out, "{char}"),
            };
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}
