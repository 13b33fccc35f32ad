//! Timers on CLOCK_BOOTTIME: one timerfd for all of them, and an ordered table of who waits for
//! when.
//!
//! async-io's own timers count CLOCK_MONOTONIC, which stands still while a device is suspended, so
//! they are not used. The timerfd is armed for the earliest deadline and left alone when that one
//! is cancelled: a needless wake-up is cheaper than a system call at every cancelled timeout.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_io::Async;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::clock;

/// Waits until `deadline`, a time since boot as [`clock::now`] gives it.
pub fn sleep_until(deadline: Duration) -> Sleep {
    Sleep {
        deadline,
        registered: None,
    }
}

/// Waits for `duration` from now on. A duration beyond the clock's range waits forever.
pub fn sleep(duration: Duration) -> Sleep {
    sleep_until(clock::now().saturating_add(duration))
}

/// Runs `future` for `duration` at most, else gives [`TimedOut`] and drops it. It is polled first,
/// so a future that is ready wins over a deadline that has passed.
pub fn timeout<F: Future>(duration: Duration, future: F) -> Timeout<F> {
    timeout_at(clock::now().saturating_add(duration), future)
}

/// [`timeout`] with a deadline since boot; several steps share one.
pub fn timeout_at<F: Future>(deadline: Duration, future: F) -> Timeout<F> {
    Timeout {
        future,
        sleep: sleep_until(deadline),
    }
}

pin_project_lite::pin_project! {
    /// See [`timeout`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless they are awaited"]
    pub struct Timeout<F> {
        #[pin]
        future: F,
        sleep: Sleep,
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, TimedOut>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(context) {
            return Poll::Ready(Ok(output));
        }
        Pin::new(this.sleep).poll(context).map(|()| Err(TimedOut))
    }
}

/// A deadline passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("timed out")]
pub struct TimedOut;

impl From<TimedOut> for std::io::Error {
    fn from(timed_out: TimedOut) -> Self {
        std::io::Error::new(std::io::ErrorKind::TimedOut, timed_out)
    }
}

/// A wait for a deadline. Costs an entry in the table while it is being awaited, and none once it
/// is dropped or done.
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct Sleep {
    deadline: Duration,
    /// The key of our entry in the thread's table, while there is one.
    registered: Option<Key>,
}

impl Sleep {
    /// Waits for another deadline from now on: one timer then serves a loop in which it moves.
    pub fn reset(&mut self, deadline: Duration) {
        if self.deadline != deadline {
            self.unregister();
            self.deadline = deadline;
        }
    }

    /// The deadline, since boot.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    fn unregister(&mut self) {
        if let Some(key) = self.registered.take() {
            // No table: `run` has returned and took it along.
            with_timers(|timers| timers.waiting.borrow_mut().remove(&key));
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if clock::now() >= self.deadline {
            self.unregister();
            return Poll::Ready(());
        }
        let (deadline, registered) = (self.deadline, self.registered);
        let key = with_timers(|timers| timers.register(deadline, registered, context.waker()));
        assert!(key.is_some(), "timers are awaited within run");
        self.registered = key;
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.unregister();
    }
}

/// Gives this thread its table and its timerfd. Within `run`.
pub(crate) fn start() {
    let timers = Rc::new(Timers::default());
    TIMERS.set(Some(Rc::clone(&timers)));
    crate::spawn(async move {
        if let Err(error) = timers.drive().await {
            // Without timers nothing would ever time out again: better a restart by the service
            // manager.
            log::error!("the timer of the event loop failed: {error}");
            std::process::abort();
        }
    })
    .detach();
}

/// Takes the thread's table away.
pub(crate) fn end() {
    drop(TIMERS.take());
}

/// Number of sleeps being awaited on this thread; for tests and statistics.
pub fn waiting() -> usize {
    with_timers(|timers| timers.waiting.borrow().len()).unwrap_or(0)
}

thread_local! {
    static TIMERS: RefCell<Option<Rc<Timers>>> = const { RefCell::new(None) };
}

fn with_timers<T>(then: impl FnOnce(&Timers) -> T) -> Option<T> {
    // `try_with`: a sleep may be dropped by another thread-local's destructor.
    let timers = TIMERS
        .try_with(|timers| timers.borrow().clone())
        .ok()
        .flatten()?;
    Some(then(&timers))
}

/// Deadline, and a number that keeps equal deadlines apart and in the order in which they were
/// first awaited.
type Key = (Duration, u64);

#[derive(Default)]
struct Timers {
    waiting: RefCell<BTreeMap<Key, Waker>>,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    next_number: u64,
    /// What the timerfd is set to, if it is set.
    armed: Option<Duration>,
    fd: Option<Rc<Async<TimerFd>>>,
}

impl Timers {
    fn register(&self, deadline: Duration, registered: Option<Key>, waker: &Waker) -> Key {
        let mut waiting = self.waiting.borrow_mut();
        if let Some(key) = registered {
            if let Some(known) = waiting.get_mut(&key) {
                known.clone_from(waker);
                return key;
            }
        }
        let number = {
            let mut state = self.state.borrow_mut();
            state.next_number += 1;
            state.next_number
        };
        waiting.insert((deadline, number), waker.clone());
        drop(waiting);
        self.arm();
        (deadline, number)
    }

    /// Wakes everything that is due.
    fn fire(&self) {
        let now = clock::now();
        let due = {
            let mut waiting = self.waiting.borrow_mut();
            let later = waiting.split_off(&(now.saturating_add(Duration::from_nanos(1)), 0));
            std::mem::replace(&mut *waiting, later)
        };
        for waker in due.into_values() {
            waker.wake();
        }
    }

    /// Sets the timerfd to the earliest deadline, unless it is set to that or to something earlier.
    fn arm(&self) {
        let Some((earliest, _)) = self.waiting.borrow().keys().next().copied() else {
            return;
        };
        let mut state = self.state.borrow_mut();
        let Some(fd) = state.fd.clone() else { return };
        if state.armed.is_some_and(|armed| armed <= earliest) {
            return;
        }
        // A deadline of zero would disarm it; and seconds beyond time_t (32 bits on armhf) are
        // capped: it is armed again then.
        let at = earliest.clamp(Duration::from_nanos(1), FARTHEST);
        let expiration = Expiration::OneShot(TimeSpec::from_duration(at));
        match fd
            .get_ref()
            .set(expiration, TimerSetTimeFlags::TFD_TIMER_ABSTIME)
        {
            Ok(()) => state.armed = Some(at),
            Err(error) => log::error!("the event loop's timer cannot be set: {error}"),
        }
    }

    async fn drive(&self) -> std::io::Result<()> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let fd = Rc::new(Async::new(TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?)?);
        self.state.borrow_mut().fd = Some(Rc::clone(&fd));
        loop {
            self.fire();
            self.arm();
            // Reading is what ends the readiness; the number of expirations is of no interest.
            fd.read_with(|fd| fd.wait().map_err(std::io::Error::from))
                .await?;
            self.state.borrow_mut().armed = None;
        }
    }
}

/// 68 years after boot: the end of a 32-bit time_t.
const FARTHEST: Duration = Duration::from_secs(i32::MAX as u64);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{run, spawn};

    #[test]
    fn timers_fire_in_the_order_of_their_deadlines_and_not_early() {
        run(async {
            let order = Rc::new(RefCell::new(Vec::new()));
            let start = clock::now();
            let tasks: Vec<_> = [30_u64, 10, 20, 10]
                .into_iter()
                .enumerate()
                .map(|(index, millis)| {
                    let order = Rc::clone(&order);
                    spawn(async move {
                        let deadline = start + Duration::from_millis(millis);
                        sleep_until(deadline).await;
                        assert!(clock::now() >= deadline);
                        order.borrow_mut().push(index);
                    })
                })
                .collect();
            for task in tasks {
                task.await;
            }
            assert_eq!(*order.borrow(), [1, 3, 2, 0]);
        });
    }

    #[test]
    fn cancelled_timers_leave_no_entry() {
        run(async {
            for _ in 0..1000 {
                let waited = timeout(Duration::from_secs(60), crate::yield_now()).await;
                assert_eq!(waited, Ok(()));
            }
            assert_eq!(waiting(), 0);
            let mut sleep = sleep(Duration::from_secs(60));
            assert!(smol::future::poll_once(&mut sleep).await.is_none());
            assert_eq!(waiting(), 1);
            sleep.reset(clock::now() + Duration::from_secs(70));
            assert!(smol::future::poll_once(&mut sleep).await.is_none());
            assert_eq!(waiting(), 1);
            drop(sleep);
            assert_eq!(waiting(), 0);
        });
    }

    #[test]
    fn a_sooner_timer_fires_although_a_later_one_was_armed_first() {
        run(async {
            let late = spawn(sleep(Duration::from_secs(60)));
            crate::yield_now().await;
            let start = clock::now();
            sleep(Duration::from_millis(5)).await;
            assert!(clock::now() - start < Duration::from_secs(10));
            drop(late);
        });
    }

    #[test]
    fn deadlines_of_zero_in_the_past_and_forever_are_kept() {
        run(async {
            sleep_until(Duration::ZERO).await;
            sleep(Duration::ZERO).await;
            let forever = timeout(Duration::from_millis(5), sleep(Duration::MAX)).await;
            assert_eq!(forever, Err(TimedOut));
        });
    }

    #[test]
    fn a_ready_future_wins_over_a_passed_deadline() {
        run(async {
            assert_eq!(timeout(Duration::ZERO, async { 1 }).await, Ok(1));
            assert_eq!(
                timeout(Duration::ZERO, std::future::pending::<()>()).await,
                Err(TimedOut)
            );
        });
    }
}
