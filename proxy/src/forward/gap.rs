//! How long a wait has lasted. It begins when somebody asks and nothing is there, and is over with what comes next; time
//! in which nobody asks, since what came before is not yet used, does not count.

use std::cell::Cell;
use std::future::{Future, pending};
use std::pin::Pin;
use std::task::Context;
use std::time::{self, Duration};

use tokio::time::{Instant, Sleep};

/// A wait. Its timer is made by the first one, so that what is there at once costs none.
#[derive(Debug, Default)]
pub struct Gap {
    timer: Option<Pin<Box<Sleep>>>,
    waits: bool,
}

impl Gap {
    /// Something came.
    pub const fn end(&mut self) {
        self.waits = false;
    }

    /// Nothing is there: whether that has been so for `limit`. Zero: it may be so for ever.
    pub fn is_over(&mut self, limit: Duration, cx: &mut Context<'_>) -> bool {
        if limit.is_zero() {
            return false;
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        if !std::mem::replace(&mut self.waits, true) {
            timer.as_mut().reset(Instant::now() + limit);
        }
        timer.as_mut().poll(cx).is_ready()
    }
}

/// Returns when nothing went through for `idle`, the last of it at `last`; never, where `idle` is zero. Who counts what
/// goes through sets no timer for it.
pub async fn stalled(last: &Cell<time::Instant>, idle: Duration) {
    if idle.is_zero() {
        return pending().await;
    }
    loop {
        let quiet = last.get().elapsed();
        if quiet >= idle {
            return;
        }
        tokio::time::sleep(idle - quiet).await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    /// Waits until the gap is over, or for `most`; how long that took.
    async fn wait(gap: &mut Gap, most: Duration) -> Duration {
        let start = Instant::now();
        let over = poll_fn(|cx| if gap.is_over(LIMIT, cx) { Poll::Ready(()) } else { Poll::Pending });
        let _ = tokio::time::timeout(most, over).await;
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn only_time_in_which_somebody_waits_counts() {
        let mut gap = Gap::default();
        assert_eq!(wait(&mut gap, Duration::from_secs(3)).await.as_secs(), 3);
        assert_eq!(wait(&mut gap, LIMIT * 2).await.as_secs(), 2, "it goes on");
        gap.end();
        tokio::time::sleep(LIMIT * 2).await;
        assert_eq!(wait(&mut gap, LIMIT * 2).await.as_secs(), 5, "it begins anew when somebody asks");
    }

    #[tokio::test(start_paused = true)]
    async fn zero_is_for_ever() {
        let mut gap = Gap::default();
        assert!(!poll_fn(|cx| Poll::Ready(gap.is_over(Duration::ZERO, cx))).await);
        assert!(gap.timer.is_none());
    }
}
