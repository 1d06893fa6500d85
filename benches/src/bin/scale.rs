//! What a big table costs the real binary, beside what a small one costs:
//! `cargo build --release -p sidetrack && cargo run --release -p sidetrack-benches --bin scale`.
//!
//! The binary is the one beside this program, or `$SIDETRACK`.

use std::env;
use std::fs;
use std::hint::black_box;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use sidetrack_benches::{Addresses, BIG, DOMAIN, Failed, SMALL, Size, refused, request, table, write};
use sidetrack_proxy::identify::identify;
use sidetrack_proxy::pick;
use sidetrack_proxy::route::route;

/// How long anything may take before it counts as broken.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often each change of the table is timed; the middle one counts.
const TURNS: usize = 5;
/// How long the admin listener is asked, over and over, once the proxy says that it is ready.
const WATCHED: Duration = Duration::from_secs(3);

fn main() -> Result<(), Failed> {
    println!(
        "| estate | file MB | ready s | RSS MB | peak MB | lookup ns | PUT ms | PUT to answer ms | file to answer ms | slowest /livez ms |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for (name, size) in [
        ("10 services, 10 forks", SMALL),
        ("the same, a file each", SMALL.in_files()),
        ("1,000 services, 100,000 forks", BIG),
        ("the same, a file each", BIG.in_files()),
    ] {
        let row = measure(size)?;
        println!(
            "| {name} | {:.1} | {:.2} | {:.1} | {:.1} | {:.0} | {:.1} | {:.1} | {:.0} | {:.0} |",
            row.file,
            row.ready,
            row.resident,
            row.peak,
            row.lookup,
            row.put,
            row.put_answer,
            row.file_answer,
            row.admin
        );
    }
    Ok(())
}

/// One line of the table.
struct Row {
    file: f64,
    ready: f64,
    resident: f64,
    peak: f64,
    lookup: f64,
    put: f64,
    put_answer: f64,
    file_answer: f64,
    admin: f64,
}

fn measure(size: Size) -> Result<Row, Failed> {
    let folder = tempfile::tempdir()?;
    let addresses =
        Addresses { listener: free_address()?, admin: free_address()?, baseline: upstream("baseline")? };
    let fork = upstream("fork")?;
    let path = write(folder.path(), size, &addresses)?;
    let file = megabytes(fs::metadata(&path)?.len());
    let lookup = lookup(size)?;
    let begun = Instant::now();
    let proxy = Proxy::start(&path)?;
    let ready = begun.elapsed().as_secs_f64();
    // Work that was put off until after the start shows as an admin listener that does not answer.
    let admin = slowest_answer(addresses.admin)?;
    let (resident, peak) = (proxy.memory("VmRSS:")?, proxy.memory("VmHWM:")?);
    let (mut put, mut put_answer, mut file_answer) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..TURNS {
        let body = format!("forks: {{service-0: [\"{fork}\"]}}\n");
        let begun = Instant::now();
        let status = ask(addresses.admin, &format!("PUT /v1/previews/put-{turn}"), "localhost", "", &body)?.0;
        put.push(begun.elapsed());
        if status >= 300 {
            return Err(format!("PUT was answered {status}").into());
        }
        answered_by_fork(addresses.listener, &format!("put-{turn}"), begun)?;
        put_answer.push(begun.elapsed());
        let begun = Instant::now();
        fs::write(folder.path().join(format!("previews.d/file-{turn}.yaml")), &body)?;
        answered_by_fork(addresses.listener, &format!("file-{turn}"), begun)?;
        file_answer.push(begun.elapsed());
    }
    Ok(Row {
        file,
        ready,
        resident,
        peak,
        lookup,
        put: middle(put),
        put_answer: middle(put_answer),
        file_answer: middle(file_answer),
        admin,
    })
}

/// Milliseconds of the middle one.
fn middle(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Nanoseconds of identify, route and pick for a request that meets a fork, over forks from all of the table.
fn lookup(size: Size) -> Result<f64, Failed> {
    const ROUNDS: usize = 200_000;
    let table = table(size)?;
    let stride = (size.forks / 1_000).max(1);
    let heads: Vec<_> = (0..size.forks)
        .step_by(stride)
        .map(|number| request(size.service(number)).with("x-pr-id", number.to_string()))
        .collect();
    let begun = Instant::now();
    for head in heads.iter().cycle().take(ROUNDS) {
        let decided = identify(head, &table).and_then(|identity| {
            let way = pick::way(route(head, &identity, &table)?, &table, 7)?;
            let target = way.service().map(|service| pick::target(&identity, service, &table)).transpose()?;
            Ok(target.map(|(target, reason)| (target.endpoints().len(), reason)))
        });
        black_box(decided).map_err(refused)?;
    }
    Ok(begun.elapsed().as_secs_f64() * 1e9 / ROUNDS as f64)
}

/// A proxy under test; it ends with this value.
struct Proxy(Child);

impl Proxy {
    /// Starts the binary, and waits until it says that it is ready.
    fn start(config: &Path) -> Result<Self, Failed> {
        let binary = env::var_os("SIDETRACK").map_or_else(beside, |path| Ok(PathBuf::from(path)))?;
        let mut child = Command::new(&binary)
            .args(["gateway", "-c"])
            .arg(config)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}; cargo build --release -p sidetrack", binary.display()))?;
        let log = child.stderr.take().ok_or("no standard error")?;
        let proxy = Self(child);
        let mut said = String::new();
        let mut lines = BufReader::new(log).lines();
        for line in lines.by_ref() {
            let line = line?;
            if line.contains("ready generation") {
                // Whoever writes to a pipe that nobody reads comes to a stop.
                thread::spawn(move || lines.for_each(drop));
                return Ok(proxy);
            }
            said.push_str(&line);
            said.push('\n');
        }
        Err(format!("the proxy did not start:\n{said}").into())
    }

    /// Megabytes of a line of `/proc/PID/status`.
    fn memory(&self, name: &str) -> Result<f64, Failed> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such line")?;
        let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(megabytes(kibibytes * 1024))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn beside() -> Result<PathBuf, Failed> {
    Ok(env::current_exe()?.with_file_name("sidetrack"))
}

fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// An upstream that answers every connection once, with its name.
fn upstream(name: &'static str) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer_once(stream, name));
        }
    });
    Ok(address)
}

fn answer_once(mut stream: TcpStream, name: &str) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?).lines();
    // The requests here have no body: a head ends with an empty line.
    while reader.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{name}", name.len())
}

/// Sends one request, and gives status and body of the answer.
fn ask(to: SocketAddr, what: &str, host: &str, fields: &str, body: &str) -> Result<(u16, String), Failed> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = body.len();
    write!(
        stream,
        "{what} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {length}\r\n{fields}\r\n{body}"
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let status = text.split(' ').nth(1).ok_or("no answer")?.parse()?;
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, body.to_owned()))
}

/// Asks with a key until the answer is the fork's.
fn answered_by_fork(listener: SocketAddr, key: &str, begun: Instant) -> Result<(), Failed> {
    while begun.elapsed() < PATIENCE {
        let host = format!("service-0.{DOMAIN}");
        if ask(listener, "GET /", &host, &format!("x-pr-id: {key}\r\n"), "")?.1 == "fork" {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(1));
    }
    Err(format!("preview {key} did not come into force").into())
}

/// Milliseconds of the slowest answer of the admin listener in the time that it is watched.
fn slowest_answer(admin: SocketAddr) -> Result<f64, Failed> {
    let begun = Instant::now();
    let mut slowest = Duration::ZERO;
    while begun.elapsed() < WATCHED {
        let asked = Instant::now();
        ask(admin, "GET /livez", "localhost", "", "")?;
        slowest = slowest.max(asked.elapsed());
        thread::sleep(Duration::from_millis(5));
    }
    Ok(slowest.as_secs_f64() * 1e3)
}
