//! One connection: the handshake, ordered answers, heartbeats, deliveries.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::time::Duration;

use client::connection::{Connection, ConnectionError, ConnectionOptions, Event, Token};
use protocol::encode;
use protocol::frame::{self, Message};
use protocol::id::WireId;
use protocol::names::{ChannelName, TopicName};

const NOW: Duration = Duration::from_secs(100);
const REPLY: &[u8] = br#"{"max_rdy_count":100,"msg_timeout":2000}"#;

fn framed(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::encode_response(data, &mut out);
    out
}

fn error(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    frame::encode_error(text.as_bytes(), &mut out);
    out
}

fn producer() -> Connection {
    let mut connection = Connection::new(&ConnectionOptions::default(), NOW);
    connection.handle_bytes(NOW, &framed(REPLY));
    assert_eq!(connection.poll_event(NOW), Ok(Some(Event::Established)));
    connection.output().clear();
    connection
}

fn consumer_options() -> ConnectionOptions {
    let names = (TopicName::new("t").unwrap(), ChannelName::new("c").unwrap());
    ConnectionOptions {
        subscription: Some(names),
        ..ConnectionOptions::default()
    }
}

fn publish(connection: &mut Connection, token: u64) {
    let mut command = Vec::new();
    encode::publish("t", b"x", &mut command);
    connection.publish(NOW, Token(token), &command);
}

#[test]
fn it_greets_and_identifies_and_waits_for_the_reply_before_it_subscribes() {
    let mut connection = Connection::new(&consumer_options(), NOW);
    let greeting = std::mem::take(connection.output());
    assert!(greeting.starts_with(b"  V2IDENTIFY\n"));
    let text = String::from_utf8_lossy(&greeting).into_owned();
    assert!(text.contains("\"feature_negotiation\":true"), "{text}");
    assert!(text.contains("\"heartbeat_interval\":10000"), "{text}");
    connection.handle_bytes(NOW, &framed(REPLY));
    assert_eq!(connection.poll_event(NOW), Ok(Some(Event::Heartbeat)));
    assert_eq!(connection.poll_event(NOW), Ok(None));
    assert_eq!(std::mem::take(connection.output()), b"SUB t c\n");
    assert!(!connection.is_established());
    connection.handle_bytes(NOW, frame::OK_FRAME);
    assert_eq!(connection.poll_event(NOW), Ok(Some(Event::Established)));
    assert_eq!(connection.msg_timeout(), Some(Duration::from_secs(2)));
    connection.ready(2500);
    assert_eq!(
        connection.output(),
        b"RDY 100\n",
        "no more than the broker takes"
    );
}

#[test]
fn an_old_brokers_plain_ok_is_a_reply_too() {
    let mut connection = Connection::new(&ConnectionOptions::default(), NOW);
    connection.handle_bytes(NOW, frame::OK_FRAME);
    assert_eq!(connection.poll_event(NOW), Ok(Some(Event::Established)));
    assert_eq!(connection.rdy_count_max(), 2500);
}

#[test]
fn answers_come_in_the_order_of_the_publishes_whatever_the_pieces() {
    let mut connection = producer();
    for token in 0..3 {
        publish(&mut connection, token);
    }
    assert_eq!(connection.unanswered(), 3);
    let mut bytes = frame::OK_FRAME.to_vec();
    bytes.extend_from_slice(frame::HEARTBEAT_FRAME);
    bytes.extend_from_slice(frame::OK_FRAME);
    let mut events = Vec::new();
    for byte in bytes {
        connection.handle_bytes(NOW, &[byte]);
        while let Some(event) = connection.poll_event(NOW).unwrap() {
            events.push(format!("{event:?}"));
        }
    }
    assert_eq!(
        events,
        ["Answered(Token(0))", "Heartbeat", "Answered(Token(1))"]
    );
    assert!(connection.output().ends_with(b"NOP\n"));
    assert_eq!(connection.into_lost().collect::<Vec<_>>(), [Token(2)]);
}

#[test]
fn a_refusal_is_the_answer_to_the_oldest_publish_and_the_others_are_lost() {
    let mut connection = producer();
    for token in 0..3 {
        publish(&mut connection, token);
    }
    connection.handle_bytes(NOW, frame::OK_FRAME);
    connection.handle_bytes(NOW, &error("E_BAD_MESSAGE PUB message too big 2 > 1"));
    assert_eq!(
        connection.poll_event(NOW),
        Ok(Some(Event::Answered(Token(0))))
    );
    let text = "E_BAD_MESSAGE PUB message too big 2 > 1".to_owned();
    assert_eq!(
        connection.poll_event(NOW),
        Ok(Some(Event::Refused(Some(Token(1)), text)))
    );
    assert_eq!(connection.into_lost().collect::<Vec<_>>(), [Token(2)]);
}

#[test]
fn the_three_failed_answers_do_not_end_it_and_answer_no_publish() {
    let mut connection = producer();
    publish(&mut connection, 0);
    let text = "E_FIN_FAILED FIN 0123456789abcdef failed ID not in flight";
    connection.handle_bytes(NOW, &error(text));
    assert_eq!(
        connection.poll_event(NOW),
        Ok(Some(Event::TooLate(text.as_bytes())))
    );
    connection.handle_bytes(NOW, frame::OK_FRAME);
    assert_eq!(
        connection.poll_event(NOW),
        Ok(Some(Event::Answered(Token(0))))
    );
}

#[test]
fn deliveries_and_the_end_of_them() {
    let mut connection = Connection::new(&consumer_options(), NOW);
    connection.handle_bytes(NOW, &[framed(REPLY), framed(b"OK")].concat());
    while connection.poll_event(NOW).unwrap().is_some() {}
    connection.output().clear();
    let id = WireId(*b"0123456789abcdef");
    let message = Message {
        timestamp_ns: 7,
        attempts: 2,
        id,
        body: b"hello",
    };
    let mut bytes = Vec::new();
    frame::encode_message(&message, &mut bytes);
    connection.handle_bytes(NOW, &bytes);
    assert_eq!(
        connection.poll_event(NOW),
        Ok(Some(Event::Message(message)))
    );
    connection.finish(id);
    connection.requeue(id, Duration::from_millis(5));
    connection.touch(id);
    connection.close(NOW);
    assert_eq!(
        connection.output(),
        b"FIN 0123456789abcdef\nREQ 0123456789abcdef 5\nTOUCH 0123456789abcdef\nCLS\n"
    );
    connection.handle_bytes(NOW, frame::CLOSE_WAIT_FRAME);
    assert_eq!(connection.poll_event(NOW), Ok(Some(Event::CloseWait)));
}

#[test]
fn silence_and_answers_that_do_not_come_end_it() {
    let options = ConnectionOptions::default();
    let mut silent = producer();
    assert_eq!(silent.poll_timeout(), NOW + Duration::from_secs(20));
    assert_eq!(silent.handle_timeout(NOW + Duration::from_secs(19)), Ok(()));
    assert_eq!(
        silent.handle_timeout(NOW + Duration::from_secs(20)),
        Err(ConnectionError::Silent(Duration::from_secs(20)))
    );
    let mut stuck = producer();
    publish(&mut stuck, 0);
    for second in 1..=30 {
        let now = NOW + Duration::from_secs(second);
        stuck.handle_bytes(now, frame::HEARTBEAT_FRAME);
        assert_eq!(stuck.poll_event(now), Ok(Some(Event::Heartbeat)));
        let expected = if second == 30 {
            Err(ConnectionError::NoAnswer(options.answer_timeout))
        } else {
            Ok(())
        };
        assert_eq!(stuck.handle_timeout(now), expected);
    }
}

#[test]
fn what_is_no_broker_is_found_out() {
    for bytes in [
        b"HTTP/1.1 400 Bad Request\r\n".to_vec(),
        framed(b"what?"),
        framed(b"CLOSE_WAIT"),
    ] {
        let mut connection = Connection::new(&ConnectionOptions::default(), NOW);
        connection.handle_bytes(NOW, &bytes);
        assert!(
            connection.poll_event(NOW).is_err(),
            "{}",
            bytes.escape_ascii()
        );
    }
    let mut connection = producer();
    connection.handle_bytes(NOW, frame::OK_FRAME);
    assert!(connection.poll_event(NOW).is_err(), "an answer to nothing");
}

#[test]
fn a_publish_answered_with_nonsense_is_not_forgotten() {
    let mut connection = producer();
    publish(&mut connection, 4);
    connection.handle_bytes(NOW, frame::CLOSE_WAIT_FRAME);
    assert!(connection.poll_event(NOW).is_err());
    assert_eq!(connection.into_lost().collect::<Vec<_>>(), [Token(4)]);
}
