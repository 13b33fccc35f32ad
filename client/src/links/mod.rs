//! Connections to a changing set of brokers, without I/O: when to dial which, how long to leave a
//! failing one alone, what was lost with one that broke.
//!
//! Call order: after each `handle_*`, after publishing or answering, and when [`Links::poll_timeout`]
//! is due (then [`Links::handle_timeout`] first): [`Links::poll_event`] until it has none, then
//! [`Links::poll_action`] until it has none, then send each link's [`Links::output`].

mod entry;
mod event;

use std::collections::VecDeque;
use std::time::Duration;

use protocol::id::WireId;
use runtime::net::Address;

use crate::backoff::Backoff;
use crate::connection::{self, Connection, Step, Token};
use crate::limits::LINKS_MAX;
use crate::rng::Rng;

use entry::{Entry, State};
pub use event::{Action, Event, LinkId, LinksOptions, level_of};

#[derive(Debug)]
enum News {
    Down {
        link: LinkId,
        reason: String,
        failures: u32,
    },
    Refused(LinkId, Token, String),
    Lost(LinkId, Token),
}

/// See the module.
#[derive(Debug)]
pub struct Links {
    options: LinksOptions,
    entries: Vec<Entry>,
    rng: Rng,
    next: u64,
    news: VecDeque<News>,
    actions: VecDeque<Action>,
    /// No more dialing.
    closing: bool,
}

impl Links {
    /// No brokers yet.
    pub fn new(options: LinksOptions, seed: u64) -> Self {
        Self {
            options,
            entries: Vec::new(),
            rng: Rng::new(seed),
            next: 0,
            news: VecDeque::new(),
            actions: VecDeque::new(),
            closing: false,
        }
    }

    /// What holds for all links.
    pub fn options(&self) -> &LinksOptions {
        &self.options
    }

    /// The brokers to connect to, at most [`LINKS_MAX`]. Open links to others stay until they
    /// break: a lookupd that forgot a broker does not make it a bad one.
    pub fn set_addresses(&mut self, now: Duration, addresses: impl IntoIterator<Item = Address>) {
        for entry in &mut self.entries {
            entry.wanted = false;
        }
        for address in addresses.into_iter().take(LINKS_MAX) {
            match self
                .entries
                .iter_mut()
                .find(|entry| entry.address == address)
            {
                Some(entry) => entry.wanted = true,
                None => self.entries.push(Entry {
                    address,
                    wanted: true,
                    state: State::Resting { until: now },
                    backoff: Backoff::new(self.options.backoff_min, self.options.backoff_max),
                }),
            }
        }
        self.entries
            .retain(|entry| entry.wanted || !matches!(entry.state, State::Resting { .. }));
    }

    /// Links that are up.
    pub fn up(&self) -> impl Iterator<Item = LinkId> + '_ {
        self.open()
            .filter(|(_, connection)| connection.is_established())
            .map(|(link, _)| link)
    }

    /// The address of a link that is being dialed or open.
    pub fn address(&self, link: LinkId) -> Option<&Address> {
        let entry = self
            .entries
            .iter()
            .find(|entry| entry.state.link() == Some(link));
        entry.map(|entry| &entry.address)
    }

    /// [`Links::address`] for the log.
    pub fn name(&self, link: LinkId) -> String {
        self.address(link)
            .map_or_else(|| "a closed link".to_owned(), Address::to_string)
    }

    /// The connection of an open link: to set its window, finish messages and so on. Publish
    /// through [`Links::publish`].
    pub fn connection(&mut self, link: LinkId) -> Option<&mut Connection> {
        self.entries
            .iter_mut()
            .find_map(|entry| match &mut entry.state {
                State::Open {
                    link: open,
                    connection,
                } if *open == link => Some(connection.as_mut()),
                _ => None,
            })
    }

    /// The shortest message time-out that the brokers of the links that are up have told.
    pub fn msg_timeout(&self) -> Option<Duration> {
        self.open()
            .filter_map(|(_, connection)| connection.msg_timeout())
            .min()
    }

    /// Among the links that are up and have fewer than `window` publishes unanswered, the one with
    /// the fewest; of several, any.
    pub fn least_loaded(&mut self, window: usize) -> Option<LinkId> {
        let mut best: Option<(usize, LinkId)> = None;
        let mut equals = 0u64;
        for (link, connection) in self.entries.iter().filter_map(Entry::established) {
            let load = connection.unanswered();
            match best {
                Some((least, _)) if load > least => continue,
                Some((least, _)) if load == least => {
                    equals += 1;
                    if self.rng.below(equals) != 0 {
                        continue;
                    }
                }
                _ => equals = 1,
            }
            best = Some((load, link));
        }
        best.filter(|(load, _)| *load < window)
            .map(|(_, link)| link)
    }

    /// Sends an encoded publish over an open link. `false` when it is gone.
    pub fn publish(&mut self, now: Duration, link: LinkId, token: Token, command: &[u8]) -> bool {
        match self.connection(link) {
            Some(connection) => {
                connection.publish(now, token, command);
                true
            }
            None => false,
        }
    }

    /// Sends FIN if the link is still open (else the broker gives the message again).
    pub fn finish(&mut self, link: LinkId, id: WireId) {
        if let Some(connection) = self.connection(link) {
            connection.finish(id);
        }
    }

    /// Sends REQ if the link is still open.
    pub fn requeue(&mut self, link: LinkId, id: WireId, delay: Duration) {
        if let Some(connection) = self.connection(link) {
            connection.requeue(id, delay);
        }
    }

    /// Sends TOUCH if the link is still open.
    pub fn touch(&mut self, link: LinkId, id: WireId) {
        if let Some(connection) = self.connection(link) {
            connection.touch(id);
        }
    }

    /// Ends all: consumers send CLS first and wait for their messages. No more dialing.
    pub fn close(&mut self) {
        self.closing = true;
        for entry in &mut self.entries {
            match &entry.state {
                State::Open { link, .. } => self.actions.push_back(Action::HangUp(*link)),
                State::Dialing { link, .. } => self.actions.push_back(Action::Drop(*link)),
                State::Resting { .. } => {}
            }
        }
    }

    /// The connection of a dial is open.
    pub fn handle_connected(&mut self, now: Duration, link: LinkId) {
        let entry = self
            .entries
            .iter_mut()
            .find(|entry| entry.state.link() == Some(link));
        if let Some(entry) = entry {
            let connection = Box::new(Connection::new(&self.options.connection, now));
            entry.state = State::Open { link, connection };
        }
    }

    /// Bytes came.
    pub fn handle_bytes(&mut self, now: Duration, link: LinkId, bytes: &[u8]) {
        if let Some(connection) = self.connection(link) {
            connection.handle_bytes(now, bytes);
        }
    }

    /// A dial failed, or the connection ended or broke. What came before must be polled first.
    pub fn handle_closed(&mut self, now: Duration, link: LinkId, reason: &str) {
        self.fail(now, link, reason.to_owned());
    }

    /// When [`Links::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let due = self.entries.iter().filter_map(|entry| match &entry.state {
            State::Resting { until } => (!self.closing).then_some(*until),
            State::Dialing { deadline, .. } => Some(*deadline),
            State::Open { connection, .. } => Some(connection.poll_timeout()),
        });
        due.min()
    }

    /// Gives up what has been silent for too long.
    pub fn handle_timeout(&mut self, now: Duration) {
        let mut failed = Vec::new();
        for entry in &mut self.entries {
            match &mut entry.state {
                State::Resting { .. } => {}
                // The shell's own deadline ends a dial; this one is for a shell that forgot.
                State::Dialing { link, deadline } if now >= *deadline => {
                    failed.push((*link, "no connection in time".to_owned()));
                }
                State::Dialing { .. } => {}
                State::Open { link, connection } => {
                    if let Err(error) = connection.handle_timeout(now) {
                        failed.push((*link, error.to_string()));
                    }
                }
            }
        }
        for (link, reason) in failed {
            self.actions.push_back(Action::Drop(link));
            self.fail(now, link, reason);
        }
    }

    /// What the shell has to do next.
    pub fn poll_action(&mut self, now: Duration) -> Option<Action> {
        if let Some(action) = self.actions.pop_front() {
            return Some(action);
        }
        if self.closing {
            return None;
        }
        let rested = |entry: &&mut Entry| match entry.state {
            State::Resting { until } => entry.wanted && now >= until,
            _ => false,
        };
        let entry = self.entries.iter_mut().find(rested)?;
        let link = LinkId(self.next);
        self.next += 1;
        let timeout = self.options.dial_timeout;
        // Twice the shell's time: it reports first.
        let deadline = now.saturating_add(timeout.saturating_mul(2));
        entry.state = State::Dialing { link, deadline };
        Some(Action::Dial {
            link,
            address: entry.address.clone(),
            timeout,
        })
    }

    /// Open links with bytes to send.
    pub fn with_output(&self) -> impl Iterator<Item = LinkId> + '_ {
        self.open()
            .filter(|(_, connection)| connection.has_output())
            .map(|(link, _)| link)
    }

    /// Bytes to send over a link; the shell takes them all (`std::mem::swap` with its empty buffer).
    pub fn output(&mut self, link: LinkId) -> Option<&mut Vec<u8>> {
        self.connection(link).map(Connection::output)
    }

    /// What happened next.
    pub fn poll_event(&mut self, now: Duration) -> Option<Event<'_>> {
        let stepped = match self.news.is_empty() {
            true => self.step(now),
            false => None,
        };
        let Some((at, link, step)) = stepped else {
            return self.news.pop_front().map(|news| match news {
                News::Down {
                    link,
                    reason,
                    failures,
                } => Event::Down {
                    link,
                    reason,
                    failures,
                },
                News::Refused(link, token, text) => Event::Refused(link, token, text),
                News::Lost(link, token) => Event::Lost(link, token),
            });
        };
        let State::Open { connection, .. } = &self.entries.get(at)?.state else {
            return None;
        };
        Some(match connection.event(step) {
            connection::Event::Answered(token) => Event::Answered(link, token),
            connection::Event::Message(message) => Event::Message(link, message),
            connection::Event::TooLate(text) => Event::TooLate(link, text),
            connection::Event::CloseWait => Event::CloseWait(link),
            // The others are dealt with in `step`.
            _ => Event::Up(link),
        })
    }

    /// The next thing that happened on a connection and is of interest outside; what ends a
    /// connection becomes news.
    fn step(&mut self, now: Duration) -> Option<(usize, LinkId, Step)> {
        let mut at = 0;
        while let Some(entry) = self.entries.get_mut(at) {
            let State::Open { link, connection } = &mut entry.state else {
                at += 1;
                continue;
            };
            let link = *link;
            let reason = match connection.step(now) {
                Ok(None) => {
                    at += 1;
                    continue;
                }
                Ok(Some(Step::Nothing)) => continue,
                Ok(Some(Step::Heartbeat)) => {
                    entry.backoff.reset();
                    continue;
                }
                Ok(Some(Step::Refused(token, text))) => {
                    if let Some(token) = token {
                        if connection::is_own_fault(&text) {
                            entry.backoff.reset();
                        }
                        self.news
                            .push_back(News::Refused(link, token, text.clone()));
                    }
                    text
                }
                Ok(Some(step)) => {
                    // A broker that only greets and hangs up has not proved well.
                    if matches!(step, Step::Answered(_) | Step::Message { .. }) {
                        entry.backoff.reset();
                    }
                    return Some((at, link, step));
                }
                Err(error) => error.to_string(),
            };
            self.actions.push_back(Action::Drop(link));
            self.fail(now, link, reason);
            at = 0; // entries may have moved
        }
        None
    }

    /// Ends a link: its publishes are lost, its broker rests.
    fn fail(&mut self, now: Duration, link: LinkId, reason: String) {
        let Some(entry) = self
            .entries
            .iter_mut()
            .find(|entry| entry.state.link() == Some(link))
        else {
            return;
        };
        let pause = entry.backoff.fail(&mut self.rng);
        let failures = entry.backoff.failures();
        let until = now.saturating_add(pause);
        let state = std::mem::replace(&mut entry.state, State::Resting { until });
        if let State::Open { connection, .. } = state {
            self.news
                .extend(connection.into_lost().map(|token| News::Lost(link, token)));
        }
        // An error of connecting names the address itself.
        let address = entry.address.to_string();
        let reason = if reason.contains(&address) {
            reason
        } else {
            format!("{address}: {reason}")
        };
        self.news.push_back(News::Down {
            link,
            reason,
            failures,
        });
        self.entries
            .retain(|entry| entry.wanted || !matches!(entry.state, State::Resting { .. }));
    }

    fn open(&self) -> impl Iterator<Item = (LinkId, &Connection)> {
        self.entries.iter().filter_map(|entry| match &entry.state {
            State::Open { link, connection } => Some((*link, connection.as_ref())),
            _ => None,
        })
    }
}
