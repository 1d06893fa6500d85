//! Giving memory back: what it takes to read a table, or what a table took that is gone, must not stay with an idle
//! process.

use sidetrack_config::check::Checked;
use sidetrack_config::{Owner, Problems};

use super::origin::Origin;

/// Reads a configuration on a thread that ends with it. What that takes meanwhile is several times the configuration
/// and lies between its parts; the allocator has a heap for each thread, and gives all of this one's back once nothing
/// in it is left. So what is to stay must be copied.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load_apart(origin: &Origin, owner: Owner) -> Result<Checked, Problems> {
    let load = || origin.load(owner);
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("configuration".to_owned()).spawn_scoped(scope, load);
        // Without a thread, here: more memory beats no configuration.
        thread.ok().and_then(|thread| thread.join().ok()).unwrap_or_else(load)
    })
}

/// More than the allocator has at hand, so that it must look at all of its memory.
const LARGE: usize = 1 << 20;
/// What the allocator counts, and after how many of these it looks for pages in which nothing is left.
const COUNTED: (usize, usize) = (2 << 10, 10_000);

/// The time after a change, in which what it let go of goes back to the system. The allocator keeps a free page for a
/// while, and then until it is asked for a large piece; a proxy in which nothing happens asks for none.
#[derive(Debug, Default)]
pub struct Settling(u8);

impl Settling {
    /// A change was made.
    pub fn begin(&mut self) {
        // Workers hold a table for up to a second, and the allocator a page for a while more.
        self.0 = 5;
    }

    /// A second has passed.
    pub fn step(&mut self) {
        if self.0 > 0 {
            self.0 -= 1;
            // Never written, so that they cost no page; a millisecond in all, and once is enough.
            if self.0 == 1 {
                for _ in 0..COUNTED.1 {
                    drop(std::hint::black_box(Vec::<u8>::with_capacity(COUNTED.0)));
                }
            }
            drop(std::hint::black_box(Vec::<u8>::with_capacity(LARGE)));
        }
    }
}
