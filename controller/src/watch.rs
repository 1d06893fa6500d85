//! Step one: one watch for each kind of object (and each namespace, where not all are watched). What comes of it is a
//! stream of [`Change`]s to the [`World`], which the planning thread applies in order.
//!
//! Lists come before watches (no streaming lists), which every API server from 1.20 on can do. A watch that has lost
//! its place (410 Gone) lists again: the world keeps what it has until the new list is whole, and then becomes it.

mod follow;
mod optional;
mod sources;
mod state;

use kube::Client;
use prometheus::IntCounter;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::world::World;

pub(crate) use self::state::{NAME as STATE_NAME, read as read_state, write as write_state};

/// How many changes may wait for the planning thread. Then the watches wait, and the API server keeps the rest.
const QUEUE: usize = 1024;

/// A change to the world; says whether anything is another one now.
pub(crate) type Change = Box<dyn FnOnce(&mut World) -> bool + Send>;

/// What a watch says.
pub(crate) enum Message {
    /// Something changed.
    Change(Change),
    /// This source has listed all it has, for the first time or again.
    Complete(usize),
}

/// The watches, while this value lives.
pub(crate) struct Watches {
    /// What they say.
    pub(crate) messages: mpsc::Receiver<Message>,
    /// How many sources there are: all must have been complete before the world is one.
    pub(crate) sources: usize,
    /// The tasks; they end when this is dropped.
    pub(crate) tasks: JoinSet<()>,
}

/// What is watched.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    /// Where the controller keeps its own objects.
    pub(crate) namespace: Box<str>,
    /// The namespaces to watch; empty: all.
    pub(crate) watched: Vec<Box<str>>,
}

/// Starts all watches; `restarts` counts those that fail and are taken up again.
pub(crate) fn start(client: &Client, scope: &Scope, restarts: &IntCounter) -> Watches {
    let (sender, messages) = mpsc::channel(QUEUE);
    let mut start = sources::Start {
        client: client.clone(),
        scope: scope.clone(),
        restarts: restarts.clone(),
        sender,
        sources: 0,
        tasks: JoinSet::new(),
    };
    start.all();
    Watches { messages, sources: start.sources, tasks: start.tasks }
}
