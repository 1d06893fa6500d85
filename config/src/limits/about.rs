//! What happens at each limit, and why it is there: `docs/limits.md` is made of this, the defaults and the schema.

/// What a page says of one limit besides its default.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// The key under `limits`.
    pub name: &'static str,
    /// What happens when it is reached.
    pub over: &'static str,
    /// Why there is a bound, and why this one.
    pub why: &'static str,
}

const fn row(name: &'static str, over: &'static str, why: &'static str) -> About {
    About { name, over, why }
}

/// Every limit, in the order in which a connection meets them.
pub const ABOUT: [About; 28] = [
    row(
        "maxConnections",
        "503 `overloaded` and the end of the connection for some, the end alone for the rest",
        "A connection takes two descriptors and some KiB. 0: half of the descriptors that the process may have, less 64. More than that is not taken, and said at the start.",
    ),
    row(
        "maxConnectionsPerClient",
        "429 `rate_limited` and the end of the connection",
        "One client can't take the room of all. Off, since behind a load balancer all clients are one address; with `proxyProtocol` the address is the client's.",
    ),
    row(
        "maxInFlight",
        "503 `overloaded`, the connection stays",
        "What was begun finishes; a queue would only make everybody late. 0: two for each connection that is allowed.",
    ),
    row(
        "maxMemory",
        "503 `overloaded` for new requests, idle connections are closed",
        "Being killed by the system loses every request. 0: nine tenths of the memory of the machine or of the process's control group. Looked at as often as a flood may fill what is left, once to ten times a second.",
    ),
    row(
        "handshakeTimeout",
        "the connection is closed",
        "A client that connects and says nothing holds a descriptor for nothing.",
    ),
    row(
        "headerTimeout",
        "408 `request_timeout` over HTTP/1.1, the end of the connection over HTTP/2",
        "A head that comes byte by byte holds a connection for nothing (\"slowloris\"). Checked once a second.",
    ),
    row(
        "headerBytes",
        "431 `request_too_large`",
        "Big cookies and tokens fit, a flood does not. Over HTTP/2 the size of the decoded list (RFC 9113 section 10.5.1), so that a small compressed head can't become a large one; it bounds trailers there, too.",
    ),
    row(
        "headerCount",
        "431 `request_too_large`",
        "Each field costs more than its bytes. The crumbs of a cookie count as one field.",
    ),
    row("uriBytes", "414 `request_too_large`", "Longer ones are cut by logs and other tools on the way."),
    row(
        "bodyBytes",
        "413 `request_too_large`; before any byte goes upstream where `Content-Length` says so",
        "Services know best how much they take, so that there is none unless one is set.",
    ),
    row(
        "bodyTimeout",
        "408 `request_timeout`",
        "A body that stalls holds a connection to a service. Time in which the service takes nothing does not count.",
    ),
    row(
        "chunkExtensionBytes",
        "413 `request_too_large`",
        "Nobody uses extensions but to hide things or to keep a reader busy. Not forwarded.",
    ),
    row("trailerBytes", "413 `request_too_large`", "Trailers are held as a whole before they are forwarded."),
    row(
        "streamIdleTimeout",
        "the connection is cut over HTTP/1.1, the stream reset over HTTP/2",
        "A reader that takes nothing holds a connection to a service and what it sent. A slow one may be as slow as it likes.",
    ),
    row(
        "connectionBuffer",
        "the service's connection is read no further until there is room",
        "What one slow reader may pin, over all streams of an HTTP/2 connection together.",
    ),
    row(
        "clientIdleTimeout",
        "the connection is closed; GOAWAY over HTTP/2",
        "Above the 60 s of common load balancers, so that they close first and never write into a connection that we are closing.",
    ),
    row(
        "http2Streams",
        "the stream is refused (REFUSED_STREAM)",
        "Each stream is a request under way; clients open another connection.",
    ),
    row("http2StreamWindow", "the client waits", "What may come of one body before it is used."),
    row("http2ConnectionWindow", "the client waits", "The same for all bodies of a connection."),
    row(
        "http2Resets",
        "GOAWAY with ENHANCE_YOUR_CALM",
        "To open a stream and reset it is cheap for a client and dear for us (CVE-2023-44487). A stream that ends gives one back, and ten seconds all of them. As many resets may a client provoke of us (CVE-2025-8671).",
    ),
    row(
        "http2ControlFrames",
        "GOAWAY with ENHANCE_YOUR_CALM",
        "Floods of SETTINGS, PING, PRIORITY, WINDOW_UPDATE, CONTINUATION, unknown frames and empty DATA (CVE-2019-9512 and its kin, CVE-2024-27316). A frame of an answer gives four back, since clients reply to it, and ten seconds all of them; window updates and pings are free up to one for each 32 bytes that the client was sent.",
    ),
    row(
        "holdTimeout",
        "503 `fork_unavailable`",
        "How long a request waits for a fork that sleeps: longer than a pod takes to start, shorter than clients wait.",
    ),
    row("holdRequests", "503 `fork_unavailable` at once", "What waits takes memory and a connection."),
    row("holdBytes", "503 `fork_unavailable` at once", "The same, for the bodies that wait with them."),
    row(
        "upstreamIdleTimeout",
        "the connection to the service is closed",
        "Below the 5 s after which Node closes, so that a request is not written into a connection that is closing. Over HTTP/2, where a server says before it closes, fifteen times as long.",
    ),
    row(
        "upstreamIdleConnections",
        "the connection to the service is closed after its exchange",
        "Enough for a burst, few enough for a service with many proxies before it.",
    ),
    row(
        "decisionDrain",
        "a call of gRPC ends with status 14, any other stream is reset, an HTTP/1.1 connection cut; a WebSocket is closed at the end of the frame under way",
        "What a fork was made, changed or removed under goes on no longer than this. 0: to its own end. See [long-lived.md](long-lived.md).",
    ),
    row("drainTimeout", "what is left is cut", "A rolling restart waits for this."),
];
