//! What the targets without sockets share: a table that never changes, and the way from bytes to a request head.

use std::path::Path;
use std::sync::OnceLock;

use sidetrack_config::Config;
use sidetrack_proxy::head::PlainHead;
use sidetrack_proxy::route::build::{About, Builder};
use sidetrack_proxy::route::table::Table;

/// Every carrier is on, and there are previews of every kind: with and without forks, with parents in a circle, with
/// other names, asleep.
const ESTATE: &str = "
listeners: [{address: 127.0.0.1:0}]
domains: [preview.localhost, eu.preview.localhost, example.net]
carriers: {path: true, aliases: [signadot, mirrord, okteto, telepresence, ktenv]}
unknownPreview: baseline
services:
  shop: {baseline: [127.0.0.1:9000]}
  checkout: {baseline: [127.0.0.1:9010, 127.0.0.1:9011]}
  ghost: {}
routes:
  - {host: preview.localhost, service: shop}
  - {host: preview.localhost, path: /api/checkout, service: checkout}
  - {host: api.preview.localhost, service: checkout}
  - {host: eu.preview.localhost, service: shop}
  - {host: ghost.preview.localhost, service: ghost}
  - {host: '*.example.net', service: shop}
  - {host: '*', path: /any, service: shop}
previews:
  '42': {forks: {checkout: [127.0.0.1:9110]}, aliases: [demo], hosts: [uat.example.com, '[::1]'], parents: ['57']}
  '57': {forks: {shop: [127.0.0.1:9220]}, parents: ['42', nobody]}
  shop-7: {forks: {shop: [127.0.0.1:9230], ghost: [127.0.0.1:9231]}}
  idle: {}
  asleep: {forks: {checkout: []}}
";

/// The configuration of [`ESTATE`].
pub(crate) fn config() -> &'static Config {
    static CONFIG: OnceLock<Config> = OnceLock::new();
    CONFIG.get_or_init(|| match sidetrack_config::parse(Path::new("estate.yaml"), ESTATE) {
        Ok(checked) => checked.config,
        Err(problems) => panic!("{problems}"),
    })
}

/// The table of [`ESTATE`].
pub(crate) fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut builder = Builder::new(1);
        let mut table = Table::new(1, builder.estate(config()).expect("no TLS is configured"));
        for (key, preview) in &config().previews {
            table
                .insert(builder.preview(*key, preview, config(), About::default()))
                .expect("no two share a name");
        }
        table
    })
}

/// Reads bytes as `METHOD URL` and lines of `name: value`, so that a corpus is text that people can read and write.
pub(crate) fn head(bytes: &[u8]) -> Option<PlainHead> {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let (method, url) = std::str::from_utf8(lines.next()?).ok()?.split_once(' ')?;
    let mut head = PlainHead { method: method.to_owned(), ..PlainHead::get(url) };
    for line in lines.filter(|line| !line.is_empty()) {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = line.split_at(colon);
        head = head.with(std::str::from_utf8(name).ok()?, value[1..].trim_ascii());
    }
    Some(head)
}
