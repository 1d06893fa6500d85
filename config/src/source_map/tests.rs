//! Places, numbers as written, and inputs that blow up.

use super::*;

const FILE: &str = "a.yaml";

fn tree(text: &str) -> Node {
    parse(FILE.as_ref(), text).unwrap()
}

fn refused(text: &str) -> String {
    parse(FILE.as_ref(), text).unwrap_err().to_string()
}

#[test]
fn every_path_has_its_place() {
    let root = tree("a:\n  - b: 1\n    c: two\n  - {d: [x, yy]}\n");
    let a = At::ROOT.key("a");
    let (first, second) = (a.index(0), a.index(1));
    let d = second.key("d");
    for (at, key, value) in [
        (first.key("b"), (2, 5), (2, 8)),
        (first.key("c"), (3, 5), (3, 8)),
        (d, (4, 6), (4, 9)),
        (d.index(1), (4, 13), (4, 13)),
    ] {
        let pair = |position: Position| (position.line, position.column);
        assert_eq!(pair(root.value_position(&at)), value, "{at}");
        assert_eq!(pair(root.key_position(&at)), key, "{at}");
    }
    assert_eq!(d.index(1).to_string(), "a[1].d[1]");
    // What was not written is looked for where it would have stood.
    assert_eq!(root.value_position(&first.key("none")), root.value_position(&first));
}

#[test]
fn numbers_keep_their_text() {
    let text = "x: &n 007\ny: [1e5, *n, 0x1F, -3, 1.50, 99999999999999999999999]\n";
    let root = tree(text);
    let Kind::Map(entries) = root.kind else { panic!("a map") };
    let Kind::List(items) = &entries[1].value.kind else { panic!("a list") };
    let texts: Vec<_> = items
        .iter()
        .map(|item| match &item.kind {
            Kind::Number { written, .. } => written.of(text),
            Kind::Text(text) => &**text,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(texts, ["1e5", "007", "0x1F", "-3", "1.50", "99999999999999999999999"]);
}

#[test]
fn keys_are_text_as_written() {
    let Kind::Map(entries) = tree("42: a\n007: b\noff: c\ntrue: d\n").kind else { panic!("a map") };
    let keys: Vec<_> = entries.iter().map(|entry| &*entry.key).collect();
    assert_eq!(keys, ["42", "007", "off", "true"]);
}

#[test]
fn only_true_and_false_are_booleans() {
    let Kind::List(items) = tree("[true, false, off, no, yes]").kind else { panic!("a list") };
    let booleans = items.iter().filter(|item| matches!(item.kind, Kind::Bool(_))).count();
    assert_eq!(booleans, 2);
}

#[test]
fn what_blows_up_is_refused() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for n in 1..9 {
        let items = vec![format!("*a{}", n - 1); 10].join(", ");
        bomb.push_str(&format!("a{n}: &a{n} [{items}]\n"));
    }
    assert!(refused(&bomb).contains("is not valid YAML"), "{}", refused(&bomb));
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    assert!(refused(&deep).contains("is not valid YAML"), "{}", refused(&deep));
}

#[test]
fn syntax_has_a_place() {
    assert!(refused("a: [1\nb: 2\n").starts_with("a.yaml:2:"), "{}", refused("a: [1\nb: 2\n"));
    assert_eq!(
        refused("a: 1\nb: 2\na: 3\n"),
        "a.yaml:3:1: the key `a` is written twice; allowed: each key once"
    );
}
