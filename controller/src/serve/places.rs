//! Who may have how many connections. Anybody may come, before it is known who that is: such strangers have places of
//! their own, a few for each address. A proxy that follows a table has one among its like, so that neither strangers nor
//! the sidecars of a large cluster take those of gateways.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// On whose account a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Class {
    /// Who has no stream: the API server, who asks for previews, who has just come.
    Stranger,
    Gateway,
    Waypoint,
    Sidecar,
}

impl Class {
    /// How many there may be. One with a stream holds 60 kB, and a replica has 1 GiB by the chart.
    const fn most(self) -> usize {
        match self {
            Self::Stranger => 1024,
            Self::Gateway => 1024,
            Self::Waypoint => 2048,
            Self::Sidecar => 10_000,
        }
    }

    /// How many each address, or each proxy, may have. All pods of a node may come from its address, and leave this
    /// class as soon as they are known. A proxy has one, and for a moment two.
    const fn each(self) -> usize {
        match self {
            Self::Stranger => 128,
            Self::Gateway | Self::Waypoint | Self::Sidecar => 4,
        }
    }
}

/// A class, and the address or the name of a proxy in it.
type Who = (Class, Box<str>);

/// The connections that there are.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    by_class: HashMap<Class, usize>,
    by_who: HashMap<Who, usize>,
}

impl Places {
    /// A place; `None` where there is none left.
    pub(super) fn take(self: &Arc<Self>, class: Class, who: &str) -> Option<Place> {
        let who = (class, who.into());
        let mut taken = self.taken();
        let all = taken.by_class.get(&class).copied().unwrap_or_default();
        let own = taken.by_who.get(&who).copied().unwrap_or_default();
        if all >= class.most() || own >= class.each() {
            return None;
        }
        taken.by_class.insert(class, all + 1);
        taken.by_who.insert(who.clone(), own + 1);
        Some(Place { places: Arc::clone(self), who })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one connection; dropped with it.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    who: Who,
}

impl Place {
    /// Moves to another class, once it is known who has come; says whether there is room.
    pub(super) fn become_one(&mut self, class: Class, who: &str) -> bool {
        if self.who.0 == class && *self.who.1 == *who {
            return true;
        }
        let place = self.places.take(class, who);
        place.map(|place| *self = place).is_some()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        if let Some(all) = taken.by_class.get_mut(&self.who.0) {
            *all -= 1;
        }
        match taken.by_who.get_mut(&self.who) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(taken.by_who.remove(&self.who)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_strangers_nor_sidecars_take_the_places_of_gateways() {
        let places = Arc::new(Places::default());
        let all = |class: Class, count: usize| -> Vec<Place> {
            (0..count)
                .filter_map(|number| places.take(class, &format!("{}", number / class.each())))
                .collect()
        };
        let strangers = all(Class::Stranger, 3 * Class::Stranger.most());
        let sidecars = all(Class::Sidecar, 3 * Class::Sidecar.most());
        assert_eq!((strangers.len(), sidecars.len()), (Class::Stranger.most(), Class::Sidecar.most()));
        assert!(
            places.take(Class::Gateway, "gw-0").is_some() && places.take(Class::Waypoint, "wp-0").is_some()
        );
        drop((strangers, sidecars));
        assert!(places.taken().by_who.is_empty(), "nothing is kept of who has gone");
        assert!(places.taken().by_class.values().all(|all| *all == 0));
    }

    #[test]
    fn who_is_known_leaves_room_to_others_of_the_address() {
        let places = Arc::new(Places::default());
        let take = || places.take(Class::Stranger, "10.0.0.1");
        let mut of_node: Vec<Place> = (0..Class::Stranger.each()).map(|_| take().unwrap()).collect();
        assert!(take().is_none());
        assert!(places.take(Class::Stranger, "10.0.0.2").is_some());
        assert!(of_node[0].become_one(Class::Sidecar, "shop/a"));
        assert!(of_node[0].become_one(Class::Sidecar, "shop/a"), "it is one already");
        assert!(take().is_some());
        let own: Vec<bool> =
            of_node[1..6].iter_mut().map(|place| place.become_one(Class::Sidecar, "shop/a")).collect();
        assert_eq!(own, [true, true, true, false, false], "a pod has a few, too");
    }
}
