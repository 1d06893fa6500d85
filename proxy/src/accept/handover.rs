//! Listening sockets passed from a running process to its successor, so that a restart in place loses nothing.
//!
//! SO_REUSEPORT alone lets a successor bind beside us, but resets the connections that wait in a queue of ours when
//! we close it. So the sockets themselves move, and their queues with them:
//!
//! 1. For every address it listens on, the running process keeps a door: an abstract unix socket whose name holds
//!    the user and the address. Abstract names live in the network namespace, as ports do, and die with the process.
//! 2. The successor knocks at the door of each of its addresses ([`take`]) and is given the sockets. Both processes
//!    have them now; the running one goes on as before.
//! 3. When the successor accepts on them, it says so ([`Taken::ready`]): one byte, `R`. The running process closes
//!    its door, and [`serve`] returns: time to drain. A successor that dies before that has changed nothing.
//!
//! On the wire, from the running process: one byte version; then messages of one byte, the number of sockets that
//! come with it (SCM_RIGHTS); then a zero byte. Only a process of the same user is served, or believed.

#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests;

#[cfg(not(target_os = "linux"))]
pub use elsewhere::{Taken, serve, take};
#[cfg(target_os = "linux")]
pub use linux::{Taken, serve, take};
