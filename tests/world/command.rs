//! The binary, run to its end.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use crate::wait::{PATIENCE, within_time};

/// What a command said, and how it ended.
#[derive(Debug)]
pub struct Output {
    /// The exit code; -1 after a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// The binary `sidetrack` that was built with this test, `target/PROFILE/sidetrack`.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).expect("a test runs in target/PROFILE/deps");
    let binary = profile.join("sidetrack");
    assert!(binary.exists(), "{} is missing: run `cargo build -p sidetrack` first", binary.display());
    binary
}

/// Runs `sidetrack` with `arguments` in `folder` and waits for its end.
pub async fn run(folder: &Path, arguments: &[&str]) -> Output {
    run_for(folder, arguments, PATIENCE).await
}

/// The same for a command that may take its time.
pub async fn run_for(folder: &Path, arguments: &[&str], time: Duration) -> Output {
    let command = tokio::process::Command::new(binary())
        .args(arguments)
        .current_dir(folder)
        .env_remove("SIDETRACK_LOG")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = within_time(&format!("sidetrack {}", arguments.join(" ")), time, command).await.unwrap();
    Output {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}
