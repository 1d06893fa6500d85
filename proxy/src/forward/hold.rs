//! Requests that wait for a fork to come up: bounded in number, bytes and time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::limit::Limit;
use crate::route::table::Hold;

/// What waits now, in all workers.
#[derive(Debug, Default)]
pub struct Holding {
    requests: AtomicUsize,
    bytes: AtomicU64,
}

/// One waiting request.
#[derive(Debug)]
pub struct Held {
    holding: Arc<Holding>,
    bytes: u64,
}

impl Holding {
    /// Lets a request of so many bytes wait, unless that would be one too many.
    ///
    /// # Errors
    /// The limit that it is over.
    pub fn take(self: &Arc<Self>, bytes: u64, limits: &Hold) -> Result<Held, Limit> {
        let requests = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let total = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let held = Held { holding: Arc::clone(self), bytes };
        match held {
            _ if requests > limits.requests => Err(Limit::HoldRequests),
            _ if total > limits.bytes => Err(Limit::HoldBytes),
            held => Ok(held),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.holding.requests.fetch_sub(1, Ordering::Relaxed);
        self.holding.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounded_in_number_and_bytes() {
        let limits = Hold { timeout: std::time::Duration::ZERO, requests: 2, bytes: 100 };
        let holding = Arc::new(Holding::default());
        let first = holding.take(60, &limits).unwrap();
        assert_eq!(holding.take(60, &limits).unwrap_err(), Limit::HoldBytes);
        let second = holding.take(40, &limits).unwrap();
        assert_eq!(holding.take(0, &limits).unwrap_err(), Limit::HoldRequests);
        drop((first, second));
        assert!(holding.take(100, &limits).is_ok(), "nothing stays behind");
    }
}
