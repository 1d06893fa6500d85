//! A key in a trace id, so that an application which hands on nothing but a trace id still routes.
//!
//! ```text
//! low 64 bits, which every tracer hands on:   check 37 | index 12 | strict 1 | random 14
//! high 64 bits, which most of them hand on:   check 32 | random 31 | 1
//! ```
//!
//! The index is a hash of the key: of 100,000 previews some 25 have the same, and the check says which. Both checks are of
//! one MAC over the key and the last 27 bits of the id (SipHash-2-4 with 128 bits, since each keyed request that begins a
//! trace needs one, and HMAC-SHA-256 takes 14,000 instructions), so that nobody makes an id for a key who has not
//! seen one, and an id that another tracer made is none of ours: with `n` previews and `s` secrets one of 2^49 / (n * s) passes
//! where only its low half came, and one of 2^81 / (n * s) where it came whole. For 100,000 previews that is less than
//! 2^-32 and 2^-64.
//!
//! The check comes first, and the random bits last: samplers look at either end.

use std::fmt;
use std::hash::Hasher;
use std::sync::Arc;

use aws_lc_rs::hmac;
use fnv::FnvHasher;
use sidetrack_config::Key;
use sidetrack_config::model::Secret;
use siphasher::sip128::{Hasher128, SipHasher24};
use subtle::ConstantTimeEq;

use super::ids::halves;

const RANDOM_BITS: u32 = 14;
const STRICT: u64 = 1 << RANDOM_BITS;
const INDEX_SHIFT: u32 = RANDOM_BITS + 1;
const INDEX_BITS: u32 = 12;
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;
/// The bits below the check of the low half.
const TAIL_BITS: u32 = INDEX_SHIFT + INDEX_BITS;
const TAIL_MASK: u64 = (1 << TAIL_BITS) - 1;

/// How many keys of one index are tried: more than twice what 100,000 previews have, and a bound of the work all the same.
const CANDIDATES: usize = 64;

/// What the MAC is of, so that one secret can serve other purposes too.
const PURPOSE: &[u8] = b"sidetrack trace id\0";

/// The index of a key: what a trace id says of it in the clear. The same in every process and version.
pub fn index(key: &Key) -> u16 {
    let mut hasher = FnvHasher::default();
    hasher.write(key.as_bytes());
    let hash = hasher.finish();
    u16::try_from((hash ^ hash >> INDEX_BITS ^ hash >> (2 * INDEX_BITS)) & INDEX_MASK).unwrap_or(0)
}

/// The index that a trace id says, of ours or not.
pub fn index_of(id: u128) -> u16 {
    u16::try_from(low(id) >> INDEX_SHIFT & INDEX_MASK).unwrap_or(0)
}

/// Whether only the low half of a trace id is there.
pub const fn is_bare(id: u128) -> bool {
    id >> 64 == 0
}

fn low(id: u128) -> u64 {
    halves(id).1
}

/// What a trace id says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hidden {
    /// The key.
    pub key: Key,
    /// Whether a baseline answer for a preview that is not there, or down, is an error in any case.
    pub strict: bool,
}

/// The secrets of the MAC: the first one writes, all of them read, so that it can be changed while proxies run.
#[derive(Clone, Debug, Default)]
pub struct Secrets(Arc<[One]>);

/// One secret, ready for what it is used for.
struct One {
    /// For trace ids: derived, so that no use of a secret says anything of the other.
    ids: SipHasher24,
    /// For signatures.
    keys: hmac::Key,
}

impl fmt::Debug for One {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl One {
    fn new(secret: &Secret) -> Self {
        let keys = hmac::Key::new(hmac::HMAC_SHA256, &secret.0);
        let derived = hmac::sign(&keys, PURPOSE);
        let derived = derived.as_ref().first_chunk().copied().unwrap_or_default();
        Self { ids: SipHasher24::new_with_key(&derived), keys }
    }
}

impl Secrets {
    /// These secrets, the one that writes first.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        Self(secrets.into_iter().map(One::new).collect())
    }

    /// Whether there is none, so that nothing is hidden and nothing is read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A trace id that says this; `random` fills what is left of it. `None`: there is no secret to write with.
    pub fn hide(&self, hidden: Hidden, random: u64) -> Option<u128> {
        let secret = self.0.first()?;
        let strict = if hidden.strict { STRICT } else { 0 };
        let tail = u64::from(index(&hidden.key)) << INDEX_SHIFT | strict | random & (STRICT - 1);
        let checks = Checks::of(&secret.ids, &hidden.key, tail);
        // Never zero, which says that only the other half came.
        let high = u64::from(checks.high) << 32 | random >> 32 | 1;
        Some(u128::from(high) << 64 | u128::from(checks.low << TAIL_BITS | tail))
    }

    /// The first 128 bits of the MAC over these parts, with the secret that writes; `None`: there is none.
    pub fn tag(&self, parts: &[&[u8]]) -> Option<u128> {
        self.0.first().map(|secret| tag(&secret.keys, parts))
    }

    /// Whether `tag` is of these parts, with any of the secrets.
    pub fn verify(&self, parts: &[&[u8]], said: u128) -> bool {
        self.0.iter().any(|secret| bool::from(tag(&secret.keys, parts).ct_eq(&said)))
    }

    /// What `id` says, if it is one of ours for one of these keys, which have its index ([`index_of`]).
    pub fn read<'k>(&self, id: u128, keys: impl Iterator<Item = &'k Key>) -> Option<Hidden> {
        if self.is_empty() {
            return None;
        }
        let key = keys.take(CANDIDATES).find(|key| self.0.iter().any(|secret| says(&secret.ids, key, id)))?;
        Some(Hidden { key: *key, strict: low(id) & STRICT != 0 })
    }
}

/// Whether `id` was made for `key` with this secret.
fn says(secret: &SipHasher24, key: &Key, id: u128) -> bool {
    let checks = Checks::of(secret, key, low(id) & TAIL_MASK);
    low(id) >> TAIL_BITS == checks.low && (is_bare(id) || id >> 96 == u128::from(checks.high))
}

/// The first 128 bits of the MAC over these parts.
fn tag(secret: &hmac::Key, parts: &[&[u8]]) -> u128 {
    let mut mac = hmac::Context::with_key(secret);
    parts.iter().for_each(|part| mac.update(part));
    mac.sign().as_ref().first_chunk().copied().map_or(0, u128::from_be_bytes)
}

/// What proves that somebody with the secret made an id.
struct Checks {
    /// Of the low half: 37 bits.
    low: u64,
    /// Of the high half.
    high: u32,
}

impl Checks {
    /// Those of an id for `key` that ends in `tail`.
    fn of(secret: &SipHasher24, key: &Key, tail: u64) -> Self {
        let mut mac = *secret;
        mac.write(&tail.to_be_bytes());
        mac.write(key.as_bytes());
        let number = mac.finish128().as_u128();
        let high = u32::try_from(number & 0xffff_ffff).unwrap_or(0);
        Self { low: u64::try_from(number >> (64 + TAIL_BITS)).unwrap_or(0), high }
    }
}

#[cfg(test)]
mod tests;
