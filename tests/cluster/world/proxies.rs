//! What a controller knows of the gateways that follow it: `GET /v1/proxies`.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use serde_json::Value;
use sidetrack_tests::{Conn, PATIENCE, Roots, get};

/// An open connection to one controller.
pub struct Proxies {
    conn: Conn,
    host: String,
    token: String,
}

impl Proxies {
    /// Connects to the controller at `address`, whose certificate is for `host`, with a token that may read Previews.
    pub(crate) async fn connect(address: Ipv4Addr, host: &str, roots: Roots, token: &str) -> Self {
        let conn = Conn::tls((address, 8443).into(), host, &["h2"], roots).await.unwrap();
        Self { conn, host: host.to_owned(), token: token.to_owned() }
    }

    async fn ask(&mut self) -> Value {
        let call = get(&self.host, "/v1/proxies").header("authorization", &format!("Bearer {}", self.token));
        let reply = self.conn.send(call).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()
    }

    /// The newest version of the table.
    pub async fn generation(&mut self) -> u64 {
        self.ask().await["generation"].as_u64().unwrap()
    }

    /// Waits until `count` gateways are there and all have the newest version, which must be later than `after`.
    pub async fn until_all_have(&mut self, count: usize, after: u64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = self.ask().await;
            let newest = said["generation"].as_u64().unwrap();
            let all = said["proxies"].as_array().unwrap();
            let have = all.iter().filter(|proxy| proxy["acked"].as_u64() == Some(newest)).count();
            if newest > after && have == count {
                return;
            }
            assert!(Instant::now() < deadline, "{have} of {count} gateways have {newest}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}
