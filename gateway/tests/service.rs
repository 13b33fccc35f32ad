//! As a service of systemd: readiness, watchdog, passed sockets. With the feature `systemd` only.
#![cfg(feature = "systemd")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const PROGRAM: &str = env!("CARGO_BIN_EXE_nsq-edge");
const PATIENCE: Duration = Duration::from_secs(60);

/// Killed when the test ends however it ends.
struct Running(Child);

impl Running {
    fn end(mut self) -> Option<i32> {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").arg(id).status().unwrap().success());
        self.0.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `gateway` on free ports, through a shell that runs `before` first and becomes it.
fn gateway(directory: &Path, before: &str) -> Command {
    let mut command = Command::new("sh");
    command.args([
        "-c",
        &format!("{before} exec \"$0\" \"$@\""),
        PROGRAM,
        "gateway",
    ]);
    command
        .arg("--set")
        .arg(format!("data_path={}", directory.join("data").display()));
    for key in ["broker.tcp", "broker.http", "lookupd.tcp", "lookupd.http"] {
        command
            .arg("--set")
            .arg(format!("{key}_address=127.0.0.1:0"));
    }
    for name in [
        "RUST_LOG",
        "WATCHDOG_USEC",
        "WATCHDOG_PID",
        "LISTEN_FDS",
        "LISTEN_PID",
    ] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).stderr(Stdio::null());
    command
}

fn manager(directory: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(directory.join("notify")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// The next word that is not a status text.
fn heard(manager: &UnixDatagram) -> String {
    let mut buffer = [0; 4096];
    loop {
        let length = manager.recv(&mut buffer).unwrap();
        let word = String::from_utf8_lossy(&buffer[..length]).trim().to_owned();
        if !word.starts_with("STATUS=") {
            return word;
        }
    }
}

#[test]
fn readiness_watchdog_and_stopping_are_told_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let manager = manager(directory.path());
    let mut command = gateway(directory.path(), "WATCHDOG_PID=$$; export WATCHDOG_PID;");
    command
        .env("NOTIFY_SOCKET", directory.path().join("notify"))
        .env("WATCHDOG_USEC", "400000");
    let running = Running(command.spawn().unwrap());
    assert_eq!(heard(&manager), "READY=1");
    // Fed at once, and again and again.
    for _ in 0..4 {
        assert_eq!(heard(&manager), "WATCHDOG=1");
    }
    assert_eq!(running.end(), Some(0));
    let mut word = heard(&manager);
    while word == "WATCHDOG=1" {
        word = heard(&manager);
    }
    assert_eq!(word, "STOPPING=1");
}

#[test]
fn a_passed_socket_wins_over_the_configured_address() {
    let directory = tempfile::tempdir().unwrap();
    let manager = manager(directory.path());
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    // The shell moves it from standard input to where systemd puts the first one.
    let before = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1; export LISTEN_PID LISTEN_FDS;";
    let mut command = gateway(directory.path(), before);
    command
        .env("NOTIFY_SOCKET", directory.path().join("notify"))
        .env("LISTEN_FDNAMES", "broker-http")
        .stdin(OwnedFd::from(socket));
    let running = Running(command.spawn().unwrap());
    assert_eq!(heard(&manager), "READY=1");
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(b"GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("OK"), "{answer}");
    assert_eq!(running.end(), Some(0));
}

#[test]
fn a_passed_socket_that_nobody_would_answer_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let before = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1; export LISTEN_PID LISTEN_FDS;";
    let mut command = gateway(directory.path(), before);
    command
        .env("LISTEN_FDNAMES", "nsq-edge.socket")
        .stdin(OwnedFd::from(socket))
        .stderr(Stdio::piped());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(
        log.contains("FATAL: systemd passed a socket named \"nsq-edge.socket\""),
        "{log}"
    );
}
