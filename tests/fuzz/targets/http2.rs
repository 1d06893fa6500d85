//! What an HTTP/2 client can say in a list of fields, as the HTTP/1.1 request that goes upstream: it is one, and the
//! same. Every step of ours is here but the sockets; `wire-http2` has those, too.

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};
use sidetrack_config::limits::Limits;
use sidetrack_proxy::accept::request::check as checked;
use sidetrack_proxy::fields::{Fields, ROOM_OF_REQUEST, Skips};
use sidetrack_proxy::forward::rewrite::{join_cookies, strip_hop_by_hop};
use sidetrack_proxy::h1::{Bounds, request};
use sidetrack_proxy::head::{HttpHead, RequestHead};
use sidetrack_proxy::identify::identify;

use crate::estate::table;
use crate::head::stamped;

/// A method, a URL and lines of fields, as `head` has them; the names as the HTTP/2 library takes them.
pub(crate) fn check(bytes: &[u8]) {
    let Some(head) = head(bytes) else { return };
    let Ok(authority) = checked(&head, &Limits::default()) else { return };
    let Ok(identity) = identify(&HttpHead::new(&head, &authority, false), table()) else { return };
    // `accept` refuses it where it takes the head from the HTTP/2 library.
    if !head.target.as_str().bytes().all(|byte| byte.is_ascii_graphic()) {
        return;
    }
    let mut fields = head.fields.clone();
    strip_hop_by_hop(&mut fields);
    join_cookies(&mut fields);
    stamped(&mut fields, &identity);
    let mut text = format!("{} {} HTTP/1.1\r\nhost: {authority}\r\n", head.method, head.target).into_bytes();
    fields.write(&mut text, Skips::new(["host", "content-length", "transfer-encoding"]));
    text.extend_from_slice(b"\r\n");
    let (read, length) = request::parse(&text, Bounds { fields: 1_000, ..Bounds::UPSTREAM })
        .expect("what we write is read")
        .expect("and is whole");
    assert_eq!(length, text.len(), "it is one request");
    assert!(read.body.is_ended(), "with a body that nobody wrote");
    assert_eq!((read.head.method, read.head.target.as_str()), (head.method, head.target.as_str()));
    assert_eq!(read.head.fields.get("host"), Some(authority.as_bytes()));
    assert_eq!(read.head.fields.get_all("host").count(), 1);
    let others = |fields: &Fields| {
        let mut list: Vec<(Vec<u8>, Vec<u8>)> =
            fields.iter().map(|(name, value)| (name.to_vec(), value.trim_ascii().to_vec())).collect();
        list.retain(|(name, _)| {
            !matches!(name.as_slice(), b"host" | b"content-length" | b"transfer-encoding")
        });
        list
    };
    assert_eq!(others(&read.head.fields), others(&fields));
    assert!(read.head.fields.get_all("cookie").count() <= 1, "crumbs are joined");
}

/// A head as the HTTP/2 library gives it.
fn head(bytes: &[u8]) -> Option<RequestHead> {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let (method, uri) = std::str::from_utf8(lines.next()?).ok()?.split_once(' ')?;
    let uri = Uri::try_from(uri).ok()?.into_parts();
    let mut map = HeaderMap::new();
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_lowercase(&line[..colon]).ok()?;
        map.append(name, HeaderValue::from_bytes(&line[colon + 1..]).ok()?);
    }
    Some(RequestHead {
        fields: Fields::of(&map, ROOM_OF_REQUEST)?,
        method: Method::from_bytes(method.as_bytes()).ok()?,
        authority: uri.authority,
        target: uri.path_and_query.unwrap_or(PathAndQuery::from_static("*")),
        version: Version::HTTP_2,
        is_websocket: false,
    })
}
