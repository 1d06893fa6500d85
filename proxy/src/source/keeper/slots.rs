//! Which number a service has. Previews and routes hold numbers, so a number stays with its name for as long as
//! anything can mean it; the service itself may come later than what names it, go, and come again.

use std::collections::{BTreeSet, HashMap};

/// So many names may come before it is worth looking for numbers that nothing means any more.
const SPARE: usize = 1024;

/// Names and their numbers.
#[derive(Debug)]
pub(super) struct Slots {
    numbers: HashMap<Box<str>, usize>,
    /// Numbers that nothing means, with the names that they had.
    free: BTreeSet<usize>,
    /// How many may be in use before the next look.
    sweep_at: usize,
}

impl Default for Slots {
    fn default() -> Self {
        Self { numbers: HashMap::new(), free: BTreeSet::new(), sweep_at: SPARE }
    }
}

/// What `number` is to be done with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// It has this one already.
    Known(usize),
    /// It gets this one, which another name had that nothing means any more.
    Reused(usize),
    /// It gets this one, which is new.
    New(usize),
}

impl Slots {
    /// The number of `name`, which gets one if it has none; `old` gives the name that a number has.
    pub(super) fn number<'a>(&mut self, name: &str, old: impl Fn(usize) -> Option<&'a str>) -> Slot {
        if let Some(number) = self.numbers.get(name) {
            self.free.remove(number);
            return Slot::Known(*number);
        }
        let Some(number) = self.free.pop_first() else {
            let number = self.numbers.len();
            self.numbers.insert(name.into(), number);
            return Slot::New(number);
        };
        if let Some(old) = old(number) {
            self.numbers.remove(old);
        }
        self.numbers.insert(name.into(), number);
        Slot::Reused(number)
    }

    /// The number that `name` has.
    pub(super) fn known(&self, name: &str) -> Option<usize> {
        self.numbers.get(name).copied()
    }

    /// Whether so many came since the last look that half of them may be free.
    pub(super) fn is_wasteful(&self) -> bool {
        self.numbers.len() - self.free.len() > self.sweep_at
    }

    /// Frees every number that is not in `used`.
    pub(super) fn free_all_but(&mut self, used: &BTreeSet<usize>) {
        self.free = self.numbers.values().copied().filter(|number| !used.contains(number)).collect();
        self.sweep_at = 2 * used.len() + SPARE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_stays_until_it_is_free_and_is_used_again() {
        let mut slots = Slots::default();
        let nothing = |_| None;
        assert_eq!(slots.number("a", nothing), Slot::New(0));
        assert_eq!(slots.number("b", nothing), Slot::New(1));
        assert_eq!(slots.number("a", nothing), Slot::Known(0));
        slots.free_all_but(&BTreeSet::from([1]));
        assert_eq!(slots.number("a", nothing), Slot::Known(0), "nobody has taken it yet");
        slots.free_all_but(&BTreeSet::from([1]));
        assert_eq!(slots.number("c", |_| Some("a")), Slot::Reused(0));
        assert_eq!((slots.known("a"), slots.known("b"), slots.known("c")), (None, Some(1), Some(0)));
        assert_eq!(slots.number("a", nothing), Slot::New(2));
    }
}
