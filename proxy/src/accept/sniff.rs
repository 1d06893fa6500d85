//! What a connection speaks, by the first bytes of a side. What is not surely HTTP is none: its bytes then pass as they are, which does
//! no harm to HTTP either, but that it is not routed.

/// What an HTTP/2 client sends first (RFC 9113 section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The longest method that is taken for one; those in use are shorter.
const METHOD: usize = 24;
/// What an absolute target begins with, in either case.
const SCHEMES: [&[u8]; 2] = [b"http://", b"https://"];
/// Bytes before the payload of a frame of HTTP/2.
pub const FRAME: usize = 9;
/// The type of the frame that a server begins with, and the bytes of one setting in it (RFC 9113 section 6.5).
const SETTINGS: u8 = 4;
const SETTING: u16 = 6;
/// What a request line says after its target.
const VERSION: &[u8] = b"HTTP/1.";

/// What a side speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    /// HTTP/1.x.
    Http1,
    /// HTTP/2 by prior knowledge.
    Http2,
    /// Something else: TLS, a database, a request to a forward proxy.
    Other,
    /// It looks like HTTP so far.
    Unclear,
}

/// Whether an authority is a name of the service that a connection is for; `None`: that is no service that is known.
pub type Own<'a> = Option<&'a dyn Fn(&[u8]) -> bool>;

/// What begins with these bytes of a client. Every server takes an absolute target (RFC 9112 section 3.2.2); but one that
/// names somebody else, like CONNECT, is for a forward proxy that the application knows, which has to see it as it is.
/// A service is told, too, from a proxy by an empty line before the request, which it lets pass (section 2.2).
pub fn speech(read: &[u8], own: Own<'_>) -> Speech {
    if PREFACE.starts_with(read) {
        return if read.len() == PREFACE.len() { Speech::Http2 } else { Speech::Unclear };
    }
    if read.starts_with(PREFACE) {
        return Speech::Http2;
    }
    if own.is_some() && is_blank(read) {
        return Speech::Unclear;
    }
    request(read.strip_prefix(b"\r\n").filter(|_| own.is_some()).unwrap_or(read), own)
}

/// Whether that is an empty line, or the beginning of one, and nothing else.
pub fn is_blank(read: &[u8]) -> bool {
    b"\r\n".starts_with(read)
}

/// What begins with these bytes, which are no preface.
fn request(read: &[u8], own: Own<'_>) -> Speech {
    let method = read.iter().take_while(|byte| byte.is_ascii_uppercase() || **byte == b'-').count();
    let Some((blank, rest)) = read.get(method..).and_then(<[u8]>::split_first) else {
        return if (1..=METHOD).contains(&method) { Speech::Unclear } else { Speech::Other };
    };
    if !(1..=METHOD).contains(&method) || *blank != b' ' {
        return Speech::Other;
    }
    let target = rest.iter().take_while(|byte| byte.is_ascii_graphic() || **byte >= 0x80).count();
    let (target, behind) = rest.split_at(target);
    let is_target = match target {
        [b'/', ..] => Some(true),
        [b'*', more @ ..] => Some(more.is_empty()),
        [] if behind.is_empty() => None,
        _ => own.map_or(Some(false), |own| is_absolute(target, behind.is_empty(), own)),
    };
    match (is_target, behind.split_first()) {
        (Some(false), _) => Speech::Other,
        (None, _) | (_, None) => Speech::Unclear,
        (_, Some((b' ', version))) if version.len() < VERSION.len() && VERSION.starts_with(version) => {
            Speech::Unclear
        }
        (_, Some((b' ', version))) if version.starts_with(VERSION) => Speech::Http1,
        _ => Speech::Other,
    }
}

/// Whether that is a target, or the beginning of one where `goes_on`, that names the service itself; `None`: it may become
/// one.
fn is_absolute(target: &[u8], goes_on: bool, own: &dyn Fn(&[u8]) -> bool) -> Option<bool> {
    let is_like =
        |scheme: &&&[u8]| target.iter().zip(**scheme).all(|(one, other)| one.eq_ignore_ascii_case(other));
    let Some(scheme) = SCHEMES.iter().find(is_like) else { return Some(false) };
    let authority = target.get(scheme.len()..).unwrap_or_default();
    match authority.iter().position(|byte| b"/?".contains(byte)) {
        Some(end) => Some(authority.get(..end).is_some_and(own)),
        None if goes_on => None,
        None => Some(own(authority)),
    }
}

/// What a server speaks that says this first: HTTP/2, where it begins with SETTINGS (RFC 9113 section 3.4).
pub fn greeting(read: &[u8]) -> Speech {
    // Length, type, flags and stream (section 4.1). A greeting that begins with a zero is seldom another one, so that others
    // are known by their first byte.
    let Some(head) = read.first_chunk::<FRAME>() else {
        let is_like = matches!(read, [0] | [0, _] | [0, _, _] | [0, _, _, SETTINGS, ..]);
        return if is_like { Speech::Unclear } else { Speech::Other };
    };
    match head {
        [0, high, low, SETTINGS, 0, 0, 0, 0, 0] if u16::from_be_bytes([*high, *low]) % SETTING == 0 => {
            Speech::Http2
        }
        _ => Speech::Other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn http_is_what_surely_is() {
        for (read, expected) in [
            ("GET / HTTP/1.1\r\n", Speech::Http1),
            ("OPTIONS * HTTP/1.0\r\n", Speech::Http1),
            ("M-SEARCH /a?b=%20 HTTP/1.1\r\n", Speech::Http1),
            ("GET /grüße HTTP/1.1\r\n", Speech::Http1),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Speech::Http2),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12", Speech::Http2),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r", Speech::Unclear),
            ("PRI * HTTP/2.0\r\n\r\nXX", Speech::Other),
            ("G", Speech::Unclear),
            ("GET", Speech::Unclear),
            ("GET ", Speech::Unclear),
            ("GET /a", Speech::Unclear),
            ("GET /a HTT", Speech::Unclear),
            // What other protocols begin with: TLS, Redis, memcached, NATS, STOMP, SMTP, SIP, RTSP, FIX, MySQL, a
            // forward proxy's.
            ("\x16\x03\x01\x02\0\x01", Speech::Other),
            ("*1\r\n$4\r\nPING\r\n", Speech::Other),
            ("PING\r\n", Speech::Other),
            ("get key\r\n", Speech::Other),
            ("CONNECT {\"verbose\":false}\r\n", Speech::Other),
            ("CONNECT\naccept-version:1.2\n", Speech::Other),
            ("EHLO a.example\r\n", Speech::Other),
            ("OPTIONS sip:a@b SIP/2.0\r\n", Speech::Other),
            ("OPTIONS * RTSP/1.0\r\n", Speech::Other),
            ("8=FIX.4.4", Speech::Other),
            ("\x4a\0\0\0\x0a", Speech::Other),
            ("CONNECT a.example:443 HTTP/1.1\r\n", Speech::Other),
            ("GET http://a.example/ HTTP/1.1\r\n", Speech::Other),
            ("GET /\r\n", Speech::Other),
            ("GET  / HTTP/1.1\r\n", Speech::Other),
            ("GET /a HTTP/2.0\r\n", Speech::Other),
            ("GETTHISVERYLONGWORDTHATISNOMETHOD / HTTP/1.1\r\n", Speech::Other),
            ("\r\nGET / HTTP/1.1\r\n", Speech::Other),
        ] {
            assert_eq!(speech(read.as_bytes(), None), expected, "{read:?}");
        }
    }

    fn is_db(authority: &[u8]) -> bool {
        authority.eq_ignore_ascii_case(b"db:80")
    }

    #[test]
    fn a_service_is_asked_by_its_name_and_behind_an_empty_line() {
        for (read, expected) in [
            ("GET http://db:80/ HTTP/1.1\r\n", Speech::Http1),
            ("GET HTTPS://DB:80?a HTTP/1.1\r\n", Speech::Http1),
            ("GET http://db:80 HTTP/1.0\r\n", Speech::Http1),
            ("\r\nGET / HTTP/1.1\r\n", Speech::Http1),
            ("\r\nGET http://db:80/ HTTP/1.1\r\n", Speech::Http1),
            ("\r", Speech::Unclear),
            ("\r\n", Speech::Unclear),
            ("\r\nG", Speech::Unclear),
            ("GET h", Speech::Unclear),
            ("GET http://d", Speech::Unclear),
            ("GET http://db:80", Speech::Unclear),
            ("GET http://db:80/ ", Speech::Unclear),
            ("GET http://db:81/", Speech::Other),
            ("GET http://db:80@a/", Speech::Other),
            ("GET http HTTP/1.1\r\n", Speech::Other),
            ("GET http:/db:80/", Speech::Other),
            ("GET key", Speech::Other),
            ("GET ftp://db:80/", Speech::Other),
            ("GET http://db:80/ RTSP/1.0\r\n", Speech::Other),
            ("CONNECT db:80 HTTP/1.1\r\n", Speech::Other),
            ("\r\n\r\nGET / HTTP/1.1\r\n", Speech::Other),
            ("\nGET / HTTP/1.1\r\n", Speech::Other),
        ] {
            assert_eq!(speech(read.as_bytes(), Some(&is_db)), expected, "{read:?}");
        }
    }

    #[test]
    fn a_server_that_speaks_first_may_speak_http2() {
        let settings = |length: u8| [0, 0, length, SETTINGS, 0, 0, 0, 0, 0, 0, 3];
        for length in [0, 6, 24] {
            let said = settings(length);
            assert_eq!(greeting(&said), Speech::Http2);
            assert_eq!(greeting(&said[..FRAME]), Speech::Http2);
            assert!((1..FRAME).all(|end| greeting(&said[..end]) == Speech::Unclear));
        }
        // Of no HTTP/2 server: no whole settings, an acknowledgement, another frame, another stream; of others: SMTP, MySQL.
        for said in [
            &settings(7)[..],
            b"\0\0\0\x04\x01\0\0\0\0",
            b"\0\0\0\x06",
            b"\0\0\0\x04\0\0\0\0\x01",
            b"\x01\0\0\x04\0\0\0\0\0",
            b"220 a.example",
            b"2",
            b"\x4a\0\0\0\x0a8.0",
            b"",
        ] {
            assert_eq!(greeting(said), Speech::Other, "{said:?}");
        }
    }

    proptest! {
        /// However the bytes come, the same is said in the end, and nothing is taken back.
        #[test]
        fn more_bytes_only_make_it_clearer(read in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..64),
            "[A-Z*-]{0,8}[ /*]{0,2}[ -~]{0,12} HTTP/[12]\\.[01]\r\n".prop_map(String::into_bytes),
            "(\r\n)?[A-Z]{1,3} (https?://(db:80)?)?[ -~]{0,12} HTTP/1\\.[01]\r\n".prop_map(String::into_bytes),
            Just([PREFACE, b"more"].concat()),
        ]) {
            for own in [None, Some(&is_db as &dyn Fn(&[u8]) -> bool)] {
                let mut before = Speech::Unclear;
                for end in 1..=read.len() {
                    let now = speech(&read[..end], own);
                    prop_assert!(before == Speech::Unclear || before == now, "{:?}", &read[..end]);
                    before = now;
                }
            }
        }
    }
}
