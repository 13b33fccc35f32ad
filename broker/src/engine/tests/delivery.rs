//! Who gets what and when: windows, load balance, requeues, timeouts, attempts.

use super::*;

fn filled(count: usize) -> World {
    let mut world = World::new();
    let producer = world.connect();
    for at in 0..count {
        world.send(producer, &publish("t", &at.to_string()));
    }
    world.settle();
    world
}

#[test]
fn no_more_than_the_window_is_in_flight() {
    let mut world = filled(10);
    let consumer = world.consumer("t", "c", 3);
    let first = world.messages(consumer);
    assert_eq!(first.len(), 3);
    world.answer(consumer, "FIN", first[0].1, "");
    assert_eq!(world.bodies(consumer), ["3"]);
    world.say(consumer, "RDY 0");
    world.answer(consumer, "FIN", first[1].1, "");
    assert_eq!(world.bodies(consumer), Vec::<String>::new());
    world.say(consumer, "RDY 2");
    assert_eq!(
        world.bodies(consumer),
        Vec::<String>::new(),
        "two are still in flight"
    );
    world.answer(consumer, "FIN", first[2].1, "");
    assert_eq!(world.bodies(consumer), ["4"]);
}

#[test]
fn ready_consumers_of_a_channel_take_turns() {
    let mut world = World::new();
    let consumers: Vec<_> = (0..3).map(|_| world.consumer("t", "c", 100)).collect();
    let idle = world.consumer("t", "c", 0);
    let producer = world.connect();
    for at in 0..30 {
        world.send(producer, &publish("t", &at.to_string()));
    }
    world.settle();
    for consumer in consumers {
        assert_eq!(world.bodies(consumer).len(), 10);
    }
    assert_eq!(world.bodies(idle).len(), 0);
}

#[test]
fn requeued_messages_come_before_new_ones_lowest_first_with_their_attempts() {
    let mut world = filled(6);
    let consumer = world.consumer("t", "c", 3);
    let first = world.messages(consumer);
    world.say(consumer, "RDY 0");
    world.answer(consumer, "REQ", first[2].1, " 0");
    world.answer(consumer, "REQ", first[0].1, " 0");
    world.say(consumer, "RDY 4");
    let again: Vec<_> = world
        .messages(consumer)
        .into_iter()
        .map(|m| (m.0, m.2))
        .collect();
    assert_eq!(again, [("0".into(), 2), ("2".into(), 2), ("3".into(), 1)]);
    let stats = &world.engine.topic_stats(None, None, true)[0].channels[0];
    assert_eq!(
        (
            stats.requeue_count,
            stats.timeout_count,
            stats.in_flight_count
        ),
        (2, 0, 4)
    );
}

#[test]
fn a_requeue_with_a_delay_comes_later_and_is_cut_to_the_longest() {
    let mut world = filled(2);
    let consumer = world.consumer("t", "c", 1);
    let first = world.messages(consumer);
    world.answer(consumer, "REQ", first[0].1, " 2000");
    let second = world.messages(consumer);
    assert_eq!(second[0].0, "1");
    let stats = &world.engine.topic_stats(None, None, true)[0].channels[0];
    assert_eq!((stats.deferred_count, stats.depth), (1, 0));
    world.answer(consumer, "REQ", second[0].1, " 99999999999");
    world.advance(3 * SECOND);
    let again = world.messages(consumer);
    assert_eq!((again[0].0.as_str(), again[0].2), ("0", 2));
    world.answer(consumer, "FIN", again[0].1, "");
    for _ in 0..3600 / 20 + 1 {
        world.say(consumer, "NOP");
        world.advance(20 * SECOND);
    }
    let bodies: Vec<_> = world
        .got(consumer)
        .into_iter()
        .filter(|got| matches!(got, Got::Message { .. }))
        .collect();
    assert!(matches!(&bodies[0], Got::Message { body, attempts: 2, .. } if body == "1"));
}

#[test]
fn a_message_without_an_answer_comes_again_after_its_timeout() {
    let mut world = World::new();
    let consumer = world.connect();
    world.send(consumer, &identify(r#"{"msg_timeout":2000}"#));
    world.send(consumer, b"SUB t c\nRDY 1\n");
    world.publish(consumer, "t", "x");
    assert!(matches!(
        &world.got(consumer)[3],
        Got::Message { attempts: 1, .. }
    ));
    world.advance(2 * SECOND - Duration::from_millis(1));
    assert_eq!(world.got(consumer), []);
    world.advance(Duration::from_millis(1));
    let again = world.messages(consumer);
    assert_eq!((again[0].0.as_str(), again[0].2), ("x", 2));
    let stats = &world.engine.topic_stats(None, None, true)[0].channels[0];
    assert_eq!((stats.requeue_count, stats.timeout_count), (0, 1));
}

#[test]
fn touch_moves_the_timeout_but_not_beyond_the_longest() {
    let mut settings = settings();
    settings.ranges.msg_timeout_max = 5 * SECOND;
    let mut world = World::with(settings);
    let consumer = world.connect();
    world.send(consumer, &identify(r#"{"msg_timeout":2000}"#));
    world.send(consumer, b"SUB t c\nRDY 1\n");
    world.publish(consumer, "t", "x");
    let Got::Message { id, .. } = world.got(consumer)[3] else {
        panic!()
    };
    for _ in 0..3 {
        world.advance(SECOND + SECOND / 2);
        world.answer(consumer, "TOUCH", id, "");
        assert_eq!(world.got(consumer), []);
    }
    world.advance(SECOND / 2 - Duration::from_millis(1));
    assert_eq!(world.got(consumer), [], "4.999 s after the delivery");
    world.advance(Duration::from_millis(1));
    assert_eq!(world.messages(consumer)[0].2, 2);
}

#[test]
fn what_a_consumer_had_in_flight_goes_to_another_at_once_when_it_disconnects() {
    let mut world = filled(3);
    let first = world.consumer("t", "c", 3);
    assert_eq!(world.bodies(first).len(), 3);
    let second = world.consumer("t", "c", 3);
    world.drop_client(first);
    world.settle();
    let got: Vec<_> = world
        .messages(second)
        .into_iter()
        .map(|m| (m.0, m.2))
        .collect();
    assert_eq!(got, [("0".into(), 2), ("1".into(), 2), ("2".into(), 2)]);
}

#[test]
fn attempts_stop_where_signed_readers_would_see_a_negative_number() {
    let mut world = filled(1);
    let consumer = world.consumer("t", "c", 1);
    let (_, id, _) = world.messages(consumer)[0].clone();
    let no = world.clients[consumer].no;
    let slot = world.engine.first_in_flight(no).unwrap();
    world.engine.in_flight.entry_for_tests(slot).attempts = crate::limits::ATTEMPTS_MAX;
    world.answer(consumer, "REQ", id, " 0");
    assert_eq!(world.messages(consumer)[0].2, 32767);
}

#[test]
fn a_consumer_that_does_not_read_costs_its_buffer_only() {
    let mut world = World::new();
    let stuck = world.consumer("t", "c", 2500);
    world.stop_reading(stuck);
    let producer = world.connect();
    let body = "x".repeat(1000);
    for _ in 0..100 {
        world.publish(producer, "t", &body);
    }
    let no = world.clients[stuck].no;
    let session = world.engine.sessions.get(no).unwrap();
    assert!(session.output.len() <= crate::limits::OUTPUT_BYTES_MAX);
    assert!(session.output.capacity() <= crate::limits::OUTPUT_BYTES_MAX);
    let held = session.in_flight.len();
    let reader = world.consumer("t", "c", 2500);
    assert_eq!(world.bodies(reader).len() as u32 + held, 100);
}

#[test]
fn a_message_larger_than_the_output_is_paid_for_by_the_pool() {
    let mut world = World::with(small_pool(250_000, 210_000));
    let producer = world.connect();
    let body = "x".repeat(200_000);
    world.publish(producer, "t", &body);
    world.publish(producer, "t", &body);
    let stuck = world.connect();
    world.send(stuck, b"SUB t c\n");
    world.settle();
    world.stop_reading(stuck);
    world.send(stuck, b"RDY 10\n");
    world.settle();
    let free = world.engine.pool_free();
    assert!(free < 50_000, "{free}");
    let other = world.consumer("t", "c", 10);
    assert_eq!(
        world.bodies(other).len(),
        0,
        "the pool has no room for a second one"
    );
    world.drop_client(stuck);
    world.settle();
    assert_eq!(world.bodies(other).len(), 2);
    assert_eq!(world.engine.pool_free(), 250_000);
}

#[test]
fn outstanding_messages_are_bounded_and_one_channel_cannot_take_all() {
    let mut world = World::with(Settings {
        outstanding_max: 100,
        ..settings()
    });
    let hog = world.consumer("t", "hog", 2500);
    let other = world.consumer("t", "other", 2500);
    let producer = world.connect();
    world.say(other, "RDY 0");
    for at in 0..300 {
        world.send(producer, &publish("t", &at.to_string()));
    }
    world.settle();
    let held = world.messages(hog);
    assert_eq!(held.len(), 80);
    world.say(other, "RDY 2500");
    assert!(!world.bodies(other).is_empty());
    assert!(world.engine.outstanding <= 100);
    for (_, id, _) in held {
        world.answer(hog, "FIN", id, "");
    }
    assert!(world.bodies(hog).len() > 40, "both get on");
}

#[test]
fn a_sample_rate_drops_the_rest_for_good() {
    let mut world = filled(1000);
    let consumer = world.connect();
    world.send(consumer, &identify(r#"{"sample_rate":20}"#));
    world.send(consumer, b"SUB t c\nRDY 2000\n");
    world.settle();
    let messages = world.got(consumer).len() - 2;
    assert!((100..350).contains(&messages), "{messages}");
    let stats = &world.engine.topic_stats(None, None, true)[0].channels[0];
    assert_eq!((stats.depth, stats.in_flight_count), (0, messages as u64));
}

#[test]
fn a_finish_waits_for_a_commit_to_ride_with_also_after_a_flush() {
    let mut world = World::new();
    world.engine.flush();
    let consumer = world.consumer("t", "c", 1);
    world.engine.flush();
    let producer = world.connect();
    world.publish(producer, "t", "0");
    let id = world.messages(consumer)[0].1;
    let finish = format!("FIN {}\n", String::from_utf8(id.to_vec()).unwrap());
    world.send(consumer, finish.as_bytes());
    world.step();
    assert!(!world.commit(), "a page for a finish alone");
    world.engine.flush();
    assert!(world.commit());
    assert!(world.engine.is_idle());
}
