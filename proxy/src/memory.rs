//! How much memory this process has, and may have. Linux tells; elsewhere there is no limit.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

/// What an unset limit leaves to the system and to what comes between two looks.
const SHARE: (u64, u64) = (9, 10);

/// Tells how much memory this process has. It keeps its file open: it is asked many times a second, in every sidecar.
#[derive(Debug)]
pub struct Resident(File);

impl Resident {
    /// One of this process; `None`: the system does not tell.
    pub fn open() -> Option<Self> {
        File::open("/proc/self/statm").ok().map(Self)
    }

    /// Bytes of memory that this process has now.
    pub fn bytes(&self) -> Option<u64> {
        // Seven numbers of at most 20 digits.
        let mut text = [0; 160];
        let count = self.0.read_at(&mut text, 0).ok()?;
        let text = std::str::from_utf8(text.get(..count)?).ok()?;
        let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
        let page = u64::try_from(rustix::param::page_size()).ok()?;
        pages.checked_mul(page)
    }
}

/// How long a process that may have `room` bytes more can go unobserved: no flood fills a MiB in a millisecond. A hundred
/// milliseconds at least, and a second at most: a process that has nothing to do is to wake as seldom as it can.
pub fn next_look(room: u64) -> Duration {
    Duration::from_millis(room >> 20).clamp(Duration::from_millis(100), Duration::from_secs(1))
}

/// The bytes that this process may have: nine tenths of the memory of the machine, or of what the control groups that it
/// is in have.
pub fn allowed() -> Option<u64> {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| machine(&text));
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = limits(&groups).filter_map(|file| std::fs::read_to_string(file).ok()?.trim().parse().ok());
    let least = machine.into_iter().chain(group).min()?;
    Some(least / SHARE.1 * SHARE.0)
}

fn machine(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The files that hold limits of the groups in `/proc/self/cgroup`: of version 2 (`0::/path`) and of the memory
/// controller of version 1 (`4:memory:/path`), each with the groups above it. A container sees its own group as the root.
fn limits(groups: &str) -> impl Iterator<Item = std::path::PathBuf> {
    let found = groups.lines().filter_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let of_memory = controllers.split(',').any(|name| name == "memory");
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if of_memory => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => return None,
        };
        Some((root, path.trim_start_matches('/'), file))
    });
    found.flat_map(|(root, path, file)| {
        let above = Path::new(path).ancestors().map(move |group| Path::new(root).join(group).join(file));
        above.collect::<Vec<_>>()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_tells_is_read() {
        let resident = Resident::open().unwrap();
        let before = resident.bytes().unwrap();
        assert!(before > 1 << 20 && before < allowed().unwrap(), "{before}");
        let more = std::hint::black_box(vec![1_u8; 64 << 20]);
        let after = resident.bytes().unwrap();
        assert!(after > before + (32 << 20), "{before}, {after} with {} bytes more", more.len());
        assert_eq!(machine("MemTotal:       16 kB\nMemFree: 3 kB\n"), Some(16 << 10));
        assert_eq!(machine("MemTotal: many\n"), None);
    }

    #[test]
    fn it_is_looked_at_before_it_can_be_full() {
        for (room, millis) in
            [(0, 100), (50 << 20, 100), (230 << 20, 230), (8 << 30, 1_000), (u64::MAX, 1_000)]
        {
            assert_eq!(next_look(room), Duration::from_millis(millis), "{room}");
        }
    }

    #[test]
    fn limits_of_both_versions_and_of_the_groups_above() {
        let files = |groups: &str| limits(groups).map(|file| file.display().to_string()).collect::<Vec<_>>();
        assert_eq!(
            files("5:cpu:/x\n4:memory:/a/b\n0::/"),
            [
                "/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/a/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory.max",
            ]
        );
        assert!(files("nonsense\n7:cpu,cpuacct:/a").is_empty());
    }
}
