//! Both programs as children.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tests::http;

use crate::args::Common;
use crate::time::{Watch, pause};

/// How long a start or an end may take before the bench gives up: a large backlog's end takes a while.
const PATIENCE: Duration = Duration::from_secs(300);

/// A program with its flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// As the tables name it.
    pub name: &'static str,
    kind: Kind,
    flags: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ours(&'static str),
    Nsqd,
}

impl Program {
    /// `nsq-edge broker` with its defaults.
    pub fn broker() -> Program {
        Program::ours("nsq-edge", "broker")
    }

    /// `nsq-edge gateway`: broker, lookupd and forwarder.
    pub fn gateway() -> Program {
        Program::ours("nsq-edge gateway", "gateway")
    }

    fn ours(name: &'static str, subcommand: &'static str) -> Program {
        Program {
            name,
            kind: Kind::Ours(subcommand),
            flags: Vec::new(),
        }
    }

    /// nsqd as it starts without flags: 10,000 messages of each topic and channel in memory.
    pub fn nsqd() -> Program {
        Program {
            name: "nsqd",
            kind: Kind::Nsqd,
            flags: Vec::new(),
        }
    }

    /// nsqd that holds this many messages of each topic and channel in memory and so writes none.
    pub fn nsqd_in_memory(messages: u64) -> Program {
        let flag = format!("-mem-queue-size={messages}");
        Program::nsqd().named("nsqd in memory").with(&[&flag])
    }

    /// nsqd that writes all messages to files and syncs them as often as it does by default.
    pub fn nsqd_on_disk() -> Program {
        Program::nsqd()
            .named("nsqd on disk")
            .with(&["-mem-queue-size=0"])
    }

    /// nsqd that writes and syncs each message. (It still answers before the sync.)
    pub fn nsqd_durable() -> Program {
        Program::nsqd()
            .named("nsqd durable")
            .with(&["-mem-queue-size=0", "-sync-every=1"])
    }

    /// Under this name.
    pub fn named(mut self, name: &'static str) -> Program {
        self.name = name;
        self
    }

    /// With these flags (nsqd) or keys (ours, `KEY=VALUE`) besides.
    pub fn with(mut self, flags: &[&str]) -> Program {
        self.flags
            .extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    /// Is it nsq-edge?
    pub fn is_ours(&self) -> bool {
        self.kind != Kind::Nsqd
    }

    /// The line for the results: what was started.
    pub fn command_line(&self) -> String {
        let (first, join) = match self.kind {
            Kind::Ours(subcommand) => (format!("nsq-edge {subcommand}"), " --set "),
            Kind::Nsqd => ("nsqd".into(), " "),
        };
        self.flags
            .iter()
            .fold(first, |line, flag| line + join + flag)
    }

    fn command(&self, common: &Common, at: &Addresses, data: &Path) -> Command {
        let Kind::Ours(subcommand) = self.kind else {
            let mut command = Command::new(&common.nsqd);
            command
                .arg(format!("-tcp-address={}", at.tcp))
                .arg(format!("-http-address={}", at.http))
                .arg(format!("-data-path={}", data.display()))
                .args(&self.flags);
            return command;
        };
        let mut command = Command::new(&common.edge);
        command.arg(subcommand);
        let mut keys = vec![
            format!("broker.tcp_address=\"{}\"", at.tcp),
            format!("broker.http_address=\"{}\"", at.http),
            format!("data_path=\"{}\"", data.display()),
        ];
        if subcommand == "gateway" {
            keys.push(format!("lookupd.tcp_address=\"{}\"", free_address()));
            keys.push(format!("lookupd.http_address=\"{}\"", free_address()));
        }
        for key in keys.iter().chain(&self.flags) {
            command.arg("--set").arg(key);
        }
        command
    }
}

struct Addresses {
    tcp: SocketAddr,
    http: SocketAddr,
}

/// A running one. Killed when dropped.
pub struct Server {
    child: Option<Child>,
    log: PathBuf,
    /// Its process.
    pub pid: u32,
    /// NSQ's protocol.
    pub tcp: SocketAddr,
    /// HTTP.
    pub http: SocketAddr,
    /// Its directory.
    pub data: PathBuf,
}

impl Server {
    /// Starts `program` on the directory `data` and waits until it answers.
    pub fn start(common: &Common, program: &Program, data: &Path) -> Server {
        let mut server = Server::launch(common, program, data);
        let watch = Watch::start();
        while !http::pings(server.http) {
            server.check_alive();
            assert!(watch.elapsed() < PATIENCE, "no answer: {}", server.log());
            pause(Duration::from_millis(5));
        }
        server
    }

    /// Starts it and does not wait.
    pub fn launch(common: &Common, program: &Program, data: &Path) -> Server {
        fs::create_dir_all(data).unwrap();
        let at = Addresses {
            tcp: free_address(),
            http: free_address(),
        };
        let command = program.command(common, &at, data);
        Server::spawn(common, command, at, data, program.name)
    }

    /// nsqlookupd.
    pub fn lookupd(common: &Common) -> Server {
        let at = Addresses {
            tcp: free_address(),
            http: free_address(),
        };
        let mut command = Command::new(common.nsqd.with_file_name("nsqlookupd"));
        command
            .arg(format!("-tcp-address={}", at.tcp))
            .arg(format!("-http-address={}", at.http));
        Server::spawn(common, command, at, &common.work, "nsqlookupd")
    }

    /// nsq_to_nsq, from this server's topic `clicks` back to it.
    pub fn relay(common: &Common, from: &Server) -> Server {
        let at = Addresses {
            tcp: from.tcp,
            http: from.http,
        };
        let mut command = Command::new(common.nsqd.with_file_name("nsq_to_nsq"));
        command
            .args([
                "-topic=clicks",
                "-channel=uplink",
                "-destination-topic=copy",
            ])
            .arg(format!("-nsqd-tcp-address={}", from.tcp))
            .arg(format!("-destination-nsqd-tcp-address={}", from.tcp));
        Server::spawn(common, command, at, &common.work, "nsq_to_nsq")
    }

    fn spawn(
        common: &Common,
        mut command: Command,
        at: Addresses,
        data: &Path,
        name: &str,
    ) -> Server {
        let log = common.work.join(format!("{}.log", name.replace(' ', "-")));
        let out = File::create(&log).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let pid = child.id();
        // The wrapper ends these if we cannot.
        let mut pids = File::options()
            .create(true)
            .append(true)
            .open(common.work.join("pids"))
            .unwrap();
        writeln!(pids, "{pid}").unwrap();
        Server {
            child: Some(child),
            log,
            pid,
            tcp: at.tcp,
            http: at.http,
            data: data.to_path_buf(),
        }
    }

    /// Connects as soon as it listens.
    pub fn connect_soon(&mut self) -> TcpStream {
        let watch = Watch::start();
        loop {
            if let Ok(stream) = TcpStream::connect(self.tcp) {
                return stream;
            }
            self.check_alive();
            assert!(watch.elapsed() < PATIENCE, "never listens: {}", self.log());
            pause(Duration::from_micros(500));
        }
    }

    /// Makes a topic with channels.
    pub fn create(&self, topic: &str, channels: &[&str]) {
        self.ask(&format!("/topic/create?topic={topic}"));
        for channel in channels {
            self.ask(&format!("/channel/create?topic={topic}&channel={channel}"));
        }
    }

    fn ask(&self, target: &str) {
        let reply = http::post(self.http, target, b"");
        assert_eq!(reply.status, 200, "{target}: {}", reply.text());
    }

    /// GET /stats.
    pub fn stats(&self) -> Value {
        http::get(self.http, "/stats?format=json").json()
    }

    /// One of our store's counters; 0 for nsqd, which has none.
    pub fn counter(&self, key: &str) -> f64 {
        self.stats()["storage"][key].as_f64().unwrap_or(0.0)
    }

    /// Waits until all channels of all topics have this depth, the topics themselves nothing, and nothing is in
    /// flight.
    pub fn wait_for_depth(&self, depth: u64) {
        let watch = Watch::start();
        while !self.has_depth(depth) {
            assert!(
                watch.elapsed() < PATIENCE,
                "depth is not {depth}: {}",
                self.stats()
            );
            pause(Duration::from_millis(20));
        }
    }

    fn has_depth(&self, depth: u64) -> bool {
        let stats = self.stats();
        let topics = stats["topics"].as_array().cloned().unwrap_or_default();
        topics.iter().all(|topic| {
            let channels = topic["channels"].as_array().cloned().unwrap_or_default();
            topic["depth"] == 0
                && channels.iter().all(|channel| {
                    channel["depth"].as_u64() == Some(depth) && channel["in_flight_count"] == 0
                })
        })
    }

    /// SIGKILL, and its end.
    pub fn kill_9(self) {}

    fn check_alive(&mut self) {
        let ended = self.child.as_mut().and_then(|c| c.try_wait().unwrap());
        assert!(ended.is_none(), "ended at once: {}", self.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _gone = child.kill();
            let _reaped = child.wait();
        }
    }
}

/// Bytes that the files of a directory occupy, those whose name `counts`.
pub fn occupied(directory: &Path, counts: impl Fn(&str) -> bool + Copy) -> u64 {
    let mut bytes = 0;
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else {
            continue; // gone meanwhile
        };
        if metadata.is_dir() {
            bytes += occupied(&entry.path(), counts);
        } else if counts(&entry.file_name().to_string_lossy()) {
            bytes += metadata.blocks() * 512;
        }
    }
    bytes
}

/// Bytes of the files of a directory up to the last one that is not zero: without what is reserved for later.
pub fn used(directory: &Path) -> u64 {
    let files = fs::read_dir(directory).into_iter().flatten().flatten();
    files
        .filter_map(|file| fs::read(file.path()).ok())
        .filter_map(|bytes| bytes.iter().rposition(|byte| *byte != 0))
        .map(|last| last as u64 + 1)
        .sum()
}

fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap()
}
