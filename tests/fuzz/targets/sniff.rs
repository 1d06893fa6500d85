//! What a side speaks, by its first bytes: however they come the same is said, nothing is taken back, and what our own
//! reader reads as a request is seen as one.

use sidetrack_proxy::accept::sniff::{Speech, greeting, speech};
use sidetrack_proxy::h1::Bounds;
use sidetrack_proxy::h1::request::parse;

/// Each length is tried, which takes time.
const LONGEST: usize = 1 << 10;

/// The beginning of a connection.
pub(crate) fn check(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(LONGEST)];
    let clears = |say: &dyn Fn(&[u8]) -> Speech| {
        let mut before = Speech::Unclear;
        for end in 1..=bytes.len() {
            let now = say(&bytes[..end]);
            assert!(before == Speech::Unclear || before == now, "{before:?} became {now:?} at {end}");
            before = now;
        }
        before
    };
    let before = clears(&|read| speech(read, None));
    let named = clears(&|read| speech(read, Some(&|authority| authority.len() < 9)));
    assert!(
        named == before || before == Speech::Other,
        "{before:?} became {named:?} where the service is known"
    );
    clears(&greeting);
    // The reader lets empty lines pass that a client may send first; whoever does so is not known by us.
    if let Ok(Some((received, _))) = parse(bytes, Bounds::UPSTREAM)
        && !bytes.starts_with(b"\r")
        && !bytes.starts_with(b"\n")
    {
        let head = received.head;
        let method = head.method.as_str();
        let is_usual =
            method.len() <= 24 && method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
        if is_usual && head.authority.is_none() && head.method != http::Method::CONNECT {
            assert_eq!(before, Speech::Http1);
        }
    }
}
