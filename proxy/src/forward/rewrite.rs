//! The head on its way upstream and back: what belongs to one connection is cut, what the next hop must know is
//! added.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Fields that belong to one connection (RFC 9110 section 7.6.1), besides those that `Connection` names.
const HOP_BY_HOP: [HeaderName; 5] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Fields that `Connection` may not take away: they are about the message, and routing has read them.
const KEPT: [HeaderName; 4] =
    [header::HOST, header::CONTENT_LENGTH, header::COOKIE, HeaderName::from_static("x-forwarded-for")];

/// Cuts the fields of one connection. `TE` stays as far as it says `trailers`, which we forward.
pub fn strip_hop_by_hop(fields: &mut HeaderMap) {
    if fields.contains_key(header::CONNECTION) {
        let listed: Vec<HeaderName> = fields
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(','))
            .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
            .filter(|name| !KEPT.contains(name) && *name != header::TE)
            .collect();
        for name in listed {
            fields.remove(name);
        }
    }
    for name in HOP_BY_HOP {
        fields.remove(name);
    }
    if let Some(te) = fields.get(header::TE) {
        let trailers = te.to_str().is_ok_and(|te| te.split(',').any(|part| part.trim() == "trailers"));
        fields.remove(header::TE);
        if trailers {
            fields.insert(header::TE, HeaderValue::from_static("trailers"));
        }
    }
}

/// Joins the cookie crumbs of HTTP/2 into one line (RFC 9113 section 8.2.3).
pub fn join_cookies(fields: &mut HeaderMap) {
    if fields.get_all(header::COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = fields.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        fields.insert(header::COOKIE, joined);
    }
}

/// The token that a request or an answer upgrades to, where it does; HTTP/2 is not upgraded to (RFC 9113 section
/// 3.1 has withdrawn that).
pub fn upgrade_of(fields: &HeaderMap) -> Option<HeaderValue> {
    let token = fields.get(header::UPGRADE)?;
    let asked = fields
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .any(|option| option.trim().eq_ignore_ascii_case("upgrade"));
    let h2c = token.as_bytes().to_ascii_lowercase().starts_with(b"h2");
    (asked && !h2c).then(|| token.clone())
}

/// Gives `Location` and the `Path` of cookies the prefix back that was taken from the path of the request.
pub fn restore_prefix(fields: &mut HeaderMap, prefix: &str, authority: &str) {
    if let Some(location) = fields.get(header::LOCATION).and_then(|value| value.to_str().ok())
        && let Some(moved) = prefixed_location(location, prefix, authority)
        && let Ok(value) = HeaderValue::try_from(moved)
    {
        fields.insert(header::LOCATION, value);
    }
    let cookies: Vec<HeaderValue> = fields
        .get_all(header::SET_COOKIE)
        .iter()
        .map(|line| {
            line.to_str().ok().and_then(|text| prefixed_cookie(text, prefix)).unwrap_or_else(|| line.clone())
        })
        .collect();
    fields.remove(header::SET_COOKIE);
    for cookie in cookies {
        fields.append(header::SET_COOKIE, cookie);
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

fn prefixed_cookie(cookie: &str, prefix: &str) -> Option<HeaderValue> {
    let parts: Vec<String> = cookie
        .split(';')
        .map(|part| match part.split_once('=') {
            Some((name, path))
                if name.trim().eq_ignore_ascii_case("path") && path.trim().starts_with('/') =>
            {
                format!("{name}={prefix}{}", path.trim())
            }
            _ => part.to_owned(),
        })
        .collect();
    HeaderValue::try_from(parts.join(";")).ok()
}

/// Adds `name` to the `Vary` of an answer: one line, nothing twice (RFC 9110 section 12.5.5).
pub fn vary(fields: &mut HeaderMap, name: &HeaderValue) {
    let mut lines = fields.get_all(header::VARY).iter();
    let (Some(first), second) = (lines.next(), lines.next()) else {
        fields.insert(header::VARY, name.clone());
        return;
    };
    let says = |line: &HeaderValue| {
        line.to_str().is_ok_and(|text| {
            text.split(',').any(|item| {
                item.trim() == "*" || item.trim().as_bytes().eq_ignore_ascii_case(name.as_bytes())
            })
        })
    };
    if says(first) || second.is_some_and(says) || lines.any(says) {
        return;
    }
    let all: Vec<&[u8]> = fields.get_all(header::VARY).iter().map(HeaderValue::as_bytes).collect();
    let mut all = all.join(&b", "[..]);
    all.extend_from_slice(b", ");
    all.extend_from_slice(name.as_bytes());
    if let Ok(value) = HeaderValue::from_bytes(&all) {
        fields.insert(header::VARY, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(list: &[(&str, &str)]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in list {
            fields.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        fields
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
        let mut left: Vec<_> = fields.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "host", "te"]);
        assert_eq!(fields["te"], "trailers");
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
        assert_eq!(fields["location"], "/pr-42/login");
        let cookies: Vec<_> = fields.get_all("set-cookie").iter().collect();
        assert_eq!(cookies, ["a=1; Path=/pr-42/; HttpOnly", "b=2; path=/pr-42/api", "c=3"]);
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
        let ours = HeaderValue::from_static("X-PR-ID");
        for (before, after) in [
            (&[][..], "X-PR-ID"),
            (&[("vary", "Accept-Encoding")][..], "Accept-Encoding, X-PR-ID"),
            (&[("vary", "x-pr-id, a")][..], "x-pr-id, a"),
            (&[("vary", "*")][..], "*"),
        ] {
            let mut fields = map(before);
            vary(&mut fields, &ours);
            assert_eq!(fields["vary"], after);
            assert_eq!(fields.get_all("vary").iter().count(), 1);
        }
    }
}
