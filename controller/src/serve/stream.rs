//! Feeds one stream: lines from the table to a body, at the pace of its reader.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout};

use super::connection::Cutter;
use super::counters::Counters;
use crate::publish::Subscription;
use crate::publish::acks::Connected;

/// How long a reader may take over one piece. One that takes longer is cut: it comes back with its version, or gets a
/// snapshot.
const SLOW: Duration = Duration::from_secs(20);
/// The bytes of a piece; with [`SLOW`] the slowest reader that is served, 3 kB a second.
const PIECE: usize = 64 << 10;
/// Pieces that wait for the reader.
const QUEUE: usize = 4;
/// How long a stream lasts. Then the proxy comes again, with a token that is checked again and maybe to a replica that
/// has fewer; it says what version it has, and so gets nothing twice.
const LASTS: Duration = Duration::from_secs(3600);

/// Starts it, and gives what the body reads.
pub(super) fn start(
    subscription: Subscription,
    connected: Connected,
    counters: Arc<Counters>,
    cutter: Cutter,
    ended: watch::Receiver<bool>,
) -> mpsc::Receiver<Bytes> {
    let (body, lines) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        if feed(subscription, &body, &counters, ended).await.is_err() {
            counters.slow_streams.inc();
            cutter.cut();
        }
        drop(connected);
    });
    lines
}

async fn feed(
    mut subscription: Subscription,
    body: &mpsc::Sender<Bytes>,
    counters: &Counters,
    mut ended: watch::Receiver<bool>,
) -> Result<(), Elapsed> {
    let end = Instant::now() + LASTS;
    loop {
        let lines = tokio::select! {
            lines = subscription.next() => lines,
            // A silent stream must not hide that its reader has gone.
            () = body.closed() => return Ok(()),
            _ = ended.wait_for(|ended| *ended) => return Ok(()),
            () = tokio::time::sleep_until(end) => return Ok(()),
        };
        if lines.is_empty() {
            return Ok(());
        }
        for line in lines {
            send(line, body, counters).await?;
        }
    }
}

/// Hands a line over, piece by piece. A body that is gone is seen by [`feed`].
async fn send(mut line: Bytes, body: &mpsc::Sender<Bytes>, counters: &Counters) -> Result<(), Elapsed> {
    while !line.is_empty() && !body.is_closed() {
        let piece = line.split_to(line.len().min(PIECE));
        let length = piece.len() as u64;
        if timeout(SLOW, body.send(piece)).await?.is_ok() {
            counters.stream_bytes.inc_by(length);
        }
    }
    Ok(())
}
