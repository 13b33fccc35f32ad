//! NSQ's two TCP protocols, byte by byte: V2 (nsqd) and V1 (nsqlookupd).

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use crate::wait::PATIENCE;

/// What a connection's first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// nsqlookupd: replies are `length | data`.
    V1,
    /// nsqd: replies are `length | type | data`.
    V2,
}

/// One frame from the peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Type 0, or any V1 reply.
    Response(Vec<u8>),
    /// Type 1.
    Error(String),
    /// Type 2.
    Message {
        /// Wall time of the publish, ns since 1970.
        timestamp_ns: i64,
        /// 1 at the first delivery.
        attempts: u16,
        /// 16 characters.
        id: String,
        /// As published.
        body: Vec<u8>,
    },
    /// Any other type: nothing that NSQ has.
    Unknown(u32, Vec<u8>),
}

impl Frame {
    /// A response with this text?
    pub fn is(&self, text: &str) -> bool {
        matches!(self, Frame::Response(data) if data == text.as_bytes())
    }
}

/// A connection whose every byte the test decides.
pub struct Wire {
    stream: TcpStream,
    version: Version,
    id: u64,
}

impl Wire {
    /// Connects and sends the magic of `version`.
    pub fn connect(to: SocketAddr, version: Version) -> Wire {
        let mut wire = Wire::connect_silently(to, version);
        wire.send(match version {
            Version::V1 => b"  V1",
            Version::V2 => b"  V2",
        });
        wire
    }

    /// Connects and sends nothing.
    pub fn connect_silently(to: SocketAddr, version: Version) -> Wire {
        let stream =
            TcpStream::connect(to).unwrap_or_else(|error| panic!("connect to {to}: {error}"));
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let id = u64::from(stream.local_addr().unwrap().port());
        Wire {
            stream,
            version,
            id,
        }
    }

    /// V2 with the magic sent.
    pub fn nsqd(to: SocketAddr) -> Wire {
        Wire::connect(to, Version::V2)
    }

    /// V1 with the magic sent.
    pub fn lookupd(to: SocketAddr) -> Wire {
        Wire::connect(to, Version::V1)
    }

    /// The local port: tells connections apart in a failure's text.
    pub fn port(&self) -> u64 {
        self.id
    }

    /// A second handle on the same connection, to write from one thread and read from another.
    pub fn try_clone(&self) -> Wire {
        Wire {
            stream: self.stream.try_clone().unwrap(),
            version: self.version,
            id: self.id,
        }
    }

    /// Sends; a peer that has closed already is not an error here: its frames tell.
    pub fn send(&mut self, bytes: &[u8]) {
        let _gone = self.stream.write_all(bytes);
    }

    /// Sends; false if the peer is gone.
    #[must_use]
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Ends our side of the conversation; the peer's answers are still read.
    pub fn half_close(&mut self) {
        let _gone = self.stream.shutdown(Shutdown::Write);
    }

    /// Ends both sides, also for a clone that another thread reads.
    pub fn close(&self) {
        let _gone = self.stream.shutdown(Shutdown::Both);
    }

    /// The next frame as it comes; `None`: the peer closed. Panics if neither comes.
    pub fn any_frame(&mut self) -> Option<Frame> {
        let mut size = [0; 4];
        if !self.fill(&mut size) {
            return None;
        }
        let size = u32::from_be_bytes(size) as usize;
        assert!(size <= 16 << 20, "a frame of {size} bytes");
        let mut data = vec![0; size];
        if !self.fill(&mut data) {
            panic!("the peer closed inside a frame of {size} bytes");
        }
        Some(match self.version {
            Version::V1 => Frame::Response(data),
            Version::V2 => frame(&data),
        })
    }

    /// The next frame that is no heartbeat; heartbeats are answered, but a peer that sends nothing else hangs.
    pub fn frame(&mut self) -> Option<Frame> {
        const HEARTBEATS_MAX: usize = 2;
        for _ in 0..=HEARTBEATS_MAX {
            match self.any_frame() {
                Some(frame) if frame.is("_heartbeat_") => self.send(b"NOP\n"),
                other => return other,
            }
        }
        panic!("connection {}: nothing but heartbeats", self.id);
    }

    /// The next frame must be a response with this text.
    pub fn expect(&mut self, text: &str) {
        let frame = self.frame();
        assert!(
            frame.as_ref().is_some_and(|frame| frame.is(text)),
            "instead of {text}: {frame:?}"
        );
    }

    /// The next frame must be a message: (id, attempts, body).
    pub fn message(&mut self) -> (String, u16, Vec<u8>) {
        match self.frame() {
            Some(Frame::Message {
                id, attempts, body, ..
            }) => (id, attempts, body),
            other => panic!("instead of a message: {other:?}"),
        }
    }

    /// PUB and its `OK`.
    pub fn publish(&mut self, topic: &str, body: &[u8]) {
        self.send(&command_with_body(&format!("PUB {topic}\n"), body));
        self.expect("OK");
    }

    /// SUB, its `OK`, and RDY.
    pub fn subscribe(&mut self, topic: &str, channel: &str, ready: u32) {
        self.send(format!("SUB {topic} {channel}\n").as_bytes());
        self.expect("OK");
        self.send(format!("RDY {ready}\n").as_bytes());
    }

    /// FIN.
    pub fn finish(&mut self, id: &str) {
        self.send(format!("FIN {id}\n").as_bytes());
    }

    /// Fills `into`; false if the peer closed before or inside it with nothing read of `into`.
    fn fill(&mut self, into: &mut [u8]) -> bool {
        let mut done = 0;
        while done < into.len() {
            match self.stream.read(&mut into[done..]) {
                Ok(0) => return false,
                Ok(count) => done += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A peer that closes with unread input resets the connection: as good as closed.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
                    ) =>
                {
                    return false;
                }
                Err(error) => panic!(
                    "connection {}: nothing came for {PATIENCE:?}: {error}",
                    self.id
                ),
            }
        }
        true
    }
}

/// `line`, then the body with its length before it.
pub fn command_with_body(line: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = line.as_bytes().to_vec();
    bytes.extend_from_slice(&sized(body));
    bytes
}

/// MPUB of these bodies.
pub fn multi_publish<B: AsRef<[u8]>>(topic: &str, bodies: &[B]) -> Vec<u8> {
    let mut batch = u32::try_from(bodies.len()).unwrap().to_be_bytes().to_vec();
    for body in bodies {
        batch.extend_from_slice(&sized(body.as_ref()));
    }
    command_with_body(&format!("MPUB {topic}\n"), &batch)
}

/// The four length bytes and the body.
pub fn sized(body: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend_from_slice(body);
    bytes
}

fn frame(data: &[u8]) -> Frame {
    let (kind, data) = data.split_at(4);
    match u32::from_be_bytes(kind.try_into().unwrap()) {
        0 => Frame::Response(data.to_vec()),
        1 => Frame::Error(String::from_utf8_lossy(data).into_owned()),
        2 if data.len() >= 26 => Frame::Message {
            timestamp_ns: i64::from_be_bytes(data[..8].try_into().unwrap()),
            attempts: u16::from_be_bytes(data[8..10].try_into().unwrap()),
            id: String::from_utf8_lossy(&data[10..26]).into_owned(),
            body: data[26..].to_vec(),
        },
        other => Frame::Unknown(other, data.to_vec()),
    }
}
