//! Files and folders that a configuration names. What is read at the start must be there; what is written
//! later must have a place.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::report::Report;
use crate::document::text::{FilePath, Text};
use crate::document::{self, AccessLog as Written, LogFormat};
use crate::model::{AccessLog, LogPath, Secret};
use crate::source_map::{At, shortened};
use crate::stamp::Stamp;
use crate::stream::Secrets;

/// The longest secret: it must fit a request head.
const MAX_SECRET: u64 = 4 << 10;

/// The place of a path.
fn path(written: &FilePath, at: &At<'_>, report: &mut Report<'_>) -> Option<PathBuf> {
    let legal = |text: &str| match text {
        "" => Err("is empty".to_owned()),
        _ if text.contains('\0') => Err("has a zero byte".to_owned()),
        _ => Ok(()),
    };
    report.read(at, written, legal)?;
    Some(report.path(written.text()))
}

/// A file that can be read now.
pub(super) fn file(written: Option<&FilePath>, at: &At<'_>, report: &mut Report<'_>) -> Option<PathBuf> {
    let path = path(written?, at, report)?;
    match open(&path) {
        Ok(_) => Some(path),
        Err(why) => {
            report.problem(at, format!("the file `{}` {why}", shown(&path)), "a file that can be read");
            None
        }
    }
}

/// Opens a file; anything but a file (a pipe would block, a folder cannot be read) is refused first.
fn open(path: &Path) -> Result<(File, Option<Stamp>), String> {
    let cannot = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "is not there".to_owned(),
        std::io::ErrorKind::PermissionDenied => "may not be read by this user".to_owned(),
        _ => format!("cannot be read ({error})"),
    };
    let about = fs::metadata(path).map_err(cannot)?;
    if about.is_dir() {
        return Err("is a folder".into());
    }
    if !about.is_file() {
        return Err("is no regular file".into());
    }
    let file = File::open(path).map_err(cannot)?;
    Ok((file, Stamp::new(&about).ok()))
}

fn shown(path: &Path) -> String {
    shortened(&path.to_string_lossy())
}

/// The secret in a file, without surrounding white space.
pub(super) fn secret(written: Option<&FilePath>, at: &At<'_>, report: &mut Report<'_>) -> Option<Secret> {
    let allowed = "a file that holds one secret: one line of visible ASCII characters";
    content(written?, at, report, read_secret, allowed)
}

/// What `read` makes of a file.
fn content<T>(
    written: &FilePath,
    at: &At<'_>,
    report: &mut Report<'_>,
    read: impl FnOnce(File) -> Result<T, String>,
    allowed: &str,
) -> Option<T> {
    let path = path(written, at, report)?;
    match open(&path).and_then(|(file, stamp)| Ok((read(file)?, stamp))) {
        Ok((content, stamp)) => {
            report.has_read(path, stamp);
            Some(content)
        }
        Err(why) => {
            report.problem(at, format!("the file `{}` {why}", shown(&path)), allowed);
            None
        }
    }
}

fn read_secret(file: File) -> Result<Secret, String> {
    let bytes = read_short(file)?;
    let secret = bytes.trim_ascii();
    if secret.is_empty() {
        return Err("is empty".into());
    }
    // It is compared with the value of a header, which can hold nothing else.
    if !is_visible(secret) {
        return Err("has line breaks or characters that are not visible ASCII".into());
    }
    Ok(Secret(secret.to_vec()))
}

fn read_short(file: File) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    file.take(MAX_SECRET + 1).read_to_end(&mut bytes).map_err(|error| format!("cannot be read ({error})"))?;
    if bytes.len() as u64 > MAX_SECRET {
        return Err(format!("is longer than {MAX_SECRET} bytes"));
    }
    Ok(bytes)
}

fn is_visible(secret: &[u8]) -> bool {
    secret.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ')
}

/// The secrets in a file, one a line.
pub(super) fn secrets(
    written: Option<&FilePath>,
    at: &At<'_>,
    report: &mut Report<'_>,
) -> Option<Vec<Secret>> {
    let allowed = format!(
        "a file with 1 to {} secrets, one a line, each of at least {} visible ASCII characters",
        Secrets::MOST,
        Secrets::SHORTEST
    );
    content(written?, at, report, read_secrets, &allowed)
}

fn read_secrets(file: File) -> Result<Vec<Secret>, String> {
    let bytes = read_short(file)?;
    let lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    let secrets: Vec<Secret> = lines.map(|line| Secret(line.to_vec())).collect();
    match secrets.iter().position(|secret| secret.0.len() < Secrets::SHORTEST || !is_visible(&secret.0)) {
        _ if secrets.is_empty() => Err("is empty".into()),
        _ if secrets.len() > Secrets::MOST => Err(format!("has {} secrets", secrets.len())),
        Some(at) => Err(format!("has a secret that is too short, or none: number {}", at + 1)),
        None => Ok(secrets),
    }
}

/// The folder of what survives a restart. It is made when it is first needed.
pub(super) fn state_dir(written: Option<&FilePath>, report: &mut Report<'_>) -> PathBuf {
    let root = At::ROOT;
    let at = root.key("stateDir");
    let default = report.path(".sidetrack");
    let Some(path) = written.map_or(Some(default), |written| path(written, &at, report)) else {
        return PathBuf::new();
    };
    if fs::metadata(&path).is_ok_and(|about| !about.is_dir()) {
        report.problem(&at, format!("`{}` is no folder", shown(&path)), "a folder, which need not exist yet");
    }
    path
}

/// The folder of further previews. It may come later.
pub(super) fn previews_dir(written: Option<&FilePath>, report: &mut Report<'_>) -> Option<PathBuf> {
    let root = At::ROOT;
    let at = root.key("previewsDir");
    let path = path(written?, &at, report)?;
    match fs::metadata(&path) {
        Ok(about) if about.is_dir() => {}
        Ok(_) => {
            report.problem(&at, format!("`{}` is no folder", shown(&path)), "a folder of `KEY.yaml` files")
        }
        Err(_) => report.warning(
            &at,
            format!("the folder `{}` is not there yet", shown(&path)),
            "a folder of `KEY.yaml` files; it is read once it is there",
        ),
    }
    Some(path)
}

/// Where the access log goes: to standard output as JSON, unless told otherwise.
pub(super) fn access_log(written: Option<&Written>, report: &mut Report<'_>) -> AccessLog {
    let to = match written {
        Some(Written::Off(_) | Written::Word(_)) => return AccessLog::Off,
        Some(Written::To(to)) => to,
        None => &document::LogTo::default(),
    };
    let root = At::ROOT;
    let at = root.key("accessLog");
    let path = log_path(to.path.as_ref(), &at.key("path"), report).unwrap_or(LogPath::Stdout);
    match to.format {
        None | Some(LogFormat::Json) => AccessLog::Json(path),
        Some(LogFormat::Text) => AccessLog::Text(path),
    }
}

fn log_path(written: Option<&FilePath>, at: &At<'_>, report: &mut Report<'_>) -> Option<LogPath> {
    match written?.text() {
        "stdout" => return Some(LogPath::Stdout),
        "stderr" => return Some(LogPath::Stderr),
        _ => {}
    }
    let path = path(written?, at, report)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let why = if path.is_dir() {
        format!("`{}` is a folder", shown(&path))
    } else if !folder.is_dir() {
        format!("the folder `{}` is not there", shown(folder))
    } else {
        return Some(LogPath::File(path));
    };
    report.problem(at, why, "`stdout`, `stderr`, or a file in a folder that exists");
    None
}
