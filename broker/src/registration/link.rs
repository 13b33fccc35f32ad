//! One lookupd's link: what to send, what to wait for, when to give up. No I/O; time and seed are
//! arguments.

use std::rc::Rc;
use std::time::Duration;

use protocol::Progress;
use protocol::lookup::{self, PeerInfo};

use super::catalogue::{Catalogue, Change};
use super::limits::{
    ANSWER_BYTES_MAX, ANSWER_TIME_MAX, OUTSTANDING_MAX, PING_EVERY, RETRY_MAX, RETRY_MIN,
};

/// The protocol's state with one lookupd. The host calls, for each connection: [`Link::connected`];
/// then again and again [`Link::poll_output`], [`Link::handle_bytes`] with what came, and
/// [`Link::handle_timeout`] at [`Link::poll_timeout`]; and at its end [`Link::disconnected`].
#[derive(Debug)]
pub(super) struct Link {
    identity: PeerInfo,
    state: State,
    /// What the lookupd knows once `changes` are done.
    goal: Rc<Catalogue>,
    /// What it knew before; the changes' names are in these two.
    before: Rc<Catalogue>,
    /// What is still to be said of it; the last one is next.
    changes: Vec<Change>,
    /// Answers that are owed to us, and until when.
    outstanding: usize,
    answer_until: Duration,
    ping_at: Duration,
    failures: u32,
    random: u64,
    refusal_logged: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// IDENTIFY was sent.
    Identifying,
    /// It was answered.
    Ready,
}

/// Why a link is given up.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LinkError {
    #[error("IDENTIFY was refused: {0}")]
    Refused(String),
    #[error("an answer is larger than {ANSWER_BYTES_MAX} bytes")]
    AnswerTooLarge,
    #[error("an answer that nothing was asked for: {0}")]
    Unasked(String),
    #[error("no answer within {ANSWER_TIME_MAX:?}")]
    TimedOut,
}

/// What [`Link::handle_bytes`] found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Handled {
    /// Bytes that are done with.
    pub(super) consumed: usize,
    /// IDENTIFY was answered: told once per connection.
    pub(super) identified: bool,
    /// Who the lookupd is, told then. Old ones do not say.
    pub(super) lookupd: Option<PeerInfo>,
}

impl Link {
    /// `seed` spreads the retries of many gateways, which come back together after an outage.
    pub(super) fn new(identity: PeerInfo, seed: u64) -> Link {
        Link {
            identity,
            state: State::Identifying,
            goal: Rc::default(),
            before: Rc::default(),
            changes: Vec::new(),
            outstanding: 0,
            answer_until: Duration::MAX,
            ping_at: Duration::MAX,
            failures: 0,
            random: seed | 1,
            refusal_logged: false,
        }
    }

    /// A connection is there: appends what is said first.
    pub(super) fn connected(&mut self, now: Duration, out: &mut Vec<u8>) {
        self.state = State::Identifying;
        self.goal = Rc::default(); // a new connection is a new producer, of which nothing is known
        self.before = Rc::default();
        self.changes = Vec::new();
        self.outstanding = 1;
        self.answer_until = now + ANSWER_TIME_MAX;
        out.extend_from_slice(protocol::MAGIC_V1);
        lookup::encode_identify(&self.identity, out);
    }

    /// Appends the commands that bring the lookupd nearer to `wanted`, as many as may be
    /// outstanding, or a PING when it is time for one.
    pub(super) fn poll_output(&mut self, now: Duration, wanted: &Rc<Catalogue>, out: &mut Vec<u8>) {
        if self.state != State::Ready {
            return;
        }
        let before = self.outstanding;
        while self.outstanding < OUTSTANDING_MAX {
            if let Some(change) = self.changes.pop() {
                self.goal.encode(&self.before, change, out);
                self.outstanding += 1;
            } else if !Rc::ptr_eq(&self.goal, wanted) {
                self.before = std::mem::replace(&mut self.goal, Rc::clone(wanted));
                self.changes = self.goal.changes_since(&self.before);
            } else {
                self.before = Rc::clone(&self.goal); // lets go of the old names
                break;
            }
        }
        if self.outstanding == 0 && now >= self.ping_at {
            lookup::encode_ping(out);
            self.outstanding = 1;
        }
        if self.outstanding > before {
            self.answer_until = now + ANSWER_TIME_MAX;
            self.ping_at = now + PING_EVERY;
        }
    }

    /// Takes the answers in `buffer`.
    pub(super) fn handle_bytes(
        &mut self,
        now: Duration,
        buffer: &[u8],
    ) -> Result<Handled, LinkError> {
        let mut handled = Handled::default();
        loop {
            let rest = buffer.get(handled.consumed..).unwrap_or_default();
            let answer = match lookup::decode_reply(rest, ANSWER_BYTES_MAX) {
                None => return Err(LinkError::AnswerTooLarge),
                Some(Progress::NeedBytes { .. }) => return Ok(handled),
                Some(Progress::Done { value, consumed }) => {
                    handled.consumed += consumed;
                    value
                }
            };
            if self.outstanding == 0 {
                return Err(LinkError::Unasked(printable(answer)));
            }
            self.outstanding -= 1;
            self.answer_until = now + ANSWER_TIME_MAX;
            if self.state == State::Identifying {
                handled.lookupd = identified(answer)?;
                handled.identified = true;
                self.state = State::Ready;
                self.ping_at = now + PING_EVERY;
            } else {
                // Well said and answered: only now is the lookupd as good as one that never failed.
                self.failures = 0;
                self.note_refusal(answer);
            }
        }
    }

    /// When [`Link::poll_output`] or [`Link::handle_timeout`] will have something to do, if nothing
    /// else happens.
    pub(super) fn poll_timeout(&self) -> Duration {
        if self.outstanding > 0 {
            self.answer_until
        } else {
            self.ping_at
        }
    }

    /// Whether answers are overdue.
    pub(super) fn handle_timeout(&mut self, now: Duration) -> Result<(), LinkError> {
        if self.outstanding > 0 && now >= self.answer_until {
            return Err(LinkError::TimedOut);
        }
        Ok(())
    }

    /// The connection is gone, or never was: when to try the next one. The wait doubles with each
    /// failure up to a bound, and is then drawn from its second half.
    pub(super) fn disconnected(&mut self, now: Duration) -> Duration {
        self.changes = Vec::new();
        let doubled = RETRY_MIN
            .saturating_mul(1 << self.failures.min(10))
            .min(RETRY_MAX);
        self.failures = self.failures.saturating_add(1);
        let half = doubled / 2;
        now + half + half.mul_f64(self.fraction())
    }

    /// Between 0 and 1. xorshift64: spreading needs no better.
    fn fraction(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A lookupd may refuse one command and go on (ours does when it is full). nsqd ignores such
    /// answers; here one is logged.
    fn note_refusal(&mut self, answer: &[u8]) {
        if answer != lookup::OK && !self.refusal_logged {
            self.refusal_logged = true;
            log::warn!("a lookupd refused a registration: {}", printable(answer));
        }
    }
}

/// Reads the answer to IDENTIFY. nsqlookupd closes after an error; `OK` is what old ones say.
fn identified(answer: &[u8]) -> Result<Option<PeerInfo>, LinkError> {
    if answer == lookup::OK {
        return Ok(None);
    }
    match PeerInfo::from_reply(answer) {
        Some(lookupd) => Ok(Some(lookupd)),
        None => Err(LinkError::Refused(printable(answer))),
    }
}

/// An answer as a log may have it.
fn printable(answer: &[u8]) -> String {
    const BYTES_MAX: usize = 200;
    answer
        .get(..BYTES_MAX)
        .unwrap_or(answer)
        .escape_ascii()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::super::catalogue::tests::catalogue;
    use super::*;

    const NOW: Duration = Duration::from_secs(1000);
    const OK: &[u8] = b"\x00\x00\x00\x02OK";

    fn peer(name: &str) -> PeerInfo {
        PeerInfo {
            broadcast_address: name.to_owned(),
            hostname: name.to_owned(),
            tcp_port: 4150,
            http_port: 4151,
            version: "1.3.0".to_owned(),
        }
    }

    fn answer(data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        lookup::encode_reply(data, &mut out);
        out
    }

    /// A link whose IDENTIFY was answered.
    fn ready(now: Duration) -> Link {
        let mut link = Link::new(peer("gw"), 7);
        link.connected(now, &mut Vec::new());
        let handled = link
            .handle_bytes(now, &answer(&peer("lk").to_json()))
            .unwrap();
        assert_eq!(handled.lookupd, Some(peer("lk")));
        link
    }

    fn output(link: &mut Link, now: Duration, wanted: &Rc<Catalogue>) -> String {
        let mut out = Vec::new();
        link.poll_output(now, wanted, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_connection_begins_with_magic_and_identify_and_waits_for_the_answer() {
        let mut link = Link::new(peer("gw"), 7);
        let mut out = Vec::new();
        link.connected(NOW, &mut out);
        let mut expected = b"  V1".to_vec();
        lookup::encode_identify(&peer("gw"), &mut expected);
        assert_eq!(out, expected);
        assert_eq!(output(&mut link, NOW, &Rc::new(catalogue("t"))), "");
        assert_eq!(link.poll_timeout(), NOW + ANSWER_TIME_MAX);
        assert_eq!(
            link.handle_timeout(link.poll_timeout()),
            Err(LinkError::TimedOut)
        );
    }

    #[test]
    fn everything_is_registered_and_later_changes_follow() {
        let mut link = ready(NOW);
        let wanted = Rc::new(catalogue("t:a u"));
        assert_eq!(
            output(&mut link, NOW, &wanted),
            "REGISTER t a\nREGISTER u\n"
        );
        assert_eq!(output(&mut link, NOW, &wanted), "");
        // A change that comes while answers are owed follows at once.
        let wanted = Rc::new(catalogue("u v"));
        let expected = "UNREGISTER t a\nUNREGISTER t\nREGISTER v\n";
        assert_eq!(output(&mut link, NOW, &wanted), expected);
        assert_eq!(link.handle_bytes(NOW, &OK.repeat(5)).unwrap().consumed, 30);
        assert_eq!(output(&mut link, NOW, &wanted), "");
        assert_eq!(link.poll_timeout(), NOW + PING_EVERY);
    }

    #[test]
    fn after_a_reconnect_everything_is_registered_again() {
        let mut link = ready(NOW);
        let wanted = Rc::new(catalogue("t:a u"));
        assert_ne!(output(&mut link, NOW, &wanted), "");
        link.disconnected(NOW);
        link.connected(NOW, &mut Vec::new());
        link.handle_bytes(NOW, &answer(b"OK")).unwrap(); // an old one
        assert_eq!(
            output(&mut link, NOW, &wanted),
            "REGISTER t a\nREGISTER u\n"
        );
    }

    #[test]
    fn a_ping_is_sent_after_15_silent_seconds() {
        let (mut link, wanted) = (ready(NOW), Rc::new(catalogue("")));
        assert_eq!(output(&mut link, NOW, &wanted), "");
        assert_eq!(link.poll_timeout(), NOW + PING_EVERY);
        let due = NOW + PING_EVERY;
        assert_eq!(
            output(&mut link, due - Duration::from_millis(1), &wanted),
            ""
        );
        assert_eq!(output(&mut link, due, &wanted), "PING\n");
        assert_eq!(output(&mut link, due, &wanted), "");
        assert_eq!(link.poll_timeout(), due + ANSWER_TIME_MAX);
        assert_eq!(link.handle_timeout(due), Ok(()));
        link.handle_bytes(due, OK).unwrap();
        assert_eq!(link.poll_timeout(), due + PING_EVERY);
    }

    #[test]
    fn many_registrations_go_out_in_portions() {
        let topics: String = (0..200).map(|n| format!("t{n} ")).collect();
        let (mut link, wanted) = (ready(NOW), Rc::new(catalogue(&topics)));
        let mut portions = Vec::new();
        loop {
            let portion = output(&mut link, NOW, &wanted).lines().count();
            if portion == 0 {
                break;
            }
            portions.push(portion);
            assert_eq!(output(&mut link, NOW, &wanted), "", "until answers come");
            link.handle_bytes(NOW, &OK.repeat(portion)).unwrap();
        }
        assert_eq!(portions, [64, 64, 64, 8]);
    }

    #[test]
    fn answers_may_come_in_any_pieces() {
        let mut link = ready(NOW);
        output(&mut link, NOW, &Rc::new(catalogue("t u")));
        let all = OK.repeat(2);
        assert_eq!(link.handle_bytes(NOW, &all[..3]).unwrap().consumed, 0);
        assert_eq!(link.handle_bytes(NOW, &all[..8]).unwrap().consumed, 6);
        assert_eq!(link.handle_bytes(NOW, &all[6..]).unwrap().consumed, 6);
        assert_eq!(link.handle_timeout(NOW + PING_EVERY), Ok(()));
    }

    #[test]
    fn a_refused_identify_and_nonsense_end_the_connection() {
        let mut link = Link::new(peer("gw"), 7);
        link.connected(NOW, &mut Vec::new());
        let refused = link.handle_bytes(NOW, &answer(b"E_BAD_BODY IDENTIFY missing fields"));
        let text = "E_BAD_BODY IDENTIFY missing fields".to_owned();
        assert_eq!(refused, Err(LinkError::Refused(text)));
        assert_eq!(
            ready(NOW).handle_bytes(NOW, OK),
            Err(LinkError::Unasked("OK".to_owned()))
        );
        let large = (ANSWER_BYTES_MAX + 1).to_be_bytes();
        assert_eq!(
            ready(NOW).handle_bytes(NOW, &large),
            Err(LinkError::AnswerTooLarge)
        );
    }

    #[test]
    fn a_refused_registration_does_not_end_the_connection() {
        let mut link = ready(NOW);
        output(&mut link, NOW, &Rc::new(catalogue("t u")));
        let answers = [
            answer(b"E_INVALID REGISTER too many registrations"),
            OK.to_vec(),
        ]
        .concat();
        assert_eq!(
            link.handle_bytes(NOW, &answers).unwrap().consumed,
            answers.len()
        );
    }

    #[test]
    fn retries_wait_longer_and_longer_up_to_a_bound_and_differ_by_seed() {
        let waits = |seed| -> Vec<Duration> {
            let mut link = Link::new(peer("gw"), seed);
            (0..20).map(|_| link.disconnected(NOW) - NOW).collect()
        };
        let first = waits(1);
        assert!(
            first[0] >= RETRY_MIN / 2 && first[0] <= RETRY_MIN,
            "{:?}",
            first[0]
        );
        assert!(first.iter().all(|wait| *wait <= RETRY_MAX));
        assert!(first[10..].iter().all(|wait| *wait >= RETRY_MAX / 2));
        assert_ne!(first, waits(99));
        // A connection that works begins anew; one that is only accepted does not.
        let mut link = ready(NOW);
        for _ in 0..10 {
            link.disconnected(NOW);
        }
        link.connected(NOW, &mut Vec::new());
        link.handle_bytes(NOW, &answer(b"OK")).unwrap();
        assert!(link.failures > 0);
        output(&mut link, NOW, &Rc::new(catalogue("t")));
        link.handle_bytes(NOW, OK).unwrap();
        assert_eq!(link.failures, 0);
    }
}
