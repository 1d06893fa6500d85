use super::super::frame::PADDED;
use super::*;

const OK: &[(&str, &str)] = &[(":status", "200")];

/// What comes of an answer to a request: `-` stands between its sections and pieces of body, of which the last ends it.
enum Part {
    Head(&'static [(&'static str, &'static str)]),
    Body(&'static str),
}
use Part::{Body, Head};

fn said(is_head: bool, parts: &[Part]) -> (Vec<String>, Stream) {
    let mut server = Server::new();
    let stream = Stream::open(&server.session, is_head, true, |_, _| {});
    server.write();
    server.sent.clear();
    for (at, part) in parts.iter().enumerate() {
        let is_last = at + 1 == parts.len();
        match part {
            Head(lines) => server.answers(1, lines, is_last),
            Body(text) => server.body(1, text.as_bytes(), is_last),
        }
    }
    (server.heard(), stream)
}

#[test]
fn answers_come_whole() {
    const EARLY: &[(&str, &str)] = &[(":status", "103"), ("link", "</a>")];
    const FIVE: &[(&str, &str)] = &[(":status", "200"), ("content-length", "5")];
    const TWICE: &[(&str, &str)] = &[(":status", "200"), ("content-length", "5"), ("content-length", "5")];
    const UNCHANGED: &[(&str, &str)] = &[(":status", "304"), ("content-length", "5")];
    const TRAILERS: &[(&str, &str)] = &[("grpc-status", "0")];
    for (is_head, parts, early, status, text, trailer) in [
        (false, &[Head(OK)][..], 0, 200, "", None),
        (false, &[Head(OK), Body("")], 0, 200, "", None),
        (false, &[Head(OK), Body("a"), Body(""), Body("b")], 0, 200, "ab", None),
        (false, &[Head(FIVE), Body("12345")], 0, 200, "12345", None),
        (false, &[Head(TWICE), Body("123"), Body("45")], 0, 200, "12345", None),
        (false, &[Head(FIVE), Body("12345"), Body("")], 0, 200, "12345", None),
        (false, &[Head(FIVE), Body("12345"), Head(TRAILERS)], 0, 200, "12345", Some("0")),
        (false, &[Head(OK), Head(TRAILERS)], 0, 200, "", Some("0")),
        (false, &[Head(EARLY), Head(EARLY), Head(OK), Body("x")], 2, 200, "x", None),
        (true, &[Head(FIVE)], 0, 200, "", None),
        (true, &[Head(FIVE), Body("")], 0, 200, "", None),
        (false, &[Head(UNCHANGED)], 0, 304, "", None),
    ] {
        let (heard, mut stream) = said(is_head, parts);
        assert!(heard.is_empty(), "{heard:?}");
        for _ in 0..early {
            assert_eq!(super::status(&mut stream), Ok(103));
        }
        assert_eq!(super::status(&mut stream), Ok(status));
        assert_eq!(stream.is_ended(), text.is_empty() && trailer.is_none());
        assert_eq!(body(&mut stream), (text.as_bytes().to_vec(), Poll::Ready(Ok(()))));
        let trailers = stream.take_trailers();
        assert_eq!(trailers.as_ref().and_then(|fields| fields.text("grpc-status")), trailer);
        assert!(stream.is_ended() && stream.left() == Some(0));
    }
}

#[test]
fn what_is_no_answer_is_refused() {
    const EARLY: &[(&str, &str)] = &[(":status", "100")];
    const FIVE: &[(&str, &str)] = &[(":status", "200"), ("content-length", "5")];
    const FIELD: &[(&str, &str)] = &[("x-a", "1")];
    let of = |lines: &'static [(&'static str, &'static str)]| vec![Head(lines), Body("")];
    for parts in [
        of(&[]),
        of(FIELD),
        of(&[("x-a", "1"), (":status", "200")]),
        of(&[(":status", "200"), (":status", "200")]),
        of(&[(":status", "200"), ("x-a", "1"), (":status", "200")]),
        of(&[(":status", "20")]),
        of(&[(":status", "2000")]),
        of(&[(":status", "abc")]),
        of(&[(":status", "099")]),
        of(&[(":status", "")]),
        of(&[(":status", "200"), (":path", "/")]),
        of(&[(":path", "/"), (":status", "200")]),
        of(&[(":status", "200"), ("connection", "close")]),
        of(&[(":status", "200"), ("keep-alive", "1")]),
        of(&[(":status", "200"), ("proxy-connection", "x")]),
        of(&[(":status", "200"), ("transfer-encoding", "chunked")]),
        of(&[(":status", "200"), ("upgrade", "websocket")]),
        of(&[(":status", "200"), ("te", "gzip")]),
        of(&[(":status", "200"), ("X-A", "1")]),
        of(&[(":status", "200"), ("", "1")]),
        of(&[(":status", "200"), ("x-a", "1\r\nx-b: 2")]),
        of(&[(":status", "200"), ("x-a", "\0")]),
        of(&[(":status", "200"), ("content-length", "")]),
        of(&[(":status", "200"), ("content-length", "+0")]),
        of(&[(":status", "200"), ("content-length", "-1")]),
        of(&[(":status", "200"), ("content-length", "0, 0")]),
        of(&[(":status", "200"), ("content-length", "0"), ("content-length", "1")]),
        of(&[(":status", "200"), ("content-length", "99999999999999999999")]),
        vec![Body("x"), Body("")],
        vec![Head(EARLY)],
        vec![Head(EARLY), Body("x")],
        vec![Head(OK), Head(OK)],
        vec![Head(OK), Head(EARLY), Body("")],
        vec![Head(OK), Head(FIELD), Body("")],
        vec![Head(OK), Head(FIELD), Head(FIELD)],
        vec![Head(FIVE)],
        vec![Head(FIVE), Body("")],
        vec![Head(FIVE), Body("1234")],
        vec![Head(FIVE), Body("123"), Body("456")],
        vec![Head(FIVE), Body("123456")],
        vec![Head(FIVE), Body("1234"), Head(FIELD)],
        vec![Head(OK), Body("x"), Head(&[("connection", "close")])],
    ] {
        let (heard, mut stream) = said(false, &parts);
        let told: Vec<_> = parts
            .iter()
            .map(|part| match part {
                Head(lines) => format!("{lines:?}"),
                Body(text) => (*text).to_owned(),
            })
            .collect();
        assert_eq!(heard, ["RST_STREAM 1 PROTOCOL_ERROR"], "{told:?}");
        let why = loop {
            match stream.poll_answer(&noop()) {
                Poll::Ready(Ok((status, _))) if status.is_informational() => {}
                Poll::Ready(Ok(_)) => match body(&mut stream).1 {
                    Poll::Ready(Err(why)) => break why,
                    other => panic!("{told:?}: {other:?}"),
                },
                Poll::Ready(Err(why)) => break why,
                Poll::Pending => panic!("{told:?}"),
            }
        };
        assert!(matches!(why, Ended::Malformed(_)), "{told:?}: {why}");
        assert!(!stream.is_ended());
    }
}

#[test]
fn what_has_no_content_is_refused_where_some_comes() {
    const FIVE: &[(&str, &str)] = &[(":status", "200"), ("content-length", "5")];
    const NOTHING: &[(&str, &str)] = &[(":status", "204")];
    const UNCHANGED: &[(&str, &str)] = &[(":status", "304"), ("content-length", "5")];
    for (is_head, head) in [(true, FIVE), (true, OK), (false, NOTHING), (false, UNCHANGED)] {
        let (heard, mut stream) = said(is_head, &[Head(head), Body("12345")]);
        assert_eq!(heard, ["RST_STREAM 1 PROTOCOL_ERROR"], "{head:?}");
        // The head is the answer all the same.
        assert!(super::status(&mut stream).is_ok());
        assert!(matches!(body(&mut stream).1, Poll::Ready(Err(Ended::Malformed(_)))), "{head:?}");
    }
}

#[test]
fn early_answers_are_bounded_together() {
    let large = "x".repeat(1_500);
    for (value, most) in [("", 101), (&*large, 43)] {
        let mut server = Server::new();
        let mut stream = server.opened(true);
        let mut count = 0;
        while server.heard().is_empty() {
            server.answers(1, &[(":status", "103"), ("link", value)], false);
            count += 1;
            assert!(count < 1_000);
        }
        assert!((most..most + 2).contains(&count), "{count} of {most}");
        assert_eq!(status(&mut stream), Ok(103));
        // Those that are taken are no burden, but they have to come to an end.
        let mut stream = server.opened(true);
        for _ in 0..100 {
            server.answers(3, &[(":status", "103"), ("link", value)], false);
            assert_eq!(status(&mut stream), Ok(103));
        }
        server.answers(3, &[(":status", "103"), ("link", value)], false);
        assert!(matches!(status(&mut stream), Err(Ended::Malformed(_))));
    }
}

#[test]
fn trailers_are_bounded() {
    for (count, is_good) in [(100, true), (101, false)] {
        let mut server = Server::new();
        let mut stream = server.opened(true);
        server.answers(1, OK, false);
        server.answers(1, &vec![("x-a", "1"); count], true);
        assert_eq!(status(&mut stream), Ok(200));
        assert_eq!(body(&mut stream).1 == Poll::Ready(Ok(())), is_good);
        let heard: &[&str] = if is_good { &[] } else { &["RST_STREAM 1 PROTOCOL_ERROR"] };
        assert_eq!(server.heard(), heard);
    }
}

#[test]
fn an_answer_may_be_split_anywhere() {
    let mut server = Server::new();
    let (head, trailers) = (server.section(OK), server.section(&[("x-a", "1")]));
    let all = [
        frame(HEADERS, 0, 1, &[]),
        frame(CONTINUATION, END_HEADERS, 1, &head),
        frame(DATA, 0, 1, b"one "),
        frame(DATA, PADDED, 1, &[&[4][..], b"two ", &[0; 4]].concat()),
        frame(DATA, PADDED, 1, &[3, 0, 0, 0]),
        frame(DATA, PADDED, 1, &[0]),
        frame(DATA, 0, 1, b""),
        frame(PING, 0, 0, b"12345678"),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, &trailers),
    ]
    .concat();
    // In two pieces, and in pieces of each length.
    let twos = (0..=all.len()).map(|at| vec![at, all.len() - at]);
    let sames = (1..all.len()).map(|size| vec![size; all.len().div_ceil(size)]);
    for sizes in twos.chain(sames) {
        let mut server = Server::new();
        let mut stream = server.opened(true);
        let mut rest = &all[..];
        let mut input = Vec::new();
        for size in &sizes {
            let (piece, others) = rest.split_at((*size).min(rest.len()));
            rest = others;
            input.extend_from_slice(piece);
            let used = server.session.borrow_mut().receive(&input);
            input.drain(..used);
            assert!(input.len() < HEAD + 20);
        }
        assert!(input.is_empty() && rest.is_empty());
        assert_eq!(status(&mut stream), Ok(200));
        assert_eq!(body(&mut stream), (b"one two ".to_vec(), Poll::Ready(Ok(()))), "{sizes:?}");
        assert_eq!(stream.take_trailers().unwrap().text("x-a"), Some("1"));
        assert_eq!(server.heard(), ["PING ACK 12345678"]);
    }
}

#[test]
fn a_reset_takes_nothing_back() {
    let refused = Ended::Reset(h2::Reason::REFUSED_STREAM);
    let gone = Ended::Reset(h2::Reason::NO_ERROR);
    // Before the answer, within it, and behind it while the request is still on its way.
    let mut server = Server::new();
    let mut streams = [server.opened(false), server.opened(false), server.opened(false)];
    let (count, waker) = counted();
    assert!(streams[0].poll_answer(&Context::from_waker(&waker)).is_pending());
    server.says(&reset(1, 7));
    assert!(count.take() > 0);
    assert_eq!(status(&mut streams[0]), Err(refused));
    server.answers(3, OK, false);
    server.body(3, b"some", false);
    server.says(&reset(3, 0));
    server.says(&reset(3, 7));
    assert_eq!(status(&mut streams[1]), Ok(200));
    assert_eq!(body(&mut streams[1]), (b"some".to_vec(), Poll::Ready(Err(gone))), "the first counts");
    server.answers(5, OK, false);
    server.body(5, b"all", true);
    assert!(room(&streams[2]).is_ready());
    server.says(&reset(5, 0));
    assert_eq!(room(&streams[2]), Poll::Ready(None), "the rest is not wanted");
    assert_eq!(status(&mut streams[2]), Ok(200));
    assert_eq!(body(&mut streams[2]), (b"all".to_vec(), Poll::Ready(Ok(()))));
    drop(streams);
    assert!(server.heard().is_empty());
}

#[test]
fn what_comes_behind_the_end_breaks_off_what_is_still_sent() {
    for bytes in [frame(DATA, 0, 1, b"more"), frame(HEADERS, END_HEADERS | END_STREAM, 1, &[])] {
        let mut server = Server::new();
        let mut stream = server.opened(false);
        server.answers(1, OK, true);
        server.says(&bytes);
        assert_eq!(server.heard(), ["RST_STREAM 1 STREAM_CLOSED"]);
        assert_eq!(room(&stream), Poll::Ready(None));
        assert_eq!(status(&mut stream), Ok(200));
        assert_eq!(body(&mut stream), (vec![], Poll::Ready(Ok(()))));
        // Where all was sent nobody is there any more.
        let _stream = server.opened(true);
        server.answers(3, OK, true);
        server.says(&[&bytes[..5], &[0, 0, 0, 3], &bytes[9..]].concat());
        assert!(server.heard().is_empty());
    }
}

#[test]
fn who_leaves_is_not_heard_of_again() {
    let mut server = Server::new();
    let stream = server.opened(false);
    assert!(room(&stream).is_ready());
    drop(stream);
    assert_eq!(server.heard(), ["RST_STREAM 1 CANCEL"]);
    // What is on its way is read all the same: the tables stay the same.
    let line = ("x-trace", "a value that comes again");
    server.answers(1, &[(":status", "200"), line], false);
    server.body(1, b"some", false);
    server.says(&update(1, 10));
    server.says(&update(1, 0));
    server.answers(1, &[("x-late", "trailer")], true);
    server.says(&reset(1, 8));
    let mut stream = server.opened(true);
    server.answers(3, &[(":status", "200"), line, ("x-late", "trailer")], true);
    let Poll::Ready(Ok((_, fields))) = stream.poll_answer(&noop()) else { panic!("no answer") };
    assert_eq!((fields.text(line.0), fields.text("x-late")), (Some(line.1), Some("trailer")));
    drop(stream);
    assert!(server.heard().is_empty(), "one that is over is not reset");
}

#[test]
fn a_request_ends_with_its_body_or_with_trailers() {
    let mut server = Server::new();
    let (first, second) = (server.opened(false), server.opened(false));
    first.send(b"all of it", true);
    let mut trailers = crate::fields::Fields::default();
    trailers.append("x-sum", b"1");
    trailers.append("connection", b"close");
    second.send_trailers(&trailers);
    assert_eq!(server.heard(), ["DATA 1 9 END", "HEADERS 3 1 END"]);
    for stream in [&first, &second] {
        stream.send(b"more", true);
        stream.send_trailers(&trailers);
        assert_eq!(room(stream), Poll::Ready(None));
    }
    assert!(server.heard().is_empty());
    // An answer that is over ends it only when the request is, too.
    let third = server.opened(false);
    server.answers(5, OK, true);
    assert_eq!(room(&third), Poll::Ready(Some(65_535 - 9)));
    third.send(b"the rest", true);
    drop((first, second, third));
    assert_eq!(server.heard(), ["DATA 5 8 END", "RST_STREAM 1 CANCEL", "RST_STREAM 3 CANCEL"]);
}
