use super::super::frame::{PADDED, PAYLOAD};
use super::super::{CONNECTION_WINDOW, STREAM_WINDOW, STREAMS};
use super::*;

const OK: &[(&str, &str)] = &[(":status", "200")];

#[test]
fn who_waits_for_a_stream_is_woken_when_there_is_room() {
    let mut server = Server::with(&[(3, 0)]);
    let ((one, first), (two, second)) = (counted(), counted());
    assert!(server.vacancy(&first).is_pending());
    assert!(server.vacancy(&second).is_pending());
    server.says(&settings(&[(3, 1)]));
    assert_eq!((one.take(), two.take()), (1, 1));
    assert_eq!(server.heard(), ["SETTINGS ACK"]);
    assert_eq!(server.vacancy(&first), Poll::Ready(Ok(())));
    let mut stream = server.opened(true);
    assert!(server.vacancy(&second).is_pending(), "the other one has it");
    server.answers(1, OK, true);
    assert!(two.take() > 0);
    assert_eq!(server.vacancy(&second), Poll::Ready(Ok(())));
    assert_eq!(status(&mut stream), Ok(200));
    let given_up = server.opened(true);
    assert!(server.vacancy(&first).is_pending());
    drop(given_up);
    assert!(one.take() > 0);
    // Whoever waits also hears that nothing will come.
    server.says(&settings(&[(3, 0)]));
    assert!(server.vacancy(&first).is_pending());
    one.take();
    server.says(&go_away(3, 0));
    assert!(one.take() > 0);
    assert_eq!(server.vacancy(&first), Poll::Ready(Err(Ended::Left(h2::Reason::NO_ERROR))));
}

#[test]
fn who_gives_up_waiting_for_a_stream_is_forgotten() {
    let server = Server::with(&[(3, 0)]);
    let (last, patient) = counted();
    assert!(server.vacancy(&patient).is_pending());
    let gone: Vec<_> = (0..1_000)
        .map(|_| {
            let (count, waker) = counted();
            for _ in 0..10 {
                assert!(server.vacancy(&waker).is_pending());
            }
            drop(waker);
            if last.take() > 0 {
                assert!(server.vacancy(&patient).is_pending());
            }
            count
        })
        .collect();
    let kept = gone.iter().filter(|count| Arc::strong_count(count) > 1).count();
    assert!(kept <= 2 * STREAMS, "{kept}");
    server.session.borrow_mut().close(std::io::ErrorKind::TimedOut);
    assert_eq!(last.take(), 1);
}

#[test]
fn a_body_goes_out_as_the_windows_of_stream_and_connection_open() {
    let mut server = Server::with(&[(4, 10)]);
    let stream = server.opened(false);
    let (count, waker) = counted();
    let room = |stream: &Stream| stream.poll_room(&mut Context::from_waker(&waker));
    assert_eq!(room(&stream), Poll::Ready(Some(10)));
    stream.send(&[0; 10], false);
    for (said, opens) in [
        (update(1, 5), Some(5)),
        // Of another size from the beginning, which may be less than was sent (RFC 9113 section 6.9.2).
        (settings(&[(4, 40)]), Some(30)),
        (settings(&[(4, 0)]), None),
        (update(1, 10), None),
        (update(1, 31), Some(1)),
        // The connection's allows 65,535 octets at first.
        (update(1, 1 << 20), Some(65_535 - 46)),
        (update(1, 7), None),
        (update(0, 9), Some(9)),
    ] {
        assert!(room(&stream).is_pending());
        count.take();
        server.says(&said);
        match opens {
            Some(most) => {
                assert!(count.take() > 0, "{said:?}");
                assert_eq!(room(&stream), Poll::Ready(Some(most)), "{said:?}");
                stream.send(&vec![0; most], false);
                server.write();
            }
            None => assert!(room(&stream).is_pending(), "{said:?}"),
        }
    }
    stream.send(&[], true);
    assert_eq!(server.heard().pop().unwrap(), "DATA 1 0 END", "which needs no window");
    assert_eq!(room(&stream), Poll::Ready(None));
    stream.send(b"more", false);
    assert!(server.heard().is_empty());
}

#[test]
fn a_window_is_never_larger_than_any_may_be() {
    let most = 0x7fff_ffff;
    for (said, heard) in [
        (settings(&[(4, most + 1)]), "GOAWAY FLOW_CONTROL_ERROR"),
        ([update(1, 1), settings(&[(4, most)])].concat(), "GOAWAY FLOW_CONTROL_ERROR"),
        (update(0, most - 65_534), "GOAWAY FLOW_CONTROL_ERROR"),
        (update(1, most - 65_534), "RST_STREAM 1 FLOW_CONTROL_ERROR"),
        (update(0, 0), "GOAWAY PROTOCOL_ERROR"),
        (update(1, 0), "RST_STREAM 1 PROTOCOL_ERROR"),
        ([update(0, most - 65_535), update(1, most - 65_535)].concat(), ""),
        (settings(&[(4, most), (4, 0), (4, most)]), "SETTINGS ACK"),
    ] {
        let mut server = Server::new();
        let _stream = server.opened(false);
        server.says(&said);
        assert_eq!(server.heard().join("|"), heard, "{said:?}");
    }
}

#[test]
fn settings_that_go_to_and_fro_move_the_windows_once() {
    let mut server = Server::new();
    let stream = server.opened(false);
    let (count, waker) = counted();
    server.session.borrow_mut().receive(&settings(&[(4, 0)]));
    assert!(stream.poll_room(&mut Context::from_waker(&waker)).is_pending());
    count.take();
    let list: Vec<(u16, u32)> = (0..2_000).map(|at| (4, at % 7)).chain([(4, 9)]).collect();
    server.says(&settings(&list));
    assert_eq!(count.take(), 1);
    assert_eq!(room(&stream), Poll::Ready(Some(9)));
}

#[test]
fn frames_are_no_longer_than_the_peer_takes() {
    for (most, pieces) in [(16_384, vec![16_384, 16_384, 7_232]), (20_000, vec![20_000, 20_000])] {
        let mut server = Server::with(&[(5, most)]);
        let stream = server.opened(false);
        assert_eq!(room(&stream), Poll::Ready(Some(65_535)));
        stream.send(&[0; 40_000], true);
        let last = pieces.len() - 1;
        let sent: Vec<_> = pieces
            .iter()
            .enumerate()
            .map(|(at, length)| format!("DATA 1 {length}{}", if at == last { " END" } else { "" }))
            .collect();
        assert_eq!(server.heard(), sent);
    }
    // A section: as long as the name of the path and its length are, 16,384 octets and one more.
    for (length, sent) in [
        (16_380, vec!["HEADERS 1"]),
        (16_381, vec!["HEADERS 1 16384.. END", "CONTINUATION 1 1"]),
        (40_000, vec!["HEADERS 1 16384.. END", "CONTINUATION 1 16384..", "CONTINUATION 1 7237"]),
    ] {
        let mut server = Server::new();
        let _stream = server.open(true, &[(":path", &"x".repeat(length))]);
        let heard = server.heard();
        assert!(heard.len() == sent.len(), "{length} {:?}", &heard[1..]);
        assert!(heard.iter().zip(&sent).all(|(heard, sent)| heard.starts_with(sent)), "{length}");
    }
}

/// Someone who sends as much of a body as the peer takes, when woken.
struct Sender {
    id: u32,
    stream: Option<Stream>,
    left: usize,
    sent: usize,
    count: Arc<Count>,
    waker: Waker,
}

impl Sender {
    fn new(server: &mut Server, id: u32, left: usize) -> Self {
        let (count, waker) = counted();
        waker.wake_by_ref();
        Self { id, stream: Some(server.opened(false)), left, sent: 0, count, waker }
    }

    /// Does what a task does that was woken; whether it was.
    fn run(&mut self) -> bool {
        let is_woken = self.count.take() > 0;
        let Some(stream) = self.stream.as_ref().filter(|_| is_woken) else { return false };
        while self.left > 0 {
            let Poll::Ready(room) = stream.poll_room(&mut Context::from_waker(&self.waker)) else { break };
            let Some(room) = room else {
                self.left = 0;
                break;
            };
            assert!(room > 0);
            // As the pieces are that come from a client.
            let count = room.min(self.left).min(16_384);
            self.left -= count;
            self.sent += count;
            stream.send(&vec![0; count], self.left == 0);
        }
        true
    }
}

/// Runs who is woken until nobody is, and writes what waits.
fn run(server: &mut Server, senders: &mut [Sender]) {
    for _ in 0..10_000 {
        // Not always in the same order.
        senders.rotate_left(1);
        let woken = senders.iter_mut().fold(false, |woken, sender| sender.run() | woken);
        let waits = !server.session.borrow().out.bytes.is_empty();
        // Who writes is woken where something waits, and only then.
        if waits {
            server.write();
            server.sent.clear();
        }
        if !woken && !waits {
            return;
        }
    }
    panic!("it never ends");
}

#[test]
fn bodies_share_what_the_peer_takes() {
    for (count, step) in [(2, 1_000), (2, 20_000), (3, 40_000), (3, 65_535), (5, 200_000)] {
        let mut server = Server::with(&[(4, 1 << 30)]);
        let mut senders: Vec<_> =
            (0..count).map(|at| Sender::new(&mut server, 2 * at + 1, 2_000_000)).collect();
        let mut rounds = 0;
        while senders.iter().any(|sender| sender.left > 0) {
            run(&mut server, &mut senders);
            let busy: Vec<_> =
                senders.iter().filter(|sender| sender.left > 0).map(|sender| sender.sent).collect();
            if let (Some(least), Some(most)) = (busy.iter().min(), busy.iter().max())
                && busy.len() == senders.len()
            {
                // Who finds nobody there has all that there is; each may be a turn ahead.
                assert!(most - least <= 2 * 65_535 + PAYLOAD, "{count} {step} {rounds}: {busy:?}");
            }
            rounds += 1;
            assert!(rounds < 10_000, "{count} {step}: {busy:?}");
            server.says(&update(0, step));
        }
    }
}

#[test]
fn a_turn_that_is_not_taken_is_passed_on() {
    // The first has its turn, and then it goes, or is sent away, or may not send any more.
    for ending in ["drop", "reset", "refuse", "go", "shrink", "data", "priority"] {
        let mut server = Server::with(&[(4, 1 << 20)]);
        let mut senders: Vec<_> = (0..3).map(|at| Sender::new(&mut server, 2 * at + 1, 100_000)).collect();
        senders.rotate_right(1);
        run(&mut server, &mut senders);
        // All wait, since the connection's window is used up; the one who waits longest is let in.
        server.says(&update(0, 1 << 20));
        let at = senders.iter().position(|sender| sender.count.0.load(Ordering::Relaxed) > 0).unwrap();
        let id = senders[at].id;
        assert_eq!(senders[at].sent, 65_535);
        match ending {
            "drop" => drop(senders[at].stream.take()),
            "reset" => server.says(&reset(id, 8)),
            "refuse" => server.says(&update(id, 0)),
            "data" => server.body(id, b"before its head", false),
            "priority" => server.says(&frame(PRIORITY, 0, id, b"1234")),
            "shrink" => {
                server.says(&settings(&[(4, 30_000)]));
                server.write();
                // It finds that it has sent more than it may by now; the others have not.
                assert!(senders[at].run());
                assert_eq!(senders[at].sent, 65_535);
            }
            _ => server.says(&go_away(id - 1, 0)),
        }
        let mut gone = senders.remove(at);
        // It is not looked at any more, and nothing else comes.
        run(&mut server, &mut senders);
        let sent: Vec<_> = senders.iter().map(|sender| sender.sent).collect();
        let wanted = match ending {
            "shrink" => [30_000; 2],
            "go" => [0; 2],
            _ => [100_000; 2],
        };
        assert_eq!(sent, wanted, "{ending}");
        assert_eq!(gone.run(), ending != "drop" && ending != "shrink", "{ending}: who waits is told");
    }
}

#[test]
fn who_gives_up_waiting_for_room_is_forgotten() {
    let server = Server::with(&[(4, 1 << 30)]);
    let open = || server.session.borrow_mut().open(false, false, |_, _| {});
    let (id, first) = open();
    server.session.borrow_mut().data(id, &first, &[0; 65_535], false);
    for _ in 0..100 {
        let (id, state) = open();
        assert!(server.session.borrow_mut().poll_room(&state, &mut noop()).is_pending());
        server.session.borrow_mut().leave(id, &state, 0);
        assert_eq!(Rc::strong_count(&state), 1);
    }
}

#[test]
fn the_peer_is_told_of_what_was_used_once_that_is_half() {
    let mut server = Server::new();
    let mut stream = server.opened(true);
    server.answers(1, OK, false);
    for _ in 0..4 {
        server.body(1, &[0; 16_384], false);
    }
    assert_eq!(server.heard(), Vec::<String>::new());
    assert!(stream.poll_data(&noop()).is_ready());
    stream.split(32_767);
    assert_eq!(server.heard(), Vec::<String>::new());
    stream.split(1);
    assert_eq!(server.heard(), ["WINDOW_UPDATE 1 +32768"], "the connection's is larger");
    server.body(1, &[0; 16_384], false);
    server.body(1, &[0; 16_384], false);
    server.body(1, &[0; 1], false);
    assert_eq!(server.heard(), ["RST_STREAM 1 FLOW_CONTROL_ERROR"]);
    assert_eq!(body(&mut stream).0.len(), 65_536, "what came before stays");
}

#[test]
fn a_peer_that_sends_more_than_the_windows_together_is_refused() {
    let mut server = Server::new();
    // Streams that nobody reads and that are reset, so that only the connection's window bounds them.
    let streams: Vec<_> = (0..=STREAMS as u32).map(|_| server.opened(true)).collect();
    for id in (0..=STREAMS as u32).map(|at| 2 * at + 1) {
        server.answers(id, OK, false);
        for _ in 0..4 {
            server.body(id, &[0; 16_384], false);
        }
    }
    assert_eq!(server.heard(), Vec::<String>::new());
    server.body(1, b"1", false);
    assert_eq!(server.heard(), ["GOAWAY FLOW_CONTROL_ERROR"]);
    drop(streams);
}

#[test]
fn answers_that_nobody_reads_leave_room_for_those_that_somebody_does() {
    let mut server = Server::new();
    let mut window = i64::from(CONNECTION_WINDOW);
    let mut streams: Vec<_> = (0..STREAMS).map(|_| server.opened(true)).collect();
    for id in (1..STREAMS as u32).map(|at| 2 * at + 1) {
        server.answers(id, OK, false);
        for _ in 0..4 {
            server.body(id, &[0; 16_384], false);
            window -= 16_384;
        }
    }
    server.answers(1, OK, false);
    let stream = &mut streams[0];
    for round in 0..1_000 {
        assert!(window >= 16_384, "{window} in round {round}");
        server.body(1, &[0; 16_384], false);
        window -= 16_384;
        assert_eq!(body(stream).0.len(), 16_384);
        window += opened(&server.heard());
    }
}

/// How far the connection's window was opened.
fn opened(heard: &[String]) -> i64 {
    heard
        .iter()
        .filter_map(|said| said.strip_prefix("WINDOW_UPDATE 0 +"))
        .map(|more| more.parse::<i64>().unwrap())
        .sum()
}

#[test]
fn what_nobody_reads_is_given_back() {
    let mut server = Server::new();
    let mut window = i64::from(CONNECTION_WINDOW);
    let padded = [&[255][..], &[b'x'; 1_000], &[0; 255]].concat();
    for turn in 0..20_000_u32 {
        let id = 2 * turn + 1;
        let mut stream = server.open(true, &[]);
        server.answers(id, OK, false);
        let mut say = |server: &mut Server, flags: u8| {
            window -= padded.len() as i64;
            assert!(window >= 0, "{turn}");
            server.says(&frame(DATA, PADDED | flags, id, &padded));
        };
        let last = if turn % 2 == 0 { END_STREAM } else { 0 };
        match turn % 7 {
            // Dropped before it comes, unread, taken and not used, used in part, reset by the peer, and broken off by us.
            0 => {
                drop(stream);
                say(&mut server, last);
            }
            1 => {
                say(&mut server, last);
                drop(stream);
            }
            2 => {
                say(&mut server, 0);
                assert!(stream.poll_data(&noop()).is_ready());
                say(&mut server, last);
                drop(stream);
            }
            3 => {
                say(&mut server, last);
                assert!(stream.poll_data(&noop()).is_ready());
                stream.split(10);
                drop(stream);
                say(&mut server, 0);
            }
            4 => {
                say(&mut server, 0);
                server.says(&reset(id, 8));
                assert_eq!(body(&mut stream).0.len(), 1_000);
                say(&mut server, 0);
            }
            5 => {
                say(&mut server, 0);
                server.answers(id, OK, false);
                say(&mut server, 0);
            }
            _ => {
                // Dropped while it comes.
                let bytes = frame(DATA, PADDED | last, id, &padded);
                window -= padded.len() as i64;
                server.says(&bytes[..300]);
                drop(stream);
                server.says(&bytes[300..]);
            }
        }
        window += opened(&server.heard());
    }
    assert!(!server.session.borrow().is_ended());
    // No more is missing than the peer is told of at once.
    assert!(window > i64::from(CONNECTION_WINDOW / 2 - STREAM_WINDOW), "{window}");
}
