//! Systems without abstract unix sockets: nothing is handed over, a restart drains first and starts then.

use std::io;
use std::net::{SocketAddr, TcpListener};

/// Sockets that another process handed over; never made on this system.
#[derive(Debug)]
pub struct Taken {
    /// The listening sockets.
    pub listeners: Vec<TcpListener>,
}

impl Taken {
    /// Tells the other process to drain.
    pub fn ready(self) {}
}

/// Always `None` on this system.
///
/// # Errors
/// Never on this system.
pub fn take(_address: SocketAddr) -> io::Result<Option<Taken>> {
    Ok(None)
}

/// Never returns on this system: nobody can ask.
///
/// # Errors
/// Never on this system.
pub async fn serve(_address: SocketAddr, _sockets: Vec<TcpListener>) -> io::Result<()> {
    std::future::pending().await
}
