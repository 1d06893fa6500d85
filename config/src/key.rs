//! The routing key: what names a preview.

use std::fmt;
use std::hash::{Hash, Hasher};

/// The longest key, in bytes: `[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?`.
pub const MAX_LEN: usize = 40;

/// The most keys that one carrier may hold, and the most parents that one lookup visits.
pub const MAX_KEYS: usize = 8;

/// The prefix that a key may be written with where no other `hostPrefix` is configured.
pub const DEFAULT_PREFIX: &str = "pr-";

/// A key in canonical form: lower case, no prefix.
///
/// Kept inline, so that reading a key from a request allocates nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key {
    len: u8,
    bytes: [u8; MAX_LEN],
}

/// Why a text is not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Nothing was written, or nothing after the prefix.
    #[error("is empty")]
    Empty,
    /// More than [`MAX_LEN`] bytes.
    #[error("is longer than 40 characters")]
    TooLong,
    /// A character outside `a-z`, `0-9` and `-`.
    #[error("has a character other than a-z, 0-9 and '-'")]
    Character,
    /// `-` first or last, or `--` inside.
    #[error("begins or ends with '-', or has '--' inside")]
    Hyphen,
    /// `pr-pr-42`: the prefix stands twice.
    #[error("has the prefix twice")]
    Prefix,
}

impl Key {
    /// Reads a key with or without `prefix`, in any case: `42`, `pr-42` and `PR-42` are one key.
    pub fn parse(text: &str, prefix: &str) -> Result<Self, KeyError> {
        match strip_prefix(text, prefix) {
            Some(rest) if strip_prefix(rest, prefix).is_some() => Err(KeyError::Prefix),
            Some(rest) => Self::bare(rest),
            None => Self::bare(text),
        }
    }

    /// Reads a key that has no prefix.
    pub fn bare(text: &str) -> Result<Self, KeyError> {
        if text.is_empty() {
            return Err(KeyError::Empty);
        }
        if text.len() > MAX_LEN {
            return Err(KeyError::TooLong);
        }
        let mut bytes = [0; MAX_LEN];
        let mut before = b'-';
        for (slot, byte) in bytes.iter_mut().zip(text.bytes()) {
            *slot = match byte {
                b'A'..=b'Z' => byte.to_ascii_lowercase(),
                b'a'..=b'z' | b'0'..=b'9' => byte,
                b'-' if before == b'-' => return Err(KeyError::Hyphen),
                b'-' => byte,
                _ => return Err(KeyError::Character),
            };
            before = byte;
        }
        if before == b'-' {
            return Err(KeyError::Hyphen);
        }
        // `text.len()` is at most `MAX_LEN`, so it fits.
        Ok(Self { len: u8::try_from(text.len()).unwrap_or(u8::MAX), bytes })
    }

    /// The canonical form.
    pub fn as_str(&self) -> &str {
        // Only ASCII ever gets in.
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// The canonical form, for where it need not be proven again that it is text.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// What follows `prefix` in `text`, compared without case; `None` where it does not begin so.
pub fn strip_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(prefix.len())?;
    (!prefix.is_empty() && head.eq_ignore_ascii_case(prefix)).then_some(rest)
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Without its length, which only keys that are hashed with others need.
        state.write(self.as_bytes());
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.as_str())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for Key {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Reads the canonical form only: between our own programs there is no other.
impl<'de> serde::Deserialize<'de> for Key {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <Box<str>>::deserialize(deserializer)?;
        let key = Self::bare(&text).map_err(serde::de::Error::custom)?;
        if key.as_str() != &*text {
            return Err(serde::de::Error::custom(format_args!("key {text} is not in lower case")));
        }
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn three_spellings_are_one_key() {
        for text in ["42", "pr-42", "PR-42", "Pr-42"] {
            assert_eq!(Key::parse(text, "pr-").unwrap().as_str(), "42", "{text}");
        }
        assert_eq!(Key::parse("Shop-42", "pr-").unwrap().as_str(), "shop-42");
    }

    #[test]
    fn what_is_no_key() {
        for (text, error) in [
            ("", KeyError::Empty),
            ("pr-", KeyError::Empty),
            ("-42", KeyError::Hyphen),
            ("42-", KeyError::Hyphen),
            ("4--2", KeyError::Hyphen),
            ("pr--42", KeyError::Hyphen),
            ("pr-pr-42", KeyError::Prefix),
            ("4_2", KeyError::Character),
            ("4 2", KeyError::Character),
            ("ä", KeyError::Character),
        ] {
            assert_eq!(Key::parse(text, "pr-"), Err(error), "{text:?}");
        }
        assert!(Key::parse(&"a".repeat(40), "pr-").is_ok());
        assert_eq!(Key::parse(&"a".repeat(41), "pr-"), Err(KeyError::TooLong));
    }

    proptest! {
        #[test]
        fn the_grammar_is_the_documented_one(text in "[a-zA-Z0-9_ -]{0,44}") {
            let lower = text.to_ascii_lowercase();
            let ok = (1..=40).contains(&lower.len())
                && lower.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !lower.starts_with('-') && !lower.ends_with('-') && !lower.contains("--");
            let key = Key::bare(&text);
            prop_assert_eq!(key.is_ok(), ok);
            if let Ok(key) = key {
                prop_assert_eq!(key.as_str(), lower.as_str());
                prop_assert_eq!(Key::bare(key.as_str()), Ok(key));
            }
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,60}", prefix in "\\PC{0,6}") {
            let _ = Key::parse(&text, &prefix);
        }
    }
}
