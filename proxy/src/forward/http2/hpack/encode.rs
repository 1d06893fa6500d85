//! Writes field sections.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;

use super::TABLE;
use super::table::{Line, Table, fixed};
use crate::fields::tag;

/// Places for what may be found again: a table of 4096 octets has no more than 128 lines.
const PLACES: usize = 256;
/// Of which two lines have one choice.
const PAIRS: usize = PLACES / 2;
/// Lines of a section that are looked for where they were in the one before.
const GUESSES: usize = 64;

/// Lines that every peer knows, by their index (RFC 7541 appendix A).
#[derive(Clone, Copy, Debug)]
pub enum Known {
    /// `:method: GET`
    MethodGet = 2,
    /// `:method: POST`
    MethodPost = 3,
    /// `:scheme: http`
    SchemeHttp = 6,
    /// `:scheme: https`
    SchemeHttps = 7,
}

/// Writes the sections of one connection, in the order in which they go out. What the peer has in its table is found where it
/// was in the section before, or by a hash, and compared: where three lines want one pair of places the oldest is forgotten
/// and sent anew, which costs octets and nothing else.
#[derive(Debug)]
pub struct Encoder {
    /// What the peer has.
    table: Table,
    /// Numbers of the lines of the section before: the next one is much like it.
    guesses: Box<[u32; GUESSES]>,
    /// How many lines of this section were looked for.
    at: usize,
    /// Numbers of lines, by what they say, the newer one of a pair first.
    lines: Box<[[u32; 2]; PAIRS]>,
    /// Numbers of lines, by their name.
    names: Box<[u32; PLACES]>,
    /// Parts of the hashes of lines that were sent and not kept. What comes a second time is worth a place in the table;
    /// ids, dates and paths that never do would only displace those that are.
    once: Box<[u16; PLACES]>,
    /// The smallest size of the table that the peer has asked for since it was last told of one, and the last.
    resized: Option<(usize, usize)>,
}

impl Default for Encoder {
    fn default() -> Self {
        Self {
            table: Table::new(TABLE),
            guesses: Box::new([0; GUESSES]),
            at: 0,
            lines: Box::new([[0; 2]; PAIRS]),
            names: Box::new([0; PLACES]),
            once: Box::new([0; PLACES]),
            resized: None,
        }
    }
}

impl Encoder {
    /// The peer keeps so many octets of lines (SETTINGS_HEADER_TABLE_SIZE).
    pub fn resize(&mut self, most: usize) {
        let most = most.min(TABLE);
        let (least, last) = self.resized.unwrap_or((self.table.most(), self.table.most()));
        if most != last {
            self.resized = Some((least.min(most), most));
        }
    }

    /// Begins a section.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        self.at = 0;
        // Both sizes are told, so that the peer drops what we drop (RFC 7541 section 4.2).
        if let Some((least, last)) = self.resized.take() {
            // One that drops nothing is more than some take.
            let least = Some(least).filter(|least| *least < last.min(self.table.most()));
            for most in least.into_iter().chain([last]) {
                self.table.resize(most);
                integer(out, 0x20, 5, most);
            }
        }
    }

    /// Writes one of the lines that every peer knows.
    pub fn known(&self, out: &mut Vec<u8>, line: Known) {
        out.push(0x80 | line as u8);
    }

    /// Writes a line whose name is written in the code, in lower case.
    #[inline]
    pub fn named(&mut self, out: &mut Vec<u8>, name: &'static str, value: &[u8]) {
        self.line(out, name.as_bytes(), tag(name.as_bytes()), value);
    }

    /// Writes a line. `tag` is that of its name, which is in lower case.
    #[inline]
    pub fn line(&mut self, out: &mut Vec<u8>, name: &[u8], tag: u16, value: &[u8]) {
        let line = Line { name, value, tag, is_good: true, is_named: true };
        let guess = self.guesses.get_mut(self.at);
        self.at += 1;
        if let Some(number) = &guess
            && let Some(index) = self.table.index_of(**number, line)
        {
            return integer(out, 0x80, 7, index);
        }
        let hash = FixedState::default().hash_one((tag, value));
        for number in self.lines.get(hash as usize % PAIRS).into_iter().flatten() {
            if let Some(index) = self.table.index_of(*number, line) {
                if let Some(guess) = guess {
                    *guess = *number;
                }
                return integer(out, 0x80, 7, index);
            }
        }
        self.literal(out, line, hash);
    }

    /// Writes a line that the peer has not, or not as it is.
    fn literal(&mut self, out: &mut Vec<u8>, line: Line<'_>, hash: u64) {
        let index = self.name(line.name, line.tag);
        if is_secret(line.name) {
            return write(out, (0x10, 4), index, line.name, line.value);
        }
        let part = (hash >> 48) as u16 | 1;
        let once = self.once.get_mut((hash >> 32) as usize % PLACES);
        let is_seen = once.is_some_and(|once| std::mem::replace(once, part) == part);
        // A name that has no index gets one, whatever it says.
        if line.size() > self.table.most() / 2 || (index.is_some() && !is_seen) {
            return write(out, (0, 4), index, line.name, line.value);
        }
        write(out, (0x40, 6), index, line.name, line.value);
        self.table.insert(line);
        let number = self.table.newest();
        if let Some(pair) = self.lines.get_mut(hash as usize % PAIRS) {
            *pair = [number, pair[0]];
        }
        if let Some(kept) = self.names.get_mut(by_name(line.tag)) {
            *kept = number;
        }
    }

    /// The index of a line with this name.
    fn name(&self, name: &[u8], tag: u16) -> Option<usize> {
        let number = self.names.get(by_name(tag))?;
        self.table.index_of_name(*number, name).or_else(|| fixed(name, tag))
    }
}

/// The place of a name.
const fn by_name(tag: u16) -> usize {
    (tag ^ (tag >> 8)) as usize % PLACES
}

/// Whether a line says who somebody is. Many clients share a connection, and none may find out from what it sends, and how
/// long that is then, what another has sent (RFC 7541 section 7.1): these are neither kept nor compared, nor are they
/// by who passes them on.
fn is_secret(name: &[u8]) -> bool {
    matches!(name, b"authorization" | b"proxy-authorization" | b"cookie" | b"set-cookie" | b"x-pr-signature")
}

/// Writes a line that is no index alone; `form` is what its first octet begins with, and how many bits that leaves.
fn write(out: &mut Vec<u8>, (first, bits): (u8, u32), index: Option<usize>, name: &[u8], value: &[u8]) {
    integer(out, first, bits, index.unwrap_or(0));
    if index.is_none() {
        string(out, name);
    }
    string(out, value);
}

/// Writes a string as it is.
fn string(out: &mut Vec<u8>, text: &[u8]) {
    integer(out, 0, 7, text.len());
    out.extend_from_slice(text);
}

/// Writes a number behind the first bits of an octet, of which it takes the last `bits` (RFC 7541 section 5.1).
#[inline]
fn integer(out: &mut Vec<u8>, first: u8, bits: u32, value: usize) {
    let most = (1_usize << bits) - 1;
    if value < most {
        return out.push(first | value as u8);
    }
    out.push(first | most as u8);
    let mut rest = value - most;
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
