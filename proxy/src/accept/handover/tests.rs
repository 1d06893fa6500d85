//! Handing over between threads of one process: each side has its own descriptors, as two processes would.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::{Taken, serve, take};
use crate::accept::listen;

const SOON: Duration = Duration::from_secs(10);

fn bind(count: usize) -> (SocketAddr, Vec<TcpListener>) {
    let sockets = listen::bind("127.0.0.1:0".parse().unwrap(), count).unwrap();
    (sockets[0].local_addr().unwrap(), sockets)
}

/// Keeps the door of `address` on a thread of its own; ends when a successor was ready.
fn keep(address: SocketAddr, sockets: &[TcpListener]) -> JoinHandle<()> {
    let sockets = sockets.iter().map(|socket| socket.try_clone().unwrap()).collect();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime
            .block_on(async { tokio::time::timeout(SOON, serve(address, sockets)).await.unwrap().unwrap() });
    })
}

fn eventually<T>(mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        match probe() {
            Some(found) => return found,
            None if Instant::now() < deadline => thread::sleep(Duration::from_millis(1)),
            None => panic!("did not happen in time"),
        }
    }
}

fn taken(address: SocketAddr) -> Taken {
    eventually(|| take(address).unwrap())
}

fn accept(listeners: &[TcpListener]) -> TcpStream {
    let stream = eventually(|| listeners.iter().find_map(|listener| listener.accept().ok())).0;
    stream.set_nonblocking(false).unwrap();
    stream
}

#[test]
fn a_connection_in_the_queue_moves_with_its_socket() {
    let (address, old) = bind(2);
    let door = keep(address, &old);
    let mut waiting: Vec<_> = (0..8).map(|_| TcpStream::connect(address).unwrap()).collect();

    let successor = taken(address);
    assert_eq!(successor.listeners.len(), 2);
    let listeners: Vec<_> = successor.listeners.iter().map(|socket| socket.try_clone().unwrap()).collect();
    assert!(!door.is_finished(), "it goes on until the successor is ready");
    successor.ready();
    door.join().unwrap();
    drop(old);

    for client in &mut waiting {
        client.set_read_timeout(Some(SOON)).unwrap();
        accept(&listeners).write_all(b"!").unwrap();
    }
    for mut client in waiting {
        let mut said = Vec::new();
        client.read_to_end(&mut said).unwrap();
        assert_eq!(said, b"!");
    }
}

#[test]
fn a_successor_that_dies_early_changes_nothing() {
    let (address, old) = bind(1);
    let door = keep(address, &old);
    for _ in 0..20 {
        drop(taken(address));
    }
    assert!(!door.is_finished());
    let mut client = TcpStream::connect(address).unwrap();
    accept(&old).write_all(b"!").unwrap();
    client.read_exact(&mut [0]).unwrap();
    taken(address).ready();
    door.join().unwrap();
}

#[test]
fn the_successor_opens_its_own_door_and_is_succeeded() {
    let (address, old) = bind(1);
    let mut sockets = old;
    for _ in 0..5 {
        let door = keep(address, &sockets);
        let successor = taken(address);
        let next_sockets: Vec<_> =
            successor.listeners.iter().map(|socket| socket.try_clone().unwrap()).collect();
        // Opened before the old one has let go: it waits for that.
        successor.ready();
        door.join().unwrap();
        assert!(take(address).unwrap().is_none(), "the name is free once ready() is back");
        sockets = next_sockets;
    }
}

#[test]
fn a_door_that_is_still_kept_is_waited_for() {
    let (address, old) = bind(1);
    let first = keep(address, &old);
    let successor = taken(address);
    let second = keep(address, &successor.listeners);
    successor.ready();
    first.join().unwrap();
    taken(address).ready();
    second.join().unwrap();
}

#[test]
fn more_sockets_than_one_message_holds_arrive() {
    let (address, old) = bind(1);
    let many: Vec<_> = (0..150).map(|_| old[0].try_clone().unwrap()).collect();
    let door = keep(address, &many);
    let successor = taken(address);
    assert_eq!(successor.listeners.len(), 150);
    successor.ready();
    door.join().unwrap();
}

#[test]
fn nobody_there_is_none() {
    let (address, _sockets) = bind(1);
    assert!(take(address).unwrap().is_none());
    assert!(take("127.0.0.1:0".parse().unwrap()).unwrap().is_none());
    let name = door_name(address);
    let door = UnixListener::bind_addr(&UnixAddress::from_abstract_name(name).unwrap()).unwrap();
    let leaving = thread::spawn(move || drop(door.accept().unwrap()));
    assert!(take(address).unwrap().is_none(), "a process that hangs up is leaving");
    leaving.join().unwrap();
}

fn door_name(address: SocketAddr) -> String {
    format!("sidetrack/{}/{address}", rustix::process::geteuid().as_raw())
}

/// A process that keeps the door of `address` and says `answer`.
fn impostor(address: SocketAddr, answer: &'static [u8]) -> JoinHandle<()> {
    let door =
        UnixListener::bind_addr(&UnixAddress::from_abstract_name(door_name(address)).unwrap()).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = door.accept().unwrap();
        stream.write_all(answer).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        // Until the other hangs up; a reset, because it left something unread, is as good.
        let _ = stream.read(&mut [0]);
    })
}

#[test]
fn answers_that_make_no_sense_are_errors() {
    let table: [(&[u8], io::ErrorKind, &str); 4] = [
        (&[9], io::ErrorKind::InvalidData, "of a version that hands over differently"),
        (&[1, 2], io::ErrorKind::InvalidData, "sockets were lost on the way"),
        (&[1, 0], io::ErrorKind::InvalidData, "handed over no socket"),
        (&[], io::ErrorKind::TimedOut, "does not answer"),
    ];
    for (answer, kind, wanted) in table {
        let (address, _sockets) = bind(1);
        let other = impostor(address, answer);
        let begun = Instant::now();
        let error = take(address).unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert_eq!(error.kind(), kind, "{error}");
        let text = error.to_string();
        assert!(text.contains(wanted) && text.contains(&address.to_string()), "{text}");
        other.join().unwrap();
    }
}

#[test]
fn a_socket_of_another_address_is_refused() {
    let (address, _sockets) = bind(1);
    let (_, others) = bind(1);
    let door = keep(address, &others);
    let error =
        eventually(|| take(address).map_or_else(Some, |none| none.map(|_| io::Error::other("taken"))));
    assert!(error.to_string().contains("does not listen on this address"), "{error}");
    // The door is still good for whoever does not look.
    assert!(!door.is_finished());
}

#[test]
fn under_load_every_connection_is_answered() {
    const CLIENTS: usize = 4;
    const EACH: usize = 250;
    let (address, old) = bind(2);
    let served = [AtomicUsize::new(0), AtomicUsize::new(0)];
    let (old_stops, all_done) = (AtomicBool::new(false), AtomicBool::new(false));
    let answer = |generation: usize, listeners: Vec<TcpListener>, stop: &AtomicBool| {
        while !stop.load(Ordering::Relaxed) {
            let Some((mut stream, _)) = listeners.iter().find_map(|listener| listener.accept().ok()) else {
                thread::yield_now();
                continue;
            };
            served[generation].fetch_add(1, Ordering::Relaxed);
            stream.write_all(b"!").unwrap();
        }
    };
    thread::scope(|scope| {
        let door = keep(address, &old);
        scope.spawn(|| answer(0, old, &old_stops));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(move || {
                    for _ in 0..EACH {
                        let mut stream = TcpStream::connect(address).unwrap();
                        stream.set_read_timeout(Some(SOON)).unwrap();
                        stream.read_exact(&mut [0]).unwrap();
                    }
                })
            })
            .collect();
        eventually(|| (served[0].load(Ordering::Relaxed) > CLIENTS * EACH / 10).then_some(()));
        let successor = taken(address);
        let listeners = successor.listeners.iter().map(|socket| socket.try_clone().unwrap()).collect();
        scope.spawn(|| answer(1, listeners, &all_done));
        successor.ready();
        door.join().unwrap();
        old_stops.store(true, Ordering::Relaxed);
        let outcomes: Vec<_> = clients.into_iter().map(|client| client.join()).collect();
        all_done.store(true, Ordering::Relaxed);
        assert!(outcomes.iter().all(Result::is_ok));
    });
    let [before, after] = served.map(AtomicUsize::into_inner);
    assert_eq!(before + after, CLIENTS * EACH);
    assert!(before > 0 && after > 0, "{before} before, {after} after");
}
