//! Power cuts: what was acknowledged and not finished comes again, under its name.

use std::collections::{BTreeMap, BTreeSet};

use storage::disk::CrashPolicy;

use super::super::Random;
use super::*;

/// What one life of the broker told its clients.
#[derive(Default)]
struct Known {
    sent: BTreeSet<String>,
    acknowledged: BTreeSet<String>,
    finished: BTreeSet<String>,
    /// The id under which a body was delivered.
    ids: BTreeMap<String, [u8; 16]>,
}

impl Known {
    fn delivered(&mut self, got: Vec<Got>) -> Vec<(String, [u8; 16])> {
        let mut messages = Vec::new();
        for got in got {
            let Got::Message { id, body, .. } = got else {
                continue;
            };
            assert!(self.sent.contains(&body), "{body} was never published");
            let known = *self.ids.entry(body.clone()).or_insert(id);
            assert_eq!(known, id, "{body} has changed its id");
            messages.push((body, id));
        }
        messages
    }
}

/// Publishes, deliveries and finishes in random order, commits now and then, up to a moment within.
fn live(world: &mut World, known: &mut Known, random: &mut Random, life: u32) {
    let producer = world.connect();
    let consumer = world.connect();
    world.send(consumer, b"SUB t c\nRDY 20\n");
    let mut waiting: Vec<Vec<String>> = Vec::new();
    for step in 0..60 {
        match random.next() % 4 {
            0 => {
                let bodies: Vec<String> = (0..1 + random.next() % 4)
                    .map(|at| format!("{life}.{step}.{at}"))
                    .collect();
                let texts: Vec<&str> = bodies.iter().map(String::as_str).collect();
                world.send(producer, &publish_many("t", &texts));
                known.sent.extend(bodies.iter().cloned());
                waiting.push(bodies);
            }
            1 => {
                world.commit();
            }
            2 => world.now += Duration::from_millis(3),
            _ => world.step(),
        }
        for got in world.got(producer) {
            assert_eq!(got, ok());
            known.acknowledged.extend(waiting.remove(0));
        }
        let got = world.got(consumer);
        for (body, id) in known.delivered(got) {
            let id = String::from_utf8(id.to_vec()).unwrap();
            let answer = match random.next() % 3 {
                0 => continue,
                1 => format!("REQ {id} 0\n"),
                _ => {
                    known.finished.insert(body);
                    format!("FIN {id}\n")
                }
            };
            world.send(consumer, answer.as_bytes());
        }
    }
}

#[test]
fn what_is_acknowledged_and_not_finished_comes_again_after_power_cuts() {
    for seed in 1..=12_u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut world = World::new();
        world.engine.precreate(&topic("t"), &channel("c")).unwrap();
        world.settle();
        let mut known = Known::default();
        for life in 0..4 {
            live(&mut world, &mut known, &mut random, life);
            let policy = match random.next() % 3 {
                0 => CrashPolicy::LoseAll,
                1 => CrashPolicy::KeepAll,
                _ => CrashPolicy::Subset(random.next()),
            };
            world.power_cut(policy);
        }
        let consumer = world.consumer("t", "c", 2000);
        let got = world.got(consumer);
        let again: BTreeSet<String> = known
            .delivered(got)
            .into_iter()
            .map(|(body, _)| body)
            .collect();
        let owed: BTreeSet<String> = known
            .acknowledged
            .difference(&known.finished)
            .cloned()
            .collect();
        let lost: Vec<_> = owed.difference(&again).collect();
        assert!(
            lost.is_empty(),
            "seed {seed}: {lost:?} of {} are lost",
            owed.len()
        );
    }
}
