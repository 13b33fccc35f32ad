//! Runs a core that has [`Links`] on the event loop: dials, reads, writes, timers.
//!
//! Whatever is handed to the core ends in a turn: the core digests its events, then dials are
//! started and writers woken. A turn runs where its cause is, so a delivery and its answer need no
//! detour over another task.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use runtime::io::AsyncWriteExt;
use runtime::net::{Address, Stream, connect};
use runtime::{Either, Notify, Task, clock, race, spawn, timer, yield_now};

use crate::limits::{BUFFER_KEPT_BYTES, LAST_WORDS_TIME_MAX, READ_BYTES};
use crate::links::{Action, LinkId, Links};

/// Rules that a [`Host`] can run.
pub trait Core: 'static {
    /// How many sets of links there are.
    const SETS: usize;

    /// The set of this number, below [`Core::SETS`].
    fn links(&mut self, set: usize) -> Option<&mut Links>;

    /// Digests all events of the links and says what follows from them. Called after everything.
    fn turn(&mut self, now: Duration);

    /// When a turn is due though nothing happened; the links' own timers are seen to.
    fn poll_timeout(&self) -> Option<Duration>;
}

/// A core on the event loop. Dropping it drops the connections; see [`Host::idle`] for an orderly
/// end.
pub struct Host<C: Core> {
    shared: Rc<Shared<C>>,
    _timer: Task<()>,
}

struct Shared<C> {
    core: RefCell<C>,
    after_turn: Box<dyn Fn(&mut C)>,
    ports: RefCell<BTreeMap<(usize, LinkId), Port>>,
    /// One buffer for all reads: what is read is handed to the core before anything else runs.
    scratch: RefCell<Vec<u8>>,
    /// A turn is wanted, or the deadline moved.
    soon: Notify,
    /// What the timer sleeps until.
    armed: Cell<Duration>,
    /// A port was closed.
    closed: Notify,
}

/// A link's task and how to reach it.
struct Port {
    output: Notify,
    hang_up: Rc<Cell<bool>>,
    _task: Task<()>,
}

impl<C: Core> Host<C> {
    /// Starts. `after_turn` runs after each turn, to hand outcomes to those who wait for them; it
    /// must not call the host.
    pub fn new(core: C, after_turn: impl Fn(&mut C) + 'static) -> Self {
        let shared = Rc::new(Shared {
            core: RefCell::new(core),
            after_turn: Box::new(after_turn),
            ports: RefCell::default(),
            scratch: RefCell::new(vec![0; READ_BYTES]),
            soon: Notify::new(),
            armed: Cell::new(Duration::MAX),
            closed: Notify::new(),
        });
        shared.soon.notify();
        let timer = spawn(run_timer(Rc::clone(&shared)));
        Self {
            shared,
            _timer: timer,
        }
    }

    /// Looks at the core or changes it; a turn follows at once.
    pub fn with<T>(&self, act: impl FnOnce(&mut C, Duration) -> T) -> T {
        let value = act(&mut self.shared.core.borrow_mut(), clock::now());
        turn(&self.shared);
        value
    }

    /// Changes the core; a turn follows soon, one for many changes.
    pub fn soon<T>(&self, act: impl FnOnce(&mut C) -> T) -> T {
        self.shared.soon.notify();
        act(&mut self.shared.core.borrow_mut())
    }

    /// Changes the core in a way that nothing follows from.
    pub fn change<T>(&self, act: impl FnOnce(&mut C) -> T) -> T {
        act(&mut self.shared.core.borrow_mut())
    }

    /// Looks at the core.
    pub fn look<T>(&self, look: impl FnOnce(&C) -> T) -> T {
        look(&self.shared.core.borrow())
    }

    /// Waits until no connection is open or being opened; after [`Links::close`].
    pub async fn idle(&self) {
        while !self.shared.ports.borrow().is_empty() {
            self.shared.closed.notified().await;
        }
    }
}

impl<C: Core> Drop for Host<C> {
    fn drop(&mut self) {
        // The tasks hold what holds them.
        let ports = std::mem::take(&mut *self.shared.ports.borrow_mut());
        drop(ports);
    }
}

fn turn<C: Core>(shared: &Rc<Shared<C>>) {
    let now = clock::now();
    let mut actions = Vec::new();
    let mut deadline = Duration::MAX;
    {
        let mut core = shared.core.borrow_mut();
        core.turn(now);
        (shared.after_turn)(&mut core);
        let ports = shared.ports.borrow();
        deadline = core.poll_timeout().unwrap_or(Duration::MAX).min(deadline);
        for set in 0..C::SETS {
            let Some(links) = core.links(set) else {
                continue;
            };
            while let Some(action) = links.poll_action(now) {
                actions.push((set, action));
            }
            for link in links.with_output() {
                if let Some(port) = ports.get(&(set, link)) {
                    port.output.notify();
                }
            }
            deadline = links.poll_timeout().unwrap_or(Duration::MAX).min(deadline);
        }
    }
    for (set, action) in actions {
        perform(shared, set, action);
    }
    if deadline < shared.armed.get() {
        shared.soon.notify();
    }
}

fn perform<C: Core>(shared: &Rc<Shared<C>>, set: usize, action: Action) {
    match action {
        Action::Dial {
            link,
            address,
            timeout,
        } => {
            let (output, hang_up) = (Notify::new(), Rc::new(Cell::new(false)));
            let run = Run {
                shared: Rc::clone(shared),
                key: (set, link),
                output: output.clone(),
                hang_up: Rc::clone(&hang_up),
            };
            let task = spawn(run.run(address, timeout));
            shared.ports.borrow_mut().insert(
                (set, link),
                Port {
                    output,
                    hang_up,
                    _task: task,
                },
            );
        }
        Action::HangUp(link) => {
            if let Some(port) = shared.ports.borrow().get(&(set, link)) {
                port.hang_up.set(true);
                port.output.notify();
            }
        }
        Action::Drop(link) => {
            let port = shared.ports.borrow_mut().remove(&(set, link));
            drop(port);
            shared.closed.notify();
        }
    }
}

async fn run_timer<C: Core>(shared: Rc<Shared<C>>) {
    loop {
        let deadline = {
            let mut core = shared.core.borrow_mut();
            let own = core.poll_timeout();
            let links = (0..C::SETS)
                .filter_map(|set| core.links(set)?.poll_timeout())
                .min();
            own.into_iter().chain(links).min().unwrap_or(Duration::MAX)
        };
        shared.armed.set(deadline);
        race(shared.soon.notified(), timer::sleep_until(deadline)).await;
        let now = clock::now();
        for set in 0..C::SETS {
            if let Some(links) = shared.core.borrow_mut().links(set) {
                links.handle_timeout(now);
            }
        }
        turn(&shared);
    }
}

/// What a link's task has at hand.
struct Run<C: Core> {
    shared: Rc<Shared<C>>,
    key: (usize, LinkId),
    output: Notify,
    hang_up: Rc<Cell<bool>>,
}

impl<C: Core> Run<C> {
    async fn run(self, address: Address, timeout: Duration) {
        let reason = match connect(&address, timeout).await {
            Ok(stream) => {
                self.tell(|links, now, link| links.handle_connected(now, link));
                let mut reading = pin!(self.read(&stream));
                match race(self.write(stream.clone()), reading.as_mut()).await {
                    Either::Left(Ok(())) => "closed".to_owned(),
                    Either::Left(Err(error)) => {
                        // A broker that refuses a publish closes while we still write the next ones:
                        // its last words are there to be read.
                        let _last = timer::timeout(LAST_WORDS_TIME_MAX, reading).await;
                        error.to_string()
                    }
                    Either::Right(Ok(())) => "closed by the broker".to_owned(),
                    Either::Right(Err(error)) => error.to_string(),
                }
            }
            Err(error) => error.to_string(),
        };
        let port = self.shared.ports.borrow_mut().remove(&self.key);
        self.shared.closed.notify();
        self.tell(|links, now, link| links.handle_closed(now, link, &reason));
        // Our own task: it ends here, so that the port's end must not cancel it before the above.
        drop(port);
    }

    fn tell(&self, tell: impl FnOnce(&mut Links, Duration, LinkId)) {
        let (set, link) = self.key;
        if let Some(links) = self.shared.core.borrow_mut().links(set) {
            tell(links, clock::now(), link);
        }
        turn(&self.shared);
    }

    /// Until the broker ends the connection.
    async fn read(&self, stream: &Stream) -> io::Result<()> {
        loop {
            let (set, link) = self.key;
            let read = stream.try_read(&mut self.shared.scratch.borrow_mut());
            match read {
                Ok(0) => return Ok(()),
                Ok(bytes) => {
                    {
                        let scratch = self.shared.scratch.borrow();
                        let bytes = scratch.get(..bytes).unwrap_or_default();
                        if let Some(links) = self.shared.core.borrow_mut().links(set) {
                            links.handle_bytes(clock::now(), link, bytes);
                        }
                    }
                    turn(&self.shared);
                    // A broker that sends without pause must not keep the others waiting.
                    yield_now().await;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    stream.readable().await?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Until it shall hang up and everything is sent.
    async fn write(&self, mut stream: Stream) -> io::Result<()> {
        let (set, link) = self.key;
        let mut pending = Vec::new();
        loop {
            let core = &self.shared.core;
            if let Some(output) = core
                .borrow_mut()
                .links(set)
                .and_then(|links| links.output(link))
            {
                std::mem::swap(output, &mut pending);
            }
            if pending.is_empty() {
                if self.hang_up.get() {
                    stream.finish().await;
                    return Ok(());
                }
                self.output.notified().await;
                continue;
            }
            stream.write_all(&pending).await?;
            pending.clear();
            if pending.capacity() > BUFFER_KEPT_BYTES {
                pending = Vec::new();
            }
        }
    }
}
