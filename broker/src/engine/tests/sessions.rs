//! What a connection says and what it is answered, byte for byte.

use super::*;

#[test]
fn a_wrong_magic_is_an_error_frame_and_the_end() {
    let mut world = World::new();
    let client = world.connect_raw();
    world.send(client, b"  V1");
    assert_eq!(world.got(client), [error("E_BAD_PROTOCOL")]);
    assert_eq!(world.flow(client), Flow::Finished);
}

#[test]
fn a_connection_without_magic_is_cut_after_ten_seconds() {
    let mut world = World::new();
    let client = world.connect_raw();
    world.send(client, b"  V");
    world.advance(9 * SECOND);
    assert_eq!(world.flow(client), Flow::Open);
    world.advance(SECOND);
    assert_eq!((world.flow(client), world.raw(client)), (Flow::Cut, vec![]));
}

#[test]
fn golden_bytes_of_publish_subscribe_and_message() {
    let mut world = World::new();
    let client = world.connect();
    world.send(client, b"PUB t\n\0\0\0\x02hi");
    world.settle();
    assert_eq!(world.raw(client), b"\0\0\0\x06\0\0\0\0OK");
    world.send(client, b"SUB t c\nRDY 1\n");
    world.settle();
    let bytes = world.raw(client);
    assert_eq!(&bytes[..10], b"\0\0\0\x06\0\0\0\0OK");
    let message = &bytes[10..];
    assert_eq!(&message[..8], b"\0\0\0\x20\0\0\0\x02");
    assert_eq!(&message[16..18], b"\0\x01");
    assert!(message[18..34].iter().all(|byte| byte.is_ascii_hexdigit()));
    assert_eq!(&message[34..], b"hi");
    let timestamp = i64::from_be_bytes(message[8..16].try_into().unwrap());
    assert!((1_700_000_000_000_000_000..1_700_000_100_000_000_000).contains(&timestamp));
    let finish = [b"FIN ", &message[18..34], b"\nNOP\n"].concat();
    world.send(client, &finish);
    world.settle();
    assert_eq!(world.raw(client), b"", "FIN and NOP are not answered");
    world.send(client, b"CLS\n");
    assert_eq!(world.raw(client), b"\0\0\0\x0e\0\0\0\0CLOSE_WAIT");
}

#[test]
fn input_may_come_in_single_bytes() {
    let mut world = World::new();
    let client = world.connect_raw();
    for byte in [
        &b"  V2"[..],
        &publish("t", "hello"),
        b"SUB t c\r\n",
        b"RDY 5\n",
    ]
    .concat()
    {
        world.send(client, &[byte]);
    }
    world.settle();
    let got = world.got(client);
    assert_eq!(got[..2], [ok(), ok()]);
    assert!(matches!(&got[2], Got::Message { body, .. } if body == "hello"));
}

#[test]
fn identify_negotiates_and_offers_what_there_is() {
    let mut world = World::new();
    let client = world.connect();
    world.send(
        client,
        &identify(
            r#"{"feature_negotiation":true,"tls_v1":true,"snappy":true,"deflate":true,
               "msg_timeout":5000,"output_buffer_size":1024,"sample_rate":20}"#,
        ),
    );
    let [Got::Response(json)] = &world.got(client)[..] else {
        panic!()
    };
    let reply: serde_json::Value = serde_json::from_str(json).unwrap();
    for (key, value) in [
        ("max_rdy_count", serde_json::json!(2500)),
        ("version", serde_json::json!("1.3.0")),
        ("max_msg_timeout", serde_json::json!(900_000)),
        ("msg_timeout", serde_json::json!(5000)),
        ("tls_v1", serde_json::json!(false)),
        ("deflate", serde_json::json!(false)),
        ("snappy", serde_json::json!(false)),
        ("auth_required", serde_json::json!(false)),
        ("sample_rate", serde_json::json!(20)),
        ("output_buffer_size", serde_json::json!(1024)),
        ("output_buffer_timeout", serde_json::json!(250)),
    ] {
        assert_eq!(reply[key], value, "{key}");
    }
}

#[test]
fn identify_without_negotiation_is_answered_ok() {
    let mut world = World::new();
    let client = world.connect();
    world.send(client, &identify("{}"));
    assert_eq!(world.got(client), [ok()]);
    world.send(client, &identify(r#"{"heartbeat_interval":999}"#));
    let text = "E_BAD_BODY IDENTIFY heartbeat interval (999) is invalid";
    assert_eq!(world.got(client), [error(text)]);
    assert_eq!(world.flow(client), Flow::Finished);
}

#[test]
fn errors_are_nsqds_and_all_but_three_end_the_connection() {
    let cases: [(&[u8], &str); 17] = [
        (b"FOO\n", "E_INVALID invalid command FOO"),
        (b"\n", "E_INVALID invalid command "),
        (b"RDY 1\n", "E_INVALID cannot RDY in current state"),
        (b"FIN x\n", "E_INVALID cannot FIN in current state"),
        (b"REQ\n", "E_INVALID cannot REQ in current state"),
        (b"TOUCH\n", "E_INVALID cannot TOUCH in current state"),
        (b"CLS\n", "E_INVALID cannot CLS in current state"),
        (
            b"SUB t\n",
            "E_INVALID SUB insufficient number of parameters",
        ),
        (
            b"SUB a$ c\n",
            "E_BAD_TOPIC SUB topic name \"a$\" is not valid",
        ),
        (
            b"SUB t c$\n",
            "E_BAD_CHANNEL SUB channel name \"c$\" is not valid",
        ),
        (b"PUB\n", "E_INVALID PUB insufficient number of parameters"),
        (
            b"PUB a$\n",
            "E_BAD_TOPIC PUB topic name \"a$\" is not valid",
        ),
        (
            b"PUB t\n\0\0\0\0",
            "E_BAD_MESSAGE PUB invalid message body size 0",
        ),
        (
            b"PUB t\n\xff\xff\xff\xff",
            "E_BAD_MESSAGE PUB invalid message body size -1",
        ),
        (
            b"PUB t\n\0\x10\0\x01",
            "E_BAD_MESSAGE PUB message too big 1048577 > 1048576",
        ),
        (
            b"MPUB a$\n",
            "E_BAD_TOPIC E_BAD_TOPIC MPUB topic name \"a$\" is not valid",
        ),
        (b"AUTH\n\0\0\0\x01x", "E_AUTH_DISABLED AUTH disabled"),
    ];
    for (input, text) in cases {
        let mut world = World::new();
        let client = world.connect();
        world.send(client, input);
        world.send(client, b"NOP\nFOO\n");
        assert_eq!(world.got(client), [error(text)], "{}", input.escape_ascii());
        assert_eq!(
            world.flow(client),
            Flow::Finished,
            "{}",
            input.escape_ascii()
        );
    }
}

#[test]
fn errors_of_a_subscribed_connection() {
    let id = "0123456789abcdef";
    for (line, text, goes_on) in [
        (
            "SUB t c",
            "E_INVALID cannot SUB in current state".to_owned(),
            false,
        ),
        (
            "IDENTIFY",
            "E_INVALID cannot IDENTIFY in current state".to_owned(),
            false,
        ),
        (
            "RDY x",
            "E_INVALID RDY could not parse count x".to_owned(),
            false,
        ),
        (
            "RDY 2501",
            "E_INVALID RDY count 2501 out of range 0-2500".to_owned(),
            false,
        ),
        (
            "FIN",
            "E_INVALID FIN insufficient number of params".to_owned(),
            false,
        ),
        (
            "FIN short",
            "E_INVALID invalid message ID".to_owned(),
            false,
        ),
        (
            "FIN id",
            format!("E_FIN_FAILED FIN {id} failed ID not in flight"),
            true,
        ),
        (
            "REQ id 0",
            format!("E_REQ_FAILED REQ {id} failed ID not in flight"),
            true,
        ),
        (
            "REQ id -1",
            "E_INVALID REQ could not parse timeout -1".to_owned(),
            false,
        ),
        (
            "TOUCH id",
            format!("E_TOUCH_FAILED TOUCH {id} failed ID not in flight"),
            true,
        ),
        (
            "TOUCH zzzzzzzzzzzzzzzz",
            "E_TOUCH_FAILED TOUCH zzzzzzzzzzzzzzzz failed ID not in flight".to_owned(),
            true,
        ),
    ] {
        let mut world = World::new();
        let client = world.consumer("t", "c", 1);
        world.say(client, &line.replace("id", id));
        assert_eq!(world.got(client), [error(&text)], "{line}");
        let flow = if goes_on { Flow::Open } else { Flow::Finished };
        assert_eq!(world.flow(client), flow, "{line}");
    }
}

#[test]
fn a_message_of_another_connection_cannot_be_finished() {
    let mut world = World::new();
    let owner = world.consumer("t", "c", 1);
    let other = world.consumer("t", "c", 0);
    world.publish(other, "t", "x");
    world.got(other);
    let (_, id, _) = world.messages(owner)[0].clone();
    world.answer(other, "FIN", id, "");
    let id = String::from_utf8(id.to_vec()).unwrap();
    let text = format!("E_FIN_FAILED FIN {id} failed client does not own message");
    assert_eq!(world.got(other), [error(&text)]);
}

#[test]
fn heartbeats_come_at_the_negotiated_interval_and_silence_is_cut_after_two() {
    let mut world = World::new();
    let client = world.connect();
    world.send(client, &identify(r#"{"heartbeat_interval":2000}"#));
    world.got(client);
    world.advance(2 * SECOND);
    assert_eq!(world.got(client), [Got::Response("_heartbeat_".into())]);
    world.send(client, b"NOP\n");
    world.advance(4 * SECOND - Duration::from_millis(1));
    assert_eq!(world.flow(client), Flow::Open);
    world.advance(Duration::from_millis(1));
    assert_eq!(world.flow(client), Flow::Cut);
}

#[test]
fn without_heartbeats_silence_is_allowed_and_sub_is_not() {
    let mut world = World::new();
    let client = world.connect();
    world.send(client, &identify(r#"{"heartbeat_interval":-1}"#));
    world.got(client);
    world.advance(3600 * SECOND);
    assert_eq!(
        (world.flow(client), world.raw(client)),
        (Flow::Open, vec![])
    );
    world.say(client, "SUB t c");
    let text = "E_INVALID cannot SUB with heartbeats disabled";
    assert_eq!(world.got(client), [error(text)]);
}

#[test]
fn a_peer_that_does_not_read_is_cut_after_an_interval() {
    let mut world = World::new();
    let client = world.connect();
    world.send(client, &identify(r#"{"heartbeat_interval":1000}"#));
    world.got(client);
    // The connection takes the heartbeat and cannot write it.
    world.now += SECOND;
    world.engine.handle_timeout(world.now);
    let no = world.clients[client].no;
    let mut output = Vec::new();
    world.engine.take_output(no, world.now, &mut output);
    world.stop_reading(client);
    world.clients[client].sent.extend_from_slice(b"NOP\n");
    world.serve(client);
    world.now += SECOND;
    world.engine.handle_timeout(world.now);
    assert_eq!(
        world.engine.take_output(no, world.now, &mut Vec::new()),
        Flow::Cut
    );
}

#[test]
fn a_peer_that_provokes_errors_and_does_not_read_them_is_not_read() {
    let mut world = World::new();
    let client = world.consumer("t", "c", 1);
    world.stop_reading(client);
    let line = b"FIN 0123456789abcdef\n".repeat(10_000);
    world.send(client, &line);
    assert!(world.waits(client));
    let no = world.clients[client].no;
    let owed = world.engine.sessions.get(no).unwrap().output.len();
    assert!(owed < 2 * crate::limits::REPLY_BYTES_MAX, "{owed}");
    world.clients[client].reads = true;
    world.serve(client);
    world.settle();
    assert_eq!(world.got(client).len(), 10_000);
}

#[test]
fn close_stops_delivery_and_leaves_what_is_in_flight() {
    let mut world = World::new();
    let consumer = world.consumer("t", "c", 1);
    let producer = world.connect();
    world.publish(producer, "t", "one");
    world.publish(producer, "t", "two");
    let (_, id, _) = world.messages(consumer)[0].clone();
    world.say(consumer, "CLS");
    assert_eq!(world.got(consumer), [Got::Response("CLOSE_WAIT".into())]);
    world.say(consumer, "RDY 10");
    world.answer(consumer, "FIN", id, "");
    assert_eq!(world.got(consumer), []);
    world.say(consumer, "CLS");
    assert_eq!(
        world.got(consumer),
        [error("E_INVALID cannot CLS in current state")]
    );
}

#[test]
fn connections_are_bounded() {
    let mut world = World::with(Settings {
        connections_max: 2,
        ..settings()
    });
    world.connect();
    let second = world.connect();
    assert!(world.engine.connect("10.0.0.1:1", world.stamp()).is_none());
    world.drop_client(second);
    world.connect();
}

#[test]
fn what_a_body_needs_beyond_the_small_buffer_comes_from_the_pool() {
    let mut world = World::with(small_pool(150_000, 110_000));
    let (first, second) = (world.connect(), world.connect());
    let body = "x".repeat(100_000);
    let command = publish("t", &body);
    world.send(first, &command[..50]);
    world.send(second, &command[..50]);
    assert!(!world.waits(first) && world.waits(second));
    world.send(first, &command[50..]);
    world.settle();
    assert_eq!(world.got(first), [ok()]);
    assert!(
        !world.waits(second),
        "what the first gave back is the second's"
    );
    world.send(second, &command[50..]);
    world.settle();
    assert_eq!(world.got(second), [ok()]);
    assert_eq!(world.engine.pool_free(), 150_000);
}

#[test]
fn a_connection_that_ends_gives_its_part_of_the_pool_back() {
    let mut world = World::with(small_pool(150_000, 110_000));
    let (first, second) = (world.connect(), world.connect());
    let command = publish("t", &"x".repeat(100_000));
    world.send(first, &command[..50]);
    world.send(second, &command[..50]);
    world.drop_client(first);
    world.settle();
    assert!(!world.waits(second));
}

#[test]
fn input_that_ends_inside_a_body_is_answered_as_nsqd_does() {
    let mut world = World::new();
    let client = world.connect();
    world.send(client, &publish("t", "one"));
    world.send(client, b"PUB t\n\0\0\0\x05he");
    let no = world.clients[client].no;
    world.engine.input_ended(no, world.now);
    world.settle();
    assert_eq!(
        world.got(client),
        [ok(), error("E_BAD_MESSAGE PUB failed to read message body")]
    );
    assert_eq!(world.flow(client), Flow::Finished);
}
