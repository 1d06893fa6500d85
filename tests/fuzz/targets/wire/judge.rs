//! What clients sent, what upstreams saw, and whether the second follows from the first.

use super::strict::{Lines, Request};

/// A request as a client meant it.
#[derive(Debug)]
pub(crate) struct Sent {
    /// Method, target (as a path), fields, body and trailers.
    pub(crate) request: Request,
    /// The host that it is for; `None`: it names none, or more than one.
    pub(crate) authority: Option<String>,
    /// Whether it was sent to its end.
    pub(crate) is_whole: bool,
    /// What follows it on its connection: what an upgrade may carry on.
    pub(crate) behind: Vec<u8>,
}

/// A request as an upstream saw it.
#[derive(Debug)]
pub(crate) struct Seen {
    /// The upstream: its service, and the key whose fork it is.
    pub(crate) upstream: (&'static str, &'static str),
    /// The request; `Host` is among its fields.
    pub(crate) request: Request,
    /// Whether it came to its end.
    pub(crate) is_whole: bool,
    /// What came through the tunnel behind it; `None`: there was none.
    pub(crate) tunnel: Option<Vec<u8>>,
    /// What is wrong in any case.
    pub(crate) wrong: Option<String>,
}

/// Fields that the proxy changes, adds or takes away.
const CHANGED: &[&str] = &[
    "host",
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "content-length",
    "upgrade",
    "te",
    "cookie",
    "via",
    "baggage",
    "tracestate",
    "traceparent",
    // The same trace, where one begins.
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-sampled",
    "x-datadog-trace-id",
    "x-datadog-parent-id",
    "x-datadog-sampling-priority",
    "x-datadog-tags",
    "x-pr-id",
    "x-request-id",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-server",
    "x-real-ip",
    "max-forwards",
    // Of a WebSocket over HTTP/2, which has none.
    "sec-websocket-key",
    "sec-websocket-version",
];

/// Whether a field reads like one that services believe, to those that take `_` for `-`.
fn is_twin(name: &str) -> bool {
    let dashed = name.replace('_', "-");
    let is_believed =
        matches!(&*dashed, "content-length" | "transfer-encoding" | "x-real-ip" | "x-request-id")
            || dashed.starts_with("x-forwarded-")
            || dashed.starts_with("x-pr-");
    dashed != name && is_believed
}

/// The one value of a field.
pub(crate) fn one<'a>(request: &'a Request, name: &'a str) -> Option<&'a str> {
    let mut values = request.all(name);
    let value = values.next().and_then(|value| std::str::from_utf8(value).ok());
    if values.next().is_some() { None } else { value }
}

/// Whether everything that was seen was sent, each once. With `ordered` in the order in which it was.
pub(crate) fn judge(sent: &[Sent], seen: &[&Seen], ordered: bool) -> Result<(), String> {
    let mut taken: Vec<Option<usize>> = vec![None; sent.len()];
    let mut from = 0;
    for (number, it) in seen.iter().enumerate() {
        let found = if ordered {
            (from..sent.len()).find(|at| differs(&sent[*at], it).is_none())
        } else {
            place(number, sent, seen, &mut taken, &mut vec![false; sent.len()])
        };
        let Some(at) = found else {
            let reasons: Vec<_> = sent.iter().map(|sent| differs(sent, it)).collect();
            return Err(format!("an upstream saw what nobody sent ({reasons:?}): {it:?}"));
        };
        from = at + 1;
    }
    Ok(())
}

/// Finds what was sent for what was seen as this number; what took it before may find something else (Kuhn 1955).
fn place(
    number: usize,
    sent: &[Sent],
    seen: &[&Seen],
    taken: &mut Vec<Option<usize>>,
    tried: &mut Vec<bool>,
) -> Option<usize> {
    for at in 0..sent.len() {
        if tried[at] || differs(&sent[at], seen[number]).is_some() {
            continue;
        }
        tried[at] = true;
        if taken[at].is_none_or(|other| place(other, sent, seen, taken, tried).is_some()) {
            taken[at] = Some(number);
            return Some(at);
        }
    }
    None
}

/// How a request that was seen differs from one that was sent; `None`: it is that one.
fn differs(sent: &Sent, seen: &Seen) -> Option<&'static str> {
    let (from, to) = (&sent.request, &seen.request);
    let is_complete = sent.is_whole || !seen.is_whole;
    let checks = [
        (from.method == to.method, "method"),
        (target(&from.target).as_deref() == Some(to.target.as_str()), "target"),
        (sent.authority.is_some() && sent.authority.as_deref() == one(to, "host"), "host"),
        (kept(from, from) == kept(to, from), "fields"),
        (!to.fields.iter().any(|(name, _)| is_twin(name)), "a twin of a field that services believe"),
        (to.all("cookie").count() <= 1 && crumbs(from) == crumbs(to), "cookie"),
        (is_complete, "seen whole, sent in part"),
        (from.body.starts_with(&to.body), "body"),
        (!seen.is_whole || from.body == to.body, "length of the body"),
        (!seen.is_whole || all_among(&to.trailers, &from.trailers), "trailers"),
        (seen.tunnel.as_ref().is_none_or(|tunnel| sent.behind.starts_with(tunnel)), "tunnel"),
        (keys_agree(sent, seen), "key"),
    ];
    checks.into_iter().find(|(holds, _)| !holds).map(|(_, what)| what)
}

/// Whether all of these lines are among those, but for the blanks around a value, which HTTP/1.1 can't keep.
fn all_among(lines: &Lines, others: &Lines) -> bool {
    let trimmed = |(name, value): &(String, Vec<u8>)| (name.clone(), value.trim_ascii().to_vec());
    let others: Vec<_> = others.iter().map(trimmed).collect();
    lines.iter().map(trimmed).all(|line| others.contains(&line))
}

/// The target without our parameter of the query.
fn target(text: &str) -> Option<String> {
    let Some((path, query)) = text.split_once('?') else { return Some(text.to_owned()) };
    let name = |pair: &str| decoded(pair.split('=').next().unwrap_or_default().as_bytes());
    let pairs: Vec<&str> = query.split('&').collect();
    let kept: Vec<&str> = pairs.iter().filter(|pair| name(pair) != b"pr-id").copied().collect();
    match (kept.len() == pairs.len(), kept.as_slice()) {
        (true, _) => Some(text.to_owned()),
        (_, []) => Some(path.to_owned()),
        _ => Some(format!("{path}?{}", kept.join("&"))),
    }
}

/// Fields that go onward as they came, by name; `client` is what the client said, which names those of its connection.
fn kept<'a>(request: &'a Request, client: &'a Request) -> Vec<(&'a str, &'a [u8])> {
    let options: Vec<String> = client
        .all("connection")
        .flat_map(|line| line.split(|byte| *byte == b','))
        .map(|name| String::from_utf8_lossy(name).trim().to_ascii_lowercase())
        .collect();
    let is_kept = |name: &str| {
        !CHANGED.contains(&name) && !is_twin(name) && !options.iter().any(|option| option == name)
    };
    let fields = request.fields.iter().filter(|(name, _)| is_kept(name));
    let mut fields: Vec<_> = fields.map(|(name, value)| (name.as_str(), value.trim_ascii())).collect();
    // Between different names the order means nothing.
    fields.sort_by(|one, other| one.0.cmp(other.0));
    fields
}

/// The cookies but for ours, which may be taken out; in how many lines they came means nothing.
fn crumbs(request: &Request) -> Vec<&[u8]> {
    let crumbs =
        request.all("cookie").flat_map(|line| line.split(|byte| *byte == b';')).map(<[u8]>::trim_ascii);
    let is_ours =
        |crumb: &[u8]| crumb.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii() == b"pr-id";
    crumbs.filter(|crumb| !crumb.is_empty() && !is_ours(crumb)).collect()
}

/// A request is where its key says: at no fork without one, at no fork of another, and not past its own.
fn keys_agree(sent: &Sent, seen: &Seen) -> bool {
    let onward = one(&seen.request, "x-pr-id");
    let first = onward.and_then(|keys| keys.split(',').find(|key| matches!(*key, "42" | "57")));
    if first.unwrap_or_default() != seen.upstream.1 {
        return false;
    }
    // The proxy's own word is not enough: the client must have said it, in whatever place and form.
    let said = said(sent);
    let says = |key: &str| said.windows(key.len()).any(|part| part == key.as_bytes());
    let is_said = match first {
        Some("42") => says("42") || says("demo"),
        Some(key) => says(key),
        None => true,
    };
    // And where it said so plainly, that is what it gets.
    let plainly = match one(&sent.request, "x-pr-id") {
        Some(key @ ("42" | "57")) => seen.upstream.1 == key,
        _ => true,
    };
    is_said && plainly
}

/// Every byte of a head that could name a key: in lower case, percent-decoded.
fn said(sent: &Sent) -> Vec<u8> {
    let mut text =
        format!("{}\n{}", sent.request.target, sent.authority.as_deref().unwrap_or_default()).into_bytes();
    for (_, value) in sent.request.fields.iter().filter(|(name, _)| name != "host") {
        text.push(b'\n');
        text.extend_from_slice(value);
    }
    decoded(&text).to_ascii_lowercase()
}

fn decoded(text: &[u8]) -> Vec<u8> {
    let digit = |at: usize| text.get(at).and_then(|digit| char::from(*digit).to_digit(16));
    let mut out = Vec::new();
    let mut at = 0;
    while at < text.len() {
        match (text[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or_default());
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::strict::{Read, Side, read};
    use super::*;

    fn request(text: &str) -> Request {
        match read(text.as_bytes(), Side::Client) {
            Read::Whole(request, _) => request,
            other => panic!("{other:?}"),
        }
    }

    /// Whether a request that was sent as the first may be seen as the second, at a fork of `key` or the baseline.
    fn is_it(sent: &str, seen: &str, key: &'static str) -> bool {
        let sent = request(sent);
        let authority = one(&sent, "host").map(str::to_owned);
        let sent = [Sent { request: sent, authority, is_whole: true, behind: b"GET".to_vec() }];
        let upstream = ("shop", key);
        let seen = Seen { upstream, request: request(seen), is_whole: true, tunnel: None, wrong: None };
        judge(&sent, &[&seen], true).is_ok()
    }

    #[test]
    fn what_was_seen_was_sent() {
        let plain = "GET /a?pr-id=42&b HTTP/1.1\r\nhost: h\r\nx: 1\r\n\r\n";
        let seen = "GET /a?b HTTP/1.1\r\nhost: h\r\nx-pr-id: 42\r\nvia: p\r\nx: 1\r\n\r\n";
        assert!(is_it(plain, seen, "42"));
        assert!(!is_it(plain, seen, "57"), "at another fork");
        assert!(!is_it(plain, seen, ""), "past its own");
        assert!(!is_it(plain, &seen.replace("/a?b", "/a"), "42"), "another target");
        assert!(!is_it(plain, &seen.replace("host: h", "host: i"), "42"), "another host");
        assert!(!is_it(plain, &seen.replace("x: 1", "x: 2"), "42"), "another field");
        assert!(!is_it(plain, &seen.replace("GET", "PUT"), "42"), "another method");
        let without = "GET /a HTTP/1.1\r\nhost: h\r\n\r\n";
        assert!(is_it(without, without, ""));
        assert!(
            !is_it(without, &without.replace("host: h", "host: h\r\nx-pr-id: 42"), "42"),
            "a key from nowhere"
        );
        let body = "PUT /a HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\nab";
        let chunked = "PUT /a HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n";
        assert!(is_it(body, &format!("{chunked}2\r\nab\r\n0\r\n\r\n"), ""));
        assert!(!is_it(body, &format!("{chunked}1\r\na\r\n0\r\n\r\n"), ""), "a part of the body");
    }
}
