//! Who asks, and what they may have.
//!
//! A token is shown to the API server and the answer kept for a minute, under the token's SHA-256. While the API server
//! does not answer, a token that it found good stays good, up to its own `exp` and for ten minutes at most, so that an
//! outage of minutes cuts no proxy off; that is logged. A token that was never seen gets 503 then.

mod cache;
mod jwt;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use futures_util::future::BoxFuture;
use thiserror::Error;
use tokio::sync::Semaphore;

use super::counters::Counters;
use super::{ServeError, Settings};
use crate::names::{INJECTED, WAYPOINT, WAYPOINT_NAME};
use crate::world::{Meta, Name};
use cache::{Cache, Known};

/// How long a good answer is good.
const GOOD: Duration = Duration::from_secs(60);
/// How long a bad one is: a token may become good, but a client in a loop must not become one at the API server.
const BAD: Duration = Duration::from_secs(5);
/// How long a good answer stays good while the API server gives none.
const OUTAGE: Duration = Duration::from_secs(600);
/// How long the API server is let alone after it gave no answer, where an older answer will do.
const QUIET: Duration = Duration::from_secs(5);
/// How long the API server may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Questions to the API server at once.
const AT_ONCE: usize = 16;

/// What names of service accounts begin with.
const ACCOUNT: &str = "system:serviceaccount:";
/// Where the API server says which pod a token is bound to, as every projected one is.
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// Somebody whose token is good.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// As the API server calls them.
    pub name: String,
    /// Their uid.
    pub uid: Option<String>,
    /// Their groups.
    pub groups: Vec<String>,
    /// Whatever else it says of them, which an authoriser may look at.
    pub extra: std::collections::BTreeMap<String, Vec<String>>,
}

/// The API server gave no answer, and why.
#[derive(Clone, Debug, Error)]
#[error("{0}")]
pub struct NoAnswer(pub String);

/// Who knows tokens and rights: the API server.
pub trait Checker: Send + Sync + 'static {
    /// Whose token it is; `None`: nobody's, or for another audience.
    fn user<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<User>, NoAnswer>>;

    /// Whether they may `get` `previews.sidetrack.dev` in every namespace.
    fn may_read<'a>(&'a self, user: &'a User) -> BoxFuture<'a, Result<bool, NoAnswer>>;

    /// The pod of this name, as it is now; `None`: there is none.
    fn pod<'a>(&'a self, name: &'a Name) -> BoxFuture<'a, Result<Option<Meta>, NoAnswer>>;
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Right {
    /// A table: all of it, private keys included, for listed accounts; a part of it for pods that are to have one.
    Table,
    /// What is known of previews.
    Previews,
}

/// Whose table somebody may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Grant {
    /// Everything: a gateway, or, where no table is asked for, whoever may ask.
    All,
    /// That of the waypoints of its namespace: this pod.
    Waypoint(Name),
    /// That of sidecars: the one in this pod.
    Sidecar(Name),
}

/// Why somebody does not get it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum Refused {
    #[error("send a token: Authorization: Bearer TOKEN")]
    NoToken,
    #[error("the cluster does not know this token, or it is for another audience")]
    BadToken,
    #[error("{user} may not have the table: --proxy-account lists the service accounts that may")]
    NotAProxy { user: String },
    #[error(
        "{user} may not have a table by this token, which is bound to no pod: mount a projected serviceAccountToken"
    )]
    NotAPod { user: String },
    #[error("pod {pod} may not have a table: {why}")]
    NotThisPod { pod: Name, why: &'static str },
    #[error("this token is of pod {pod}, and {node:?} is not its name")]
    OtherNode { pod: Name, node: Box<str> },
    #[error("{user} may not get previews.sidetrack.dev in all namespaces")]
    NotAReader { user: String },
    #[error("the API server does not answer, so the token can't be checked: {why}")]
    NoAnswer { why: String },
}

/// Checks tokens.
pub(super) struct Auth {
    accounts: Vec<String>,
    /// Whether there are sidecars.
    sidecars: bool,
    /// The namespaces whose pods may have a table; empty: all.
    watched: Vec<Box<str>>,
    checker: Arc<dyn Checker>,
    cache: Mutex<Cache>,
    last_failure: Mutex<Option<Instant>>,
    places: Semaphore,
    counters: Arc<Counters>,
}

impl Auth {
    /// For what the settings say.
    pub(super) fn new(
        settings: &Settings,
        sidecars: bool,
        checker: Arc<dyn Checker>,
        counters: Arc<Counters>,
    ) -> Result<Self, ServeError> {
        let account = |account: &str| match account.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(format!("system:serviceaccount:{namespace}:{name}"))
            }
            _ => Err(ServeError::Account(account.into())),
        };
        Ok(Self {
            accounts: settings.accounts.iter().map(|name| account(name)).collect::<Result<_, _>>()?,
            sidecars,
            watched: settings.watched.clone(),
            checker,
            cache: Mutex::default(),
            last_failure: Mutex::default(),
            places: Semaphore::new(AT_ONCE),
            counters,
        })
    }

    /// Whether the bearer of `token` may.
    pub(super) async fn check(&self, token: Option<&str>, right: Right) -> Result<Grant, Refused> {
        let checked = match token.filter(|token| jwt::is_plausible(token)) {
            Some(token) => self.known(token, right).await,
            None if token.is_some() => Err(Refused::BadToken),
            None => Err(Refused::NoToken),
        };
        if let Err(refused) = &checked {
            self.counters.refused(refused.status());
            tracing::debug!(%refused, "a request was refused");
        }
        checked
    }

    async fn known(&self, token: &str, right: Right) -> Result<Grant, Refused> {
        let digest = jwt::digest(token);
        let known = self.user(token, digest).await?;
        if self.accounts.contains(&known.user.name) {
            return Ok(Grant::All);
        }
        let user = known.user.name.clone();
        match right {
            Right::Table => self.table(&known, digest).await,
            Right::Previews if self.may_read(&known, digest).await? => Ok(Grant::All),
            Right::Previews => Err(Refused::NotAReader { user }),
        }
    }

    /// The table that a pod may have. An account alone gets none: every pod has one. The pod must be marked for it, and
    /// only the API server says so: a watch may be behind a pod that has just been made.
    async fn table(&self, known: &Known, digest: cache::Digest) -> Result<Grant, Refused> {
        let user = || known.user.name.clone();
        let account = known.user.name.strip_prefix(ACCOUNT).and_then(|account| account.split_once(':'));
        let is_waypoint = account.is_some_and(|(_, name)| name == WAYPOINT_NAME);
        let Some((namespace, _)) = account.filter(|_| is_waypoint || self.sidecars) else {
            return Err(Refused::NotAProxy { user: user() });
        };
        let said = |name| known.user.extra.get(name)?.first();
        let (Some(name), Some(uid)) = (said(POD_NAME), said(POD_UID)) else {
            return Err(Refused::NotAPod { user: user() });
        };
        let pod = Name::new(namespace, name);
        if !self.watched.is_empty() && !self.watched.contains(&pod.namespace) {
            return Err(Refused::NotThisPod { pod, why: "this controller does not watch its namespace" });
        }
        let now = Instant::now();
        let before = known.marked.filter(|(marked, at)| marked.is_ok() || now.duration_since(*at) < BAD);
        let marked = match before {
            // The token is bound to that pod: what was good once is good as long as the token.
            Some((marked, _)) => marked,
            None => {
                let there = self.ask(self.checker.pod(&pod)).await;
                let there = there.map_err(|NoAnswer(why)| Refused::NoAnswer { why })?;
                let marked = mark(there.filter(|there| *there.uid == **uid).as_ref(), is_waypoint);
                self.cache().put_good(digest, Known { marked: Some((marked, now)), ..known.clone() });
                marked
            }
        };
        match marked {
            Ok(()) if is_waypoint => Ok(Grant::Waypoint(pod)),
            Ok(()) => Ok(Grant::Sidecar(pod)),
            Err(why) => Err(Refused::NotThisPod { pod, why }),
        }
    }

    /// Whose token it is.
    async fn user(&self, token: &str, digest: cache::Digest) -> Result<Known, Refused> {
        let now = Instant::now();
        let before = {
            let mut cache = self.cache();
            if cache.is_bad(&digest, now, BAD) {
                return Err(Refused::BadToken);
            }
            cache.good(&digest).filter(|known| !known.is_over(SystemTime::now()))
        };
        if let Some(known) = before.as_ref().filter(|known| self.will_do(known.checked, now)) {
            return Ok(known.clone());
        }
        match self.ask(self.checker.user(token)).await {
            Ok(Some(user)) => {
                let (may_read, marked) = before.map_or((None, None), |known| (known.may_read, known.marked));
                let until = jwt::expiry(token);
                let known = Known { user: Arc::new(user), checked: now, until, may_read, marked };
                self.cache().put_good(digest, known.clone());
                Ok(known)
            }
            Ok(None) => {
                self.cache().put_bad(digest, now);
                Err(Refused::BadToken)
            }
            Err(NoAnswer(why)) => match before {
                Some(known) if now.duration_since(known.checked) < OUTAGE => {
                    tracing::warn!(
                        user = known.user.name,
                        why,
                        "the API server does not answer: a token counts as it did"
                    );
                    Ok(known)
                }
                _ => Err(Refused::NoAnswer { why }),
            },
        }
    }

    async fn may_read(&self, known: &Known, digest: cache::Digest) -> Result<bool, Refused> {
        let now = Instant::now();
        if let Some((may, checked)) = known.may_read {
            let fresh = if may { self.will_do(checked, now) } else { now.duration_since(checked) < BAD };
            if fresh {
                return Ok(may);
            }
        }
        match (self.ask(self.checker.may_read(&known.user)).await, known.may_read) {
            (Ok(may), _) => {
                self.cache().put_good(digest, Known { may_read: Some((may, now)), ..known.clone() });
                Ok(may)
            }
            (Err(_), Some((true, checked))) if now.duration_since(checked) < OUTAGE => Ok(true),
            (Err(NoAnswer(why)), _) => Err(Refused::NoAnswer { why }),
        }
    }

    /// Whether a good answer of then is good enough now.
    fn will_do(&self, checked: Instant, now: Instant) -> bool {
        let failed = *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner);
        let quiet = failed.is_some_and(|failed| now.saturating_duration_since(failed) < QUIET);
        now.saturating_duration_since(checked) < if quiet { OUTAGE } else { GOOD }
    }

    async fn ask<T>(&self, question: BoxFuture<'_, Result<T, NoAnswer>>) -> Result<T, NoAnswer> {
        let answer = tokio::time::timeout(PATIENCE, async {
            let _place = self.places.acquire().await;
            question.await
        });
        let answer = answer
            .await
            .unwrap_or_else(|_| Err(NoAnswer(format!("nothing within {} s", PATIENCE.as_secs()))));
        let failed = answer.is_err().then(Instant::now);
        *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = failed;
        answer
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a pod bears the mark of what it is to be; if not, why it gets no table.
fn mark(pod: Option<&Meta>, is_waypoint: bool) -> Result<(), &'static str> {
    match pod {
        None => Err("it is not there any more"),
        Some(pod) if is_waypoint && pod.labels.get(WAYPOINT).is_none_or(|value| &**value != "true") => {
            Err("it is no waypoint: it is not labelled `sidetrack.dev/waypoint: \"true\"`")
        }
        Some(pod) if !is_waypoint && !pod.annotations.contains_key(INJECTED) => {
            Err("no sidecar was injected into it: it is not annotated `sidetrack.dev/injected`")
        }
        Some(_) => Ok(()),
    }
}

impl Grant {
    /// The name by which a proxy that calls itself `node` is known in its table. A pod has its own name; sidecars of all
    /// namespaces share a table.
    pub(super) fn name(&self, node: &str) -> Result<Box<str>, Refused> {
        match self {
            Self::All => Ok(node.into()),
            Self::Waypoint(pod) | Self::Sidecar(pod) if *pod.name != *node => {
                Err(Refused::OtherNode { pod: pod.clone(), node: node.into() })
            }
            Self::Waypoint(pod) => Ok(pod.name.clone()),
            Self::Sidecar(pod) => Ok(pod.to_string().into()),
        }
    }
}

impl Refused {
    /// Its status, which is the label of its metric too.
    pub(super) fn status(&self) -> &'static str {
        match self {
            Self::NoToken | Self::BadToken => "401",
            Self::NotAProxy { .. }
            | Self::NotAReader { .. }
            | Self::NotAPod { .. }
            | Self::NotThisPod { .. }
            | Self::OtherNode { .. } => "403",
            Self::NoAnswer { .. } => "503",
        }
    }
}
