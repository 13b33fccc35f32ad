//! nsqd's HTTP API: status, the headers that clients look at, and bodies, compared with the real nsqd.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "panicking is how a test fails"
)]

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tests::script::{
    Deliberate, Row, Step, Target, compare, get, http, post, read, row, send, until,
};
use tests::wire::{Version, Wire, sized};
use tests::{Daemon, Peer, wait};

fn check(rows: &[Row], deliberate: &[Deliberate]) {
    let real = Daemon::nsqd(Peer::Real, &[]);
    let ours = Daemon::nsqd(Peer::Ours, &[]);
    let target = |daemon: &Daemon| Target {
        version: Version::V2,
        tcp: daemon.tcp,
        http: daemon.http,
    };
    compare(rows, deliberate, target(&real), target(&ours));
}

/// A batch as POST /mpub?binary takes it: no leading total.
fn batch(bodies: &[&[u8]]) -> Vec<u8> {
    let mut bytes = u32::try_from(bodies.len()).unwrap().to_be_bytes().to_vec();
    for body in bodies {
        bytes.extend_from_slice(&sized(body));
    }
    bytes
}

/// Subscribes and reads this many messages, finishing each.
fn consume<const N: usize>() -> Vec<Step> {
    let mut steps = vec![send("SUB {t} c\nRDY 1\n"), read(1)];
    for number in 0..N {
        steps.push(read(1));
        steps.push(send(format!("FIN {{{number}}}\n")));
    }
    steps
}

fn with_messages<const N: usize>(name: &'static str, first: Step) -> Row {
    Row {
        name,
        steps: [vec![first], consume::<N>()].concat(),
    }
}

#[test]
fn the_router_answers_as_nsqds() {
    check(
        &[
            row("GET /ping", [get("/ping")]),
            row("HEAD /ping is no route", [http("HEAD", "/ping", &[], "")]),
            row("POST /ping", [post("/ping", "")]),
            row("an unknown path", [get("/no/such/path")]),
            row("an unknown path by POST", [post("/nothing", "x")]),
            row("the root", [get("/")]),
            row("GET of a POST route", [get("/pub?topic={t}")]),
            row("PUT of a POST route", [http("PUT", "/pub?topic={t}", &[], "x")]),
            row("DELETE of a POST route", [http("DELETE", "/topic/delete?topic={t}", &[], "")]),
            row("POST of a GET route", [post("/stats", "")]),
            row("a malformed query", [post("/pub?topic=%zz", "x")]),
            row("a malformed query for /topic/create", [post("/topic/create?topic=%zz", "")]),
            row("a malformed query for /stats", [get("/stats?format=%zz")]),
            row("the body may be chunked", [http(
                "POST",
                "/pub?topic={t}",
                &[("Transfer-Encoding", "chunked")],
                "1\r\nx\r\n2\r\nyz\r\n0\r\n\r\n",
            )]),
            row("any content type is taken", [http(
                "POST",
                "/pub?topic={t}",
                &[("Content-Type", "application/x-www-form-urlencoded")],
                "topic=other",
            )]),
            row("a client may ask to continue", [http(
                "POST",
                "/pub?topic={t}",
                &[("Expect", "100-continue"), ("Content-Length", "1")],
                "x",
            )]),
            row("an administration call needs neither body nor length", [Step::RawHttp(
                b"POST /topic/create?topic={t} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_vec(),
            )]),
            row("HTTP/1.0 is answered", [Step::RawHttp(b"GET /ping HTTP/1.0\r\n\r\n".to_vec())]),
            row("a connection is kept", [Step::RawHttp(
                b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\nGET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
                    .to_vec(),
            )]),
        ],
        &[],
    );
}

#[test]
fn publishes_are_answered_as_nsqds() {
    let limit = 1 << 20;
    check(
        &[
            with_messages::<1>("POST /pub", post("/pub?topic={t}", "x")),
            with_messages::<1>(
                "POST /pub of bytes that are no text",
                post("/pub?topic={t}", [0, 255, 10]),
            ),
            with_messages::<1>(
                "POST /pub of the greatest message",
                post("/pub?topic={t}", vec![b'x'; limit]),
            ),
            row(
                "POST /pub one byte too big",
                [post("/pub?topic={t}", vec![b'x'; limit + 1])],
            ),
            row("POST /pub of nothing", [post("/pub?topic={t}", "")]),
            row("POST /pub without a topic", [post("/pub", "x")]),
            row("POST /pub with an empty topic", [post("/pub?topic=", "x")]),
            row("POST /pub with a bad topic", [post("/pub?topic=a*b", "x")]),
            row(
                "POST /pub of nothing without a topic: the body counts first",
                [post("/pub", "")],
            ),
            with_messages::<1>(
                "POST /pub with two topics: the first counts",
                post("/pub?topic={t}&topic=other", "x"),
            ),
            row(
                "POST /pub with an escaped topic",
                [
                    post("/pub?topic={t}%2Ex", "x"),
                    until("/stats?format=json&topic={t}.x", "/topics/0/depth", 1),
                ],
            ),
            row(
                "POST /pub to an ephemeral topic",
                [post("/pub?topic={t}%23ephemeral", "x")],
            ),
            with_messages::<1>(
                "POST /pub deferred by 0",
                post("/pub?topic={t}&defer=0", "x"),
            ),
            row(
                "POST /pub deferred",
                [
                    post("/channel/create?topic={t}&channel=c", ""),
                    send("SUB {t} c\nRDY 1\n"),
                    read(1),
                    post("/pub?topic={t}&defer=60000", "x"),
                    until(
                        "/stats?format=json&topic={t}",
                        "/topics/0/channels/0/deferred_count",
                        1,
                    ),
                ],
            ),
            row(
                "POST /pub deferred by a negative time",
                [post("/pub?topic={t}&defer=-1", "x")],
            ),
            row(
                "POST /pub deferred by a fraction",
                [post("/pub?topic={t}&defer=1.5", "x")],
            ),
            row(
                "POST /pub deferred by nothing",
                [post("/pub?topic={t}&defer=", "x")],
            ),
            row(
                "POST /pub deferred by a word",
                [post("/pub?topic={t}&defer=soon", "x")],
            ),
            row(
                "POST /pub deferred too long",
                [post("/pub?topic={t}&defer=3600001", "x")],
            ),
            row(
                "POST /pub deferred as long as may be",
                [post("/pub?topic={t}&defer=3600000", "x")],
            ),
        ],
        &[],
    );
}

const CUT_SHORT: [Deliberate; 5] = [
    Deliberate {
        row: "POST /mpub, binary, with half its body",
        reason: "a body is read whole before it is looked into",
        ours: concat!(
            "POST /topic/create?topic={t} -> 200 [x-nsq-content-type: nsq; version=1.0] \n",
            "cut -> 500 [content-type: application/json; charset=utf-8] [x-nsq-content-type: nsq; version=1.0] ",
            r#"{"message":"INTERNAL_ERROR"}"#,
        ),
    },
    Deliberate {
        row: "a request line that is none",
        reason: "the status says it; the HTTP library sends no text with it",
        ours: "cut -> 400",
    },
    Deliberate {
        row: "a head that does not end",
        reason: "nobody is there to be told: closed in silence",
        ours: "cut -> 0",
    },
    Deliberate {
        row: "a content length that is no number",
        reason: "the status says it; the HTTP library sends no text with it",
        ours: "cut -> 400",
    },
    Deliberate {
        row: "two content lengths",
        reason: "the status says it; the HTTP library sends no text with it",
        ours: "cut -> 400",
    },
];

#[test]
fn bodies_cut_short_store_nothing() {
    let cut = |target: &str, rest: &str| {
        Step::CutHttp(format!("POST {target} HTTP/1.1\r\nHost: x\r\n{rest}").into_bytes())
    };
    let empty = || until("/stats?format=json&topic={t}", "/topics/0/message_count", 0);
    check(
        &[
            row(
                "POST /pub with half its body",
                [
                    post("/topic/create?topic={t}", ""),
                    cut("/pub?topic={t}", "Content-Length: 10\r\n\r\nhalf"),
                    empty(),
                ],
            ),
            row(
                "POST /mpub with half its body",
                [
                    post("/topic/create?topic={t}", ""),
                    cut("/mpub?topic={t}", "Content-Length: 10\r\n\r\na\nb\n"),
                    empty(),
                ],
            ),
            row(
                "POST /mpub, binary, with half its body",
                [
                    post("/topic/create?topic={t}", ""),
                    cut(
                        "/mpub?topic={t}&binary=true",
                        "Content-Length: 10\r\n\r\n\0\0\0\u{1}",
                    ),
                    empty(),
                ],
            ),
            row(
                "POST /pub with half its chunks",
                [
                    post("/topic/create?topic={t}", ""),
                    cut(
                        "/pub?topic={t}",
                        "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
                    ),
                    empty(),
                ],
            ),
            row(
                "POST /pub with a broken chunk",
                [
                    post("/topic/create?topic={t}", ""),
                    cut(
                        "/pub?topic={t}",
                        "Transfer-Encoding: chunked\r\n\r\nzz\r\nhalf\r\n0\r\n\r\n",
                    ),
                    empty(),
                ],
            ),
            row(
                "a request line that is none",
                [Step::CutHttp(b"nonsense\r\n\r\n".to_vec())],
            ),
            row(
                "a head that does not end",
                [Step::CutHttp(b"GET /ping HTTP/1.1\r\nHost: x\r\n".to_vec())],
            ),
            row(
                "a content length that is no number",
                [cut("/pub?topic={t}", "Content-Length: ten\r\n\r\nx")],
            ),
            row(
                "two content lengths",
                [cut(
                    "/pub?topic={t}",
                    "Content-Length: 1\r\nContent-Length: 2\r\n\r\nxy",
                )],
            ),
        ],
        &CUT_SHORT,
    );
}

#[test]
fn batches_are_answered_as_nsqds() {
    let n = |value: i32| value.to_be_bytes();
    let mut rows = vec![
        with_messages::<2>("POST /mpub of two lines", post("/mpub?topic={t}", "a\nbc")),
        with_messages::<2>(
            "POST /mpub with a newline at the end",
            post("/mpub?topic={t}", "a\nbc\n"),
        ),
        with_messages::<2>(
            "POST /mpub with empty lines",
            post("/mpub?topic={t}", "\n\na\n\nbc\n\n"),
        ),
        with_messages::<2>(
            "POST /mpub keeps carriage returns",
            post("/mpub?topic={t}", "a\r\nbc\r\n"),
        ),
        row("POST /mpub of nothing", [post("/mpub?topic={t}", "")]),
        row(
            "POST /mpub of newlines alone",
            [post("/mpub?topic={t}", "\n\n\n")],
        ),
        row("POST /mpub without a topic", [post("/mpub", "a")]),
        row(
            "POST /mpub with a bad topic",
            [post("/mpub?topic=a*b", "a")],
        ),
        row(
            "POST /mpub of the greatest line",
            [post("/mpub?topic={t}", vec![b'x'; 1 << 20])],
        ),
        row(
            "POST /mpub of a line one byte too big",
            [post("/mpub?topic={t}", vec![b'x'; (1 << 20) + 1])],
        ),
        row(
            "POST /mpub of a body one byte too big",
            [post("/mpub?topic={t}", vec![b'\n'; (5 << 20) + 1])],
        ),
        row(
            "POST /mpub of the greatest body",
            [post("/mpub?topic={t}", vec![b'\n'; 5 << 20])],
        ),
        row(
            "POST /mpub does not defer",
            [
                post("/mpub?topic={t}&defer=60000", "x"),
                until("/stats?format=json&topic={t}", "/topics/0/depth", 1),
            ],
        ),
        with_messages::<2>(
            "POST /mpub, binary",
            post("/mpub?topic={t}&binary=true", batch(&[b"a", b"b\nc"])),
        ),
        row(
            "POST /mpub, binary, of nothing",
            [post("/mpub?topic={t}&binary=true", "")],
        ),
        row(
            "POST /mpub, binary, half a count",
            [post("/mpub?topic={t}&binary=true", [0, 0])],
        ),
        row(
            "POST /mpub, binary, a count of 0",
            [post("/mpub?topic={t}&binary=true", n(0))],
        ),
        row(
            "POST /mpub, binary, a count of -1",
            [post("/mpub?topic={t}&binary=true", n(-1))],
        ),
        row(
            "POST /mpub, binary, a count too great",
            [post("/mpub?topic={t}&binary=true", n(i32::MAX))],
        ),
        row(
            "POST /mpub, binary, fewer messages than counted",
            [post(
                "/mpub?topic={t}&binary=true",
                [&n(2)[..], &n(1), b"x"].concat(),
            )],
        ),
        with_messages::<1>(
            "POST /mpub, binary, more than counted",
            post(
                "/mpub?topic={t}&binary=true",
                [&n(1)[..], &n(1), b"x", &n(1), b"y"].concat(),
            ),
        ),
        row(
            "POST /mpub, binary, an empty message",
            [post(
                "/mpub?topic={t}&binary=true",
                [&n(1)[..], &n(0)].concat(),
            )],
        ),
        row(
            "POST /mpub, binary, a message of size -1",
            [post(
                "/mpub?topic={t}&binary=true",
                [&n(1)[..], &n(-1)].concat(),
            )],
        ),
        row(
            "POST /mpub, binary, a message too big",
            [post(
                "/mpub?topic={t}&binary=true",
                [&n(1)[..], &n((1 << 20) + 1)].concat(),
            )],
        ),
        row(
            "POST /mpub, binary, half a message",
            [post(
                "/mpub?topic={t}&binary=true",
                [&n(1)[..], &n(10), b"half"].concat(),
            )],
        ),
        row(
            "POST /mpub, binary, one byte too big",
            [post("/mpub?topic={t}&binary=true", vec![0; (5 << 20) + 1])],
        ),
    ];
    for (name, value) in [
        ("binary=1", "1"),
        ("binary=yes", "yes"),
        ("binary=", ""),
        ("binary=TRUE", "TRUE"),
        ("binary=2", "2"),
    ] {
        rows.push(Row {
            name,
            steps: vec![post(
                &format!("/mpub?topic={{t}}&binary={value}"),
                batch(&[b"a"]),
            )],
        });
    }
    for (name, value) in [("binary=0", "0"), ("binary=false", "false")] {
        rows.push(Row {
            name,
            steps: vec![post(&format!("/mpub?topic={{t}}&binary={value}"), "a\nb")],
        });
    }
    check(&rows, &[]);
}

#[test]
fn topics_and_channels_are_administered_as_with_nsqd() {
    let mut rows = vec![
        row(
            "a topic is created, once and again",
            [
                post("/topic/create?topic={t}", ""),
                post("/topic/create?topic={t}", ""),
                until(
                    "/stats?format=json&topic={t}",
                    "/topics/0/topic_name",
                    "row0",
                ),
            ],
        ),
        row(
            "a channel is created, once and again",
            [
                post("/topic/create?topic={t}", ""),
                post("/channel/create?topic={t}&channel=c", ""),
                post("/channel/create?topic={t}&channel=c", ""),
                until(
                    "/stats?format=json&topic={t}",
                    "/topics/0/channels/0/channel_name",
                    "c",
                ),
            ],
        ),
        row(
            "a topic is deleted once",
            [
                post("/topic/create?topic={t}", ""),
                post("/topic/delete?topic={t}", ""),
                post("/topic/delete?topic={t}", ""),
            ],
        ),
        row(
            "a channel is deleted once",
            [
                post("/topic/create?topic={t}", ""),
                post("/channel/create?topic={t}&channel=c", ""),
                post("/channel/delete?topic={t}&channel=c", ""),
                post("/channel/delete?topic={t}&channel=c", ""),
                until(
                    "/stats?format=json&topic={t}",
                    "/topics/0/channels",
                    json!([]),
                ),
            ],
        ),
        row(
            "a topic is emptied of what no channel has",
            [
                post("/pub?topic={t}", "x"),
                until("/stats?format=json&topic={t}", "/topics/0/depth", 1),
                post("/topic/empty?topic={t}", ""),
                until("/stats?format=json&topic={t}", "/topics/0/depth", 0),
                send("SUB {t} c\nRDY 1\n"),
                read(1),
                post("/pub?topic={t}", "y"),
                read(1),
                send("FIN {0}\n"),
            ],
        ),
        row(
            "a channel is emptied",
            [
                post("/topic/create?topic={t}", ""),
                post("/channel/create?topic={t}&channel=c", ""),
                post("/pub?topic={t}", "x"),
                until(
                    "/stats?format=json&topic={t}",
                    "/topics/0/channels/0/depth",
                    1,
                ),
                post("/channel/empty?topic={t}&channel=c", ""),
                until(
                    "/stats?format=json&topic={t}",
                    "/topics/0/channels/0/depth",
                    0,
                ),
                send("SUB {t} c\nRDY 1\n"),
                read(1),
                post("/pub?topic={t}", "y"),
                read(1),
                send("FIN {0}\n"),
            ],
        ),
        row(
            "a topic is paused and unpaused, each twice",
            [
                post("/topic/create?topic={t}", ""),
                post("/topic/pause?topic={t}", ""),
                post("/topic/pause?topic={t}", ""),
                until("/stats?format=json&topic={t}", "/topics/0/paused", true),
                post("/topic/unpause?topic={t}", ""),
                post("/topic/unpause?topic={t}", ""),
                until("/stats?format=json&topic={t}", "/topics/0/paused", false),
            ],
        ),
        row(
            "a channel is paused and unpaused, each twice",
            [
                post("/topic/create?topic={t}", ""),
                post("/channel/create?topic={t}&channel=c", ""),
                post("/channel/pause?topic={t}&channel=c", ""),
                post("/channel/pause?topic={t}&channel=c", ""),
                until(
                    "/stats?format=json&topic={t}",
                    "/topics/0/channels/0/paused",
                    true,
                ),
                post("/channel/unpause?topic={t}&channel=c", ""),
                post("/channel/unpause?topic={t}&channel=c", ""),
                until(
                    "/stats?format=json&topic={t}",
                    "/topics/0/channels/0/paused",
                    false,
                ),
            ],
        ),
        row(
            "a deleted topic comes back empty",
            [
                post("/pub?topic={t}", "x"),
                post("/topic/delete?topic={t}", ""),
                post("/pub?topic={t}", "y"),
                send("SUB {t} c\nRDY 1\n"),
                read(2),
                send("FIN {0}\n"),
            ],
        ),
        row(
            "a deleted channel comes back empty",
            [
                post("/topic/create?topic={t}", ""),
                post("/channel/create?topic={t}&channel=c", ""),
                post("/channel/create?topic={t}&channel=d", ""),
                post("/pub?topic={t}", "x"),
                until(
                    "/stats?format=json&topic={t}",
                    "/topics/0/channels/0/depth",
                    1,
                ),
                post("/channel/delete?topic={t}&channel=c", ""),
                send("SUB {t} c\nRDY 1\n"),
                read(1),
                post("/pub?topic={t}", "y"),
                read(1),
                send("FIN {0}\n"),
            ],
        ),
    ];
    for verb in ["create", "delete", "empty", "pause", "unpause"] {
        for (what, query) in [
            ("without a topic", ""),
            ("with an empty topic", "?topic="),
            ("with a bad topic", "?topic=a*b"),
            ("of an unknown topic", "?topic=unknown-{t}"),
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
            ("with both bad", "?topic=a*b&channel=a*b"),
            ("of an unknown topic", "?topic=unknown-{t}&channel=c"),
        ] {
            let name: &'static str = format!("POST /channel/{verb} {what}").leak();
            rows.push(row(
                name,
                [
                    post("/topic/create?topic={t}", ""),
                    post(&format!("/channel/{verb}{query}"), ""),
                ],
            ));
        }
        let name: &'static str = format!("POST /channel/{verb} of an unknown channel").leak();
        if verb != "create" {
            rows.push(row(
                name,
                [
                    post("/topic/create?topic={t}", ""),
                    post(&format!("/channel/{verb}?topic={{t}}&channel=c"), ""),
                ],
            ));
        }
    }
    check(&rows, &[]);
}

#[test]
fn info_has_every_key_of_nsqds_with_its_type() {
    let (real, ours) = (Daemon::nsqd(Peer::Real, &[]), Daemon::nsqd(Peer::Ours, &[]));
    let info = |daemon: &Daemon| {
        let reply = tests::http::get(daemon.http, "/info");
        assert_eq!(reply.status, 200);
        assert_eq!(
            reply.header("content-type"),
            Some("application/json; charset=utf-8")
        );
        assert_eq!(reply.header("x-nsq-content-type"), Some("nsq; version=1.0"));
        let info = reply.json();
        assert_eq!(info["tcp_port"], daemon.tcp.port());
        assert_eq!(info["http_port"], daemon.http.port());
        info
    };
    let (real, ours) = (info(&real), info(&ours));
    compare_shapes("/info", &real, &ours);
    for key in [
        "max_heartbeat_interval",
        "max_output_buffer_size",
        "max_output_buffer_timeout",
        "max_deflate_level",
    ] {
        assert_eq!(real[key], ours[key], "{key}");
    }
    let version = ours["version"].as_str().unwrap();
    assert!(
        version.split('.').count() == 3
            && version
                .split('.')
                .all(|number| number.parse::<u32>().is_ok()),
        "nsqadmin wants a plain semantic version, not {version}"
    );
}

/// A broker that has met everything that /stats tells: channels, deferred, requeued, in flight, clients, producers.
fn busy(peer: Peer) -> (Daemon, Vec<Wire>) {
    let nsqd = Daemon::nsqd(peer, &[]);
    let mut consumer = Wire::nsqd(nsqd.tcp);
    consumer.send(b"IDENTIFY\n");
    consumer.send(&sized(
        br#"{"client_id":"id","hostname":"host","user_agent":"agent/1"}"#,
    ));
    consumer.expect("OK");
    consumer.subscribe("busy", "first", 3);
    let mut idle = Wire::nsqd(nsqd.tcp);
    idle.subscribe("busy", "second", 10);
    let mut producer = Wire::nsqd(nsqd.tcp);
    for number in 0..4 {
        producer.publish("busy", format!("message {number}").as_bytes());
    }
    producer.send(&tests::wire::command_with_body(
        "DPUB busy 60000\n",
        b"later",
    ));
    producer.expect("OK");
    // Not by this producer: nsqd tells of one topic of each producer only, whichever comes first in its map.
    assert_eq!(
        tests::http::post(nsqd.http, "/pub?topic=alone", b"no channel").status,
        200
    );
    let (first, ..) = consumer.message();
    let (second, ..) = consumer.message();
    consumer.finish(&first);
    let (third, ..) = consumer.message();
    consumer.send(format!("REQ {second} 60000\n").as_bytes());
    let (fourth, ..) = consumer.message();
    assert_ne!(third, fourth);
    assert_eq!(
        tests::http::post(nsqd.http, "/topic/pause?topic=alone", b"").status,
        200
    );
    wait::until("the counts are in", || {
        nsqd.channel_stat("busy", "first", "deferred_count") == 2
            && nsqd.channel_stat("busy", "second", "in_flight_count") == 4
            && nsqd.channel_stat("busy", "second", "deferred_count") == 1
    });
    (nsqd, vec![consumer, idle, producer])
}

#[test]
fn stats_have_every_key_of_nsqds_with_its_type_and_count_alike() {
    let (real, _real_wires) = busy(Peer::Real);
    let (ours, _our_wires) = busy(Peer::Ours);
    let queries = [
        "format=json",
        "format=json&topic=busy",
        "format=json&topic=busy&channel=first",
        "format=json&topic=alone",
        "format=json&include_clients=false",
        "format=json&include_mem=false",
        "format=json&include_clients=0&include_mem=0",
        "format=json&include_clients=true&include_mem=1",
    ];
    for query in queries {
        let of = |daemon: &Daemon| {
            let reply = tests::http::get(daemon.http, &format!("/stats?{query}"));
            assert_eq!(reply.status, 200, "{query}");
            assert_eq!(
                reply.header("content-type"),
                Some("application/json; charset=utf-8")
            );
            assert_eq!(reply.header("x-nsq-content-type"), Some("nsq; version=1.0"));
            reply.json()
        };
        let (real, ours) = (of(&real), of(&ours));
        compare_shapes(query, &real, &ours);
        assert_eq!(counts(&real), counts(&ours), "{query}");
    }
}

#[test]
fn stats_as_text_have_nsqds_rows() {
    let (real, _real_wires) = busy(Peer::Real);
    let (ours, _our_wires) = busy(Peer::Ours);
    for query in [
        "",
        "?topic=busy",
        "?topic=busy&channel=second",
        "?format=text",
        "?include_clients=false",
    ] {
        let rows = |daemon: &Daemon| {
            let reply = tests::http::get(daemon.http, &format!("/stats{query}"));
            assert_eq!(
                reply.header("content-type"),
                Some("text/plain; charset=utf-8"),
                "{query}"
            );
            let text = reply.text();
            // What people and scripts look for: the rows of topics and channels, number by number.
            text.lines()
                .filter(|line| line.trim_start().trim_start_matches("*P ").starts_with('['))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let rows = (rows(&real), rows(&ours));
        assert!(!rows.0.is_empty());
        // What is in memory and what on disk is each program's own matter.
        let of_topics = |rows: &[String]| {
            let rows = rows.iter().filter(|row| !row.contains("V2 "));
            rows.map(|row| without(row, "be-depth: "))
                .collect::<Vec<_>>()
        };
        assert_eq!(of_topics(&rows.0), of_topics(&rows.1), "/stats{query}");
        assert_eq!(
            rows.0.len(),
            rows.1.len(),
            "/stats{query}: client rows\n{:#?}\n{:#?}",
            rows.0,
            rows.1
        );
    }
}

/// The row without the number behind this label.
fn without(row: &str, label: &str) -> String {
    match row.split_once(label) {
        Some((before, after)) => {
            format!(
                "{before}{}",
                after
                    .trim_start_matches(|c: char| c.is_ascii_digit())
                    .trim()
            )
        }
        None => row.trim_end().to_owned(),
    }
}

/// Every key of `real` is in `ours`, with a value of the same JSON type; ours may have more.
fn compare_shapes(at: &str, real: &Value, ours: &Value) {
    match (real, ours) {
        (Value::Object(real), Value::Object(ours)) => {
            for (key, value) in real {
                let mine = ours
                    .get(key)
                    .unwrap_or_else(|| panic!("{at}: no key {key:?} in {ours:?}"));
                compare_shapes(&format!("{at}.{key}"), value, mine);
            }
        }
        (Value::Array(real), Value::Array(ours)) => {
            assert_eq!(real.len(), ours.len(), "{at}: {real:?} against {ours:?}");
            for (number, (real, ours)) in real.iter().zip(ours).enumerate() {
                compare_shapes(&format!("{at}[{number}]"), real, ours);
            }
        }
        // Go's empty list; `[]` says the same to clients that iterate without asking.
        (Value::Null, Value::Array(ours)) => {
            assert!(ours.is_empty(), "{at}: null against {ours:?}")
        }
        _ => {
            let same = std::mem::discriminant(real) == std::mem::discriminant(ours);
            assert!(same, "{at}: {real} against {ours}");
        }
    }
}

/// What both must count alike, by path.
fn counts(stats: &Value) -> BTreeMap<String, Value> {
    const COUNTED: [&str; 22] = [
        "topic_name",
        "channel_name",
        "depth",
        "in_flight_count",
        "deferred_count",
        "message_count",
        "message_bytes",
        "requeue_count",
        "timeout_count",
        "client_count",
        "paused",
        "client_id",
        "hostname",
        "user_agent",
        "version",
        "state",
        "ready_count",
        "finish_count",
        "sample_rate",
        "tls",
        "topic",
        "count",
    ];
    let mut found = BTreeMap::new();
    collect("", stats, &COUNTED, &mut found);
    // nsqd's own version is not a count.
    found.remove("/version");
    found
}

fn collect(at: &str, value: &Value, wanted: &[&str], into: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let at = format!("{at}/{key}");
                if wanted.contains(&key.as_str()) && !value.is_object() && !value.is_array() {
                    into.insert(at, value.clone());
                } else {
                    collect(&at, value, wanted, into);
                }
            }
        }
        Value::Array(list) => {
            for (number, value) in list.iter().enumerate() {
                collect(&format!("{at}/{number}"), value, wanted, into);
            }
        }
        _ => {}
    }
}

#[test]
fn a_deferred_message_that_no_consumer_has_reached_counts_as_depth() {
    // On purpose: a channel reads its log only as its consumers ask for it, so what a message is shows when its turn
    // comes. nsqd sorts every message into every channel's memory at once.
    for (peer, depth, deferred) in [(Peer::Real, 0, 1), (Peer::Ours, 1, 0)] {
        let nsqd = Daemon::nsqd(peer, &[]);
        let mut idle = Wire::nsqd(nsqd.tcp);
        idle.subscribe("clicks", "count", 0);
        assert_eq!(
            tests::http::post(nsqd.http, "/pub?topic=clicks&defer=60000", b"x").status,
            200
        );
        wait::until(&format!("{peer:?}: it is counted"), || {
            nsqd.channel_stat("clicks", "count", "depth") == depth
                && nsqd.channel_stat("clicks", "count", "deferred_count") == deferred
        });
        // With the first ready consumer both say the same.
        idle.send(b"RDY 1\n");
        wait::until(&format!("{peer:?}: it is deferred"), || {
            nsqd.channel_stat("clicks", "count", "depth") == 0
                && nsqd.channel_stat("clicks", "count", "deferred_count") == 1
        });
    }
}

#[test]
fn an_unknown_topic_or_channel_filters_everything_out_of_stats() {
    for peer in [Peer::Real, Peer::Ours] {
        let (nsqd, _wires) = busy(peer);
        let topics = |query: &str| {
            tests::http::get(nsqd.http, &format!("/stats?format=json&{query}")).json()["topics"]
                .clone()
        };
        let empty = |value: &Value| value.is_null() || value == &json!([]);
        assert!(empty(&topics("topic=unknown")), "{peer:?}");
        assert!(empty(&topics("topic=alone&channel=first")), "{peer:?}");
        assert!(empty(&topics("channel=unknown")), "{peer:?}");
    }
}
