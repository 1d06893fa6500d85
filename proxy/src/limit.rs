//! The limits that a client can run into, each by the name of its setting.

use std::fmt;

use crate::error::{Code, Failure};

/// A limit that was reached: why something was refused or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Open client connections.
    MaxConnections,
    /// Open connections of one client address.
    MaxConnectionsPerClient,
    /// Requests under way.
    MaxInFlight,
    /// Memory of the process.
    MaxMemory,
    /// Bytes of a head.
    HeaderBytes,
    /// Fields of a head.
    HeaderCount,
    /// Bytes of a target.
    UriBytes,
    /// Time for a head.
    HeaderTimeout,
    /// Bytes of a request body.
    BodyBytes,
    /// Time in which nothing came of a request body.
    BodyTimeout,
    /// Bytes of the extensions of chunks.
    ChunkExtensionBytes,
    /// Bytes of trailers.
    TrailerBytes,
    /// Time in which nothing was taken of an answer.
    StreamIdleTimeout,
    /// Time for a handshake.
    HandshakeTimeout,
    /// Time in which a connection was not used.
    ClientIdleTimeout,
    /// Streams that were reset.
    Http2Resets,
    /// Frames that carry nothing.
    Http2ControlFrames,
    /// Requests that wait for a fork.
    HoldRequests,
    /// Their bytes.
    HoldBytes,
}

impl Limit {
    /// Every limit, in the order of [`Limit::index`].
    pub const ALL: [Self; 19] = [
        Self::MaxConnections,
        Self::MaxConnectionsPerClient,
        Self::MaxInFlight,
        Self::MaxMemory,
        Self::HeaderBytes,
        Self::HeaderCount,
        Self::UriBytes,
        Self::HeaderTimeout,
        Self::BodyBytes,
        Self::BodyTimeout,
        Self::ChunkExtensionBytes,
        Self::TrailerBytes,
        Self::StreamIdleTimeout,
        Self::HandshakeTimeout,
        Self::ClientIdleTimeout,
        Self::Http2Resets,
        Self::Http2ControlFrames,
        Self::HoldRequests,
        Self::HoldBytes,
    ];

    /// Position in [`Limit::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name of its setting under `limits`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MaxConnections => "maxConnections",
            Self::MaxConnectionsPerClient => "maxConnectionsPerClient",
            Self::MaxInFlight => "maxInFlight",
            Self::MaxMemory => "maxMemory",
            Self::HeaderBytes => "headerBytes",
            Self::HeaderCount => "headerCount",
            Self::UriBytes => "uriBytes",
            Self::HeaderTimeout => "headerTimeout",
            Self::BodyBytes => "bodyBytes",
            Self::BodyTimeout => "bodyTimeout",
            Self::ChunkExtensionBytes => "chunkExtensionBytes",
            Self::TrailerBytes => "trailerBytes",
            Self::StreamIdleTimeout => "streamIdleTimeout",
            Self::HandshakeTimeout => "handshakeTimeout",
            Self::ClientIdleTimeout => "clientIdleTimeout",
            Self::Http2Resets => "http2Resets",
            Self::Http2ControlFrames => "http2ControlFrames",
            Self::HoldRequests => "holdRequests",
            Self::HoldBytes => "holdBytes",
        }
    }

    /// What of a message is too large where it is reached.
    pub const fn part(self) -> &'static str {
        match self {
            Self::UriBytes => "the request target is too long",
            Self::HeaderBytes => "the head is too large",
            Self::HeaderCount => "the head has too many fields",
            Self::ChunkExtensionBytes => "the chunks of the body have too many extensions",
            Self::TrailerBytes => "the trailers are too large",
            Self::BodyBytes => "the body is too large",
            _ => "the message is too large",
        }
    }

    /// The failure of a request of which a part is too large.
    pub fn too_large(self) -> Failure {
        let detail = format!("{} (`limits.{self}`)", self.part());
        let failure = Failure::new(Code::RequestTooLarge, detail).over(self);
        match self {
            Self::UriBytes => failure.with_status(414),
            Self::HeaderBytes | Self::HeaderCount => failure.with_status(431),
            _ => failure,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_the_position() {
        for (position, limit) in Limit::ALL.into_iter().enumerate() {
            assert_eq!(limit.index(), position, "{limit}");
        }
    }
}
