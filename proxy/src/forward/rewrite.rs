//! The head on its way upstream and back: what belongs to one connection is cut, what the next hop must know is
//! added.

use super::forwarded::is_forwarded;
use crate::fields::{Fields, Skips};

/// Fields that belong to one connection (RFC 9110 section 7.6.1), besides those that `Connection` names.
const HOP_BY_HOP: Skips<5> =
    Skips::new(["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"]);

/// Fields that `Connection` may not take away: they are about the message, and routing has read them.
const KEPT: [&str; 5] = ["host", "content-length", "cookie", "x-forwarded-for", "te"];

/// Cuts the fields of one connection. `TE` stays as far as it says `trailers`, which we forward.
pub fn strip_hop_by_hop(fields: &mut Fields) {
    // What it nearly always says names a field that is cut anyway.
    if fields.get_all("connection").any(|options| options != b"keep-alive") {
        let listed = fields.joined("connection", b",").to_ascii_lowercase();
        let names = listed.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        for name in names.filter_map(|name| std::str::from_utf8(name).ok()) {
            if !KEPT.contains(&name) {
                fields.remove(name);
            }
        }
    }
    fields.remove_all(HOP_BY_HOP);
    // Nearly always it says that once, and nothing else.
    if fields.contains("te") && !fields.get_all("te").eq([b"trailers"]) {
        let trailers = fields.items("te").any(|coding| coding == b"trailers");
        fields.remove("te");
        if trailers {
            fields.append("te", b"trailers");
        }
    }
}

/// Whether a field says something that has to be known before the body: framing, routing, the connection, who asks, how
/// to read the body (RFC 9110 section 6.5.1), or something that we write. An upstream that puts trailers among the fields
/// of the head would believe it.
fn belongs_to_head(name: &[u8]) -> bool {
    const NAMES: &[&[u8]] = &[
        b"age",
        b"authorization",
        b"baggage",
        b"cache-control",
        b"connection",
        b"content-encoding",
        b"content-length",
        b"content-range",
        b"content-type",
        b"cookie",
        b"date",
        b"expect",
        b"expires",
        b"host",
        b"if-match",
        b"if-modified-since",
        b"if-none-match",
        b"if-range",
        b"if-unmodified-since",
        b"keep-alive",
        b"location",
        b"max-forwards",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"range",
        b"retry-after",
        b"set-cookie",
        b"te",
        b"traceparent",
        b"tracestate",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"vary",
        b"via",
        b"www-authenticate",
    ];
    is_of_proxies(name) || NAMES.contains(&name)
}

/// Whether a field is one that proxies write, and services believe.
fn is_of_proxies(name: &[u8]) -> bool {
    is_forwarded(name) || name == b"x-request-id" || name.starts_with(b"x-pr-")
}

/// The same for a name that may be written with `_`.
fn dashed(name: &[u8]) -> Vec<u8> {
    name.iter().map(|byte| if *byte == b'_' { b'-' } else { *byte }).collect()
}

/// Trailers as they go on.
pub fn strip_trailers(mut trailers: Fields) -> Fields {
    let has_underscores = trailers.has_underscores();
    trailers.retain(|name| !(belongs_to_head(name) || has_underscores && belongs_to_head(&dashed(name))));
    trailers
}

/// Cuts fields that read like ones of ours, or of framing, to a server that takes `_` for `-`: what is behind us believes
/// those. The names themselves stay.
pub fn strip_twins(fields: &mut Fields) {
    fields.retain(|name| {
        let twin = dashed(name);
        let is_ours = is_of_proxies(&twin) || matches!(&*twin, b"content-length" | b"transfer-encoding");
        !is_ours || twin == name
    });
}

/// Joins the cookie crumbs of HTTP/2 into one line (RFC 9113 section 8.2.3).
pub fn join_cookies(fields: &mut Fields) {
    if fields.get_all("cookie").nth(1).is_some() {
        let joined = fields.joined("cookie", b"; ");
        fields.insert("cookie", &joined);
    }
}

/// Whether a request or an answer upgrades to WebSocket. Nothing else is upgraded to: what a tunnel carries nobody here
/// reads, and HTTP in it would pass by all rules.
pub fn is_websocket(fields: &Fields) -> bool {
    let mut tokens = fields.get_all("upgrade");
    tokens.next().is_some_and(|token| token.eq_ignore_ascii_case(b"websocket"))
        && tokens.next().is_none()
        && fields.items("connection").any(|option| option.eq_ignore_ascii_case(b"upgrade"))
}

/// Gives `Location` and the `Path` of cookies the prefix back that was taken from the path of the request.
pub fn restore_prefix(fields: &mut Fields, prefix: &str, authority: &str) {
    let moved = fields.text("location").and_then(|location| prefixed_location(location, prefix, authority));
    if let Some(moved) = moved {
        fields.insert("location", moved.as_bytes());
    }
    if fields.contains("set-cookie") {
        let cookies: Vec<Vec<u8>> =
            fields.get_all("set-cookie").map(|cookie| prefixed_cookie(cookie, prefix)).collect();
        fields.remove("set-cookie");
        cookies.iter().for_each(|cookie| fields.append("set-cookie", cookie));
    }
}

/// A location on this host below the prefix; `None` where it leads elsewhere or is relative to where it is.
fn prefixed_location(location: &str, prefix: &str, authority: &str) -> Option<String> {
    if location.starts_with('/') && !location.starts_with("//") {
        return Some(format!("{prefix}{location}"));
    }
    let (scheme, rest) =
        location.split_once("://").or_else(|| location.strip_prefix("//").map(|rest| ("", rest)))?;
    let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let scheme = if scheme.is_empty() { "//".to_owned() } else { format!("{scheme}://") };
    host.eq_ignore_ascii_case(authority).then(|| {
        let slash = if path.starts_with('/') { "" } else { "/" };
        format!("{scheme}{host}{prefix}{slash}{path}")
    })
}

fn prefixed_cookie(cookie: &[u8], prefix: &str) -> Vec<u8> {
    let attribute = |part: &[u8]| {
        let (name, path) = part.split_at_checked(part.iter().position(|byte| *byte == b'=')?)?;
        let path = path.get(1..)?.trim_ascii();
        let is_path = name.trim_ascii().eq_ignore_ascii_case(b"path") && path.starts_with(b"/");
        is_path.then(|| [name, b"=", prefix.as_bytes(), path].concat())
    };
    let parts = cookie.split(|byte| *byte == b';');
    let parts: Vec<Vec<u8>> = parts.map(|part| attribute(part).unwrap_or_else(|| part.to_vec())).collect();
    parts.join(&b';')
}

/// Adds `name` to the `Vary` of an answer: one line, nothing twice (RFC 9110 section 12.5.5).
pub fn vary(fields: &mut Fields, name: &str) {
    if !fields.contains("vary") {
        return fields.append("vary", name.as_bytes());
    }
    let says = |item: &[u8]| item == b"*" || item.eq_ignore_ascii_case(name.as_bytes());
    if !fields.items("vary").any(says) {
        fields.add_item("vary", name.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(list: &[(&str, &str)]) -> Fields {
        list.iter().map(|(name, value)| (*name, value.as_bytes())).collect()
    }

    #[test]
    fn what_connection_names_is_cut_but_not_what_routing_read() {
        let mut fields = map(&[
            ("connection", "close, X-Secret, host, TE"),
            ("x-secret", "1"),
            ("host", "a"),
            ("te", "gzip, trailers"),
            ("keep-alive", "timeout=5"),
            ("upgrade", "websocket"),
            ("accept", "*/*"),
        ]);
        strip_hop_by_hop(&mut fields);
        let mut left: Vec<_> = fields.iter().map(|(name, _)| name).collect();
        left.sort_unstable();
        assert_eq!(left, [&b"accept"[..], b"host", b"te"]);
        assert_eq!(fields.text("te"), Some("trailers"));
    }

    #[test]
    fn te_says_trailers_once_or_is_cut() {
        for (lines, left) in [
            (&["trailers"][..], &["trailers"][..]),
            (&["trailers", "trailers"], &["trailers"]),
            (&["trailers;q=0.5, gzip", "trailers"], &["trailers"]),
            (&["gzip"], &[]),
            (&[""], &[]),
        ] {
            let mut fields = map(&lines.iter().map(|line| ("te", *line)).collect::<Vec<_>>());
            strip_hop_by_hop(&mut fields);
            assert!(fields.get_all("te").eq(left.iter().map(|line| line.as_bytes())), "{lines:?}");
        }
    }

    #[test]
    fn trailers_say_nothing_that_belongs_to_a_head() {
        let trailers = map(&[
            ("content-length", "9"),
            ("content_length", "9"),
            ("x-pr-id", "43"),
            ("x-forwarded-for", "::1"),
            ("set-cookie", "a=1"),
            ("grpc-status", "0"),
            ("x-checksum", "7"),
        ]);
        // Underscores are noted where heads are read.
        let head: Vec<u8> =
            trailers.iter().flat_map(|(name, value)| [name, b": ", value, b"\r\n"].concat()).collect();
        let head = [head, b"\r\n".to_vec()].concat();
        let mut lines = [httparse::EMPTY_HEADER; 8];
        let (_, lines) = httparse::parse_headers(&head, &mut lines).unwrap().unwrap();
        let trailers = Fields::parsed(&head, lines, (0, 0)).unwrap();
        let left = strip_trailers(trailers);
        assert_eq!(
            left.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            [&b"grpc-status"[..], b"x-checksum"]
        );
    }

    #[test]
    fn twins_of_our_fields_are_cut() {
        let mut fields =
            map(&[("x_forwarded_for", "1"), ("x-forwarded-for", "2"), ("x-pr_strict", "1"), ("x_a", "3")]);
        strip_twins(&mut fields);
        assert_eq!(fields.iter().map(|(_, value)| value).collect::<Vec<_>>(), [b"2", b"3"]);
    }

    #[test]
    fn locations_and_cookies_get_the_prefix_back() {
        let mut fields = map(&[
            ("location", "/login"),
            ("set-cookie", "a=1; Path=/; HttpOnly"),
            ("set-cookie", "b=2; path=/api"),
            ("set-cookie", "c=3"),
        ]);
        restore_prefix(&mut fields, "/pr-42", "shop.example");
        assert_eq!(fields.text("location"), Some("/pr-42/login"));
        let cookies: Vec<_> = fields.get_all("set-cookie").collect();
        assert_eq!(cookies, [&b"a=1; Path=/pr-42/; HttpOnly"[..], b"b=2; path=/pr-42/api", b"c=3"]);
        for (from, to) in [
            ("https://shop.example/x", Some("https://shop.example/pr-42/x")),
            ("https://shop.example", Some("https://shop.example/pr-42/")),
            ("//shop.example/x", Some("//shop.example/pr-42/x")),
            ("https://other.example/x", None),
            ("next", None),
        ] {
            assert_eq!(prefixed_location(from, "/pr-42", "shop.example").as_deref(), to, "{from}");
        }
    }

    #[test]
    fn vary_is_merged_once() {
        for (before, after) in [
            (&[][..], "X-PR-ID"),
            (&[("vary", "Accept-Encoding")][..], "Accept-Encoding, X-PR-ID"),
            (&[("vary", "x-pr-id, a")][..], "x-pr-id, a"),
            (&[("vary", "*")][..], "*"),
        ] {
            let mut fields = map(before);
            vary(&mut fields, "X-PR-ID");
            assert_eq!(fields.text("vary"), Some(after));
            assert_eq!(fields.get_all("vary").count(), 1);
        }
    }
}
