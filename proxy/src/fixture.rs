//! What the unit tests of the pure steps share: tables from the text that a person writes, one line that says what
//! became of a request, and the texts that properties are drawn from. No socket, no file, no clock.

use std::path::Path;
use std::sync::OnceLock;

use proptest::prelude::*;
use sidetrack_config::Key;
use sidetrack_config::model::{Config, Listener};

use crate::decision::{Reason, Target};
use crate::error::Failure;
use crate::fields::Fields;
use crate::forward::carriers::stamp;
use crate::head::PlainHead;
use crate::identify::{Identity, identify, join};
use crate::pick;
use crate::route::build::{About, Builder};
use crate::route::route;
use crate::route::table::{Service, Table};

/// The domain of [`ESTATE`].
pub(crate) const D: &str = "preview.localhost";
/// A trace that is valid.
pub(crate) const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Two services that are shared, one that exists only in previews, three domains of which one is below another, and
/// previews of every kind.
pub(crate) const ESTATE: &str = "
listeners: [{address: 127.0.0.1:0}]
domains: [preview.localhost, eu.preview.localhost, example.net]
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
  - {host: xn--bcher-kva.preview.localhost, service: checkout}
  - {host: '*.example.net', service: shop}
previews:
  '42': {forks: {checkout: [127.0.0.1:9110]}, aliases: [demo], hosts: [uat.example.com, '[::1]', 127.0.0.9]}
  '57': {forks: {shop: [127.0.0.1:9220]}, parents: ['42'], hosts: [uat.preview.localhost, uat.eu.preview.localhost]}
  shop-7: {forks: {shop: [127.0.0.1:9230], ghost: [127.0.0.1:9231]}}
  idle: {}
  asleep: {forks: {checkout: []}}
";

/// A table of `text`, as at start-up; 41 has ended.
pub(crate) fn table(text: &str) -> Table {
    table_in(Path::new(""), text)
}

/// The same, with the files that it names in `folder`.
pub(crate) fn table_in(folder: &Path, text: &str) -> Table {
    of_config(&read(folder, text))
}

/// A table of `text` once `change` has been through its model, and its first listener.
pub(crate) fn table_of(text: &str, change: impl FnOnce(&mut Config)) -> (Table, Listener) {
    let mut config = read(Path::new(""), text);
    change(&mut config);
    (of_config(&config), config.listeners.swap_remove(0))
}

fn read(folder: &Path, text: &str) -> Config {
    sidetrack_config::parse(&folder.join("test.yaml"), text)
        .unwrap_or_else(|problems| panic!("{problems}"))
        .config
}

fn of_config(config: &Config) -> Table {
    let mut builder = Builder::new(1);
    let mut table = Table::new(1, builder.estate(config).unwrap());
    for (key, preview) in &config.previews {
        table.insert(builder.preview(*key, preview, config, About::default())).unwrap();
    }
    table.set_gone(key("41"), true);
    table
}

/// The table of [`ESTATE`].
pub(crate) fn estate() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| table(ESTATE))
}

/// The table of [`ESTATE`] with these lines before it.
pub(crate) fn estate_with(lines: &str) -> Table {
    table(&format!("{lines}\n{ESTATE}"))
}

/// A key.
pub(crate) fn key(text: &str) -> Key {
    Key::bare(text).unwrap()
}

/// What identify says, in one line: `header 42,57`, `none`, or the word of its error.
pub(crate) fn said(head: &PlainHead, table: &Table) -> String {
    match identify(head, table) {
        Err(failure) => failure.code.to_string(),
        Ok(Identity { carrier: None, keys, .. }) => {
            assert!(keys.is_empty(), "keys that no carrier held: {keys:?}");
            "none".to_owned()
        }
        Ok(Identity { carrier: Some(carrier), keys, .. }) => format!("{carrier} {}", join(&keys, ",")),
    }
}

/// The service that a request with this identity is for.
pub(crate) fn service_of<'t>(
    head: &PlainHead,
    identity: &Identity,
    table: &'t Table,
) -> Result<&'t Service, Failure> {
    Ok(pick::way(route(head, identity, table)?, table, 0)?.service().expect("no redirect"))
}

/// Identify, route and pick.
pub(crate) fn decide<'t>(head: &PlainHead, table: &'t Table) -> Result<(Target<'t>, Reason), Failure> {
    let identity = identify(head, table)?;
    pick::target(&identity, service_of(head, &identity, table)?, table)
}

/// What is decided, in one line: `checkout@42 fork`, `shop@baseline no_key`, or the word of the error.
pub(crate) fn decided(head: &PlainHead, table: &Table) -> String {
    let service = || {
        let identity = identify(head, table)?;
        service_of(head, &identity, table).map(|service| &service.name)
    };
    match (service(), decide(head, table)) {
        (Err(failure), _) | (_, Err(failure)) => failure.code.to_string(),
        (Ok(service), Ok((target, reason))) => {
            let at = target.preview().map_or_else(|| "baseline".to_owned(), |key| key.to_string());
            format!("{service}@{at} {reason}")
        }
    }
}

/// The fields of a head, as a request has them.
pub(crate) fn fields(head: &PlainHead) -> Fields {
    head.fields.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect()
}

/// The head as it goes onward.
pub(crate) fn stamped(head: &PlainHead, table: &Table) -> PlainHead {
    let identity = identify(head, table).unwrap();
    let mut fields = fields(head);
    let mut random = 6;
    let hidden = table.estate.context.hide(&identity, 0x0123_4567_89ab_cdef);
    stamp(&mut fields, &identity, &table.estate, hidden, None, || {
        random += 1;
        random
    });
    let fields =
        fields.iter().map(|(name, value)| (String::from_utf8(name.to_vec()).unwrap(), value.to_vec()));
    PlainHead { fields: fields.collect(), ..head.clone() }
}

/// The lines of a field, as text.
pub(crate) fn lines<'a>(head: &'a PlainHead, name: &str) -> Vec<&'a str> {
    let lines = head.fields.iter().filter(|(field, _)| field == name);
    lines.map(|(_, value)| std::str::from_utf8(value).unwrap()).collect()
}

/// A key in canonical form, most often one of [`ESTATE`].
pub(crate) fn any_key() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec!["42", "57", "shop-7", "idle", "asleep"]).prop_map(str::to_owned),
        1 => Just("41".to_owned()),
        1 => "[a-z0-9]{1,4}(-[a-z0-9]{1,3})?".prop_filter("an alias is no key", |key| key != "demo"),
    ]
}

/// A list of different keys in canonical form.
pub(crate) fn key_list() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(any_key(), 1..=8).prop_map(|keys| {
        let mut different: Vec<String> = Vec::new();
        for key in keys {
            if !different.contains(&key) && !key.starts_with("pr-") {
                different.push(key);
            }
        }
        if different.is_empty() { vec!["42".to_owned()] } else { different }
    })
}

/// What a member of somebody else may look like: any bytes of a field value but a comma, and not our name.
pub(crate) fn foreign_member() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        8 => prop::sample::select(b"abz09=;%. -_@*/pr-id".to_vec()),
        1 => prop::sample::select((0x21..=0xff).filter(|b| *b != 0x7f && *b != b',').collect::<Vec<u8>>()),
    ];
    prop::collection::vec(byte, 0..24)
        .prop_filter("it must not begin as ours does", |member| !member.trim_ascii().starts_with(b"pr-id"))
}
