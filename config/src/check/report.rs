//! Where a check writes down what it finds.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::document::text::Text;
use crate::problem::{MAX_KEPT, Problem, Problems};
use crate::source_map::{At, Node, Position, Span, shortened};
use crate::stamp::{Seen, Stamp};

/// The problems and warnings of one file.
pub(super) struct Report<'a> {
    file: &'a Path,
    text: &'a str,
    root: &'a Node,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    /// The paths that have a problem: one each, so that what follows from it is not told as well.
    troubled: HashSet<String>,
    /// The files that were read.
    files: Vec<Seen>,
}

impl<'a> Report<'a> {
    pub(super) fn new(file: &'a Path, text: &'a str, root: &'a Node) -> Self {
        Self {
            file,
            text,
            root,
            problems: Vec::new(),
            warnings: Vec::new(),
            troubled: HashSet::new(),
            files: Vec::new(),
        }
    }

    /// The content of the file at `path` is in what is checked.
    pub(super) fn has_read(&mut self, path: PathBuf, stamp: Option<Stamp>) {
        self.files.push(Seen { path, stamp });
    }

    /// The files that were read so far.
    pub(super) fn take_files(&mut self) -> Vec<Seen> {
        std::mem::take(&mut self.files)
    }

    /// The value at `at` is wrong.
    pub(super) fn problem(&mut self, at: &At<'_>, message: impl Into<String>, allowed: impl Into<String>) {
        if self.problems.len() < MAX_KEPT {
            self.keep(at, self.root.value_position(at), message.into(), allowed.into());
        }
    }

    /// The key that ends `at` is wrong.
    pub(super) fn problem_at_key(
        &mut self,
        at: &At<'_>,
        message: impl Into<String>,
        allowed: impl Into<String>,
    ) {
        if self.problems.len() < MAX_KEPT {
            self.keep(at, self.root.key_position(at), message.into(), allowed.into());
        }
    }

    fn keep(&mut self, at: &At<'_>, position: Position, message: String, allowed: String) {
        // What stands in for a value of the wrong type is not what somebody wrote.
        if !self.root.has(at) && at.above().any(|at| self.troubled.contains(&at.to_string())) {
            return;
        }
        let path = at.to_string();
        if self.troubled.insert(path.clone()) {
            self.problems.push(self.told(position, path, message, allowed));
        }
    }

    /// The value at `at` is legal, and likely not what was meant.
    pub(super) fn warning(&mut self, at: &At<'_>, message: impl Into<String>, allowed: impl Into<String>) {
        if self.warnings.len() < MAX_KEPT {
            let position = self.root.value_position(at);
            self.warnings.push(self.told(position, at.to_string(), message.into(), allowed.into()));
        }
    }

    fn told(&self, position: Position, path: String, message: String, allowed: String) -> Problem {
        let (line, column) = (position.line(), position.column());
        Problem { file: self.file.to_owned(), line, column, path, message, allowed }
    }

    /// Whether something is wrong with `key` below `at`: then nothing follows from its absence.
    pub(super) fn is_troubled(&self, at: &At<'_>, key: &str) -> bool {
        !self.troubled.is_empty() && self.troubled.contains(&at.key(key).to_string())
    }

    /// Reads `text` with `parse`, whose error says what is wrong with it: "has no port".
    pub(super) fn read<T: Text, R>(
        &mut self,
        at: &At<'_>,
        text: &T,
        parse: impl FnOnce(&str) -> Result<R, String>,
    ) -> Option<R> {
        match parse(text.text()) {
            Ok(value) => Some(value),
            Err(why) => {
                let message = match text.text() {
                    "" => why,
                    text => format!("`{}` {why}", shortened(text)),
                };
                self.problem(at, message, T::ALLOWED);
                None
            }
        }
    }

    /// Reads each of `texts`, and leaves out those that are wrong.
    pub(super) fn read_all<T: Text, R>(
        &mut self,
        at: &At<'_>,
        texts: &[T],
        parse: impl Fn(&str) -> Result<R, String>,
    ) -> Vec<R> {
        let texts = texts.iter().enumerate();
        texts.filter_map(|(index, text)| self.read(&at.index(index), text, &parse)).collect()
    }

    /// A piece of the text of the file.
    pub(super) fn source(&self, span: Span) -> &'a str {
        span.of(self.text)
    }

    /// The place of `written`, which is relative to the folder of the file.
    pub(super) fn path(&self, written: &str) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("")).join(written)
    }

    /// Everything that is wrong so far, where no more can be checked.
    pub(super) fn give_up(&mut self) -> Problems {
        Problems::sorted(std::mem::take(&mut self.problems))
    }

    /// The warnings, or everything that is wrong.
    pub(super) fn finish(self) -> Result<Vec<Problem>, Problems> {
        if self.problems.is_empty() {
            Ok(Problems::sorted(self.warnings).0)
        } else {
            Err(Problems::sorted(self.problems))
        }
    }
}

/// `a, b or c`, for a message; cut after 20.
pub(super) fn one_of<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.map(|name| format!("`{}`", shortened(name))).collect();
    match names.as_slice() {
        [] => "nothing, since there is none yet".into(),
        [only] => only.clone(),
        [first @ .., last] if first.len() < 20 => format!("{} or {last}", first.join(", ")),
        _ => format!(
            "{} and {} more",
            names.iter().take(20).cloned().collect::<Vec<_>>().join(", "),
            names.len() - 20
        ),
    }
}

/// The one of `names` that `text` was likely meant to be.
pub(super) fn nearest<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if text.len() > 64 {
        return None;
    }
    let bare = |name: &str| name.replace(['-', '_'], "").to_ascii_lowercase();
    let digits = |name: &str| name.chars().filter(char::is_ascii_digit).collect::<String>();
    let wanted = bare(text);
    let most = if wanted.len() < 6 { 1 } else { 2 };
    names
        // Nobody who writes `http2` means `http1`.
        .filter(|name| digits(name) == digits(text))
        .map(|name| (distance(&wanted, &bare(name)), name))
        .filter(|(distance, name)| *distance <= most && name.len() > *distance)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// How many letters must be changed, added, taken out or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > 2 {
        return usize::MAX;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, to) in b.iter().enumerate() {
            let at = |row: &[usize], n: usize| row.get(n).copied().unwrap_or(usize::MAX - 1);
            let kept = at(&last, j) + usize::from(from != to);
            let mut best = kept.min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            if i > 0 && j > 0 && Some(from) == b.get(j - 1) && a.get(i - 1) == Some(to) {
                best = best.min(at(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_misses() {
        let names = ["protocol", "healthCheck", "h2c", "https", "tls"];
        for (text, name) in [
            ("protcol", Some("protocol")),
            ("protoocl", Some("protocol")),
            ("health_check", Some("healthCheck")),
            ("HTTPS", Some("https")),
            ("h2", Some("h2c")),
            ("h3c", None),
            ("tsl", Some("tls")),
            ("baseline", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(text, names.into_iter()), name, "{text}");
        }
    }

    #[test]
    fn lists_read_as_a_sentence() {
        assert_eq!(one_of(["a"].into_iter()), "`a`");
        assert_eq!(one_of(["a", "b", "c"].into_iter()), "`a`, `b` or `c`");
        let many: Vec<_> = (0..30).map(|n| n.to_string()).collect();
        assert!(one_of(many.iter().map(String::as_str)).ends_with("`19` and 10 more"));
    }
}
