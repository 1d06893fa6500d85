//! Names that come again and again, ready for the HTTP/2 library: to make a name of its own kind it checks the text and
//! copies it, and one of these needs only to be cloned.

use http::HeaderName;

use super::tag;

/// A name for the HTTP/2 library.
pub(super) struct Known {
    text: &'static str,
    tag: u16,
    pub(super) name: HeaderName,
    /// Whether its value is another one in nearly every message. In the table of fields that were sent before (RFC 7541
    /// section 2.3.2) such a value is never found again, and displaces those that are.
    pub(super) is_fresh: bool,
}

macro_rules! names {
    ($($text:literal)*; fresh: $($fresh:literal)*) => {
        static KNOWN: [Known; TAGS.len()] = [$(known($text, false),)* $(known($fresh, true),)*];
        const TAGS: &[u16] = &[$(tag($text.as_bytes()),)* $(tag($fresh.as_bytes()),)*];
    };
}

names! {
    "accept" "accept-encoding" "accept-language" "authorization" "baggage" "cache-control" "content-encoding"
    "content-length" "content-type" "cookie" "date" "etag" "forwarded" "grpc-accept-encoding" "grpc-encoding"
    "grpc-message" "grpc-status" "if-modified-since" "if-none-match" "last-modified" "location" "origin"
    "pragma" "priority" "range" "referer" "sec-ch-ua" "sec-ch-ua-mobile" "sec-ch-ua-platform" "sec-fetch-dest"
    "sec-fetch-mode" "sec-fetch-site" "sec-fetch-user" "server" "set-cookie" "strict-transport-security" "te"
    "tracestate" "trailer" "upgrade-insecure-requests" "user-agent" "vary" "via" "x-content-type-options"
    "x-forwarded-for" "x-forwarded-host" "x-forwarded-port" "x-forwarded-proto" "x-pr-id" "x-pr-route"
    "x-pr-signature" "x-real-ip"
    ; fresh:
    "grpc-timeout" "server-timing" "traceparent" "x-request-id"
}

const fn known(text: &'static str, is_fresh: bool) -> Known {
    Known { text, tag: tag(text.as_bytes()), name: HeaderName::from_static(text), is_fresh }
}

/// More places than names, so that most names are at their own.
const PLACES: usize = 256;

/// The place of a tag.
const fn place(tag: u16) -> usize {
    (tag ^ (tag >> 8)) as usize % PLACES
}

/// The number of the name at each place, plus one. A name whose place is taken is at the next one that is free.
static AT: [u8; PLACES] = at();

#[expect(clippy::indexing_slicing, reason = "a place is below their number")]
const fn at() -> [u8; PLACES] {
    let mut at = [0; PLACES];
    let mut number = 0;
    while number < TAGS.len() {
        let mut free = place(TAGS[number]);
        while at[free] != 0 {
            free = (free + 1) % PLACES;
        }
        number += 1;
        at[free] = number as u8;
    }
    at
}

/// The name that a line has, if it is one of these.
#[inline]
pub(super) fn find(name: &[u8], tag: u16) -> Option<&'static Known> {
    let mut at = place(tag);
    loop {
        let number = usize::from(*AT.get(at)?).checked_sub(1)?;
        let known = KNOWN.get(number)?;
        if known.tag == tag && known.text.as_bytes() == name {
            return Some(known);
        }
        at = (at + 1) % PLACES;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found() {
        for known in &KNOWN {
            let found = find(known.text.as_bytes(), tag(known.text.as_bytes())).unwrap();
            assert_eq!(found.name.as_str(), known.text);
        }
        for other in ["", "x", "x-forwarded-past", "x-request-ie"] {
            assert!(find(other.as_bytes(), tag(other.as_bytes())).is_none(), "{other}");
        }
    }
}
