use clap::ValueEnum;
use serde_json::json;

use super::*;

/// `docs/propagation.md` has every recipe, word by word. `UPDATE_GOLDEN=1` writes them anew.
#[test]
fn the_page_has_the_recipes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/propagation.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (before, rest) = page.split_once("<!-- recipes -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- end -->").unwrap();
    let expected = format!("{before}<!-- recipes -->\n{RECIPES}<!-- end -->{after}");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &expected).unwrap();
    } else {
        assert_eq!(page, expected);
    }
}

#[test]
fn each_language_has_its_recipe() {
    for language in Language::value_variants() {
        let text = recipe(Some(*language));
        assert!(text.starts_with(&format!("### {}\n", language.heading())), "{text}");
        assert!(text.to_lowercase().contains("baggage") || text.to_lowercase().contains("x-pr-id"), "{text}");
    }
    assert_eq!(RECIPES.matches("### ").count(), Language::value_variants().len());
}

#[test]
fn what_several_proxies_saw_is_one_edge() {
    let mut edge = Edge { service: "cart".into(), callee: "payment".into(), ..Edge::default() };
    edge.add(&json!({"kept": 1, "lost": 2, "repaired": 2, "survived": {"trace": 2}, "lastLost": "2026-01-02T03:04:05Z"}));
    edge.add(
        &json!({"kept": 1, "lost": 1, "repaired": 0, "survived": {"none": 1, "trace": 1}, "lastLost": null}),
    );
    assert_eq!((edge.kept, edge.lost, edge.repaired, edge.survived["trace"]), (2, 3, 2, 3));
    assert_eq!(edge.last_lost.as_deref(), Some("2026-01-02T03:04:05Z"));
    let said = edge.diagnosis();
    for part in [
        "cart hands on the trace and no baggage",
        "1 of them came with nothing",
        "1 of them met the baseline",
    ] {
        assert!(said.contains(part), "{said}");
    }
}
