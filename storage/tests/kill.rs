//! A real process with a real thread for its writes, killed while it publishes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use storage::disk::LinuxDisk;
use storage::{Cursor, Options, Stamp, Store, Ticket, TopicNo, Worker};

const DIR: &str = "STORAGE_KILL_DIR";
const ROUND: &str = "STORAGE_KILL_ROUND";
const TOPICS: [&str; 2] = ["clicks", "views"];
const CHANNELS: [&str; 2] = ["uplink", "count"];

fn options() -> Options {
    Options {
        ring_bytes: 256 * 1024,
        segment_bytes: 1 << 20,
        message_bytes_max: 64 * 1024,
        ..Options::default()
    }
}

fn open(dir: &Path) -> (Arc<LinuxDisk>, Store<LinuxDisk>) {
    let disk = Arc::new(LinuxDisk::open(dir).unwrap());
    let (store, _) = Store::open(disk.clone(), options(), 7, at(1)).unwrap();
    (disk, store)
}

/// A clock that ticks when it is asked for: a millisecond a turn.
fn at(turn: u64) -> Stamp {
    Stamp {
        now: Duration::from_millis(turn),
        wall_ns: turn as i64,
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Publishes until it is killed; a line for each message that is acknowledged.
#[test]
#[ignore = "the program that the next test starts and kills"]
fn child() {
    let (dir, round) = (std::env::var(DIR).unwrap(), std::env::var(ROUND).unwrap());
    let (disk, mut store) = open(Path::new(&dir));
    let mut worker = Worker::spawn(disk).unwrap();
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut topics = Vec::new();
    for topic in TOPICS {
        let (number, _) = store.create_topic(topic, true).unwrap();
        for channel in CHANNELS {
            store.create_channel(number, channel, true).unwrap();
        }
        topics.push(number);
    }
    let mut waiting: Vec<(Ticket, Vec<String>)> = Vec::new();
    for turn in 2.. {
        publish(
            &mut store,
            &topics,
            &format!("{round}-{turn:08}"),
            turn,
            &mut waiting,
        );
        let Some(job) = store.poll_job(at(turn).now) else {
            continue;
        };
        worker.submit(job);
        let done = loop {
            match worker.poll_done(&mut Context::from_waker(&waker)) {
                Poll::Ready(done) => break done,
                Poll::Pending => std::thread::park(),
            }
        };
        let Some(outcome) = store.handle_done(at(turn).now, done) else {
            continue;
        };
        outcome.result.unwrap();
        let mut out = std::io::stdout().lock();
        for (_, bodies) in waiting.extract_if_at_most(outcome.through) {
            bodies
                .iter()
                .for_each(|body| writeln!(out, "acknowledged {body};").unwrap());
        }
        out.flush().unwrap();
    }
}

fn publish(
    store: &mut Store<LinuxDisk>,
    topics: &[TopicNo],
    name: &str,
    turn: u64,
    waiting: &mut Vec<(Ticket, Vec<String>)>,
) {
    let topic = topics[turn as usize % 2];
    // One batch in twenty is larger than a sixteenth of the ring.
    let (count, size) = if turn % 20 == 0 {
        (12, 2000)
    } else {
        (turn % 3 + 1, 100)
    };
    let bodies: Vec<String> = (0..count)
        .map(|nth| {
            format!(
                "{}-{name}-{nth}-{}",
                TOPICS[turn as usize % 2],
                "x".repeat(size)
            )
        })
        .collect();
    let bytes = bodies.iter().map(|body| body.as_bytes());
    let ticket = store
        .publish(topic, bytes, Duration::ZERO, at(turn))
        .unwrap();
    waiting.push((ticket, bodies));
}

trait AtMost {
    fn extract_if_at_most(&mut self, through: Ticket) -> Vec<(Ticket, Vec<String>)>;
}

impl AtMost for Vec<(Ticket, Vec<String>)> {
    fn extract_if_at_most(&mut self, through: Ticket) -> Vec<(Ticket, Vec<String>)> {
        let split = self.partition_point(|(ticket, _)| *ticket <= through);
        self.drain(..split).collect()
    }
}

/// Every body that each channel delivers, once, with its id.
fn delivered(dir: &Path) -> BTreeMap<String, BTreeMap<String, u64>> {
    let (_disk, mut store) = open(dir);
    let topics: Vec<_> = store
        .topics()
        .map(|topic| (topic.no, topic.name.to_owned()))
        .collect();
    let mut all = BTreeMap::new();
    for (number, topic) in topics {
        let channels: Vec<_> = store
            .channels(number)
            .map(|c| (c.no, c.name.to_owned(), c.floor))
            .collect();
        for (number, channel, floor) in channels {
            let mut cursor = Cursor::new(floor);
            let mut bodies = BTreeMap::new();
            while let Some(message) = store.next(number, &mut cursor).unwrap() {
                let body = String::from_utf8(message.body.to_vec()).unwrap();
                assert!(body.starts_with(&topic), "{topic}: {body}");
                assert_eq!(bodies.insert(body, message.id.0), None);
            }
            let ids: BTreeSet<u64> = bodies.values().copied().collect();
            assert_eq!(ids.len(), bodies.len());
            all.insert(format!("{topic}/{channel}"), bodies);
        }
    }
    all
}

/// The body in a line that was not cut short. libtest writes a name without an end of line before the first.
fn acknowledgement(line: &str) -> Option<String> {
    let (_, body) = line.split_once("acknowledged ")?;
    body.strip_suffix(';').map(str::to_owned)
}

#[test]
fn a_process_that_is_killed_again_and_again_loses_nothing_that_it_acknowledged() {
    let temp = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeSet::new();
    for round in 0..5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child", "--exact", "--ignored", "--nocapture"])
            .envs([
                (DIR, temp.path().as_os_str()),
                (ROUND, round.to_string().as_ref()),
            ])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut count = 0;
        while count < 300 + 150 * round {
            let line = lines
                .next()
                .expect("the child ends before it is killed")
                .unwrap();
            if let Some(body) = acknowledgement(&line) {
                acknowledged.insert(body);
                count += 1;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let rest = lines.map_while(Result::ok);
        acknowledged.extend(rest.filter_map(|line| acknowledgement(&line)));
        for (channel, bodies) in delivered(temp.path()) {
            for body in &acknowledged {
                let mine = body.starts_with(channel.split('/').next().unwrap());
                assert!(
                    !mine || bodies.contains_key(body),
                    "round {round}: {channel} lost {body}"
                );
            }
        }
    }
}
