//! Every limit and time-out, each on by default, with its reason.

pub mod about;

use std::time::Duration;

/// The limits of one proxy. Zero means "by memory and descriptors" for counts and "none" for times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a drain may take before what is left is cut: a rolling restart waits for this.
    pub drain_timeout: Duration,
    /// How long an answer may go on whose request would get another target by now; zero: to its own end.
    pub decision_drain: Duration,
    /// How long a request waits for an endpoint of a sleeping fork.
    pub hold_timeout: Duration,
    /// How many requests may wait so at once.
    pub hold_requests: usize,
    /// How many bytes of heads and bodies may wait with them.
    pub hold_bytes: u64,
    /// Open client connections; past it a new one is told 503 `overloaded` and closed.
    pub max_connections: usize,
    /// The same of one client address, or network of IPv6 (/64); zero: any number, since a load balancer is one address.
    pub max_connections_per_client: usize,
    /// Requests under way; past it 503 `overloaded`.
    pub max_in_flight: usize,
    /// Resident bytes of the process; past it 503 `overloaded`. Zero: nine tenths of what the process may have.
    pub max_memory: u64,
    /// Bytes of a request head: big cookies and tokens fit, a flood does not. HTTP/1.1 and HTTP/2 alike.
    pub header_bytes: usize,
    /// Fields of a request head.
    pub header_count: usize,
    /// Bytes of a request target.
    pub uri_bytes: usize,
    /// How long a client may take over a request head: a slow head holds a connection for nothing.
    pub header_timeout: Duration,
    /// Bytes of a request body; zero: any number.
    pub body_bytes: u64,
    /// How long a client may send nothing of a body that is waited for, until the answer begins.
    pub body_timeout: Duration,
    /// Bytes of the extensions of all chunks of a body, which nobody uses but to hide things.
    pub chunk_extension_bytes: u32,
    /// Bytes of the trailers behind a chunked body.
    pub trailer_bytes: u32,
    /// How long a client may take nothing of an answer that waits for it.
    pub stream_idle_timeout: Duration,
    /// How long a TLS handshake, or a PROXY protocol header, may take.
    pub handshake_timeout: Duration,
    /// How long an idle client connection is kept. Above the 60 s of common load balancers, so that they close
    /// first and never write into a connection that we are closing.
    pub client_idle_timeout: Duration,
    /// How long an idle upstream connection is kept. Below the 5 s after which Node closes, for the same reason.
    pub upstream_idle_timeout: Duration,
    /// Idle upstream connections per endpoint and worker.
    pub upstream_idle_connections: usize,
    /// Streams at once on one HTTP/2 connection.
    pub http2_streams: u32,
    /// HTTP/2 flow-control window of a stream, in bytes: what one slow reader may pin.
    pub http2_stream_window: u32,
    /// HTTP/2 flow-control window of a connection, in bytes.
    pub http2_connection_window: u32,
    /// Streams that a client may reset on one connection, beyond those that it lets end: a reset is cheaper for the
    /// client than for us (CVE-2023-44487).
    pub http2_resets: u32,
    /// Frames that carry nothing that a client may send on one connection, beyond those that belong to what it is sent.
    pub http2_control_frames: u32,
    /// Bytes a connection may buffer towards a slow reader.
    pub connection_buffer: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            drain_timeout: Duration::from_secs(30),
            decision_drain: Duration::from_secs(30),
            hold_timeout: Duration::from_secs(30),
            hold_requests: 512,
            hold_bytes: 8 << 20,
            max_connections: 0,
            max_connections_per_client: 0,
            max_in_flight: 0,
            max_memory: 0,
            header_bytes: 64 << 10,
            header_count: 100,
            uri_bytes: 16 << 10,
            header_timeout: Duration::from_secs(10),
            body_bytes: 0,
            body_timeout: Duration::from_secs(60),
            chunk_extension_bytes: 16 << 10,
            trailer_bytes: 16 << 10,
            stream_idle_timeout: Duration::from_secs(300),
            handshake_timeout: Duration::from_secs(10),
            client_idle_timeout: Duration::from_secs(75),
            upstream_idle_timeout: Duration::from_secs(4),
            upstream_idle_connections: 128,
            http2_streams: 100,
            http2_stream_window: 64 << 10,
            http2_connection_window: 1 << 20,
            http2_resets: 500,
            http2_control_frames: 1000,
            connection_buffer: 64 << 10,
        }
    }
}
