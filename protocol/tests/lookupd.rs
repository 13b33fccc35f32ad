//! The conversation with nsqlookupd.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use proptest::prelude::*;
use protocol::Progress;
use protocol::lookup::{
    self, LookupAnswer, LookupCommand, LookupError, Node, PeerInfo, Producer, decode_reply, parse,
};

fn parsed(input: &[u8], identified: bool) -> Result<LookupCommand<'_>, String> {
    match parse(input, identified) {
        Ok(Progress::Done { value, consumed }) => {
            assert_eq!(consumed, input.len());
            Ok(value)
        }
        Ok(Progress::NeedBytes { .. }) => Err(String::new()),
        Err(error) => Err(String::from_utf8(error.text()).unwrap()),
    }
}

#[test]
fn commands_come_back_as_they_were_sent() {
    let mut out = Vec::new();
    lookup::encode_register("t", Some("c"), &mut out);
    assert_eq!(out, b"REGISTER t c\n");
    let register = LookupCommand::Register {
        topic: "t",
        channel: Some("c"),
    };
    assert_eq!(parsed(&out, true), Ok(register));
    out.clear();
    lookup::encode_unregister("t", None, &mut out);
    assert_eq!(
        parsed(&out, true),
        Ok(LookupCommand::Unregister {
            topic: "t",
            channel: None
        })
    );
    out.clear();
    lookup::encode_ping(&mut out);
    assert_eq!(parsed(&out, false), Ok(LookupCommand::Ping));
    let peer = PeerInfo {
        broadcast_address: "edge".to_owned(),
        hostname: "h".to_owned(),
        tcp_port: 4150,
        http_port: 4151,
        version: "1.3.0".to_owned(),
    };
    out.clear();
    lookup::encode_identify(&peer, &mut out);
    let Ok(LookupCommand::Identify { body }) = parsed(&out, false) else {
        panic!()
    };
    assert_eq!(PeerInfo::from_json(body), Ok(peer));
}

#[test]
fn lines_are_trimmed_and_an_empty_channel_is_none() {
    assert_eq!(parsed(b"\t PING \r\n", false), Ok(LookupCommand::Ping));
    let register = LookupCommand::Register {
        topic: "t",
        channel: None,
    };
    assert_eq!(parsed(b"REGISTER t  x\r\n", true), Ok(register));
}

#[test]
fn refusals_have_nsqlookupds_texts() {
    for (input, identified, text) in [
        ("FOO x\n", true, "E_INVALID invalid command FOO"),
        ("\n", true, "E_INVALID invalid command "),
        ("REGISTER t\n", false, "E_INVALID client must IDENTIFY"),
        ("UNREGISTER t\n", false, "E_INVALID client must IDENTIFY"),
        ("IDENTIFY\n", true, "E_INVALID cannot IDENTIFY again"),
        (
            "REGISTER\n",
            true,
            "E_INVALID REGISTER insufficient number of params",
        ),
        (
            "REGISTER a$ c\n",
            true,
            "E_BAD_TOPIC REGISTER topic name 'a$' is not valid",
        ),
        (
            "UNREGISTER a c$\n",
            true,
            "E_BAD_CHANNEL UNREGISTER channel name 'c$' is not valid",
        ),
        (
            "IDENTIFY\n\u{7f}\0\0\0",
            false,
            "E_BAD_BODY IDENTIFY failed to read body size",
        ),
    ] {
        assert_eq!(
            parsed(input.as_bytes(), identified),
            Err(text.to_owned()),
            "{input:?}"
        );
    }
    let end = |input| lookup::end_of_input(input).map(|e| String::from_utf8(e.text()).unwrap());
    assert_eq!(end(b"REG"), None);
    let text = |end: &str| Some(format!("E_BAD_BODY IDENTIFY failed to read body{end}"));
    assert_eq!(end(b"IDENTIFY\n\0\0"), text(" size"));
    assert_eq!(end(b"IDENTIFY\n\0\0\0\x02{"), text(""));
    assert_eq!(LookupError::BadProtocol.text(), b"E_BAD_PROTOCOL");
    let json = |body: &str| PeerInfo::from_json(body.as_bytes());
    assert_eq!(json("[]"), Err(LookupError::BadJson));
    let full = r#"{"Broadcast_Address":"a","TCP_PORT":1,"http_port":2,"version":"v","x":[1]}"#;
    assert!(json(full).is_ok());
    assert_eq!(
        json(&full.replace(":2", ":0")),
        Err(LookupError::MissingFields)
    );
    assert_eq!(
        json(&full.replace(":2", ":\"2\"")),
        Err(LookupError::BadJson)
    );
    assert_eq!(json("null"), Err(LookupError::MissingFields));
}

#[test]
fn replies_have_a_length_and_no_type() {
    let mut out = Vec::new();
    lookup::encode_reply(lookup::OK, &mut out);
    assert_eq!(out, b"\0\0\0\x02OK");
    assert_eq!(
        decode_reply(&out, 10),
        Some(Progress::Done {
            value: b"OK".as_slice(),
            consumed: 6
        })
    );
    assert_eq!(decode_reply(b"\0\0\0\x0b", 10), None);
    assert_eq!(
        decode_reply(b"\0\0\0\x0a", 10),
        Some(Progress::NeedBytes { total: 14 })
    );
}

#[test]
fn answers_have_nsqlookupds_keys_and_empty_lists_are_lists() {
    let answer = serde_json::to_string(&LookupAnswer::default()).unwrap();
    assert_eq!(answer, r#"{"channels":[],"producers":[]}"#);
    let node = Node {
        producer: Producer {
            tcp_port: 4150,
            ..Producer::default()
        },
        tombstones: vec![false],
        topics: vec!["t".to_owned()],
    };
    let json = serde_json::to_value(&node).unwrap();
    assert_eq!(json["tcp_port"], 4150);
    assert_eq!(json["topics"][0], "t");
    assert_eq!(serde_json::from_value::<Node>(json).unwrap(), node);
    let old = r#"{"channels":null,"producers":[{"tcp_port":1,"topology_zone":"z"}]}"#;
    let old: LookupAnswer = serde_json::from_str(old).unwrap();
    assert_eq!((old.channels.len(), old.producers[0].tcp_port), (0, 1));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_or_ask_for_an_unbounded_buffer(
        input in proptest::collection::vec(any::<u8>(), 0..300),
        verb in proptest::sample::select(vec!["", "IDENTIFY\n", "REGISTER "]),
        identified in any::<bool>(),
    ) {
        let input = [verb.as_bytes(), &input].concat();
        if let Ok(Progress::NeedBytes { total }) = parse(&input, identified) {
            prop_assert!(total > input.len() && total <= 16_384 + 4 + 65_536);
        }
        lookup::end_of_input(&input);
    }
}
