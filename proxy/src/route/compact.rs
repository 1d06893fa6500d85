//! The shapes in which a table keeps what most previews have none or one of. A table has 100,000 previews, so a word
//! less in each is most of a megabyte.

use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use jiff::Timestamp;
use sidetrack_config::Key;

use super::table::{Endpoint, Preview};

/// The endpoints of one target, shared between snapshots. Most have one, which then needs no list of its own.
#[derive(Clone, Debug)]
pub enum Endpoints {
    /// The only one.
    One(Arc<Endpoint>),
    /// Any other number of them.
    List(Arc<[Arc<Endpoint>]>),
}

impl Deref for Endpoints {
    type Target = [Arc<Endpoint>];

    fn deref(&self) -> &Self::Target {
        match self {
            Self::One(endpoint) => std::slice::from_ref(endpoint),
            Self::List(list) => list,
        }
    }
}

impl FromIterator<Arc<Endpoint>> for Endpoints {
    /// Each endpoint once, in the order of their first appearance.
    fn from_iter<I: IntoIterator<Item = Arc<Endpoint>>>(endpoints: I) -> Self {
        let mut seen = HashSet::new();
        let mut list: Vec<_> = endpoints.into_iter().filter(|endpoint| seen.insert(endpoint.id)).collect();
        match list.pop() {
            Some(only) if list.is_empty() => Self::One(only),
            last => Self::List(list.into_iter().chain(last).collect()),
        }
    }
}

/// The forks of one preview: the number of a service and its endpoints, sorted by number. Most previews have one fork
/// with one endpoint, which takes two words.
#[derive(Clone, Debug)]
pub enum Forks {
    /// The only one, with its only endpoint.
    One(u32, Arc<Endpoint>),
    /// Any other number of them; one word here.
    List(Box<Box<[(u32, Endpoints)]>>),
}

impl Forks {
    /// The endpoints of the fork of the service with this number.
    pub fn get(&self, service: usize) -> Option<&[Arc<Endpoint>]> {
        let number = u32::try_from(service).ok()?;
        match self {
            Self::One(only, endpoint) => (*only == number).then_some(std::slice::from_ref(endpoint)),
            Self::List(list) => {
                let at = list.binary_search_by_key(&number, |(number, _)| *number).ok()?;
                list.get(at).map(|(_, endpoints)| &**endpoints)
            }
        }
    }

    /// All of them, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &[Arc<Endpoint>])> {
        let (one, list) = match self {
            Self::One(number, endpoint) => (Some((*number, std::slice::from_ref(endpoint))), [].as_slice()),
            Self::List(list) => (None, &***list),
        };
        let list = list.iter().map(|(number, endpoints)| (*number, &**endpoints));
        one.into_iter()
            .chain(list)
            .filter_map(|(number, endpoints)| Some((usize::try_from(number).ok()?, endpoints)))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::One(..) => 1,
            Self::List(list) => list.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl FromIterator<(usize, Endpoints)> for Forks {
    fn from_iter<I: IntoIterator<Item = (usize, Endpoints)>>(forks: I) -> Self {
        // No estate has 2^32 services: a number that does not fit is none of ours.
        let forks = forks.into_iter().filter_map(|(number, list)| Some((u32::try_from(number).ok()?, list)));
        let mut forks: Vec<_> = forks.collect();
        forks.sort_unstable_by_key(|(number, _)| *number);
        match forks.pop() {
            Some((number, Endpoints::One(endpoint))) if forks.is_empty() => Self::One(number, endpoint),
            last => Self::List(Box::new(forks.into_iter().chain(last).collect())),
        }
    }
}

/// A moment of the life of a preview, to the millisecond; the default is none at all.
/// Six bytes reach beyond the year 10000, where a [`Timestamp`] takes sixteen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment([u8; 6]);

impl Moment {
    /// The moment as a time; `None`: it was never set.
    pub fn get(self) -> Option<Timestamp> {
        let [a, b, c, d, e, f] = self.0;
        let millis = i64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
        (millis != 0).then(|| Timestamp::from_millisecond(millis).ok()).flatten()
    }
}

impl From<Timestamp> for Moment {
    fn from(time: Timestamp) -> Self {
        // No preview lived before 1970, and zero says that nothing was set.
        let [a, b, c, d, e, f, ..] = time.as_millisecond().max(1).to_le_bytes();
        Self([a, b, c, d, e, f])
    }
}

/// A preview that is found by its own key, which a map would hold a second time.
#[derive(Clone, Debug)]
pub(crate) struct ByKey(pub(crate) Arc<Preview>);

impl std::borrow::Borrow<Key> for ByKey {
    fn borrow(&self) -> &Key {
        &self.0.key
    }
}

impl Hash for ByKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key.hash(state);
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for ByKey {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_to_the_millisecond() {
        for millis in [1, 1_700_000_000_123, 253_402_207_200_000] {
            let time = Timestamp::from_millisecond(millis).unwrap();
            assert_eq!(Moment::from(time).get(), Some(time));
        }
        assert_eq!(Moment::default().get(), None);
        assert!(Moment::from(Timestamp::MIN).get().is_some(), "a time, if not that one");
    }
}
