//! Whatever an upstream does wrong: its own request gets its status in its time, or an answer that does not look whole,
//! and the next request to a healthy one is not affected.

mod cut;
mod odd;
mod refused;
mod slow;
mod tls;

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sidetrack_tests::{Conn, Estate, Raw, World, get};

use crate::D;

/// The standard estate and these services, each at `NAME.preview.localhost`: name, endpoint, and what else is said of it.
async fn beside(services: &[(&str, String, Value)]) -> World {
    let mut estate = Estate::standard().await;
    for (name, endpoint, more) in services {
        let mut service = json!({"baseline": [endpoint]});
        service.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        estate.service(name, service);
        estate.route(&host(name), "/", name);
    }
    // Each worker has connections of its own: with one, the next request meets what the last one left.
    estate.config["workers"] = json!(1);
    estate.start().await
}

fn host(service: &str) -> String {
    format!("{service}.preview.localhost")
}

/// Which version a client speaks.
#[derive(Clone, Copy, Debug)]
enum Client {
    Http1,
    Http2,
}

const CLIENTS: [Client; 2] = [Client::Http1, Client::Http2];

impl Client {
    async fn connect(self, world: &World) -> Conn {
        match self {
            Self::Http1 => world.http1().await,
            Self::Http2 => world.http2().await,
        }
    }

    /// A healthy upstream answers this client, on `conn` if that goes on.
    async fn goes_on(self, world: &World, conn: &mut Conn, what: &str) {
        if conn.is_closed() {
            *conn = self.connect(world).await;
        }
        let target = format!("/{}", what.replace(' ', "-"));
        let reply = conn.try_send(get(D, &target)).await;
        let reply = reply.unwrap_or_else(|error| panic!("{self:?}, after {what}: {error}"));
        reply.came_from("shop");
        assert_eq!(reply.echo().target(), target, "{self:?}, after {what}");
    }
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// In good order, as far as TCP can tell.
    Close,
    /// With a reset.
    Reset,
    /// It goes on.
    Stay,
}

impl End {
    async fn of(self, mut raw: Raw) {
        match self {
            Self::Close => {
                raw.finish().await;
                raw.rest().await;
            }
            Self::Reset => raw.reset(),
            Self::Stay => {
                raw.rest().await;
            }
        }
    }
}

/// What the upstream does with the next request, said by the test.
type Plan<T> = Arc<Mutex<T>>;
