//! A route, its local broker, its upstreams, and the lines between them, in virtual time.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic
)]

pub mod peer;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use client::host::Core;
use client::links::{Action, LinkId};
use client::rng::Rng;
use config::RouteOptions;
use forwarder::route::{RouteCore, SOURCE, UPSTREAM};
use runtime::net::Address;

use peer::{Peer, Session};

/// Steps after which a world that has not come to rest never will.
const STEPS_MAX: usize = 2_000_000;

pub struct World {
    pub now: Duration,
    pub core: RouteCore,
    /// The local broker first, then the upstreams.
    pub peers: Vec<Peer>,
    /// Whether a peer can be reached.
    pub reachable: Vec<bool>,
    pub latency: Duration,
    lines: BTreeMap<(usize, LinkId), Line>,
    dials: Vec<(Duration, (usize, LinkId), usize)>,
    sessions: u64,
    pub dialed: usize,
    /// Pieces that arrived at either end of an upstream's line.
    pub pieces: usize,
    /// The piece at whose arrival its line is cut, after half of its bytes.
    pub cut_at: Option<usize>,
    /// Chance in a thousand that a piece's line is cut.
    pub cut_per_mille: u64,
    pub rng: Rng,
}

struct Line {
    peer: usize,
    session: Session,
    to_peer: VecDeque<(Duration, Vec<u8>)>,
    to_core: VecDeque<(Duration, Vec<u8>)>,
    /// When the core hears that it is closed.
    closing: Option<Duration>,
}

pub fn options(text: &str) -> RouteOptions {
    // Through the configuration, as an operator would write it.
    let text = format!("[[forwarder.route]]\ntopic = \"clicks\"\nupstream = [\"up:1\"]\n{text}");
    let config = config::Config::parse(&text).unwrap();
    let options = config.resolve(&config::Environment::default()).unwrap();
    options.forwarder.routes[0].clone()
}

impl World {
    pub fn new(options: &RouteOptions, upstreams: usize, seed: u64) -> Self {
        let mut core = RouteCore::new(options, 1024 * 1024, seed);
        let now = Duration::from_secs(1000);
        core.set_sources(now, ["peer:0".parse().unwrap()]);
        core.set_upstreams(
            now,
            (1..=upstreams).map(|peer| format!("peer:{peer}").parse().unwrap()),
        );
        Self {
            now,
            core,
            peers: (0..=upstreams).map(|_| Peer::default()).collect(),
            reachable: vec![true; upstreams + 1],
            latency: Duration::from_millis(5),
            lines: BTreeMap::new(),
            dials: Vec::new(),
            sessions: 0,
            dialed: 0,
            pieces: 0,
            cut_at: None,
            cut_per_mille: 0,
            rng: Rng::new(seed ^ 0xcafe),
        }
    }

    pub fn offer(&mut self, bodies: impl IntoIterator<Item = String>) {
        for body in bodies {
            self.peers[0].offer(body.as_bytes());
        }
    }

    /// Everything that all upstreams have of a topic.
    pub fn arrived(&self, topic: &str) -> BTreeMap<String, usize> {
        let mut arrived = BTreeMap::new();
        for peer in &self.peers[1..] {
            for body in peer.published.get(topic).into_iter().flatten() {
                *arrived
                    .entry(String::from_utf8(body.clone()).unwrap())
                    .or_insert(0) += 1;
            }
        }
        arrived
    }

    /// Runs until the local channel is empty.
    pub fn run_dry(&mut self, longest: Duration) {
        let end = self.now + longest;
        for _ in 0..STEPS_MAX {
            if self.peers[0].unfinished() == 0 {
                return;
            }
            assert!(
                self.now < end,
                "{} unfinished after {longest:?}",
                self.peers[0].unfinished()
            );
            self.step();
        }
        panic!("no rest at {:?}", self.now);
    }

    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..STEPS_MAX {
            if self.now >= end {
                return;
            }
            self.step();
        }
        panic!("no rest at {:?}", self.now);
    }

    /// Cuts every line to a peer.
    pub fn cut(&mut self, peer: usize) {
        let keys: Vec<_> = self
            .lines
            .iter()
            .filter(|(_, line)| line.peer == peer)
            .map(|(key, _)| *key)
            .collect();
        for key in keys {
            self.cut_line(key);
        }
    }

    /// Goes on to the next thing that happens and lets it happen.
    pub fn step(&mut self) {
        self.turn();
        let mut next = self.now + Duration::from_secs(1);
        for at in self
            .core
            .poll_timeout()
            .into_iter()
            .chain(self.peers.iter().filter_map(Peer::next_tick))
        {
            next = next.min(at);
        }
        for set in [SOURCE, UPSTREAM] {
            next = self
                .core
                .links(set)
                .unwrap()
                .poll_timeout()
                .into_iter()
                .fold(next, Duration::min);
        }
        for (at, ..) in &self.dials {
            next = next.min(*at);
        }
        for line in self.lines.values() {
            let fronts = [&line.to_peer, &line.to_core]
                .into_iter()
                .filter_map(VecDeque::front);
            let at = fronts
                .map(|(at, _)| *at)
                .chain(line.closing)
                .fold(next, Duration::min);
            next = at.min(line.session.next_heartbeat());
        }
        self.now = self.now.max(next);
        for set in [SOURCE, UPSTREAM] {
            self.core.links(set).unwrap().handle_timeout(self.now);
        }
        for peer in &mut self.peers {
            peer.tick(self.now);
        }
        self.open_dials();
        let keys: Vec<_> = self.lines.keys().copied().collect();
        for key in keys {
            self.move_bytes(key);
        }
        self.turn();
        let max = self.core.held_bytes_max();
        assert!(
            self.core.held_bytes() <= max,
            "{} of {max} bytes",
            self.core.held_bytes()
        );
    }

    fn turn(&mut self) {
        self.core.turn(self.now);
        for set in [SOURCE, UPSTREAM] {
            let links = self.core.links(set).unwrap();
            let mut actions = Vec::new();
            while let Some(action) = links.poll_action(self.now) {
                actions.push(action);
            }
            let mut outputs = Vec::new();
            let with_output: Vec<LinkId> = links.with_output().collect();
            for link in with_output {
                outputs.push((link, std::mem::take(links.output(link).unwrap())));
            }
            for (link, bytes) in outputs {
                if let Some(line) = self.lines.get_mut(&(set, link)) {
                    line.to_peer.push_back((self.now + self.latency, bytes));
                }
            }
            for action in actions {
                match action {
                    Action::Dial {
                        link,
                        address: Address::Tcp { port, .. },
                        ..
                    } => {
                        self.dialed += usize::from(set == UPSTREAM);
                        self.dials
                            .push((self.now + self.latency, (set, link), usize::from(port)));
                    }
                    Action::Dial { address, .. } => panic!("{address}"),
                    Action::HangUp(link) | Action::Drop(link) => {
                        if let Some(line) = self.lines.remove(&(set, link)) {
                            self.peers[line.peer].left(&line.session);
                        }
                        self.dials.retain(|(_, key, _)| *key != (set, link));
                    }
                }
            }
        }
    }

    fn open_dials(&mut self) {
        let due: Vec<_> = self
            .dials
            .iter()
            .filter(|(at, ..)| *at <= self.now)
            .copied()
            .collect();
        self.dials.retain(|(at, ..)| *at > self.now);
        for (_, (set, link), peer) in due {
            let links = self.core.links(set).unwrap();
            if !self.reachable[peer] {
                links.handle_closed(self.now, link, "refused");
                continue;
            }
            links.handle_connected(self.now, link);
            self.sessions += 1;
            let session = Session::new(self.sessions, self.now);
            let line = Line {
                peer,
                session,
                to_peer: VecDeque::new(),
                to_core: VecDeque::new(),
                closing: None,
            };
            self.lines.insert((set, link), line);
        }
    }

    fn move_bytes(&mut self, key: (usize, LinkId)) {
        for towards_core in [false, true] {
            loop {
                let Some(line) = self.lines.get_mut(&key) else {
                    return;
                };
                let queue = if towards_core {
                    &mut line.to_core
                } else {
                    &mut line.to_peer
                };
                if queue.front().is_none_or(|(at, _)| *at > self.now) {
                    break;
                }
                let (_, mut bytes) = queue.pop_front().unwrap();
                let mut cut = false;
                if key.0 == UPSTREAM {
                    cut = self.cut_at == Some(self.pieces)
                        || self.rng.below(1000) < self.cut_per_mille;
                    self.pieces += 1;
                }
                if cut {
                    bytes.truncate(bytes.len() / 2);
                }
                if towards_core {
                    self.core
                        .links(key.0)
                        .unwrap()
                        .handle_bytes(self.now, key.1, &bytes);
                } else {
                    self.peers[line.peer].handle(&mut line.session, self.now, &bytes);
                }
                if cut {
                    self.cut_line(key);
                    return;
                }
            }
        }
        let Some(line) = self.lines.get_mut(&key) else {
            return;
        };
        line.session.beat(self.now);
        self.peers[line.peer].deliver(&mut line.session, self.now);
        if !line.session.out.is_empty() {
            let out = std::mem::take(&mut line.session.out);
            line.to_core.push_back((self.now + self.latency, out));
        }
        if line.session.over && line.closing.is_none() {
            line.closing = Some(self.now + self.latency * 2);
        }
        if line.closing.is_some_and(|at| at <= self.now) {
            self.turn(); // what came before is polled first
            self.cut_line(key);
        }
    }

    fn cut_line(&mut self, key: (usize, LinkId)) {
        if let Some(line) = self.lines.remove(&key) {
            self.peers[line.peer].left(&line.session);
            self.core
                .links(key.0)
                .unwrap()
                .handle_closed(self.now, key.1, "cut");
        }
    }
}
