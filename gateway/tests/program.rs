//! The executable as an operator meets it: what it prints, and its exit codes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::io::{BufRead as _, BufReader};
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
