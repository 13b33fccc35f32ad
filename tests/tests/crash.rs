//! kill -9 while publishes are outstanding: what was acknowledged is delivered after the restart, to every channel.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "panicking is how a test fails"
)]

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tests::dice::Dice;
use tests::http::post;
use tests::wire::{Frame, Wire, command_with_body, multi_publish};
use tests::{Daemon, Peer, wait};

const ROUNDS: usize = 5;
const PUBLISHERS: usize = 4;
/// Acknowledged messages of a round before its kill; the dice add to it.
const ACKNOWLEDGED_MIN: usize = 1_000;
/// Publishes that a connection has outstanding at most.
const WINDOW: usize = 8;
const CHANNELS: [&str; 2] = ["uplink", "count"];

/// What one publisher did until its connection died.
#[derive(Default)]
struct Published {
    sent: BTreeSet<String>,
    acknowledged: BTreeSet<String>,
    /// Commands without an answer at the end.
    outstanding: usize,
}

#[test]
fn everything_acknowledged_before_kill_9_is_delivered_to_each_channel() {
    let mut dice = Dice::new("kill -9");
    let mut nsqd = with_channels();
    let (mut sent, mut delivered) = (BTreeSet::new(), BTreeSet::new());
    for round in 0..ROUNDS {
        let acknowledged = round_until_killed(&mut nsqd, round, Sizes::Small, &mut dice, &mut sent);
        delivered.extend(acknowledged.iter().cloned());
        for channel in CHANNELS {
            let extra = consume_all(nsqd.tcp, channel, &acknowledged, &sent);
            eprintln!(
                "round {round}, {channel}: {} acknowledged are there, {extra} more",
                acknowledged.len()
            );
        }
    }
    check_empty(nsqd);
}

#[test]
fn a_backlog_of_many_sizes_outlives_several_kills() {
    // Nobody consumes until the end: the backlog goes through ring, segments and the path of large batches.
    let mut dice = Dice::new("kill -9 with a backlog");
    let mut nsqd = with_channels();
    let (mut sent, mut acknowledged) = (BTreeSet::new(), BTreeSet::new());
    for round in 0..ROUNDS {
        acknowledged.extend(round_until_killed(
            &mut nsqd,
            round,
            Sizes::Mixed,
            &mut dice,
            &mut sent,
        ));
    }
    for channel in CHANNELS {
        let extra = consume_all(nsqd.tcp, channel, &acknowledged, &sent);
        eprintln!(
            "{channel}: {} acknowledged are there, {extra} more",
            acknowledged.len()
        );
    }
    check_empty(nsqd);
}

fn with_channels() -> Daemon {
    let nsqd = Daemon::nsqd(Peer::Ours, &[]);
    assert_eq!(
        post(nsqd.http, "/topic/create?topic=clicks", b"").status,
        200
    );
    for channel in CHANNELS {
        let target = format!("/channel/create?topic=clicks&channel={channel}");
        assert_eq!(post(nsqd.http, &target, b"").status, 200);
    }
    nsqd
}

/// Publishes until the kill and starts again. The names of what was acknowledged; all names go to `sent`.
fn round_until_killed(
    nsqd: &mut Daemon,
    round: usize,
    sizes: Sizes,
    dice: &mut Dice,
    sent: &mut BTreeSet<String>,
) -> BTreeSet<String> {
    let mut acknowledged = BTreeSet::new();
    let mut outstanding = 0;
    for one in publish_until_killed(nsqd, round, sizes, dice) {
        sent.extend(one.sent);
        acknowledged.extend(one.acknowledged);
        outstanding += one.outstanding;
    }
    assert!(
        acknowledged.len() >= ACKNOWLEDGED_MIN,
        "round {round}: {}",
        acknowledged.len()
    );
    assert!(
        outstanding > 0,
        "round {round}: the kill met no outstanding publish"
    );
    nsqd.start();
    acknowledged
}

/// What is finished stays finished over an orderly end.
fn check_empty(mut nsqd: Daemon) {
    for channel in CHANNELS {
        drain(&nsqd, channel);
    }
    assert!(nsqd.terminate().success());
    nsqd.start();
    for channel in CHANNELS {
        assert_eq!(
            nsqd.channel_stat("clicks", channel, "depth"),
            0,
            "{channel}"
        );
    }
}

/// Finishes what was stored and never acknowledged, until the channel has nothing left.
fn drain(nsqd: &Daemon, channel: &str) {
    // No message has this id: its refusal says that everything before it is done.
    const NOBODY: &str = "ffffffffffffffff";
    let mut wire = Wire::nsqd(nsqd.tcp);
    wire.subscribe("clicks", channel, 200);
    wait::until(&format!("{channel} is empty"), || {
        wire.finish(NOBODY);
        loop {
            match wire.frame() {
                Some(Frame::Message { id, .. }) => wire.finish(&id),
                Some(Frame::Error(text)) if text.contains(NOBODY) => break,
                other => panic!("instead of a refusal: {other:?}"),
            }
        }
        ["depth", "in_flight_count"]
            .iter()
            .all(|key| nsqd.channel_stat("clicks", channel, key) == 0)
    });
}

/// How large what is published is.
#[derive(Clone, Copy)]
enum Sizes {
    /// Clicks: up to 400 bytes.
    Small,
    /// Now and then much larger ones, and batches above a sixteenth of the ring.
    Mixed,
}

impl Sizes {
    /// Messages of the next publish, and the filler of each.
    fn next(self, dice: &mut Dice) -> (usize, usize) {
        match (self, dice.below(60)) {
            (Sizes::Mixed, 0) => (20 + dice.below(40), 8_000 + dice.below(8_000)),
            (Sizes::Mixed, 1..5) => (1, dice.below(60_000)),
            (_, 0..10) => (1 + dice.below(20), dice.below(400)),
            _ => (1, dice.below(400)),
        }
    }
}

fn publish_until_killed(
    nsqd: &mut Daemon,
    round: usize,
    sizes: Sizes,
    dice: &mut Dice,
) -> Vec<Published> {
    let target = ACKNOWLEDGED_MIN + dice.below(2_000);
    let acknowledged = AtomicUsize::new(0);
    let address = nsqd.tcp;
    thread::scope(|scope| {
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|number| {
                let (mut dice, acknowledged) = (dice.fork(), &acknowledged);
                scope.spawn(move || {
                    publish(
                        address,
                        &format!("{round}.{number}"),
                        sizes,
                        &mut dice,
                        acknowledged,
                    )
                })
            })
            .collect();
        wait::until("enough is acknowledged", || {
            acknowledged.load(Ordering::Relaxed) >= target
        });
        nsqd.kill_9();
        publishers
            .into_iter()
            .map(|publisher| publisher.join().unwrap())
            .collect()
    })
}

/// Publishes single messages and batches without pause until the connection dies. A message's name is its first word.
fn publish(
    address: SocketAddr,
    prefix: &str,
    sizes: Sizes,
    dice: &mut Dice,
    counter: &AtomicUsize,
) -> Published {
    let mut wire = Wire::nsqd(address);
    let mut published = Published::default();
    let mut waiting: VecDeque<Vec<String>> = VecDeque::new();
    let mut next = 0;
    loop {
        while waiting.len() < WINDOW {
            let (count, filler) = sizes.next(dice);
            let names: Vec<String> = (next..next + count)
                .map(|number| format!("{prefix}.{number}"))
                .collect();
            next += count;
            let filler = "x".repeat(filler);
            let bodies: Vec<String> = names
                .iter()
                .map(|name| format!("{name} {filler}"))
                .collect();
            let bytes = match &bodies[..] {
                [single] => command_with_body("PUB clicks\n", single.as_bytes()),
                batch => multi_publish("clicks", batch),
            };
            published.sent.extend(names.iter().cloned());
            waiting.push_back(names);
            if !wire.try_send(&bytes) {
                break;
            }
        }
        match wire.frame() {
            Some(frame) if frame.is("OK") => {
                let names = waiting.pop_front().unwrap();
                counter.fetch_add(names.len(), Ordering::Relaxed);
                published.acknowledged.extend(names);
            }
            Some(other) => panic!("{prefix}: {other:?}"),
            None => {
                published.outstanding = waiting.len();
                return published;
            }
        }
    }
}

/// Consumes until all of `acknowledged` came; returns how many others of `sent` came.
fn consume_all(
    address: SocketAddr,
    channel: &str,
    acknowledged: &BTreeSet<String>,
    sent: &BTreeSet<String>,
) -> usize {
    let mut missing: BTreeSet<&str> = acknowledged.iter().map(String::as_str).collect();
    let mut extra = 0;
    let mut wire = Wire::nsqd(address);
    wire.subscribe("clicks", channel, 200);
    while !missing.is_empty() {
        let Some(Frame::Message { id, body, .. }) = wire.frame() else {
            panic!("{} missing", missing.len())
        };
        let body = String::from_utf8(body).unwrap();
        let name = body.split(' ').next().unwrap();
        assert!(sent.contains(name), "nobody published {name:?}");
        if !missing.remove(name) {
            extra += 1;
        }
        wire.finish(&id);
    }
    // What was stored and not acknowledged may still come: leave the channel empty for the next round.
    wire.send(b"CLS\n");
    loop {
        match wire.frame() {
            Some(Frame::Message { id, .. }) => {
                extra += 1;
                wire.finish(&id);
            }
            Some(frame) if frame.is("CLOSE_WAIT") => return extra,
            other => panic!("instead of CLOSE_WAIT: {other:?}"),
        }
    }
}

#[test]
fn messages_in_flight_and_deferred_are_there_after_kill_9_with_their_attempts() {
    let mut nsqd = Daemon::nsqd(Peer::Ours, &[]);
    let mut consumer = Wire::nsqd(nsqd.tcp);
    consumer.subscribe("clicks", "count", 3);
    let mut producer = Wire::nsqd(nsqd.tcp);
    for body in ["finished", "in flight", "requeued"] {
        producer.publish("clicks", body.as_bytes());
    }
    producer.send(&command_with_body("DPUB clicks 3600000\n", b"deferred"));
    producer.expect("OK");
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(consumer.message());
    }
    let id = |body: &str| {
        ids.iter()
            .find(|one| one.2 == body.as_bytes())
            .unwrap()
            .0
            .clone()
    };
    consumer.finish(&id("finished"));
    consumer.send(format!("REQ {} 3600000\n", id("requeued")).as_bytes());
    wait::until("FIN and REQ are in", || {
        nsqd.channel_stat("clicks", "count", "deferred_count") == 2
            && nsqd.channel_stat("clicks", "count", "in_flight_count") == 1
    });
    // Finishes ride in a later commit: this one's answer says that it is through.
    producer.publish("other", b"x");
    nsqd.kill_9();
    nsqd.start();
    let mut consumer = Wire::nsqd(nsqd.tcp);
    consumer.subscribe("clicks", "count", 10);
    let (again, _, body) = consumer.message();
    assert_eq!((again, body), (id("in flight"), b"in flight".to_vec()));
    wait::until("what was deferred still is", || {
        nsqd.channel_stat("clicks", "count", "deferred_count") == 2
    });
    assert_eq!(nsqd.channel_stat("clicks", "count", "depth"), 0);
}

#[test]
fn pauses_topics_and_channels_outlive_kill_9() {
    let mut nsqd = Daemon::nsqd(Peer::Ours, &[]);
    for target in [
        "/topic/create?topic=a",
        "/channel/create?topic=a&channel=b",
        "/channel/create?topic=a&channel=paused",
        "/channel/pause?topic=a&channel=paused",
        "/topic/create?topic=paused",
        "/topic/pause?topic=paused",
        "/topic/create?topic=deleted",
        "/channel/create?topic=a&channel=deleted",
        "/channel/delete?topic=a&channel=deleted",
        "/topic/delete?topic=deleted",
    ] {
        assert_eq!(post(nsqd.http, target, b"").status, 200, "{target}");
    }
    let names = |nsqd: &Daemon| {
        let stats = nsqd.stats();
        let mut names = Vec::new();
        for topic in stats["topics"].as_array().unwrap() {
            names.push((topic["topic_name"].to_string(), topic["paused"].to_string()));
            for channel in topic["channels"].as_array().unwrap() {
                names.push((
                    channel["channel_name"].to_string(),
                    channel["paused"].to_string(),
                ));
            }
        }
        names
    };
    let before = names(&nsqd);
    assert_eq!(before.len(), 4, "{before:?}");
    for _ in 0..2 {
        nsqd.kill_9();
        nsqd.start();
        assert_eq!(names(&nsqd), before);
    }
}
