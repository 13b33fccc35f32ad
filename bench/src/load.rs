//! Producers and consumers that cost their side little: commands encoded beforehand, one read for many frames, one
//! write for many answers.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use protocol::frame::{self, Frame};
use protocol::{MAGIC_V2, Progress, encode};

/// Nothing for this long is a hang. Above the servers' heartbeat interval of 30 s.
const PATIENCE: Duration = Duration::from_secs(120);
const BUFFER_BYTES: usize = 256 * 1024;
const FRAME_BYTES_MAX: u32 = 8 << 20;

/// A connection of NSQ's protocol.
pub struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    start: usize,
    end: usize,
    output: Vec<u8>,
}

/// What a frame was.
enum Got {
    Answer,
    Heartbeat,
    Message,
}

impl Client {
    /// Connects.
    pub fn connect(to: SocketAddr) -> Client {
        Client::on(TcpStream::connect(to).unwrap())
    }

    /// On a connection that is there.
    pub fn on(mut stream: TcpStream) -> Client {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(MAGIC_V2).unwrap();
        Client {
            stream,
            input: vec![0; BUFFER_BYTES],
            start: 0,
            end: 0,
            output: Vec::new(),
        }
    }

    /// A connection that only waits: with a buffer for an answer or a heartbeat, so that hundreds cost little.
    pub fn small(to: SocketAddr) -> Client {
        let mut client = Client::connect(to);
        client.input = vec![0; 512];
        client
    }

    /// IDENTIFY without output buffering: nsqd otherwise holds a message back for 250 ms.
    pub fn identify_unbuffered(&mut self) {
        let json = br#"{"output_buffer_size":-1,"output_buffer_timeout":-1}"#;
        encode::identify(json, &mut self.output);
        self.flush();
        self.answers(1);
    }

    /// Sends these bytes.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Waits for this many `OK`s.
    pub fn answers(&mut self, count: usize) {
        let mut left = count;
        while left > 0 {
            match self.next() {
                Got::Answer => left -= 1,
                Got::Heartbeat => self.flush(),
                Got::Message => panic!("a message before an answer"),
            }
        }
    }

    /// SUB and RDY.
    pub fn subscribe(&mut self, topic: &str, channel: &str, ready: u32) {
        encode::subscribe(topic, channel, &mut self.output);
        self.flush();
        self.answers(1);
        encode::ready(ready, &mut self.output);
        self.flush();
    }

    /// Takes this many messages and finishes each.
    pub fn consume(&mut self, count: u64) {
        let mut left = count;
        while left > 0 {
            // What one read brought is finished with one write.
            if self.start == self.end {
                self.flush();
            }
            if matches!(self.next(), Got::Message) {
                left -= 1;
            }
        }
        self.flush();
    }

    /// Waits for a message; it stays in flight.
    pub fn message(&mut self) {
        while !matches!(self.next(), Got::Message) {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.stream.write_all(&self.output).unwrap();
        self.output.clear();
    }

    fn next(&mut self) -> Got {
        loop {
            let have = &self.input[self.start..self.end];
            match frame::decode(have, FRAME_BYTES_MAX).unwrap() {
                Progress::Done { value, consumed } => {
                    self.start += consumed;
                    return match value {
                        Frame::Message(message) => {
                            encode::finish(message.id, &mut self.output);
                            Got::Message
                        }
                        Frame::Response(b"_heartbeat_") => {
                            encode::nop(&mut self.output);
                            Got::Heartbeat
                        }
                        Frame::Response(_) => Got::Answer,
                        Frame::Error(text) => panic!("{}", String::from_utf8_lossy(text)),
                    };
                }
                Progress::NeedBytes { .. } => {
                    self.flush();
                    self.fill();
                }
            }
        }
    }

    fn fill(&mut self) {
        self.input.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.end == self.input.len() {
            self.input.resize(2 * self.end, 0);
        }
        let count = self.stream.read(&mut self.input[self.end..]).unwrap();
        assert!(count > 0, "the server closed the connection");
        self.end += count;
    }
}

/// One PUB.
pub fn publish_command(topic: &str, body: &[u8]) -> Vec<u8> {
    let mut command = Vec::new();
    encode::publish(topic, body, &mut command);
    command
}

/// MPUBs of `batch` bodies each; the last has what is left.
pub fn batches(
    topic: &str,
    bodies: impl Iterator<Item = Vec<u8>>,
    count: u64,
    batch: usize,
) -> Vec<Vec<u8>> {
    let mut bodies = bodies.take(usize::try_from(count).unwrap()).peekable();
    let mut commands = Vec::new();
    while bodies.peek().is_some() {
        let mut command = Vec::new();
        encode::publish_many(topic, bodies.by_ref().take(batch), &mut command);
        commands.push(command);
    }
    commands
}

/// Sends all commands over `connections` connections, each with up to `window` of them unanswered.
pub fn publish(to: SocketAddr, commands: &[Vec<u8>], connections: usize, window: usize) {
    let share = commands.len().div_ceil(connections).max(1);
    thread::scope(|scope| {
        for commands in commands.chunks(share) {
            scope.spawn(move || publish_one(&mut Client::connect(to), commands, window));
        }
    });
}

fn publish_one(client: &mut Client, commands: &[Vec<u8>], window: usize) {
    for (number, command) in commands.iter().enumerate() {
        if number >= window {
            client.answers(1);
        }
        client.send(command);
    }
    client.answers(commands.len().min(window));
}

/// Takes `count` messages from each of the channels at once, one connection a channel.
pub fn consume(to: SocketAddr, topic: &str, channels: &[&str], count: u64, ready: u32) {
    thread::scope(|scope| {
        for channel in channels {
            scope.spawn(move || {
                let mut client = Client::connect(to);
                client.subscribe(topic, channel, ready);
                client.consume(count);
            });
        }
    });
}
