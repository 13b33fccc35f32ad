//! What a route does when lines break, upstreams fail and events are bad.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod world;

use std::time::Duration;

use client::host::Core;
use forwarder::route::{dead_topic, held_bytes_max};
use protocol::command::Bounds;
use protocol::names::TopicName;
use world::{World, options};

const SMALL: &str = "batch_count = 5\nbatch_age = \"20ms\"\nin_flight_batches = 3";

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn bodies(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|n| format!("event {n}"))
}

fn assert_all_arrived(world: &World, count: usize) {
    let arrived = world.arrived("clicks");
    for body in bodies(count) {
        assert!(arrived.contains_key(&body), "{body} is lost");
    }
    assert_eq!(arrived.len(), count, "nothing was made up");
}

#[test]
fn everything_arrives_once_and_in_order_when_nothing_breaks() {
    let mut world = World::new(&options(SMALL), 1, 1);
    world.offer(bodies(100));
    world.run_dry(secs(10));
    let arrived: Vec<_> = world.peers[1].published["clicks"].clone();
    assert_eq!(
        arrived,
        bodies(100).map(String::into_bytes).collect::<Vec<_>>()
    );
    assert_eq!(world.peers[0].requeues + world.peers[0].timeouts, 0);
    assert!(
        world.peers[1].publishes <= 21,
        "{} publishes",
        world.peers[1].publishes
    );
    assert_eq!(world.core.counters().forwarded, 100);
    assert_eq!(world.core.held_bytes(), 0);
}

#[test]
fn a_lone_event_leaves_at_its_batchs_age() {
    let mut world = World::new(&options(SMALL), 1, 1);
    world.run_for(secs(1));
    world.offer(bodies(1));
    let offered = world.now;
    world.run_dry(secs(2));
    // The offer is seen within a step; then four ways of 5 ms and 20 ms of age.
    assert!(
        world.now - offered < Duration::from_millis(1100),
        "{:?}",
        world.now - offered
    );
}

#[test]
fn throughput_does_not_fall_with_the_round_trip() {
    let mut world = World::new(&options(SMALL), 1, 1);
    world.run_for(secs(1));
    world.latency = Duration::from_millis(250);
    world.offer(bodies(300));
    let started = world.now;
    world.run_dry(secs(100));
    // One batch at a time would take 60 round trips of 0.5 s, three at a time a third of that; the
    // local line has the same latency here, so the window's way adds as much again.
    assert!(world.now - started < secs(30), "{:?}", world.now - started);
}

#[test]
fn a_cut_at_any_point_of_the_conversation_loses_nothing() {
    let count = 120;
    let mut calm = World::new(&options(SMALL), 1, 1);
    calm.offer(bodies(count));
    calm.run_dry(secs(10));
    assert!(calm.pieces > 15, "{} pieces", calm.pieces);
    for piece in 0..calm.pieces + 5 {
        let mut world = World::new(&options(SMALL), 1, 1);
        world.cut_at = Some(piece);
        world.offer(bodies(count));
        world.run_dry(secs(60));
        assert_all_arrived(&world, count);
        let most = *world.arrived("clicks").values().max().unwrap();
        assert!(most <= 2, "cut at {piece}: one cut, at most one repetition");
        assert_eq!(world.core.held_bytes(), 0, "cut at {piece}");
    }
}

#[test]
fn a_cut_of_the_local_line_loses_nothing() {
    for after in 0..40 {
        let mut world = World::new(&options(SMALL), 1, 1);
        world.offer(bodies(60));
        for _ in 0..after {
            world.step();
        }
        world.cut(0);
        world.run_dry(secs(60));
        assert_all_arrived(&world, 60);
        assert_eq!(world.core.held_bytes(), 0, "cut after {after} steps");
    }
}

#[test]
fn an_outage_stays_in_the_brokers_log() {
    let mut world = World::new(&options(SMALL), 1, 1);
    world.offer(bodies(20));
    world.run_dry(secs(10));
    world.reachable[1] = false;
    world.cut(1);
    world.offer(bodies(500).skip(20));
    let dialed = world.dialed;
    world.run_for(secs(3600));
    assert_eq!(
        world.peers[0].in_flight(),
        0,
        "the window is closed, what was held is back"
    );
    assert_eq!(world.core.held_bytes(), 0);
    assert!(
        world.peers[0].requeues <= 20,
        "{} requeues in an hour",
        world.peers[0].requeues
    );
    assert_eq!(world.peers[0].timeouts, 0);
    let dialed = world.dialed - dialed;
    assert!(
        (60..300).contains(&dialed),
        "{dialed} dials in an hour, about every 30 s"
    );
    world.reachable[1] = true;
    world.run_dry(secs(120));
    assert_all_arrived(&world, 500);
}

#[test]
fn a_channel_is_there_while_no_upstream_ever_was() {
    let mut world = World::new(&options(SMALL), 1, 1);
    world.reachable[1] = false;
    world.offer(bodies(10));
    world.run_for(secs(60));
    let source = world.core.links(0).unwrap();
    assert_eq!(source.up().count(), 1, "subscribed");
    assert_eq!(
        (world.peers[0].in_flight(), world.peers[0].unfinished()),
        (0, 10)
    );
}

#[test]
fn an_upstream_without_room_is_left_alone_and_the_other_one_used() {
    let mut world = World::new(&options(SMALL), 2, 3);
    world.peers[1].manner.failing = u32::MAX;
    world.offer(bodies(400));
    world.run_dry(secs(60));
    assert_all_arrived(&world, 400);
    assert!(
        world.peers[1].publishes < 40,
        "{} tries",
        world.peers[1].publishes
    );
}

#[test]
fn the_load_is_spread_over_upstreams() {
    let mut world = World::new(&options(SMALL), 3, 5);
    world.run_for(secs(1));
    world.offer(bodies(900));
    world.run_dry(secs(60));
    for peer in &world.peers[1..] {
        let share = peer.published["clicks"].len();
        assert!((150..450).contains(&share), "{share} of 900");
    }
}

#[test]
fn an_event_that_the_upstream_refuses_goes_to_the_dead_letters_alone() {
    let mut world = World::new(&options(SMALL), 1, 1);
    let upstream = &mut world.peers[1].manner;
    upstream.bounds = Bounds {
        message_bytes_max: 20,
        ..Bounds::default()
    };
    let large = |n: usize| format!("event {n} is too large for it");
    world.offer((0..60).map(|n| {
        if n % 17 == 3 {
            large(n)
        } else {
            format!("event {n}")
        }
    }));
    world.run_dry(secs(120));
    let arrived = world.arrived("clicks");
    let dead: Vec<_> = world.peers[0].published["clicks.dead"].clone();
    for n in 0..60 {
        match n % 17 == 3 {
            true => assert!(dead.contains(&large(n).into_bytes()), "{n}"),
            false => assert!(arrived.contains_key(&format!("event {n}")), "{n}"),
        }
    }
    assert_eq!((arrived.len(), dead.len()), (56, 4));
    assert_eq!(world.core.counters().dead, 4);
    assert!(
        world.dialed <= 5,
        "one connection lost for each: {}",
        world.dialed
    );
}

#[test]
fn a_batch_that_is_too_large_as_a_whole_is_sent_in_parts() {
    let mut world = World::new(&options("batch_count = 100"), 1, 1);
    // An IDENTIFY fits, a hundred events do not.
    world.peers[1].manner.bounds = Bounds {
        body_bytes_max: 400,
        ..Bounds::default()
    };
    world.offer(bodies(200));
    world.run_dry(secs(120));
    assert_all_arrived(&world, 200);
    assert!(!world.peers[0].published.contains_key("clicks.dead"));
}

#[test]
fn a_dead_letter_that_the_local_broker_cannot_take_is_not_lost() {
    let mut world = World::new(&options(SMALL), 1, 1);
    world.peers[1].manner.bounds = Bounds {
        message_bytes_max: 1,
        ..Bounds::default()
    };
    world.peers[0].manner.failing = 3;
    world.offer(bodies(4));
    world.run_dry(secs(120));
    let mut dead = world.peers[0].published["clicks.dead"].clone();
    dead.sort();
    dead.dedup();
    assert_eq!(dead, bodies(4).map(String::into_bytes).collect::<Vec<_>>());
}

#[test]
fn a_slow_upstream_costs_no_repetition() {
    let mut world = World::new(&options(SMALL), 1, 1);
    world.peers[0].manner.msg_timeout = secs(4);
    world.run_for(secs(1));
    // The answer to a batch takes 10 s: longer than the message time-out.
    world.latency = secs(5);
    world.offer(bodies(15));
    world.peers[0].manner.msg_timeout = secs(12);
    world.run_dry(secs(600));
    assert!(world.arrived("clicks").values().all(|times| *times == 1));
}

#[test]
fn held_bytes_are_bounded_when_events_are_suddenly_large() {
    let text = "batch_count = 50\nbatch_bytes = \"8KiB\"\nin_flight_batches = 2";
    let options = options(text);
    assert_eq!(held_bytes_max(&options, 1024), 3 * 8192 + 1024);
    let mut world = World::new(&options, 1, 1);
    let large = "x".repeat(300_000);
    world.offer((0..200).map(|n| format!("event {n}")));
    world.offer((0..40).map(|n| format!("event {} {large}", n + 200)));
    world.run_dry(secs(600)); // each step asserts the bound
    assert_eq!(world.arrived("clicks").len(), 240);
}

#[test]
fn the_end_waits_for_answers_and_gives_the_rest_back() {
    let mut world = World::new(&options(SMALL), 1, 1);
    world.offer(bodies(200));
    for _ in 0..30 {
        world.step();
    }
    let now = world.now;
    world.core.begin_close(now);
    for _ in 0..1000 {
        if world.core.is_drained() {
            break;
        }
        world.step();
    }
    assert!(world.core.is_drained());
    world.run_for(secs(1));
    assert_eq!(world.core.held_bytes(), 0);
    assert_eq!(world.peers[0].in_flight(), 0, "all is finished or back");
    let arrived = world.arrived("clicks").len();
    assert_eq!(
        arrived + world.peers[0].unfinished(),
        200,
        "and nothing is in both places"
    );
    assert!(arrived > 0);
}

#[test]
fn random_faults_lose_nothing() {
    for seed in 0..60 {
        let mut world = World::new(&options(SMALL), 2, seed);
        world.cut_per_mille = 20 + world.rng.below(80);
        let count = 300;
        let mut offered = 0;
        while offered < count {
            let some = usize::try_from(world.rng.below(40))
                .unwrap()
                .min(count - offered);
            world.offer(bodies(count).skip(offered).take(some));
            offered += some;
            let fault = world.rng.below(8);
            let peer = usize::try_from(world.rng.below(3)).unwrap();
            match fault {
                0 => world.cut(peer),
                1 => world.peers[peer.max(1)].manner.failing = 2,
                2 => world.reachable[peer] = false,
                3 => world.latency = Duration::from_millis(world.rng.below(300)),
                _ => world.reachable = vec![true; 3],
            }
            let pause = Duration::from_millis(world.rng.below(5000));
            world.run_for(pause);
        }
        world.reachable = vec![true; 3];
        world.cut_per_mille = 0;
        world.run_dry(secs(300));
        assert_all_arrived(&world, count);
        assert_eq!(world.core.held_bytes(), 0, "seed {seed}");
    }
}

#[test]
fn dead_letters_have_a_valid_topic_that_is_kept() {
    for (topic, dead) in [
        ("clicks", "clicks.dead".to_owned()),
        ("clicks#ephemeral", "clicks.dead".to_owned()),
        (&"x".repeat(64), "x".repeat(59) + ".dead"),
        (&("x".repeat(54) + "#ephemeral"), "x".repeat(54) + ".dead"),
    ] {
        assert_eq!(dead_topic(&TopicName::new(topic).unwrap()).as_str(), dead);
    }
}
