//! A stream of HTTP/2 as a byte stream: the client's side of a WebSocket (RFC 8441).

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::meter::Meter;
use super::poll_room;

/// The most bytes of one write.
const PIECE: usize = 16 << 10;

/// Both directions of a stream.
#[derive(Debug)]
pub struct StreamIo {
    send: SendStream<Bytes>,
    recv: RecvStream,
    meter: Rc<Meter>,
    rest: Bytes,
}

impl StreamIo {
    /// The byte stream of `send` and `recv`, of the connection that `meter` watches.
    pub(super) const fn new(send: SendStream<Bytes>, recv: RecvStream, meter: Rc<Meter>) -> Self {
        Self { send, recv, meter, rest: Bytes::new() }
    }
}

fn broken(error: h2::Error) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}

impl AsyncRead for StreamIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(self.recv.poll_data(cx)) {
                Some(Ok(data)) => {
                    self.recv.flow_control().release_capacity(data.len()).map_err(broken)?;
                    self.rest = data;
                }
                // A client may end a tunnel by CANCEL (RFC 8441 section 5).
                Some(Err(error)) if error.reason() == Some(Reason::CANCEL) => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = self.rest.len().min(buf.remaining());
        let part = self.rest.split_to(count);
        buf.put_slice(&part);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for StreamIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let wanted = buf.len().min(PIECE);
        self.send.reserve_capacity(wanted);
        let StreamIo { send, meter, .. } = &mut *self;
        let Some(room) = ready!(poll_room(send, meter, cx)) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let part: Bytes = buf.iter().take(wanted.min(room)).copied().collect();
        self.meter.gave(part.len());
        let count = part.len();
        self.send.send_data(part, false).map_err(broken)?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A stream that is reset already needs no end.
        let _ = self.send.send_data(Bytes::new(), true);
        Poll::Ready(Ok(()))
    }
}
