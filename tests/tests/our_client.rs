//! Our own client library with the real programs and with ours.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "panicking is how a test fails"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use client::{Consumer, ConsumerOptions, Delivery, Producer, ProducerOptions};
use protocol::names::{ChannelName, TopicName};
use runtime::timer;
use tests::wait::PATIENCE;
use tests::{Daemon, Peer, at_once};

fn names() -> (TopicName, ChannelName) {
    (
        TopicName::new("clicks").unwrap(),
        ChannelName::new("count").unwrap(),
    )
}

fn producer(nsqd: &Daemon) -> Producer {
    let mut options = ProducerOptions::default();
    options.links.backoff_max = Duration::from_millis(500);
    Producer::connect([nsqd.tcp.to_string().parse().unwrap()], options)
}

fn consumer_options() -> ConsumerOptions {
    let mut options = ConsumerOptions {
        in_flight_max: 10,
        ..ConsumerOptions::default()
    };
    options.links.connection.msg_timeout = Duration::from_secs(1);
    options.links.backoff_max = Duration::from_millis(500);
    options.lookup_interval = Duration::from_millis(200);
    options
}

async fn next(consumer: &Consumer) -> Delivery {
    timer::timeout(PATIENCE, consumer.next())
        .await
        .expect("a message")
}

/// Publishes one, a batch and a deferred one, and consumes them with requeues and one time-out.
async fn round_trip(nsqd: &Daemon, options: ConsumerOptions) {
    let (topic, channel) = names();
    let producer = producer(nsqd);
    producer.publish(&topic, &["a"]).await.unwrap();
    producer.publish(&topic, &["b", "c"]).await.unwrap();
    producer
        .publish_deferred(&topic, Duration::from_millis(300), b"d")
        .await
        .unwrap();
    let consumer = Consumer::subscribe(&topic, &channel, options);
    let mut attempts: BTreeMap<String, Vec<u16>> = BTreeMap::new();
    let mut ids = BTreeSet::new();
    let mut held = Vec::new();
    let mut finished = 0;
    while finished < 4 {
        let delivery = next(&consumer).await;
        let body = String::from_utf8(delivery.body().to_vec()).unwrap();
        ids.insert(format!("{body} {:?}", delivery.id()));
        attempts
            .entry(body.clone())
            .or_default()
            .push(delivery.attempts());
        match (body.as_str(), delivery.attempts()) {
            ("a", 1 | 2) => delivery.requeue(Duration::ZERO),
            ("b", 1) => held.push(delivery),
            _ => {
                delivery.finish();
                finished += 1;
            }
        }
    }
    let expected = [
        ("a", vec![1, 2, 3]),
        ("b", vec![1, 2]),
        ("c", vec![1]),
        ("d", vec![1]),
    ];
    assert_eq!(
        attempts,
        expected
            .map(|(body, attempts)| (body.to_owned(), attempts))
            .into()
    );
    assert_eq!(
        ids.len(),
        4,
        "one id a message, kept over redelivery: {ids:?}"
    );
    consumer.close(Duration::from_secs(5)).await;
    producer.close().await;
}

#[test]
fn it_publishes_consumes_requeues_and_meets_time_outs() {
    at_once([Peer::Real, Peer::Ours], |peer| {
        let nsqd = Daemon::nsqd(peer, &[]);
        let mut options = consumer_options();
        options
            .addresses
            .push(nsqd.tcp.to_string().parse().unwrap());
        runtime::run(round_trip(&nsqd, options));
    });
}

#[test]
fn it_finds_its_broker_through_lookupd() {
    let pairs = [
        (Peer::Real, Peer::Real),
        (Peer::Real, Peer::Ours),
        (Peer::Ours, Peer::Real),
    ];
    at_once(pairs, |(broker, registry)| {
        let lookupd = Daemon::nsqlookupd(registry, &[]);
        let nsqd = Daemon::nsqd_registered(broker, &[&lookupd]);
        let mut options = consumer_options();
        options.lookups_at(&lookupd);
        runtime::run(round_trip(&nsqd, options));
    });
}

trait At {
    fn lookups_at(&mut self, lookupd: &Daemon);
}

impl At for ConsumerOptions {
    fn lookups_at(&mut self, lookupd: &Daemon) {
        self.lookupds
            .push(format!("http://{}", lookupd.http).parse().unwrap());
    }
}

#[test]
fn what_the_broker_refuses_comes_back_as_its_error_and_the_next_publish_goes_through() {
    at_once([Peer::Real, Peer::Ours], |peer| {
        let nsqd = Daemon::nsqd(peer, &[]);
        runtime::run(async {
            let (topic, _) = names();
            let producer = producer(&nsqd);
            let refused = producer.publish(&topic, &[""]).await;
            let told = refused
                .as_ref()
                .is_err_and(|error| error.to_string().starts_with("E_BAD_MESSAGE"));
            assert!(told, "{peer:?}: {refused:?}");
            producer.publish(&topic, &["fine"]).await.unwrap();
        });
    });
}

#[test]
fn it_goes_on_when_the_broker_comes_back() {
    at_once([Peer::Real, Peer::Ours], |peer| {
        let mut nsqd = Daemon::nsqd(peer, &[]);
        let (topic, channel) = names();
        runtime::run(async {
            let producer = producer(&nsqd);
            let mut options = consumer_options();
            options
                .addresses
                .push(nsqd.tcp.to_string().parse().unwrap());
            let consumer = Consumer::subscribe(&topic, &channel, options);
            for round in 0..3 {
                let body = format!("round {round}");
                producer.publish(&topic, &[&body]).await.unwrap();
                // An earlier round's FIN may have been lost with its connection.
                loop {
                    let delivery = next(&consumer).await;
                    let came = delivery.body().to_vec();
                    delivery.finish();
                    if came == body.as_bytes() {
                        break;
                    }
                }
                assert!(nsqd.terminate().success());
                nsqd.start();
            }
        });
    });
}
