//! Frames (RFC 9113 section 4 and 6): their heads, and those that have nothing behind it but a number or two.

use h2::Reason;

/// Octets of a frame's head.
pub(super) const HEAD: usize = 9;
/// The most octets behind it, where nobody has said otherwise (RFC 9113 section 6.5.2).
pub(super) const PAYLOAD: usize = 16_384;

/// The last one of a message; of DATA and HEADERS.
pub(super) const END_STREAM: u8 = 0x1;
/// Says that something was heard; of SETTINGS and PING.
pub(super) const ACK: u8 = 0x1;
/// The last one of a section; of HEADERS and CONTINUATION.
pub(super) const END_HEADERS: u8 = 0x4;
/// Something follows that means nothing; of DATA and HEADERS.
pub(super) const PADDED: u8 = 0x8;
/// There is a priority in it, which nobody heeds (RFC 9113 section 5.3); of HEADERS.
pub(super) const PRIORITY: u8 = 0x20;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Data,
    Headers,
    Priority,
    Reset,
    Settings,
    PushPromise,
    Ping,
    GoAway,
    WindowUpdate,
    Continuation,
    /// One of an extension, which is to be left out (RFC 9113 section 5.5).
    Unknown,
}

impl Kind {
    const fn of(octet: u8) -> Self {
        match octet {
            0 => Self::Data,
            1 => Self::Headers,
            2 => Self::Priority,
            3 => Self::Reset,
            4 => Self::Settings,
            5 => Self::PushPromise,
            6 => Self::Ping,
            7 => Self::GoAway,
            8 => Self::WindowUpdate,
            9 => Self::Continuation,
            _ => Self::Unknown,
        }
    }
}

/// The head of a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    /// Octets behind it.
    pub(super) length: usize,
    pub(super) kind: Kind,
    pub(super) flags: u8,
    /// Zero: the connection.
    pub(super) stream: u32,
}

impl Frame {
    /// The head at the beginning of `bytes`; `None`: it is not whole.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, stream @ ..] = bytes.first_chunk::<HEAD>()?;
        Some(Self {
            length: usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c),
            kind: Kind::of(*kind),
            flags: *flags,
            stream: u32::from_be_bytes(*stream) & 0x7fff_ffff,
        })
    }

    /// Whether this flag is set.
    pub(super) const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// The number in the first four of these octets.
pub(super) fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().copied().map_or(0, u32::from_be_bytes)
}

/// The parameters in SETTINGS.
pub(super) fn settings(payload: &[u8]) -> impl Iterator<Item = (u16, u32)> {
    payload
        .as_chunks::<6>()
        .0
        .iter()
        .map(|[a, b, value @ ..]| (u16::from_be_bytes([*a, *b]), u32::from_be_bytes(*value)))
}

/// Writes the head of a frame; `kind` is the number of its kind.
pub(super) fn head(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    let [.., a, b, c] = length.to_be_bytes();
    let [d, e, f, g] = stream.to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind, flags, d, e, f, g]);
}

/// Writes DATA.
pub(super) fn data(out: &mut Vec<u8>, stream: u32, payload: &[u8], is_last: bool) {
    head(out, payload.len(), 0, if is_last { END_STREAM } else { 0 }, stream);
    out.extend_from_slice(payload);
}

/// Writes HEADERS, and CONTINUATION where the peer takes no more than `most` octets at once. `write` appends the section.
pub(super) fn headers(
    out: &mut Vec<u8>,
    stream: u32,
    is_last: bool,
    most: usize,
    write: impl FnOnce(&mut Vec<u8>),
) {
    let end = if is_last { END_STREAM } else { 0 };
    let start = out.len();
    head(out, 0, 1, END_HEADERS | end, stream);
    let section = out.len();
    write(out);
    let length = out.len() - section;
    if length <= most {
        // What stands there has these three octets for its length.
        let [.., a, b, c] = length.to_be_bytes();
        if let Some(place) = out.get_mut(start..start + 3) {
            place.copy_from_slice(&[a, b, c]);
        }
        return;
    }
    let section = out.split_off(section);
    out.truncate(start);
    let pieces = section.chunks(most);
    let last = pieces.len() - 1;
    for (at, piece) in pieces.enumerate() {
        let (kind, end) = if at == 0 { (1, end) } else { (9, 0) };
        head(out, piece.len(), kind, if at == last { END_HEADERS | end } else { end }, stream);
        out.extend_from_slice(piece);
    }
}

/// Writes RST_STREAM.
pub(super) fn reset(out: &mut Vec<u8>, stream: u32, reason: Reason) {
    head(out, 4, 3, 0, stream);
    out.extend_from_slice(&u32::from(reason).to_be_bytes());
}

/// Writes SETTINGS with these parameters.
pub(super) fn set(out: &mut Vec<u8>, parameters: &[(u16, u32)]) {
    head(out, 6 * parameters.len(), 4, 0, 0);
    for (which, value) in parameters {
        out.extend_from_slice(&which.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// Says that SETTINGS were heard.
pub(super) fn heard_settings(out: &mut Vec<u8>) {
    head(out, 0, 4, ACK, 0);
}

/// Writes PING.
pub(super) fn ping(out: &mut Vec<u8>, flags: u8, payload: &[u8]) {
    head(out, payload.len(), 6, flags, 0);
    out.extend_from_slice(payload);
}

/// Writes GOAWAY, in which no stream of the peer's is named: it has none.
pub(super) fn go_away(out: &mut Vec<u8>, reason: Reason) {
    head(out, 8, 7, 0, 0);
    out.extend_from_slice(&0_u32.to_be_bytes());
    out.extend_from_slice(&u32::from(reason).to_be_bytes());
}

/// Writes WINDOW_UPDATE.
pub(super) fn window_update(out: &mut Vec<u8>, stream: u32, more: u32) {
    head(out, 4, 8, 0, stream);
    out.extend_from_slice(&more.to_be_bytes());
}
