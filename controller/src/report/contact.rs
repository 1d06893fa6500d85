//! When the API server last answered.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use kube::Client;
use tracing::{info, warn};

use crate::publish::Publisher;

/// How often it is asked.
const EVERY: Duration = Duration::from_secs(2);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long it may be silent before other replicas may know more than this one.
const CUT_OFF: Duration = Duration::from_secs(30);
/// What is said where there was never an answer.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// The last answer.
#[derive(Debug, Default)]
pub(crate) struct Contact {
    last: Mutex<Option<Instant>>,
}

impl Contact {
    /// How long ago it was.
    pub(crate) fn age(&self) -> Duration {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.map_or(NEVER, |at| at.elapsed())
    }

    /// Asks the API server for its version, again and again, and tells `publisher` when it is
    /// silent for long. A watch of a quiet kind says nothing for hours, so that
    /// the watches can't tell.
    pub(crate) async fn keep(&self, client: Client, publisher: &Publisher) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut is_there = true;
        loop {
            ticks.tick().await;
            let asked = Instant::now();
            match tokio::time::timeout(PATIENCE, client.apiserver_version()).await {
                Ok(Ok(_)) => {
                    *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(asked);
                    if !std::mem::replace(&mut is_there, true) {
                        info!("the API server answers again");
                    }
                }
                // Said once: an outage of an hour is one event.
                Ok(Err(error)) if std::mem::take(&mut is_there) => {
                    warn!("the API server can't be asked, what was known last stays: {error}");
                }
                Err(_) if std::mem::take(&mut is_there) => {
                    warn!("the API server does not answer, what was known last stays");
                }
                Ok(Err(_)) | Err(_) => {}
            }
            publisher.set_cut_off(self.age() > CUT_OFF);
        }
    }
}
