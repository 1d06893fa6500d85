//! The load that the shipped binary is optimised for (`benches/pgo.sh`).

use sidetrack_tests::{binary, within};

/// It checks every answer itself, so that a path that it is to make fast is one that works.
#[tokio::test]
async fn every_path_that_is_to_be_fast_answers() {
    let mut train = tokio::process::Command::new(env!("CARGO_BIN_EXE_sidetrack-train"));
    train.arg(binary()).arg("16").kill_on_drop(true);
    let output = within("the end of the load", train.output()).await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    // 24 connections of 16 requests, and 10 brief ones.
    assert_eq!(said, "394 requests answered\n");
}
