//! The single-threaded executor: one per call of [`run`], found through the thread.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;

use smol::LocalExecutor;

use crate::timer;

/// A spawned future's handle: await it for its value, `detach` it to let it go on by itself,
/// `cancel().await` it or drop it to end it (at its next scheduling; what it holds is dropped
/// then).
pub type Task<T> = smol::Task<T>;

/// Runs `main` to its end on this thread, together with everything that is spawned from it. Tasks
/// that are still there when `main` returns are dropped.
///
/// # Panics
/// When called from within itself, and when the kernel gives no timerfd (a program cannot do
/// without).
pub fn run<T>(main: impl Future<Output = T>) -> T {
    let executor = Rc::new(LocalExecutor::new());
    let _entered = Entered::new(Rc::clone(&executor));
    timer::start();
    // Boxed, because the layers around it would each hold it twice, on the stack.
    async_io::block_on(executor.run(Box::pin(main)))
}

/// Starts `future` on the executor that is running on this thread.
///
/// # Panics
/// Outside of [`run`].
pub fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) -> Task<T> {
    let executor = CURRENT.with_borrow(Clone::clone);
    assert!(executor.is_some(), "spawn is called within run");
    match executor {
        Some(executor) => executor.spawn(future),
        None => unreachable!("asserted above"),
    }
}

/// Lets everything else that is ready run once; for loops that bound their work per turn.
pub async fn yield_now() {
    smol::future::yield_now().await;
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<LocalExecutor<'static>>>> = const { RefCell::new(None) };
}

/// Makes an executor the thread's, and takes it away again however `run` ends.
struct Entered;

impl Entered {
    fn new(executor: Rc<LocalExecutor<'static>>) -> Entered {
        let previous = CURRENT.replace(Some(executor));
        assert!(previous.is_none(), "run is not called within run");
        Entered
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        // The executor goes before the timers, because the tasks in it may hold timers.
        drop(CURRENT.take());
        timer::end();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn spawned_tasks_run_beside_the_main_future_and_give_their_value() {
        let seen = Rc::new(Cell::new(0));
        let inner = Rc::clone(&seen);
        let value = run(async move {
            let task = spawn(async move {
                inner.set(1);
                7
            });
            task.await
        });
        assert_eq!((value, seen.get()), (7, 1));
    }

    #[test]
    fn tasks_left_over_are_dropped_when_run_returns() {
        let held = Rc::new(());
        let inner = Rc::clone(&held);
        run(async move {
            spawn(async move {
                crate::timer::sleep(std::time::Duration::from_secs(3600)).await;
                drop(inner);
            })
            .detach();
            yield_now().await;
        });
        assert_eq!(Rc::strong_count(&held), 1);
    }

    #[test]
    fn a_thread_can_run_one_executor_after_another() {
        for round in 0..3 {
            let slept = run(async {
                crate::timer::sleep(std::time::Duration::from_millis(1)).await;
                round
            });
            assert_eq!(slept, round);
        }
    }
}
