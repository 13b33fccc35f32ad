//! Publishes and their answers; topics and channels as they come and go.

use super::*;

#[test]
fn ok_comes_with_the_commit_and_not_before() {
    let mut world = World::new();
    let client = world.connect();
    world.send(client, &publish("t", "x"));
    world.step();
    assert_eq!(world.got(client), []);
    world.settle();
    assert_eq!(world.got(client), [ok()]);
}

#[test]
fn publishes_of_one_connection_wait_together_and_are_answered_in_order() {
    let mut world = World::new();
    let client = world.connect();
    for body in ["a", "b", "c"] {
        world.send(client, &publish("t", body));
    }
    world.send(client, &identify(r#"{"feature_negotiation":true}"#));
    world.send(client, &publish_many("t", &["d", "e"]));
    world.step();
    assert_eq!(
        world.got(client),
        [],
        "IDENTIFY's answer waits behind the first publishes"
    );
    world.settle();
    let got = world.got(client);
    assert_eq!(got.len(), 5);
    assert_eq!(got[..3], [ok(), ok(), ok()]);
    assert!(matches!(&got[3], Got::Response(json) if json.starts_with('{')));
    assert_eq!(got[4], ok());
}

#[test]
fn an_error_waits_behind_the_publishes_before_it() {
    let mut world = World::new();
    let client = world.connect();
    world.send(client, &publish("t", "x"));
    world.send(client, b"FOO\n");
    world.step();
    assert_eq!(
        (world.got(client), world.flow(client)),
        (vec![], Flow::Open)
    );
    world.settle();
    assert_eq!(
        world.got(client),
        [ok(), error("E_INVALID invalid command FOO")]
    );
    assert_eq!(world.flow(client), Flow::Finished);
}

#[test]
fn heartbeats_do_not_wait_behind_publishes() {
    let mut world = World::new();
    let client = world.connect();
    world.send(client, &publish("t", "x"));
    world.now += 30 * SECOND;
    world.engine.handle_timeout(world.now);
    world.step();
    assert_eq!(world.got(client), [Got::Response("_heartbeat_".into())]);
}

#[test]
fn a_flood_of_publishes_stops_being_read_until_a_commit() {
    let mut world = World::new();
    let client = world.connect();
    let many = publish("t", "x").repeat(crate::limits::REPLIES_WAITING_MAX + 10);
    world.send(client, &many);
    assert!(world.waits(client));
    world.settle();
    assert_eq!(
        world.got(client).len(),
        crate::limits::REPLIES_WAITING_MAX + 10
    );
}

#[test]
fn every_channel_gets_every_message() {
    let mut world = World::new();
    let one = world.consumer("t", "one", 10);
    let two = world.consumer("t", "two", 10);
    let producer = world.connect();
    world.send(producer, &publish_many("t", &["a", "b", "c"]));
    world.settle();
    assert_eq!(world.got(producer), [ok()]);
    assert_eq!(world.bodies(one), ["a", "b", "c"]);
    assert_eq!(world.bodies(two), ["a", "b", "c"]);
}

#[test]
fn the_first_channel_gets_the_backlog_and_later_ones_start_at_the_end() {
    let mut world = World::new();
    let producer = world.connect();
    world.publish(producer, "t", "before");
    let first = world.consumer("t", "first", 10);
    world.settle();
    let second = world.consumer("t", "second", 10);
    world.publish(producer, "t", "after");
    assert_eq!(world.bodies(first), ["before", "after"]);
    assert_eq!(world.bodies(second), ["after"]);
}

#[test]
fn a_deferred_publish_comes_after_its_time_in_every_channel() {
    let mut world = World::new();
    let one = world.consumer("t", "one", 10);
    let two = world.consumer("t", "two", 10);
    let producer = world.connect();
    world.send(producer, &publish_deferred("t", 5000, "later"));
    world.publish(producer, "t", "now");
    assert_eq!(world.got(producer), [ok(), ok()]);
    assert_eq!(world.bodies(one), ["now"]);
    world.advance(4 * SECOND);
    assert_eq!(world.bodies(one), Vec::<String>::new());
    world.advance(2 * SECOND);
    assert_eq!(world.bodies(one), ["later"]);
    assert_eq!(world.bodies(two), ["now", "later"]);
}

#[test]
fn a_paused_channel_delivers_nothing_and_a_paused_topic_distributes_nothing() {
    let mut world = World::new();
    let one = world.consumer("t", "one", 10);
    let two = world.consumer("t", "two", 10);
    let producer = world.connect();
    world
        .engine
        .pause_channel(&topic("t"), &channel("one"), true)
        .unwrap();
    world.publish(producer, "t", "a");
    assert_eq!((world.bodies(one).len(), world.bodies(two).len()), (0, 1));
    world
        .engine
        .pause_channel(&topic("t"), &channel("one"), false)
        .unwrap();
    world.settle();
    assert_eq!(world.bodies(one), ["a"]);
    world.engine.pause_topic(&topic("t"), true).unwrap();
    world.publish(producer, "t", "b");
    assert_eq!((world.bodies(one).len(), world.bodies(two).len()), (0, 0));
    let stats = world.engine.topic_stats(Some("t"), None, false);
    assert_eq!(
        (stats[0].depth, stats[0].channels[0].depth, stats[0].paused),
        (1, 0, true)
    );
    world.engine.pause_topic(&topic("t"), false).unwrap();
    world.settle();
    assert_eq!((world.bodies(one).len(), world.bodies(two).len()), (1, 1));
}

#[test]
fn an_emptied_channel_forgets_what_is_in_flight_and_goes_on() {
    let mut world = World::new();
    let consumer = world.consumer("t", "c", 1);
    let producer = world.connect();
    world.publish(producer, "t", "a");
    world.publish(producer, "t", "b");
    let (_, id, _) = world.messages(consumer)[0].clone();
    world
        .engine
        .empty_channel(&topic("t"), &channel("c"))
        .unwrap();
    world.settle();
    assert_eq!(world.got(consumer), []);
    world.answer(consumer, "FIN", id, "");
    assert!(
        matches!(&world.got(consumer)[..], [Got::Error(text)] if text.starts_with("E_FIN_FAILED"))
    );
    world.publish(producer, "t", "c");
    assert_eq!(world.bodies(consumer), ["c"]);
    let stats = &world.engine.topic_stats(None, None, false)[0].channels[0];
    assert_eq!((stats.depth, stats.in_flight_count), (0, 1));
}

#[test]
fn deleting_a_channel_or_a_topic_ends_its_consumers() {
    let mut world = World::new();
    let one = world.consumer("t", "one", 1);
    let two = world.consumer("t", "two", 1);
    let producer = world.connect();
    world.publish(producer, "t", "a");
    let now = world.now;
    world
        .engine
        .delete_channel(&topic("t"), &channel("one"), now)
        .unwrap();
    world.settle();
    assert_eq!(
        (world.flow(one), world.flow(two)),
        (Flow::Finished, Flow::Open)
    );
    world.engine.delete_topic(&topic("t"), now).unwrap();
    world.settle();
    assert_eq!(world.flow(two), Flow::Finished);
    assert!(world.engine.topic_stats(None, None, false).is_empty());
    assert_eq!(world.engine.outstanding, 0);
    let again = world.consumer("t", "one", 1);
    assert_eq!(world.bodies(again), Vec::<String>::new());
}

#[test]
fn ephemeral_channels_and_topics_go_with_their_last_user() {
    let mut world = World::new();
    let consumer = world.consumer("t#ephemeral", "c#ephemeral", 1);
    let other = world.consumer("t", "c#ephemeral", 1);
    let producer = world.connect();
    world.publish(producer, "t#ephemeral", "x");
    assert_eq!(world.bodies(consumer), ["x"]);
    let named = |world: &World| -> Vec<(String, usize)> {
        let names = world.engine.names();
        names
            .map(|(topic, channels)| (topic.to_string(), channels.count()))
            .collect()
    };
    assert_eq!(
        named(&world),
        [("t".to_owned(), 1), ("t#ephemeral".to_owned(), 1)]
    );
    world.drop_client(consumer);
    world.drop_client(other);
    assert_eq!(named(&world), [("t".to_owned(), 0)]);
}

#[test]
fn a_new_topic_waits_for_the_channels_that_lookupds_know() {
    let mut world = World::with(Settings {
        lookups: true,
        ..settings()
    });
    let producer = world.connect();
    world.send(producer, &publish("t", "x"));
    world.settle();
    assert!(world.waits(producer));
    assert_eq!(world.engine.poll_lookup(), Some(topic("t")));
    assert_eq!(world.engine.poll_lookup(), None);
    world.engine.lookup_done(
        &topic("t"),
        &[channel("a"), channel("b"), channel("c#ephemeral")],
    );
    world.settle();
    assert_eq!(world.got(producer), [ok()]);
    let stats = world.engine.topic_stats(None, None, false);
    let depths: Vec<_> = stats[0]
        .channels
        .iter()
        .map(|c| (&c.channel_name[..], c.depth))
        .collect();
    assert_eq!(depths, [("a", 1), ("b", 1)]);
}

#[test]
fn a_failed_commit_is_an_error_to_its_publishers_and_the_end_of_their_connections() {
    let mut world = World::new();
    let (one, many, later) = (world.connect(), world.connect(), world.connect());
    world.publish(one, "t", "before");
    assert_eq!(world.got(one), [ok()]);
    let bystander = world.consumer("t", "c", 10);
    world.got(bystander);
    world.send(one, &publish("t", "a"));
    world.send(one, &publish("t", "b"));
    world.send(many, &publish_many("t", &["c"]));
    world.send(later, &publish_deferred("t", 1000, "d"));
    // The store tries once more by itself.
    for _ in 0..2 {
        world.disk.inject(storage::disk::Fault::SyncError {
            nth: 1,
            forget: true,
        });
        assert!(world.commit());
    }
    world.settle();
    assert!(world.engine.health().is_err());
    for (client, code) in [
        (one, "E_PUB_FAILED PUB"),
        (many, "E_MPUB_FAILED MPUB"),
        (later, "E_DPUB_FAILED DPUB"),
    ] {
        let got = world.got(client);
        assert!(
            matches!(&got[..], [Got::Error(text)] if text.starts_with(&format!("{code} failed "))),
            "{got:?}"
        );
        assert_eq!(world.flow(client), Flow::Finished);
    }
    assert_eq!(world.flow(bystander), Flow::Open);
    let again = world.connect();
    world.publish(again, "t", "after");
    world.advance(5 * SECOND);
    assert_eq!(world.got(again), [ok()]);
    let stats = world.engine.topic_stats(None, None, false);
    assert_eq!((stats[0].message_count, stats[0].message_bytes), (2, 11));
    assert!(world.engine.health().is_ok());
    assert_eq!(
        world.bodies(bystander).last().map(String::as_str),
        Some("after")
    );
}
