//! Hosts of listeners and routes: `shop.example.com`, `*.example.com` (any depth below), `*` for all.

use super::super::Settings;

/// Any host.
pub(super) const ANY: &str = "*";

/// What both patterns match; `None`: nothing.
pub(super) fn intersect<'a>(one: &'a str, other: &'a str) -> Option<&'a str> {
    if covers(one, other) {
        return Some(other);
    }
    covers(other, one).then_some(one)
}

/// Whether `pattern` matches all that `host` matches.
fn covers(pattern: &str, host: &str) -> bool {
    let below =
        || pattern.strip_prefix('*').is_some_and(|suffix| !suffix.is_empty() && host.ends_with(suffix));
    pattern == ANY || pattern == host || below()
}

/// Why a route can't have `host`. The API server checks the form; a name that it let through must not break a table
/// that all proxies read.
pub(super) fn check(host: &str, settings: &Settings) -> Result<(), String> {
    if host == ANY {
        return Ok(());
    }
    let name = host.strip_prefix("*.").unwrap_or(host);
    if !is_name(name) {
        return Err(format!(
            "`{host}` is not a host name; write one as in `shop.example.com` or `*.example.com`"
        ));
    }
    if let Some(label) = labels_below_a_domain(name, settings).find(|label| is_key(label, settings)) {
        let prefix = &settings.host_prefix;
        return Err(format!(
            "`{host}` has the label `{label}`, which is read as a routing key below a domain of previews; \
             write labels that don't begin with `{prefix}`"
        ));
    }
    Ok(())
}

/// A DNS name in lower case that is no IP address: a label of digits only at its end makes it one (RFC 1123 section
/// 2.1).
fn is_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    let last_is_number = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    name.len() <= 253 && !last_is_number && name.split('.').all(is_label)
}

/// The labels of `name` below the longest domain that it is below, and their parts between `--`.
fn labels_below_a_domain<'a>(name: &'a str, settings: &Settings) -> impl Iterator<Item = &'a str> + use<'a> {
    let below = settings
        .domains
        .iter()
        .filter_map(|domain| name.strip_suffix(&**domain)?.strip_suffix('.'))
        .min_by_key(|labels| labels.len());
    below.into_iter().flat_map(|labels| labels.split('.')).flat_map(|label| label.split("--"))
}

/// Whether a label begins as a key in a host does.
fn is_key(label: &str, settings: &Settings) -> bool {
    !settings.host_prefix.is_empty() && label.starts_with(&*settings.host_prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_intersect_as_the_specification_says() {
        let cases = [
            ("*", "shop.example.com", Some("shop.example.com")),
            ("*", "*", Some("*")),
            ("*.example.com", "*", Some("*.example.com")),
            ("shop.example.com", "shop.example.com", Some("shop.example.com")),
            ("shop.example.com", "cart.example.com", None),
            ("*.example.com", "shop.example.com", Some("shop.example.com")),
            ("*.example.com", "a.shop.example.com", Some("a.shop.example.com")),
            ("*.example.com", "example.com", None),
            ("*.example.com", "badexample.com", None),
            ("shop.example.com", "*.example.com", Some("shop.example.com")),
            ("*.example.com", "*.shop.example.com", Some("*.shop.example.com")),
            ("*.example.com", "*.example.com", Some("*.example.com")),
            ("*.example.com", "*.example.org", None),
        ];
        for (one, other, both) in cases {
            assert_eq!(intersect(one, other), both, "{one} {other}");
            assert_eq!(intersect(other, one), both, "{other} {one}");
        }
    }

    #[test]
    fn a_host_that_is_a_key_or_no_name_is_refused() {
        let settings = crate::plan::routes::tests::settings();
        for host in
            ["*", "a.example.com", "*.example.com", "localhost", "pr-1.elsewhere.com", "preview.example.com"]
        {
            assert_eq!(check(host, &settings), Ok(()), "{host}");
        }
        let bad = [
            "",
            "A.example.com",
            "10.0.0.1",
            "a..b",
            "-a.b",
            "*.*.b",
            "a_b.c",
            "*a.b",
            "a.b.",
            "pr-1.preview.example.com",
            "*.pr-1.preview.example.com",
            "api--pr-1.preview.example.com",
        ];
        for host in bad {
            assert!(check(host, &settings).is_err(), "{host}");
        }
    }
}
