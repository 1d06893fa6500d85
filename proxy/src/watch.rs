//! Who of a worker waits for something and wants to be woken when there is another table: bodies of answers that had to
//! be waited for, and tunnels. What ends without a wait is never here.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::Waker;

/// All of one worker. There are no more places than waited at once.
#[derive(Debug, Default)]
pub struct Watchers {
    places: RefCell<Places>,
}

#[derive(Debug, Default)]
struct Places {
    wakers: Vec<Option<Waker>>,
    free: Vec<usize>,
}

/// How many are woken at once.
const AT_ONCE: usize = 128;
/// Places that are kept though nobody is there.
const KEPT: usize = 1 << 10;

/// A place among the watchers, free again once it is dropped.
#[derive(Debug)]
pub struct Watch {
    watchers: Rc<Watchers>,
    place: usize,
}

impl Watchers {
    /// Wakes everyone, some at a time: who is served meanwhile shall not wait for all of them.
    pub async fn wake(self: Rc<Self>) {
        let mut next = 0;
        while self.wake_some(next) {
            next += AT_ONCE;
            tokio::task::yield_now().await;
        }
    }

    /// Wakes those from this place on; whether there are more.
    fn wake_some(&self, first: usize) -> bool {
        let wakers = &self.places.borrow().wakers;
        wakers.iter().skip(first).take(AT_ONCE).flatten().for_each(Waker::wake_by_ref);
        wakers.len() > first + AT_ONCE
    }

    /// A place for who waits here with `waker`.
    pub fn enter(self: &Rc<Self>, waker: &Waker) -> Watch {
        let places = &mut *self.places.borrow_mut();
        let place = places.free.pop().unwrap_or(places.wakers.len());
        let waker = Some(waker.clone());
        match places.wakers.get_mut(place) {
            Some(free) => *free = waker,
            None => places.wakers.push(waker),
        }
        Watch { watchers: Rc::clone(self), place }
    }
}

impl Watch {
    /// Has `waker` woken from now on.
    pub fn renew(&self, waker: &Waker) {
        if let Some(Some(before)) = self.watchers.places.borrow_mut().wakers.get_mut(self.place) {
            before.clone_from(waker);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let places = &mut *self.watchers.places.borrow_mut();
        if let Some(place) = places.wakers.get_mut(self.place) {
            *place = None;
            places.free.push(self.place);
        }
        // A crowd has gone; a few places are kept, so that coming and going costs no memory.
        if places.free.len() == places.wakers.len() && places.wakers.len() > KEPT {
            *places = Places::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn everyone_of_a_crowd_is_woken_once() {
        let watchers = Rc::<Watchers>::default();
        let count = Arc::<Count>::default();
        let waker = Waker::from(Arc::clone(&count));
        for crowd in [1, AT_ONCE, AT_ONCE + 1, 5 * AT_ONCE + 7] {
            let all: Vec<_> = (0..crowd).map(|_| watchers.enter(&waker)).collect();
            Rc::clone(&watchers).wake().await;
            assert_eq!(count.0.swap(0, Ordering::Relaxed), crowd);
            drop(all);
        }
    }

    #[tokio::test]
    async fn who_is_there_is_woken_and_who_left_is_not() {
        let watchers = Rc::<Watchers>::default();
        let counts: [Arc<Count>; 3] = Default::default();
        let [one, two, three] = counts.clone().map(Waker::from);
        let first = watchers.enter(&one);
        let second = watchers.enter(&two);
        Rc::clone(&watchers).wake().await;
        drop(first);
        Rc::clone(&watchers).wake().await;
        second.renew(&three);
        Rc::clone(&watchers).wake().await;
        let third = watchers.enter(&one);
        Rc::clone(&watchers).wake().await;
        assert_eq!(counts.each_ref().map(|count| count.0.load(Ordering::Relaxed)), [2, 2, 2]);
        assert_eq!(watchers.places.borrow().wakers.len(), 2, "a place that is free is taken again");
        drop((second, third));
        Rc::clone(&watchers).wake().await;
        assert_eq!(counts.each_ref().map(|count| count.0.load(Ordering::Relaxed)), [2, 2, 2]);
        assert_eq!(watchers.places.borrow().wakers.len(), 2, "a few places are kept");
    }

    #[test]
    fn the_places_of_a_crowd_are_given_back() {
        let watchers = Rc::<Watchers>::default();
        let crowd: Vec<_> = (0..=KEPT).map(|_| watchers.enter(Waker::noop())).collect();
        drop(crowd);
        assert_eq!(watchers.places.borrow().wakers.capacity(), 0);
    }
}
