//! nsqd's V2 protocol: every conversation of these tables runs against the real nsqd and against ours, and the frames,
//! the error texts and whether the connection stays open must be the same.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "panicking is how a test fails"
)]

use tests::script::{
    Deliberate, Row, Step, Target, body, compare, half_close, len, post, read, read_on, row, send,
    send_on, until,
};
use tests::wire::{Version, Wire, multi_publish};
use tests::{Daemon, Peer};

const MIB: i32 = 1 << 20;

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

#[test]
fn connections_begin_and_commands_are_parsed_as_by_nsqd() {
    let long = |length: usize| {
        let mut line = vec![b'x'; length - 1];
        line.push(b'\n');
        line
    };
    check(
        &[
            row(
                "an unknown magic is refused",
                [Step::NoMagic, send("  V9"), read(2)],
            ),
            row(
                "the magic of nsqlookupd is refused",
                [Step::NoMagic, send("  V1"), read(2)],
            ),
            row(
                "half a magic and the end is a close",
                [Step::NoMagic, send("  V"), half_close()],
            ),
            row(
                "the magic may come in pieces",
                [Step::NoMagic, send("  "), send("V2"), send("NOP\n")],
            ),
            row("an empty line is an invalid command", [send("\n"), read(2)]),
            row(
                "a lone carriage return is an invalid command",
                [send("\r\n"), read(2)],
            ),
            row(
                "an unknown verb is an invalid command",
                [send("FOO\n"), read(2)],
            ),
            row("verbs are case-sensitive", [send("pub {t}\n"), read(2)]),
            row(
                "a verb with a blank before it is unknown",
                [send(" NOP\n"), read(2)],
            ),
            row(
                "a line may end in CRLF",
                [send("PUB {t}\r\n"), body("x"), read(1), send("NOP\r\n")],
            ),
            row(
                "a command may come in pieces",
                [
                    send("PU"),
                    send("B {t}"),
                    send("\n"),
                    send([0, 0]),
                    send([0, 1]),
                    send("x"),
                ],
            ),
            row(
                "commands may be pipelined",
                [
                    send("PUB {t}\n"),
                    body("x"),
                    send("NOP\nPUB {t}\n"),
                    body("y"),
                    send("NOP\n"),
                ],
            ),
            row(
                "the longest line is 16 KiB with its newline",
                [send(long(16384)), read(2)],
            ),
            row(
                "a line over 16 KiB is a silent close",
                [send(long(16385)), read(1)],
            ),
            row(
                "a line over 16 KiB without an end is a silent close",
                [send(vec![b'x'; 20000]), read(1)],
            ),
            row(
                "the end inside a line is a silent close",
                [send("PUB {t}"), half_close()],
            ),
            row(
                "the end after a command is a silent close",
                [send("NOP\n"), half_close()],
            ),
            row("NOP has no answer", [send("NOP\nNOP\nNOP\n")]),
            row("NOP ignores what follows it", [send("NOP a b c\n")]),
            row(
                "bytes that are no text are an unknown verb",
                [send([0xff, 0xfe, b'\n']), Step::Read(0, 1)],
            ),
        ],
        &[],
    );
}

#[test]
fn identify_is_negotiated_as_by_nsqd() {
    let identify = |json: &str| vec![send("IDENTIFY\n"), body(json), send("PUB {t}\n"), body("x")];
    let mut rows = vec![
        row(
            "IDENTIFY without its body size",
            [send("IDENTIFY\n"), half_close()],
        ),
        row(
            "IDENTIFY with half a body size",
            [send("IDENTIFY\n"), send([0, 0]), half_close()],
        ),
        row("IDENTIFY of size 0", [send("IDENTIFY\n"), len(0), read(2)]),
        row(
            "IDENTIFY of size -1",
            [send("IDENTIFY\n"), len(-1), read(2)],
        ),
        row(
            "IDENTIFY of the least size",
            [send("IDENTIFY\n"), len(i32::MIN), read(2)],
        ),
        row(
            "IDENTIFY one byte too big",
            [send("IDENTIFY\n"), len(5 * MIB + 1), read(2)],
        ),
        row(
            "IDENTIFY of the greatest size",
            [send("IDENTIFY\n"), len(i32::MAX), read(2)],
        ),
        row(
            "IDENTIFY with half a body",
            [send("IDENTIFY\n"), len(10), send("{}"), half_close()],
        ),
        row(
            "IDENTIFY ignores parameters",
            [send("IDENTIFY a b\n"), body("{}")],
        ),
        row(
            "IDENTIFY twice",
            [
                send("IDENTIFY\n"),
                body("{}"),
                send("IDENTIFY\n"),
                body("{}"),
            ],
        ),
        row(
            "IDENTIFY after SUB",
            [
                send("SUB {t} c\n"),
                read(1),
                send("IDENTIFY\n"),
                body("{}"),
                read(2),
            ],
        ),
        row(
            "SUB with heartbeats disabled",
            [
                send("IDENTIFY\n"),
                body(r#"{"heartbeat_interval":-1}"#),
                read(1),
                send("SUB {t} c\n"),
                read(2),
            ],
        ),
        row(
            "AUTH where none is configured",
            [send("AUTH\n"), body("secret"), read(2)],
        ),
        row(
            "AUTH with parameters",
            [send("AUTH x\n"), body("secret"), read(2)],
        ),
        row("AUTH of size 0", [send("AUTH\n"), len(0), read(2)]),
        row("AUTH of size -1", [send("AUTH\n"), len(-1), read(2)]),
        row("AUTH too big", [send("AUTH\n"), len(5 * MIB + 1), read(2)]),
        row(
            "AUTH with half a body",
            [send("AUTH\n"), len(10), send("abc"), half_close()],
        ),
        row(
            "AUTH after SUB",
            [
                send("SUB {t} c\n"),
                read(1),
                send("AUTH\n"),
                body("secret"),
                read(2),
            ],
        ),
    ];
    for (name, json) in IDENTIFIES {
        rows.push(Row {
            name,
            steps: identify(json),
        });
    }
    check(&rows, &[]);
}

const IDENTIFIES: [(&str, &str); 44] = [
    ("an empty object", "{}"),
    ("no JSON", "nonsense"),
    ("an array", "[]"),
    ("a string", r#""x""#),
    ("null", "null"),
    ("half an object", "{"),
    ("blanks around the object", " {} "),
    ("something behind the object", "{} x"),
    (
        "unknown keys",
        r#"{"no_such_key":[1,{"a":2}],"short_id":"a","long_id":"b"}"#,
    ),
    ("feature negotiation", r#"{"feature_negotiation":true}"#),
    (
        "negotiation with every value given",
        r#"{"client_id":"c","hostname":"h","user_agent":"u","feature_negotiation":true,
        "heartbeat_interval":2000,"output_buffer_size":1024,"output_buffer_timeout":100,"sample_rate":10,
        "msg_timeout":5000}"#,
    ),
    (
        "keys in another case",
        r#"{"Feature_Negotiation":true,"MSG_TIMEOUT":5000}"#,
    ),
    (
        "negotiation that is false",
        r#"{"feature_negotiation":false,"msg_timeout":5000}"#,
    ),
    (
        "negotiation that is null",
        r#"{"feature_negotiation":null}"#,
    ),
    (
        "negotiation of a wrong type",
        r#"{"feature_negotiation":"yes"}"#,
    ),
    ("a client id of a wrong type", r#"{"client_id":7}"#),
    (
        "a heartbeat interval that is a string",
        r#"{"heartbeat_interval":"1000"}"#,
    ),
    (
        "a heartbeat interval with a fraction",
        r#"{"heartbeat_interval":1000.5}"#,
    ),
    (
        "a heartbeat interval of 0 is the default",
        r#"{"feature_negotiation":true,"heartbeat_interval":0}"#,
    ),
    ("a heartbeat interval of -2", r#"{"heartbeat_interval":-2}"#),
    (
        "a heartbeat interval of 999",
        r#"{"heartbeat_interval":999}"#,
    ),
    (
        "a heartbeat interval of 1000",
        r#"{"heartbeat_interval":1000}"#,
    ),
    (
        "a heartbeat interval of 60000",
        r#"{"heartbeat_interval":60000}"#,
    ),
    (
        "a heartbeat interval of 60001",
        r#"{"heartbeat_interval":60001}"#,
    ),
    (
        "heartbeats disabled",
        r#"{"feature_negotiation":true,"heartbeat_interval":-1}"#,
    ),
    (
        "an output buffer of -1 and its timeout",
        r#"{"feature_negotiation":true,"output_buffer_size":-1}"#,
    ),
    ("an output buffer of 63", r#"{"output_buffer_size":63}"#),
    (
        "an output buffer of 64",
        r#"{"feature_negotiation":true,"output_buffer_size":64}"#,
    ),
    (
        "an output buffer of 65536",
        r#"{"feature_negotiation":true,"output_buffer_size":65536}"#,
    ),
    (
        "an output buffer of 65537",
        r#"{"output_buffer_size":65537}"#,
    ),
    (
        "an output buffer timeout of -1",
        r#"{"feature_negotiation":true,"output_buffer_timeout":-1}"#,
    ),
    (
        "an output buffer timeout of 24",
        r#"{"output_buffer_timeout":24}"#,
    ),
    (
        "an output buffer timeout of 30000",
        r#"{"feature_negotiation":true,"output_buffer_timeout":30000}"#,
    ),
    (
        "an output buffer timeout of 30001",
        r#"{"output_buffer_timeout":30001}"#,
    ),
    ("a sample rate of -1", r#"{"sample_rate":-1}"#),
    (
        "a sample rate of 99",
        r#"{"feature_negotiation":true,"sample_rate":99}"#,
    ),
    ("a sample rate of 100", r#"{"sample_rate":100}"#),
    ("a message timeout of -1", r#"{"msg_timeout":-1}"#),
    ("a message timeout of 999", r#"{"msg_timeout":999}"#),
    (
        "a message timeout of 900000",
        r#"{"feature_negotiation":true,"msg_timeout":900000}"#,
    ),
    ("a message timeout of 900001", r#"{"msg_timeout":900001}"#),
    (
        "two values out of range",
        r#"{"msg_timeout":1,"heartbeat_interval":1,"sample_rate":100}"#,
    ),
    (
        "TLS asked where none is configured",
        r#"{"feature_negotiation":true,"tls_v1":true}"#,
    ),
    (
        "a number too great for its field",
        r#"{"heartbeat_interval":99999999999999999999}"#,
    ),
];

#[test]
fn publishes_are_answered_as_by_nsqd() {
    let name64 = "n".repeat(64);
    let name65 = "n".repeat(65);
    check(
        &[
            row("PUB of one byte", [send("PUB {t}\n"), body("x")]),
            row("PUB without a topic", [send("PUB\n"), read(2)]),
            row(
                "PUB with an empty topic",
                [send("PUB \n"), body("x"), read(2)],
            ),
            row(
                "PUB ignores further parameters",
                [send("PUB {t} a b\n"), body("x")],
            ),
            row(
                "PUB with two blanks",
                [send("PUB  {t}\n"), body("x"), read(2)],
            ),
            row(
                "PUB to a name with a bad character",
                [send("PUB a*b\n"), body("x"), read(2)],
            ),
            row(
                "PUB to a name with a quote, quoted as Go does",
                [send("PUB a\"b\\c\n"), body("x"), read(2)],
            ),
            row(
                "PUB to a name that is no ASCII",
                [send("PUB t\u{e4}\u{2028}\n"), body("x"), read(2)],
            ),
            row(
                "PUB to a name that is no UTF-8",
                [send(b"PUB t\xff\x01\n"), body("x"), read(2)],
            ),
            row(
                "PUB to a name of 64",
                [send(format!("PUB {name64}\n")), body("x")],
            ),
            row(
                "PUB to a name of 65",
                [send(format!("PUB {name65}\n")), body("x"), read(2)],
            ),
            row(
                "PUB to an ephemeral topic",
                [send("PUB {t}#ephemeral\n"), body("x")],
            ),
            row(
                "PUB to a name with another suffix",
                [send("PUB {t}#other\n"), body("x"), read(2)],
            ),
            row(
                "PUB to a bare suffix",
                [send("PUB #ephemeral\n"), body("x"), read(2)],
            ),
            row("PUB of size 0", [send("PUB {t}\n"), len(0), read(2)]),
            row("PUB of size -1", [send("PUB {t}\n"), len(-1), read(2)]),
            row(
                "PUB of the least size",
                [send("PUB {t}\n"), len(i32::MIN), read(2)],
            ),
            row(
                "PUB of the greatest message",
                [send("PUB {t}\n"), body(vec![0xAA; MIB as usize])],
            ),
            row(
                "PUB one byte too big",
                [send("PUB {t}\n"), len(MIB + 1), read(2)],
            ),
            row(
                "PUB of the greatest size",
                [send("PUB {t}\n"), len(i32::MAX), read(2)],
            ),
            row("PUB without its size", [send("PUB {t}\n"), half_close()]),
            row(
                "PUB with half its size",
                [send("PUB {t}\n"), send([0, 0, 0]), half_close()],
            ),
            row(
                "PUB with half its body",
                [send("PUB {t}\n"), len(10), send("half"), half_close()],
            ),
            row("DPUB at once", [send("DPUB {t} 0\n"), body("x")]),
            row("DPUB without a topic", [send("DPUB\n"), read(2)]),
            row("DPUB without a time", [send("DPUB {t}\n"), read(2)]),
            row(
                "DPUB with an empty time is 0",
                [send("DPUB {t} \n"), body("x")],
            ),
            row(
                "DPUB with a bad topic",
                [send("DPUB a*b 5\n"), body("x"), read(2)],
            ),
            row(
                "DPUB with a bad topic and a bad time",
                [send("DPUB a*b x\n"), body("x"), read(2)],
            ),
            row(
                "DPUB with a word for a time",
                [send("DPUB {t} soon\n"), body("x"), read(2)],
            ),
            row(
                "DPUB with a negative time",
                [send("DPUB {t} -1\n"), body("x"), read(2)],
            ),
            row(
                "DPUB with a signed time",
                [send("DPUB {t} +1\n"), body("x"), read(2)],
            ),
            row(
                "DPUB with the greatest time",
                [send("DPUB {t} 3600000\n"), body("x")],
            ),
            row(
                "DPUB one over the greatest time",
                [send("DPUB {t} 3600001\n"), body("x"), read(2)],
            ),
            row("DPUB of size 0", [send("DPUB {t} 1\n"), len(0), read(2)]),
            row("DPUB of size -1", [send("DPUB {t} 1\n"), len(-1), read(2)]),
            row(
                "DPUB one byte too big",
                [send("DPUB {t} 1\n"), len(MIB + 1), read(2)],
            ),
            row(
                "DPUB with half its body",
                [send("DPUB {t} 1\n"), len(10), send("half"), half_close()],
            ),
            row(
                "DPUB without its size",
                [send("DPUB {t} 1\n"), half_close()],
            ),
            row(
                "a subscriber may publish",
                [
                    send("SUB {t} c\n"),
                    read(1),
                    send("PUB {t}\n"),
                    body("x"),
                    read(1),
                    send("RDY 1\n"),
                    read(1),
                    send("FIN {0}\n"),
                ],
            ),
        ],
        &[],
    );
}

#[test]
fn batches_are_answered_as_by_nsqd() {
    let batch = |bodies: &[&str]| send(multi_publish("{t}", bodies));
    let mpub = |total: i32, rest: &[&[u8]]| {
        let mut bytes = b"MPUB {t}\n".to_vec();
        bytes.extend_from_slice(&total.to_be_bytes());
        bytes.extend(rest.concat());
        send(bytes)
    };
    let n = |value: i32| value.to_be_bytes();
    check(
        &[
            row("MPUB of two", [batch(&["a", "bc"])]),
            row("MPUB of one", [batch(&["a"])]),
            row("MPUB without a topic", [send("MPUB\n"), read(2)]),
            row(
                "MPUB with a bad topic says so twice",
                [send("MPUB a*b\n"), read(2)],
            ),
            row(
                "MPUB ignores further parameters",
                [send("MPUB {t} a\n"), len(9), len(1), len(1), send("x")],
            ),
            row("MPUB without its size", [send("MPUB {t}\n"), half_close()]),
            row("MPUB of size 0", [mpub(0, &[]), read(2)]),
            row("MPUB of size -1", [mpub(-1, &[]), read(2)]),
            row("MPUB one byte too big", [mpub(5 * MIB + 1, &[]), read(2)]),
            row("MPUB of the greatest size", [mpub(i32::MAX, &[]), read(2)]),
            row("MPUB without its count", [mpub(9, &[]), half_close()]),
            row("MPUB of no message", [mpub(4, &[&n(0)]), read(2)]),
            row("MPUB of -1 messages", [mpub(4, &[&n(-1)]), read(2)]),
            row(
                "MPUB of more messages than the largest batch holds",
                [mpub(100, &[&n((5 * MIB - 4) / 5 + 1)]), read(2)],
            ),
            row(
                "MPUB of the greatest count",
                [mpub(100, &[&n(i32::MAX)]), read(2)],
            ),
            row(
                "MPUB with an empty message",
                [mpub(13, &[&n(2), &n(0), &n(1), b"x"]), read(2)],
            ),
            row(
                "MPUB with a message of size -1",
                [mpub(13, &[&n(1), &n(-1), b"xxxxx"]), read(2)],
            ),
            row(
                "MPUB with an empty second message",
                [mpub(13, &[&n(2), &n(1), b"x", &n(0)]), read(2)],
            ),
            row(
                "MPUB with a message too big",
                [mpub(5 * MIB, &[&n(1), &n(MIB + 1)]), read(2)],
            ),
            row(
                "MPUB ending inside its first message",
                [mpub(18, &[&n(1), &n(10), b"xxx"]), half_close()],
            ),
            row(
                "MPUB ending inside its second size",
                [mpub(18, &[&n(2), &n(1), b"x", &[0, 0]]), half_close()],
            ),
            row(
                "MPUB ending after its count",
                [mpub(18, &[&n(2)]), half_close()],
            ),
            row(
                "MPUB whose size is too small for its messages",
                [mpub(5, &[&n(2), &n(1), b"x", &n(1), b"y"]), send("NOP\n")],
            ),
            row(
                "MPUB whose size is too great for its messages",
                [mpub(100, &[&n(1), &n(1), b"x"]), send("NOP\n")],
            ),
            row(
                "a refused MPUB stores nothing of it",
                [
                    mpub(13, &[&n(2), &n(1), b"x", &n(0)]),
                    Step::ReadToEnd(0),
                    send_on(1, "SUB {t} c\n"),
                    read_on(1, 1),
                    send_on(1, "RDY 5\n"),
                    send_on(1, "PUB {t}\n"),
                    send_on(1, [0, 0, 0, 1]),
                    send_on(1, "y"),
                    read_on(1, 2),
                    send_on(1, "FIN {0}\n"),
                ],
            ),
            row(
                "a batch arrives whole and in its order where one consumer takes one at a time",
                [
                    batch(&["a", "b", "c"]),
                    read(1),
                    send("SUB {t} c\nRDY 1\n"),
                    read(2),
                    send("FIN {0}\n"),
                    read(1),
                    send("FIN {1}\n"),
                    read(1),
                    send("FIN {2}\n"),
                ],
            ),
        ],
        &MPUB_SIZES,
    );
}

/// nsqd takes whatever the count says and reads the next command behind it. A size that lies is a client that has lost
/// its place in the stream: what follows would be taken for commands.
const MPUB_SIZES: [Deliberate; 2] = [
    Deliberate {
        row: "MPUB whose size is too small for its messages",
        reason: "a size that lies ends the connection",
        ours: "c0 error E_BAD_BODY MPUB body size 5 is not that of its messages\nc0 closed",
    },
    Deliberate {
        row: "MPUB whose size is too great for its messages",
        reason: "a size that lies ends the connection",
        ours: "c0 error E_BAD_BODY MPUB body size 100 is not that of its messages\nc0 closed",
    },
];

#[test]
fn subscriptions_are_answered_as_by_nsqd() {
    check(
        &[
            row("SUB", [send("SUB {t} c\n")]),
            row("SUB without parameters", [send("SUB\n"), read(2)]),
            row("SUB without a channel", [send("SUB {t}\n"), read(2)]),
            row("SUB with an empty channel", [send("SUB {t} \n"), read(2)]),
            row("SUB ignores further parameters", [send("SUB {t} c d\n")]),
            row("SUB with a bad topic", [send("SUB a*b c\n"), read(2)]),
            row("SUB with a bad channel", [send("SUB {t} a*b\n"), read(2)]),
            row("SUB with both bad", [send("SUB a*b a*b\n"), read(2)]),
            row(
                "SUB of an ephemeral channel",
                [send("SUB {t} c#ephemeral\n")],
            ),
            row(
                "SUB twice",
                [send("SUB {t} c\n"), read(1), send("SUB {t} d\n"), read(2)],
            ),
            row(
                "SUB twice with bad names: the state counts first",
                [send("SUB {t} c\n"), read(1), send("SUB\n"), read(2)],
            ),
            row("RDY before SUB", [send("RDY 1\n"), read(2)]),
            row(
                "RDY before SUB with a bad count: the state counts first",
                [send("RDY x\n"), read(2)],
            ),
            row("FIN before SUB", [send("FIN 0123456789abcdef\n"), read(2)]),
            row(
                "FIN before SUB without an id: the state counts first",
                [send("FIN\n"), read(2)],
            ),
            row(
                "REQ before SUB",
                [send("REQ 0123456789abcdef 0\n"), read(2)],
            ),
            row(
                "TOUCH before SUB",
                [send("TOUCH 0123456789abcdef\n"), read(2)],
            ),
            row("CLS before SUB", [send("CLS\n"), read(2)]),
            row(
                "RDY without a count",
                [send("SUB {t} c\n"), read(1), send("RDY\n")],
            ),
            row(
                "RDY with an empty count",
                [send("SUB {t} c\n"), read(1), send("RDY \n")],
            ),
            row("RDY 0", [send("SUB {t} c\n"), read(1), send("RDY 0\n")]),
            row(
                "RDY of the greatest count",
                [send("SUB {t} c\n"), read(1), send("RDY 2500\n")],
            ),
            row(
                "RDY one over the greatest count",
                [send("SUB {t} c\n"), read(1), send("RDY 2501\n"), read(2)],
            ),
            row(
                "RDY of a negative count",
                [send("SUB {t} c\n"), read(1), send("RDY -1\n"), read(2)],
            ),
            row(
                "RDY of a word",
                [send("SUB {t} c\n"), read(1), send("RDY many\n"), read(2)],
            ),
            row("CLS", [send("SUB {t} c\n"), read(1), send("CLS\n")]),
            row(
                "CLS twice",
                [
                    send("SUB {t} c\n"),
                    read(1),
                    send("CLS\n"),
                    read(1),
                    send("CLS\n"),
                    read(2),
                ],
            ),
            row(
                "RDY after CLS is ignored",
                [
                    send("PUB {t}\n"),
                    body("x"),
                    read(1),
                    send("SUB {t} c\n"),
                    read(1),
                    send("CLS\n"),
                    read(1),
                    send("RDY 5\n"),
                    send("RDY 9999\nRDY x\n"),
                ],
            ),
            row(
                "SUB after CLS",
                [
                    send("SUB {t} c\n"),
                    read(1),
                    send("CLS\n"),
                    read(1),
                    send("SUB {t} c\n"),
                    read(2),
                ],
            ),
            row(
                "PUB after CLS",
                [
                    send("SUB {t} c\n"),
                    read(1),
                    send("CLS\n"),
                    read(1),
                    send("PUB {t}\n"),
                    body("x"),
                ],
            ),
        ],
        &[],
    );
}

#[test]
fn deliveries_are_answered_as_by_nsqd() {
    let subscribed = [
        send("PUB {t}\n"),
        body("x"),
        read(1),
        send("SUB {t} c\nRDY 1\n"),
        read(2),
    ];
    let after = |name: &'static str, steps: &[Step]| Row {
        name,
        steps: [&subscribed[..], steps].concat(),
    };
    let one_left = "/stats?format=json&topic={t}";
    check(
        &[
            after(
                "a message is finished in silence",
                &[
                    send("FIN {0}\n"),
                    until(one_left, "/topics/0/channels/0/in_flight_count", 0),
                ],
            ),
            after("FIN without an id", &[send("FIN\n"), read(2)]),
            after("FIN with an empty id", &[send("FIN \n"), read(2)]),
            after(
                "FIN with an id of 15",
                &[send("FIN 0123456789abcde\n"), read(2)],
            ),
            after(
                "FIN with an id of 17",
                &[send("FIN 0123456789abcdef0\n"), read(2)],
            ),
            after(
                "FIN with an unknown id",
                &[send("FIN 0123456789abcdef\n"), read(1)],
            ),
            after(
                "FIN with an id that is no number",
                &[send("FIN zzzzzzzzzzzzzzzz\n"), read(1)],
            ),
            after(
                "FIN with an id in upper case",
                &[send("FIN FFFFFFFFFFFFFFFF\n"), read(1)],
            ),
            after("FIN ignores further parameters", &[send("FIN {0} x\n")]),
            after("FIN twice", &[send("FIN {0}\nFIN {0}\n"), read(1)]),
            after(
                "REQ at once redelivers with one more attempt",
                &[send("REQ {0} 0\n"), read(1), send("FIN {0}\n")],
            ),
            after(
                "REQ again and again counts every attempt",
                &[
                    send("REQ {0} 0\n"),
                    read(1),
                    send("REQ {0} 0\n"),
                    read(1),
                    send("REQ {0} 0\n"),
                    read(1),
                    send("FIN {0}\n"),
                ],
            ),
            after(
                "REQ with a delay redelivers",
                &[send("REQ {0} 50\n"), read(1), send("FIN {0}\n")],
            ),
            after("REQ without parameters", &[send("REQ\n"), read(2)]),
            after("REQ without a delay", &[send("REQ {0}\n"), read(2)]),
            after(
                "REQ with an empty delay is 0",
                &[send("REQ {0} \n"), read(1)],
            ),
            after("REQ with a bad id", &[send("REQ x 0\n"), read(2)]),
            after(
                "REQ with an unknown id",
                &[send("REQ 0123456789abcdef 0\n"), read(1)],
            ),
            after(
                "REQ with a word for a delay",
                &[send("REQ {0} soon\n"), read(2)],
            ),
            after(
                "REQ with a negative delay",
                &[send("REQ {0} -1\n"), read(2)],
            ),
            after(
                "REQ over the greatest delay is clamped",
                &[
                    send("REQ {0} 99999999\n"),
                    until(one_left, "/topics/0/channels/0/deferred_count", 1),
                ],
            ),
            after("REQ after FIN", &[send("FIN {0}\nREQ {0} 0\n"), read(1)]),
            after("TOUCH is silent", &[send("TOUCH {0}\nFIN {0}\n")]),
            after("TOUCH without an id", &[send("TOUCH\n"), read(2)]),
            after("TOUCH with a bad id", &[send("TOUCH x\n"), read(2)]),
            after(
                "TOUCH with an unknown id",
                &[send("TOUCH 0123456789abcdef\n"), read(1)],
            ),
            after("TOUCH after FIN", &[send("FIN {0}\nTOUCH {0}\n"), read(1)]),
            after(
                "FIN by another connection of the channel",
                &[
                    send_on(1, "SUB {t} c\n"),
                    read_on(1, 1),
                    send_on(1, "FIN {0}\n"),
                    read_on(1, 1),
                    send_on(1, "REQ {0} 0\n"),
                    read_on(1, 1),
                    send_on(1, "TOUCH {0}\n"),
                    read_on(1, 1),
                    send("FIN {0}\n"),
                ],
            ),
            after(
                "FIN by a connection of another channel",
                &[
                    send_on(1, "SUB {t} d\n"),
                    read_on(1, 1),
                    send_on(1, "FIN {0}\n"),
                    read_on(1, 1),
                    send("FIN {0}\n"),
                ],
            ),
            after(
                "FIN, REQ and TOUCH go on after CLS",
                &[
                    send("CLS\n"),
                    read(1),
                    send("TOUCH {0}\nFIN {0}\nFIN {0}\n"),
                    read(1),
                ],
            ),
            after(
                "an emptied channel forgets what was in flight",
                &[
                    post("/channel/empty?topic={t}&channel=c", ""),
                    send("FIN {0}\n"),
                    read(1),
                    send("PUB {t}\n"),
                    body("y"),
                    read(2),
                ],
            ),
            after(
                "a deleted channel ends its connections",
                &[post("/channel/delete?topic={t}&channel=c", ""), read(1)],
            ),
            after(
                "a deleted topic ends its connections",
                &[post("/topic/delete?topic={t}", ""), read(1)],
            ),
            after(
                "RDY counts what is in flight",
                &[
                    send("PUB {t}\n"),
                    body("y"),
                    read(1),
                    send("PUB {t}\n"),
                    body("z"),
                    read(1),
                    send("RDY 2\n"),
                    read(1),
                    send("FIN {0}\n"),
                    read(1),
                    send("FIN {1}\nFIN {2}\n"),
                ],
            ),
            row(
                "each channel gets each message, with the same id",
                [
                    send("SUB {t} c\nRDY 1\n"),
                    read(1),
                    send_on(1, "SUB {t} d\nRDY 1\n"),
                    read_on(1, 1),
                    post("/pub?topic={t}", "x"),
                    read(1),
                    read_on(1, 1),
                    send("FIN {0}\n"),
                    send_on(1, "FIN {0}\n"),
                ],
            ),
            row(
                "the first channel gets the backlog, the next starts at the end",
                [
                    send("PUB {t}\n"),
                    body("x"),
                    read(1),
                    send("SUB {t} c\nRDY 1\n"),
                    read(2),
                    send_on(1, "SUB {t} d\nRDY 1\n"),
                    read_on(1, 1),
                    post("/pub?topic={t}", "y"),
                    read_on(1, 1),
                    send("FIN {0}\n"),
                    read(1),
                    send("FIN {1}\n"),
                    send_on(1, "FIN {1}\n"),
                ],
            ),
            row(
                "a deferred message is deferred, then delivered",
                [
                    send("SUB {t} c\nRDY 1\n"),
                    read(1),
                    send("DPUB {t} 300\n"),
                    body("x"),
                    read(1),
                    until(one_left, "/topics/0/channels/0/deferred_count", 1),
                    read(1),
                    send("FIN {0}\n"),
                ],
            ),
            row(
                "a paused channel delivers nothing until it is unpaused",
                [
                    send("SUB {t} c\nRDY 1\n"),
                    read(1),
                    post("/channel/pause?topic={t}&channel=c", ""),
                    post("/pub?topic={t}", "x"),
                    until(one_left, "/topics/0/channels/0/depth", 1),
                    send("NOP\n"),
                    post("/channel/unpause?topic={t}&channel=c", ""),
                    read(1),
                    send("FIN {0}\n"),
                ],
            ),
            row(
                "a paused topic keeps what is published until it is unpaused",
                [
                    send("SUB {t} c\nRDY 1\n"),
                    read(1),
                    post("/topic/pause?topic={t}", ""),
                    post("/pub?topic={t}", "x"),
                    until(one_left, "/topics/0/depth", 1),
                    post("/topic/unpause?topic={t}", ""),
                    read(1),
                    send("FIN {0}\n"),
                ],
            ),
            row(
                "an ephemeral channel goes with its last subscriber",
                [
                    post("/topic/create?topic={t}", ""),
                    send_on(1, "SUB {t} c#ephemeral\n"),
                    read_on(1, 1),
                    until(one_left, "/topics/0/channels/0/channel_name", "c#ephemeral"),
                    Step::HalfClose(1),
                    read_on(1, 1),
                    until(one_left, "/topics/0/channels", serde_json::json!([])),
                ],
            ),
        ],
        &[],
    );
}

#[test]
fn a_message_that_is_not_answered_in_time_is_delivered_again() {
    check(
        &[row(
            "after the message timeout it comes with attempts 2, and a late FIN is refused mildly",
            [
                send("IDENTIFY\n"),
                body(r#"{"msg_timeout":1000}"#),
                send("PUB {t}\n"),
                body("x"),
                read(2),
                send("SUB {t} c\nRDY 1\n"),
                read(3),
                until(
                    "/stats?format=json&topic={t}",
                    "/topics/0/channels/0/timeout_count",
                    1,
                ),
                send("FIN {0}\nFIN {0}\n"),
                read(1),
            ],
        )],
        &[],
    );
}

#[test]
fn heartbeats_come_at_the_interval_asked_for_and_silence_ends_the_connection() {
    for peer in [Peer::Real, Peer::Ours] {
        let nsqd = Daemon::nsqd(peer, &[]);
        let mut wire = Wire::nsqd(nsqd.tcp);
        wire.send(b"IDENTIFY\n\0\0\0\x1b{\"heartbeat_interval\":1000}");
        wire.expect("OK");
        for _ in 0..3 {
            let frame = wire.any_frame();
            assert!(
                frame.as_ref().is_some_and(|frame| frame.is("_heartbeat_")),
                "{peer:?}: {frame:?}"
            );
            wire.send(b"NOP\n");
        }
        // Unanswered from here on: after two intervals without a command the connection is closed.
        while let Some(frame) = wire.any_frame() {
            assert!(frame.is("_heartbeat_"), "{peer:?}: {frame:?}");
        }
    }
}
