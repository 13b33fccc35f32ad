//! The link between gateway and upstream: a proxy that takes its time and is cut again and again.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use client::rng::Rng;
use runtime::io::AsyncWriteExt;
use runtime::net::{Address, Listener, Stream, connect};
use runtime::{Notify, Task, clock, race, spawn, timer};

use super::state::State;

/// One way. A round trip of 30 ms is a good mobile link's.
const DELAY: Duration = Duration::from_millis(15);
/// On its way in one direction of one connection; above it nothing more is read.
const ON_ITS_WAY_BYTES_MAX: usize = 256 << 10;
/// For the proxy to reach an upstream.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Between attempts to listen again, should another program have taken the port.
const LISTEN_AGAIN: Duration = Duration::from_millis(100);

/// When the link is there and when not.
#[derive(Debug)]
pub(crate) struct Schedule {
    rng: Rng,
}

/// The link is there, and then it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Period {
    pub(crate) up: Duration,
    pub(crate) down: Duration,
}

impl Schedule {
    const UP_MS: (u64, u64) = (600, 1_600);
    const DOWN_MS: (u64, u64) = (200, 800);

    /// The same seed gives the same periods.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed),
        }
    }
}

impl Iterator for Schedule {
    type Item = Period;

    fn next(&mut self) -> Option<Period> {
        let mut between =
            |(min, max): (u64, u64)| Duration::from_millis(min + self.rng.below(max - min));
        Some(Period {
            up: between(Self::UP_MS),
            down: between(Self::DOWN_MS),
        })
    }
}

/// The proxy; gone when it is dropped.
pub(crate) struct Link {
    _task: Task<()>,
}

impl Link {
    /// Listens on `address` and takes what comes to `upstream`; what happens is told to `state`.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub(crate) fn open(
        address: Address,
        upstream: Address,
        schedule: Schedule,
        state: Rc<State>,
    ) -> Result<Self, String> {
        let listener = Listener::bind(&address).map_err(|error| format!("the link: {error}"))?;
        let task = spawn(keep(state, listener, address, upstream, schedule));
        Ok(Self { _task: task })
    }
}

async fn keep(
    state: Rc<State>,
    mut listener: Listener,
    address: Address,
    upstream: Address,
    schedule: Schedule,
) {
    for period in schedule {
        let until = clock::now().saturating_add(period.up);
        state.facts.borrow_mut().link_is_up = true;
        let crossings = serve(listener, &upstream, until).await;
        let open = crossings.iter().filter(|open| !open.is_finished()).count();
        {
            let mut facts = state.facts.borrow_mut();
            facts.link_is_up = false;
            facts.cuts += 1;
            facts.broken += u32::try_from(open).unwrap_or(u32::MAX);
        }
        state.changed.notify();
        // Whatever is on its way is lost, and the listener is closed: connecting is refused.
        drop(crossings);
        timer::sleep(period.down).await;
        listener = loop {
            match Listener::bind(&address) {
                Ok(listener) => break listener,
                Err(_) => timer::sleep(LISTEN_AGAIN).await,
            }
        };
    }
}

/// Takes connections until then; gives back those that were taken.
async fn serve(listener: Listener, upstream: &Address, until: Duration) -> Vec<Task<()>> {
    let mut crossings: Vec<Task<()>> = Vec::new();
    while let Ok(near) = timer::timeout_at(until, listener.accept()).await {
        crossings.retain(|crossing| !crossing.is_finished());
        crossings.push(spawn(cross(near, upstream.clone())));
    }
    crossings
}

/// One connection. Ended from outside, both sides see it end without what was on its way.
async fn cross(near: Stream, upstream: Address) {
    let Ok(far) = connect(&upstream, CONNECT_TIMEOUT).await else {
        return;
    };
    let there = carry(near.clone(), far.clone());
    let back = carry(far, near);
    // NSQ has no half-closed connections: when one direction ends, all of it does.
    let _either = race(there, back).await;
}

/// One direction, until it ends and all of it is across.
async fn carry(from: Stream, to: Stream) {
    let lane = Lane::default();
    // The writer ends it: it alone knows when all is across.
    let _writer = race(read(from, &lane), write(to, &lane)).await;
}

/// What is on its way in one direction, each piece with the time of its arrival.
#[derive(Default)]
struct Lane {
    pieces: RefCell<VecDeque<(Duration, Vec<u8>)>>,
    bytes: Cell<usize>,
    changed: Notify,
    left: Notify,
}

async fn read(from: Stream, lane: &Lane) {
    loop {
        while lane.bytes.get() >= ON_ITS_WAY_BYTES_MAX {
            lane.left.notified().await;
        }
        let mut piece = Vec::new();
        let read = from.read_into(&mut piece, ON_ITS_WAY_BYTES_MAX).await;
        let is_end = !matches!(read, Ok(bytes) if bytes > 0);
        lane.bytes.set(lane.bytes.get() + piece.len());
        let due = clock::now().saturating_add(DELAY);
        lane.pieces.borrow_mut().push_back((due, piece));
        lane.changed.notify();
        if is_end {
            // The writer ends when it comes to the empty piece.
            return std::future::pending().await;
        }
    }
}

async fn write(mut to: Stream, lane: &Lane) {
    loop {
        let next = lane.pieces.borrow_mut().pop_front();
        let Some((due, piece)) = next else {
            lane.changed.notified().await;
            continue;
        };
        timer::sleep_until(due).await;
        if piece.is_empty() || to.write_all(&piece).await.is_err() {
            return;
        }
        lane.bytes.set(lane.bytes.get() - piece.len());
        lane.left.notify();
    }
}

#[cfg(test)]
mod tests {
    use runtime::io::AsyncReadExt;

    use super::*;

    #[test]
    fn a_seed_gives_the_same_periods_within_their_bounds() {
        let first: Vec<Period> = Schedule::new(5).take(1_000).collect();
        assert_eq!(first, Schedule::new(5).take(1_000).collect::<Vec<_>>());
        for Period { up, down } in first {
            assert!((600..1_600).contains(&up.as_millis()), "{up:?}");
            assert!((200..800).contains(&down.as_millis()), "{down:?}");
        }
    }

    #[test]
    fn bytes_cross_late_and_in_order_and_a_cut_ends_the_connection() {
        runtime::run(async {
            let server = Listener::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
            let free = Listener::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
            let address = free.local_address().unwrap();
            drop(free);
            let upstream = server.local_address().unwrap();
            let state = Rc::new(State::default());
            let schedule = Schedule::new(1);
            let _link = Link::open(address.clone(), upstream, schedule, Rc::clone(&state)).unwrap();
            let started = clock::now();
            let mut near = connect(&address, CONNECT_TIMEOUT).await.unwrap();
            let mut far = server.accept().await;
            let sent: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 251) as u8).collect();
            let mut sender = near.clone();
            let sending = {
                let sent = sent.clone();
                spawn(async move { sender.write_all(&sent).await })
            };
            let mut received = vec![0; sent.len()];
            far.read_exact(&mut received).await.unwrap();
            sending.await.unwrap();
            assert!(received == sent);
            assert!(clock::now() - started >= DELAY);
            // Nothing is sent any more, so only the schedule can end it.
            assert_eq!(near.read(&mut [0; 1]).await.unwrap_or(0), 0);
            assert_eq!(far.read(&mut [0; 1]).await.unwrap_or(0), 0);
            let facts = state.facts.borrow().clone();
            assert_eq!((facts.cuts, facts.broken, facts.link_is_up), (1, 1, false));
            assert!(connect(&address, CONNECT_TIMEOUT).await.is_err());
        });
    }
}
