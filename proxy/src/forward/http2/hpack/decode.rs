//! Reads field sections.

use super::table::{Line, Table};
use super::{TABLE, huffman};
use crate::fields::{is_value, tag};
use crate::h1::bytes_of;

/// What can't be read. The tables of both ends are no longer the same then, and the connection has to end
/// (RFC 9113 section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Fault(&'static str);

const NO_LINE: Fault = Fault("there is no line with this index");

/// Reads the sections of one connection, in the order in which they came.
#[derive(Debug)]
pub struct Decoder {
    /// What the peer counts on.
    table: Table,
    /// Strings that came in the code of Huffman.
    scratch: Vec<u8>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { table: Table::new(TABLE), scratch: Vec::new() }
    }
}

impl Decoder {
    /// Reads a whole section, and gives its lines to `take`, in order.
    ///
    /// # Errors
    /// It is none.
    pub fn section(&mut self, section: &[u8], mut take: impl FnMut(Line<'_>)) -> Result<(), Fault> {
        let mut input = Input(section);
        let mut begun = false;
        while let Some(first) = input.0.first().copied() {
            match first {
                0x80.. => {
                    let index = input.integer(7)?;
                    take(self.table.get(index).ok_or(NO_LINE)?);
                }
                0x20..0x40 if begun => return Err(Fault("the table changes within a section")),
                0x20..0x40 => {
                    let most = input.integer(5)?;
                    if most > TABLE {
                        return Err(Fault("the table is larger than it may be"));
                    }
                    self.table.resize(most);
                    continue;
                }
                0x40..0x80 => self.literal(&mut input, 6, true, &mut take)?,
                _ => self.literal(&mut input, 4, false, &mut take)?,
            }
            begun = true;
        }
        // A large one is not kept for the next.
        if self.scratch.capacity() > TABLE {
            self.scratch = Vec::new();
        }
        Ok(())
    }

    fn literal(
        &mut self,
        input: &mut Input<'_>,
        bits: u32,
        is_kept: bool,
        take: &mut impl FnMut(Line<'_>),
    ) -> Result<(), Fault> {
        let index = input.integer(bits)?;
        self.scratch.clear();
        let own = if index == 0 { Some(input.string(&mut self.scratch)?) } else { None };
        let named = self.scratch.len();
        let value = input.string(&mut self.scratch)?;
        let (first, second) = self.scratch.split_at_checked(named).unwrap_or_default();
        let value = value.unwrap_or(second);
        let is_text = is_text(value);
        let line = match own {
            Some(name) => {
                let name = name.unwrap_or(first);
                let is_named = is_name(name);
                Line { name, value, tag: tag(name), is_good: is_text && is_named, is_named }
            }
            None => {
                let line = self.table.get(index).ok_or(NO_LINE)?;
                Line { value, is_good: is_text && line.is_named, ..line }
            }
        };
        take(line);
        if is_kept {
            // The line that had the name may go for this one.
            let name = line.name.to_vec();
            let Line { tag, is_good, is_named, .. } = line;
            self.table.insert(Line { name: &name, value, tag, is_good, is_named });
        }
        Ok(())
    }
}

/// What is left of a section.
struct Input<'s>(&'s [u8]);

impl<'s> Input<'s> {
    fn octet(&mut self) -> Result<u8, Fault> {
        let (first, rest) = self.0.split_first().ok_or(Fault("a section breaks off"))?;
        self.0 = rest;
        Ok(*first)
    }

    /// A number in the last `bits` of an octet, and in those behind it where they do not do (RFC 7541 section 5.1).
    #[inline]
    fn integer(&mut self, bits: u32) -> Result<usize, Fault> {
        let most = (1_usize << bits) - 1;
        let mut value = usize::from(self.octet()?) & most;
        if value < most {
            return Ok(value);
        }
        // Four octets more are enough for all that has a meaning here.
        for shift in [0, 7, 14, 21] {
            let octet = self.octet()?;
            value += usize::from(octet & 0x7f) << shift;
            if octet < 0x80 {
                return Ok(value);
            }
        }
        Err(Fault("a number is too large"))
    }

    /// A string, or `None` where it had to be decoded, and was appended to `scratch`.
    #[inline]
    fn string(&mut self, scratch: &mut Vec<u8>) -> Result<Option<&'s [u8]>, Fault> {
        let is_coded = self.0.first().is_some_and(|octet| *octet >= 0x80);
        let length = self.integer(7)?;
        let (text, rest) = self.0.split_at_checked(length).ok_or(Fault("a string breaks off"))?;
        self.0 = rest;
        if !is_coded {
            return Ok(Some(text));
        }
        huffman::decode(text, scratch).ok_or(Fault("a string is in no code"))?;
        Ok(None)
    }
}

/// Octets of a name (RFC 9110 section 5.6.2), of which capitals are none here.
static NAME: [bool; 256] = bytes_of(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz");

/// Whether a name may be that of a line; those of the first lines begin with a colon.
fn is_name(name: &[u8]) -> bool {
    let rest = name.strip_prefix(b":").unwrap_or(name);
    !rest.is_empty() && rest.iter().all(|octet| NAME.get(usize::from(*octet)).is_some_and(|is_good| *is_good))
}

/// Whether a value may be that of a line, and no reader takes it for another one: there are no blanks around it.
fn is_text(value: &[u8]) -> bool {
    let is_blank = |octet: Option<&u8>| matches!(octet, Some(b' ' | b'\t'));
    is_value(value) && !is_blank(value.first()) && !is_blank(value.last())
}
