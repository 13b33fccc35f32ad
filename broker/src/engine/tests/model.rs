//! Random connections against a simple model: nothing unfinished is lost, nothing is with two
//! consumers of a channel at once.

use std::collections::{BTreeMap, BTreeSet};

use super::super::Random;
use super::*;

/// What the model knows of one channel: acknowledged bodies that are not finished, and who holds
/// what.
#[derive(Default)]
struct ModelChannel {
    unfinished: BTreeSet<String>,
    held: BTreeMap<ClientNo, BTreeMap<String, Held>>,
}

/// A delivery without an answer.
#[derive(Clone, Copy)]
struct Held {
    id: [u8; 16],
    since: Duration,
}

/// The message timeout, less what may pass between a delivery and the model's look at it.
const SURELY_HELD: Duration = Duration::from_secs(58);

struct Model {
    world: World,
    random: Random,
    channels: BTreeMap<&'static str, ModelChannel>,
    consumers: Vec<(ClientNo, &'static str)>,
    producers: Vec<ClientNo>,
    published: u32,
    steps: Vec<String>,
}

const CHANNELS: [&str; 2] = ["a", "b"];

impl Model {
    fn new(seed: u64) -> Model {
        let mut world = World::with(Settings {
            outstanding_max: 60,
            ..settings()
        });
        for name in CHANNELS {
            world.engine.precreate(&topic("t"), &channel(name)).unwrap();
        }
        world.settle();
        let producers = (0..3).map(|_| world.connect()).collect();
        Model {
            world,
            random: Random(seed | 1),
            channels: CHANNELS
                .iter()
                .map(|name| (*name, ModelChannel::default()))
                .collect(),
            consumers: Vec::new(),
            producers,
            published: 0,
            steps: Vec::new(),
        }
    }

    fn pick(&mut self, below: usize) -> usize {
        (self.random.next() % below as u64) as usize
    }

    fn step(&mut self) {
        match self.pick(20) {
            0..=5 => self.publish(),
            6..=11 => self.answer(),
            12 if self.consumers.len() < 6 => self.subscribe(),
            13 if self.consumers.len() > 1 => self.disconnect(),
            14 => {
                let ready = self.pick(12);
                if let Some((consumer, _)) = self.some_consumer() {
                    self.world
                        .send(consumer, format!("RDY {ready}\n").as_bytes());
                }
            }
            15 => {
                let time = self.pick(40) as u32;
                self.steps.push(format!("{time} s pass"));
                for _ in 0..time {
                    self.world.advance(SECOND);
                    self.collect();
                }
                self.keep_alive();
            }
            16 => {
                let paused = self.pick(2) == 0;
                let name = CHANNELS[self.pick(2)];
                self.world
                    .engine
                    .pause_channel(&topic("t"), &channel(name), paused)
                    .unwrap();
            }
            17 => {
                let paused = self.pick(2) == 0;
                self.world.engine.pause_topic(&topic("t"), paused).unwrap();
            }
            18 => {
                self.world.commit();
            }
            _ => self.world.step(),
        }
        if self.pick(3) == 0 {
            self.world.settle();
        }
        self.collect();
    }

    fn publish(&mut self) {
        let at = self.pick(3);
        let producer = self.producers[at];
        let count = 1 + self.pick(4);
        let bodies: Vec<String> = (0..count)
            .map(|_| {
                self.published += 1;
                self.published.to_string()
            })
            .collect();
        let texts: Vec<&str> = bodies.iter().map(String::as_str).collect();
        let command = match (self.pick(4), &texts[..]) {
            (0, [one, ..]) => publish_deferred("t", 3000, one),
            (1, [one, ..]) => publish("t", one),
            _ => publish_many("t", &texts),
        };
        let sent = if command.starts_with(b"MPUB") {
            bodies.len()
        } else {
            1
        };
        self.steps.push(format!("publish {:?}", &bodies[..sent]));
        self.world.send(producer, &command);
        // Nothing fails here, so what was taken will be acknowledged.
        for channel in self.channels.values_mut() {
            channel.unfinished.extend(bodies[..sent].iter().cloned());
        }
    }

    fn subscribe(&mut self) {
        let name = CHANNELS[self.pick(2)];
        let ready = 1 + self.pick(8) as u32;
        let consumer = self.world.connect();
        self.world
            .send(consumer, format!("SUB t {name}\nRDY {ready}\n").as_bytes());
        self.steps.push(format!("{consumer} consumes {name}"));
        self.consumers.push((consumer, name));
    }

    fn disconnect(&mut self) {
        let at = self.pick(self.consumers.len());
        let (consumer, name) = self.consumers.swap_remove(at);
        self.collect_one(consumer, name);
        self.world.drop_client(consumer);
        self.steps.push(format!("{consumer} is gone"));
        self.channels.get_mut(name).unwrap().held.remove(&consumer);
    }

    fn answer(&mut self) {
        let Some((consumer, name)) = self.some_consumer() else {
            return;
        };
        let Some(held) = self.channels[name].held.get(&consumer) else {
            return;
        };
        if held.is_empty() {
            return;
        }
        let held: Vec<_> = held
            .iter()
            .map(|(body, held)| (body.clone(), *held))
            .collect();
        let (body, Held { id, since }) = held[self.pick(held.len())].clone();
        if self.world.now - since >= SURELY_HELD {
            return;
        }
        let digits = String::from_utf8(id.to_vec()).unwrap();
        let (command, finished) = match self.pick(5) {
            0 => (format!("REQ {digits} 0\n"), false),
            1 => (format!("REQ {digits} 2500\n"), false),
            _ => (format!("FIN {digits}\n"), true),
        };
        self.steps
            .push(format!("{consumer} {} ({body})", command.trim_end()));
        let channel = self.channels.get_mut(name).unwrap();
        channel.held.get_mut(&consumer).unwrap().remove(&body);
        if finished {
            channel.unfinished.remove(&body);
        }
        self.world.send(consumer, command.as_bytes());
    }

    fn some_consumer(&mut self) -> Option<(ClientNo, &'static str)> {
        match self.consumers.len() {
            0 => None,
            len => {
                let at = self.pick(len);
                Some(self.consumers[at])
            }
        }
    }

    fn keep_alive(&mut self) {
        let all: Vec<ClientNo> = self
            .consumers
            .iter()
            .map(|c| c.0)
            .chain(self.producers.iter().copied())
            .collect();
        for client in all {
            self.world.send(client, b"NOP\n");
        }
    }

    fn collect(&mut self) {
        for (consumer, name) in self.consumers.clone() {
            self.collect_one(consumer, name);
        }
    }

    fn collect_one(&mut self, consumer: ClientNo, name: &'static str) {
        for got in self.world.got(consumer) {
            match got {
                Got::Message { id, body, .. } => {
                    let channel = self.channels.get_mut(name).unwrap();
                    assert!(
                        channel.unfinished.contains(&body),
                        "{name}: {body} was finished; {:#?}",
                        self.steps
                    );
                    for (holder, held) in &mut channel.held {
                        let Some(Held { since, .. }) = held.remove(&body) else {
                            continue;
                        };
                        assert!(
                            self.world.now - since >= SURELY_HELD,
                            "{name}: {body} is with {holder} and {consumer}; {:#?}",
                            self.steps
                        );
                    }
                    channel.held.entry(consumer).or_default().insert(
                        body.clone(),
                        Held {
                            id,
                            since: self.world.now,
                        },
                    );
                    self.steps.push(format!("{consumer} of {name} got {body}"));
                }
                Got::Response(_) => {}
                Got::Error(text) => panic!("{text}; {:#?}", self.steps),
            }
        }
    }

    /// The engine's own view: no message is twice in flight, and everybody is within the bounds.
    fn check(&self) {
        let mut in_flight = BTreeSet::new();
        for (no, session) in self.world.engine.sessions.iter() {
            let mut chain = self
                .world
                .engine
                .in_flight
                .ids_for_tests(&session.in_flight);
            chain.sort();
            for id in chain {
                assert!(
                    in_flight.insert((session.channel, id)),
                    "{no:?}: {id:?} is twice in flight"
                );
            }
        }
        let channels = self.world.engine.catalogue.channels.values();
        let outstanding: usize = channels.map(|channel| channel.outstanding()).sum();
        assert_eq!(outstanding, self.world.engine.outstanding);
        assert!(outstanding <= 60);
        assert_eq!(in_flight.len(), self.world.engine.in_flight.len());
    }

    /// Everything unfinished reaches consumers that finish at once.
    fn drain(mut self, seed: u64) {
        self.world.engine.pause_topic(&topic("t"), false).unwrap();
        for name in CHANNELS {
            self.world
                .engine
                .pause_channel(&topic("t"), &channel(name), false)
                .unwrap();
        }
        for (consumer, name) in std::mem::take(&mut self.consumers) {
            self.collect_one(consumer, name);
            self.world.drop_client(consumer);
            self.channels.get_mut(name).unwrap().held.clear();
        }
        for name in CHANNELS {
            let consumer = self.world.consumer("t", name, 10);
            for _ in 0..200 {
                for (body, id, _) in
                    self.world
                        .got(consumer)
                        .into_iter()
                        .filter_map(|got| match got {
                            Got::Message { id, body, attempts } => Some((body, id, attempts)),
                            _ => None,
                        })
                {
                    let known = self
                        .channels
                        .get_mut(name)
                        .unwrap()
                        .unfinished
                        .remove(&body);
                    assert!(
                        known,
                        "seed {seed:#x}: {name} delivers {body} twice or after its end"
                    );
                    self.world.answer(consumer, "FIN", id, "");
                }
                self.world.advance(SECOND);
                self.world.say(consumer, "NOP");
            }
            let left = &self.channels[name].unfinished;
            assert!(
                left.is_empty(),
                "seed {seed:#x}: {name} never delivered {left:?}"
            );
            self.world.drop_client(consumer);
        }
        assert_eq!(self.world.engine.outstanding, 0);
    }
}

#[test]
fn nothing_unfinished_is_lost_and_nothing_is_with_two_consumers_at_once() {
    for seed in 1..=60_u64 {
        let mut model = Model::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        for _ in 0..300 {
            model.step();
            model.check();
        }
        model.drain(seed);
    }
}
