//! Names of endpoints, resolved again every five seconds. What does not resolve now keeps its last addresses.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;

/// From one look to the next.
pub const EVERY: Duration = Duration::from_secs(5);
/// How long one name may take.
const LIMIT: Duration = Duration::from_secs(4);
/// Names asked for at once.
const AT_ONCE: usize = 32;

/// A name, a port, and the addresses they have.
pub type Found = ((Box<str>, u16), Vec<SocketAddr>);

/// Resolves `names`; those that fail are left out, with a warning.
pub async fn resolve(names: impl IntoIterator<Item = (Box<str>, u16)>) -> Vec<Found> {
    let names: Vec<_> = names.into_iter().collect();
    let mut found = Vec::with_capacity(names.len());
    for some in names.chunks(AT_ONCE) {
        found.extend(join_all(some.iter().cloned().map(one)).await.into_iter().flatten());
    }
    found
}

async fn one((name, port): (Box<str>, u16)) -> Option<Found> {
    let looking =
        async { tokio::net::lookup_host((&*name, port)).await.map(Iterator::collect::<Vec<SocketAddr>>) };
    let looked = tokio::time::timeout(LIMIT, looking).await;
    match looked {
        Ok(Ok(addresses)) => Some(((name, port), addresses)),
        Ok(Err(error)) => {
            tracing::warn!(%name, %error, "an endpoint's name does not resolve");
            None
        }
        Err(_) => {
            tracing::warn!(%name, "an endpoint's name does not resolve in time");
            None
        }
    }
}
