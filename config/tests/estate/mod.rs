//! A folder with everything that the good files name.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;

/// A folder with the files that the good files name.
pub(crate) fn estate(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in [
        ("tls/wild.crt", "cert"),
        ("tls/wild.key", "key"),
        ("tls/ca.pem", "ca"),
        ("secrets/token", "  s3cret\n"),
        ("secrets/admin", "adm1n"),
        ("secrets/keys", "the key that writes\n\n the key that was \n"),
        ("previews.d/57.yaml", "{}"),
    ] {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let file = folder.path().join("sidetrack.yaml");
    fs::write(&file, text).unwrap();
    (folder, file)
}
