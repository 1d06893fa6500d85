//! The walk of a request.
//!
//! ```text
//! accept -> identify -> route -> (admit) -> pick -> forward -> record
//! ```
//!
//! [`walk`] is the spine: it calls each step once, left to right. [`identify`], [`route`] and [`pick`] are pure and
//! yield one [`decision::Decision`], which forwarding, logs, receipts and `explain` all read.

pub mod accept;
pub mod admit;
pub mod forward;
pub mod h1;
pub mod identify;
pub mod pick;
pub mod piece;
pub mod place;
pub mod record;
pub mod route;

pub mod batch;
pub mod chain;
pub mod context;
pub mod decide;
pub mod decision;
pub mod error;
pub mod fields;
pub mod head;
mod hex;
pub mod limit;
pub mod memory;
pub mod reading;
pub mod respond;
pub mod walk;
pub mod watch;
pub mod wire;

pub mod admin;
pub mod app;
pub mod drain;
pub mod explain;
pub mod source;
pub mod worker;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod sizes;
