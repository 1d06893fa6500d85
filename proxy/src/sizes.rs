//! What there are many of is small: for each preview and each connection, how many bytes it takes, a little above what
//! it does. Who makes one of these larger sees it here first; `tests/memory.rs` weighs the whole.

use std::mem::size_of;

use crate::accept::connection::{Connection, Lifeline};
use crate::accept::http1::io::Io;
use crate::accept::wire::Wire;
use crate::forward::http1::Http1;
use crate::forward::pool::Local;
use crate::route::table::{Endpoint, Endpoints, Forks, Moment, Preview};

fn at_most<T>(bytes: usize) {
    let is = size_of::<T>();
    assert!(is <= bytes, "{} takes {is} bytes, not {bytes}", std::any::type_name::<T>());
}

/// With the two counts of its `Arc` a preview fills 112 bytes and an endpoint 80: the next larger places that
/// the allocator gives have 128 and 96, and are megabytes of 100,000.
#[test]
fn of_a_preview_with_one_fork() {
    at_most::<Preview>(112 - 16);
    at_most::<Endpoint>(80 - 16);
    at_most::<Forks>(16);
    at_most::<Endpoints>(16);
    at_most::<Moment>(6);
}

/// An idle HTTP/1.1 connection has these and no buffer.
#[test]
fn of_an_idle_connection() {
    at_most::<Connection>(224);
    at_most::<Lifeline>(88);
    at_most::<Io>(240);
    at_most::<Wire>(72);
    at_most::<Http1>(80);
    at_most::<Local>(120);
}
