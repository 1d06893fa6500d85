//! One preview by itself: a file of `previewsDir`, or the body of a PUT.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::path::Path;
use std::time::Duration;

use sidetrack_config::check::PreviewParser;
use sidetrack_config::model::{Endpoint, OnForkDown, Preview};
use sidetrack_config::{Config, Key, Problems, parse_preview};

const MAIN: &str = "
listeners: [{address: 127.0.0.1:0}]
domains: [preview.localhost]
services: {shop: {}, checkout: {}, cart: {}}
routes:
  - {host: preview.localhost, service: shop}
  - {host: api.preview.localhost, service: checkout}
  - {host: www.example.com, service: checkout}
previews:
  '42': {aliases: [demo]}
";

fn config() -> Config {
    sidetrack_config::parse(Path::new("sidetrack.yaml"), MAIN).unwrap().config
}

fn parsed(text: &str) -> Result<Preview, Problems> {
    parse_preview(Path::new("57.yaml"), &Key::bare("57").unwrap(), text, &config())
}

#[test]
fn yaml_and_json_say_the_same() {
    let yaml = "forks:\n  checkout: [127.0.0.1:9110]\nparents: [42, pr-7]\nttl: 2h\nonForkDown: baseline\n";
    let json = "{\"forks\": {\"checkout\": [\"127.0.0.1:9110\"]},\r\n\t\"parents\": [\"42\", \"pr-7\"],\n\t\"ttl\": \"2h\", \"onForkDown\": \"baseline\"}";
    let preview = parsed(yaml).unwrap();
    assert_eq!(preview, parsed(json).unwrap_or_else(|problems| panic!("{problems}")));
    assert_eq!(preview.forks, [(1, vec![Endpoint::Address("127.0.0.1:9110".parse().unwrap())])].into());
    assert_eq!(preview.parents, ["42", "7"].map(|key| Key::bare(key).unwrap()));
    assert_eq!(preview.ttl, Some(Duration::from_secs(7200)));
    assert_eq!(preview.on_fork_down, OnForkDown::Baseline);
}

#[test]
fn nothing_is_a_preview_without_forks() {
    let empty = parsed("{}").unwrap();
    assert!(empty.forks.is_empty() && empty.ttl.is_none());
    assert_eq!(parsed("forks: {}\n").unwrap(), empty);
}

/// A file that was cut off while it was written, or an empty body, brought the requests of its key to the baseline.
#[test]
fn a_file_without_a_word_is_no_preview() {
    for text in ["", " \n", "# soon\n", "~", "null", "---\n", "forks:\n", "forks: ~\nttl: 1h\n"] {
        let problems = parsed(text).unwrap_err().to_string();
        assert!(
            problems.contains("nothing is written here") && problems.contains("forks: {}"),
            "{text:?}: {problems}"
        );
    }
}

#[test]
fn every_problem_at_once() {
    let text = "forks: {chekout: [127.0.0.1:1], cart: [cart]}\naliases: [api, PR-57, x_]\n\
                hosts: [www.example.com, preview.localhost, pr-1.preview.localhost]\nparents: [57]\nTTL: 1h\n";
    let told = parsed(text).unwrap_err().to_string();
    let expected = [
        "57.yaml:1:9: forks.chekout: there is no service `chekout`, did you mean `checkout`?",
        "57.yaml:1:40: forks.cart[0]: `cart` has no port",
        "57.yaml:2:11: aliases[0]: `api` is a label of a route or domain below a domain",
        "57.yaml:2:16: aliases[1]: `PR-57` is the key of this preview already",
        "57.yaml:2:23: aliases[2]: `x_` has a character other than a-z, 0-9 and '-'",
        "57.yaml:3:9: hosts[0]: `www.example.com` is the host of a route",
        "57.yaml:3:26: hosts[1]: `preview.localhost` is the host of a route",
        "57.yaml:3:45: hosts[2]: `pr-1.preview.localhost` has the label `pr-1`",
        "57.yaml:4:11: parents[0]: `57` is the preview itself",
        "57.yaml:5:1: TTL: there is no key `TTL` here, did you mean `ttl`?",
    ];
    assert_eq!(told.lines().count(), expected.len(), "{told}");
    for (line, start) in told.lines().zip(expected) {
        assert!(line.starts_with(start), "{line}\n{start}");
    }
}

#[test]
fn other_previews_are_judged_elsewhere() {
    // `demo` is an alias of 42 in the main file: only who sees all previews can say which claim is older.
    let preview = parsed("{aliases: [demo, 42], parents: [nobody]}").unwrap();
    assert_eq!(preview.aliases.len(), 2);
}

#[test]
fn secrets_lie_beside_the_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "s3cret\n").unwrap();
    let text = "access: {header: {name: x-token, secretFile: token}}";
    let config = config();
    let parser = PreviewParser::new(&config);
    let key = Key::bare("57").unwrap();
    let preview = parser.parse(&folder.path().join("57.yaml"), &key, text).unwrap();
    assert_eq!(preview.access.unwrap().header.unwrap().secret.0, b"s3cret");
    let told = parser.parse(Path::new("nowhere/57.yaml"), &key, text).unwrap_err().to_string();
    assert!(told.contains("the file `nowhere/token` is not there"), "{told}");
}
