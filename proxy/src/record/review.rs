//! What becomes of an exchange that goes on for long when another table comes: it asks that one, and where it would get
//! another target now, it gets an end.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::Record;
use super::standing::{Exchange, Moved, Standing};
use crate::route::snapshot::Held;
use crate::watch::Watch;

/// How long an answer whose time is over may go on until it pauses: between two messages an end breaks none of them.
const PAUSE: Duration = Duration::from_secs(1);

impl Record {
    /// Whether there is another table than the one that was asked last.
    pub fn is_outdated(&self) -> bool {
        self.worker.table.version() != self.asked
    }

    /// Whether the newest table would decide as was decided. The one before is let go, so that nothing of it is kept for
    /// as long as the exchange goes on.
    pub fn stands(&mut self) -> bool {
        let table = self.worker.table.get();
        self.asked = table.version();
        if self.is_own {
            return true;
        }
        let (Some(identity), Some(service), Some(endpoint)) = (&self.identity, self.service(), self.endpoint)
        else {
            return true;
        };
        let (service, preview, is_meant) = (&*service.name, self.preview, self.is_meant);
        let exchange = Exchange { identity, service, preview, endpoint, is_meant };
        let standing = self.standing.unwrap_or_else(|| Standing::of(&exchange, &self.table));
        let stands = standing.holds(&exchange, &table);
        let service = table.estate.service(exchange.service).map(|service| service.index);
        self.standing = Some(standing);
        if let Some(service) = service {
            self.renewed(table, service);
        }
        stands
    }

    /// Goes on with another table, in which its service has this index.
    pub fn renewed(&mut self, table: Rc<Held>, service: usize) {
        self.asked = table.version();
        self.service = Some(service);
        self.table = table;
    }

    /// It would get another target now: counts that.
    pub fn moved(&self, moved: Moved) {
        self.worker.stats.moved(moved);
    }

    /// It ends before its end, whatever was thought of it so far.
    pub fn cut(&mut self) {
        self.complete = false;
    }

    /// Has `watch` wake who waits here when there is another table.
    pub fn watch(&self, watch: &mut Option<Watch>, cx: &Context<'_>) {
        match watch {
            Some(watch) => watch.renew(cx.waker()),
            None => *watch = Some(self.worker.watchers.enter(cx.waker())),
        }
    }
}

/// Whether an answer may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may.
    Go,
    /// It ends when nothing of it waits.
    Pause,
    /// It ends.
    End,
}

/// What is known of an answer whose body is on its way.
pub(super) struct Review {
    watch: Option<Watch>,
    moved: Option<Moving>,
}

/// An answer that would come from elsewhere now.
struct Moving {
    /// `None`: it is never cut.
    end: Option<Pin<Box<Sleep>>>,
    is_over: bool,
}

impl Review {
    /// Nothing.
    pub(super) const NEW: Self = Self { watch: None, moved: None };

    /// Looks at the table if it is a new one, and says whether the answer of `record` may go on.
    pub(super) fn verdict(&mut self, record: &mut Record, cx: &mut Context<'_>) -> Verdict {
        if record.is_outdated() {
            self.ask(record);
        }
        self.moved.as_mut().map_or(Verdict::Go, |moving| moving.verdict(cx))
    }

    /// Nothing is there, and somebody waits.
    pub(super) fn wait(&mut self, record: &Record, cx: &Context<'_>) {
        record.watch(&mut self.watch, cx);
    }

    fn ask(&mut self, record: &mut Record) {
        match (record.stands(), &self.moved) {
            // Where it was decided so again, it stays.
            (true, _) => self.moved = None,
            (false, Some(_)) => {}
            (false, None) => {
                record.moved(Moved::Stream);
                if record.connection.lifeline.send_away() {
                    record.moved(Moved::Http2);
                }
                self.moved = Some(Moving::new(record.worker.limits.decision_drain));
            }
        }
    }
}

impl Moving {
    fn new(limit: Duration) -> Self {
        let end = (!limit.is_zero()).then(|| Box::pin(tokio::time::sleep(limit)));
        Self { end, is_over: false }
    }

    fn verdict(&mut self, cx: &mut Context<'_>) -> Verdict {
        let Some(end) = &mut self.end else { return Verdict::Go };
        while end.as_mut().poll(cx).is_ready() {
            if std::mem::replace(&mut self.is_over, true) {
                return Verdict::End;
            }
            end.as_mut().reset(Instant::now() + PAUSE);
        }
        if self.is_over { Verdict::Pause } else { Verdict::Go }
    }
}
