//! Writes of one turn of the event loop, one behind the other.
//!
//! Who receives a write on this machine is woken by it: a process that sleeps costs an interrupt to another CPU, which a
//! virtual machine has to leave for. Where a worker writes, works and writes again, its peer falls asleep in between, and
//! is woken for each message; where it does all of the work first, one write wakes it for all (docs/performance.md).

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Who of a worker is about to write. The first to come goes to the end of the worker's queue, behind all that is ready in
/// this turn, and those who come meanwhile follow it.
#[derive(Debug, Default)]
pub struct Batch {
    has_leader: Cell<bool>,
    /// No more than tasks that are ready at once.
    followers: RefCell<Vec<Waker>>,
}

/// Waits until all that is ready in this turn has been looked at.
#[derive(Debug)]
#[must_use = "it waits for nothing by itself"]
pub struct Join<'b> {
    batch: &'b Batch,
    part: Part,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// It has not been asked yet.
    None,
    Leads,
    Follows,
}

impl Batch {
    /// Waits until all that is ready in this turn has been looked at.
    pub const fn join(&self) -> Join<'_> {
        Join { batch: self, part: Part::None }
    }

    fn release(&self) {
        self.has_leader.set(false);
        self.followers.take().into_iter().for_each(Waker::wake);
    }
}

impl Future for Join<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.part {
            Part::None if self.batch.has_leader.replace(true) => {
                self.batch.followers.borrow_mut().push(cx.waker().clone());
                self.part = Part::Follows;
                Poll::Pending
            }
            Part::None => {
                cx.waker().wake_by_ref();
                self.part = Part::Leads;
                Poll::Pending
            }
            Part::Leads | Part::Follows => Poll::Ready(()),
        }
    }
}

impl Drop for Join<'_> {
    fn drop(&mut self) {
        // Also of one that was given up: nobody must wait for who has gone.
        if self.part == Part::Leads {
            self.batch.release();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use tokio::task::LocalSet;

    use super::*;

    /// What the tasks did, in order: which one, and what.
    type Done = Rc<RefCell<Vec<(usize, &'static str)>>>;

    async fn works_and_writes(number: usize, batch: Rc<Batch>, done: Done) {
        done.borrow_mut().push((number, "works"));
        batch.join().await;
        done.borrow_mut().push((number, "writes"));
    }

    async fn all(tasks: impl IntoIterator<Item = tokio::task::JoinHandle<()>>) {
        for task in tasks {
            task.await.unwrap();
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn who_is_ready_in_one_turn_writes_behind_all_work() {
        let tasks = async {
            let (batch, done) = (Rc::new(Batch::default()), Done::default());
            for _ in 0..3 {
                let start = |number| {
                    tokio::task::spawn_local(works_and_writes(number, Rc::clone(&batch), Rc::clone(&done)))
                };
                all((0..5).map(start).collect::<Vec<_>>()).await;
                let works = (0..5).map(|number| (number, "works"));
                let writes = (0..5).map(|number| (number, "writes"));
                assert_eq!(done.take(), works.chain(writes).collect::<Vec<_>>());
            }
        };
        LocalSet::new().run_until(tasks).await;
    }

    #[tokio::test(flavor = "current_thread")]
    async fn nobody_waits_for_a_leader_that_is_gone() {
        let tasks = async {
            let (batch, done) = (Rc::new(Batch::default()), Done::default());
            let leader = {
                let batch = Rc::clone(&batch);
                tokio::task::spawn_local(async move {
                    batch.join().await;
                    unreachable!("it is given up before its turn");
                })
            };
            let follower = tokio::task::spawn_local(works_and_writes(1, Rc::clone(&batch), Rc::clone(&done)));
            let ender = tokio::task::spawn_local({
                let leader = leader.abort_handle();
                async move { leader.abort() }
            });
            all([follower, ender]).await;
            assert!(leader.await.unwrap_err().is_cancelled());
            assert_eq!(done.take(), [(1, "works"), (1, "writes")]);
            // And the next one leads.
            batch.join().await;
        };
        LocalSet::new().run_until(tasks).await;
    }

    #[tokio::test(flavor = "current_thread")]
    async fn who_is_alone_goes_on_and_leaves_nothing_behind() {
        let batch = Batch::default();
        for _ in 0..3 {
            batch.join().await;
        }
        assert!(batch.followers.borrow().is_empty() && !batch.has_leader.get());
    }
}
