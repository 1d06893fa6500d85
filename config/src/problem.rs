//! What is wrong with a file, told so that a person can put it right.

use std::fmt;
use std::path::PathBuf;

/// How many problems of one file are kept: a file with more is wrong in kind, not in detail.
pub(crate) const MAX_KEPT: usize = 1_000;

/// How many problems are printed.
const MAX_SHOWN: usize = 50;

/// One thing that is wrong, or that is likely to surprise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// The line, counted from 1; 0 where the whole file is meant.
    pub line: u64,
    /// The column in characters, counted from 1; 0 where the whole file is meant.
    pub column: u64,
    /// Where in the document: `services.checkout.protocol`, `routes[3].host`; empty for the document itself.
    pub path: String,
    /// What was found.
    pub message: String,
    /// What is allowed instead, as a noun phrase; empty where the message says it all.
    pub allowed: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        if !self.path.is_empty() {
            write!(f, " {}:", self.path)?;
        }
        write!(f, " {}", self.message)?;
        if !self.allowed.is_empty() {
            write!(f, "; allowed: {}", self.allowed)?;
        }
        Ok(())
    }
}

/// Everything that is wrong with a file, in the order of its lines.
///
/// Printed one line each, at most 50, and then how many more there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// One problem that concerns the whole of `file`.
    pub(crate) fn whole_file(file: &std::path::Path, message: String) -> Self {
        let file = file.to_owned();
        Self(vec![Problem { file, line: 0, column: 0, path: String::new(), message, allowed: String::new() }])
    }

    /// Brings `problems` into the order of the file.
    pub(crate) fn sorted(mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| (problem.line, problem.column));
        Self(problems)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().take(MAX_SHOWN).enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        match self.0.len().saturating_sub(MAX_SHOWN) {
            0 => Ok(()),
            more if self.0.len() >= MAX_KEPT => write!(f, "\nand at least {more} more"),
            more => write!(f, "\nand {more} more"),
        }
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(line: u64) -> Problem {
        Problem {
            file: "a.yaml".into(),
            line,
            column: 3,
            path: "routes[0].host".into(),
            message: "`x y` has a space".into(),
            allowed: "a host".into(),
        }
    }

    #[test]
    fn a_long_list_is_cut() {
        let text = Problems((1..=60).map(problem).collect()).to_string();
        assert_eq!(text.lines().count(), 51);
        assert_eq!(
            text.lines().next().unwrap(),
            "a.yaml:1:3: routes[0].host: `x y` has a space; allowed: a host"
        );
        assert_eq!(text.lines().last().unwrap(), "and 10 more");
    }

    #[test]
    fn a_whole_file_has_no_line() {
        let text = Problems::whole_file("a.yaml".as_ref(), "cannot be read".into()).to_string();
        assert_eq!(text, "a.yaml: cannot be read");
    }
}
