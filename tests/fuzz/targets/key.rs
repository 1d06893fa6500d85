//! A key: whatever is read has the documented grammar, and one canonical form.

use sidetrack_config::Key;
use sidetrack_config::key::MAX_LEN;

/// The text of a key, and in a second line the prefix.
pub(crate) fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (text, prefix) = text.split_once('\n').unwrap_or((text, "pr-"));
    let Ok(key) = Key::parse(text, prefix) else { return };
    let canonical = key.as_str();
    assert!((1..=MAX_LEN).contains(&canonical.len()), "{canonical:?}");
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    assert!(canonical.bytes().all(legal), "{canonical:?}");
    assert!(
        !canonical.starts_with('-') && !canonical.ends_with('-') && !canonical.contains("--"),
        "{canonical:?}"
    );
    assert_eq!(Key::bare(canonical), Ok(key));
    assert_eq!(Key::parse(&text.to_ascii_uppercase(), prefix), Ok(key));
    assert!(text.to_ascii_lowercase().ends_with(canonical), "{text:?} became {canonical:?}");
}
