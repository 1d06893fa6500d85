//! The lines that both ends of a connection know: those of RFC 7541 appendix A, and those that were sent before (section 2.3).

use std::collections::VecDeque;

use crate::fields::tag;

/// What a line takes beside its octets (RFC 7541 section 4.1).
const OVERHEAD: usize = 32;

/// A line, and what is known of it.
#[derive(Clone, Copy, Debug)]
pub struct Line<'t> {
    /// Its name; of what comes before the fields it begins with a colon.
    pub name: &'t [u8],
    /// What it says.
    pub value: &'t [u8],
    /// Of the name.
    pub tag: u16,
    /// Whether name and value are what a message may have (RFC 9113 section 8.2.1).
    pub is_good: bool,
    /// Whether the name is, whatever the value. It is known and not looked for again: a peer may name a long one in two
    /// octets, over and over.
    pub is_named: bool,
}

impl Line<'_> {
    /// What it takes of a table (RFC 7541 section 4.1), and of a list of fields (RFC 9113 section 6.5.2).
    pub const fn size(&self) -> usize {
        self.name.len() + self.value.len() + OVERHEAD
    }
}

/// One that was sent.
#[derive(Debug)]
struct Entry {
    /// Name and value, one behind the other.
    text: Box<[u8]>,
    name: usize,
    tag: u16,
    is_good: bool,
    is_named: bool,
}

impl Entry {
    fn line(&self) -> Line<'_> {
        let (name, value) = self.text.split_at_checked(self.name).unwrap_or_default();
        Line { name, value, tag: self.tag, is_good: self.is_good, is_named: self.is_named }
    }
}

/// Lines that were sent, the oldest first.
#[derive(Debug)]
pub(super) struct Table {
    entries: VecDeque<Entry>,
    size: usize,
    most: usize,
    /// How many there ever were, in 32 bits.
    inserted: u32,
}

impl Table {
    /// An empty one that takes so many octets.
    pub(super) const fn new(most: usize) -> Self {
        Self { entries: VecDeque::new(), size: 0, most, inserted: 0 }
    }

    /// What it takes.
    pub(super) const fn most(&self) -> usize {
        self.most
    }

    /// How many lines there ever were: the number of the newest.
    pub(super) const fn newest(&self) -> u32 {
        self.inserted
    }

    /// Changes what it takes.
    pub(super) fn resize(&mut self, most: usize) {
        self.most = most;
        self.evict(0);
    }

    fn evict(&mut self, room: usize) {
        while self.size + room > self.most
            && let Some(entry) = self.entries.pop_front()
        {
            self.size = self.size.saturating_sub(entry.line().size());
        }
    }

    /// Adds a line, for which old ones go. One that has no room at all leaves an empty table (RFC 7541 section 4.4).
    pub(super) fn insert(&mut self, line: Line<'_>) {
        let size = line.size();
        self.evict(size);
        if size > self.most {
            return;
        }
        let text = [line.name, line.value].concat().into_boxed_slice();
        let Line { name, tag, is_good, is_named, .. } = line;
        self.entries.push_back(Entry { text, name: name.len(), tag, is_good, is_named });
        self.size += size;
        self.inserted = self.inserted.wrapping_add(1);
    }

    /// The line with this index (RFC 7541 section 2.3.3).
    #[inline]
    pub(super) fn get(&self, index: usize) -> Option<Line<'_>> {
        let at = index.checked_sub(1)?;
        match STATIC.get(at) {
            Some((name, value)) => {
                let tag = *TAGS.get(at)?;
                let (name, value) = (name.as_bytes(), value.as_bytes());
                Some(Line { name, value, tag, is_good: true, is_named: true })
            }
            None => self.aged(at - STATIC.len()),
        }
    }

    /// The line that so many were sent behind.
    fn aged(&self, age: usize) -> Option<Line<'_>> {
        self.entries.get(self.entries.len().checked_sub(age + 1)?).map(Entry::line)
    }

    /// The line with this number, and its index; `None`: it has gone.
    #[inline]
    fn numbered(&self, number: u32) -> Option<(usize, Line<'_>)> {
        let age = usize::try_from(self.inserted.wrapping_sub(number)).ok()?;
        Some((STATIC.len() + 1 + age, self.aged(age)?))
    }

    /// The index of the line with this number, where it is still here and says this.
    #[inline]
    pub(super) fn index_of(&self, number: u32, wanted: Line<'_>) -> Option<usize> {
        let (index, line) = self.numbered(number)?;
        (line.tag == wanted.tag && line.value == wanted.value && line.name == wanted.name).then_some(index)
    }

    /// The same, where it has this name.
    #[inline]
    pub(super) fn index_of_name(&self, number: u32, name: &[u8]) -> Option<usize> {
        let (index, line) = self.numbered(number)?;
        (line.name == name).then_some(index)
    }
}

/// The index of a line of the static table with this name.
pub(super) fn fixed(name: &[u8], tag: u16) -> Option<usize> {
    let at = TAGS.iter().zip(&STATIC).position(|(its, (text, _))| *its == tag && text.as_bytes() == name)?;
    Some(at + 1)
}

static TAGS: [u16; STATIC.len()] = tags();

#[expect(clippy::indexing_slicing, reason = "both have this length")]
const fn tags() -> [u16; STATIC.len()] {
    let mut tags = [0; STATIC.len()];
    let mut at = 0;
    while at < STATIC.len() {
        tags[at] = tag(STATIC[at].0.as_bytes());
        at += 1;
    }
    tags
}

/// RFC 7541 appendix A; the first has the index 1.
static STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];
