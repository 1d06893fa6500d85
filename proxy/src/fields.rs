//! The field section of a message: the one form in which both versions of HTTP, and every rule of ours, read and change
//! header fields.
//!
//! The lines stand one behind the other in one piece of memory, as HTTP/1.1 writes them (`name: value` CR LF, names in
//! lower case), so that a head that is passed on is copied once and not field by field. An index says where each line
//! is; a line that is removed stays in the text and leaves the index. A head has a few dozen fields at most (its limit
//! is in the configuration), and at that size a scan of the index is quicker than any hash.

mod known;

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::h1::{Fault, offset};

/// The fields of a message, in order. A name may come more than once.
#[derive(Clone, Default)]
pub struct Fields {
    text: Vec<u8>,
    lines: Vec<Line>,
    /// The tags that were ever among the lines: most names that are asked for are not there.
    seen: Tags,
    /// Whether there was ever a name with `_`, which some servers read as `-`.
    underscored: bool,
}

/// Where a line is in the text.
#[derive(Clone, Copy)]
struct Line {
    start: u32,
    end: u32,
    /// Length of the name.
    name: u16,
    /// Tells most names apart without a look at the text.
    tag: u16,
}

/// Between name and value.
const COLON: &[u8] = b": ";
/// Behind the value.
const END: &[u8] = b"\r\n";
/// Room for the lines that a request gets on its way, and for their bytes.
pub const ROOM_OF_REQUEST: (usize, usize) = (14, 512);
/// The same for an answer.
pub const ROOM_OF_ANSWER: (usize, usize) = (6, 256);
/// Bytes of a line, for most of them.
const LINE: usize = 40;
/// The most bytes of a text. Every head has a limit far below; what would go beyond is left out.
const MOST: usize = 16 << 20;

impl Line {
    /// A line of the text, its tag not yet known; `None`: it is out of bounds.
    fn new(start: usize, name: usize, end: usize) -> Option<Self> {
        if start > end || end > MOST || name > usize::from(u16::MAX) {
            return None;
        }
        // All of them fit.
        Some(Self { start: start as u32, end: end as u32, name: name as u16, tag: 0 })
    }

    fn name(self, text: &[u8]) -> &[u8] {
        let start = index(self.start);
        text.get(start..start + usize::from(self.name)).unwrap_or_default()
    }

    fn value(self, text: &[u8]) -> &[u8] {
        let start = index(self.start) + usize::from(self.name) + COLON.len();
        text.get(start..index(self.end).saturating_sub(END.len())).unwrap_or_default()
    }
}

/// The length of a name, and two of its letters. Most names of one head differ in these. For a name that is written in
/// the code the compiler knows it.
#[inline]
#[expect(
    clippy::indexing_slicing,
    reason = "a name that is not empty has a first letter and one in its middle"
)]
pub const fn tag(name: &[u8]) -> u16 {
    if name.is_empty() {
        return 0;
    }
    // A capital counts as its small letter.
    let (first, middle) = (name[0] | 0x20, name[name.len() / 2] | 0x20);
    // Of a length that has no place in the tag its lower bits are as good.
    ((name.len() as u16) << 10) ^ ((first as u16) << 5) ^ (middle as u16)
}

/// Names of lines that are not to be written, or not to stay. Made in a constant, so that nothing has to be found out about
/// them while requests wait.
#[derive(Clone, Copy, Debug)]
pub struct Skips<const N: usize> {
    names: [&'static str; N],
    tags: [u16; N],
    /// All tags.
    all: Tags,
}

impl<const N: usize> Skips<N> {
    /// These names, in lower case.
    #[expect(clippy::indexing_slicing, reason = "both arrays have this length")]
    pub const fn new(names: [&'static str; N]) -> Self {
        let mut tags = [0; N];
        let mut all = Tags([0; 4]);
        let mut at = 0;
        while at < N {
            tags[at] = tag(names[at].as_bytes());
            all.insert(tags[at]);
            at += 1;
        }
        Self { names, tags, all }
    }

    /// Whether a line has one of these names.
    #[inline]
    fn has(&self, line: Line, text: &[u8]) -> bool {
        self.tags.contains(&line.tag) && self.names.iter().any(|name| name.as_bytes() == line.name(text))
    }
}

/// Where on its connection a message over HTTP/2 is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Before all others: both ends keep its names, also of values that are not worth it, and later messages refer to them.
    First,
    /// Behind others, or it may be.
    Later,
}

/// A set of tags, in which one may be that was not put in: it has a bit for each of 256 kinds of them.
#[derive(Clone, Copy, Debug, Default)]
struct Tags([u64; 4]);

impl Tags {
    /// The word and the bit in it of a tag.
    #[inline]
    const fn place(tag: u16) -> (usize, u64) {
        let kind = (tag ^ (tag >> 8)) & 255;
        ((kind >> 6) as usize, 1 << (kind & 63))
    }

    #[inline]
    #[expect(clippy::indexing_slicing, reason = "a place is one of the words")]
    const fn insert(&mut self, tag: u16) {
        let (word, bit) = Self::place(tag);
        self.0[word] |= bit;
    }

    #[inline]
    #[expect(clippy::indexing_slicing, reason = "a place is one of the words")]
    const fn may_have(&self, tag: u16) -> bool {
        let (word, bit) = Self::place(tag);
        self.0[word] & bit != 0
    }

    #[inline]
    fn may_share(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(ours, theirs)| ours & theirs != 0)
    }

    fn extend(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(ours, theirs)| *ours |= theirs);
    }
}

fn index(at: u32) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}

/// The same byte eight times.
const fn eight(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// What `look` finds in eight bytes at a time, put together; `None`: there are fewer.
#[inline]
fn in_eights(bytes: &[u8], look: impl Fn(u64) -> u64) -> Option<u64> {
    let look = |bytes: &[u8; 8]| look(u64::from_ne_bytes(*bytes));
    // The last eight bytes may have been looked at in part, which is no harm.
    let last = look(bytes.last_chunk::<8>()?);
    Some(bytes.as_chunks::<8>().0.iter().fold(last, |found, bytes| found | look(bytes)))
}

/// Whether bytes may stand in a value (RFC 9110 section 5.5): no control characters but the tab. This is what keeps a
/// value that we put together from ending its line and beginning another.
#[inline]
pub fn is_value(bytes: &[u8]) -> bool {
    let is_bad = |byte: &u8| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f;
    // Eight bytes at a time: a borrow out of a byte below the blank, or a zero where 0x7f was, sets its highest bit. A
    // tab does so, too, and is looked at again.
    let odd = in_eights(bytes, |word| {
        let delete = word ^ eight(0x7f);
        (word.wrapping_sub(eight(b' ')) & !word) | (delete.wrapping_sub(eight(1)) & !delete)
    });
    odd.is_some_and(|odd| odd & eight(0x80) == 0) || !bytes.iter().any(is_bad)
}

/// Whether a line of `head` ends at this place, but for blanks.
fn is_blank_to_end(head: &[u8], from: usize) -> bool {
    let rest = head.get(from..).unwrap_or_default();
    let blanks = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    rest.get(blanks..).is_some_and(|rest| rest.starts_with(END))
}

/// Brings the name of this length that `text` begins with to lower case, and says whether there is a `_` in it. Eight bytes
/// at a time, of which those behind the name stay as they are. Those of a token are below 0x80, so that what is added to
/// each carries into none of the others.
fn lower(text: &mut [u8], length: usize) -> bool {
    let mut found = 0;
    let mut lower_eight = |bytes: &mut [u8; 8], of_name: u64| {
        let all = u64::from_le_bytes(*bytes);
        let word = all & of_name;
        // Their highest bits: set in what is at least `A`, and in what is beyond `Z`.
        let (from_a, beyond_z) = (word + eight(0x80 - b'A'), word + eight(0x7f - b'Z'));
        let capitals = from_a & !beyond_z & eight(0x80);
        let underscores = word ^ eight(b'_');
        found |= underscores.wrapping_sub(eight(1)) & !underscores & eight(0x80);
        *bytes = (all | capitals >> 2).to_le_bytes();
    };
    let (eights, last) = (length - length % 8, length % 8);
    let Some((whole, rest)) = text.split_at_mut_checked(eights) else { return false };
    whole.as_chunks_mut().0.iter_mut().for_each(|bytes| lower_eight(bytes, u64::MAX));
    match rest.first_chunk_mut() {
        Some(bytes) => lower_eight(bytes, (1 << (8 * last)) - 1),
        None => {
            let rest = rest.get_mut(..last).unwrap_or_default();
            rest.make_ascii_lowercase();
            return found != 0 || rest.contains(&b'_');
        }
    }
    found != 0
}

/// Whether one of two bytes is in a name.
#[inline]
fn has_either(name: &[u8], one: u8, other: u8) -> bool {
    // A borrow out of a byte that is zero by now sets its highest bit.
    let is_zero = |word: u64| word.wrapping_sub(eight(1)) & !word;
    let found = in_eights(name, |word| is_zero(word ^ eight(one)) | is_zero(word ^ eight(other)));
    match found {
        Some(found) => found & eight(0x80) != 0,
        None => name.iter().any(|byte| *byte == one || *byte == other),
    }
}

impl Fields {
    /// No fields, and room for so many in so many bytes.
    pub fn with_room(lines: usize, bytes: usize) -> Self {
        Self {
            text: Vec::with_capacity(bytes),
            lines: Vec::with_capacity(lines),
            seen: Tags::default(),
            underscored: false,
        }
    }

    /// The lines that a parser has read of `head`: names are tokens in any case, values hold no control character. With
    /// room for so many lines more, in so many bytes.
    ///
    /// # Errors
    /// A line that ends in LF alone, where some readers end a line and others don't (RFC 9112 section 2.2 lets them).
    pub fn parsed(head: &[u8], lines: &[httparse::Header<'_>], room: (usize, usize)) -> Result<Self, Fault> {
        let mut fields = Self::with_room(lines.len() + room.0, head.len() + room.1);
        fields.text.extend_from_slice(head);
        for line in lines {
            let (name, value) = (line.name.as_bytes(), line.value);
            let (start, at) = (offset(head, name), offset(head, value));
            let (colon, end) = (start + name.len(), at + value.len());
            // Nearly all of them stand there as we write them, and are copied with the whole.
            let is_plain = at == colon + COLON.len()
                && head
                    .get(colon..end + END.len())
                    .is_some_and(|rest| rest.starts_with(COLON) && rest.ends_with(END));
            // An empty value may stand anywhere.
            if !is_plain && !is_blank_to_end(head, if value.is_empty() { colon + 1 } else { end }) {
                return Err(Fault::Malformed("a line of the head ends without CR"));
            }
            let line = Line::new(start, name.len(), end + END.len()).filter(|_| is_plain);
            if let Some(line) = line.or_else(|| fields.write_line(name, value)) {
                fields.index_line(line, name);
            }
        }
        Ok(fields)
    }

    /// Adds a line. `name` is a token in lower case. A value that can't stand in a field is left out.
    #[inline]
    pub fn append(&mut self, name: &str, value: &[u8]) {
        if is_value(value) {
            self.push(name.as_bytes(), tag(name.as_bytes()), value);
        }
    }

    /// Adds a line that a decoder has read and found good; `tag` is that of its `name`, which is in lower case.
    #[inline]
    pub fn read(&mut self, name: &[u8], tag: u16, value: &[u8]) {
        self.underscored |= name.contains(&b'_');
        self.push(name, tag, value);
    }

    /// Adds a line whose value `write` puts behind the bytes that it is given. One that can't stand in a field is left out.
    pub fn append_with(&mut self, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.text.len();
        self.text.extend_from_slice(name.as_bytes());
        self.text.extend_from_slice(COLON);
        let value = self.text.len();
        write(&mut self.text);
        let is_good = self.text.get(value..).is_some_and(is_value);
        self.text.extend_from_slice(END);
        match Line::new(start, name.len(), self.text.len()).filter(|_| is_good) {
            Some(line) => self.enter(line, tag(name.as_bytes())),
            None => self.text.truncate(start),
        }
    }

    /// Makes `value` the one line of that name, in the place of the first that there was. A value that can't stand in a
    /// field changes nothing.
    #[inline]
    pub fn insert(&mut self, name: &str, value: &[u8]) {
        if !is_value(value) {
            return;
        }
        let tag = tag(name.as_bytes());
        if self.may_have(tag) {
            self.replace(name.as_bytes(), tag, value);
        } else {
            self.push(name.as_bytes(), tag, value);
        }
    }

    /// Adds all lines of `other`.
    pub fn extend(&mut self, other: &Self) {
        let behind = |at: u32| u32::try_from(self.text.len()).ok()?.checked_add(at);
        if self.text.len() + other.text.len() > MOST {
            return;
        }
        self.lines.extend(
            other.lines.iter().filter_map(|line| {
                Some(Line { start: behind(line.start)?, end: behind(line.end)?, ..*line })
            }),
        );
        self.text.extend_from_slice(&other.text);
        self.seen.extend(&other.seen);
        self.underscored |= other.underscored;
    }

    fn replace(&mut self, name: &[u8], tag: u16, value: &[u8]) {
        let mut there = self.lines.iter().filter(|line| line.tag == tag && line.name(&self.text) == name);
        if let (Some(line), None) = (there.next(), there.next())
            && line.value(&self.text) == value
        {
            return;
        }
        let Some(new) = self.write_line(name, value) else { return };
        let Self { text, lines, .. } = self;
        let mut new = Some(Line { tag, ..new });
        lines.retain_mut(|line| {
            let is_named = line.tag == tag && line.name(text) == name;
            match new.take_if(|_| is_named) {
                Some(new) => *line = new,
                None if is_named => return false,
                None => {}
            }
            true
        });
        lines.extend(new);
    }

    /// Adds a line whose name is in lower case.
    fn push(&mut self, name: &[u8], tag: u16, value: &[u8]) {
        if let Some(line) = self.write_line(name, value) {
            self.enter(line, tag);
        }
    }

    /// Adds a line of the text to the index.
    #[inline]
    fn enter(&mut self, line: Line, tag: u16) {
        self.seen.insert(tag);
        self.lines.push(Line { tag, ..line });
    }

    /// Adds a line of the text to the index, and brings its `name` to lower case.
    #[inline]
    fn index_line(&mut self, line: Line, name: &[u8]) {
        let written = self.text.get_mut(index(line.start)..).unwrap_or_default();
        self.underscored |= lower(written, name.len());
        self.enter(line, tag(name));
    }

    /// Writes a line behind the others; `None`: there is no room for it.
    fn write_line(&mut self, name: &[u8], value: &[u8]) -> Option<Line> {
        let start = self.text.len();
        let end = start + name.len() + COLON.len() + value.len() + END.len();
        let line = Line::new(start, name.len(), end)?;
        self.text.reserve(end - start);
        self.text.extend_from_slice(name);
        self.text.extend_from_slice(COLON);
        self.text.extend_from_slice(value);
        self.text.extend_from_slice(END);
        Some(line)
    }

    /// Whether the name of some line may have a `_`.
    pub const fn has_underscores(&self) -> bool {
        self.underscored
    }

    /// Takes the lines away whose name `is_wanted` does not want.
    pub fn retain(&mut self, is_wanted: impl Fn(&[u8]) -> bool) {
        self.lines.retain(|line| is_wanted(line.name(&self.text)));
    }

    /// Takes those lines of a name away whose value `is_wanted` does not want.
    pub fn retain_values(&mut self, name: &str, is_wanted: impl Fn(&[u8]) -> bool) {
        let tag = tag(name.as_bytes());
        if !self.may_have(tag) {
            return;
        }
        self.lines.retain(|line| {
            line.tag != tag || line.name(&self.text) != name.as_bytes() || is_wanted(line.value(&self.text))
        });
    }

    /// Whether there may be a line of a name with this tag.
    #[inline]
    const fn may_have(&self, tag: u16) -> bool {
        self.seen.may_have(tag)
    }

    /// Takes every line of that name away; says whether there was one.
    #[inline]
    pub fn remove(&mut self, name: &str) -> bool {
        let tag = tag(name.as_bytes());
        self.may_have(tag) && self.remove_tagged(name.as_bytes(), tag)
    }

    fn remove_tagged(&mut self, name: &[u8], tag: u16) -> bool {
        let Self { text, lines, .. } = self;
        let before = lines.len();
        lines.retain(|line| line.tag != tag || line.name(text) != name);
        lines.len() != before
    }

    /// Takes every line of these names away.
    pub fn remove_all<const N: usize>(&mut self, names: Skips<N>) {
        if self.seen.may_share(&names.all) {
            let Self { text, lines, .. } = self;
            lines.retain(|line| !names.has(*line, text));
        }
    }

    /// The values of a name, line by line.
    #[inline]
    pub fn get_all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> + Clone {
        let tag = tag(name.as_bytes());
        let is_named = move |line: &&Line| line.tag == tag && line.name(&self.text) == name.as_bytes();
        let lines = if self.may_have(tag) { self.lines.as_slice() } else { &[] };
        lines.iter().filter(is_named).map(|line| line.value(&self.text))
    }

    /// The first value of a name.
    #[inline]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let tag = tag(name.as_bytes());
        if self.may_have(tag) { self.find(name.as_bytes(), tag) } else { None }
    }

    fn find(&self, name: &[u8], tag: u16) -> Option<&[u8]> {
        let named = |line: &&Line| line.tag == tag && line.name(&self.text) == name;
        self.lines.iter().find(named).map(|line| line.value(&self.text))
    }

    /// The first value of a name, where it is text of ASCII.
    #[inline]
    pub fn text(&self, name: &str) -> Option<&str> {
        let value = self.get(name)?;
        if value.is_ascii() { std::str::from_utf8(value).ok() } else { None }
    }

    /// Whether there is a line of that name.
    #[inline]
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The items of a list field, over all of its lines, without blanks around them; empty ones say nothing (RFC 9110
    /// section 5.6.1). Not for lists that may hold quoted commas.
    pub fn items<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let items = self.get_all(name).flat_map(|line| line.split(|byte| *byte == b','));
        items.map(<[u8]>::trim_ascii).filter(|item| !item.is_empty())
    }

    /// All lines of a name as one list (RFC 9110 section 5.3), with `separator` between them.
    pub fn joined(&self, name: &str, separator: &[u8]) -> Vec<u8> {
        let mut list = Vec::new();
        for (at, line) in self.get_all(name).enumerate() {
            if at > 0 {
                list.extend_from_slice(separator);
            }
            list.extend_from_slice(line);
        }
        list
    }

    /// Adds an item to a list field, in one line.
    pub fn add_item(&mut self, name: &str, item: &[u8]) {
        if !self.contains(name) {
            return self.append(name, item);
        }
        let mut list = self.joined(name, b", ");
        if !list.is_empty() {
            list.extend_from_slice(b", ");
        }
        list.extend_from_slice(item);
        self.insert(name, &list);
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.lines.iter().map(|line| (line.name(&self.text), line.value(&self.text)))
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Bytes of all lines.
    pub fn bytes(&self) -> usize {
        self.lines.iter().map(|line| index(line.end) - index(line.start)).sum()
    }

    /// Names, their tags and values, in order, but for the lines that `skips` names.
    #[inline]
    pub fn tagged<const N: usize>(&self, skips: Skips<N>) -> impl Iterator<Item = (&[u8], u16, &[u8])> {
        let lines = self.lines.iter().filter(move |line| !skips.has(**line, &self.text));
        lines.map(|line| (line.name(&self.text), line.tag, line.value(&self.text)))
    }

    /// Writes the lines as HTTP/1.1 has them, but for those that `skips` names: what stands together is copied together.
    pub fn write<const N: usize>(&self, out: &mut Vec<u8>, skips: Skips<N>) {
        let (mut start, mut end) = (0, 0);
        for line in &self.lines {
            if skips.has(*line, &self.text) {
                continue;
            }
            if line.start != end {
                out.extend_from_slice(self.text.get(index(start)..index(end)).unwrap_or_default());
                start = line.start;
            }
            end = line.end;
        }
        out.extend_from_slice(self.text.get(index(start)..index(end)).unwrap_or_default());
    }

    /// The fields of a head that the HTTP/2 library has read; `None`: there is one that HTTP/1.1 would read as something
    /// else. The library lets quotes into names and blanks around values (RFC 9113 section 8.2.1 forbids both). With room for
    /// so many lines more, in so many bytes.
    pub fn of(map: &HeaderMap, room: (usize, usize)) -> Option<Self> {
        let mut fields = Self::with_room(map.len() + room.0, map.len() * LINE + room.1);
        for (name, value) in map {
            let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
            let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
            if is_blank(value.first()) || is_blank(value.last()) {
                return None;
            }
            if has_either(name, b'"', b'_') {
                if name.contains(&b'"') {
                    return None;
                }
                fields.underscored = true;
            }
            fields.push(name, tag(name), value);
        }
        Some(fields)
    }

    /// The fields as the HTTP/2 library writes them. What it has no form for is left out.
    pub fn into_map(self, turn: Turn) -> HeaderMap {
        // All values hold a part of it.
        let text = Bytes::from(self.text);
        let mut map = HeaderMap::with_capacity(self.lines.len());
        for line in self.lines {
            let name = line.name(&text);
            let start = index(line.start) + usize::from(line.name) + COLON.len();
            let end = index(line.end).saturating_sub(END.len());
            if !(start..=text.len()).contains(&end) {
                continue;
            }
            let Ok(mut value) = HeaderValue::from_maybe_shared(text.slice(start..end)) else { continue };
            if let Some(known) = known::find(name, line.tag) {
                value.set_sensitive(known.is_fresh && turn == Turn::Later);
                map.append(&known.name, value);
            } else if let Ok(name) = HeaderName::from_bytes(name) {
                map.append(name, value);
            }
        }
        map
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        f.debug_list().entries(self.iter().map(|(name, value)| (text(name), text(value)))).finish()
    }
}

impl PartialEq for Fields {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<'a> FromIterator<(&'a str, &'a [u8])> for Fields {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a [u8])>>(lines: I) -> Self {
        let mut fields = Self::default();
        for (name, value) in lines {
            fields.append(name, value);
        }
        fields
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields(lines: &[(&str, &str)]) -> Fields {
        lines.iter().map(|(name, value)| (*name, value.as_bytes())).collect()
    }

    fn written(fields: &Fields, skips: &[&'static str]) -> String {
        let mut out = Vec::new();
        match *skips {
            [] => fields.write(&mut out, Skips::new([])),
            [one] => fields.write(&mut out, Skips::new([one])),
            [one, two, three] => fields.write(&mut out, Skips::new([one, two, three])),
            _ => unreachable!(),
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_are_read_changed_and_written() {
        let mut all = fields(&[("host", "a"), ("x-a", "1"), ("x-b", ""), ("x-a", "2")]);
        assert_eq!(all.get("x-a"), Some(&b"1"[..]));
        assert_eq!(all.get_all("x-a").collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!(all.joined("x-a", b","), b"1,2");
        assert!(all.contains("x-b") && !all.contains("x-c"));
        let list = fields(&[("via", " a, b ,, "), ("x-a", "1"), ("via", ""), ("via", "c")]);
        assert_eq!(list.items("via").collect::<Vec<_>>(), [b"a", b"b", b"c"]);
        assert_eq!(written(&all, &["host"]), "x-a: 1\r\nx-b: \r\nx-a: 2\r\n");
        all.insert("x-a", b"3");
        assert!(all.remove("x-b") && !all.remove("x-b"));
        all.add_item("x-a", b"4");
        all.add_item("x-new", b"5");
        assert_eq!(written(&all, &[]), "host: a\r\nx-a: 3, 4\r\nx-new: 5\r\n");
        assert_eq!(all.bytes(), written(&all, &[]).len());
        all.extend(&fields(&[("x-c", "6"), ("x-a", "7")]));
        assert_eq!(written(&all, &["host", "x-new", "x-b"]), "x-a: 3, 4\r\nx-c: 6\r\nx-a: 7\r\n");
        all.append_with("x-d", |out| out.extend_from_slice(b"8"));
        all.remove_all(Skips::new(["x-a", "x-b", "host"]));
        assert_eq!(written(&all, &[]), "x-new: 5\r\nx-c: 6\r\nx-d: 8\r\n");
    }

    #[test]
    fn names_come_in_lower_case_from_a_parser() {
        let head = b"X-Pr-ID: 42\r\nHOST:a\r\nEmpty:\r\nX-B:  1 \t\r\nLast: 2\r\n\r\n";
        let mut lines = [httparse::EMPTY_HEADER; 8];
        let (_, lines) = httparse::parse_headers(head, &mut lines).unwrap().unwrap();
        let all = Fields::parsed(head, lines, (0, 0)).unwrap();
        assert_eq!(all.text("x-pr-id"), Some("42"));
        let wanted = "x-pr-id: 42\r\nhost: a\r\nempty: \r\nx-b: 1\r\nlast: 2\r\n";
        assert_eq!(written(&all, &[]), wanted);
        assert_eq!(written(&all, &["host", "empty", "x-b"]), "x-pr-id: 42\r\nlast: 2\r\n");
    }

    #[test]
    fn what_http1_would_read_otherwise_is_refused() {
        let head = |name: &str, value: &str| {
            let mut map = HeaderMap::new();
            map.append(
                HeaderName::from_lowercase(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
            Fields::of(&map, (0, 0))
        };
        assert!(head("x_a", "1").unwrap().has_underscores() && !head("x-a", "").unwrap().has_underscores());
        let plain = "an-id-of-something";
        for at in 0..=plain.len() {
            let with = |byte: &str| head(&format!("{}{byte}{}", &plain[..at], &plain[at..]), "1");
            assert!(with("\"").is_none() && with("_").unwrap().has_underscores(), "{at}");
            assert!(!with("!").unwrap().has_underscores());
        }
        // Of what the library takes for a name nothing but the quote is none.
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        for byte in 0..=u8::MAX {
            let taken =
                HeaderName::from_lowercase(&[byte]).or_else(|_| HeaderName::from_bytes(&[byte])).is_ok();
            assert_eq!(taken, is_token(byte) || byte == b'"', "{byte}");
        }
        for value in [" 1", "1 ", "\t1", " "] {
            assert!(head("x", value).is_none(), "{value:?}");
        }
    }

    #[test]
    fn what_is_another_in_each_message_is_not_kept_by_the_peer() {
        let all = fields(&[("x-request-id", "1"), ("traceparent", "2"), ("via", "3"), ("x-own", "4")]);
        let kept = |turn: Turn| {
            let map = all.clone().into_map(turn);
            ["x-request-id", "traceparent", "via", "x-own"].map(|name| !map[name].is_sensitive())
        };
        assert_eq!(kept(Turn::Later), [false, false, true, true]);
        assert_eq!(kept(Turn::First), [true; 4], "its name is of use");
    }

    #[test]
    fn no_value_ends_its_line() {
        let mut all = fields(&[("a", "1")]);
        for bad in ["1\r\nx: y", "1\nx: y", "\0", "\x7f", "\x1b"] {
            all.insert("a", bad.as_bytes());
            all.append("b", bad.as_bytes());
            all.add_item("a", bad.as_bytes());
            all.append_with("c", |out| out.extend_from_slice(bad.as_bytes()));
        }
        assert_eq!(written(&all, &[]), "a: 1\r\n");
        all.append("tab", b"1\t\xe4");
        assert!(all.contains("tab") && all.text("tab").is_none());
    }

    proptest! {
        #[test]
        fn a_name_is_brought_to_lower_case(name in "[!#$%&'*+.^_`|~0-9A-Za-z-]{0,40}", rest in any::<[u8; 9]>(), cut in 0_usize..10) {
            let rest = &rest[cut..];
            let mut written = [name.as_bytes(), rest].concat();
            prop_assert_eq!(lower(&mut written, name.len()), name.contains('_'));
            prop_assert_eq!(written, [name.to_ascii_lowercase().as_bytes(), rest].concat());
        }

        /// A `HeaderMap` is the second opinion: the same operations leave the same lines.
        #[test]
        fn is_what_a_header_map_is(steps in prop::collection::vec((0_u8..4, 0_usize..5, "[ -~]{0,8}"), 0..40)) {
            let names = ["host", "x-pr-id", "x-pr-ie", "te", "content-length"];
            let (mut ours, mut theirs) = (Fields::default(), HeaderMap::new());
            for (what, name, value) in steps {
                let name = names[name];
                let header = HeaderValue::from_str(&value).unwrap();
                match what {
                    0 => {
                        ours.append(name, value.as_bytes());
                        theirs.append(name, header);
                    }
                    1 => {
                        ours.insert(name, value.as_bytes());
                        theirs.insert(name, header);
                    }
                    2 => prop_assert_eq!(ours.remove(name), theirs.remove(name).is_some()),
                    _ => prop_assert_eq!(ours.get(name), theirs.get(name).map(HeaderValue::as_bytes)),
                }
            }
            for name in names {
                let theirs = theirs.get_all(name).iter().map(HeaderValue::as_bytes);
                prop_assert!(ours.get_all(name).eq(theirs));
            }
            prop_assert_eq!(ours.clone().into_map(Turn::Later), theirs.clone());
            let mut others = theirs.clone();
            others.remove("x-pr-ie");
            let tagged: Fields = ours
                .tagged(const { Skips::new(["x-pr-ie"]) })
                .inspect(|(name, its, _)| assert_eq!(*its, tag(name)))
                .map(|(name, _, value)| (std::str::from_utf8(name).unwrap(), value))
                .collect();
            prop_assert_eq!(tagged.into_map(Turn::First), others);
            let has_blanks = theirs.values().any(|value| value.as_bytes().trim_ascii() != value.as_bytes());
            prop_assert_eq!(Fields::of(&theirs, (0, 0)).map(|ours| ours.into_map(Turn::First)), (!has_blanks).then_some(theirs));
        }
    }
}
