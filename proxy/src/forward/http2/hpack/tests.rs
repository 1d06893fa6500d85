use proptest::prelude::*;

use super::*;
use crate::fields::tag;

/// The octets that these digits say.
fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

type Lines = Vec<(Vec<u8>, Vec<u8>, bool)>;

fn read(decoder: &mut Decoder, section: &[u8]) -> Result<Lines, Fault> {
    let mut lines = Vec::new();
    decoder.section(section, |line| {
        assert_eq!(line.tag, tag(line.name));
        lines.push((line.name.to_vec(), line.value.to_vec(), line.is_good));
    })?;
    Ok(lines)
}

fn lines(list: &[(&str, &str)]) -> Lines {
    list.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec(), true)).collect()
}

#[test]
fn requests_of_the_specification_are_read() {
    // RFC 7541 sections C.3 (as they are) and C.4 (in the code of Huffman).
    let plain = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    let coded = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    for sections in [plain, coded] {
        let mut decoder = Decoder::default();
        let wanted = [
            lines(&[
                (":method", "GET"),
                (":scheme", "http"),
                (":path", "/"),
                (":authority", "www.example.com"),
            ]),
            lines(&[
                (":method", "GET"),
                (":scheme", "http"),
                (":path", "/"),
                (":authority", "www.example.com"),
                ("cache-control", "no-cache"),
            ]),
            lines(&[
                (":method", "GET"),
                (":scheme", "https"),
                (":path", "/index.html"),
                (":authority", "www.example.com"),
                ("custom-key", "custom-value"),
            ]),
        ];
        for (section, wanted) in sections.iter().zip(wanted) {
            assert_eq!(read(&mut decoder, &hex(section)), Ok(wanted));
        }
    }
}

#[test]
fn answers_of_the_specification_are_read_and_old_lines_go() {
    // RFC 7541 section C.6, whose table has 256 octets, which the first section says here.
    let sections = [
        "3fe101 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 \
         63c7 8f0b 97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf \
         cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ];
    let place = "https://www.example.com";
    let wanted = [
        lines(&[
            (":status", "302"),
            ("cache-control", "private"),
            ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
            ("location", place),
        ]),
        lines(&[
            (":status", "307"),
            ("cache-control", "private"),
            ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
            ("location", place),
        ]),
        lines(&[
            (":status", "200"),
            ("cache-control", "private"),
            ("date", "Mon, 21 Oct 2013 20:13:22 GMT"),
            ("location", place),
            ("content-encoding", "gzip"),
            ("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"),
        ]),
    ];
    let mut decoder = Decoder::default();
    for (section, wanted) in sections.iter().zip(wanted) {
        assert_eq!(read(&mut decoder, &hex(section)), Ok(wanted));
    }
}

#[test]
fn what_is_no_section_is_refused() {
    for (section, why) in [
        ("80", "there is no line with this index"),
        ("be", "there is no line with this index"),
        ("7f0000", "there is no line with this index"),
        ("ff", "a section breaks off"),
        ("ffffffffff7f", "a number is too large"),
        ("4003", "a string breaks off"),
        ("4001610562", "a string breaks off"),
        ("82 20", "the table changes within a section"),
        ("3fe21f", "the table is larger than it may be"),
        // A string whose last bits are not those of the end, one with eight of them, and one with the end in it.
        ("0001 61 81 1e", "a string is in no code"),
        ("0001 61 82 1fff", "a string is in no code"),
        ("0001 61 84 ffffffff", "a string is in no code"),
    ] {
        let refused = read(&mut Decoder::default(), &hex(section)).unwrap_err();
        assert_eq!(refused.to_string(), why, "{section}");
    }
}

#[test]
fn lines_that_no_message_may_have_are_marked() {
    let marked = |name: &[u8], value: &[u8]| {
        let section = [&[0x40, name.len() as u8][..], name, &[value.len() as u8], value].concat();
        let mut decoder = Decoder::default();
        let line = read(&mut decoder, &section).unwrap().remove(0);
        // It is the same when the table has it, and its name is as good as it was.
        assert_eq!(read(&mut decoder, &[0xbe]).unwrap(), std::slice::from_ref(&line));
        let named = read(&mut decoder, &[0x0f, 62 - 15, 1, b'1']).unwrap().remove(0);
        (!line.2, !named.2)
    };
    for name in ["", ":", "A", "x-A", "x a", "x\0", "x\"", "x:y", "x\u{e4}"] {
        assert_eq!(marked(name.as_bytes(), b"1"), (true, true), "{name:?}");
    }
    for value in [" 1", "1 ", "\t1", "1\r\nx: y", "\n", "\0", "\x7f"] {
        assert_eq!(marked(b"x", value.as_bytes()), (true, false), "{value:?}");
    }
    for value in ["", "1", "a b\tc", "\u{e4}"] {
        assert_eq!(marked(b"x", value.as_bytes()), (false, false), "{value:?}");
    }
}

/// Writes lines as one section.
fn written(encoder: &mut Encoder, list: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    encoder.begin(&mut out);
    for (name, value) in list {
        encoder.line(&mut out, name.as_bytes(), tag(name.as_bytes()), value.as_bytes());
    }
    out
}

#[test]
fn what_comes_again_is_one_octet_and_what_does_not_displaces_nothing() {
    let mut encoder = Encoder::default();
    let lengths = [1, 2, 3]
        .map(|_| written(&mut encoder, &[("x-forwarded-host", "shop.example"), ("via", "2 a")]).len());
    assert_eq!(lengths[2], 2, "{lengths:?}");
    for number in 0..1_000 {
        // Its name has an index from the second on.
        let id = format!("{number:032}");
        let length = written(&mut encoder, &[("x-request-id", &id)]).len();
        assert!(number == 0 || length <= 36, "{length}");
    }
    assert_eq!(written(&mut encoder, &[("x-forwarded-host", "shop.example"), ("via", "2 a")]).len(), 2);
}

#[test]
fn secrets_are_never_kept() {
    let mut encoder = Encoder::default();
    for name in ["authorization", "cookie", "x-pr-signature"] {
        for _ in 0..3 {
            let out = written(&mut encoder, &[(name, "a secret")]);
            assert_eq!(
                out[0] & 0xf0,
                0x10,
                "never indexed, nor by who passes it on (RFC 7541 section 6.2.3)"
            );
            assert!(out.ends_with(b"a secret"));
        }
    }
}

#[test]
fn a_peer_may_have_a_smaller_table_or_none() {
    let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
    let list = [("x-a", "1"), ("x-b", "2")];
    for _ in 0..3 {
        let out = written(&mut encoder, &list);
        assert_eq!(read(&mut decoder, &out), Ok(lines(&list)));
    }
    // Asked for none and for all of it again before anything was sent, it drops what it had.
    encoder.resize(0);
    encoder.resize(1 << 20);
    let out = written(&mut encoder, &list);
    assert!(out.starts_with(&hex("20 3fe11f")), "{out:02x?}");
    assert_eq!(read(&mut decoder, &out), Ok(lines(&list)));
    encoder.resize(0);
    for _ in 0..3 {
        let out = written(&mut encoder, &list);
        assert_eq!(read(&mut decoder, &out), Ok(lines(&list)));
        assert!(out.len() >= 12, "nothing is kept");
    }
}

/// A name or a value that comes again and again, or one that does not.
fn text(kind: &'static str) -> impl Strategy<Value = String> {
    prop_oneof![
        3 => prop::sample::select(vec!["x-a", "x-b", "cookie", "accept", "x-request-id", "via"]).prop_map(str::to_owned),
        1 => prop::string::string_regex(kind).unwrap(),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        sections in prop::collection::vec(
            (prop::option::weighted(0.2, 0_usize..6_000), prop::collection::vec((text("[a-z!_-]{1,40}"), text("([!-~]([ -~]{0,300}[!-~])?)?")), 0..20)),
            0..20,
        ),
    ) {
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
        for (size, section) in &sections {
            if let Some(size) = size {
                encoder.resize(*size);
            }
            let list: Vec<(&str, &str)> = section.iter().map(|(name, value)| (&**name, &**value)).collect();
            let out = written(&mut encoder, &list);
            prop_assert_eq!(read(&mut decoder, &out), Ok(lines(&list)));
        }
    }

    #[test]
    fn nothing_that_comes_is_too_much(section in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut decoder = Decoder::default();
        let _ = read(&mut decoder, &section);
        let _ = read(&mut decoder, &section);
    }
}

/// Go takes no second size where it has lines.
#[test]
fn one_size_is_told_once() {
    let mut encoder = Encoder::default();
    let mut begun = |sizes: &[usize]| {
        sizes.iter().for_each(|size| encoder.resize(*size));
        let mut out = Vec::new();
        encoder.begin(&mut out);
        out
    };
    assert_eq!(begun(&[2048]), [0x3f, 0xe1, 0x0f]);
    assert_eq!(begun(&[4096]), [0x3f, 0xe1, 0x1f], "larger");
    assert_eq!(begun(&[0, 4096]), [0x20, 0x3f, 0xe1, 0x1f], "both, where the first is the smaller one");
    assert!(begun(&[4096]).is_empty());
}

/// What is known of a name is not looked for again.
#[test]
fn a_bad_name_stays_bad_and_a_good_one_good() {
    let mut decoder = Decoder::default();
    let mut goods = |section: &[u8]| {
        let mut goods = Vec::new();
        decoder.section(section, |line| goods.push(line.is_good)).unwrap();
        goods
    };
    // `x-A: 1`, kept; its name again, with another value.
    assert_eq!(goods(b"\x40\x03x-A\x011"), [false]);
    assert_eq!(goods(b"\x7e\x012\x0f\x2f\x013\xbe"), [false; 3]);
    // `x-a` with a value that is none, and with one that is.
    assert_eq!(goods(b"\x40\x03x-a\x01\n"), [false]);
    assert_eq!(goods(b"\x7e\x012\xbe\xbf"), [true, true, false]);
}
