//! Previews as a table for people: one row per preview, one line per fork.

use std::fmt::Write;

use serde_json::Value;

use super::cluster;
use crate::out::Style;

const HEADINGS: [&str; 8] = ["KEY", "FORKS", "PARENTS", "ALIASES", "HOSTS", "EXPIRES", "SOURCE", "PROBLEM"];

/// One preview: the cells of its row. The forks, one line each, are apart.
struct Row {
    cells: [String; 8],
    forks: Vec<String>,
}

/// Everything that `GET /v1/previews` says: the table, and below it the problems in full.
pub(super) fn listed(said: &Value, style: Style) -> String {
    let previews = said.get("previews").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let none = serde_json::Map::new();
    let problems = said.get("problems").and_then(Value::as_object).unwrap_or(&none);
    let mut rows: Vec<Row> = previews.iter().map(row).collect();
    for row in &mut rows {
        let [key, .., problem] = &mut row.cells;
        if problems.contains_key(key.as_str()) {
            "see below".clone_into(problem);
        }
    }
    let mut page = match rows.is_empty() {
        true => "no preview is known here\n".to_owned(),
        false => drawn(&rows, style),
    };
    if !problems.is_empty() {
        let _ = writeln!(page, "\n{}", style.bold("Problems; the last good version of each stays"));
    }
    for (key, problem) in problems {
        let _ =
            writeln!(page, "{key}: {}", problem.as_str().unwrap_or("").trim_end().replace('\n', "\n    "));
    }
    page
}

/// Everything that a controller says: the same table, and below it what keeps previews from being in force.
pub(super) fn of_cluster(said: &Value, style: Style) -> String {
    let previews = said.get("previews").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut rows: Vec<Row> = previews.iter().map(|preview| row(&cluster::reshaped(preview))).collect();
    let mut missing = String::new();
    for (preview, row) in previews.iter().zip(&mut rows) {
        let [key, .., problem] = &mut row.cells;
        let reasons = preview.get("reasons").and_then(Value::as_array).into_iter().flatten();
        for reason in reasons.filter_map(Value::as_str) {
            "see below".clone_into(problem);
            let _ = writeln!(missing, "{key}: {reason}");
        }
    }
    if rows.is_empty() {
        return "no preview is known in this cluster\n".to_owned();
    }
    let page = drawn(&rows, style);
    match missing.is_empty() {
        true => page,
        false => format!("{page}\n{}\n{missing}", style.bold("Not in force yet")),
    }
}

/// The table of some previews, as `GET /v1/previews` has them.
pub(super) fn of<'a>(previews: impl IntoIterator<Item = &'a Value>, style: Style) -> String {
    drawn(&previews.into_iter().map(row).collect::<Vec<_>>(), style)
}

fn row(preview: &Value) -> Row {
    let text = |name: &str| preview.get(name).and_then(Value::as_str).unwrap_or("");
    let list = |name: &str| {
        let items = preview.get(name).and_then(Value::as_array).into_iter().flatten();
        items.filter_map(Value::as_str).collect::<Vec<_>>().join(",")
    };
    let forks = preview.get("forks").and_then(Value::as_object).into_iter().flatten();
    let expires = match text("expires") {
        "" => "never".to_owned(),
        at => whole_seconds(at),
    };
    Row {
        cells: [
            text("key").to_owned(),
            String::new(),
            list("parents"),
            list("aliases"),
            list("hosts"),
            expires,
            text("source").to_owned(),
            String::new(),
        ],
        forks: forks.map(|(service, endpoints)| fork(service, endpoints)).collect(),
    }
}

/// `checkout=10.1.2.3:8080,10.1.2.4:8080(down)`.
fn fork(service: &str, endpoints: &Value) -> String {
    let endpoint = |endpoint: &Value| {
        let address = endpoint.get("address").and_then(Value::as_str).unwrap_or("");
        let healthy = endpoint.get("healthy").and_then(Value::as_bool).unwrap_or(true);
        format!("{address}{}", if healthy { "" } else { "(down)" })
    };
    let all: Vec<String> = endpoints.as_array().into_iter().flatten().map(endpoint).collect();
    match all.is_empty() {
        true => format!("{service}=(no endpoint yet)"),
        false => format!("{service}={}", all.join(",")),
    }
}

/// `2026-11-20T15:00:00.123Z` without its fraction.
fn whole_seconds(at: &str) -> String {
    at.split_once('.').map_or_else(|| at.to_owned(), |(whole, _)| format!("{whole}Z"))
}

fn drawn(rows: &[Row], style: Style) -> String {
    let lines: Vec<[&str; 8]> = rows.iter().flat_map(lines).collect();
    let mut widths = [0; 8];
    for (at, width) in widths.iter_mut().enumerate() {
        let cells = lines.iter().filter_map(|line| line.get(at)).map(|cell| cell.chars().count());
        let longest = cells.max().unwrap_or(0);
        // A column that is empty in every row is left out.
        *width = if longest == 0 { 0 } else { longest.max(HEADINGS.get(at).map_or(0, |name| name.len())) };
    }
    let mut page = format!("{}\n", style.bold(&line(&HEADINGS, &widths)));
    for cells in &lines {
        let _ = writeln!(page, "{}", line(cells, &widths));
    }
    page
}

/// The lines of a row: the first has its cells, and each has a fork.
fn lines(row: &Row) -> impl Iterator<Item = [&str; 8]> {
    let forks = row.forks.iter().map(String::as_str).chain(row.forks.is_empty().then_some("-"));
    forks.enumerate().map(|(number, fork)| {
        let mut line = match number {
            0 => row.cells.each_ref().map(String::as_str),
            _ => [""; 8],
        };
        let [_, place, ..] = &mut line;
        *place = fork;
        line
    })
}

fn line(cells: &[&str; 8], widths: &[usize; 8]) -> String {
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(widths).filter(|(_, width)| **width > 0) {
        let _ = write!(line, "{cell:<width$}  ");
    }
    line.truncate(line.trim_end().len());
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_row_for_each_preview_and_a_line_for_each_fork() {
        let said = json!({
            "generation": 4,
            "previews": [
                {"key": "42", "forks": {"checkout": [{"address": "10.0.0.1:80", "healthy": true}], "shop": []},
                 "parents": [], "aliases": ["demo"], "hosts": [], "expires": "2026-11-20T15:00:00.123456Z", "source": "file"},
                {"key": "57", "forks": {"payment": [{"address": "10.0.0.2:80", "healthy": false}]},
                 "parents": ["42"], "aliases": [], "hosts": [], "expires": null, "source": "previewsDir"},
            ],
            "problems": {"57": "57.yaml:1:1: bad\nallowed: good", "9": "gone wrong"},
        });
        let page = listed(&said, Style::new());
        let expected = "\
KEY  FORKS                      PARENTS  ALIASES  EXPIRES               SOURCE       PROBLEM
42   checkout=10.0.0.1:80                demo     2026-11-20T15:00:00Z  file
     shop=(no endpoint yet)
57   payment=10.0.0.2:80(down)  42                never                 previewsDir  see below

Problems; the last good version of each stays
57: 57.yaml:1:1: bad
    allowed: good
9: gone wrong
";
        assert_eq!(page, expected);
    }

    #[test]
    fn a_cluster_has_the_same_table() {
        let said = json!({"generation": 4, "previews": [
            {"key": "42", "phase": "Ready", "ready": true, "expires": null, "reasons": [],
             "forks": [{"service": "shop/checkout", "state": "Routed", "message": "", "endpoints": 2}]},
            {"key": "57", "phase": "Degraded", "ready": false, "expires": "2026-11-20T15:00:00Z",
             "forks": [{"service": "shop/cart", "state": "Leaks", "message": "its pods", "endpoints": 1}],
             "reasons": ["fork of shop/cart: Leaks: its pods", "gateway gw-1 has not acknowledged it"]},
        ]});
        let expected = "\
KEY  FORKS                  EXPIRES               SOURCE             PROBLEM
42   shop/checkout=2 ready  never                 cluster, in force
57   shop/cart=Leaks        2026-11-20T15:00:00Z  cluster, Degraded  see below

Not in force yet
57: fork of shop/cart: Leaks: its pods
57: gateway gw-1 has not acknowledged it
";
        assert_eq!(of_cluster(&said, Style::new()), expected);
        let none = json!({"previews": []});
        assert_eq!(of_cluster(&none, Style::new()), "no preview is known in this cluster\n");
    }

    #[test]
    fn nothing_is_said_as_nothing() {
        assert_eq!(
            listed(&json!({"previews": [], "problems": {}}), Style::new()),
            "no preview is known here\n"
        );
    }
}
