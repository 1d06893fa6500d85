//! What the demo prints: where to click, what to paste, whom to ask.

use std::fmt::Write;

use super::requests::{CASES, Door, Place, quoted};
use crate::out::Style;

/// The address that `explain` and `preview` ask when nobody says another.
const DEFAULT_ADMIN: &str = "127.0.0.1:9901";

/// The whole text. `keeps`: the folder stays when the demo ends.
pub(super) fn text(place: &Place, keeps: bool, style: Style) -> String {
    let mut text = format!(
        "{}\n\n",
        style.bold("Sidetrack: one estate of three services, its pull requests, one gateway")
    );
    text.push_str(
        "  baseline  shop, checkout, payment\n  \
           PR 42     shop, checkout            payment stays the baseline's\n  \
           PR 57     payment                   on top of PR 42: shop and checkout come from there\n  \
           PR 66     payment, not up yet       falls back to the baseline\n",
    );
    browser(&mut text, place, style);
    shell(&mut text, place, style);
    ask(&mut text, place, style);
    files(&mut text, place, keeps, style);
    text
}

fn browser(text: &mut String, place: &Place, style: Style) {
    let _ = writeln!(text, "\n{}", style.bold("Open in a browser"));
    for (door, host, target, what) in [
        (Door::Plain, "preview.localhost", "/", "the baseline"),
        (Door::Plain, "pr-42.preview.localhost", "/", "PR 42"),
        (Door::Tls, "pr-42.preview.localhost", "/", "PR 42 over TLS"),
        (Door::Plain, "pr-57.preview.localhost", "/", "PR 57 on top of PR 42"),
        (Door::Plain, "preview.localhost", "/?pr-id=42", "PR 42 until /?pr-id= clears the cookie"),
    ] {
        let _ = writeln!(text, "  {:<44}  {}", place.page(door, host, target), style.dim(what));
    }
}

fn shell(text: &mut String, place: &Place, style: Style) {
    let _ = writeln!(
        text,
        "\n{}",
        style.bold("Paste into a shell; X-PR-Route in the answer says what was decided")
    );
    for case in &CASES {
        let told = format!("{:<42}{}", case.title, case.outcome());
        let _ = writeln!(text, "  {}\n    {}", style.dim(&told), place.curl(case));
    }
}

fn ask(text: &mut String, place: &Place, style: Style) {
    let binary = binary();
    let admin = place.admin.to_string();
    let admin = if admin == DEFAULT_ADMIN { String::new() } else { format!(" --admin {admin}") };
    let url = place.page(Door::Plain, "pr-57.preview.localhost", "/api/checkout");
    let _ = writeln!(text, "\n{}", style.bold("Ask the running gateway, and change it"));
    let _ = writeln!(text, "  {binary} explain {url}{admin}");
    let _ = writeln!(text, "  {binary} preview ls{admin}");
    let _ = writeln!(text, "  {binary} preview set 70 payment=127.0.0.1:9 --parent 42 --ttl 1h{admin}");
}

fn files(text: &mut String, place: &Place, keeps: bool, style: Style) {
    let fate = if keeps { "" } else { " (removed at the end; --dir DIR keeps them)" };
    let file = |name: &str| quoted(&place.folder.join(name).display().to_string());
    let _ = writeln!(text, "\n{}{}", style.bold("Files"), style.dim(fate));
    let _ = writeln!(
        text,
        "  configuration   {}   {}",
        file("sidetrack.yaml"),
        style.dim("save it, and it is in force")
    );
    let _ = writeln!(text, "  every decision  tail -f {}", file("access.log"));
    let _ = writeln!(text, "  development CA  {}", quoted(&place.ca.display().to_string()));
    if keeps {
        let hint = sidetrack_proxy::accept::tls::dev_ca::trust_hint(&place.ca);
        let _ = writeln!(text, "\n{}", hint.trim_end());
    }
    let _ = writeln!(text, "\n{}", style.bold("Running until ctrl-c"));
}

/// This program as somebody types it again.
fn binary() -> String {
    match std::env::args().next() {
        Some(path) if path.contains('/') => quoted(&path),
        _ => "sidetrack".to_owned(),
    }
}
