//! The engine in virtual time: scripted connections, a simulated disk, no sockets.

mod delivery;
mod hostile;
mod model;
mod publishing;
mod recovery;
mod sessions;

use std::sync::Arc;
use std::time::Duration;

use protocol::frame::{self, Frame};
use protocol::names::{ChannelName, TopicName};
use storage::Stamp;
use storage::disk::FaultyDisk;

use super::{Engine, Flow, Next, SessionNo, Settings};

pub(super) const SECOND: Duration = Duration::from_secs(1);

/// A frame as a client keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Got {
    Response(String),
    Error(String),
    Message {
        id: [u8; 16],
        attempts: u16,
        body: String,
    },
}

pub(super) struct World {
    pub(super) engine: Engine<FaultyDisk>,
    pub(super) disk: Arc<FaultyDisk>,
    pub(super) now: Duration,
    clients: Vec<Client>,
}

/// A connection: what it sent and the engine did not take yet.
struct Client {
    no: SessionNo,
    sent: Vec<u8>,
    received: Vec<u8>,
    pub(super) reads: bool,
    flow: Flow,
    next: Next,
}

pub(super) type ClientNo = usize;

pub(super) fn settings() -> Settings {
    Settings {
        bounds: protocol::command::Bounds::default(),
        ranges: protocol::identify::Ranges::default(),
        connections_max: 32,
        outstanding_max: 1024,
        pool_bytes: 8 << 20,
        lookups: false,
    }
}

/// Settings with a body pool of `bytes` and commands of at most `command_bytes`.
pub(super) fn small_pool(bytes: usize, command_bytes: u32) -> Settings {
    let mut settings = settings();
    settings.pool_bytes = bytes;
    settings.bounds.message_bytes_max = command_bytes;
    settings.bounds.body_bytes_max = command_bytes;
    settings
}

impl World {
    pub(super) fn new() -> World {
        World::with(settings())
    }

    pub(super) fn with(settings: Settings) -> World {
        World::open(settings, FaultyDisk::new(), SECOND)
    }

    fn open(settings: Settings, disk: FaultyDisk, now: Duration) -> World {
        let disk = Arc::new(disk);
        let stamp = Stamp {
            now,
            wall_ns: 1_700_000_000_000_000_000,
        };
        let options = storage::Options {
            ring_bytes: 1 << 20,
            topics_max: 64,
            channels_max: 256,
            outstanding_max: settings.outstanding_max as u32,
            ..storage::Options::default()
        };
        let (engine, _) = Engine::open(Arc::clone(&disk), options, settings, 7, stamp).unwrap();
        World {
            engine,
            disk,
            now: stamp.now,
            clients: Vec::new(),
        }
    }

    pub(super) fn stamp(&self) -> Stamp {
        Stamp {
            now: self.now,
            wall_ns: 1_700_000_000_000_000_000 + self.now.as_nanos() as i64,
        }
    }

    /// The power goes, and the broker starts again on what is left.
    pub(super) fn power_cut(&mut self, policy: storage::disk::CrashPolicy) {
        let disk = self.disk.crash(policy);
        *self = World::open(self.engine.settings.clone(), disk, self.now + SECOND);
    }

    /// A connection that has sent its magic.
    pub(super) fn connect(&mut self) -> ClientNo {
        let client = self.connect_raw();
        self.send(client, b"  V2");
        client
    }

    pub(super) fn connect_raw(&mut self) -> ClientNo {
        let no = self.engine.connect("10.0.0.1:5000", self.stamp()).unwrap();
        self.clients.push(Client {
            no,
            sent: Vec::new(),
            received: Vec::new(),
            reads: true,
            flow: Flow::Open,
            next: Next::Read(0),
        });
        self.clients.len() - 1
    }

    /// A consumer of `topic`/`channel` with a window; its `OK` is taken.
    pub(super) fn consumer(&mut self, topic: &str, channel: &str, ready: u32) -> ClientNo {
        let client = self.connect();
        self.send(
            client,
            format!("SUB {topic} {channel}\nRDY {ready}\n").as_bytes(),
        );
        self.settle();
        let received = &mut self.clients[client].received;
        assert!(
            received.starts_with(frame::OK_FRAME),
            "SUB is answered first: {received:?}"
        );
        received.drain(..frame::OK_FRAME.len());
        client
    }

    /// Bytes arrive; commits are not driven.
    pub(super) fn send(&mut self, client: ClientNo, bytes: &[u8]) {
        self.clients[client].sent.extend_from_slice(bytes);
        self.serve(client);
    }

    /// Sends and lets everything settle.
    pub(super) fn say(&mut self, client: ClientNo, line: &str) {
        self.send(client, format!("{line}\n").as_bytes());
        self.settle();
    }

    pub(super) fn publish(&mut self, client: ClientNo, topic: &str, body: &str) {
        self.send(client, &publish(topic, body));
        self.settle();
    }

    /// As one connection's task does: input, then output.
    fn serve(&mut self, client: ClientNo) {
        let stamp = self.stamp();
        let Some(state) = self.clients.get_mut(client) else {
            return;
        };
        loop {
            let progress = self.engine.input(state.no, stamp, &state.sent);
            state.sent.drain(..progress.consumed);
            state.next = progress.next;
            if progress.next != Next::Yield {
                break;
            }
        }
        if !state.reads || state.flow != Flow::Open {
            return;
        }
        loop {
            let mut output = Vec::new();
            state.flow = self.engine.take_output(state.no, self.now, &mut output);
            if output.is_empty() {
                break;
            }
            state.received.extend_from_slice(&output);
        }
    }

    /// Serves who was woken and delivers, without commits.
    pub(super) fn step(&mut self) {
        for _ in 0..10_000 {
            let more = self.engine.deliver(self.now);
            let Some(no) = self.engine.poll_woken() else {
                if more {
                    continue;
                }
                return;
            };
            if let Some(client) = self.clients.iter().position(|client| client.no == no) {
                self.serve(client);
            }
        }
        panic!("never quiet");
    }

    /// One job of the store, if it has one.
    pub(super) fn commit(&mut self) -> bool {
        let Some(job) = self.engine.poll_job(self.now) else {
            return false;
        };
        let done = storage::run_job(&*self.disk, job);
        self.engine.handle_done(self.now, done);
        true
    }

    /// Everything that can happen at this time.
    pub(super) fn settle(&mut self) {
        for _ in 0..10_000 {
            self.step();
            if self.commit() {
                continue;
            }
            match self.engine.poll_store_timeout() {
                // The store gathers a moment.
                Some(at) if at > self.now && at < self.now + SECOND => self.now = at,
                Some(at) if at <= self.now => {}
                _ => return self.step(),
            }
        }
        panic!("never quiet");
    }

    /// Lets time pass, timer by timer.
    pub(super) fn advance(&mut self, time: Duration) {
        let end = self.now + time;
        self.settle();
        while let Some(at) = self.engine.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.engine.handle_timeout(self.now);
            self.settle();
        }
        self.now = self.now.max(end);
        self.settle();
    }

    /// The peer's side is gone.
    pub(super) fn drop_client(&mut self, client: ClientNo) {
        self.engine.disconnect(self.clients[client].no, self.now);
        self.clients[client].no = SessionNo(u32::MAX);
    }

    pub(super) fn stop_reading(&mut self, client: ClientNo) {
        self.clients[client].reads = false;
    }

    pub(super) fn flow(&self, client: ClientNo) -> Flow {
        self.clients[client].flow
    }

    /// Whether the engine refuses to take more of its input for now.
    pub(super) fn waits(&self, client: ClientNo) -> bool {
        self.clients[client].next == Next::Wait
    }

    pub(super) fn raw(&mut self, client: ClientNo) -> Vec<u8> {
        std::mem::take(&mut self.clients[client].received)
    }

    /// The frames that came since the last call.
    pub(super) fn got(&mut self, client: ClientNo) -> Vec<Got> {
        let bytes = self.raw(client);
        let mut rest = &bytes[..];
        let mut got = Vec::new();
        while !rest.is_empty() {
            let protocol::Progress::Done { value, consumed } =
                frame::decode(rest, u32::MAX).unwrap()
            else {
                panic!("half a frame: {rest:?}");
            };
            rest = &rest[consumed..];
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            got.push(match value {
                Frame::Response(data) => Got::Response(text(data)),
                Frame::Error(data) => Got::Error(text(data)),
                Frame::Message(message) => Got::Message {
                    id: message.id.0,
                    attempts: message.attempts,
                    body: text(message.body),
                },
            });
        }
        got
    }

    /// The bodies of the messages that came, with their ids; anything else fails the test.
    pub(super) fn messages(&mut self, client: ClientNo) -> Vec<(String, [u8; 16], u16)> {
        let got = self.got(client);
        got.into_iter()
            .map(|got| match got {
                Got::Message { id, attempts, body } => (body, id, attempts),
                other => panic!("{other:?} instead of a message"),
            })
            .collect()
    }

    pub(super) fn bodies(&mut self, client: ClientNo) -> Vec<String> {
        self.messages(client)
            .into_iter()
            .map(|(body, _, _)| body)
            .collect()
    }

    pub(super) fn answer(&mut self, client: ClientNo, verb: &str, id: [u8; 16], rest: &str) {
        let id = String::from_utf8(id.to_vec()).unwrap();
        self.say(client, &format!("{verb} {id}{rest}"));
    }
}

pub(super) fn publish(topic: &str, body: &str) -> Vec<u8> {
    let mut command = format!("PUB {topic}\n").into_bytes();
    command.extend_from_slice(&(body.len() as u32).to_be_bytes());
    command.extend_from_slice(body.as_bytes());
    command
}

pub(super) fn publish_deferred(topic: &str, millis: u64, body: &str) -> Vec<u8> {
    let mut command = format!("DPUB {topic} {millis}\n").into_bytes();
    command.extend_from_slice(&(body.len() as u32).to_be_bytes());
    command.extend_from_slice(body.as_bytes());
    command
}

pub(super) fn publish_many(topic: &str, bodies: &[&str]) -> Vec<u8> {
    let mut items = (bodies.len() as u32).to_be_bytes().to_vec();
    for body in bodies {
        items.extend_from_slice(&(body.len() as u32).to_be_bytes());
        items.extend_from_slice(body.as_bytes());
    }
    let mut command = format!("MPUB {topic}\n").into_bytes();
    command.extend_from_slice(&(items.len() as u32).to_be_bytes());
    command.extend_from_slice(&items);
    command
}

pub(super) fn identify(json: &str) -> Vec<u8> {
    let mut command = b"IDENTIFY\n".to_vec();
    command.extend_from_slice(&(json.len() as u32).to_be_bytes());
    command.extend_from_slice(json.as_bytes());
    command
}

pub(super) fn ok() -> Got {
    Got::Response("OK".into())
}

pub(super) fn error(text: &str) -> Got {
    Got::Error(text.into())
}

pub(super) fn topic(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

pub(super) fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).unwrap()
}
