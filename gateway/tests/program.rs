//! The executable as an operator meets it: what it prints, and its exit codes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

const PROGRAM: &str = env!("CARGO_BIN_EXE_nsq-edge");

/// Longer than anything here takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn command(program: impl AsRef<Path>, args: &[&str]) -> Command {
    let mut command = Command::new(program.as_ref());
    // What a developer's shell or a CI service may have set.
    for name in [
        "RUST_LOG",
        "STATE_DIRECTORY",
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "LISTEN_FDS",
    ] {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    command(PROGRAM, args).output().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// A running daemon; killed when the test ends however it ends.
struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::Builder::new()
            .spawn(move || {
                stderr
                    .lines()
                    .map_while(Result::ok)
                    .try_for_each(|l| sender.send(l))
            })
            .unwrap();
        Self { child, lines }
    }

    /// Waits for a line of the log; gives it and those before it.
    fn wait_for(&self, part: &str) -> String {
        let mut seen = String::new();
        loop {
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else {
                panic!("no line with {part:?} after:\n{seen}")
            };
            seen.push_str(&line);
            seen.push('\n');
            if line.contains(part) {
                return seen;
            }
        }
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", name, &id])
                .status()
                .unwrap()
                .success()
        );
    }

    /// The exit code and the rest of the log.
    fn end(mut self) -> (Option<i32>, String) {
        let rest = self
            .lines
            .iter()
            .fold(String::new(), |all, line| all + &line + "\n");
        (self.child.wait().unwrap().code(), rest)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `--set` arguments for free ports, and a store in `directory`.
fn quiet_settings(directory: &Path) -> Vec<String> {
    let mut settings = vec![
        "--set".to_owned(),
        format!("data_path={}", directory.display()),
    ];
    for key in ["broker.tcp", "broker.http", "lookupd.tcp", "lookupd.http"] {
        settings.push("--set".to_owned());
        settings.push(format!("{key}_address=127.0.0.1:0"));
    }
    settings
}

fn start(daemon: &str, directory: &Path, more: &[&str]) -> Running {
    let settings = quiet_settings(directory);
    let args: Vec<&str> = std::iter::once(daemon)
        .chain(settings.iter().map(String::as_str))
        .chain(more.iter().copied())
        .collect();
    Running::start(command(PROGRAM, &args))
}

/// The address after `words` in a log.
fn address(log: &str, words: &str) -> String {
    let (_, rest) = log
        .split_once(words)
        .unwrap_or_else(|| panic!("no {words:?} in {log}"));
    rest.split_whitespace()
        .next()
        .unwrap()
        .trim_end_matches(',')
        .to_owned()
}

/// One HTTP request on a connection of its own; the status line and the rest.
fn http(address: &str, method: &str, target: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Asks until the answer has a part; a broker registers in its own time.
fn http_until(address: &str, target: &str, part: &str) -> String {
    let mut last = String::new();
    for _ in 0..600 {
        last = http(address, "GET", target, "");
        if last.contains(part) {
            return last;
        }
        // The one thing to wait for is another program's progress, which tells nobody.
        std::thread::park_timeout(Duration::from_millis(100));
    }
    panic!("no {part:?} in the answer to {target}: {last}")
}

#[test]
fn version_and_help_are_on_stdout_and_no_error() {
    let version = run(&["--version"]);
    assert!(version.status.success());
    assert_eq!(
        stdout(&version),
        format!("nsq-edge {}\n", env!("CARGO_PKG_VERSION"))
    );
    let help = run(&["--help"]);
    assert!(help.status.success());
    for name in ["gateway", "broker", "lookupd", "forwarder", "config"] {
        assert!(stdout(&help).contains(&format!("\n  {name} ")), "{name}");
    }
}

#[test]
fn a_wrong_command_line_is_exit_code_2() {
    for args in [&[][..], &["nope"], &["broker", "--nope"], &["config"]] {
        assert_eq!(run(args).status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn config_check_prints_a_file_that_says_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let first = run(&["config", "check", "--set", "ring.bytes=8MiB"]);
    assert!(first.status.success());
    assert!(stdout(&first).contains("\n[ring]\nbytes = \"8MiB\"\n"));
    assert!(stdout(&first).contains("\n# memory, at most: "));
    let file = directory.path().join("nsq-edge.toml");
    std::fs::write(&file, stdout(&first)).unwrap();
    let second = run(&["config", "check", file.to_str().unwrap()]);
    assert_eq!(stdout(&first), stdout(&second));
    let quiet = run(&["config", "check", "--quiet", file.to_str().unwrap()]);
    assert!(quiet.status.success() && quiet.stdout.is_empty() && quiet.stderr.is_empty());
}

#[test]
fn a_config_error_is_one_line_and_exit_code_1() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("nsq-edge.toml");
    std::fs::write(&file, "[ring]\nbytes = \"12KiB\"\n").unwrap();
    let file = file.to_str().unwrap();
    for args in [
        &["config", "check", file][..],
        &["gateway", "--config", file],
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(
            stderr(&output),
            "nsq-edge: ring.bytes = 12KiB: must be 1MiB..=1GiB\n"
        );
    }
    std::fs::write(file, "[rink]\n").unwrap();
    let output = run(&["gateway", "--config", file]);
    assert_eq!(
        stderr(&output),
        format!("nsq-edge: {file}: line 1: rink: unknown key\n")
    );
    let output = run(&["gateway", "--set", "ring.bytes=x"]);
    assert!(stderr(&output).starts_with("nsq-edge: ring.bytes = \"x\": must be a size"));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn links_with_the_names_of_nsq_take_its_flags() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["nsqd", "nsqlookupd", "nsq_to_nsq"] {
        let link = directory.path().join(name);
        symlink(PROGRAM, &link).unwrap();
        let version = command(&link, &["-version"]).output().unwrap();
        assert!(stdout(&version).starts_with(&format!("{name} v1.3.0 ")));
        let help = command(&link, &["-help"]).output().unwrap();
        assert!(help.status.success());
        assert!(stderr(&help).starts_with(&format!("Usage of {name}:\n")));
        let unknown = command(&link, &["-nope"]).output().unwrap();
        assert_eq!(unknown.status.code(), Some(2));
        assert!(stderr(&unknown).starts_with("flag provided but not defined: -nope\n"));
    }
    let nsqd = directory.path().join("nsqd");
    let refused = command(&nsqd, &["--tls-cert=/x"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert_eq!(
        stderr(&refused),
        "nsqd: -tls-cert: known and not yet supported: TLS\n"
    );
}

#[test]
fn nsqlookupds_name_runs_the_registry_and_sigterm_ends_it_with_0() {
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join("nsqlookupd");
    symlink(PROGRAM, &link).unwrap();
    let args = [
        "-tcp-address=127.0.0.1:0",
        "-http-address",
        "127.0.0.1:0",
        "-verbose",
    ];
    let running = Running::start(command(&link, &args));
    let log = running.wait_for("lookupd: TCP on 127.0.0.1:");
    assert!(log.contains("[nsqlookupd] "), "{log}");
    assert!(
        log.contains("INFO: -verbose has no meaning here: "),
        "{log}"
    );
    running.signal("TERM");
    let (code, _) = running.end();
    assert_eq!(code, Some(0));
}

#[test]
fn an_address_in_use_is_one_clear_line() {
    let directory = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut settings = quiet_settings(directory.path());
    settings.extend(["--set".to_owned(), format!("lookupd.tcp_address={address}")]);
    let mut args = vec!["lookupd"];
    args.extend(settings.iter().map(String::as_str));
    let output = run(&args);
    assert_eq!(output.status.code(), Some(1));
    let last = stderr(&output).lines().last().unwrap();
    assert!(
        last.contains("FATAL: ") && last.contains(&address),
        "{last}"
    );
}

#[test]
fn rust_log_wins_and_the_levels_are_those_of_nsq() {
    let directory = tempfile::tempdir().unwrap();
    let settings = quiet_settings(directory.path());
    let mut args = vec!["lookupd", "--set", "log.level=fatal"];
    args.extend(settings.iter().map(String::as_str));
    let mut command = command(PROGRAM, &args);
    command.env("RUST_LOG", "info");
    let running = Running::start(command);
    running.wait_for("lookupd: TCP on ");
    running.signal("INT");
    let (code, rest) = running.end();
    assert_eq!(code, Some(0));
    assert!(rest.contains("INFO: SIGINT: draining"), "{rest}");
}

#[test]
fn gateway_needs_no_file_keeps_what_it_answered_ok_and_ends_with_0() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    for round in 0..2 {
        let running = start("gateway", &data, &[]);
        let log = running.wait_for("lookupd: TCP on ");
        assert!(log.contains("INFO: memory, at most: "), "{log}");
        let broker = address(&log, "HTTP: listening on ");
        if round == 0 {
            for target in [
                "/topic/create?topic=clicks",
                "/channel/create?topic=clicks&channel=count",
            ] {
                let answer = http(&broker, "POST", target, "");
                assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            }
            let answer = http(&broker, "POST", "/pub?topic=clicks", "a click");
            assert!(answer.ends_with("OK"), "{answer}");
        }
        let stats = http(&broker, "GET", "/stats?format=json&topic=clicks", "");
        assert!(
            stats.contains("\"channel_name\":\"count\",\"depth\":1"),
            "{stats}"
        );
        // The broker is in the gateway's own lookupd.
        let lookupd = address(&log, ", HTTP on ");
        let port = broker.rsplit_once(':').unwrap().1;
        http_until(
            &lookupd,
            "/lookup?topic=clicks",
            &format!("\"http_port\":{port}"),
        );
        running.signal("TERM");
        let (code, rest) = running.end();
        assert_eq!(code, Some(0), "{rest}");
        assert!(rest.contains("INFO: SIGTERM: draining"), "{rest}");
        assert!(rest.contains("INFO: drained"), "{rest}");
    }
}

#[test]
fn a_second_start_on_the_same_store_is_refused_in_one_clear_line() {
    let directory = tempfile::tempdir().unwrap();
    let running = start("broker", directory.path(), &[]);
    running.wait_for("HTTP: listening on ");
    let (code, log) = start("broker", directory.path(), &[]).end();
    assert_eq!(code, Some(1));
    let last = log.lines().last().unwrap();
    assert!(last.contains("FATAL: broker: "), "{last}");
    assert!(last.contains(directory.path().to_str().unwrap()), "{last}");
}

#[test]
fn a_store_that_cannot_be_made_is_one_clear_line() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let (code, log) = start("broker", &file.join("data"), &[]).end();
    assert_eq!(code, Some(1));
    let last = log.lines().last().unwrap();
    assert!(
        last.contains("FATAL: broker: ") && last.contains("/file/data"),
        "{last}"
    );
}

#[test]
fn a_route_takes_messages_from_one_gateway_to_another() {
    let directory = tempfile::tempdir().unwrap();
    let upstream = start("broker", &directory.path().join("upstream"), &[]);
    let upstream_log = upstream.wait_for("HTTP: listening on ");
    let to = address(&upstream_log, "TCP: listening on ");
    let route = format!("forwarder.route=[{{topic = \"clicks\", upstream = [\"{to}\"]}}]");
    let gateway = start(
        "gateway",
        &directory.path().join("gateway"),
        &["--set", &route],
    );
    let log = gateway.wait_for("lookupd: TCP on ");
    let broker = address(&log, "HTTP: listening on ");
    // The route's channel was there before the first message.
    let stats = http(&broker, "GET", "/stats?format=json&topic=clicks", "");
    assert!(stats.contains("\"channel_name\":\"uplink\""), "{stats}");
    for click in ["one", "two", "three"] {
        assert!(http(&broker, "POST", "/pub?topic=clicks", click).ends_with("OK"));
    }
    let upstream_http = address(&upstream_log, "HTTP: listening on ");
    http_until(
        &upstream_http,
        "/stats?format=json&topic=clicks",
        "\"message_count\":3",
    );
    http_until(
        &broker,
        "/stats?format=json&topic=clicks",
        "\"depth\":0,\"backend_depth\":0,\"in_flight_count\":0",
    );
    for running in [gateway, upstream] {
        running.signal("TERM");
        let (code, rest) = running.end();
        assert_eq!(code, Some(0), "{rest}");
    }
}

#[test]
fn a_forwarder_without_routes_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let (code, log) = start("forwarder", directory.path(), &[]).end();
    assert_eq!(code, Some(1));
    assert!(
        log.contains("FATAL: forwarder: there is no [[forwarder.route]]"),
        "{log}"
    );
}

#[test]
fn the_files_of_an_nsqd_are_left_alone_and_warned_of() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("nsqd.dat"), "{}").unwrap();
    let running = start("broker", directory.path(), &[]);
    let log = running.wait_for("HTTP: listening on ");
    assert!(
        log.contains("WARNING: ") && log.contains("has files of an nsqd"),
        "{log}"
    );
    running.signal("TERM");
    assert_eq!(running.end().0, Some(0));
    assert_eq!(
        std::fs::read_to_string(directory.path().join("nsqd.dat")).unwrap(),
        "{}"
    );
}

#[test]
fn a_reader_that_is_gone_is_no_reason_to_abort() {
    let full = || {
        Stdio::from(
            std::fs::File::options()
                .write(true)
                .open("/dev/full")
                .unwrap(),
        )
    };
    for args in [
        &["config", "check"][..],
        &["--version"],
        &["config", "check", "/nonexistent"],
    ] {
        let status = command(PROGRAM, args)
            .stdout(full())
            .stderr(full())
            .status()
            .unwrap();
        assert!(
            status.code().is_some_and(|code| code <= 1),
            "{args:?}: {status}"
        );
    }
}
