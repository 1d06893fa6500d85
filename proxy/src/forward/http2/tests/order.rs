use super::super::CONNECTION_WINDOW;
use super::super::frame::PADDED;
use super::*;

/// Numbers that look random, the same ones from each seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

/// A stream, and whether whoever has it does something only when woken.
struct User {
    id: u32,
    stream: Stream,
    count: Arc<Count>,
    waker: Waker,
    left: usize,
}

impl User {
    /// What a task does that was woken: it sends what may be sent, and uses what came.
    fn run(&mut self) {
        if self.count.take() == 0 {
            return;
        }
        let mut cx = Context::from_waker(&self.waker);
        while self.left > 0
            && let Poll::Ready(room) = self.stream.poll_room(&mut cx)
        {
            let Some(room) = room else {
                self.left = 0;
                break;
            };
            let count = room.min(self.left).min(5_000);
            self.left -= count;
            self.stream.send(&vec![0; count], self.left == 0);
        }
        while let Poll::Ready(Ok(_)) = self.stream.poll_answer(&cx) {}
        while let Poll::Ready(Ok(1..)) = self.stream.poll_data(&cx) {
            self.stream.split(700);
        }
    }
}

#[test]
fn whatever_the_order_nothing_panics_leaks_or_is_forgotten() {
    for seed in 1..300_u64 {
        let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut server = Server::new();
        let mut users: Vec<User> = Vec::new();
        let (mut next, mut window) = (1, i64::from(CONNECTION_WINDOW));
        // What the peer takes of bodies.
        let mut takes = 65_535_i64;
        for _ in 0..300 {
            let at = numbers.below(users.len().max(1) as u64) as usize;
            let id = 2 * numbers.below(u64::from(next / 2).max(1)) as u32 + 1;
            let is_last = numbers.below(4) == 0;
            match numbers.below(12) {
                0 | 1 if users.len() < 8 => {
                    let left = numbers.below(3) as usize * 30_000;
                    let stream = server.open(left == 0, &[(":path", "/")]);
                    let (count, waker) = counted();
                    waker.wake_by_ref();
                    users.push(User { id: next, stream, count, waker, left });
                    next += 2;
                }
                2 if !users.is_empty() => drop(users.swap_remove(at)),
                3 if next > 1 => server.answers(id, &[(":status", "200"), ("x-a", "same")], is_last),
                4 if next > 1 => server.answers(id, &[(":status", "103")], false),
                5 if next > 1 && window > 2_000 => {
                    let data = [&[100][..], &vec![0; 100 + numbers.below(1_000) as usize]].concat();
                    window -= data.len() as i64;
                    let end = if is_last { END_STREAM } else { 0 };
                    server.says(&frame(DATA, PADDED | end, id, &data));
                }
                6 if next > 1 && is_last => server.says(&reset(id, 8)),
                7 if next > 1 => server.says(&update(id, 1 + numbers.below(9_000) as u32)),
                8 => {
                    let more = 1 + numbers.below(20_000) as u32;
                    takes += i64::from(more);
                    server.says(&update(0, more));
                }
                9 => server.says(&settings(&[(4, numbers.below(70_000) as u32)])),
                10 => {
                    for said in server.heard() {
                        window += opened(&said);
                        takes -= sent(&said);
                    }
                }
                _ => users.iter_mut().for_each(User::run),
            }
            assert!(takes >= 0 && !server.session.borrow().is_ended(), "{seed}");
        }
        // In the end there is room for all that is sent, and whoever was woken for it has sent it.
        server.says(&settings(&[(4, 1 << 20)]));
        server.says(&update(0, 1 << 24));
        takes += 1 << 24;
        for _ in 0..100 {
            users.iter_mut().for_each(User::run);
            for said in server.heard() {
                window += opened(&said);
                takes -= sent(&said);
            }
        }
        assert!(takes >= 0, "{seed}");
        assert!(users.iter().all(|user| user.left == 0), "{seed}: {:?}", {
            users.iter().map(|user| (user.id, user.left)).collect::<Vec<_>>()
        });
        drop(users);
        window += server.heard().iter().map(|said| opened(said)).sum::<i64>();
        assert!(
            window <= i64::from(CONNECTION_WINDOW) && window > i64::from(CONNECTION_WINDOW / 2),
            "{seed}"
        );
        server.says(&go_away(0, 0));
        assert!(server.session.borrow().is_through(), "{seed}: a stream is left");
    }
}

/// How far the connection's window was opened.
fn opened(said: &str) -> i64 {
    said.strip_prefix("WINDOW_UPDATE 0 +").map_or(0, |more| more.parse().unwrap())
}

/// Octets of a body that were sent.
fn sent(said: &str) -> i64 {
    let Some(rest) = said.strip_prefix("DATA ") else { return 0 };
    rest.split(' ').nth(1).unwrap().parse().unwrap()
}
