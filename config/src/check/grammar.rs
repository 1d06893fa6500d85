//! The grammars of single texts. An error ends the sentence that begins with the text: "`30` has no unit".

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytesize::ByteSize;
use ipnet::IpNet;
use jiff::SpanRelativeTo;
use jiff::fmt::friendly::SpanParser;

use crate::model::{Endpoint, HostPattern};

/// The longest time. Ten years behave like for ever, and still add up with any clock.
const MAX_DURATION: Duration = Duration::from_secs(3_650 * 24 * 60 * 60);

/// `30s`, `1m 30s`, `7d`; a day has 24 hours.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let bare = text.trim();
    if bare == "0" {
        return Ok(Duration::ZERO);
    }
    if bare.parse::<f64>().is_ok() {
        return Err("has no unit".into());
    }
    let span = SpanParser::new().parse_span(bare).map_err(|_| "is not a length of time")?;
    if span.is_negative() {
        return Err("is negative".into());
    }
    if span.get_years() != 0 || span.get_months() != 0 {
        return Err("has years or months, which have no fixed length".into());
    }
    let exact = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| "is too long")?;
    match Duration::try_from(exact) {
        Ok(duration) if duration <= MAX_DURATION => Ok(duration),
        _ => Err("is longer than 3650 days".into()),
    }
}

/// How long a preview lives: as a duration, and not zero.
///
/// # Errors
/// Why it is none, as the end of the sentence that begins with the text.
pub fn ttl(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("would end it at once; leave `ttl` out to keep it for ever".to_owned()),
        ttl => Ok(ttl),
    }
}

/// `8MiB`, `65536`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let size: ByteSize = text.trim().parse().map_err(|_| "is not a number of bytes")?;
    Ok(size.as_u64())
}

/// `10.0.0.0/8`, or one address. Bits of the host are dropped.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    let net = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse::<IpNet>().map_err(|_| "is not a network")?,
    };
    match net {
        IpNet::V6(v6) if v6.addr().to_ipv4_mapped().is_some() => {
            Err("is an IPv4 network in IPv6 form; clients are compared as IPv4".into())
        }
        net => Ok(net.trunc()),
    }
}

/// Where we listen: names are not resolved, port 0 is.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| match text.rsplit_once(':') {
        None => "has no port".into(),
        Some((host, _)) if host.is_empty() || host == "*" => {
            "has no IP address; write `0.0.0.0` or `[::]` for all of them".into()
        }
        Some(_) => "is not an IP address and a port".into(),
    })
}

/// `host:port`, `IP:port`, `[v6]:port`.
pub(super) fn endpoint(text: &str) -> Result<Endpoint, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return match address.port() {
            0 => Err("has port 0".into()),
            _ => Ok(Endpoint::Address(address)),
        };
    }
    if text.contains("://") {
        return Err("is a URL; `protocol` says how it is spoken to".into());
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err("has no port".into());
    };
    if host.contains(':') || host.starts_with('[') {
        return Err("is not an IPv6 address in brackets and a port".into());
    }
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(0) => Err("has port 0".into()),
        Ok(port) if digits => Ok(Endpoint::Name(dns_name(host)?, port)),
        _ => Err("has a port that is not a number from 1 to 65535".into()),
    }
}

/// A DNS name in lower case, without its trailing dot. `_` is let in, as resolvers do.
pub(super) fn dns_name(text: &str) -> Result<Box<str>, String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.is_empty() {
        return Err("is empty".into());
    }
    if name.len() > 253 {
        return Err("is longer than 253 characters".into());
    }
    if !name.is_ascii() {
        return Err("has letters outside ASCII; write it in its `xn--` form".into());
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if !name.split('.').all(label) {
        return Err("is not a DNS name".into());
    }
    // As URLs have it: a name that ends in a number is an IPv4 address, or nothing.
    if name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err("ends in a number, so it is no DNS name".into());
    }
    Ok(name.to_ascii_lowercase().into())
}

/// A DNS name, an IPv4 address or an IPv6 address in brackets, as a client writes it into `Host`.
///
/// # Errors
/// Why it is none, as the end of the sentence that begins with the text.
pub fn host_name(text: &str) -> Result<Box<str>, String> {
    let address = match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(v6) => v6.parse().ok().filter(IpAddr::is_ipv6),
        None => text.parse().ok().filter(IpAddr::is_ipv4),
    };
    match address {
        Some(IpAddr::V6(address)) => Ok(format!("[{address}]").into()),
        Some(IpAddr::V4(address)) => Ok(address.to_string().into()),
        None if text.contains("://") => Err("is a URL".into()),
        None if text.contains('/') => Err("has a path".into()),
        None if text.contains(':') => Err("has a port".into()),
        None => dns_name(text),
    }
}

/// `shop.example.com`, `*.example.com`, `*`.
///
/// # Errors
/// Why it is none, as the end of the sentence that begins with the text.
pub fn route_host(text: &str) -> Result<HostPattern, String> {
    match (text, text.strip_prefix("*.")) {
        ("*", _) => Ok(HostPattern::Any),
        (_, Some(name)) => dns_name(name).map(HostPattern::Below),
        _ if text.contains('*') => Err("has a `*` that is not the whole first label".into()),
        _ => host_name(text).map(HostPattern::Exact),
    }
}

/// What stands on a certificate: a DNS name, `*.` and one, or an IP address.
pub(super) fn certificate_name(text: &str) -> Result<Box<str>, String> {
    match (text.strip_prefix("*."), text.parse::<IpAddr>()) {
        (_, Ok(address)) => Ok(address.to_string().into()),
        (Some(name), _) => Ok(format!("*.{}", dns_name(name)?).into()),
        (None, _) => dns_name(text),
    }
}

/// A DNS name or an IP address.
pub(super) fn server_name(text: &str) -> Result<Box<str>, String> {
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(address.to_string().into()),
        Err(_) => dns_name(text),
    }
}

/// The path of a URL: absolute, in characters of RFC 3986 section 3.3, each `%` with two hex digits.
pub(super) fn url_path(text: &str) -> Result<Box<str>, String> {
    if !text.starts_with('/') {
        return Err("does not begin with `/`".into());
    }
    if text.len() > 1_024 {
        return Err("is longer than 1024 characters".into());
    }
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@%/".contains(&byte);
    if let Some(c) = text.chars().find(|c| !u8::try_from(*c).is_ok_and(legal)) {
        return Err(format!("has the character `{}`, which a path cannot have", c.escape_debug()));
    }
    let escape = |rest: &str| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    if text.split('%').skip(1).any(|rest| !escape(rest)) {
        return Err("has a `%` without two hex digits".into());
    }
    Ok(text.into())
}

/// The path prefix of a route: whole segments, no trailing slash, in the form that paths are normalised to.
pub(super) fn path_prefix(text: &str) -> Result<Box<str>, String> {
    let path = exact_path(text)?;
    match path.strip_suffix('/') {
        Some("") | None => Ok(path),
        Some(short) => Ok(short.into()),
    }
}

/// The one path of a route, in the form that paths are normalised to.
pub(super) fn exact_path(text: &str) -> Result<Box<str>, String> {
    let path = url_path(text)?;
    let lower = path.to_ascii_lowercase();
    let ambiguous = lower.contains("//") || lower.contains("%2f") || lower.contains("%2e");
    if ambiguous || path.split('/').any(|segment| segment == "." || segment == "..") {
        return Err(
            "has `//`, `.`, `..`, `%2e` or `%2f`: requests are matched in their normalised form".into()
        );
    }
    Ok(path)
}

/// A token of RFC 9110 section 5.6.2: the names of headers, cookies and baggage members.
pub(super) fn token(text: &str) -> Result<Box<str>, String> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+.^_`|~-".contains(&byte);
    name(text, |text| text.bytes().all(legal))
}

/// A name that stands in a query without percent-encoding: RFC 3986's unreserved characters.
pub(super) fn query_name(text: &str) -> Result<Box<str>, String> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    name(text, |text| text.bytes().all(legal))
}

/// The key of a `tracestate` member, W3C Trace Context section 3.3.1.3.1.
pub(super) fn tracestate_key(text: &str) -> Result<Box<str>, String> {
    let rest = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/".contains(&byte))
    };
    let begins_lower = |text: &str| text.starts_with(|c: char| c.is_ascii_lowercase());
    name(text, |text| match text.split_once('@') {
        None => begins_lower(text) && rest(text),
        Some((tenant, system)) => {
            let tenant_begins = tenant.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
            tenant_begins && rest(tenant) && begins_lower(system) && rest(system) && system.len() <= 14
        }
    })
}

fn name(text: &str, legal: impl FnOnce(&str) -> bool) -> Result<Box<str>, String> {
    match text {
        "" => Err("is empty".into()),
        _ if text.len() > 128 => Err("is longer than 128 characters".into()),
        _ if legal(text) => Ok(text.into()),
        _ => Err("has a character that cannot stand in this name".into()),
    }
}

/// The name of a service: it stands in headers, labels of metrics and logs.
pub(super) fn service_name(text: &str) -> Result<(), String> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let edge = |c: char| c.is_ascii_alphanumeric();
    match text {
        "" => Err("is empty".into()),
        _ if text.len() > 128 => Err("is longer than 128 characters".into()),
        _ if text.bytes().all(legal) && text.starts_with(edge) && text.ends_with(edge) => Ok(()),
        _ => Err("is not the name of a service".into()),
    }
}

#[cfg(test)]
mod tests;
