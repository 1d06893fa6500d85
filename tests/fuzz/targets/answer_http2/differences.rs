//! What only one of both readers takes, and why.

use sidetrack_proxy::forward::http2::hpack::Decoder;

use super::script::Script;
use super::{Head, Lines, Read, STREAM_WINDOW, peer};

/// Whether we, who have `sent` this, are right to refuse with these words what h2 has taken as `theirs`.
pub(super) fn is_stricter(why: &str, script: &Script, sent: &[u8], theirs: &Read) -> bool {
    let said = script.said();
    let heads = || theirs.early.iter().chain(&theirs.head);
    match why {
        // RFC 9113 section 3.4: SETTINGS come first; h2 doesn't look.
        "what came first is not HTTP/2" => {
            peer::frames(&said).first().is_none_or(|(kind, flags, ..)| *kind != 4 || flags & 1 != 0)
        }
        // A quote is in no token (RFC 9110 section 5.6.2), blanks around a value in none (RFC 9113 section 8.2.1).
        "a field has a name or a value that none may have" => {
            heads().map(|(_, lines)| lines).chain(&theirs.trailers).any(is_odd)
                || has_other_first_lines(&said)
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
        // 101 is none of HTTP/2 (RFC 9113 section 8.6), and who says 1xx for ever never answers.
        "malformed" | "there are too many 1xx answers" => {
            theirs.early.len() > 100 || theirs.early.iter().any(|(status, _): &Head| *status == 101)
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
    let updates = peer::frames(sent.strip_prefix(peer::PREFACE).expect("the first words"));
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
fn sections(said: &[u8]) -> Vec<Vec<Vec<u8>>> {
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

/// Whether we are right to take what h2, which has `sent` this, refuses with these words.
pub(super) fn is_laxer(why: &str, script: &Script, sent: &[u8]) -> bool {
    let said = script.said();
    let frames = peer::frames(&said);
    let heard = frames.iter().filter(|(kind, flags, ..)| *kind == 4 && flags & 1 != 0).count();
    let is_flow = why.contains("flow-control");
    // h2 counts with its own windows once its settings were heard, and until then with smaller ones. What nobody has heard
    // of nobody makes use of, and we hold no more for it.
    (is_flow && (heard == 0 || overruns(&said, sent)))
        // Settings that were heard twice: nothing comes of it, and RFC 9113 section 6.5 has no word on it.
        || heard > 1
        // An answer that was whole stays so, whatever is wrong behind it (RFC 9113 section 5.1); h2 drops it where not all of
        // the request is sent yet.
        || (script.method == http::Method::POST && has_more(&said))
        // A PRIORITY of a wrong length is a matter of its stream (RFC 9113 section 6.3), and ends no others.
        || frames.iter().any(|(kind, _, stream, payload)| *kind == 2 && *stream != 1 && payload.len() != 5)
}
