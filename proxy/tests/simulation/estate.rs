//! Services, previews and upstreams that a seed makes up.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::model::{OnDown, Preview, Set};
use crate::upstream::Upstream;
use crate::world::{FILES, MAIN, NOWHERE, World};

impl World {
    /// The first services and previews.
    pub(crate) async fn found(&mut self) {
        let mut services = Vec::new();
        for service in 0..3 + self.random.below(4) {
            let is_http2 = self.random.chance(30);
            self.is_http2.push(is_http2);
            let set = self.new_set(service, None, 1).await;
            services.push((!self.random.chance(12)).then_some(set));
        }
        let rejects_unknown = self.is_followed || self.random.chance(50);
        self.book.table.services.clone_from(&services);
        if self.is_followed {
            self.book.table.rejects_unknown = true;
            self.apply_first();
            for key in MAIN.into_iter().chain(FILES) {
                if self.random.chance(50) {
                    let preview = self.new_preview(key).await;
                    self.set(key, preview);
                }
            }
            return;
        }
        let mut main = BTreeMap::new();
        for key in MAIN {
            if self.random.chance(60) {
                main.insert(key.to_owned(), self.new_preview(key).await);
            }
        }
        self.reload(services, main, rejects_unknown);
        for key in FILES {
            if self.random.chance(50) {
                let preview = self.new_preview(key).await;
                self.put(key, preview);
            }
        }
    }

    /// A new upstream at an address that was never used.
    pub(crate) async fn new_upstream(&mut self, service: usize, preview: Option<&str>) -> usize {
        let address = SocketAddr::new(IpAddr::V4(self.ip), self.next_port);
        self.next_port += 1;
        let id = self.upstreams.len();
        let about = (id, service, preview.map(str::to_owned), self.is_http2[service]);
        let upstream = Upstream::new(about, address, &self.clock, &self.arrivals).await;
        self.upstreams.push(upstream);
        id
    }

    pub(crate) async fn new_set(&mut self, service: usize, preview: Option<&str>, least: usize) -> Set {
        let mut set = Set::new();
        for _ in 0..least + self.random.below(3) {
            set.push(self.new_upstream(service, preview).await);
        }
        set
    }

    /// A preview that somebody may write.
    pub(crate) async fn new_preview(&mut self, key: &str) -> Preview {
        let mut forks = BTreeMap::new();
        for service in 0..self.book.table.services.len() {
            if self.random.chance(35) {
                // None at all is a fork that is declared and has not come up.
                let least = usize::from(!self.random.chance(25));
                forks.insert(service, self.new_set(service, Some(key), least).await);
            }
        }
        let mut parents = Vec::new();
        for parent in MAIN.into_iter().chain(FILES).chain(NOWHERE) {
            if parent != key && self.random.chance(18) {
                parents.push(parent.to_owned());
            }
        }
        let on_down = *self.random.pick(&[OnDown::Fail, OnDown::Baseline, OnDown::Hold, OnDown::Hold]);
        let ttl = self.random.chance(30).then(|| Duration::from_secs(4 + self.random.next() % 40));
        Preview { forks, parents, on_down, ttl }
    }
}
