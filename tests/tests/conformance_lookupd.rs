//! nsqlookupd: its V1 protocol and its HTTP API, compared with the real one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "panicking is how a test fails"
)]

use serde_json::{Value, json};
use tests::http::{get as http_get, post as http_post};
use tests::script::{
    Deliberate, Row, Step, Target, body, compare, get, half_close, http, len, post, read, row, send,
};
use tests::wire::{Version, Wire, sized};
use tests::{Daemon, Peer, wait};

const IDENTITY: &str = r#"{"broadcast_address":"192.0.2.1","hostname":"shop","tcp_port":4150,"http_port":4151,"version":"1.3.0"}"#;

fn check(rows: &[Row], deliberate: &[Deliberate]) {
    let real = Daemon::nsqlookupd(Peer::Real, &[]);
    let ours = Daemon::nsqlookupd(Peer::Ours, &[]);
    let target = |daemon: &Daemon| Target {
        version: Version::V1,
        tcp: daemon.tcp,
        http: daemon.http,
    };
    compare(rows, deliberate, target(&real), target(&ours));
}

/// Identified, then these steps.
fn identified(name: &'static str, steps: &[Step]) -> Row {
    // The answer names the daemon's own ports, which differ: another test reads it.
    let first = [
        Step::Quiet(true),
        send("IDENTIFY\n"),
        body(IDENTITY),
        read(1),
        Step::Quiet(false),
    ];
    Row {
        name,
        steps: [&first[..], steps].concat(),
    }
}

#[test]
fn the_v1_protocol_is_answered_as_by_nsqlookupd() {
    let mut rows = vec![
        row(
            "an unknown magic is refused",
            [Step::NoMagic, send("  V9"), read(2)],
        ),
        row(
            "the magic of nsqd is refused",
            [Step::NoMagic, send("  V2"), read(2)],
        ),
        row(
            "half a magic and the end is a close",
            [Step::NoMagic, send("  V"), half_close()],
        ),
        row("PING before IDENTIFY", [send("PING\n"), send("PING\n")]),
        row("an empty line", [send("\n"), read(2)]),
        row("an unknown command", [send("FOO bar\n"), read(2)]),
        row("blanks around a line do not count", [send("  PING \r\n")]),
        row(
            "the end inside a line is a close",
            [send("PIN"), half_close()],
        ),
        row(
            "REGISTER before IDENTIFY",
            [send("REGISTER {t}\n"), read(2)],
        ),
        row(
            "UNREGISTER before IDENTIFY",
            [send("UNREGISTER {t}\n"), read(2)],
        ),
        row(
            "REGISTER without a topic before IDENTIFY",
            [send("REGISTER\n"), read(2)],
        ),
        row(
            "IDENTIFY without its size",
            [send("IDENTIFY\n"), half_close()],
        ),
        row(
            "IDENTIFY with half a body",
            [send("IDENTIFY\n"), len(10), send("{}"), half_close()],
        ),
        row(
            "IDENTIFY with no JSON",
            [send("IDENTIFY\n"), body("nonsense"), read(2)],
        ),
        row(
            "IDENTIFY of an array",
            [send("IDENTIFY\n"), body("[]"), read(2)],
        ),
        row("IDENTIFY of nothing", [send("IDENTIFY\n"), len(0), read(2)]),
        row(
            "IDENTIFY of an empty object",
            [send("IDENTIFY\n"), body("{}"), read(2)],
        ),
        identified(
            "IDENTIFY twice",
            &[send("IDENTIFY\n"), body(IDENTITY), read(2)],
        ),
        identified("PING", &[send("PING\n")]),
        identified(
            "REGISTER of a topic, twice",
            &[send("REGISTER {t}\nREGISTER {t}\n")],
        ),
        identified("REGISTER of a channel", &[send("REGISTER {t} c\n")]),
        identified("REGISTER without a topic", &[send("REGISTER\n"), read(2)]),
        identified(
            "REGISTER of a bad topic",
            &[send("REGISTER a*b\n"), read(2)],
        ),
        identified(
            "REGISTER of a bad channel",
            &[send("REGISTER {t} a*b\n"), read(2)],
        ),
        identified(
            "REGISTER with two blanks",
            &[send("REGISTER {t}  c\n"), read(1)],
        ),
        identified(
            "REGISTER ignores further parameters",
            &[send("REGISTER {t} c d\n")],
        ),
        identified(
            "UNREGISTER of a topic",
            &[send("REGISTER {t} c\nUNREGISTER {t}\n")],
        ),
        identified(
            "UNREGISTER of a channel",
            &[send("REGISTER {t} c\nUNREGISTER {t} c\n")],
        ),
        identified(
            "UNREGISTER of what nobody registered",
            &[send("UNREGISTER {t}\nUNREGISTER {t} c\n")],
        ),
        identified(
            "UNREGISTER without a topic",
            &[send("UNREGISTER\n"), read(2)],
        ),
        identified(
            "UNREGISTER of a bad topic",
            &[send("UNREGISTER a*b\n"), read(2)],
        ),
        identified(
            "UNREGISTER of a bad channel",
            &[send("UNREGISTER {t} a*b\n"), read(2)],
        ),
        identified(
            "names are quoted by single quotes",
            &[send("REGISTER a'b\"c\n"), read(2)],
        ),
    ];
    for (name, json) in IDENTITIES {
        rows.push(Row {
            name,
            steps: vec![send("IDENTIFY\n"), body(json), read(2)],
        });
    }
    check(&rows, &[]);
}

/// Each lacks something that must be there.
const IDENTITIES: [(&str, &str); 7] = [
    (
        "no broadcast address",
        r#"{"tcp_port":1,"http_port":2,"version":"1"}"#,
    ),
    (
        "an empty broadcast address",
        r#"{"broadcast_address":"","tcp_port":1,"http_port":2,"version":"1"}"#,
    ),
    (
        "no TCP port",
        r#"{"broadcast_address":"a","http_port":2,"version":"1"}"#,
    ),
    (
        "a TCP port of 0",
        r#"{"broadcast_address":"a","tcp_port":0,"http_port":2,"version":"1"}"#,
    ),
    (
        "no HTTP port",
        r#"{"broadcast_address":"a","tcp_port":1,"version":"1"}"#,
    ),
    (
        "no version",
        r#"{"broadcast_address":"a","tcp_port":1,"http_port":2}"#,
    ),
    (
        "a port that is a string",
        r#"{"broadcast_address":"a","tcp_port":"1","http_port":2,"version":"1"}"#,
    ),
];

#[test]
fn the_http_api_is_answered_as_by_nsqlookupd() {
    let mut rows = vec![
        row("GET /ping", [get("/ping")]),
        row("POST /ping", [post("/ping", "")]),
        row("an unknown path", [get("/nothing")]),
        row("HEAD", [http("HEAD", "/topics", &[], "")]),
        row("GET /lookup without a topic", [get("/lookup")]),
        row(
            "GET /lookup of an unknown topic",
            [get("/lookup?topic={t}")],
        ),
        row("GET /lookup of a bad topic", [get("/lookup?topic=a*b")]),
        row("GET /channels without a topic", [get("/channels")]),
        row(
            "GET /channels of an unknown topic",
            [get("/channels?topic={t}")],
        ),
        row("GET /topics", [get("/topics")]),
        row("GET /nodes without any", [get("/nodes")]),
        row("a malformed query", [get("/lookup?topic=%zz")]),
        row(
            "a topic created by hand has no producers",
            [
                post("/topic/create?topic={t}", ""),
                get("/lookup?topic={t}"),
                get("/channels?topic={t}"),
                post("/topic/delete?topic={t}", ""),
                get("/lookup?topic={t}"),
                post("/topic/delete?topic={t}", ""),
            ],
        ),
        row(
            "a channel created by hand creates its topic",
            [
                post("/channel/create?topic={t}&channel=c", ""),
                get("/lookup?topic={t}"),
                get("/channels?topic={t}"),
                post("/channel/delete?topic={t}&channel=c", ""),
                get("/channels?topic={t}"),
                post("/channel/delete?topic={t}&channel=c", ""),
                post("/topic/delete?topic={t}", ""),
            ],
        ),
        row(
            "a deleted topic takes its channels along",
            [
                post("/channel/create?topic={t}&channel=c", ""),
                post("/topic/delete?topic={t}", ""),
                get("/channels?topic={t}"),
            ],
        ),
        row("GET of a POST route", [get("/topic/create?topic={t}")]),
        row("tombstones need a topic", [post("/topic/tombstone", "")]),
        row(
            "tombstones need a node",
            [post("/topic/tombstone?topic={t}", "")],
        ),
        row(
            "a tombstone for an unknown node is taken",
            [post("/topic/tombstone?topic={t}&node=a:1", "")],
        ),
    ];
    for verb in ["create", "delete"] {
        for (what, query) in [
            ("without a topic", ""),
            ("with an empty topic", "?topic="),
            ("with a bad topic", "?topic=a*b"),
        ] {
            let name: &'static str = format!("POST /topic/{verb} {what}").leak();
            rows.push(row(name, [post(&format!("/topic/{verb}{query}"), "")]));
        }
        for (what, query) in [
            ("without anything", ""),
            ("without a channel", "?topic={t}"),
            ("without a topic", "?channel=c"),
            ("with an empty channel", "?topic={t}&channel="),
            ("with a bad topic", "?topic=a*b&channel=c"),
            ("with a bad channel", "?topic={t}&channel=a*b"),
        ] {
            let name: &'static str = format!("POST /channel/{verb} {what}").leak();
            rows.push(row(name, [post(&format!("/channel/{verb}{query}"), "")]));
        }
    }
    check(&rows, &[]);
}

/// An nsqd as nsqlookupd sees it: identified, with these registrations answered.
fn producer(lookupd: &Daemon, identity: &str, registrations: &[&str]) -> Wire {
    let mut wire = Wire::lookupd(lookupd.tcp);
    wire.send(b"IDENTIFY\n");
    wire.send(&sized(identity.as_bytes()));
    assert!(wire.frame().is_some());
    for registration in registrations {
        wire.send(format!("REGISTER {registration}\n").as_bytes());
        wire.expect("OK");
    }
    wire
}

/// The reply without what differs by nature: the remote address's port.
fn settled(lookupd: &Daemon, target: &str) -> Value {
    fn settle(value: &mut Value) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(address)) = map.get_mut("remote_address") {
                    assert!(address.starts_with("127.0.0.1:"), "{address}");
                    *address = "127.0.0.1:PORT".to_owned();
                }
                map.values_mut().for_each(settle);
            }
            Value::Array(list) => {
                list.iter_mut().for_each(settle);
                list.sort_by_key(ToString::to_string);
            }
            _ => {}
        }
    }
    let reply = http_get(lookupd.http, target);
    assert_eq!(
        reply.header("x-nsq-content-type"),
        Some("nsq; version=1.0"),
        "{target}"
    );
    let mut value = reply.json();
    settle(&mut value);
    json!({ "status": reply.status, "body": value })
}

/// Plays a story to both and compares what the API tells after each of its parts.
fn both_tell(story: impl Fn(&Daemon, &mut Vec<Value>)) {
    let mut told = [Peer::Real, Peer::Ours].map(|peer| {
        let lookupd = Daemon::nsqlookupd(peer, &["-tombstone-lifetime=1h"]);
        let mut told = Vec::new();
        story(&lookupd, &mut told);
        told
    });
    let [real, ours] = &mut told;
    assert_eq!(real.len(), ours.len());
    for (number, (real, ours)) in real.iter().zip(ours).enumerate() {
        assert_eq!(
            real, ours,
            "answer {number}: the real one's left, ours right"
        );
    }
}

const ANOTHER: &str = r#"{"broadcast_address":"192.0.2.2","hostname":"other","tcp_port":4150,"http_port":4151,"version":"1.3.0"}"#;

#[test]
fn registrations_are_told_as_by_nsqlookupd() {
    both_tell(|lookupd, told| {
        let all = [
            "/lookup?topic=a",
            "/lookup?topic=b",
            "/channels?topic=a",
            "/topics",
            "/nodes",
        ];
        let mut tell = || {
            all.iter()
                .for_each(|target| told.push(settled(lookupd, target)))
        };
        tell();
        let first = producer(lookupd, IDENTITY, &["a", "a one", "b two"]);
        tell();
        let mut second = producer(lookupd, ANOTHER, &["a two", "b"]);
        tell();
        second.send(b"UNREGISTER a\n");
        second.expect("OK");
        tell();
        second.send(b"UNREGISTER b two\n");
        second.expect("OK");
        tell();
        drop(first);
        wait::until("the first producer is forgotten", || {
            http_get(lookupd.http, "/nodes").json()["producers"]
                .as_array()
                .unwrap()
                .len()
                == 1
        });
        tell();
    });
}

#[test]
fn ephemeral_names_go_with_their_last_producer() {
    both_tell(|lookupd, told| {
        let mut wire = producer(lookupd, IDENTITY, &["a#ephemeral", "b c#ephemeral", "d e"]);
        for line in [
            "UNREGISTER a#ephemeral\n",
            "UNREGISTER b c#ephemeral\n",
            "UNREGISTER d e\n",
            "UNREGISTER d\n",
        ] {
            wire.send(line.as_bytes());
            wire.expect("OK");
            for target in [
                "/topics",
                "/channels?topic=b",
                "/channels?topic=d",
                "/lookup?topic=d",
                "/nodes",
            ] {
                told.push(settled(lookupd, target));
            }
        }
    });
}

#[test]
fn ephemeral_names_also_go_with_a_lost_connection() {
    // On purpose: nsqlookupd keeps them for ever unless they are unregistered, which a broker that
    // lost power never does.
    for (peer, left) in [(Peer::Real, 1), (Peer::Ours, 0)] {
        let lookupd = Daemon::nsqlookupd(peer, &[]);
        drop(producer(&lookupd, IDENTITY, &["a b#ephemeral"]));
        wait::until("the producer is forgotten", || {
            http_get(lookupd.http, "/nodes").json()["producers"] == json!([])
        });
        let channels = http_get(lookupd.http, "/channels?topic=a").json();
        assert_eq!(
            channels["channels"].as_array().unwrap().len(),
            left,
            "{peer:?}"
        );
    }
}

#[test]
fn a_tombstoned_producer_is_hidden_for_its_topic_alone() {
    both_tell(|lookupd, told| {
        let _first = producer(lookupd, IDENTITY, &["a", "b"]);
        let _second = producer(lookupd, ANOTHER, &["a"]);
        let node = "/topic/tombstone?topic=a&node=192.0.2.1:4151";
        assert_eq!(http_post(lookupd.http, node, b"").status, 200);
        for target in ["/lookup?topic=a", "/lookup?topic=b", "/nodes"] {
            told.push(settled(lookupd, target));
        }
    });
}

#[test]
fn identify_is_answered_with_the_daemons_own_addresses() {
    for peer in [Peer::Real, Peer::Ours] {
        let lookupd = Daemon::nsqlookupd(peer, &[]);
        let mut wire = Wire::lookupd(lookupd.tcp);
        wire.send(b"IDENTIFY\n");
        wire.send(&sized(IDENTITY.as_bytes()));
        let Some(tests::wire::Frame::Response(data)) = wire.frame() else {
            panic!("{peer:?}: no answer")
        };
        let answer: Value = serde_json::from_slice(&data).unwrap();
        assert_eq!(answer["tcp_port"], lookupd.tcp.port(), "{peer:?}");
        assert_eq!(answer["http_port"], lookupd.http.port(), "{peer:?}");
        assert_eq!(answer["broadcast_address"], "127.0.0.1", "{peer:?}");
        assert!(
            answer["version"].is_string() && answer["hostname"].is_string(),
            "{peer:?}: {answer}"
        );
        let info = http_get(lookupd.http, "/info").json();
        assert_eq!(info["version"], answer["version"], "{peer:?}");
    }
}

#[test]
fn lengths_that_nobody_may_mean_are_refused_without_waiting_for_them() {
    // nsqlookupd itself takes any length and allocates it; ours bounds it.
    let lookupd = Daemon::nsqlookupd(Peer::Ours, &[]);
    for length in [-1, i32::MIN, i32::MAX, 16 << 20] {
        let mut wire = Wire::lookupd(lookupd.tcp);
        wire.send(b"IDENTIFY\n");
        wire.send(&length.to_be_bytes());
        let frame = wire.frame();
        let refused = matches!(&frame, Some(tests::wire::Frame::Response(text)) if text.starts_with(b"E_BAD_BODY IDENTIFY"));
        assert!(refused, "{length}: {frame:?}");
        assert_eq!(wire.frame(), None, "{length}");
    }
}
