//! What a producer does with brokers that come and go, in virtual time.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::time::Duration;

use client::PublishError;
use client::connection::Token;
use client::host::Core;
use client::links::{Action, LinkId, Links, LinksOptions};
use client::producer::{ProducerCore, ProducerOptions};
use protocol::{encode, frame};
use runtime::net::Address;

const REPLY: &[u8] = br#"{"max_rdy_count":100}"#;

struct Bench {
    now: Duration,
    core: ProducerCore,
    /// Dials that wait for their outcome.
    dials: Vec<(LinkId, String)>,
    dropped: Vec<LinkId>,
}

impl Bench {
    fn new(options: ProducerOptions, brokers: usize) -> Self {
        let mut core = ProducerCore::new(options);
        let now = Duration::from_secs(50);
        let addresses =
            (0..brokers).map(|broker| format!("b:{broker}").parse::<Address>().unwrap());
        core.links(0).unwrap().set_addresses(now, addresses);
        let mut bench = Self {
            now,
            core,
            dials: Vec::new(),
            dropped: Vec::new(),
        };
        bench.turn();
        bench
    }

    fn links(&mut self) -> &mut Links {
        self.core.links(0).unwrap()
    }

    fn turn(&mut self) {
        let now = self.now;
        self.links().handle_timeout(now);
        self.core.turn(now);
        while let Some(action) = self.links().poll_action(now) {
            match action {
                Action::Dial { link, address, .. } => self.dials.push((link, address.to_string())),
                Action::Drop(link) | Action::HangUp(link) => self.dropped.push(link),
            }
        }
    }

    /// The oldest dial succeeds, up to the end of the handshake.
    fn connect(&mut self) -> LinkId {
        let (link, _) = self.dials.remove(0);
        let now = self.now;
        self.links().handle_connected(now, link);
        let mut reply = Vec::new();
        frame::encode_response(REPLY, &mut reply);
        self.sent(link);
        self.say(link, &reply);
        link
    }

    fn say(&mut self, link: LinkId, bytes: &[u8]) {
        let now = self.now;
        self.links().handle_bytes(now, link, bytes);
        self.turn();
    }

    fn close(&mut self, link: LinkId) {
        let now = self.now;
        self.links().handle_closed(now, link, "cut");
        self.turn();
    }

    fn sent(&mut self, link: LinkId) -> String {
        let output = self
            .links()
            .output(link)
            .map(std::mem::take)
            .unwrap_or_default();
        String::from_utf8(output).unwrap()
    }

    fn publish(&mut self, body: &str) -> Token {
        let mut command = Vec::new();
        encode::publish("t", body.as_bytes(), &mut command);
        let token = self.core.publish(self.now, command);
        self.turn();
        token
    }

    fn outcomes(&mut self) -> Vec<(Token, Result<(), PublishError>)> {
        std::iter::from_fn(|| self.core.poll_outcome()).collect()
    }

    fn wait_for_dial(&mut self) {
        for _ in 0..1000 {
            if !self.dials.is_empty() {
                return;
            }
            self.now += Duration::from_millis(100);
            self.turn();
        }
        panic!("no dial");
    }
}

#[test]
fn publishes_wait_for_the_first_broker_and_are_pipelined() {
    let mut bench = Bench::new(
        ProducerOptions {
            window: 2,
            ..ProducerOptions::default()
        },
        1,
    );
    let tokens: Vec<Token> = ["a", "b", "c"].map(|body| bench.publish(body)).to_vec();
    let link = bench.connect();
    assert_eq!(
        bench.sent(link),
        "PUB t\n\0\0\0\u{1}aPUB t\n\0\0\0\u{1}b",
        "two, for the window is 2"
    );
    bench.say(link, frame::OK_FRAME);
    assert_eq!(bench.sent(link), "PUB t\n\0\0\0\u{1}c");
    bench.say(link, &[frame::OK_FRAME, frame::OK_FRAME].concat());
    let expected: Vec<_> = tokens.into_iter().map(|token| (token, Ok(()))).collect();
    assert_eq!(bench.outcomes(), expected);
}

#[test]
fn what_was_unanswered_goes_first_over_the_next_connection() {
    let mut bench = Bench::new(ProducerOptions::default(), 1);
    let link = bench.connect();
    for body in ["a", "b", "c"] {
        bench.publish(body);
    }
    bench.sent(link);
    bench.say(link, frame::OK_FRAME);
    bench.close(link);
    bench.publish("d");
    bench.wait_for_dial();
    let link = bench.connect();
    let bodies: String = bench.sent(link).split("PUB t\n\0\0\0\u{1}").collect();
    assert_eq!(bodies, "bcd");
    bench.say(link, &frame::OK_FRAME.repeat(3));
    assert!(bench.outcomes().iter().all(|(_, outcome)| outcome.is_ok()));
}

#[test]
fn without_retry_a_broken_connection_leaves_it_open() {
    let mut bench = Bench::new(
        ProducerOptions {
            retry: false,
            ..ProducerOptions::default()
        },
        1,
    );
    let link = bench.connect();
    let (first, second) = (bench.publish("a"), bench.publish("b"));
    bench.say(link, frame::OK_FRAME);
    bench.close(link);
    assert_eq!(
        bench.outcomes(),
        [(first, Ok(())), (second, Err(PublishError::Unanswered))]
    );
}

#[test]
fn a_publish_refused_for_its_own_sake_ends_and_one_without_room_goes_elsewhere() {
    let mut bench = Bench::new(ProducerOptions::default(), 1);
    let link = bench.connect();
    let bad = bench.publish("a");
    let mut error = Vec::new();
    frame::encode_error(b"E_BAD_TOPIC PUB topic name", &mut error);
    bench.say(link, &error);
    let text = "E_BAD_TOPIC PUB topic name".to_owned();
    assert_eq!(bench.outcomes(), [(bad, Err(PublishError::Refused(text)))]);
    assert_eq!(bench.dropped, [link], "the broker closes after it");

    bench.wait_for_dial();
    let link = bench.connect();
    let good = bench.publish("b");
    error.clear();
    frame::encode_error(b"E_PUB_FAILED PUB failed no space", &mut error);
    bench.say(link, &error);
    assert_eq!(bench.outcomes(), []);
    bench.wait_for_dial();
    let link = bench.connect();
    bench.say(link, frame::OK_FRAME);
    assert_eq!(bench.outcomes(), [(good, Ok(()))]);
}

#[test]
fn a_publish_that_no_broker_takes_ends_in_time() {
    let options = ProducerOptions {
        timeout: Duration::from_secs(5),
        ..ProducerOptions::default()
    };
    let mut bench = Bench::new(options, 1);
    let token = bench.publish("a");
    assert_eq!(
        bench.core.poll_timeout(),
        Some(bench.now + Duration::from_secs(5))
    );
    bench.now += Duration::from_secs(5);
    bench.turn();
    assert_eq!(bench.outcomes(), [(token, Err(PublishError::TimedOut))]);
    let link = bench.connect();
    assert_eq!(bench.sent(link), "", "and is not sent later");
}

#[test]
fn a_full_producer_says_so_but_takes_one_large_command_alone() {
    let mut bench = Bench::new(
        ProducerOptions {
            bytes_max: 30,
            ..ProducerOptions::default()
        },
        1,
    );
    assert!(bench.core.has_room(1000));
    bench.publish("0123456789");
    assert!(bench.core.has_room(10) && !bench.core.has_room(11));
}

#[test]
fn publishes_spread_over_brokers_and_move_when_one_is_lost() {
    let mut bench = Bench::new(ProducerOptions::default(), 2);
    let (first, second) = (bench.connect(), bench.connect());
    for _ in 0..10 {
        bench.publish("x");
    }
    let shares = (bench.sent(first).len(), bench.sent(second).len());
    assert_eq!(shares.0, shares.1, "five each");
    bench.close(first);
    assert_eq!(bench.sent(second).len(), shares.1, "the other five");
}

#[test]
fn pauses_between_dials_grow_until_a_broker_has_proved_well() {
    let options = LinksOptions {
        backoff_min: Duration::from_secs(1),
        backoff_max: Duration::from_secs(60),
        ..LinksOptions::default()
    };
    let mut bench = Bench::new(
        ProducerOptions {
            links: options,
            ..ProducerOptions::default()
        },
        1,
    );
    let mut dials_per_hour = 0;
    let end = bench.now + Duration::from_secs(3600);
    while bench.now < end {
        for (link, _) in std::mem::take(&mut bench.dials) {
            dials_per_hour += 1;
            // It greets and hangs up: no proof.
            let now = bench.now;
            bench.links().handle_connected(now, link);
            bench.close(link);
        }
        bench.now += Duration::from_millis(100);
        bench.turn();
    }
    assert!(
        (60..250).contains(&dials_per_hour),
        "{dials_per_hour}: every 30 s on average"
    );
}

#[test]
fn a_broker_that_is_no_longer_named_stays_until_it_breaks() {
    let mut bench = Bench::new(ProducerOptions::default(), 2);
    let (first, _) = (bench.connect(), bench.connect());
    let now = bench.now;
    bench
        .links()
        .set_addresses(now, ["b:1".parse().unwrap(), "b:2".parse().unwrap()]);
    bench.turn();
    assert_eq!(
        bench
            .dials
            .iter()
            .map(|(_, address)| address.as_str())
            .collect::<Vec<_>>(),
        ["b:2"]
    );
    assert_eq!(bench.links().up().count(), 2);
    bench.dials.clear();
    bench.close(first);
    bench.now += Duration::from_secs(1000);
    bench.turn();
    assert!(bench.dials.iter().all(|(_, address)| address != "b:0"));
}
