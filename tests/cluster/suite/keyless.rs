//! A user without a key, all the while: whatever happens to previews, that one must see the baseline and nothing else.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sidetrack_tests::{Conn, get};
use tokio::task::JoinHandle;

/// The user, until the end.
pub(crate) struct Keyless {
    stop: Arc<AtomicBool>,
    task: JoinHandle<usize>,
}

impl Keyless {
    /// Asks `gateway` for `host` every 10 ms, and expects `upstream` each time.
    pub(crate) fn start(gateway: SocketAddr, host: &str, upstream: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, host, upstream) = (stop.clone(), host.to_owned(), upstream.to_owned());
        let task = tokio::spawn(async move {
            let mut conn = Conn::http1(gateway).await.unwrap();
            let mut count = 0;
            while !stopped.load(Ordering::Relaxed) {
                conn.send(get(&host, "/")).await.came_from(&upstream);
                count += 1;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            count
        });
        Self { stop, task }
    }

    /// Fails the test if one answer was another one, or none was asked for.
    pub(crate) async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        assert!(self.task.await.unwrap() > 0, "the user has asked for nothing");
    }
}
