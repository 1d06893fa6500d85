//! `docs/errors.md`: every code of `src/error.rs` with its statuses, its cause and the way out.
//!
//! `UPDATE_GOLDEN=1 cargo test -p sidetrack-proxy --test errors_page` writes the page anew.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use sidetrack_proxy::error::Code;

const INTRODUCTION: &str = "\
# Errors that the proxy answers by itself

<!-- Made from the table in proxy/src/error.rs; the causes are in proxy/tests/errors_page.rs. Then run
     UPDATE_GOLDEN=1 cargo test -p sidetrack-proxy --test errors_page -->

An answer with a `code` comes from Sidetrack. An answer without one comes from a service, whatever its status.

The dress follows the request: `application/problem+json` (RFC 9457) by default, a small HTML page where `Accept` prefers
`text/html`, a trailers-only answer where `Content-Type` is `application/grpc`. All three say the same; the problem has
`type`, `title`, `status`, `detail`, `code`, `preview`, `service` and `requestId`. `detail` says what is wrong and what to
write instead. The same code stands in the access log (`error`) and in `sidetrack_errors_total{code=...}`.

";

const EPILOGUE: &str = "
Closed means that an HTTP/1.1 connection ends after the answer, because the framing of what follows can't be trusted;
an HTTP/2 connection stays.

Some things are refused before there is a request that could be answered so: over HTTP/2 a head that is over
`limits.headerBytes` (431 without a body) or malformed (the stream is reset, or the connection
ends where what follows can't be read for sure: RFC 9113 section 5.4.1); a connection that says nothing for
`limits.handshakeTimeout` (the connection is closed), and what `limits.md` says of HTTP/2 connections (GOAWAY).
";

/// What a page says of a code besides its row of the table.
struct About {
    /// Statuses that it may have instead of the table's.
    also: &'static [u16],
    cause: &'static str,
    way_out: &'static str,
}

/// No catch-all arm: a new code does not compile until it is explained.
const fn about(code: Code) -> About {
    const fn row(also: &'static [u16], cause: &'static str, way_out: &'static str) -> About {
        About { also, cause, way_out }
    }
    match code {
        Code::MalformedRequest => row(
            &[],
            "No `Host` or two of them, `:authority` and `Host` that differ, an authority that is no host (userinfo, `%`), a target that is no path, a path that reads as another route once `..`, `//`, `%2e` and `%2f` are resolved, a request body that broke off. Over HTTP/1.1 also a head or a body that two readers could read differently: two `Content-Length`, one beside `Transfer-Encoding`, a coding other than `chunked`, a folded line, a line that ends without CR LF, a blank before a colon, a character that has to be percent-encoded.",
            "Send one `Host`; write the path resolved.",
        ),
        Code::MalformedKey => row(
            &[],
            "An explicit carrier (header, host, path, query, baggage, tracestate) is empty or holds something that is no key; a label that begins with the prefix stands in the wrong place of the host; a header is `X-PR-ID` but for `_`.",
            "Write `42`, `pr-42` or `shop-42`. An empty `X-PR-ID` is often an unset variable in a CI job.",
        ),
        Code::ConflictingKeys => {
            row(&[], "Two explicit carriers name different keys.", "Send one of them, or the same in both.")
        }
        Code::NoRoute => row(
            &[],
            "No route matches host and path; or the service has no `baseline` and no named preview forks it.",
            "See `routes` in the configuration, and `sidetrack explain URL`.",
        ),
        Code::UnknownPreview => row(
            &[],
            "A named preview is not there, and `unknownPreview` is `reject` or the request says `X-PR-Strict: 1`.",
            "Check the key; see `sidetrack preview ls`. A cookie that named it is cleared with this answer.",
        ),
        Code::PreviewExpired => row(
            &[],
            "As `unknown_preview`, for a key that was there within the last 7 days: its `ttl` is over, or it was removed.",
            "Put the preview again.",
        ),
        Code::AccessDenied => row(
            &[401],
            "`access` of the file or of the preview lets this client send no keyed request. 401 where a token would help and none was sent.",
            "Come from a network of `allow`, or send the token in the header of `access.header`.",
        ),
        Code::MethodNotAllowed => row(
            &[],
            "`CONNECT` or `TRACE`.",
            "Use another method. WebSocket over HTTP/2 (RFC 8441) is allowed.",
        ),
        Code::RequestTooLarge => row(
            &[414, 431],
            "The request target is longer than `limits.uriBytes` (414), the head over `limits.headerBytes` or `limits.headerCount` (431), the body over `limits.bodyBytes`, `limits.chunkExtensionBytes` or `limits.trailerBytes` (413).",
            "Shorten it, or raise the limit.",
        ),
        Code::RequestTimeout => row(
            &[],
            "The head of a request over HTTP/1.1 was not there within `limits.headerTimeout`, or nothing came of its body for `limits.bodyTimeout`.",
            "Send it faster, or raise the limit.",
        ),
        Code::RateLimited => row(
            &[],
            "The client's address has more connections open than `limits.maxConnectionsPerClient` allows; the connection is closed.",
            "Use fewer connections, or keep them open; raise the limit.",
        ),
        Code::ForkUnavailable => row(
            &[],
            "The preview declares a fork of this service, and no endpoint of it is healthy or takes the connection. `onForkDown` is `fail`, or `hold` and its time is over, or the request says `X-PR-Strict: 1`.",
            "Look at the fork's process and address; `sidetrack preview ls` shows the endpoints.",
        ),
        Code::UpstreamUnavailable => row(
            &[502],
            "No endpoint of the baseline takes the connection (503); or an endpoint closed the connection before it answered, and the request could not be sent again (502).",
            "Look at the service.",
        ),
        Code::UpstreamTimeout => row(
            &[],
            "The service did not answer within its `timeouts.response`.",
            "Look at the service, or raise the time-out.",
        ),
        Code::UpstreamProtocol => row(
            &[],
            "The service did not answer in HTTP, switched protocols unasked, or speaks HTTP/2 and was asked to upgrade.",
            "Check `protocol` of the service.",
        ),
        Code::LoopDetected => row(
            &[],
            "`Via` names this very process: a route leads back to it.",
            "Check that no endpoint is the proxy's own address.",
        ),
        Code::Overloaded => row(
            &[],
            "More requests are under way than `limits.maxInFlight` allows, more connections open than `limits.maxConnections` (the connection is closed), more memory taken than `limits.maxMemory`; or the system gives the proxy no more descriptors or ports for connections to services.",
            "Try again; see `sidetrack_limits_reached_total`, and raise the limit or add gateways.",
        ),
        Code::Draining => row(&[], "The proxy is on its way out.", ""),
        Code::Internal => row(&[], "A fault of the proxy itself.", "Report it with the request id."),
    }
}

/// All that the proxy is made of, but the table itself.
fn sources() -> String {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut text = String::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|name| name != "error.rs") {
                text.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    text
}

fn page() -> String {
    let sources = sources();
    let mut page = INTRODUCTION.to_owned();
    page.push_str(
        "| Code | HTTP | gRPC | HTTP/1.1 connection | Cause | What to do |\n|---|---|---|---|---|---|\n",
    );
    for code in Code::ALL {
        let (answer, About { also, cause, way_out }) = (code.answer(), about(code));
        let statuses: BTreeSet<_> = also.iter().copied().chain([answer.status]).collect();
        let statuses = statuses.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
        let connection = if answer.close { "closed" } else { "kept" };
        // A code of the contract that nothing gives yet is told as such.
        let is_given = sources.contains(&format!("Code::{code:?}"));
        let way_out = if is_given { way_out } else { "Reserved: this version never gives it." };
        let row = format!("`{code}` | {statuses} | {} | {connection} | {cause} | {way_out}", answer.grpc);
        writeln!(page, "| {row} |").unwrap();
    }
    page + EPILOGUE
}

#[test]
fn the_page_is_what_the_table_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/errors.md");
    let page = page();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(page, written, "docs/errors.md is old: UPDATE_GOLDEN=1 writes it anew");
}

#[test]
fn other_statuses_are_those_that_the_sources_give() {
    let sources = sources();
    let given: BTreeSet<u16> = sources
        .split(".with_status(")
        .skip(1)
        .filter_map(|rest| rest.split(')').next().unwrap().parse().ok())
        .collect();
    let told: BTreeSet<u16> = Code::ALL.into_iter().flat_map(|code| about(code).also).copied().collect();
    assert_eq!(given, told);
    assert!(!told.is_empty());
}
