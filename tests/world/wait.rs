//! Waiting, always with a bound.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

/// How long anything here may take before the test fails: far above what a busy machine needs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks `check` again and again until it says yes; fails the test, naming `what`, after [`PATIENCE`].
pub async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !check().await {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What `work` yields; fails the test, naming `what`, after [`PATIENCE`].
pub async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    within_time(what, PATIENCE, work).await
}

/// The same with another bound.
pub(crate) async fn within_time<T>(what: &str, time: Duration, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(time, work).await {
        Ok(value) => value,
        Err(_) => panic!("waited {time:?} in vain for {what}"),
    }
}
