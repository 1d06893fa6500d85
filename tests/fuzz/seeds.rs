//! Every seed through its target: what once broke something, does not.

// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;

use sidetrack_fuzz::TARGETS;

#[test]
fn every_seed_passes() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, check) in TARGETS {
        let mut count = 0;
        for seed in fs::read_dir(corpus.join(name)).expect("a folder of seeds") {
            let path = seed.unwrap().path();
            // The test prints it where the seed fails.
            println!("{}", path.display());
            check(&fs::read(&path).unwrap());
            count += 1;
        }
        assert!(count > 0, "no seeds of {name}");
    }
}
