//! nsq_to_nsq, the real one and ours, between real and our brokers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "panicking is how a test fails"
)]

use std::collections::BTreeSet;

use tests::daemon::Tool;
use tests::wire::{Frame, Wire, multi_publish};
use tests::{Daemon, Peer, wait};

/// Tool, source, destination; the first proves the test itself.
const TRIPLES: [(Peer, Peer, Peer); 5] = [
    (Peer::Real, Peer::Real, Peer::Real),
    (Peer::Real, Peer::Ours, Peer::Real),
    (Peer::Real, Peer::Real, Peer::Ours),
    (Peer::Ours, Peer::Real, Peer::Real),
    (Peer::Ours, Peer::Ours, Peer::Real),
];

fn relay(peer: Peer, from: &Daemon, to: &Daemon, flags: &[&str]) -> Tool {
    let mut args = vec![
        format!("-nsqd-tcp-address={}", from.tcp),
        format!("-destination-nsqd-tcp-address={}", to.tcp),
        "-topic=clicks".to_owned(),
        "-channel=uplink".to_owned(),
    ];
    args.extend(flags.iter().map(|flag| (*flag).to_owned()));
    Tool::start(peer, "nsq_to_nsq", &args)
}

fn bodies(prefix: &str, count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("{prefix} {number}"))
        .collect()
}

/// Consumes until every one of `expected` has come at least once.
fn expect_all(from: &Daemon, topic: &str, expected: &[String]) {
    let mut missing: BTreeSet<&str> = expected.iter().map(String::as_str).collect();
    let mut wire = Wire::nsqd(from.tcp);
    wire.subscribe(topic, "archive", 100);
    while !missing.is_empty() {
        let Some(Frame::Message { id, body, .. }) = wire.frame() else {
            panic!("{} missing", missing.len())
        };
        let body = String::from_utf8(body).unwrap();
        assert!(expected.contains(&body), "nobody published {body:?}");
        missing.remove(body.as_str());
        wire.finish(&id);
    }
}

fn drained(source: &Daemon) {
    wait::until("the source has nothing left", || {
        ["depth", "in_flight_count", "deferred_count"]
            .iter()
            .all(|key| source.channel_stat("clicks", "uplink", key) == 0)
    });
}

#[test]
fn every_message_arrives_upstream_and_is_finished_here() {
    for (tool, from, to) in TRIPLES {
        let (source, destination) = (Daemon::nsqd(from, &[]), Daemon::nsqd(to, &[]));
        let before = bodies("before", 300);
        let mut producer = Wire::nsqd(source.tcp);
        producer.send(&multi_publish("clicks", &before));
        producer.expect("OK");
        let mut tool = relay(tool, &source, &destination, &[]);
        let after = bodies("after", 100);
        for body in &after {
            producer.publish("clicks", body.as_bytes());
        }
        expect_all(&destination, "clicks", &[before, after].concat());
        drained(&source);
        assert!(tool.terminate().success(), "{}", tool.log());
    }
}

#[test]
fn the_topic_may_have_another_name_upstream() {
    for (tool, from, to) in TRIPLES {
        let (source, destination) = (Daemon::nsqd(from, &[]), Daemon::nsqd(to, &[]));
        let _tool = relay(
            tool,
            &source,
            &destination,
            &["-destination-topic=shop-7.clicks"],
        );
        let all = bodies("named", 20);
        let mut producer = Wire::nsqd(source.tcp);
        for body in &all {
            producer.publish("clicks", body.as_bytes());
        }
        expect_all(&destination, "shop-7.clicks", &all);
    }
}

#[test]
fn an_outage_upstream_loses_nothing_with_our_forwarder() {
    // The real nsq_to_nsq gives a message up after five attempts; ours never does.
    for from in [Peer::Real, Peer::Ours] {
        let source = Daemon::nsqd(from, &[]);
        let mut destination = Daemon::nsqd(Peer::Real, &[]);
        let _tool = relay(Peer::Ours, &source, &destination, &[]);
        let mut producer = Wire::nsqd(source.tcp);
        let mut all = Vec::new();
        for outage in 0..3 {
            let up = bodies(&format!("up {outage}"), 50);
            let down = bodies(&format!("down {outage}"), 50);
            for body in &up {
                producer.publish("clicks", body.as_bytes());
            }
            drained(&source);
            // SIGTERM, so that the destination itself keeps what it has.
            assert!(destination.terminate().success());
            for body in &down {
                producer.publish("clicks", body.as_bytes());
            }
            destination.start();
            all.extend([up, down].concat());
        }
        expect_all(&destination, "clicks", &all);
        drained(&source);
    }
}
