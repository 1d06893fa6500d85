//! Names of previews that are not there any more, or not for now. Who asks for one by its alias or its host is told so, as
//! who asks by its key is: that must not end on the baseline, where a route for any host would bring it.

use std::sync::Arc;

use sidetrack_config::Key;

use super::hosts::bare;
use super::sharded::Sharded;
use super::table::Preview;

/// The names that a preview has beside its key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Other names of it.
    pub aliases: Box<[Key]>,
    /// Its exact hosts.
    pub hosts: Box<[Box<str>]>,
}

impl Names {
    /// These; `None`: there are none.
    pub fn new(aliases: &[Key], hosts: &[Box<str>]) -> Option<Arc<Self>> {
        let has_some = !aliases.is_empty() || !hosts.is_empty();
        has_some.then(|| Arc::new(Self { aliases: aliases.into(), hosts: hosts.into() }))
    }

    /// Those of `preview`; `None`: it has none.
    pub fn of(preview: &Preview) -> Option<Arc<Self>> {
        Self::new(preview.aliases(), preview.hosts())
    }
}

/// Whose a name was last, of the previews that are not in the table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Former {
    names: Sharded<Key, Arc<Names>>,
    aliases: Sharded<Key, Key>,
    hosts: Sharded<Box<str>, Key>,
}

impl Former {
    /// The preview of `key` had these names.
    pub(crate) fn set(&mut self, key: Key, names: Arc<Names>) {
        self.forget(&key);
        for alias in &names.aliases {
            self.aliases.insert(*alias, key);
        }
        for host in &names.hosts {
            self.hosts.insert(bare(host).into(), key);
        }
        self.names.insert(key, names);
    }

    /// Nobody needs to know the names of `key` any more.
    pub(crate) fn forget(&mut self, key: &Key) {
        let Some(names) = self.names.remove(key) else { return };
        // A name may have been another's since.
        for alias in &names.aliases {
            if self.aliases.get(alias) == Some(key) {
                self.aliases.remove(alias);
            }
        }
        for host in names.hosts.iter().map(|host| bare(host)) {
            if self.hosts.get(host) == Some(key) {
                self.hosts.remove(host);
            }
        }
    }

    /// The names that `key` had.
    pub(crate) fn names(&self, key: &Key) -> Option<&Arc<Names>> {
        self.names.get(key)
    }

    /// Whose alias this was.
    pub(crate) fn alias(&self, name: &Key) -> Option<Key> {
        self.aliases.get(name).copied()
    }

    /// Whose host this was.
    pub(crate) fn host(&self, host: &str) -> Option<Key> {
        self.hosts.get(host).copied()
    }

    /// Whether no alias is known.
    pub(crate) fn has_no_aliases(&self) -> bool {
        self.aliases.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::key;

    #[test]
    fn a_name_is_whose_it_was_last() {
        let mut former = Former::default();
        let names = |aliases: &[&str], hosts: &[&str]| {
            let aliases = aliases.iter().map(|alias| key(alias)).collect::<Vec<_>>();
            let hosts = hosts.iter().map(|host| Box::from(*host)).collect::<Vec<_>>();
            Names::new(&aliases, &hosts).unwrap()
        };
        former.set(key("1"), names(&["demo", "old"], &["[::1]"]));
        former.set(key("2"), names(&["demo"], &["uat.example.com"]));
        assert_eq!((former.alias(&key("demo")), former.alias(&key("old"))), (Some(key("2")), Some(key("1"))));
        assert_eq!((former.host("::1"), former.host("uat.example.com")), (Some(key("1")), Some(key("2"))));
        former.forget(&key("1"));
        assert_eq!((former.alias(&key("demo")), former.alias(&key("old"))), (Some(key("2")), None));
        former.set(key("2"), names(&[], &["b.example.com"]));
        assert!(former.has_no_aliases() && former.host("uat.example.com").is_none());
        former.forget(&key("2"));
        assert_eq!((former.host("b.example.com"), former.names(&key("2"))), (None, None));
    }
}
