//! Real client libraries with the real programs and with ours.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "panicking is how a test fails"
)]

use std::collections::{BTreeMap, BTreeSet};

use tests::clients::{Delivery, LIBRARIES, Library, Source, deliveries_by_body};
use tests::{Daemon, Peer, at_once, wait};

/// What `single:a multi:b,c defer:300:d`, consumed with `requeue:a:2 hold:b`, must lead to.
fn check_story(deliveries: &[Delivery], who: &str) {
    let attempts = deliveries_by_body(deliveries);
    let expected = BTreeMap::from([
        ("a".to_owned(), vec![1, 2, 3]),
        ("b".to_owned(), vec![1, 2]),
        ("c".to_owned(), vec![1]),
        ("d".to_owned(), vec![1]),
    ]);
    assert_eq!(attempts, expected, "{who}: attempts by body");
    let ids: BTreeSet<(&str, &str)> = deliveries
        .iter()
        .map(|one| (one.body.as_str(), one.id.as_str()))
        .collect();
    let distinct: BTreeSet<&str> = ids.iter().map(|(_, id)| *id).collect();
    assert_eq!(
        (ids.len(), distinct.len()),
        (4, 4),
        "{who}: one id a message, kept over redelivery: {ids:?}"
    );
    assert!(distinct.iter().all(|id| id.len() == 16), "{who}: {ids:?}");
}

const ACTIONS: [&str; 3] = ["single:a", "multi:b,c", "defer:300:d"];
const RULES: [&str; 2] = ["requeue:a:2", "hold:b"];

fn round_trip(library: Library) {
    for peer in [Peer::Real, Peer::Ours] {
        let nsqd = Daemon::nsqd(peer, &[]);
        library.publish(nsqd.tcp, "clicks", &ACTIONS);
        let deliveries = library.consume(Source::Nsqd(nsqd.tcp), "clicks", "count", 4, &RULES);
        check_story(&deliveries, &format!("{library:?} with {peer:?}"));
        wait::until("nothing is left", || {
            ["depth", "in_flight_count", "deferred_count"]
                .iter()
                .all(|key| nsqd.channel_stat("clicks", "count", key) == 0)
        });
        assert_eq!(
            nsqd.channel_stat("clicks", "count", "requeue_count"),
            2,
            "{library:?} with {peer:?}"
        );
        assert_eq!(
            nsqd.channel_stat("clicks", "count", "timeout_count"),
            1,
            "{library:?} with {peer:?}"
        );
    }
}

#[test]
fn go_nsq_publishes_consumes_requeues_and_times_out() {
    round_trip(Library::Go);
}

#[test]
fn pynsq_publishes_consumes_requeues_and_times_out() {
    round_trip(Library::Python);
}

#[test]
fn nsqjs_publishes_consumes_requeues_and_times_out() {
    round_trip(Library::Node);
}

#[test]
fn consumers_find_their_broker_through_lookupd() {
    let pairs = [
        (Peer::Real, Peer::Real),
        (Peer::Ours, Peer::Real),
        (Peer::Real, Peer::Ours),
        (Peer::Ours, Peer::Ours),
    ];
    at_once(pairs, |(broker, registry)| {
        let lookupd = Daemon::nsqlookupd(registry, &[]);
        let nsqd = Daemon::nsqd_registered(broker, &[&lookupd]);
        for (number, consumer) in LIBRARIES.into_iter().enumerate() {
            // Every library's messages are consumed by another.
            let publisher = LIBRARIES[(number + 1) % LIBRARIES.len()];
            let topic = format!("found-{number}");
            publisher.publish(nsqd.tcp, &topic, &ACTIONS);
            let deliveries =
                consumer.consume(Source::Lookupd(lookupd.http), &topic, "count", 4, &RULES);
            let who =
                format!("{publisher:?} to {consumer:?}, nsqd {broker:?}, nsqlookupd {registry:?}");
            check_story(&deliveries, &who);
        }
    });
}
