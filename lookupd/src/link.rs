//! One broker's connection: bytes in, answers out, no I/O.

use std::time::Duration;

use protocol::Progress;
use protocol::lookup::{self, LookupCommand, LookupError, PeerInfo};

use crate::limits::{FULL, PEER_TEXT_BYTES_MAX, REPLY_BYTES_MAX};
use crate::registry::{PeerId, Registry};

/// A connection's state. Feed it with [`Link::handle_bytes`]; call [`Link::close`] at its end,
/// whatever ended it.
#[derive(Debug)]
pub(crate) struct Link {
    remote_address: String,
    magic_seen: bool,
    peer: Option<PeerId>,
}

/// What [`Link::handle_bytes`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Handled {
    /// Bytes that are done with; the caller drops them.
    pub(crate) consumed: usize,
    /// How long the buffer must be before another call can do more. Bounded by protocol.
    pub(crate) needed: usize,
    /// After an error: write what is in `out`, and close.
    pub(crate) close: bool,
}

impl Link {
    pub(crate) fn new(remote_address: String) -> Link {
        Link {
            remote_address,
            magic_seen: false,
            peer: None,
        }
    }

    /// Whether the broker said who it is.
    pub(crate) fn is_identified(&self) -> bool {
        self.peer.is_some()
    }

    /// Executes the commands in `buffer` and appends their answers to `out`, until the next is not
    /// complete, or there are enough answers to be written first. `own` is what IDENTIFY is
    /// answered with.
    pub(crate) fn handle_bytes(
        &mut self,
        registry: &mut Registry,
        own: &PeerInfo,
        now: Duration,
        buffer: &[u8],
        out: &mut Vec<u8>,
    ) -> Handled {
        let mut consumed = 0;
        loop {
            let rest = buffer.get(consumed..).unwrap_or_default();
            if out.len() >= REPLY_BYTES_MAX {
                return Handled {
                    consumed,
                    needed: rest.len(),
                    close: false,
                };
            }
            match self.handle_one(registry, own, now, rest, out) {
                Ok(Progress::Done {
                    consumed: bytes, ..
                }) => consumed += bytes,
                Ok(Progress::NeedBytes { total }) => {
                    return Handled {
                        consumed,
                        needed: total,
                        close: false,
                    };
                }
                Err(error) => {
                    log::info!("lookupd: link of {}: {error}", self.remote_address);
                    error.encode(out);
                    return Handled {
                        consumed,
                        needed: 0,
                        close: true,
                    };
                }
            }
        }
    }

    /// The answer to input that ended within a command, and the end of all that the broker
    /// registered.
    pub(crate) fn close(&mut self, registry: &mut Registry, rest: &[u8], out: &mut Vec<u8>) {
        if let Some(peer) = self.peer.take() {
            registry.remove_peer(peer);
        }
        if self.magic_seen {
            if let Some(error) = lookup::end_of_input(rest) {
                error.encode(out);
            }
        }
    }

    fn handle_one(
        &mut self,
        registry: &mut Registry,
        own: &PeerInfo,
        now: Duration,
        buffer: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Progress<()>, LookupError> {
        if !self.magic_seen {
            return Ok(match lookup::parse_magic(buffer)? {
                Some(consumed) => {
                    self.magic_seen = true;
                    Progress::Done {
                        value: (),
                        consumed,
                    }
                }
                None => Progress::NeedBytes {
                    total: protocol::MAGIC_V1.len(),
                },
            });
        }
        let (command, consumed) = match lookup::parse(buffer, self.peer.is_some())? {
            Progress::Done { value, consumed } => (value, consumed),
            Progress::NeedBytes { total } => return Ok(Progress::NeedBytes { total }),
        };
        match (command, self.peer) {
            (LookupCommand::Identify { body }, _) => {
                let info = checked(PeerInfo::from_json(body)?)?;
                self.peer = Some(registry.add_peer(info, self.remote_address.clone(), now));
                lookup::encode_reply(&own.to_json(), out);
            }
            (LookupCommand::Ping, peer) => {
                if let Some(peer) = peer {
                    registry.touch(peer, now);
                }
                lookup::encode_reply(lookup::OK, out);
            }
            (LookupCommand::Register { topic, channel }, Some(peer)) => {
                match registry.register(peer, topic, channel) {
                    Ok(()) => lookup::encode_reply(lookup::OK, out),
                    Err(full) => {
                        log::warn!("lookupd: {topic} of {}: {full}", self.remote_address);
                        lookup::encode_reply(FULL.as_bytes(), out);
                    }
                }
            }
            (LookupCommand::Unregister { topic, channel }, Some(peer)) => {
                registry.unregister(peer, topic, channel);
                lookup::encode_reply(lookup::OK, out);
            }
            // The parser was told; said again here, so that nothing depends on it.
            (_, None) => return Err(LookupError::NotIdentified),
        }
        Ok(Progress::Done {
            value: (),
            consumed,
        })
    }
}

/// Refuses texts that no broker has: they would be kept, and told to everyone.
fn checked(info: PeerInfo) -> Result<PeerInfo, LookupError> {
    let texts = [&info.broadcast_address, &info.hostname, &info.version];
    if texts.iter().any(|text| text.len() > PEER_TEXT_BYTES_MAX) {
        return Err(LookupError::MissingFields);
    }
    Ok(info)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Lifetimes;

    const NOW: Duration = Duration::from_secs(1000);

    fn own() -> PeerInfo {
        PeerInfo {
            broadcast_address: "site".to_owned(),
            hostname: "gw".to_owned(),
            tcp_port: 4160,
            http_port: 4161,
            version: "1.3.0".to_owned(),
        }
    }

    fn registry(entries_max: usize) -> Registry {
        let lifetimes = Lifetimes {
            inactive_producer_timeout: Duration::from_secs(300),
            tombstone_lifetime: Duration::from_secs(45),
        };
        Registry::new(lifetimes, entries_max)
    }

    fn identify() -> Vec<u8> {
        let mut bytes = Vec::new();
        let broker = PeerInfo {
            broadcast_address: "b".to_owned(),
            tcp_port: 4150,
            ..own()
        };
        lookup::encode_identify(&broker, &mut bytes);
        bytes
    }

    /// What a fresh connection answers to `input` after the magic, and whether it is then closed.
    fn converse(registry: &mut Registry, input: &[u8]) -> (Vec<u8>, bool) {
        let (mut link, mut out) = (Link::new("10.0.0.1:5000".to_owned()), Vec::new());
        let bytes = [b"  V1", input].concat();
        let handled = link.handle_bytes(registry, &own(), NOW, &bytes, &mut out);
        (out, handled.close)
    }

    /// The same of a connection that has identified itself; the answer to that is cut off.
    fn converse_identified(input: &[u8]) -> (Vec<u8>, bool) {
        let mut registry = registry(100);
        let greeting = converse(&mut registry, &identify()).0.len();
        let (out, close) = converse(&mut registry, &[&identify(), input].concat());
        (out[greeting..].to_vec(), close)
    }

    #[test]
    fn golden_bytes_of_answers_without_a_frame_type() {
        let mut registry = registry(100);
        assert_eq!(
            converse(&mut registry, b"PING\n"),
            (b"\x00\x00\x00\x02OK".to_vec(), false)
        );
        let (out, close) = converse(&mut registry, b"FOO bar\n");
        assert_eq!(out, b"\x00\x00\x00\x1dE_INVALID invalid command FOO");
        assert!(close);
        let mut out = Vec::new();
        let bad =
            Link::new(String::new()).handle_bytes(&mut registry, &own(), NOW, b"  V2", &mut out);
        assert_eq!(out, b"\x00\x00\x00\x0eE_BAD_PROTOCOL");
        assert!(bad.close);
    }

    #[test]
    fn identify_is_answered_with_our_own_addresses_and_is_said_once() {
        let mut registry = registry(100);
        let (out, close) = converse(&mut registry, &identify());
        assert!(!close);
        assert_eq!(PeerInfo::from_reply(&out[4..]), Some(own()));
        assert_eq!(
            u32::from_be_bytes(out[..4].try_into().unwrap()) as usize,
            out.len() - 4
        );
        let (out, close) = converse_identified(&identify());
        assert_eq!(&out[4..], b"E_INVALID cannot IDENTIFY again");
        assert!(close);
    }

    #[test]
    fn every_refusal_has_nsqlookupds_text_and_closes() {
        let mut registry = registry(100);
        // The texts were taken from nsqlookupd 1.3.0.
        for (input, text) in [
            (&b"\n"[..], "E_INVALID invalid command "),
            (b"   \n", "E_INVALID invalid command "),
            (b"ping\n", "E_INVALID invalid command ping"),
            (b"REGISTER t\n", "E_INVALID client must IDENTIFY"),
            (b"UNREGISTER t\n", "E_INVALID client must IDENTIFY"),
            (
                b"IDENTIFY\n\x00\x00\x00\x02ab",
                "E_BAD_BODY IDENTIFY failed to decode JSON body",
            ),
            (
                b"IDENTIFY\n\x00\x00\x00\x00",
                "E_BAD_BODY IDENTIFY failed to decode JSON body",
            ),
            (
                b"IDENTIFY\n\x00\x00\x00\x02{}",
                "E_BAD_BODY IDENTIFY missing fields",
            ),
            (
                b"IDENTIFY\n\x00\x00\x00\x04null",
                "E_BAD_BODY IDENTIFY missing fields",
            ),
            // These two nsqlookupd believes.
            (
                b"IDENTIFY\n\xff\xff\xff\xff",
                "E_BAD_BODY IDENTIFY failed to read body size",
            ),
            (
                b"IDENTIFY\n\x00\x01\x00\x01",
                "E_BAD_BODY IDENTIFY failed to read body size",
            ),
        ] {
            let (out, close) = converse(&mut registry, input);
            assert_eq!(&out[4..], text.as_bytes());
            assert!(close, "{text}");
        }
        for (input, text) in [
            (
                &b"REGISTER\n"[..],
                "E_INVALID REGISTER insufficient number of params",
            ),
            (
                b"REGISTER \n",
                "E_INVALID REGISTER insufficient number of params",
            ),
            (
                b"UNREGISTER\n",
                "E_INVALID UNREGISTER insufficient number of params",
            ),
            (
                b"REGISTER  t\n",
                "E_BAD_TOPIC REGISTER topic name '' is not valid",
            ),
            (
                b"REGISTER a$b\n",
                "E_BAD_TOPIC REGISTER topic name 'a$b' is not valid",
            ),
            (
                b"UNREGISTER z$z\n",
                "E_BAD_TOPIC UNREGISTER topic name 'z$z' is not valid",
            ),
            (
                b"REGISTER t c$\n",
                "E_BAD_CHANNEL REGISTER channel name 'c$' is not valid",
            ),
        ] {
            let (out, close) = converse_identified(input);
            assert_eq!(&out[4..], text.as_bytes());
            assert!(close, "{text}");
        }
    }

    #[test]
    fn pipelined_commands_are_answered_in_order_and_blanks_around_a_line_do_not_matter() {
        let input = b"REGISTER t c\r\nREGISTER t  c\n \tPING\x0b \nUNREGISTER t\nPING a b\n";
        let (out, close) = converse_identified(input);
        assert_eq!(out, b"\x00\x00\x00\x02OK".repeat(5));
        assert!(!close);
    }

    #[test]
    fn input_may_come_in_any_pieces() {
        let whole = [&b"  V1"[..], &identify(), b"REGISTER t c\nPING\n"].concat();
        for cut in 0..whole.len() {
            let mut registry = registry(100);
            let mut link = Link::new("10.0.0.1:5000".to_owned());
            let (mut out, mut buffer) = (Vec::new(), Vec::new());
            for piece in [&whole[..cut], &whole[cut..]] {
                buffer.extend_from_slice(piece);
                let handled = link.handle_bytes(&mut registry, &own(), NOW, &buffer, &mut out);
                assert!(!handled.close);
                assert!(handled.needed > buffer.len() - handled.consumed);
                buffer.drain(..handled.consumed);
            }
            assert!(buffer.is_empty());
            assert!(out.ends_with(b"\x00\x00\x00\x02OK\x00\x00\x00\x02OK"));
            assert_eq!(registry.channels("t"), ["c"]);
        }
    }

    #[test]
    fn a_closed_link_takes_its_registrations_along_and_a_torn_body_is_told() {
        let mut registry = registry(100);
        let mut link = Link::new("10.0.0.1:5000".to_owned());
        let bytes = [&b"  V1"[..], &identify(), b"REGISTER t c\n"].concat();
        let mut out = Vec::new();
        link.handle_bytes(&mut registry, &own(), NOW, &bytes, &mut out);
        assert_eq!(registry.nodes(NOW).len(), 1);
        out.clear();
        link.close(&mut registry, b"", &mut out);
        assert!(registry.nodes(NOW).is_empty());
        assert!(out.is_empty());
        let mut link = Link::new("10.0.0.1:5000".to_owned());
        link.handle_bytes(&mut registry, &own(), NOW, b"  V1", &mut out);
        link.close(&mut registry, b"IDENTIFY\n\x00\x00\x00\x05ab", &mut out);
        assert_eq!(&out[4..], b"E_BAD_BODY IDENTIFY failed to read body");
    }

    #[test]
    fn a_full_table_is_told_and_keeps_the_link() {
        let mut registry = registry(2);
        let input = [&identify()[..], b"REGISTER t\nREGISTER u\nPING\n"].concat();
        let (out, close) = converse(&mut registry, &input);
        assert!(!close);
        let tail = [&b"\x00\x00\x00\x02OK\x00\x00\x00\x29"[..], FULL.as_bytes()].concat();
        assert!(out.ends_with(&[&tail[..], b"\x00\x00\x00\x02OK"].concat()));
    }

    #[test]
    fn texts_that_no_broker_has_are_refused() {
        let mut bytes = Vec::new();
        let huge = PeerInfo {
            hostname: "x".repeat(PEER_TEXT_BYTES_MAX + 1),
            ..own()
        };
        lookup::encode_identify(&huge, &mut bytes);
        let (out, close) = converse(&mut registry(100), &bytes);
        assert_eq!(&out[4..], b"E_BAD_BODY IDENTIFY missing fields");
        assert!(close);
    }

    #[test]
    fn a_flood_of_commands_is_answered_in_portions() {
        let mut registry = registry(100);
        let mut link = Link::new("10.0.0.1:5000".to_owned());
        let flood = [&b"  V1"[..], &b"PING\n".repeat(10_000)].concat();
        let mut out = Vec::new();
        let handled = link.handle_bytes(&mut registry, &own(), NOW, &flood, &mut out);
        assert!(out.len() < REPLY_BYTES_MAX + 6);
        assert!(handled.consumed < flood.len() && handled.needed <= flood.len());
    }

    #[test]
    fn whatever_comes_the_link_answers_or_waits_and_never_asks_for_too_much() {
        let words: [&[u8]; 12] = [
            b"  V1",
            b"IDENTIFY\n",
            b"\x00\x00\x00\x05",
            b"REGISTER ",
            b"UNREGISTER ",
            b"PING\n",
            b"t",
            b" ",
            b"\n",
            b"\xff\xff\xff\xff",
            b"{}",
            b"\x00",
        ];
        let mut random = 0x9e37_79b9_7f4a_7c15_u64; // xorshift, seeded: the same every time
        let mut next = move |bound: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % bound as u64) as usize
        };
        let mut registry = registry(10);
        for _ in 0..5000 {
            let mut input = if next(4) == 0 {
                Vec::new()
            } else {
                b"  V1".to_vec()
            };
            if next(2) == 0 {
                input.extend_from_slice(&identify());
            }
            for _ in 0..next(12) {
                input.extend_from_slice(words[next(words.len())]);
            }
            let mut link = Link::new("10.0.0.1:5000".to_owned());
            let (mut out, mut buffer) = (Vec::new(), Vec::new());
            for byte in input {
                buffer.push(byte);
                let handled = link.handle_bytes(&mut registry, &own(), NOW, &buffer, &mut out);
                buffer.drain(..handled.consumed);
                if handled.close {
                    break;
                }
                assert!(handled.needed > buffer.len() && handled.needed < 70_000);
            }
            link.close(&mut registry, &buffer, &mut out);
            assert!(registry.nodes(NOW).is_empty());
        }
    }
}
