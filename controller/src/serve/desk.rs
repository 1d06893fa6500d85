//! Where the webhook's questions are answered: on threads of their own, a few at once, since the thread of the server has
//! the streams of all proxies. What comes in a burst waits, as when a Deployment makes its pods.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::{Admission, Question};

/// Answered at once.
const AT_ONCE: usize = 2;
/// Answered and waiting. One more is refused, and its webhook's `failurePolicy` decides: better than an answer that comes
/// when nobody waits for it any more.
const MOST: usize = 256;

/// For one sort of question. Each has its own: validation makes plans, and injection must not wait for those.
pub(super) struct Desk {
    question: Question,
    admission: Admission,
    places: Semaphore,
    working: Arc<Semaphore>,
}

impl Desk {
    /// A desk at which `admission` answers.
    pub(super) fn new(question: Question, admission: &Admission) -> Self {
        Self {
            question,
            admission: Arc::clone(admission),
            places: Semaphore::new(MOST),
            working: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// The answer; `None` where too many wait for one.
    pub(super) async fn ask(&self, body: Bytes) -> Option<Bytes> {
        let _place = self.places.try_acquire().ok()?;
        let turn = Arc::clone(&self.working).acquire_owned().await.ok()?;
        let (question, admission) = (self.question, Arc::clone(&self.admission));
        let work = move || {
            // Given back when the work is done, though who asked may have gone meanwhile.
            let _turn = turn;
            admission(question, body)
        };
        tokio::task::spawn_blocking(work).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::channel;

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn a_burst_waits_and_a_flood_is_refused() {
        let (go, gone) = channel::<()>();
        let gone = Mutex::new(gone);
        let slow: Admission = Arc::new(move |_, body| {
            let _ = gone.lock().unwrap().recv();
            body
        });
        let desk = Desk::new(Question::Mutate, &slow);
        let mut flood = Box::pin(join_all((0..MOST + 40).map(|_| desk.ask(Bytes::from_static(b"pod")))));
        assert!(futures_util::poll!(&mut flood).is_pending());
        // This thread, which the streams have, goes on meanwhile.
        drop(go);
        let answers = flood.await;
        assert_eq!(answers.iter().filter(|answer| answer.is_some()).count(), MOST);
        assert!(desk.ask(Bytes::new()).await.is_some());
    }
}
