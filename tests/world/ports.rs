//! Ports: one that is free, and one that refuses.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use tokio::net::TcpSocket;

/// A port that nobody listens on now, outside the range that the system hands out by itself.
///
/// For the few tests in which a second process must take over the very port of the first.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = u16::try_from(std::process::id() % 8000).unwrap();
    for _ in 0..2000 {
        let port = 20_000 + (base + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between 20000 and 30000");
}

/// An address that refuses every connection for as long as this lives.
///
/// The port is bound but never listened on, so that nobody else can be given it meanwhile.
pub struct Refused {
    _socket: TcpSocket,
    /// The address.
    pub address: SocketAddr,
}

impl Default for Refused {
    fn default() -> Self {
        Self::new()
    }
}

impl Refused {
    /// Takes a port out of service.
    pub fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = socket.local_addr().unwrap();
        Self { _socket: socket, address }
    }
}
