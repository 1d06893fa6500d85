//! Signals of the process.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// SIGTERM and SIGINT end, SIGHUP re-reads.
pub(super) struct Signals {
    /// Why to end.
    pub(super) end: mpsc::Receiver<&'static str>,
    /// Told to read everything again.
    pub(super) reread: mpsc::Receiver<()>,
}

impl Signals {
    /// Listens from now on.
    pub(super) fn new() -> Self {
        let (tell_end, end) = mpsc::channel(1);
        let (tell_reread, reread) = mpsc::channel(1);
        for (kind, name) in [(SignalKind::terminate(), "SIGTERM"), (SignalKind::interrupt(), "SIGINT")] {
            let tell = tell_end.clone();
            listen_for(kind, move || {
                // One that waits already says the same.
                let _ = tell.try_send(name);
            });
        }
        listen_for(SignalKind::hangup(), move || {
            let _ = tell_reread.try_send(());
        });
        Self { end, reread }
    }
}

/// Calls `act` for every signal of a kind.
fn listen_for(kind: SignalKind, act: impl Fn() + 'static) {
    match signal(kind) {
        Ok(signal) => drop(tokio::task::spawn_local(forward_signal(signal, act))),
        Err(error) => tracing::warn!(?kind, %error, "signal not listened for"),
    }
}

async fn forward_signal(mut signal: Signal, act: impl Fn()) {
    while signal.recv().await.is_some() {
        act();
    }
}
