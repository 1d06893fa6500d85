//! The carriers: where in a request a key is found, in which order, and the sets of other tools.

use std::fmt;

/// A place in a request where a key is found, in order of precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Carrier {
    /// `X-PR-ID: 42`, gRPC metadata included.
    Header,
    /// `pr-42.D`, `pr-42.api.D`, `api--pr-42.D`, `pr-42--api.D`, and `hosts` of a preview.
    Host,
    /// `/pr-42/api`.
    Path,
    /// `?pr-id=42`.
    Query,
    /// Member `pr-id=42` of `baggage`.
    Baggage,
    /// Member `pr-id=42` of `tracestate`.
    Tracestate,
    /// A carrier of another tool.
    Alias,
    /// Cookie `pr-id=42`.
    Cookie,
    /// The host of `Origin`.
    Origin,
    /// The id of a trace that a gateway began, or an id that a sidecar saw come in with a key.
    Trace,
}

impl Carrier {
    /// The name in logs, metrics and `explain`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Host => "host",
            Self::Path => "path",
            Self::Query => "query",
            Self::Baggage => "baggage",
            Self::Tracestate => "tracestate",
            Self::Alias => "alias",
            Self::Cookie => "cookie",
            Self::Origin => "origin",
            Self::Trace => "trace",
        }
    }
}

impl fmt::Display for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where another tool keeps its routing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A header of this name.
    Header(&'static str),
    /// A member of `baggage`.
    Baggage(&'static str),
    /// A member of `tracestate`.
    Tracestate(&'static str),
    /// A query parameter.
    Query(&'static str),
}

/// A tool whose carriers can be read beside ours, by its name in `carriers.aliases`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tool {
    /// The name in the configuration.
    pub name: &'static str,
    /// Its carriers, the first one that names a preview wins.
    pub places: &'static [Place],
}

/// The ready-made sets.
///
/// Left out on purpose: Telepresence's `x-user` and kt-connect's `VERSION`. Their values are user names and
/// version numbers in ordinary traffic, so that user 42 would land on PR 42.
pub const TOOLS: &[Tool] = &[
    Tool {
        name: "signadot",
        places: &[
            Place::Baggage("sd-routing-key"),
            Place::Tracestate("sd-routing-key"),
            Place::Baggage("sd-sandbox"),
            Place::Tracestate("sd-sandbox"),
            Place::Baggage("sd-workspace"),
            Place::Tracestate("sd-workspace"),
            Place::Header("ot-baggage-sd-routing-key"),
            Place::Header("ot-baggage-sd-sandbox"),
            Place::Header("uberctx-sd-routing-key"),
            Place::Header("uberctx-sd-sandbox"),
            Place::Query("sd-routing-key"),
        ],
    },
    Tool { name: "mirrord", places: &[Place::Baggage("mirrord-session")] },
    Tool {
        name: "okteto",
        places: &[
            Place::Baggage("okteto-divert"),
            Place::Header("baggage.okteto-divert"),
            Place::Header("x-okteto-divert"),
        ],
    },
    Tool { name: "telepresence", places: &[Place::Header("x-telepresence-intercept-id")] },
    Tool { name: "ktenv", places: &[Place::Header("x-virtual-env"), Place::Header("ali-env-mark")] },
];

/// The names of [`TOOLS`].
pub fn tool_names() -> impl Iterator<Item = &'static str> {
    TOOLS.iter().map(|tool| tool.name)
}
