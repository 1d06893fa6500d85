//! Standard output: whole texts, colours where a person looks, and no panic where nobody reads.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

/// Writes `text` to standard output, with a line end. A reader who has left (`| head`) is no failure; a full disk is.
pub(crate) fn say(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            fail(&format!("standard output can't be written: {error}"))
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Writes `text` to standard error and gives the exit code of a failure.
pub(crate) fn fail(text: &str) -> ExitCode {
    tell(text);
    ExitCode::FAILURE
}

/// Writes `text` to standard error, with a line end. Where nobody can be told there is nothing to do about it.
pub(crate) fn tell(text: &str) {
    let _ = writeln!(io::stderr(), "{}", text.trim_end());
}

/// Colours for standard output: only on a terminal, and only for people who have not declined them (no-color.org).
#[derive(Clone, Copy)]
pub(crate) struct Style {
    on: bool,
}

impl Style {
    /// As standard output and the environment want it.
    pub(crate) fn new() -> Self {
        Self { on: io::stdout().is_terminal() && wants_colour() }
    }

    /// A heading.
    pub(crate) fn bold(self, text: &str) -> String {
        self.dressed("1", text)
    }

    /// What went well.
    pub(crate) fn good(self, text: &str) -> String {
        self.dressed("32", text)
    }

    /// What went wrong.
    pub(crate) fn bad(self, text: &str) -> String {
        self.dressed("1;31", text)
    }

    /// What stands beside.
    pub(crate) fn dim(self, text: &str) -> String {
        self.dressed("2", text)
    }

    fn dressed(self, code: &str, text: &str) -> String {
        if self.on { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Whether the environment allows colours.
pub(crate) fn wants_colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
