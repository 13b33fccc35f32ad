//! The executable as an operator meets it: the gateway in one process, the demo, the drop-in names, the configuration.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "panicking is how a test fails"
)]

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Command, Output};

use tests::clients::{Library, Source};
use tests::daemon::{Tool, edge_binary, free_port};
use tests::wire::{Frame, Wire, multi_publish};
use tests::{Daemon, Peer, http, wait};

fn edge(args: &[&str]) -> Output {
    Command::new(edge_binary()).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn local() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))
}

/// The row of the demo's table that begins with this word, as numbers.
fn numbers(output: &str, row: &str) -> Vec<u64> {
    let line = output
        .lines()
        .find(|line| line.starts_with(row))
        .unwrap_or_else(|| panic!("no row {row}: {output}"));
    line.split_whitespace()
        .filter_map(|word| word.replace(',', "").parse().ok())
        .collect()
}

fn check_demo(output: &Output, published: u64) {
    let told = text(&output.stdout);
    assert!(output.status.success(), "{told}{}", text(&output.stderr));
    assert_eq!(numbers(&told, "published"), [published], "{told}");
    assert_eq!(numbers(&told, "acknowledged"), [published], "{told}");
    assert_eq!(numbers(&told, "arrived"), [published, published], "{told}");
    assert_eq!(numbers(&told, "lost"), [0, 0], "{told}");
    assert_eq!(numbers(&told, "gateway kills").first(), Some(&1), "{told}");
}

#[test]
fn the_demo_loses_nothing_on_its_way_to_an_upstream_of_its_own() {
    check_demo(&edge(&["demo", "--count", "5000"]), 5000);
}

#[test]
fn the_demo_loses_nothing_on_its_way_to_a_real_nsqd() {
    let upstream = Daemon::nsqd(Peer::Real, &[]);
    check_demo(
        &edge(&[
            "demo",
            "--count",
            "5000",
            "--seed",
            "7",
            "--upstream",
            &upstream.tcp.to_string(),
        ]),
        5000,
    );
}

#[test]
fn the_demo_replays_a_file_of_events() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("events.ndjson");
    let events: Vec<String> = (0..1500)
        .map(|number| format!(r#"{{"click":{number},"campaign":"c{}"}}"#, number % 7))
        .collect();
    fs::write(&file, events.join("\n")).unwrap();
    check_demo(&edge(&["demo", "--events", file.to_str().unwrap()]), 1500);
}

/// A gateway of all three daemons with one route.
struct Gateway {
    process: Tool,
    broker: SocketAddr,
    broker_http: SocketAddr,
    lookupd_http: SocketAddr,
    _directory: tempfile::TempDir,
}

fn gateway(upstream: SocketAddr) -> Gateway {
    let directory = tempfile::tempdir().unwrap();
    let (broker, broker_http, lookupd, lookupd_http) = (local(), local(), local(), local());
    let file = directory.path().join("nsq-edge.toml");
    let config = format!(
        r#"data_path = "{}"
[broker]
tcp_address = "{broker}"
http_address = "{broker_http}"
broadcast_address = "127.0.0.1"
[lookupd]
tcp_address = "{lookupd}"
http_address = "{lookupd_http}"
broadcast_address = "127.0.0.1"
[[forwarder.route]]
topic = "clicks"
upstream = ["{upstream}"]
upstream_topic = "shop-7.clicks"
"#,
        directory.path().join("data").display()
    );
    fs::write(&file, &config).unwrap();
    let checked = edge(&["config", "check", file.to_str().unwrap()]);
    assert!(
        checked.status.success(),
        "{}{}\n{config}",
        text(&checked.stdout),
        text(&checked.stderr)
    );
    let args = [
        "gateway".to_owned(),
        "--config".to_owned(),
        file.display().to_string(),
    ];
    let process = Tool::edge(&args);
    let gateway = Gateway {
        process,
        broker,
        broker_http,
        lookupd_http,
        _directory: directory,
    };
    wait::until("the gateway answers", || {
        TcpStream::connect(broker).is_ok() && http::pings(broker_http) && http::pings(lookupd_http)
    });
    gateway
}

#[test]
fn a_gateway_serves_forwards_and_is_found_in_one_process() {
    let upstream = Daemon::nsqd(Peer::Real, &[]);
    let mut gateway = gateway(upstream.tcp);
    let all: Vec<String> = (0..200).map(|number| format!("m{number}")).collect();
    let mut producer = Wire::nsqd(gateway.broker);
    producer.send(&multi_publish("clicks", &all));
    producer.expect("OK");
    // The route's channel takes the backlog first; one that comes now starts at the end.
    let mut archive = Wire::nsqd(upstream.tcp);
    archive.subscribe("shop-7.clicks", "archive", 100);
    let mut missing: BTreeSet<Vec<u8>> = all.iter().map(|body| body.clone().into_bytes()).collect();
    while !missing.is_empty() {
        let Some(Frame::Message { id, body, .. }) = archive.frame() else {
            panic!("{} missing", missing.len())
        };
        missing.remove(&body);
        archive.finish(&id);
    }
    // Through the gateway's own lookupd.
    let found = http::get(gateway.lookupd_http, "/lookup?topic=clicks").json();
    assert_eq!(found["channels"], serde_json::json!(["uplink"]), "{found}");
    assert_eq!(
        found["producers"][0]["tcp_port"],
        gateway.broker.port(),
        "{found}"
    );
    assert_eq!(
        http::post(
            gateway.broker_http,
            "/channel/create?topic=clicks&channel=count",
            b""
        )
        .status,
        200
    );
    Library::Go.publish(gateway.broker, "clicks", &["single:late"]);
    let deliveries = Library::Go.consume(
        Source::Lookupd(gateway.lookupd_http),
        "clicks",
        "count",
        1,
        &[],
    );
    assert_eq!(deliveries[0].body, "late");
    assert_eq!(
        gateway.process.terminate().code(),
        Some(0),
        "{}",
        gateway.process.log()
    );
}

#[test]
fn the_drop_in_names_know_every_flag_of_nsqs_programs() {
    for name in ["nsqd", "nsqlookupd", "nsq_to_nsq"] {
        let flags = |peer: Peer| -> BTreeSet<String> {
            let output = Command::new(peer.program(name))
                .arg("--help")
                .output()
                .unwrap();
            let told = text(&output.stdout) + &text(&output.stderr);
            let words = told.lines().filter(|line| line.starts_with("  -"));
            words
                .map(|line| line.split_whitespace().next().unwrap().to_owned())
                .collect()
        };
        let unknown: Vec<String> = flags(Peer::Real)
            .difference(&flags(Peer::Ours))
            .cloned()
            .collect();
        assert!(unknown.is_empty(), "{name} does not know {unknown:?}");
    }
}

#[test]
fn a_flag_that_is_not_supported_yet_says_so() {
    for (name, flag) in [
        ("nsqd", "-tls-cert=/etc/cert.pem"),
        ("nsqd", "-auth-http-address=127.0.0.1:1"),
        ("nsqd", "--statsd-address=127.0.0.1:1"),
    ] {
        let output = Command::new(Peer::Ours.program(name))
            .arg(flag)
            .output()
            .unwrap();
        let told = text(&output.stderr);
        let word = flag.trim_start_matches('-').split('=').next().unwrap();
        assert!(!output.status.success(), "{name} {flag}");
        assert!(
            told.contains(word) && told.contains("not yet supported"),
            "{name} {flag}: {told}"
        );
    }
}

#[test]
fn a_flag_that_nobody_knows_is_refused_as_by_nsqd() {
    for peer in [Peer::Real, Peer::Ours] {
        for args in [
            &["-nonsense"][..],
            &["-tcp-address"],
            &["-max-rdy-count=many"],
            &["-msg-timeout", "soon"],
        ] {
            let output = Command::new(peer.program("nsqd"))
                .args(args)
                .output()
                .unwrap();
            assert_eq!(
                output.status.code(),
                Some(2),
                "{peer:?} {args:?}: {}",
                text(&output.stderr)
            );
        }
    }
}

#[test]
fn flags_may_be_written_in_each_of_gos_ways() {
    for peer in [Peer::Real, Peer::Ours] {
        for (separate, dashes) in [(true, "-"), (true, "--"), (false, "-"), (false, "--")] {
            let flag = format!("{dashes}max-rdy-count");
            let args = if separate {
                vec![flag, "77".to_owned()]
            } else {
                vec![format!("{flag}=77")]
            };
            let nsqd = Daemon::nsqd(peer, &args.iter().map(String::as_str).collect::<Vec<_>>());
            let mut wire = Wire::nsqd(nsqd.tcp);
            wire.subscribe("clicks", "count", 78);
            let refused = matches!(wire.frame(), Some(Frame::Error(text)) if text.ends_with("out of range 0-77"));
            assert!(refused, "{peer:?} {args:?}");
        }
    }
}

#[test]
fn a_configuration_error_names_key_value_and_bound() {
    for (key, value, bound) in [
        ("broker.rdy_count_max", "0", "1"),
        ("broker.message_bytes_max", "\"1TiB\"", "MiB"),
        ("ring.bytes", "\"1KiB\"", "KiB"),
        ("broker.msg_timeout", "\"never\"", ""),
        ("broker.no_such_key", "1", ""),
    ] {
        let output = edge(&["broker", "--set", &format!("{key}={value}")]);
        let told = text(&output.stderr) + &text(&output.stdout);
        assert!(!output.status.success(), "{key}={value}");
        let last = key.rsplit('.').next().unwrap();
        assert!(told.contains(last), "{key}={value}: {told}");
        if !bound.is_empty() {
            assert!(
                told.contains(bound) && told.contains(value.trim_matches('"')),
                "{key}={value}: {told}"
            );
        }
    }
}

#[test]
fn a_gateway_needs_no_configuration_file() {
    let directory = tempfile::tempdir().unwrap();
    let (broker, broker_http, lookupd, lookupd_http) = (local(), local(), local(), local());
    let mut args = vec!["gateway".to_owned()];
    // Ports alone, so that this test meets nobody else's.
    for set in [
        format!("data_path=\"{}\"", directory.path().display()),
        format!("broker.tcp_address=\"{broker}\""),
        format!("broker.http_address=\"{broker_http}\""),
        format!("lookupd.tcp_address=\"{lookupd}\""),
        format!("lookupd.http_address=\"{lookupd_http}\""),
    ] {
        args.extend(["--set".to_owned(), set]);
    }
    let mut process = Tool::edge(&args);
    wait::until("it answers", || {
        http::pings(broker_http) && http::pings(lookupd_http)
    });
    Wire::nsqd(broker).publish("clicks", b"x");
    assert_eq!(process.terminate().code(), Some(0), "{}", process.log());
}
