//! Both sides of the handover by abstract unix sockets.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg, sockopt,
};
use tokio::io::{AsyncReadExt, Interest};
use tokio::task::JoinSet;

/// Both processes must speak the same one; raised when the wire changes.
const VERSION: u8 = 1;
/// What the successor says when it accepts.
const READY: u8 = b'R';
/// Sockets per message, below the kernel's limit of 253.
const PER_MESSAGE: usize = 64;
/// Sockets per address: more than the workers of any machine.
const MAX_SOCKETS: usize = 4096;
/// Successors served at once; more than one only where somebody errs.
const MAX_SUCCESSORS: usize = 8;
/// How long the running process may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// From one look to the next whether a door can be had.
const RETRY: Duration = Duration::from_millis(50);
/// When a door that another process keeps is worth a line in the log.
const SUSPICIOUS: Duration = Duration::from_secs(10);

/// The listening sockets of one address, taken from a running process that goes on until [`Taken::ready`].
/// Dropped before that, nothing has happened.
#[derive(Debug)]
pub struct Taken {
    /// One per worker of the running process, at least one; nonblocking. Move them out (`mem::take`) to accept on
    /// them before [`Taken::ready`].
    pub listeners: Vec<TcpListener>,
    door: UnixStream,
}

impl Taken {
    /// Tells the running process that this one accepts on the sockets: it drains and ends. Call this for every
    /// address when all of them are accepted on. Blocks until the other has let go of the address, 2 s at most.
    pub fn ready(mut self) {
        // A process that is gone, or drains already because another of its addresses was taken, has hung up. The
        // sockets are ours either way.
        let heard = self.door.write_all(&[READY]).and_then(|()| {
            self.door.set_read_timeout(Some(PATIENCE))?;
            self.door.read(&mut [0])
        });
        if let Err(error) = heard {
            tracing::debug!(%error, "the process before this one hung up first");
        }
    }
}

/// Takes the listening sockets of `address` from the process that runs there, if it is one of ours and of this user.
/// `None` where nobody keeps a door or it hangs up because it drains, and always for port 0. Blocks for at most 2 s.
///
/// # Errors
/// When somebody is there and does not answer, or answers nonsense. The address cannot be bound then either.
pub fn take(address: SocketAddr) -> io::Result<Option<Taken>> {
    if address.port() == 0 {
        return Ok(None);
    }
    let Some(door) = knock(address)? else {
        return Ok(None);
    };
    match receive(&door, address) {
        Ok(listeners) => Ok(Some(Taken { listeners, door })),
        // It began to drain just now, and has let go of the address or is about to.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(io::Error::new(error.kind(), format!("taking over {address}: {error}"))),
    }
}

/// Keeps the door of `address`, behind which `sockets` wait for a successor. Returns when one has taken them and
/// accepts on them: time to drain. To be dropped when a drain begins for another reason, since `sockets` would keep
/// the port open. Never returns for port 0.
///
/// # Errors
/// When the door cannot be made for another reason than that somebody still keeps it.
pub async fn serve(address: SocketAddr, sockets: Vec<TcpListener>) -> io::Result<()> {
    if address.port() == 0 {
        return std::future::pending().await;
    }
    let door = open_door(address).await?;
    let sockets: Arc<[TcpListener]> = sockets.into();
    let mut successors = JoinSet::new();
    let said_ready = loop {
        tokio::select! {
            arrival = door.accept() => match arrival {
                Ok((stream, _)) if successors.len() < MAX_SUCCESSORS && same_user(&stream) => {
                    successors.spawn(hand_over(stream, Arc::clone(&sockets)));
                }
                Ok(_) => tracing::debug!(%address, "refused a successor: another user, or too many"),
                Err(error) => {
                    tracing::warn!(%address, %error, "cannot answer a successor");
                    tokio::time::sleep(RETRY).await;
                }
            },
            Some(outcome) = successors.join_next() => match outcome {
                Ok(Ok(stream)) => break stream,
                Ok(Err(error)) => tracing::warn!(%address, %error, "a successor gave up before it was ready"),
                Err(error) => tracing::warn!(%address, %error, "handing over failed"),
            },
        }
    };
    // The successor waits for the end of this stream and opens the door itself then: first the one, then the other.
    drop(door);
    drop(said_ready);
    Ok(())
}

fn door_name(address: SocketAddr) -> String {
    format!("sidetrack/{}/{address}", rustix::process::geteuid().as_raw())
}

/// Connects to the door of `address`; `None` where there is none, or where another user keeps it.
fn knock(address: SocketAddr) -> io::Result<Option<UnixStream>> {
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    // Connecting waits while the queue of the other is full.
    socket.set_write_timeout(Some(PATIENCE))?;
    let name = PathBuf::from(format!("\0{}", door_name(address)));
    match socket.connect(&socket2::SockAddr::unix(name)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(None),
        outcome => outcome?,
    }
    if sockopt::socket_peercred(&socket)?.uid != rustix::process::geteuid() {
        tracing::warn!(%address, "another user pretends to run on this address: nothing is taken from them");
        return Ok(None);
    }
    Ok(Some(UnixStream::from(OwnedFd::from(socket))))
}

/// Reads the sockets, and checks that they are what they should be.
fn receive(door: &UnixStream, address: SocketAddr) -> io::Result<Vec<TcpListener>> {
    let deadline = Instant::now() + PATIENCE;
    if message(door, deadline)?.0 != VERSION {
        return Err(nonsense("the process there is of a version that hands over differently; stop it first"));
    }
    let mut listeners = Vec::new();
    loop {
        let (count, sockets) = message(door, deadline)?;
        if usize::from(count) != sockets.len() || listeners.len() + sockets.len() > MAX_SOCKETS {
            return Err(nonsense("sockets were lost on the way; is the limit of open files reached?"));
        }
        if count == 0 {
            break;
        }
        for socket in sockets {
            listeners.push(listener(socket, address)?);
        }
    }
    if listeners.is_empty() {
        Err(nonsense("the process there handed over no socket"))
    } else {
        Ok(listeners)
    }
}

/// One message: its byte, and the sockets that came with it.
fn message(door: &UnixStream, deadline: Instant) -> io::Result<(u8, Vec<OwnedFd>)> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, "the process there does not answer");
    let left =
        deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()).ok_or_else(late)?;
    door.set_read_timeout(Some(left))?;
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(PER_MESSAGE))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let read = recvmsg(door, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC);
    let read = read.map_err(|error| if error == rustix::io::Errno::AGAIN { late() } else { error.into() })?;
    if read.bytes == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the process there hung up"));
    }
    let sockets = control.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(sockets) => sockets.collect(),
        _ => Vec::new(),
    });
    let sockets = sockets.collect();
    let [byte] = byte;
    Ok((byte, sockets))
}

/// A socket as the listener of `address`.
fn listener(socket: OwnedFd, address: SocketAddr) -> io::Result<TcpListener> {
    let listens = sockopt::socket_acceptconn(&socket)?;
    let listener = TcpListener::from(socket);
    let bound = listener.local_addr()?;
    if !listens || (bound.ip(), bound.port()) != (address.ip(), address.port()) {
        return Err(nonsense("what was handed over does not listen on this address"));
    }
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn nonsense(detail: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, detail)
}

/// Binds the door, waiting for the process before this one to let go of it.
async fn open_door(address: SocketAddr) -> io::Result<tokio::net::UnixListener> {
    let name = UnixAddress::from_abstract_name(door_name(address))?;
    let begun = Instant::now();
    let mut silent = true;
    loop {
        match UnixListener::bind_addr(&name) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            outcome => {
                let door = outcome?;
                door.set_nonblocking(true)?;
                return tokio::net::UnixListener::from_std(door);
            }
        }
        if silent && begun.elapsed() > SUSPICIOUS {
            silent = false;
            tracing::warn!(%address, "another process keeps the handover of this address: no restart in place while it runs");
        }
        tokio::time::sleep(RETRY).await;
    }
}

fn same_user(stream: &tokio::net::UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == rustix::process::geteuid().as_raw())
}

/// Sends the sockets and waits until the successor is ready. The stream is given back so that its end is ours to say.
async fn hand_over(
    mut stream: tokio::net::UnixStream,
    sockets: Arc<[TcpListener]>,
) -> io::Result<tokio::net::UnixStream> {
    send(&stream, VERSION, &[]).await?;
    for chunk in sockets.chunks(PER_MESSAGE) {
        let count = u8::try_from(chunk.len()).map_err(io::Error::other)?;
        send(&stream, count, chunk).await?;
    }
    send(&stream, 0, &[]).await?;
    match stream.read_u8().await? {
        READY => Ok(stream),
        _ => Err(nonsense("it did not say that it is ready")),
    }
}

async fn send(stream: &tokio::net::UnixStream, byte: u8, sockets: &[TcpListener]) -> io::Result<()> {
    let sockets: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
    stream
        .async_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(PER_MESSAGE))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !sockets.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&sockets)) {
                return Err(io::Error::other("too many sockets for one message"));
            }
            sendmsg(stream, &[IoSlice::new(&[byte])], &mut control, SendFlags::NOSIGNAL)?;
            Ok(())
        })
        .await
}
