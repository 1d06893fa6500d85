//! Last step: what the controller says about itself. Metrics, liveness, readiness.
//!
//! A controller without its API server is still ready: what it publishes is the last it knew, and its proxies do better
//! with that than without. How old that is, `/readyz` and `sidetrack_controller_api_contact_age_seconds` say.

mod acknowledged;
mod contact;
mod metrics;
mod server;

pub(crate) use self::acknowledged::Acknowledged;
pub(crate) use self::contact::Contact;
pub(crate) use self::metrics::Metrics;
pub(crate) use self::server::serve;
