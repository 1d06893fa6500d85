//! The binary as a process that goes on: started, listened to, stopped.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

use crate::command::binary;
use crate::wait::eventually;

type Lines = Arc<Mutex<Vec<String>>>;

/// A running `sidetrack`. It is killed with its value.
pub struct Process {
    child: Child,
    name: String,
    stdout: Lines,
    stderr: Lines,
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself, which is what some tests want.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- what the {} said ---\n{}", self.name, self.stderr.lock().unwrap().join("\n"));
        }
    }
}

impl Process {
    /// Starts `sidetrack` with `arguments` in `folder`, with these variables in its environment.
    pub fn start(arguments: &[&str], folder: &Path, environment: &[(&str, &str)]) -> Self {
        Self::run(Command::new(binary()), arguments, folder, environment)
    }

    /// The same as this user, who is of the group of that number.
    pub fn start_as(user: u32, arguments: &[&str], folder: &Path, environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(binary());
        command.uid(user).gid(user);
        Self::run(command, arguments, folder, environment)
    }

    /// The same with so many open files at most.
    pub fn start_with_descriptors(most: usize, arguments: &[&str], folder: &Path) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -n {most}; exec \"$0\" \"$@\"")]).arg(binary());
        Self::run(shell, arguments, folder, &[])
    }

    /// The same, for [`Process::limit_files`]: what a longer file than allowed gives is an error and no signal.
    pub fn start_limited(arguments: &[&str], folder: &Path) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(binary());
        Self::run(shell, arguments, folder, &[])
    }

    /// The same, without room from the first moment; pipes have no such limit.
    pub fn start_full(arguments: &[&str], folder: &Path) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' XFSZ; ulimit -S -f 0; exec \"$0\" \"$@\""]).arg(binary());
        Self::run(shell, arguments, folder, &[])
    }

    fn run(mut command: Command, arguments: &[&str], folder: &Path, environment: &[(&str, &str)]) -> Self {
        command.args(arguments).current_dir(folder).env_remove("SIDETRACK_LOG");
        command.envs(environment.iter().copied());
        Self::of(command, arguments.first().copied().unwrap_or("binary"))
    }

    /// Starts what a command says, whatever that is; `name` is what it is called here.
    pub fn of(mut command: Command, name: &str) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = collect(child.stdout.take().unwrap());
        let stderr = collect(child.stderr.take().unwrap());
        Self { child, name: name.to_owned(), stdout, stderr }
    }

    /// Waits until it says `words` in a line of its standard error; fails the test if it ends before.
    pub async fn says(&mut self, words: &str) {
        let what = format!("the {} says {words:?}", self.name);
        eventually(&what, async || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the {} ended with {status}", self.name);
            }
            self.stderr().iter().any(|line| line.contains(words))
        })
        .await;
    }

    /// What it said on standard error so far.
    pub fn stderr(&self) -> Vec<String> {
        self.stderr.lock().unwrap().clone()
    }

    /// What it said on standard output so far.
    pub fn stdout(&self) -> Vec<String> {
        self.stdout.lock().unwrap().clone()
    }

    /// The bytes of memory that it has resident.
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
    }

    /// The processor time that it has used, in steps of 10 ms.
    pub fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // The name in parentheses may hold spaces; user and system time are the 12th and 13th field after it.
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends SIGHUP.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// Stops it where it is, as a machine without time for it would.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// No byte of a file that it writes from now on may be at `bytes` or beyond, as where a disk is full; `None`: any.
    pub fn limit_files(&self, bytes: Option<u64>) {
        prlimit(Some(self.pid()), Resource::Fsize, Rlimit { current: bytes, maximum: None }).unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap()
    }

    /// Whether the process has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        let what = format!("the {} ends", self.name);
        eventually(&what, async || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }
}

/// Collects the lines of a stream, colours taken out, until it ends.
fn collect(stream: impl Read + Send + 'static) -> Lines {
    let lines = Lines::default();
    let pen = lines.clone();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { return };
            pen.lock().unwrap().push(plain(&line));
        }
    });
    lines
}

/// A line without ANSI escapes.
fn plain(line: &str) -> String {
    let mut pieces = line.split("\u{1b}[");
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        plain.push_str(piece.split_once('m').map_or(piece, |(_, rest)| rest));
    }
    plain
}
