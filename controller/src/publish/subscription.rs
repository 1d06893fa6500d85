//! One follower of the table. It holds a version and no queue: what it has not fetched yet waits in the log that all
//! share, and one that falls behind the log gets a snapshot.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::{Lack, Publisher, ping};

/// How long a stream says nothing before it says that it lives.
const SILENCE: Duration = Duration::from_secs(5);

/// One follower.
#[derive(Debug)]
pub struct Subscription {
    publisher: Arc<Publisher>,
    /// The version that the lines so far lead to; `None`: the first is a snapshot.
    at: Option<u64>,
    newest: watch::Receiver<u64>,
    greeted: bool,
}

impl Subscription {
    pub(super) fn new(publisher: Arc<Publisher>, at: Option<u64>, newest: watch::Receiver<u64>) -> Self {
        Self { publisher, at, newest, greeted: false }
    }

    /// The next lines, each with its line feed: first the hello and all that is missing, then what comes, and a ping
    /// where nothing came for five seconds. None: there will be no more.
    pub async fn next(&mut self) -> Vec<Bytes> {
        if !self.greeted {
            self.greeted = true;
            let mut lines = vec![self.publisher.hello()];
            match self.missing().await {
                // One that lacks nothing shall hear at once that this is so.
                missing if missing.is_empty() => lines.push(ping(*self.newest.borrow())),
                missing => lines.extend(missing),
            }
            return lines;
        }
        loop {
            self.newest.mark_unchanged();
            if self.publisher.is_ended() {
                return Vec::new();
            }
            let missing = self.missing().await;
            if !missing.is_empty() {
                return missing;
            }
            if tokio::time::timeout(SILENCE, self.newest.changed()).await.is_err() {
                return vec![ping(*self.newest.borrow())];
            }
        }
    }

    async fn missing(&mut self) -> Vec<Bytes> {
        match self.publisher.lack(self.at) {
            Lack::Nothing => Vec::new(),
            Lack::Deltas { lines, to } => {
                self.at = Some(to);
                lines
            }
            Lack::Everything(table) => {
                let lines = table.snapshot().await.to_vec();
                self.at = Some(table.version());
                lines
            }
        }
    }
}
