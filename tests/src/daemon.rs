//! Real and our programs as children: free ports, directories of their own, killed when dropped.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::{env, process, thread};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::{http, wait};

/// Whose program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// NSQ's own, v1.3.0, built by `tests/run peers`.
    Real,
    /// nsq-edge, called through a link of the program's name.
    Ours,
}

impl Peer {
    /// Where this peer's `nsqd`, `nsqlookupd` or `nsq_to_nsq` lies.
    pub fn program(self, name: &str) -> PathBuf {
        let path = match self {
            Peer::Real => peers_dir().join("bin").join(name),
            Peer::Ours => ours_dir().join(name),
        };
        assert!(
            path.exists(),
            "{} is missing: run `tests/run peers`",
            path.display()
        );
        path
    }
}

/// `target/peers`: what `tests/run peers` builds.
pub fn peers_dir() -> PathBuf {
    profile_dir().parent().unwrap().join("peers")
}

/// The workspace's root.
pub fn workspace_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

/// Our executable: `NSQ_EDGE` if set (as `tests/run` does), else built now, so that no test meets an old one.
pub fn edge_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(path) = env::var_os("NSQ_EDGE") {
            return fs::canonicalize(&path)
                .unwrap_or_else(|error| panic!("NSQ_EDGE={path:?}: {error}"));
        }
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo)
            .args(["build", "--quiet", "--package", "nsq-edge"])
            .current_dir(workspace_dir())
            .status()
            .unwrap();
        assert!(status.success(), "nsq-edge does not build");
        profile_dir().parent().unwrap().join("debug/nsq-edge")
    })
}

/// A port of 127.0.0.1 that nobody listens on, below the range that outgoing connections take theirs from.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 15_000;
    const COUNT: u16 = 16_000;
    loop {
        let offset = NEXT
            .fetch_add(1, Ordering::Relaxed)
            .wrapping_add(process::id() as u16 % 160 * 100);
        let port = FIRST + offset % COUNT;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// A running daemon with its directory. Killed (SIGKILL) when dropped; its log is shown if the test failed.
pub struct Daemon {
    program: PathBuf,
    args: Vec<String>,
    child: Option<Child>,
    directory: TempDir,
    data: PathBuf,
    /// Where it speaks V2 or V1.
    pub tcp: SocketAddr,
    /// Where it speaks HTTP.
    pub http: SocketAddr,
}

impl Daemon {
    /// nsqd with `flags` besides its addresses and its data path.
    pub fn nsqd(peer: Peer, flags: &[&str]) -> Daemon {
        Daemon::nsqd_in(peer, flags, None)
    }

    /// nsqd that registers with `lookupds`.
    pub fn nsqd_registered(peer: Peer, lookupds: &[&Daemon]) -> Daemon {
        let flags: Vec<String> = lookupds
            .iter()
            .map(|lookupd| format!("-lookupd-tcp-address={}", lookupd.tcp))
            .collect();
        let mut flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        flags.push("-broadcast-address=127.0.0.1");
        Daemon::nsqd(peer, &flags)
    }

    /// nsqd on a data directory of the caller's.
    pub fn nsqd_in(peer: Peer, flags: &[&str], data: Option<&Path>) -> Daemon {
        let mut daemon = Daemon::prepare(peer, "nsqd", flags);
        if let Some(data) = data {
            daemon.data = data.to_path_buf();
        }
        daemon
            .args
            .push(format!("-data-path={}", daemon.data.display()));
        daemon.start();
        daemon
    }

    /// nsqlookupd.
    pub fn nsqlookupd(peer: Peer, flags: &[&str]) -> Daemon {
        let mut daemon = Daemon::prepare(peer, "nsqlookupd", flags);
        daemon.args.push("-broadcast-address=127.0.0.1".into());
        daemon.start();
        daemon
    }

    /// Starts again after [`Daemon::kill_9`] or [`Daemon::terminate`], on the same ports and directory.
    pub fn start(&mut self) {
        self.spawn();
        let (tcp, http) = (self.tcp, self.http);
        wait::until(
            &format!("{} answers on {tcp} and {http}", self.program.display()),
            || {
                if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                    panic!(
                        "{} ended before it answered, {status}:\n{}",
                        self.program.display(),
                        self.log()
                    );
                }
                TcpStream::connect(tcp).is_ok() && http::pings(http)
            },
        );
    }

    /// Starts and waits for the end: for a start that must be refused.
    pub fn start_and_wait(&mut self) -> ExitStatus {
        self.spawn();
        self.child.take().unwrap().wait().unwrap()
    }

    /// A second one like this: same flags, data and log, ports of its own. Not started.
    pub fn twin(&self) -> Daemon {
        let directory = tempfile::tempdir().unwrap();
        let (tcp, http) = addresses();
        let args = self
            .args
            .iter()
            .map(|arg| arg.replace(&self.tcp.to_string(), &tcp.to_string()))
            .map(|arg| arg.replace(&self.http.to_string(), &http.to_string()))
            .collect();
        let (program, data) = (self.program.clone(), self.data.clone());
        Daemon {
            program,
            args,
            child: None,
            directory,
            data,
            tcp,
            http,
        }
    }

    /// The next start is on this data path.
    pub fn move_data(&mut self, to: &Path) {
        let (old, new) = (self.data.display().to_string(), to.display().to_string());
        for arg in &mut self.args {
            *arg = arg.replace(&old, &new);
        }
        self.data = to.to_path_buf();
    }

    /// SIGKILL, and the end awaited.
    pub fn kill_9(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGTERM, and the end awaited.
    pub fn terminate(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
        wait::until_some("the end after SIGTERM", || child.try_wait().unwrap())
    }

    /// Has it ended by itself?
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child
            .as_mut()
            .and_then(|child| child.try_wait().unwrap())
    }

    /// What it has printed so far, over all its starts.
    pub fn log(&self) -> String {
        fs::read(self.log_path())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Where its data lies.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Resident memory now, in KiB.
    pub fn resident_kib(&self) -> u64 {
        let id = self.child.as_ref().unwrap().id();
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// GET /stats as JSON.
    pub fn stats(&self) -> serde_json::Value {
        http::get(self.http, "/stats?format=json").json()
    }

    /// One number of a channel in /stats; 0 while topic or channel is not there.
    pub fn channel_stat(&self, topic: &str, channel: &str, key: &str) -> i64 {
        let stats = self.stats();
        let named = |list: &serde_json::Value, key: &str, name: &str| {
            list.as_array()
                .and_then(|list| list.iter().find(|one| one[key] == name).cloned())
                .unwrap_or_default()
        };
        let topic = named(&stats["topics"], "topic_name", topic);
        named(&topic["channels"], "channel_name", channel)[key]
            .as_i64()
            .unwrap_or(0)
    }

    fn prepare(peer: Peer, name: &str, flags: &[&str]) -> Daemon {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        fs::create_dir(&data).unwrap();
        let (tcp, http) = addresses();
        let mut args = vec![
            format!("-tcp-address={tcp}"),
            format!("-http-address={http}"),
        ];
        args.extend(flags.iter().map(|flag| (*flag).to_owned()));
        Daemon {
            program: peer.program(name),
            args,
            child: None,
            directory,
            data,
            tcp,
            http,
        }
    }

    fn spawn(&mut self) {
        assert!(self.child.is_none(), "already running");
        let mut log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path())
            .unwrap();
        writeln!(log, "== {} {}", self.program.display(), self.args.join(" ")).unwrap();
        self.child = Some(spawn(&self.program, &self.args, &log));
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("log")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _gone = child.kill();
            let _reaped = child.wait();
        }
        if thread::panicking() {
            show_log(&self.program, &self.log());
        }
    }
}

/// A program without ports: nsq_to_nsq, a forwarder.
pub struct Tool {
    program: PathBuf,
    child: Child,
    directory: TempDir,
}

impl Tool {
    /// Starts this peer's program of that name.
    pub fn start(peer: Peer, name: &str, args: &[String]) -> Tool {
        Tool::start_at(peer.program(name), args)
    }

    /// Starts `nsq-edge` with these arguments.
    pub fn edge(args: &[String]) -> Tool {
        Tool::start_at(edge_binary().to_path_buf(), args)
    }

    /// What it has printed so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// SIGTERM, and the end awaited.
    pub fn terminate(&mut self) -> ExitStatus {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM).unwrap();
        wait::until_some("the end after SIGTERM", || self.child.try_wait().unwrap())
    }

    fn start_at(program: PathBuf, args: &[String]) -> Tool {
        let directory = tempfile::tempdir().unwrap();
        let log = File::create(directory.path().join("log")).unwrap();
        let child = spawn(&program, args, &log);
        Tool {
            program,
            child,
            directory,
        }
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
        if thread::panicking() {
            show_log(&self.program, &self.log());
        }
    }
}

fn spawn(program: &Path, args: &[String], log: &File) -> Child {
    Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log.try_clone().unwrap())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()))
}

fn show_log(program: &Path, log: &str) {
    const LINES: usize = 40;
    // Ours asked these questions, again and again.
    let asked = |line: &&str| {
        ["GET /stats", "GET /ping", "GET /lookup", "GET /nodes"]
            .iter()
            .any(|part| line.contains(part))
    };
    let lines: Vec<&str> = log.lines().filter(|line| !asked(line)).collect();
    let from = lines.len().saturating_sub(LINES);
    eprintln!("---- log of {} (its last {LINES} lines)", program.display());
    eprintln!("{}\n----", lines[from..].join("\n"));
}

fn addresses() -> (SocketAddr, SocketAddr) {
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    (local(free_port()), local(free_port()))
}

/// `target/debug`, from where this test itself runs.
fn profile_dir() -> PathBuf {
    let test = env::current_exe().unwrap();
    test.parent().and_then(Path::parent).unwrap().to_path_buf()
}

/// Links to our executable, beside it, named as NSQ's programs.
fn ours_dir() -> &'static Path {
    static LINKS: OnceLock<PathBuf> = OnceLock::new();
    LINKS.get_or_init(|| {
        let edge = edge_binary();
        let links = edge.parent().unwrap().join("as-nsq");
        fs::create_dir_all(&links).unwrap();
        for name in ["nsqd", "nsqlookupd", "nsq_to_nsq"] {
            match symlink(edge, links.join(name)) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    panic!("{}: {error}", links.display())
                }
                _ => {}
            }
        }
        links
    })
}
