//! Where tables come from: the main file, `previewsDir`, the admin API, names that resolve anew, and the clock. All of
//! them end in [`keeper::Keeper`], which one thread owns and which publishes the next snapshot.

pub mod context_key;
pub mod disk;
pub mod files;
pub mod health;
pub mod keeper;
pub mod life;
pub mod memory;
pub mod origin;
pub mod resolve;
pub mod stream;
pub mod watch;
