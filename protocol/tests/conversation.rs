//! What a client sends, byte for byte, and what it is answered.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::collections::HashSet;

use proptest::prelude::*;
use protocol::command::{Bounds, Command, Parser, Situation, State, parse_magic};
use protocol::encode;
use protocol::error::{CommandError, Fatality, NotInFlight, Verb};
use protocol::frame::{self, Frame, Message, decode};
use protocol::id::{MessageId, WireId};
use protocol::identify::{Offer, Ranges, Reply, Request, Settings};
use protocol::{MAGIC_V2, Progress};

/// A broker's session without topics: everything that can be refused without looking at one.
struct Session {
    situation: Situation,
    settings: Settings,
}

impl Session {
    fn new() -> Self {
        let settings = Settings::new(&Ranges::default());
        Self {
            situation: Situation::default(),
            settings,
        }
    }

    fn execute(&mut self, command: &Command<'_>) -> Result<(), CommandError> {
        match command {
            Command::Identify { body } => {
                let request = Request::from_json(body)?;
                self.settings.apply(&request, &Ranges::default())?;
                self.situation.heartbeats = self.settings.heartbeat.is_some();
                if request.feature_negotiation {
                    Reply::new(&request, &self.settings, &Ranges::default(), &OFFER)?;
                }
                Ok(())
            }
            Command::Auth { .. } => Err(CommandError::AuthDisabled),
            Command::Subscribe { .. } => {
                self.situation.state = State::Subscribed;
                Ok(())
            }
            Command::Close => {
                self.situation.state = State::Closing;
                Ok(())
            }
            Command::Finish { id } => Err(CommandError::NotInFlight(
                Verb::Fin,
                *id,
                NotInFlight::Unknown,
            )),
            Command::Requeue { id, .. } => Err(CommandError::NotInFlight(
                Verb::Req,
                *id,
                NotInFlight::Unknown,
            )),
            Command::Touch { id } => Err(CommandError::NotInFlight(
                Verb::Touch,
                *id,
                NotInFlight::Unknown,
            )),
            _ => Ok(()),
        }
    }
}

const OFFER: Offer<'static> = Offer {
    version: "1.3.0",
    rdy_count_max: 2500,
    tls: false,
    deflate: true,
    deflate_level_max: 6,
    snappy: true,
    auth_required: false,
};

/// Feeds `input` in pieces that end at `cuts`, then ends it. The commands, printed, and the errors.
fn converse(input: &[u8], cuts: &HashSet<usize>) -> (Vec<String>, Vec<CommandError>) {
    let (mut session, mut parser) = (Session::new(), Parser::new());
    let (mut commands, mut errors) = (Vec::new(), Vec::new());
    let mut buffer = Vec::new();
    for (at, byte) in input.iter().enumerate() {
        buffer.push(*byte);
        if !cuts.contains(&(at + 1)) && at + 1 != input.len() {
            continue;
        }
        loop {
            let (consumed, result) =
                match parser.parse(&buffer, session.situation, &Bounds::default()) {
                    Ok(Progress::NeedBytes { total }) => {
                        assert!(total > buffer.len(), "asks for bytes that it has");
                        assert!(total <= 16_384 + 4 + 5_242_880, "asks for {total} bytes");
                        break;
                    }
                    Ok(Progress::Done { value, consumed }) => {
                        assert!(consumed > 0 && consumed <= buffer.len());
                        commands.push(format!("{value:?}"));
                        (consumed, session.execute(&value))
                    }
                    Err(error) => (0, Err(error)),
                };
            if let Err(error) = result {
                let closes = error.fatality() == Fatality::Closes;
                errors.push(error);
                if closes {
                    return (commands, errors);
                }
            }
            buffer.drain(..consumed);
        }
    }
    errors.extend(parser.end_of_input());
    (commands, errors)
}

fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next().unwrap() {
                'n' => out.push(b'\n'),
                'r' => out.push(b'\r'),
                'x' => {
                    let digits: String = chars.by_ref().take(2).collect();
                    out.push(u8::from_str_radix(&digits, 16).unwrap());
                }
                other => out.push(other as u8),
            },
            _ => out.push(u8::try_from(c).unwrap()),
        }
    }
    out
}

/// Lines with `^` differ from nsqd on purpose: it ignores MPUB's total and reads on, out of step
/// with a client that meant it.
#[test]
fn every_refusal_has_the_bytes_that_nsqd_sends() {
    let table = include_str!("refusals.txt");
    let mut asked = 0;
    for line in table
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let (input, wanted) = line.trim_start_matches('^').rsplit_once('|').unwrap();
        let input = unescape(input);
        let all: HashSet<usize> = (1..=input.len()).collect();
        for cuts in [HashSet::new(), all] {
            let (_, errors) = converse(&input, &cuts);
            let got = errors
                .last()
                .map_or_else(|| b"-".to_vec(), CommandError::text);
            let got = if got.is_empty() { b"-".to_vec() } else { got };
            assert_eq!(
                got.escape_ascii().to_string(),
                unescape(wanted).escape_ascii().to_string(),
                "{line}"
            );
        }
        asked += 1;
    }
    assert!(asked > 120, "{asked} lines");
}

#[test]
fn errors_that_need_topics_have_nsqds_texts() {
    let id = WireId(*b"0123456789abcdef");
    let text = |error: CommandError| String::from_utf8(error.text()).unwrap();
    assert_eq!(
        text(CommandError::NotInFlight(
            Verb::Req,
            id,
            NotInFlight::NotOwner
        )),
        "E_REQ_FAILED REQ 0123456789abcdef failed client does not own message"
    );
    assert_eq!(
        text(CommandError::SubLimit("t".into(), "c".into(), 3)),
        "E_SUB_FAILED SUB failed consumers for t:c exceeds limit of 3"
    );
    assert_eq!(
        text(CommandError::SubDeleted),
        "E_SUB_FAILED SUB failed to deleted topic/channel"
    );
    for (verb, code) in [
        (Verb::Pub, "E_PUB"),
        (Verb::Mpub, "E_MPUB"),
        (Verb::Dpub, "E_DPUB"),
    ] {
        let error = CommandError::PublishFailed(verb, "no space".into());
        assert_eq!(error.fatality(), Fatality::Closes);
        assert_eq!(
            text(error),
            format!("{code}_FAILED {} failed no space", verb.as_str())
        );
    }
    assert_eq!(text(CommandError::BadProtocol), "E_BAD_PROTOCOL");
}

#[test]
fn only_the_three_failed_answers_leave_the_connection_open() {
    let id = MessageId(1).to_wire();
    for verb in [Verb::Fin, Verb::Req, Verb::Touch] {
        let error = CommandError::NotInFlight(verb, id, NotInFlight::Unknown);
        assert_eq!(error.fatality(), Fatality::GoesOn);
    }
    for error in [
        CommandError::LineTooLong,
        CommandError::BadMessageId,
        CommandError::PublishFailed(Verb::Pub, "".into()),
        CommandError::SubDeleted,
    ] {
        assert_eq!(error.fatality(), Fatality::Closes);
    }
}

#[test]
fn a_line_of_16_kib_with_its_newline_is_the_longest() {
    let mut fits = vec![b'x'; 16_383];
    fits.push(b'\n');
    let (_, errors) = converse(&fits, &HashSet::new());
    assert!(
        matches!(errors.as_slice(), [CommandError::UnknownCommand(word)] if word.len() == 16_383)
    );
    let mut over = vec![b'x'; 16_384];
    assert_eq!(
        converse(&over, &HashSet::new()).1,
        [CommandError::LineTooLong]
    );
    over.push(b'\n');
    assert_eq!(
        converse(&over, &HashSet::new()).1,
        [CommandError::LineTooLong]
    );
    let mut out = Vec::new();
    CommandError::LineTooLong.encode(&mut out);
    assert!(out.is_empty(), "nsqd closes without a frame");
}

#[test]
fn a_wrong_magic_is_refused_at_its_first_wrong_byte() {
    assert_eq!(parse_magic(b""), Ok(None));
    assert_eq!(parse_magic(b"  V"), Ok(None));
    assert_eq!(parse_magic(b"  V2PUB"), Ok(Some(4)));
    assert_eq!(parse_magic(b"  V1"), Err(CommandError::BadProtocol));
    assert_eq!(parse_magic(b"G"), Err(CommandError::BadProtocol));
}

#[test]
fn commands_have_the_bytes_of_nsqs_clients() {
    let id = WireId(*b"0123456789abcdef");
    let mut out = MAGIC_V2.to_vec();
    encode::publish("t", b"hi", &mut out);
    assert_eq!(out, b"  V2PUB t\n\0\0\0\x02hi");
    out.clear();
    encode::publish_many("t", [b"a".as_slice(), b"bc"].into_iter(), &mut out);
    assert_eq!(out, b"MPUB t\n\0\0\0\x0f\0\0\0\x02\0\0\0\x01a\0\0\0\x02bc");
    out.clear();
    encode::subscribe("t", "c", &mut out);
    encode::ready(200, &mut out);
    encode::finish(id, &mut out);
    encode::requeue(id, std::time::Duration::from_millis(1500), &mut out);
    encode::touch(id, &mut out);
    encode::close(&mut out);
    encode::nop(&mut out);
    assert_eq!(
        out,
        b"SUB t c\nRDY 200\nFIN 0123456789abcdef\nREQ 0123456789abcdef 1500\n\
          TOUCH 0123456789abcdef\nCLS\nNOP\n"
    );
    out.clear();
    encode::publish_deferred("t", std::time::Duration::ZERO, b"x", &mut out);
    encode::identify(b"{}", &mut out);
    encode::auth(b"s", &mut out);
    assert_eq!(
        out,
        b"DPUB t 0\n\0\0\0\x01xIDENTIFY\n\0\0\0\x02{}AUTH\n\0\0\0\x01s"
    );
}

#[test]
fn frames_have_their_golden_bytes() {
    let encoded = |encode: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        encode(&mut out);
        out
    };
    assert_eq!(
        encoded(&|out| frame::encode_response(b"OK", out)),
        frame::OK_FRAME
    );
    assert_eq!(frame::OK_FRAME, b"\0\0\0\x06\0\0\0\0OK");
    assert_eq!(
        encoded(&|out| frame::encode_response(frame::HEARTBEAT, out)),
        frame::HEARTBEAT_FRAME
    );
    assert_eq!(frame::HEARTBEAT_FRAME, b"\0\0\0\x0f\0\0\0\0_heartbeat_");
    assert_eq!(
        encoded(&|out| frame::encode_response(frame::CLOSE_WAIT, out)),
        frame::CLOSE_WAIT_FRAME
    );
    let error = CommandError::UnknownCommand(b"FOO".as_slice().into());
    assert_eq!(
        encoded(&|out| error.encode(out)),
        b"\0\0\0\x21\0\0\0\x01E_INVALID invalid command FOO"
    );
    let message = Message {
        timestamp_ns: 0x0102_0304_0506_0708,
        attempts: 1,
        id: WireId(*b"0123456789abcdef"),
        body: b"hi",
    };
    let bytes = encoded(&|out| frame::encode_message(&message, out));
    assert_eq!(
        bytes,
        b"\0\0\0\x20\0\0\0\x02\x01\x02\x03\x04\x05\x06\x07\x08\0\x010123456789abcdefhi"
    );
    let decoded = decode(&bytes, 1000).unwrap();
    assert_eq!(
        decoded,
        Progress::Done {
            value: Frame::Message(message),
            consumed: 36
        }
    );
}

#[test]
fn a_client_refuses_frames_that_no_broker_sends() {
    assert!(decode(b"\0\0\0\x03\0\0\0\0", 100).is_err());
    assert!(decode(b"\0\0\0\x65\0\0\0\0", 100).is_err());
    assert!(decode(b"\xff\xff\xff\xff", 100).is_err());
    assert!(decode(b"\0\0\0\x04\0\0\0\x03", 100).is_err());
    assert!(
        decode(b"\0\0\0\x1d\0\0\0\x02", 100).is_err(),
        "a message has 26 bytes before its body"
    );
    assert_eq!(
        decode(b"\0\0\0\x64\0\0\0\0", 100),
        Ok(Progress::NeedBytes { total: 104 })
    );
    assert_eq!(decode(b"\0", 100), Ok(Progress::NeedBytes { total: 8 }));
}

fn name() -> impl Strategy<Value = String> {
    proptest::sample::select(vec!["t", "clicks.eu", "x#ephemeral"]).prop_map(str::to_owned)
}

/// A command's bytes, as a client of ours writes them.
fn command() -> impl Strategy<Value = Vec<u8>> {
    let body = || proptest::collection::vec(any::<u8>(), 1..40);
    let id = || any::<u64>().prop_map(|id| MessageId(id).to_wire());
    let delay = || (0u64..3_600_000).prop_map(std::time::Duration::from_millis);
    let write = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        write(&mut out);
        out
    };
    prop_oneof![
        (name(), body()).prop_map(move |(t, b)| write(&|out| encode::publish(&t, &b, out))),
        (name(), delay(), body())
            .prop_map(move |(t, d, b)| write(&|out| encode::publish_deferred(&t, d, &b, out))),
        (name(), proptest::collection::vec(body(), 1..6))
            .prop_map(move |(t, b)| write(&|out| encode::publish_many(&t, b.iter(), out))),
        (name(), name()).prop_map(move |(t, c)| write(&|out| encode::subscribe(&t, &c, out))),
        (0u32..2500).prop_map(move |n| write(&|out| encode::ready(n, out))),
        id().prop_map(move |id| write(&|out| encode::finish(id, out))),
        (id(), delay()).prop_map(move |(id, d)| write(&|out| encode::requeue(id, d, out))),
        id().prop_map(move |id| write(&|out| encode::touch(id, out))),
        Just(b"NOP\n".to_vec()),
        Just(b"CLS\n".to_vec()),
        Just(b"IDENTIFY\n\0\0\0\x02{}".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..12),
    ]
}

proptest! {
    #[test]
    fn cutting_the_input_anywhere_gives_the_same_commands_and_errors(
        commands in proptest::collection::vec(command(), 1..8),
        cuts in proptest::collection::hash_set(1usize..400, 0..40),
    ) {
        let input = commands.concat();
        let whole = converse(&input, &HashSet::new());
        let each: HashSet<usize> = (1..=input.len()).collect();
        prop_assert_eq!(&converse(&input, &cuts), &whole);
        prop_assert_eq!(&converse(&input, &each), &whole);
    }

    #[test]
    fn arbitrary_bytes_never_panic_or_ask_for_an_unbounded_buffer(
        input in proptest::collection::vec(any::<u8>(), 0..600),
        verb in proptest::sample::select(
            vec!["", "PUB t\n", "MPUB t\n", "DPUB t 1\n", "IDENTIFY\n", "AUTH\n", "SUB t c\nREQ "]
        ),
        cuts in proptest::collection::hash_set(1usize..400, 0..10),
    ) {
        let input = [verb.as_bytes(), &input].concat();
        let (_, errors) = converse(&input, &cuts);
        for error in errors {
            error.encode(&mut Vec::new());
        }
    }

    #[test]
    fn arbitrary_bytes_are_a_frame_an_error_or_too_short(
        input in proptest::collection::vec(any::<u8>(), 0..200),
        head in proptest::sample::select(vec![
            b"".as_slice(), b"\0\0\0\x06\0\0\0\0", b"\0\0\0\x30\0\0\0\x02", b"\0\0\0\x05\0\0\0\x01",
        ]),
    ) {
        let input = [head, &input].concat();
        match decode(&input, 100) {
            Ok(Progress::Done { consumed, .. }) => prop_assert!(consumed <= input.len()),
            Ok(Progress::NeedBytes { total }) => prop_assert!(total > input.len() && total <= 104),
            Err(_) => {}
        }
    }

    #[test]
    fn what_one_side_encodes_the_other_decodes(
        timestamp_ns in any::<i64>(),
        attempts in any::<u16>(),
        id in any::<[u8; 16]>(),
        body in proptest::collection::vec(any::<u8>(), 0..50),
        text in proptest::collection::vec(any::<u8>(), 0..50),
    ) {
        let message = Message { timestamp_ns, attempts, id: WireId(id), body: &body };
        let mut out = Vec::new();
        frame::encode_message(&message, &mut out);
        let consumed = out.len();
        frame::encode_error(&text, &mut out);
        prop_assert_eq!(
            decode(&out, 1000).unwrap(),
            Progress::Done { value: Frame::Message(message), consumed }
        );
        prop_assert_eq!(
            decode(&out[consumed..], 1000).unwrap(),
            Progress::Done { value: Frame::Error(&text), consumed: text.len() + 8 }
        );
    }
}
