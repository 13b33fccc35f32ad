//! nsqd and nsqlookupd together, ours and the real ones mixed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "panicking is how a test fails"
)]

use serde_json::Value;
use tests::http::{get, post};
use tests::wire::Wire;
use tests::{Daemon, Peer, at_once, wait};

/// Broker and registry; the first pair proves the test itself.
const PAIRS: [(Peer, Peer); 4] = [
    (Peer::Real, Peer::Real),
    (Peer::Ours, Peer::Real),
    (Peer::Real, Peer::Ours),
    (Peer::Ours, Peer::Ours),
];

fn list(value: &Value) -> Vec<String> {
    let mut list: Vec<String> = value
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one.as_str().unwrap().to_owned())
        .collect();
    list.sort();
    list
}

fn channels(lookupd: &Daemon, topic: &str) -> Vec<String> {
    list(&get(lookupd.http, &format!("/channels?topic={topic}")).json()["channels"])
}

fn topics(lookupd: &Daemon) -> Vec<String> {
    list(&get(lookupd.http, "/topics").json()["topics"])
}

fn nodes(lookupd: &Daemon) -> Vec<Value> {
    get(lookupd.http, "/nodes").json()["producers"]
        .as_array()
        .unwrap()
        .clone()
}

fn producers(lookupd: &Daemon, topic: &str) -> Vec<Value> {
    get(lookupd.http, &format!("/lookup?topic={topic}")).json()["producers"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

#[test]
fn a_broker_registers_its_topics_and_channels_and_takes_them_back() {
    at_once(PAIRS, |(broker, registry)| {
        let who = format!("nsqd {broker:?}, nsqlookupd {registry:?}");
        let lookupd = Daemon::nsqlookupd(registry, &[]);
        let nsqd = Daemon::nsqd_registered(broker, &[&lookupd]);
        wait::until(&format!("{who}: the broker is known"), || {
            nodes(&lookupd).len() == 1
        });
        Wire::nsqd(nsqd.tcp).publish("clicks", b"x");
        wait::until(&format!("{who}: its topic is known"), || {
            topics(&lookupd) == ["clicks"]
        });
        let mut consumer = Wire::nsqd(nsqd.tcp);
        consumer.subscribe("clicks", "count", 1);
        wait::until(&format!("{who}: its channel is known"), || {
            channels(&lookupd, "clicks") == ["count"]
        });
        wait::until(&format!("{who}: it is found"), || {
            producers(&lookupd, "clicks").len() == 1
        });
        let producer = producers(&lookupd, "clicks").remove(0);
        assert_eq!(producer["tcp_port"], nsqd.tcp.port(), "{who}");
        assert_eq!(producer["http_port"], nsqd.http.port(), "{who}");
        assert_eq!(producer["broadcast_address"], "127.0.0.1", "{who}");
        assert!(
            producer["version"].is_string() && producer["hostname"].is_string(),
            "{who}: {producer}"
        );
        assert_eq!(
            post(nsqd.http, "/topic/delete?topic=clicks", b"").status,
            200,
            "{who}"
        );
        wait::until(&format!("{who}: the topic is taken back"), || {
            producers(&lookupd, "clicks").is_empty()
        });
    });
}

#[test]
fn a_broker_that_ends_is_found_no_more() {
    at_once(PAIRS, |(broker, registry)| {
        let who = format!("nsqd {broker:?}, nsqlookupd {registry:?}");
        let lookupd = Daemon::nsqlookupd(registry, &[]);
        let mut nsqd = Daemon::nsqd_registered(broker, &[&lookupd]);
        Wire::nsqd(nsqd.tcp).publish("clicks", b"x");
        wait::until(&format!("{who}: it is found"), || {
            producers(&lookupd, "clicks").len() == 1
        });
        nsqd.kill_9();
        wait::until(&format!("{who}: it is found no more"), || {
            producers(&lookupd, "clicks").is_empty()
        });
        wait::until(&format!("{who}: no node is left"), || {
            nodes(&lookupd).is_empty()
        });
    });
}

#[test]
fn a_registry_that_comes_back_is_told_everything_again() {
    at_once(PAIRS, |(broker, registry)| {
        let who = format!("nsqd {broker:?}, nsqlookupd {registry:?}");
        let mut lookupd = Daemon::nsqlookupd(registry, &[]);
        let nsqd = Daemon::nsqd_registered(broker, &[&lookupd]);
        let mut consumer = Wire::nsqd(nsqd.tcp);
        consumer.subscribe("clicks", "count", 1);
        wait::until(&format!("{who}: it is found"), || {
            producers(&lookupd, "clicks").len() == 1
        });
        lookupd.kill_9();
        lookupd.start();
        wait::until(&format!("{who}: it is found again"), || {
            producers(&lookupd, "clicks").len() == 1
        });
        wait::until(&format!("{who}: with its channel"), || {
            channels(&lookupd, "clicks") == ["count"]
        });
    });
}

#[test]
fn a_new_topic_starts_with_the_channels_that_the_registry_knows() {
    at_once(PAIRS, |(broker, registry)| {
        let who = format!("nsqd {broker:?}, nsqlookupd {registry:?}");
        let lookupd = Daemon::nsqlookupd(registry, &[]);
        for channel in ["one", "two", "gone%23ephemeral"] {
            let target = format!("/channel/create?topic=clicks&channel={channel}");
            assert_eq!(post(lookupd.http, &target, b"").status, 200, "{who}");
        }
        let nsqd = Daemon::nsqd_registered(broker, &[&lookupd]);
        // nsqd may register a first topic while it connects, a moment before it counts the registry as one to ask; a
        // second topic it registers only after that.
        for topic in ["first", "second"] {
            Wire::nsqd(nsqd.tcp).publish(topic, b"x");
            wait::until(&format!("{who}: {topic} is known"), || {
                producers(&lookupd, topic).len() == 1
            });
        }
        Wire::nsqd(nsqd.tcp).publish("clicks", b"x");
        wait::until(
            &format!("{who}: both lasting channels have the message"),
            || {
                ["one", "two"]
                    .iter()
                    .all(|channel| nsqd.channel_stat("clicks", channel, "depth") == 1)
            },
        );
        let stats = nsqd.stats();
        assert_eq!(
            nsqd_topic(&stats, "clicks")["channels"]
                .as_array()
                .unwrap()
                .len(),
            2,
            "{who}: no ephemeral one"
        );
    });
}

#[test]
fn a_broker_registers_with_every_registry_and_works_without_any() {
    at_once([Peer::Real, Peer::Ours], |broker| {
        let mut first = Daemon::nsqlookupd(Peer::Real, &[]);
        let second = Daemon::nsqlookupd(Peer::Ours, &[]);
        // The first is away when the broker starts.
        first.kill_9();
        let nsqd = Daemon::nsqd_registered(broker, &[&first, &second]);
        Wire::nsqd(nsqd.tcp).publish("clicks", b"x");
        wait::until(&format!("{broker:?}: the second knows it"), || {
            producers(&second, "clicks").len() == 1
        });
        first.start();
        wait::until(&format!("{broker:?}: the first knows it"), || {
            producers(&first, "clicks").len() == 1
        });
    });
}

fn nsqd_topic(stats: &Value, name: &str) -> Value {
    stats["topics"]
        .as_array()
        .unwrap()
        .iter()
        .find(|topic| topic["topic_name"] == name)
        .unwrap()
        .clone()
}
