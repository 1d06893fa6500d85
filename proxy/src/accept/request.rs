//! What a request must be before anything reads it: one authority, one that all readers take for the same; a
//! method that we forward; a target that is a path.

use http::{Method, Version};

use sidetrack_config::limits::Limits;

use crate::error::{Code, Failure};
use crate::h1::bytes_of;
use crate::head::RequestHead;
use crate::limit::Limit;

/// Checks the head, and gives the authority it is for.
///
/// # Errors
/// `method_not_allowed` for CONNECT and TRACE (a CONNECT with `:protocol`, RFC 8441, is a WebSocket and allowed),
/// `request_too_large` for the target and the number of fields, `malformed_request` for the rest.
pub fn check(head: &RequestHead, limits: &Limits) -> Result<Box<str>, Failure> {
    match head.method {
        Method::CONNECT if head.is_websocket => {}
        Method::CONNECT | Method::TRACE => {
            let detail = format!("{} is not forwarded", head.method);
            return Err(Failure::new(Code::MethodNotAllowed, detail));
        }
        _ => {}
    }
    let target = head.target.as_str();
    if target.len() > limits.uri_bytes {
        let detail = format!("the request target is longer than {} bytes", limits.uri_bytes);
        return Err(Failure { detail: detail.into(), ..Limit::UriBytes.too_large() });
    }
    if head.fields.has_underscores() {
        let is_framing = |name: &[u8]| matches!(name, b"content_length" | b"transfer_encoding");
        if head.fields.iter().any(|(name, _)| is_framing(name)) {
            return Err(malformed(
                "a field reads as Content-Length or Transfer-Encoding where '_' is taken for '-'",
            ));
        }
    }
    if head.fields.len() > limits.header_count && lines(head) > limits.header_count {
        return Err(Limit::HeaderCount.too_large());
    }
    // The reader of HTTP/1.1 has seen to it already.
    if head.version >= Version::HTTP_2 && !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(malformed("the request target holds a character that has to be percent-encoded"));
    }
    let is_asterisk = target == "*" && head.method == Method::OPTIONS;
    if !target.starts_with('/') && !is_asterisk {
        return Err(malformed("the request target is no path"));
    }
    authority(head).map(Box::from)
}

/// Lines of the head, the crumbs of a cookie taken for one: HTTP/2 may send each by itself (RFC 9113 section 8.2.3).
fn lines(head: &RequestHead) -> usize {
    let crumbs = head.fields.get_all("cookie").count();
    head.fields.len() - crumbs.saturating_sub(1)
}

/// One authority: `:authority`, or that of an absolute target (RFC 9112 section 3.2.2), or `Host`. HTTP/1.1 must
/// have exactly one `Host`; where there are two sources they must agree.
fn authority(head: &RequestHead) -> Result<&str, Failure> {
    let mut hosts = head.fields.get_all("host");
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(malformed("there are two Host fields"));
    }
    let of_target = head.authority.as_ref().map(|authority| authority.as_str().as_bytes());
    if host.is_none() && head.version == Version::HTTP_11 {
        return Err(malformed("there is no Host field"));
    }
    if host.is_none() && of_target.is_none() && head.version >= Version::HTTP_2 {
        return Err(malformed("there is no :authority and no Host"));
    }
    let authority = match (of_target, host) {
        (Some(target), Some(host)) if head.version >= Version::HTTP_2 => {
            if !host.eq_ignore_ascii_case(target) {
                return Err(malformed(":authority and Host differ"));
            }
            host
        }
        (Some(target), _) => target,
        (None, Some(host)) => host,
        (None, None) => b"",
    };
    let text = std::str::from_utf8(authority).ok().filter(|text| is_host(text));
    text.ok_or_else(|| malformed("the authority is no host"))
}

/// The bytes of a registered name, by their value.
static IN_HOST: [bool; 256] =
    bytes_of(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!$&'()*+,;=");

/// `host` or `host:port` in the characters of RFC 3986 section 3.2.2, without userinfo. No `%`:
/// `pr%2D42` could be read as a key by one side and not by the other. No empty label: behind `pr-42.D..` no key would be
/// seen. Empty is allowed: it matches only a route for any host.
fn is_host(text: &str) -> bool {
    let port = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, port)) if host.parse::<std::net::Ipv6Addr>().is_ok() => {
                port.strip_prefix(':').or(port.is_empty().then_some(""))
            }
            _ => return false,
        },
        None => {
            let is_of_host = |byte: &u8| IN_HOST.get(usize::from(*byte)).is_some_and(|is_in| *is_in);
            let length = text.bytes().take_while(is_of_host).count();
            let (host, rest) = text.split_at_checked(length).unwrap_or_default();
            if host.starts_with('.') || host.as_bytes().windows(2).any(|pair| pair == b"..") {
                return false;
            }
            rest.strip_prefix(':').or(rest.is_empty().then_some(""))
        }
    };
    port.is_some_and(|port| port.is_empty() || port.parse::<u16>().is_ok())
}

fn malformed(detail: &str) -> Failure {
    Failure::new(Code::MalformedRequest, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::Bounds;

    fn head(method: &str, target: &str, hosts: &[&str]) -> RequestHead {
        let text = format!("{method} {target} HTTP/1.1\r\n");
        let fields: String = hosts.iter().map(|host| format!("host: {host}\r\n")).collect();
        let text = [text, fields, "\r\n".to_owned()].concat();
        crate::h1::request::parse(text.as_bytes(), Bounds::UPSTREAM).unwrap().unwrap().0.head
    }

    #[test]
    fn one_authority() {
        let limits = Limits { uri_bytes: 100, header_count: 10, ..Limits::default() };
        let check = |method: &str, target: &str, hosts: &[&str]| {
            check(&head(method, target, hosts), &limits).map(String::from)
        };
        assert_eq!(check("GET", "/", &["a.example:80"]).unwrap(), "a.example:80");
        assert_eq!(check("GET", "http://b.example/", &["a.example"]).unwrap(), "b.example");
        assert_eq!(check("OPTIONS", "*", &["a"]).unwrap(), "a");
        assert_eq!(check("GET", "/", &["a.example.:80"]).unwrap(), "a.example.:80");
        for (method, target, hosts) in [
            ("GET", "/", &[][..]),
            ("GET", "/", &["a", "b"][..]),
            ("GET", "/", &["a", "a"][..]),
            ("GET", "/", &["u@a"][..]),
            ("GET", "/", &["a b"][..]),
            ("GET", "/", &["a:99999"][..]),
            ("GET", "/", &["pr%2D42.a"][..]),
            ("GET", "/", &["[::1"][..]),
            ("GET", "/", &["pr-42.a.."][..]),
            ("GET", "/", &["pr-42..a:80"][..]),
            ("GET", "/", &[".a"][..]),
            ("GET", "*", &["a"][..]),
        ] {
            assert_eq!(check(method, target, hosts).unwrap_err().code, Code::MalformedRequest, "{hosts:?}");
        }
        assert_eq!(check("TRACE", "/", &["a"]).unwrap_err().code, Code::MethodNotAllowed);
        assert_eq!(check("CONNECT", "a:443", &["a"]).unwrap_err().code, Code::MethodNotAllowed);
        assert_eq!(check("GET", &format!("/{}", "x".repeat(100)), &["a"]).unwrap_err().status(), 414);
    }
}
