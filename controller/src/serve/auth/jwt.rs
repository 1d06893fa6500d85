//! The little that is read from a token itself. Nothing here makes it good: the API server alone does.

use std::time::{Duration, SystemTime};

use rustls::SupportedCipherSuite;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use serde::Deserialize;

use super::cache::Digest;

/// The longest token.
const MAX: usize = 8 << 10;

/// Whether it can be a token at all (RFC 6750 section 2.1), so that the API server is not asked about noise.
pub(super) fn is_plausible(token: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    !token.is_empty() && token.len() <= MAX && token.bytes().all(fits)
}

/// Its SHA-256, by the hash that TLS uses already: tokens themselves are not kept.
pub(super) fn digest(token: &str) -> Digest {
    let hash = match TLS13_AES_128_GCM_SHA256 {
        SupportedCipherSuite::Tls13(suite) => suite.common.hash_provider,
        SupportedCipherSuite::Tls12(suite) => suite.common.hash_provider,
    };
    hash.hash(token.as_bytes()).as_ref().try_into().unwrap_or_default()
}

/// When it ends by its own account (RFC 7519 section 4.1.4); `None`: it does not say.
pub(super) fn expiry(token: &str) -> Option<SystemTime> {
    #[derive(Deserialize)]
    struct Claims {
        exp: f64,
    }
    let payload = base64url(token.split('.').nth(1)?)?;
    let claims: Claims = serde_json::from_slice(&payload).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(claims.exp).ok()?)
}

/// RFC 4648 section 5, without padding.
fn base64url(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for byte in text.bytes() {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(six)) & 0xffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_token_is_read() {
        // {"exp":1700000000,"iss":"x"}
        let end = expiry("e30.eyJleHAiOjE3MDAwMDAwMDAsImlzcyI6IngifQ.sig").unwrap();
        assert_eq!(end, SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        for strange in
            ["", "a", "a.b.c", "a.!.c", "e30.e30.e30", "a.eyJleHAiOi0xfQ.c", "a.eyJleHAiOjFlNDAwfQ.c"]
        {
            assert_eq!(expiry(strange), None, "{strange}");
        }
    }

    #[test]
    fn the_digest_is_sha256() {
        let hex: String = digest("abc").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn noise_is_no_token() {
        assert!(is_plausible("eyJ.a-b_c.~+/="));
        for noise in ["", "a b", "a\u{e9}", "a\n", &"x".repeat(MAX + 1)] {
            assert!(!is_plausible(noise));
        }
    }
}
