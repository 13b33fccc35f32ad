//! The registry's rules.

use super::*;

const LIFETIMES: Lifetimes = Lifetimes {
    inactive_producer_timeout: Duration::from_secs(300),
    tombstone_lifetime: Duration::from_secs(45),
};
const START: Duration = Duration::from_secs(1000);

fn registry() -> Registry {
    Registry::new(LIFETIMES, 1000)
}

fn broker(registry: &mut Registry, name: &str) -> PeerId {
    let info = PeerInfo {
        broadcast_address: name.to_owned(),
        hostname: name.to_owned(),
        tcp_port: 4150,
        http_port: 4151,
        version: "1.3.0".to_owned(),
    };
    registry.add_peer(info, format!("10.0.0.1:{name}"), START)
}

fn found(registry: &Registry, topic: &str, now: Duration) -> Vec<String> {
    let answer = registry.lookup(topic, now).unwrap();
    answer
        .producers
        .into_iter()
        .map(|producer| producer.broadcast_address)
        .collect()
}

/// What `entries` should be.
fn counted(registry: &Registry) -> usize {
    registry.topics.values().map(Topic::entries).sum()
}

#[test]
fn a_channel_registers_its_topic_and_names_outlive_their_brokers() {
    let mut registry = registry();
    let a = broker(&mut registry, "a");
    registry.register(a, "t", Some("c")).unwrap();
    assert_eq!(found(&registry, "t", START), ["a"]);
    assert_eq!(registry.channels("t"), ["c"]);
    registry.remove_peer(a);
    assert_eq!(registry.topics(), ["t"]);
    assert_eq!(registry.channels("t"), ["c"]);
    assert!(found(&registry, "t", START).is_empty());
    assert!(registry.nodes(START).is_empty());
    assert_eq!(registry.lookup("u", START), None);
    assert_eq!(registry.entries(), counted(&registry));
}

#[test]
fn unregistering_a_topic_takes_the_broker_from_its_channels_too() {
    let mut registry = registry();
    let (a, b) = (broker(&mut registry, "a"), broker(&mut registry, "b"));
    registry.register(a, "t", Some("c")).unwrap();
    registry.register(b, "t", None).unwrap();
    registry.unregister(a, "t", None);
    assert_eq!(found(&registry, "t", START), ["b"]);
    assert_eq!(registry.channels("t"), ["c"]);
    assert!(!registry.debug(START, 0).contains_key("channel:t:c"));
    registry.unregister(a, "unknown", Some("c"));
    assert_eq!(registry.entries(), counted(&registry));
}

#[test]
fn ephemeral_names_go_with_their_last_broker() {
    let mut registry = registry();
    let (a, b) = (broker(&mut registry, "a"), broker(&mut registry, "b"));
    for id in [a, b] {
        registry.register(id, "t", Some("c#ephemeral")).unwrap();
        registry.register(id, "e#ephemeral", Some("c")).unwrap();
    }
    registry.unregister(a, "t", Some("c#ephemeral"));
    assert_eq!(registry.channels("t"), ["c#ephemeral"]);
    registry.unregister(b, "t", Some("c#ephemeral"));
    assert!(registry.channels("t").is_empty());
    registry.unregister(a, "e#ephemeral", None);
    assert_eq!(registry.topics(), ["e#ephemeral", "t"]);
    registry.remove_peer(b);
    assert_eq!(registry.topics(), ["t"]);
    assert_eq!(registry.entries(), counted(&registry));
}

#[test]
fn a_broker_that_does_not_ping_is_hidden_until_it_does() {
    let mut registry = registry();
    let a = broker(&mut registry, "a");
    registry.register(a, "t", None).unwrap();
    let late = START + LIFETIMES.inactive_producer_timeout;
    assert_eq!(found(&registry, "t", late), ["a"]);
    let too_late = late + Duration::from_nanos(1);
    assert!(found(&registry, "t", too_late).is_empty());
    assert!(registry.nodes(too_late).is_empty());
    registry.touch(a, too_late);
    assert_eq!(found(&registry, "t", too_late), ["a"]);
}

#[test]
fn a_tombstone_hides_one_broker_of_one_topic_for_its_lifetime() {
    let mut registry = registry();
    let (a, b) = (broker(&mut registry, "a"), broker(&mut registry, "b"));
    for id in [a, b] {
        registry.register(id, "t", Some("c")).unwrap();
        registry.register(id, "u", None).unwrap();
    }
    registry.tombstone("t", "a:4151", START);
    registry.tombstone("t", "nobody:1", START);
    registry.tombstone("unknown", "a:4151", START);
    assert_eq!(found(&registry, "t", START), ["b"]);
    assert_eq!(found(&registry, "u", START), ["a", "b"]);
    let nodes = registry.nodes(START);
    assert_eq!(nodes[0].topics, ["t", "u"]);
    assert_eq!(nodes[0].tombstones, [true, false]);
    assert_eq!(nodes[1].tombstones, [false, false]);
    // Registering again does not lift it, its age does, and so does unregistering.
    registry.register(a, "t", Some("c2")).unwrap();
    assert_eq!(found(&registry, "t", START), ["b"]);
    assert_eq!(
        found(&registry, "t", START + LIFETIMES.tombstone_lifetime),
        ["a", "b"]
    );
    registry.unregister(a, "t", None);
    registry.register(a, "t", None).unwrap();
    assert_eq!(found(&registry, "t", START), ["a", "b"]);
}

#[test]
fn what_an_operator_creates_has_no_broker_and_what_he_deletes_comes_back_with_the_next() {
    let mut registry = registry();
    registry.create_topic("t").unwrap();
    registry.create_channel("u", "c").unwrap();
    assert_eq!(registry.topics(), ["t", "u"]);
    assert_eq!(registry.channels("u"), ["c"]);
    assert!(!registry.delete_channel("u", "nothing"));
    assert!(!registry.delete_channel("nothing", "c"));
    assert!(registry.delete_channel("u", "c"));
    let a = broker(&mut registry, "a");
    registry.register(a, "u", Some("c")).unwrap();
    registry.delete_topic("u");
    registry.delete_topic("nothing");
    assert_eq!(registry.topics(), ["t"]);
    assert!(registry.nodes(START)[0].topics.is_empty());
    registry.register(a, "u", None).unwrap();
    assert_eq!(found(&registry, "u", START), ["a"]);
    assert!(registry.channels("u").is_empty());
    assert_eq!(registry.entries(), counted(&registry));
}

#[test]
fn the_table_is_bounded_and_a_refusal_changes_nothing() {
    let mut registry = Registry::new(LIFETIMES, 4);
    let a = broker(&mut registry, "a");
    registry.register(a, "t", None).unwrap(); // topic, broker
    registry.create_topic("u").unwrap();
    assert_eq!(
        registry.register(a, "t", Some("c")),
        Err(Full { entries_max: 4 })
    );
    assert!(registry.channels("t").is_empty());
    registry.create_topic("v").unwrap();
    assert!(registry.create_topic("w").is_err());
    registry.register(a, "t", None).unwrap(); // known already
    registry.delete_topic("u");
    registry.create_topic("w").unwrap();
    assert_eq!((registry.entries(), counted(&registry)), (4, 4));
}

#[test]
fn the_count_of_entries_is_right_after_any_actions() {
    const TOPICS: [&str; 3] = ["t", "u", "e#ephemeral"];
    const CHANNELS: [Option<&str>; 3] = [None, Some("c"), Some("d#ephemeral")];
    let mut random = 0x9e37_79b9_7f4a_7c15_u64; // xorshift, seeded: the same every time
    let mut next = move |bound: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % bound as u64) as usize
    };
    let mut registry = Registry::new(LIFETIMES, 12);
    let mut peers = Vec::new();
    for _ in 0..20_000 {
        let (topic, channel) = (TOPICS[next(3)], CHANNELS[next(3)]);
        let peer = (!peers.is_empty()).then(|| peers[next(peers.len())]);
        match (next(8), peer) {
            (0, _) if peers.len() < 4 => peers.push(broker(&mut registry, "a")),
            (1, Some(id)) => {
                registry.remove_peer(id);
                peers.retain(|known| *known != id);
            }
            (2 | 3, Some(id)) => registry.unregister(id, topic, channel),
            (4, _) => registry.delete_topic(topic),
            (5, _) => drop(registry.delete_channel(topic, channel.unwrap_or("c"))),
            (6, _) => drop(registry.create_channel(topic, channel.unwrap_or("c"))),
            (_, Some(id)) => drop(registry.register(id, topic, channel)),
            _ => {}
        }
        assert_eq!(registry.entries(), counted(&registry));
        assert!(registry.entries() <= 12);
    }
}
