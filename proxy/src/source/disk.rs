//! Writing a file so that a crash leaves the old one or the new one, and never half of one.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// No write takes longer: what is older of a file that was being written, a crash has left.
const LEFT: Duration = Duration::from_secs(60);
/// Digits that tell one writer's temporary file from another's.
const DIGITS: usize = 16;

/// Makes the folder at `path` where there is none, for good.
///
/// # Errors
/// What the file system says.
pub fn make_folder(path: &Path) -> io::Result<()> {
    make(path, 0o777)
}

/// The same for a folder that is nobody else's business.
///
/// # Errors
/// What the file system says.
pub fn make_private_folder(path: &Path) -> io::Result<()> {
    make(path, 0o700)
}

fn make(path: &Path, mode: u32) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|path| !path.exists()).collect();
    DirBuilder::new().recursive(true).mode(mode).create(path)?;
    missing.into_iter().try_for_each(sync_folder_of)
}

/// Whether what is in `folder` is for us to believe.
///
/// # Errors
/// What the file system says, or why somebody else could have put it there.
pub fn believe_folder(folder: &Path) -> io::Result<()> {
    believe("the folder", &fs::metadata(folder)?)
}

/// Opens the file at `path`, which is for us to believe.
///
/// # Errors
/// As [`believe_folder`].
pub fn open_believed(path: &Path) -> io::Result<File> {
    believe_folder(folder_of(path)?)?;
    let file = File::open(path)?;
    believe("the file", &file.metadata()?)?;
    Ok(file)
}

/// Root can do what it likes anyway, and volumes of pods are root's, for others to write to.
fn believe(what: &str, about: &fs::Metadata) -> io::Result<()> {
    let us = rustix::process::geteuid().as_raw();
    let why = match about.uid() {
        0 if about.is_dir() => return Ok(()),
        user if user != us && user != 0 => format!("belongs to user {user}, and we are {us}"),
        _ if about.mode() & 0o002 != 0 => "can be written by everybody".to_owned(),
        _ => return Ok(()),
    };
    let why = format!("{what} {why}: what is in it may be another's; choose another one");
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}

/// Replaces `path` by `bytes`: written beside it, synced, renamed over it, and the folder synced.
///
/// # Errors
/// What the file system says; the old file is then as it was. Only where nothing but the folder could not be synced, it
/// is the new one, and may not outlast a power cut.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_with(path, |file| file.write_all(bytes))
}

/// Replaces `path` by what `write` writes, in the same way.
///
/// # Errors
/// What `write` or the file system says; see [`replace`].
pub fn replace_with(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    let folder = File::open(folder_of(path)?)?;
    let temporary = beside(path)?;
    let written = write_to(&temporary, path, write).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written?;
    sync(&folder)
}

/// A name beside `path` that no other writer has, another process neither. A dot-file: whoever reads the folder leaves
/// it alone.
///
/// # Errors
/// `path` names no file.
pub fn beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidInput)?;
    let nonce = RandomState::new().hash_one(std::process::id());
    Ok(path.with_file_name(format!(".{name}.{nonce:0DIGITS$x}.tmp")))
}

/// The name of the file that the one at `path` was to become; `None`: it is none of ours.
pub fn left_of(path: &Path) -> Option<&str> {
    let name = path.file_name()?.to_str()?.strip_prefix('.')?.strip_suffix(".tmp")?;
    let (of, nonce) = name.rsplit_once('.')?;
    (nonce.len() == DIGITS && nonce.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(of)
}

/// Removes the temporary file at `path` where a crash has left it: another process may be at a younger one.
pub fn remove_left(path: &Path) {
    let age = fs::symlink_metadata(path).and_then(|about| about.modified()).map(|at| at.elapsed());
    if age.is_ok_and(|age| age.is_ok_and(|age| age > LEFT)) && fs::remove_file(path).is_ok() {
        tracing::info!(path = %path.display(), "removed what a crash had left of a file");
    }
}

/// Removes what crashes have left of the file at `path`, beside it.
pub fn remove_left_of(path: &Path) {
    let Ok(entries) = folder_of(path).and_then(fs::read_dir) else { return };
    let beside = entries.flatten().map(|entry| entry.path());
    beside
        .filter(|left| left_of(left).is_some_and(|of| path.ends_with(of)))
        .for_each(|left| remove_left(&left));
}

/// Writes a new file at `path`, with the permissions of `old` where that is there.
fn write_to(
    path: &Path,
    old: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    let mode = fs::metadata(old).ok().map(|about| about.permissions().mode() & 0o777);
    let file = OpenOptions::new().write(true).create_new(true).mode(mode.unwrap_or(0o666)).open(path)?;
    if let Some(mode) = mode {
        // More than the umask lets through; a file system without permissions has none to keep.
        let _ = file.set_permissions(Permissions::from_mode(mode));
    }
    let mut file = BufWriter::new(file);
    write(&mut file)?;
    file.into_inner()?.sync_all()
}

/// Adds `bytes` to the end of `path`, which is there.
///
/// # Errors
/// What the file system says; a part of them may be there then.
pub fn append(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_data()
}

/// Removes `path` for good.
///
/// # Errors
/// What the file system says; that it was not there is none. Where nothing but the folder could not be synced, it is
/// gone, and may be back after a power cut.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => sync_folder_of(path),
    }
}

/// Makes a file's name in its folder outlast a power cut.
///
/// # Errors
/// What the file system says.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    sync(&File::open(folder_of(path)?)?)
}

fn folder_of(path: &Path) -> io::Result<&Path> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    Ok(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
}

fn sync(folder: &File) -> io::Result<()> {
    match folder.sync_all() {
        // Some file systems know no such thing for a folder.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            Ok(())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn replaced_whole_and_nothing_left_beside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/42.yaml");
        make_folder(path.parent().unwrap()).unwrap();
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(names(path.parent().unwrap()), ["42.yaml"]);
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_failure_leaves_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("busy");
        fs::create_dir(&path).unwrap();
        assert!(replace(&path, b"x").is_err(), "a folder is in the way");
        let path = folder.path().join("old");
        fs::write(&path, "old").unwrap();
        let failing = replace_with(&path, |file| {
            file.write_all(&[b'x'; 100_000])?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert_eq!(failing.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["busy", "old"]);
    }

    #[test]
    fn permissions_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("42.yaml");
        for mode in [0o600, 0o666, 0o640] {
            fs::write(&path, "old").unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            replace(&path, b"new").unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
        }
        let private = folder.path().join("a/b");
        make_private_folder(&private).unwrap();
        assert_eq!(fs::metadata(&private).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn what_another_user_could_have_put_there_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.jsonl");
        fs::write(&path, "ours").unwrap();
        open_believed(&path).unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        let refused = |words: &str| {
            let error = open_believed(&path).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        };
        mode(&path, 0o666);
        refused("the file can be written by everybody");
        mode(&path, 0o660);
        open_believed(&path).unwrap();
        let is_root = rustix::process::geteuid().is_root();
        mode(folder.path(), 0o777);
        match is_root {
            // As that of a pod's volume.
            true => drop(open_believed(&path).unwrap()),
            false => return refused("the folder can be written by everybody"),
        }
        let own = |path: &Path| std::os::unix::fs::chown(path, Some(12345), None).unwrap();
        own(&path);
        refused("the file belongs to user 12345");
        mode(folder.path(), 0o700);
        own(folder.path());
        refused("the folder belongs to user 12345");
    }

    #[test]
    fn what_a_crash_left_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("42.yaml");
        let (left, young) = (beside(&path).unwrap(), beside(&path).unwrap());
        assert_ne!(left, young, "two writers");
        for path in [&left, &young] {
            assert_eq!(left_of(path), Some("42.yaml"));
            fs::write(path, "half").unwrap();
        }
        File::options().write(true).open(&left).unwrap().set_modified(SystemTime::now() - 2 * LEFT).unwrap();
        remove_left(&left);
        remove_left(&young);
        assert!(!left.exists() && young.exists());
        for other in
            ["42.yaml", ".42.yaml.tmp", ".42.yaml.0123456789abcdeg.tmp", "42.yaml.0123456789abcdef.tmp"]
        {
            assert_eq!(left_of(Path::new(other)), None, "{other}");
        }
    }
}
