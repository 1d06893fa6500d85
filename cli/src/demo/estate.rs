//! What the demo needs of the machine: free ports, a folder, and the configuration in it.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::samples::Sample;

/// The configuration; `@name@` stands for what is known only now.
const TEMPLATE: &str = include_str!("sidetrack.yaml");

/// The ports of the gateway, 0 for any free one.
#[derive(Clone, Copy)]
pub(super) struct Ports {
    pub(super) http: u16,
    pub(super) https: u16,
    pub(super) admin: u16,
}

impl Ports {
    /// Looks whether all of them can be had. A gateway takes over the port of another one, which a demo must not.
    ///
    /// # Errors
    /// Which one can't be had, and what to write instead.
    pub(super) fn look(self) -> anyhow::Result<()> {
        let all = [("--http-port", self.http), ("--https-port", self.https), ("--admin-port", self.admin)];
        for (number, (flag, port)) in all.into_iter().enumerate().filter(|(_, (_, port))| *port != 0) {
            if let Some((other, _)) = all.into_iter().take(number).find(|(_, before)| *before == port) {
                bail!(
                    "{other} and {flag} are both {port}; give each a port of its own, or 0 for any free one"
                );
            }
            vacant(flag, port)?;
        }
        Ok(())
    }
}

/// Clients try `::1` for a name below `localhost` too, and before `127.0.0.1`: whoever listens there would answer.
fn vacant(flag: &str, port: u16) -> anyhow::Result<()> {
    for address in
        [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))]
    {
        match TcpListener::bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => bail!(
                "port {port} is in use: something listens on {address} already (`ss -ltnp` shows what); \
                 stop it, or choose another port with {flag} PORT (0: any free one)"
            ),
            Err(error) if address.is_ipv4() => {
                return Err(error)
                    .with_context(|| format!("port {port} can't be had; choose another with {flag} PORT"));
            }
            // A machine without IPv6 has nobody there.
            Ok(_) | Err(_) => {}
        }
    }
    Ok(())
}

/// The folder of the demo. One that nobody named is removed when this is dropped.
pub(super) struct Folder {
    path: PathBuf,
    /// Somebody named it.
    pub(super) keeps: bool,
    /// Held as long as the demo runs.
    _lock: File,
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.keeps
            && let Err(error) = fs::remove_dir_all(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            crate::out::tell(&format!("the folder {} could not be removed: {error}", self.path.display()));
        }
    }
}

impl Folder {
    /// The folder `named`, made where it is missing, or a fresh one.
    ///
    /// # Errors
    /// When it can't be had.
    pub(super) fn new(named: Option<&Path>) -> anyhow::Result<Self> {
        let path = match named {
            Some(path) => fs::create_dir_all(path)
                .map(|()| path.to_owned())
                .with_context(|| format!("the folder {} can't be had", path.display()))?,
            None => fresh().with_context(|| {
                let all = std::env::temp_dir();
                format!("no folder can be made in {}; name one with --dir DIR", all.display())
            })?,
        };
        // What is printed must work from anywhere.
        let path = path.canonicalize()?;
        let lock = lock(&path)?;
        Ok(Self { path, keeps: named.is_some(), _lock: lock })
    }

    /// Its path, absolute.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the configuration, over an earlier one of the demo but over nobody else's; gives its path.
    ///
    /// # Errors
    /// When it can't be written.
    pub(super) fn write(&self, ports: Ports, samples: &[Sample]) -> anyhow::Result<PathBuf> {
        let file = self.path.join("sidetrack.yaml");
        let mark = TEMPLATE.lines().next().unwrap_or_default();
        match fs::read(&file) {
            Ok(text) if !text.starts_with(mark.as_bytes()) => {
                bail!("{} is not the demo's; name another folder with --dir DIR", file.display())
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("{} can't be read", file.display()));
            }
            _ => {}
        }
        let previews = self.path.join("previews.d");
        fs::create_dir_all(&previews)
            .and_then(|()| fs::write(&file, configuration(ports, samples)))
            .with_context(|| format!("the folder {} can't be written", self.path.display()))?;
        Ok(file)
    }
}

/// Keeps a second demo out of the folder: its configuration would become the first one's.
fn lock(folder: &Path) -> anyhow::Result<File> {
    let file = File::create(folder.join(".demo.lock"))
        .with_context(|| format!("the folder {} can't be written", folder.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!("another demo runs in {}; name another folder with --dir DIR", folder.display())
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("the folder {} can't be locked", folder.display()))
        }
    }
}

/// A folder of a name that nobody can know before: making it fails where it is there already.
fn fresh() -> io::Result<PathBuf> {
    use std::hash::BuildHasher;
    let number = std::collections::hash_map::RandomState::new().hash_one(std::process::id());
    let path = std::env::temp_dir().join(format!("sidetrack-demo-{:08x}", number >> 32));
    DirBuilder::new().mode(0o700).create(&path)?;
    Ok(path)
}

fn configuration(ports: Ports, samples: &[Sample]) -> String {
    let mut text = TEMPLATE.to_owned();
    for (name, port) in [("http", ports.http), ("https", ports.https), ("admin", ports.admin)] {
        text = text.replace(&format!("@{name}@"), &port.to_string());
    }
    for sample in samples {
        text = text.replace(&format!("@{}@", sample.name()), &sample.address.to_string());
    }
    text
}
