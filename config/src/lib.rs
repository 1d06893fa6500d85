//! What may be true.
//!
//! Two kinds of types live here. [`document`] holds what a person wrote, exactly as written; [`model`] holds
//! what is true, and only the model reaches the proxy. [`check`] is the way from one to the other: it reports
//! every problem of a file at once, each with its line, its column and what would have been allowed.
//!
//! Nothing here knows a socket, a runtime or an HTTP library.

pub mod carriers;
pub mod check;
pub mod document;
pub mod key;
pub mod limits;
pub mod model;
pub mod ports;
pub mod problem;
pub mod schema;
mod source_map;
pub mod stamp;
pub mod stream;

pub use check::{Owner, RouteError, load, load_for, parse, parse_for, parse_preview, read_route};
pub use key::{Key, KeyError};
pub use model::Config;
pub use problem::{Problem, Problems};
