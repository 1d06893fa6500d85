//! What only one of both readers takes, and why.

use std::ops::Not;

use sidetrack_proxy::accept::sniff::PREFACE;
use sidetrack_proxy::forward::http2::hpack::Decoder;

use super::script::Script;
use super::{Head, Lines, Read, STREAM_WINDOW, peer};

/// The largest list of lines.
const LIST: usize = 64 << 10;
/// The largest number of 31 bits.
const LARGEST: u64 = 0x7fff_ffff;

/// Whether we, who have `sent` this, are right to refuse with these words what h2 has taken as `theirs`.
pub(super) fn is_stricter(why: &str, script: &Script, sent: &[u8], theirs: &Read) -> bool {
    let said = script.said();
    let frames = peer::frames(&said);
    let heads = || theirs.early.iter().chain(&theirs.head);
    match why {
        // RFC 9113 section 3.4: SETTINGS come first; h2 doesn't look.
        "what came first is not HTTP/2" => {
            frames.first().is_none_or(|(kind, flags, ..)| *kind != 4 || flags & 1 != 0)
        }
        // A quote is in no token (RFC 9110 section 5.6.2), blanks around a value in none (RFC 9113 section 8.2.1).
        "a field has a name or a value that none may have" => {
            heads().map(|(_, lines)| lines).chain(&theirs.trailers).any(is_odd)
                || has_other_first_lines(&said)
        }
        // Two numbers, be they equal, are read as either (RFC 9110 section 8.6 lets us refuse lists).
        "an answer has a length that is none, or two" => theirs.head.as_ref().is_some_and(is_no_length),
        // What is held of an answer has a bound in lines, too; an index of one octet makes one.
        "the fields are more, or longer, than any may be" => {
            let count = |lines: &Lines| lines.values().map(Vec::len).sum::<usize>();
            heads().map(|(_, lines)| lines).chain(&theirs.trailers).any(|lines| count(lines) > 99)
        }
        // RFC 9113 section 8.3: those of requests are in no answer, and none is in trailers; h2 leaves them out.
        "the first lines are not those of an answer" | "an answer has two heads" => {
            let is_head = |names: &&Vec<Vec<u8>>| names[0] == b":status";
            has_other_first_lines(&said) || sections(&said).iter().filter(is_head).count() > 1
        }
        // Each tells of room in its own time, and this upstream does not wait for it.
        "more came than the window of the stream" => overruns(&said, sent),
        // Neither has content (RFC 9110 section 6.4.1), whatever its length says.
        "a body is longer than its head says" => {
            theirs.head.as_ref().is_some_and(|(status, _)| matches!(status, 204 | 304))
        }
        // RFC 9113 section 6.5.2: a client has to refuse it.
        "a server asks for pushed answers" => settings(&said).any(|setting| setting == (2, 1)),
        // RFC 9113 section 6.9.1: also where nothing more is to be sent.
        "a window is larger than any may be" => {
            let updates = frames.iter().filter(|(kind, _, stream, _)| (*kind, *stream) == (8, 1));
            let more: u64 = updates.map(|(.., payload)| peer::number(payload) & LARGEST).sum();
            let first = settings(&said).filter(|(key, _)| *key == 4).map(|(_, value)| value).max();
            more + first.unwrap_or(0).max(65_535) > LARGEST
        }
        // One of those that end a connection, before there was a request.
        "no stream" => script.before.is_some() && settings(&said).any(|setting| setting == (2, 1)),
        // 101 is none of HTTP/2 (RFC 9113 section 8.6).
        "malformed" => theirs.early.iter().any(|(status, _): &Head| *status == 101),
        // Who says 1xx for ever never answers, and what waits of them has a bound in octets.
        "there are too many 1xx answers" => {
            let size: usize = theirs.early.iter().map(|(_, lines)| size(lines)).sum();
            theirs.early.len() > 100 || size > LIST
        }
        _ => false,
    }
}

fn is_odd(lines: &Lines) -> bool {
    let is_blank = |value: &String| value.starts_with([' ', '\t']) || value.ends_with(' ') || is_tab(value);
    lines.iter().any(|(name, values)| name.contains('"') || values.iter().any(is_blank))
}

/// Whether a tab, as it is escaped, is at one of the ends.
fn is_tab(value: &str) -> bool {
    value.starts_with("\\t") || value.ends_with("\\t")
}

/// Whether a head has a length that is no number in digits, or two that are not written alike.
fn is_no_length((_, lines): &Head) -> bool {
    let lengths = lines.get("content-length").map(Vec::as_slice).unwrap_or_default();
    lengths.iter().any(|length| length != &lengths[0] || length.parse::<u64>().is_err())
}

/// Whether there is a first line that is none of an answer. h2 does not even look at what it says.
fn has_other_first_lines(said: &[u8]) -> bool {
    let is_odd = |name: &Vec<u8>| name[0] == b':' && name != b":status";
    sections(said).iter().flatten().any(is_odd)
}

/// Whether more comes of the body than a client that has `sent` this has room for.
pub(super) fn overruns(said: &[u8], sent: &[u8]) -> bool {
    let mut body = 0;
    for (kind, flags, stream, payload) in peer::frames(said) {
        body += if (kind, stream) == (0, 1) { payload.len() as u64 } else { 0 };
        if matches!(kind, 0 | 1) && stream == 1 && flags & 1 != 0 {
            break;
        }
    }
    let updates = peer::frames(sent.strip_prefix(PREFACE).expect("the first words"));
    let more = updates.iter().filter(|(kind, _, stream, _)| (*kind, *stream) == (8, 1));
    body > u64::from(STREAM_WINDOW) + more.map(|(.., payload)| peer::number(payload)).sum::<u64>()
}

/// Whether anything follows the end of the answer.
fn has_more(said: &[u8]) -> bool {
    let mut used = 0;
    for (kind, flags, stream, payload) in peer::frames(said) {
        used += 9 + payload.len();
        if matches!(kind, 0 | 1) && stream == 1 && flags & 1 != 0 {
            return used < said.len();
        }
    }
    false
}

/// The names of each section.
pub(super) fn sections(said: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let (mut decoder, mut sections, mut section) = (Decoder::default(), Vec::new(), Vec::new());
    for (kind, flags, _, payload) in peer::frames(said) {
        if !matches!(kind, 1 | 9) {
            continue;
        }
        let is_padded = kind == 1 && flags & 0x8 != 0;
        let padding = if is_padded { usize::from(payload.first().copied().unwrap_or(0)) } else { 0 };
        let own = usize::from(is_padded) + if kind == 1 && flags & 0x20 != 0 { 5 } else { 0 };
        section
            .extend_from_slice(payload.get(own..payload.len().saturating_sub(padding)).unwrap_or_default());
        if flags & 0x4 != 0 {
            let mut names = Vec::new();
            let _ = decoder.section(&section, |line| names.push(line.name.to_vec()));
            section.clear();
            sections
                .extend((!names.is_empty() && names.iter().all(|name| !name.is_empty())).then_some(names));
        }
    }
    sections
}

/// The settings.
fn settings(said: &[u8]) -> impl Iterator<Item = (u64, u64)> {
    let frames = peer::frames(said).into_iter().filter(|(kind, ..)| *kind == 4);
    frames.flat_map(|(.., payload)| payload.chunks_exact(6)).map(|setting| {
        let [a, b, value @ ..] = setting else { panic!("six octets") };
        (u64::from(u16::from_be_bytes([*a, *b])), peer::number(value))
    })
}

/// Whether what h2 counts is more than it takes: frames that are small or go on, where we count what they hold.
fn is_count(why: &str) -> bool {
    why.contains("too_many_continuations") || why.contains("too_many_data_frames")
}

/// Whether a head has a length of more digits than h2 reads (RFC 9110 section 8.6 has no bound), or a 1xx answer has one,
/// which h2 takes for that of the final one.
fn has_other_length(ours: &Read) -> bool {
    let mut lengths = ours.head.iter().filter_map(|(_, lines)| lines.get("content-length")).flatten();
    lengths.any(|length| length.len() > 19)
        || ours.early.iter().any(|(_, lines)| lines.contains_key("content-length"))
}

fn depends_on_itself((kind, flags, stream, payload): &(u8, u8, u32, &[u8])) -> bool {
    let at = usize::from(*kind == 1 && flags & 0x8 != 0);
    let is_priority = *kind == 2 || (*kind == 1 && flags & 0x20 != 0);
    is_priority && payload.get(at..).map(peer::number).is_some_and(|of| of & LARGEST == u64::from(*stream))
}

fn has_full_list(ours: &Read) -> bool {
    // A head has `:status`, too, which takes 42.
    let heads = ours.early.iter().chain(&ours.head).map(|(_, lines)| size(lines) + 42);
    heads.chain(ours.trailers.iter().map(size)).any(|size| size >= LIST)
}

/// What lines take of a list (RFC 9113 section 6.5.2).
fn size(lines: &Lines) -> usize {
    let each = |(name, values): (&String, &Vec<String>)| {
        values.iter().map(|value| name.len() + value.len() + 32).sum::<usize>()
    };
    lines.iter().map(each).sum()
}

/// Whether we are right to take as `ours` what h2, which has `sent` this, refuses with these words.
pub(super) fn is_laxer(why: &str, script: &Script, ours: &Read, sent: &[u8]) -> bool {
    let said = script.said();
    let frames = peer::frames(&said);
    let gone: Vec<u64> = frames
        .iter()
        .filter(|(kind, ..)| *kind == 7)
        .map(|(.., payload)| peer::number(payload) & LARGEST)
        .collect();
    let heard = frames.iter().filter(|(kind, flags, ..)| *kind == 4 && flags & 1 != 0).count();
    // h2 counts with its own windows once its settings were heard, and until then with smaller ones. What nobody has heard
    // of nobody makes use of, and we hold no more for it.
    (why.contains("flow-control") && (heard == 0 || overruns(&said, sent)))
        // Settings that were heard twice: nothing comes of it, and RFC 9113 section 6.5 has no word on it.
        || heard > 1
        || is_count(why)
        || has_other_length(ours)
        // Who goes away may not take back that it does (RFC 9113 section 6.8); the smallest number counts.
        || gone.is_sorted_by(|one, other| one >= other).not()
        // Whether there is extended CONNECT (RFC 8441 section 3), which we have no use for.
        || settings(&said).any(|(key, value)| key == 8 && value > 1)
        // A stream that depends on itself: RFC 9113 section 5.3 knows no such thing any more.
        || frames.iter().any(depends_on_itself)
        // The list may have just the size that we have told of (RFC 9113 section 6.5.2).
        || has_full_list(ours)
        // An answer that was whole stays so, whatever is wrong behind it (RFC 9113 section 5.1); h2 drops it where not all of
        // the request is sent yet.
        || (script.method == http::Method::POST && has_more(&said))
        // A PRIORITY of a wrong length is a matter of its stream (RFC 9113 section 6.3), and ends no others.
        || frames.iter().any(|(kind, _, stream, payload)| *kind == 2 && *stream != 1 && payload.len() != 5)
}
