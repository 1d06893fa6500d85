//! The file of secrets that all proxies of the estate share, by which they know trace ids and signatures of each other.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use sidetrack_config::stream::{Item, Secrets};
use tracing::{info, warn};

/// How often it is looked at.
const EVERY: Duration = Duration::from_secs(10);

/// Looks at the file now and then.
#[derive(Debug)]
pub(super) struct SecretsFile {
    path: PathBuf,
    looked: Option<Instant>,
    secrets: Option<Secrets>,
    told: Option<String>,
}

impl SecretsFile {
    /// The file at `path`, which nobody has read yet.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, looked: None, secrets: None, told: None }
    }

    /// Reads it anew where it is time; says whether it has others now. What can't be used leaves those before.
    pub(super) fn look(&mut self) -> bool {
        if self.looked.is_some_and(|looked| looked.elapsed() < EVERY) {
            return false;
        }
        self.looked = Some(Instant::now());
        let read = fs::read_to_string(&self.path).map_err(|error| error.to_string());
        match read.and_then(|text| secrets(&text)) {
            Ok(fresh) => {
                self.told = None;
                let is_new = self.secrets.as_ref() != Some(&fresh);
                if is_new {
                    info!(count = fresh.secrets.len(), "secrets of trace ids and signatures");
                    self.secrets = Some(fresh);
                }
                is_new
            }
            Err(error) => {
                if self.told.as_ref() != Some(&error) {
                    warn!(file = %self.path.display(), "secrets of proxies stay as they are: {error}");
                }
                self.told = Some(error);
                false
            }
        }
    }

    /// As it travels.
    pub(super) fn item(&self) -> Option<(Box<str>, Item)> {
        Some((Secrets::ID.into(), Item::Secrets(self.secrets.clone()?)))
    }
}

/// One secret a line, the one that writes first.
fn secrets(text: &str) -> Result<Secrets, String> {
    let lines: Vec<Box<str>> =
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(Box::from).collect();
    let is_good =
        |line: &str| line.len() >= Secrets::SHORTEST && line.bytes().all(|byte| byte.is_ascii_graphic());
    if !(1..=Secrets::MOST).contains(&lines.len()) || !lines.iter().all(|line| is_good(line)) {
        return Err(format!(
            "it has to hold 1 to {} secrets, one a line, each of at least {} visible ASCII characters",
            Secrets::MOST,
            Secrets::SHORTEST
        ));
    }
    Ok(Secrets { secrets: lines })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_secret_a_line() {
        let good = "first-secret-of-16\n\n second-secret-of-16 \n";
        let found = secrets(good).unwrap().secrets;
        assert_eq!(found, ["first-secret-of-16", "second-secret-of-16"].map(Box::from));
        let many = "a-secret-that-is-long\n".repeat(5);
        for bad in ["", "short\n", "first-secret-of-16\nshort\n", "with a blank in it, long\n", &many] {
            assert!(secrets(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_can_not_be_used_leaves_what_was() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = SecretsFile::new(folder.path().join("secrets"));
        assert!(!file.look());
        assert_eq!(file.item(), None);
        for (text, is_new) in [
            (Some("first-secret-of-16\n"), true),
            (Some("first-secret-of-16\n"), false),
            (Some("no\n"), false),
            (None, false),
            (Some("second-secret-of-16\nfirst-secret-of-16\n"), true),
        ] {
            match text {
                Some(text) => fs::write(&file.path, text).unwrap(),
                None => fs::remove_file(&file.path).unwrap(),
            }
            file.looked = None;
            assert_eq!(file.look(), is_new, "{text:?}");
            let Some((id, Item::Secrets(secrets))) = file.item() else { panic!("they are gone") };
            assert_eq!(
                (&*id, &*secrets.secrets[0] == "second-secret-of-16"),
                (Secrets::ID, text.is_some_and(|text| text.starts_with("second")))
            );
        }
        assert!(!file.look(), "not again at once");
    }
}
