use super::super::frame::{PADDED, PRIORITY as PRIORITIZED};
use super::*;

const PUSH: u8 = 5;
const OK: &[(&str, &str)] = &[(":status", "200")];
/// `:status: 200`
const OKAY: &[u8] = &[0x88];

#[test]
fn settings_come_first() {
    for (said, heard) in [
        (settings(&[]), "SETTINGS ACK"),
        (frame(SETTINGS, ACK, 0, b""), "GOAWAY PROTOCOL_ERROR"),
        (frame(PING, 0, 0, b"12345678"), "GOAWAY PROTOCOL_ERROR"),
        (frame(77, 0, 0, b""), "GOAWAY PROTOCOL_ERROR"),
        (go_away(0, 0), "GOAWAY PROTOCOL_ERROR"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "GOAWAY PROTOCOL_ERROR"),
    ] {
        let mut server = Server::silent();
        server.says(&said);
        assert_eq!(server.heard(), [heard], "{said:02x?}");
        assert_eq!(server.session.borrow().is_ended(), heard != "SETTINGS ACK");
    }
}

/// What is said where one stream is open whose head has come, and another one whose head has not.
fn said(bytes: &[u8]) -> (Vec<String>, Server, [Stream; 2]) {
    let mut server = Server::new();
    let streams = [server.opened(true), server.opened(true)];
    server.answers(1, OK, false);
    server.says(bytes);
    (server.heard(), server, streams)
}

#[test]
fn frames_that_may_not_be_end_the_connection() {
    let ping = |length: usize| frame(PING, 0, 0, &vec![0; length]);
    for (bytes, why) in [
        // Of a wrong length.
        (ping(7), "FRAME_SIZE_ERROR"),
        (ping(9), "FRAME_SIZE_ERROR"),
        (frame(SETTINGS, 0, 0, b"12345"), "FRAME_SIZE_ERROR"),
        (frame(SETTINGS, ACK, 0, b"123456"), "FRAME_SIZE_ERROR"),
        (frame(RESET, 0, 1, b"123"), "FRAME_SIZE_ERROR"),
        (frame(RESET, 0, 1, b"12345"), "FRAME_SIZE_ERROR"),
        (frame(UPDATE, 0, 0, b"123"), "FRAME_SIZE_ERROR"),
        (frame(UPDATE, 0, 1, b"12345"), "FRAME_SIZE_ERROR"),
        (frame(GOAWAY, 0, 0, b"1234567"), "FRAME_SIZE_ERROR"),
        (frame(DATA, 0, 1, &[0; 16_385]), "FRAME_SIZE_ERROR"),
        (frame(77, 0, 1, &[0; 16_385]), "FRAME_SIZE_ERROR"),
        // Of no stream, of one that was never opened, and of the server's.
        (frame(DATA, 0, 0, b"1"), "PROTOCOL_ERROR"),
        (frame(DATA, 0, 5, b"1"), "PROTOCOL_ERROR"),
        (frame(DATA, 0, 2, b"1"), "PROTOCOL_ERROR"),
        (frame(HEADERS, END_HEADERS, 0, OKAY), "PROTOCOL_ERROR"),
        (frame(HEADERS, END_HEADERS, 5, OKAY), "PROTOCOL_ERROR"),
        (frame(HEADERS, END_HEADERS, 2, OKAY), "PROTOCOL_ERROR"),
        (frame(PRIORITY, 0, 0, b"12345"), "PROTOCOL_ERROR"),
        (reset(0, 0), "PROTOCOL_ERROR"),
        (reset(5, 0), "PROTOCOL_ERROR"),
        (reset(2, 0), "PROTOCOL_ERROR"),
        (update(5, 1), "PROTOCOL_ERROR"),
        (update(2, 1), "PROTOCOL_ERROR"),
        // Of one where they are the connection's.
        (frame(SETTINGS, 0, 1, b""), "PROTOCOL_ERROR"),
        (frame(PING, 0, 1, &[0; 8]), "PROTOCOL_ERROR"),
        (frame(GOAWAY, 0, 1, &[0; 8]), "PROTOCOL_ERROR"),
        // Settings that may not be.
        (settings(&[(2, 1)]), "PROTOCOL_ERROR"),
        (settings(&[(5, 16_383)]), "PROTOCOL_ERROR"),
        (settings(&[(5, 1 << 24)]), "PROTOCOL_ERROR"),
        // Pushed answers, which we forbid.
        (frame(PUSH, END_HEADERS, 1, &[0, 0, 0, 2, 0x88]), "PROTOCOL_ERROR"),
        // More padding than frame.
        (frame(DATA, PADDED, 1, &[5, 1, 2, 3, 4]), "PROTOCOL_ERROR"),
        (frame(HEADERS, PADDED | END_HEADERS, 3, &[2, 0x88]), "PROTOCOL_ERROR"),
        (frame(HEADERS, PADDED | END_HEADERS, 3, b""), "PROTOCOL_ERROR"),
        (frame(HEADERS, PRIORITIZED | END_HEADERS, 3, &[0; 4]), "PROTOCOL_ERROR"),
        // A section that goes on and has not begun, and ones that others come into.
        (frame(CONTINUATION, END_HEADERS, 3, OKAY), "PROTOCOL_ERROR"),
        ([frame(HEADERS, 0, 3, OKAY), frame(PING, 0, 0, &[0; 8])].concat(), "PROTOCOL_ERROR"),
        ([frame(HEADERS, 0, 3, OKAY), frame(77, 0, 0, b"")].concat(), "PROTOCOL_ERROR"),
        ([frame(HEADERS, 0, 3, OKAY), frame(DATA, 0, 1, b"1")].concat(), "PROTOCOL_ERROR"),
        ([frame(HEADERS, 0, 3, OKAY), frame(CONTINUATION, END_HEADERS, 1, b"")].concat(), "PROTOCOL_ERROR"),
        ([frame(HEADERS, 0, 3, OKAY), frame(HEADERS, END_HEADERS, 3, b"")].concat(), "PROTOCOL_ERROR"),
        // Sections that can't be read, also of a stream that has gone.
        (frame(HEADERS, END_HEADERS, 3, &[0xff]), "COMPRESSION_ERROR"),
        ([reset(3, 0), frame(HEADERS, END_HEADERS, 3, &[0xbe])].concat(), "COMPRESSION_ERROR"),
    ] {
        let (heard, server, mut streams) = said(&bytes);
        assert_eq!(heard, [format!("GOAWAY {why}")], "{:02x?}", &bytes[..bytes.len().min(30)]);
        let session = server.session.borrow();
        assert!(session.is_ended() && session.is_through() && session.is_going());
        drop(session);
        // What has come stays.
        let [first, second] = &mut streams;
        assert_eq!(status(first), Ok(200));
        for why in [body(first).1, Poll::Ready(status(second).map(drop))] {
            // But for the stream that was reset before.
            let Poll::Ready(Err(Ended::Malformed(_) | Ended::Reset(_))) = why else { panic!("{why:?}") };
        }
        assert!(matches!(server.vacancy(Waker::noop()), Poll::Ready(Err(Ended::Malformed(_)))));
    }
}

#[test]
fn frames_that_mean_nothing_are_left_out() {
    for bytes in [
        frame(77, 0xff, 0, b"something"),
        frame(77, 0xff, 1, &[0; 16_384]),
        frame(77, 0xff, 99, b""),
        frame(PRIORITY, 0, 1, b"12345"),
        frame(PRIORITY, 0, 99, b"12345"),
        frame(SETTINGS, ACK, 0, b""),
        frame(PING, ACK, 0, b"12345678"),
        frame(DATA, 0xf6, 1, b""),
        // A bit that is to be ignored.
        update(1 | 1 << 31, 1 << 31 | 1),
    ] {
        let (heard, server, mut streams) = said(&bytes);
        assert!(heard.is_empty(), "{heard:?}");
        assert!(!server.session.borrow().is_going());
        assert_eq!(status(&mut streams[0]), Ok(200));
        assert_eq!(body(&mut streams[0]), (vec![], Poll::Pending));
    }
}

#[test]
fn one_stream_ends_where_a_frame_may_not_be_there() {
    for (bytes, why) in [
        (frame(PRIORITY, 0, 1, b"1234"), "FRAME_SIZE_ERROR"),
        (update(1, 0), "PROTOCOL_ERROR"),
        (frame(HEADERS, END_HEADERS, 1, OKAY), "PROTOCOL_ERROR"),
    ] {
        let (heard, mut server, mut streams) = said(&bytes);
        assert_eq!(heard, [format!("RST_STREAM 1 {why}")]);
        assert_eq!(status(&mut streams[0]), Ok(200));
        assert!(matches!(body(&mut streams[0]).1, Poll::Ready(Err(Ended::Malformed(_)))));
        server.answers(3, OK, true);
        assert_eq!(status(&mut streams[1]), Ok(200));
        drop(streams);
        assert!(server.heard().is_empty(), "it is not reset twice");
    }
}

#[test]
fn what_the_peer_asks_is_answered_and_what_we_ask_is_asked_once() {
    let mut server = Server::new();
    server.says(&frame(PING, 0, 0, b"are you?"));
    server.says(&settings(&[(99, 1), (1, 0)]));
    assert_eq!(server.heard(), ["PING ACK are you?", "SETTINGS ACK"]);
    for _ in 0..2 {
        server.session.borrow_mut().ping();
        server.session.borrow_mut().ping();
        assert_eq!(server.heard(), ["PING sidetrck"]);
        server.says(&frame(PING, ACK, 0, b"sidetrck"));
    }
}

#[test]
fn a_section_may_come_in_pieces_and_padded() {
    let text = "x".repeat(40);
    for pieces in 1..=40 {
        let mut server = Server::new();
        let mut stream = server.opened(true);
        let section = server.section(&[(":status", "204"), ("x-a", &text)]);
        let size = section.len().div_ceil(pieces);
        let chunks: Vec<_> = section.chunks(size).collect();
        for (at, chunk) in chunks.iter().enumerate() {
            let end = if at + 1 == chunks.len() { END_HEADERS } else { 0 };
            let bytes = match at {
                0 => {
                    // Three octets of padding, and a priority.
                    let payload = [&[3, 0, 0, 0, 0, 0], *chunk, &[0; 3]].concat();
                    frame(HEADERS, PADDED | PRIORITIZED | END_STREAM | end, 1, &payload)
                }
                _ => frame(CONTINUATION, end, 1, chunk),
            };
            assert!(stream.poll_answer(&noop()).is_pending());
            server.says(&bytes);
        }
        let Poll::Ready(Ok((status, fields))) = stream.poll_answer(&noop()) else { panic!("{pieces}") };
        assert_eq!((status.as_u16(), fields.text("x-a")), (204, Some(&*text)));
        assert!(stream.is_ended());
    }
}

#[test]
fn a_section_has_bounds() {
    let begin = frame(HEADERS, 0, 1, OKAY);
    let empty = frame(CONTINUATION, 0, 1, b"");
    let full = frame(CONTINUATION, 0, 1, &[0x88; 16_384]);
    for piece in [empty, full] {
        let mut server = Server::new();
        let _stream = server.opened(true);
        server.says(&begin);
        let mut pieces = 0;
        while !server.session.borrow().is_ended() {
            server.says(&piece);
            pieces += 1;
            assert!(pieces < 100);
        }
        assert_eq!(server.heard(), ["GOAWAY ENHANCE_YOUR_CALM"]);
    }
    // A line of four thousand octets, and many octets that each stand for it: the stream ends, the tables stay the same.
    let mut server = Server::new();
    let mut streams = [server.opened(true), server.opened(true)];
    let large = "x".repeat(2_000);
    let mut section = server.section(&[(":status", "200"), ("x-bomb", &large)]);
    section.extend_from_slice(&[0xbe; 10_000]);
    server.says(&frame(HEADERS, END_HEADERS, 1, &section));
    assert_eq!(server.heard(), ["RST_STREAM 1 PROTOCOL_ERROR"]);
    assert!(matches!(status(&mut streams[0]), Err(Ended::Malformed(_))));
    server.answers(3, &[(":status", "200"), ("x-bomb", &large)], true);
    let Poll::Ready(Ok((_, fields))) = streams[1].poll_answer(&noop()) else { panic!("no answer") };
    assert_eq!(fields.text("x-bomb"), Some(&*large));
}

#[test]
fn heads_may_have_64_kib_and_no_more() {
    // Each line counts 32 octets beside its own.
    let status_line = 7 + 3 + 32;
    for (more, is_good) in [(0, true), (1, false)] {
        let mut server = Server::new();
        let mut stream = server.opened(true);
        let value = "x".repeat((64 << 10) - status_line - (3 + 32) + more);
        let section = server.section(&[(":status", "200"), ("x-a", &value)]);
        assert!(section.len() <= 64 << 10);
        let chunks: Vec<_> = section.chunks(16_384).collect();
        for (at, chunk) in chunks.iter().enumerate() {
            let end = if at + 1 == chunks.len() { END_HEADERS } else { 0 };
            server.says(&frame(if at == 0 { HEADERS } else { CONTINUATION }, end, 1, chunk));
        }
        assert_eq!(status(&mut stream).is_ok(), is_good);
        assert!(!server.session.borrow().is_ended());
    }
}

#[test]
fn streams_that_a_peer_that_goes_does_not_answer_have_left() {
    let mut server = Server::new();
    let mut streams = [server.opened(true), server.opened(true), server.opened(false)];
    server.answers(5, OK, false);
    let (count, waker) = counted();
    assert!(streams[1].poll_answer(&Context::from_waker(&waker)).is_pending());
    // All of those that are under way are answered; nothing else begins.
    server.says(&go_away(0x7fff_ffff, 0));
    assert_eq!(count.take(), 0);
    assert!(server.session.borrow().is_going() && !server.session.borrow().is_through());
    assert!(matches!(server.vacancy(Waker::noop()), Poll::Ready(Err(Ended::Left(_)))));
    // And then those above the first are not.
    server.says(&go_away(1, 11));
    assert_eq!(count.take(), 1);
    let left = Ended::Left(h2::Reason::ENHANCE_YOUR_CALM);
    assert_eq!(status(&mut streams[1]), Err(left));
    assert_eq!(room(&streams[2]), Poll::Ready(None));
    assert_eq!(status(&mut streams[2]), Ok(200), "what came stays");
    assert_eq!(body(&mut streams[2]).1, Poll::Ready(Err(left)));
    server.answers(1, OK, false);
    server.body(1, b"all of it", true);
    assert_eq!(status(&mut streams[0]), Ok(200));
    assert_eq!(body(&mut streams[0]), (b"all of it".to_vec(), Poll::Ready(Ok(()))));
    assert!(server.session.borrow().is_through());
    server.session.borrow_mut().leave_peer();
    drop(streams);
    assert_eq!(server.heard(), ["GOAWAY NO_ERROR"]);
}

#[test]
fn a_retired_connection_ends_with_its_last_stream() {
    let mut server = Server::new();
    let (count, waker) = counted();
    let stream = server.opened(true);
    let mut written = Vec::new();
    let mut look = |session: &mut Session| {
        assert!(session.out.poll_write(&mut written, &mut Context::from_waker(&waker)).is_ready());
        count.take()
    };
    look(&mut server.session.borrow_mut());
    server.session.borrow_mut().retire();
    assert_eq!(look(&mut server.session.borrow_mut()), 1);
    assert!(!server.session.borrow().is_through());
    drop(stream);
    assert_eq!(look(&mut server.session.borrow_mut()), 1, "who writes is told");
    assert!(server.session.borrow().is_through() && !server.session.borrow().is_ended());
}

#[test]
fn a_connection_that_closes_ends_all_that_waits() {
    let mut server = Server::with(&[(3, 2)]);
    let ((one, first), (two, second), (three, third)) = (counted(), counted(), counted());
    let (mut reader, writer) = (server.opened(true), server.opened(false));
    assert!(reader.poll_answer(&Context::from_waker(&first)).is_pending());
    writer.send(&[0; 65_535], false);
    assert!(writer.poll_room(&mut Context::from_waker(&second)).is_pending());
    assert!(server.vacancy(&third).is_pending());
    let why = std::io::ErrorKind::UnexpectedEof;
    server.session.borrow_mut().close(why);
    assert_eq!((one.take(), two.take(), three.take()), (1, 1, 1));
    assert_eq!(status(&mut reader), Err(Ended::Closed(why)));
    assert_eq!(room(&writer), Poll::Ready(None));
    assert_eq!(server.vacancy(&third), Poll::Ready(Err(Ended::Closed(why))));
    server.session.borrow_mut().close(std::io::ErrorKind::TimedOut);
    server.session.borrow_mut().leave_peer();
    assert_eq!(status(&mut reader), Err(Ended::Closed(why)), "the first reason counts");
}
