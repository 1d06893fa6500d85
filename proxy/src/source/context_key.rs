//! The secret of trace ids that a gateway makes for itself where the configuration names none: `context.key` under
//! `stateDir`, made once.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use sidetrack_config::model::Secret;
use sidetrack_config::stream::Secrets;

use super::disk;
use crate::hex;

const FILE: &str = "context.key";
/// More than it ever has.
const MAX_BYTES: u64 = 4096;

/// The secret of `state_dir`, made where there is none: 256 random bits, for nobody else's eyes. Two processes that come
/// at the same time get the same one.
///
/// # Errors
/// What the file system says; what is there is no secret.
pub fn open(state_dir: &Path) -> io::Result<Secret> {
    let path = state_dir.join(FILE);
    disk::remove_left_of(&path);
    match read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make(state_dir, &path)?;
            read(&path)
        }
        read => read,
    }
}

fn read(path: &Path) -> io::Result<Secret> {
    let text = io::read_to_string(io::Read::take(File::open(path)?, MAX_BYTES))?;
    match text.trim().as_bytes() {
        secret if secret.len() < Secrets::SHORTEST => {
            Err(io::Error::new(ErrorKind::InvalidData, "it holds no secret"))
        }
        secret => Ok(Secret(secret.to_vec())),
    }
}

/// Written beside its place and put there whole, unless another process was faster.
fn make(state_dir: &Path, path: &Path) -> io::Result<()> {
    disk::make_private_folder(state_dir)?;
    let mut bits = [[0; 16]; 2];
    for half in &mut bits {
        aws_lc_rs::rand::fill(half).map_err(|_| io::Error::other("the system gives no randomness"))?;
    }
    let temporary = disk::beside(path)?;
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        bits.iter().try_for_each(|half| file.write_all(&hex::digits::<32>(u128::from_be_bytes(*half))))?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        match fs::hard_link(&temporary, path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        }
    })();
    let _ = fs::remove_file(&temporary);
    written?;
    disk::sync_folder_of(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn it_is_made_once_and_for_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let made: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| open(&state).unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(made[0].0.len(), 64);
        assert!(made.iter().all(|secret| *secret == made[0]));
        let names: Vec<_> = fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, [FILE], "nothing is left beside it");
        assert_eq!(fs::metadata(state.join(FILE)).unwrap().permissions().mode() & 0o777, 0o600);
        assert_ne!(open(&folder.path().join("other")).unwrap(), made[0]);
    }

    #[test]
    fn what_is_no_secret_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), "short\n").unwrap();
        assert_eq!(open(folder.path()).unwrap_err().kind(), ErrorKind::InvalidData);
        fs::write(folder.path().join(FILE), "a secret of somebody\n").unwrap();
        assert_eq!(open(folder.path()).unwrap(), Secret(b"a secret of somebody".to_vec()));
    }
}
