//! The demo as a user runs it, only shorter.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

fn demo(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nsq-edge"));
    command.arg("demo").env("TMPDIR", directory);
    command
}

/// Programs with this directory on their command line.
fn programs_of(directory: &Path) -> usize {
    let directory = directory.to_string_lossy();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|process| std::fs::read(process.path().join("cmdline")).ok())
        .filter(|line| String::from_utf8_lossy(line).contains(&*directory))
        .count()
}

#[test]
fn clicks_survive_cuts_of_the_link_and_a_kill_and_nothing_is_left_behind() {
    let directory = tempfile::tempdir().unwrap();
    let output = demo(directory.path())
        .args(["--count", "3000", "--rate", "1500", "--seed", "11"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("gateway kills   1 (kill -9, "), "{text}");
    assert!(!text.contains("link cuts       0 "), "{text}");
    assert!(!text.contains(" 0 events unanswered"), "{text}");
    let rows: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    for row in [
        vec!["published", "3,000"],
        vec!["acknowledged", "3,000"],
        vec!["arrived", "3,000", "3,000"],
        vec!["lost", "0", "0"],
    ] {
        assert!(rows.contains(&row), "{row:?} is not in\n{text}");
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    assert_eq!(programs_of(directory.path()), 0);
}

#[test]
fn events_of_a_file_are_replayed_and_its_bad_lines_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("events.ndjson");
    let lines: Vec<String> = (0..500)
        .map(|number| match number % 3 {
            0 => format!("{{\"id\":\"own-{number}\",\"campaign\":{}}}", number % 7),
            1 => format!("{{\"user\":{number},\"campaign\":{}}}", number % 7),
            _ => format!("{{\"user\":{number}"),
        })
        .collect();
    std::fs::write(&file, lines.join("\n")).unwrap();
    let output = demo(directory.path())
        .args(["--rate", "0", "--events"])
        .arg(&file)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("line 3: "), "{text}");
    assert!(text.contains("156 more lines passed over"), "{text}");
    assert!(text.contains("167 events have no id"), "{text}");
    assert!(text.contains("clicks per campaign (7) agree"), "{text}");
}

#[test]
fn an_interrupt_stops_the_programs_and_removes_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = demo(directory.path())
        .args(["--rate", "100"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    // The first line of progress with something published.
    while !line.contains(" published ") || line.contains(" published        0 ") {
        line.clear();
        assert_ne!(
            lines.read_line(&mut line).unwrap(),
            0,
            "the demo ended by itself"
        );
    }
    assert_eq!(programs_of(directory.path()), 2, "gateway and upstream");
    let interrupted = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(interrupted.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("interrupted"), "{rest}");
    assert_eq!(programs_of(directory.path()), 0);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn an_upstream_that_is_not_there_is_said_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    drop(taken);
    let output = demo(directory.path())
        .args(["--upstream", &address])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains(&format!("--upstream: cannot connect to {address}")),
        "{text}"
    );
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}
