//! Listening sockets: one per worker on one address, and the descriptors that connections need.

use std::io;
use std::net::{SocketAddr, TcpListener};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, Type};

#[cfg(test)]
mod tests;

/// Connections that may wait for a worker: a burst of a busy estate. The kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Listens `count` times on `address`, nonblocking, the kernel spreading connections over the sockets
/// (SO_REUSEPORT). With port 0 the first socket gets a free port and the others share it; ask `local_addr`.
/// `[::]` takes IPv4 connections too.
///
/// # Errors
/// When another process already listens there, or the address cannot be used; the message says what to do.
pub fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    vacant(address).map_err(|error| explain(address, &error))?;
    join(address, count)
}

/// As [`bind`], beside sockets of this process that listen there already: for more workers than there were sockets
/// handed over.
///
/// # Errors
/// As [`bind`].
pub fn join(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    let mut sockets: Vec<TcpListener> = Vec::new();
    for _ in 0..count {
        let address = sockets.first().map_or(Ok(address), TcpListener::local_addr)?;
        sockets.push(listen(address).map_err(|error| explain(address, &error))?);
    }
    Ok(sockets)
}

/// Raises the limit of open descriptors to what the system allows this process, and returns it. A connection
/// through the proxy needs two.
///
/// # Errors
/// When the system refuses; the limit is what it was then.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    }
    Ok(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX))
}

/// Fails when somebody listens on `address`. A second gateway started by accident could bind beside the first with
/// SO_REUSEPORT and silently take half of its traffic; a socket without that option cannot.
fn vacant(address: SocketAddr) -> io::Result<()> {
    socket(address)?.bind(&address.into())
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of the process before us that linger in TIME_WAIT must not keep its port.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // The same everywhere, whatever net.ipv6.bindv6only says.
        socket.set_only_v6(false)?;
    }
    Ok(socket)
}

fn explain(address: SocketAddr, error: &io::Error) -> io::Error {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another socket listens on this address, or on all addresses with this port; \
             stop its process (`ss -ltnp` shows it), or choose another port"
        }
        io::ErrorKind::PermissionDenied => {
            "this user may not use ports below 1024; choose a higher port, or give the binary cap_net_bind_service"
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address; `ip address` lists those it has, 0.0.0.0 and [::] mean all of them"
        }
        _ => return io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")),
    };
    io::Error::new(error.kind(), format!("cannot listen on {address}: {advice}"))
}
