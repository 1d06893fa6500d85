//! libFuzzer around the targets; `SIDETRACK_FUZZ` names the one. `tests/run fuzz` builds and starts it.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use sidetrack_fuzz::{Check, mutate, named};

fn chosen() -> Check {
    static CHOSEN: OnceLock<Check> = OnceLock::new();
    *CHOSEN.get_or_init(|| named(&std::env::var("SIDETRACK_FUZZ").unwrap_or_default()))
}

fuzz_target!(|bytes: &[u8]| chosen()(bytes));

// Half of the changes are to lines, the other half libFuzzer's own.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate::lines(data, size, max_size, seed).unwrap_or_else(|| fuzzer_mutate(data, size, max_size))
});
