//! The kinds of text in a document. Each has one phrase that says what may stand there: the schema shows it,
//! and so does every problem.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

/// A text with a grammar of its own, not yet read.
pub trait Text {
    /// What may stand there, as a noun phrase.
    const ALLOWED: &'static str;

    /// What was written.
    fn text(&self) -> &str;
}

macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident: $types:tt $({ $($keyword:literal: $value:expr),* })?, $allowed:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl Text for $name {
            const ALLOWED: &'static str = $allowed;

            fn text(&self) -> &str {
                &self.0
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": $types, "description": $allowed $(, $($keyword: $value),*)? })
            }
        }
    )*};
}

texts! {
    /// Where we listen.
    Address: "string", "an IP address and a port, such as `127.0.0.1:8080` or `[::1]:8080`";
    /// Where we connect to.
    Endpoint: "string", "`host:port`, `IP:port` or `[IPv6]:port` with a port from 1 to 65535";
    /// Some addresses.
    Network: "string", "a network such as `10.0.0.0/8` or `fd00::/8`, or one IP address";
    /// A DNS name.
    Domain: "string", "a DNS name such as `preview.example.com`";
    /// The hosts of a route.
    RouteHost: "string", "a host name such as `shop.example.com`, `*.example.com` for any depth below, or `*` for any host";
    /// A host.
    HostName: "string", "a host name such as `uat.example.com`, without a port";
    /// What a certificate is for.
    CertificateName: "string", "a DNS name, `*.` and a DNS name, or an IP address";
    /// How an upstream's certificate is called.
    ServerName: "string", "a DNS name or an IP address";
    /// What `Host` says upstream.
    HostRewrite: "string", "`keep`, `base` or a host name";
    /// The name of a preview, or of a parent.
    Key: ["string", "number"], "a key: 1 to 40 of a-z, 0-9 and '-', no '-' first or last, no '--'";
    /// The name of a service.
    ServiceName: "string", "the name of a service under `services`";
    /// A length of time.
    Duration: ["string", "number"], "a length of time such as `500ms`, `30s`, `1m 30s`, `72h`, `7d`, or `0`";
    /// A number of bytes.
    Size: ["string", "number"], "a number of bytes such as `65536`, `64KiB` or `8MiB`";
    /// A file or a folder.
    FilePath: "string" { "minLength": 1 }, "a path, relative to the folder of this file";
    /// The path of a URL.
    UrlPath: "string" { "pattern": "^/" }, "a path that begins with `/`, such as `/api/checkout`";
    /// A header.
    HeaderName: "string" { "pattern": HEADER_PATTERN }, "a header name such as `x-preview-token`";
    /// A carrier.
    CarrierName: "string" { "minLength": 1 }, "a name, or `false` to turn this carrier off";
    /// Another tool.
    ToolName: "string" { "enum": crate::carriers::tool_names().collect::<Vec<_>>() }, "the name of a tool";
    /// How a trace is told.
    TraceFormat: "string" { "enum": ["b3", "datadog"] }, "`b3` or `datadog`";
}

/// A token of RFC 9110 section 5.6.2.
const HEADER_PATTERN: &str = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$";
