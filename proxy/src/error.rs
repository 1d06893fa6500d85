//! Everything that makes the proxy answer by itself, and the one table from error to answer.

use std::fmt;

use sidetrack_config::Key;

use crate::limit::Limit;

/// The stable word for an error: in answers, logs and `errors_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The message is not one that both sides would read alike.
    MalformedRequest,
    /// An explicit carrier holds something that is no key.
    MalformedKey,
    /// Two explicit carriers name different keys.
    ConflictingKeys,
    /// No route for this host and path.
    NoRoute,
    /// A named preview is not there.
    UnknownPreview,
    /// A named preview was there within the last seven days.
    PreviewExpired,
    /// This client may not send a keyed request.
    AccessDenied,
    /// CONNECT or TRACE.
    MethodNotAllowed,
    /// The head or the body is over a limit.
    RequestTooLarge,
    /// The client was too slow.
    RequestTimeout,
    /// The client asked too often.
    RateLimited,
    /// The fork is declared and cannot be reached.
    ForkUnavailable,
    /// No endpoint of the service can be reached.
    UpstreamUnavailable,
    /// The upstream was too slow.
    UpstreamTimeout,
    /// The upstream did not speak HTTP as it should.
    UpstreamProtocol,
    /// The request has been here before.
    LoopDetected,
    /// The proxy is at one of its limits.
    Overloaded,
    /// The proxy is on its way out.
    Draining,
    /// A fault of the proxy itself.
    Internal,
}

/// What the outside sees of a [`Code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The word of the contract.
    pub word: &'static str,
    /// A title for people.
    pub title: &'static str,
    /// HTTP status.
    pub status: u16,
    /// gRPC status (the numbers of grpc/doc/statuscodes.md).
    pub grpc: u8,
    /// Whether an HTTP/1.1 connection ends after it: where the framing of what follows can't be trusted.
    pub close: bool,
}

impl Code {
    /// Every code, in the order of [`Code::index`].
    pub const ALL: [Self; 19] = [
        Self::MalformedRequest,
        Self::MalformedKey,
        Self::ConflictingKeys,
        Self::NoRoute,
        Self::UnknownPreview,
        Self::PreviewExpired,
        Self::AccessDenied,
        Self::MethodNotAllowed,
        Self::RequestTooLarge,
        Self::RequestTimeout,
        Self::RateLimited,
        Self::ForkUnavailable,
        Self::UpstreamUnavailable,
        Self::UpstreamTimeout,
        Self::UpstreamProtocol,
        Self::LoopDetected,
        Self::Overloaded,
        Self::Draining,
        Self::Internal,
    ];

    /// Position in [`Code::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The one table. No catch-all arm: a new code does not compile until it has its place here.
    pub const fn answer(self) -> Answer {
        const fn row(word: &'static str, title: &'static str, status: u16, grpc: u8, close: bool) -> Answer {
            Answer { word, title, status, grpc, close }
        }
        const DEADLINE: u8 = 4;
        const INVALID: u8 = 3;
        const NOT_FOUND: u8 = 5;
        const DENIED: u8 = 7;
        const EXHAUSTED: u8 = 8;
        const PRECONDITION: u8 = 9;
        const UNIMPLEMENTED: u8 = 12;
        const INTERNAL: u8 = 13;
        const UNAVAILABLE: u8 = 14;
        match self {
            Self::MalformedRequest => row("malformed_request", "Malformed request", 400, INVALID, true),
            Self::MalformedKey => row("malformed_key", "Malformed preview key", 400, INVALID, false),
            Self::ConflictingKeys => row("conflicting_keys", "Conflicting preview keys", 400, INVALID, false),
            Self::NoRoute => row("no_route", "No route", 404, NOT_FOUND, false),
            Self::UnknownPreview => row("unknown_preview", "Unknown preview", 404, NOT_FOUND, false),
            Self::PreviewExpired => row("preview_expired", "Preview expired", 410, NOT_FOUND, false),
            Self::AccessDenied => row("access_denied", "Access denied", 403, DENIED, false),
            Self::MethodNotAllowed => {
                row("method_not_allowed", "Method not allowed", 405, UNIMPLEMENTED, true)
            }
            Self::RequestTooLarge => row("request_too_large", "Request too large", 413, EXHAUSTED, true),
            Self::RequestTimeout => row("request_timeout", "Request timed out", 408, DEADLINE, true),
            Self::RateLimited => row("rate_limited", "Too many requests", 429, EXHAUSTED, false),
            Self::ForkUnavailable => row("fork_unavailable", "Fork unavailable", 503, UNAVAILABLE, false),
            Self::UpstreamUnavailable => {
                row("upstream_unavailable", "Service unavailable", 503, UNAVAILABLE, false)
            }
            Self::UpstreamTimeout => row("upstream_timeout", "Service timed out", 504, DEADLINE, false),
            Self::UpstreamProtocol => {
                row("upstream_protocol", "Service answered badly", 502, UNAVAILABLE, false)
            }
            Self::LoopDetected => row("loop_detected", "Loop detected", 508, PRECONDITION, false),
            Self::Overloaded => row("overloaded", "Overloaded", 503, UNAVAILABLE, false),
            Self::Draining => row("draining", "Draining", 503, UNAVAILABLE, true),
            Self::Internal => row("internal", "Internal error", 500, INTERNAL, false),
        }
    }

    /// The word of the contract.
    pub const fn as_str(self) -> &'static str {
        self.answer().word
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One failure of one request: what the client may read of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which row of the table.
    pub code: Code,
    /// One sentence for people: what is wrong, and what to write instead. Never holds what only the log may say.
    pub detail: Box<str>,
    /// Where the table has a choice of status (401 beside 403, 414 and 431 beside 413, 502 beside 503).
    pub status: Option<u16>,
    /// The preview it is about.
    pub preview: Option<Key>,
    /// The limit that was reached.
    pub limit: Option<Limit>,
    /// Where gRPC has a more exact status than that of the table.
    pub grpc: Option<u8>,
}

impl Failure {
    /// A failure with the status of the table.
    pub fn new(code: Code, detail: impl Into<Box<str>>) -> Self {
        Self { code, detail: detail.into(), status: None, preview: None, limit: None, grpc: None }
    }

    /// The same, because this limit was reached.
    #[must_use]
    pub const fn over(mut self, limit: Limit) -> Self {
        self.limit = Some(limit);
        self
    }

    /// The same, about this preview.
    #[must_use]
    pub fn about(mut self, preview: Key) -> Self {
        self.preview = Some(preview);
        self
    }

    /// The same, with another status of those that the contract allows for its code.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// The gRPC status to answer with.
    pub fn grpc(&self) -> u8 {
        self.grpc.unwrap_or(self.code.answer().grpc)
    }

    /// The HTTP status to answer with.
    pub fn status(&self) -> u16 {
        self.status.unwrap_or(self.code.answer().status)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_the_position_and_words_are_unique() {
        for (position, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code.index(), position, "{code}");
        }
        let words: std::collections::BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(words.len(), Code::ALL.len());
    }
}
