//! The one thread on which the store's writes and syncs run, so that an SD card that stalls for seconds
//! stalls no heartbeat. Jobs run in the order in which they are submitted.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;

use crate::disk::Disk;
use crate::job::{Done, Job, run_job};

/// Runs jobs on a thread of its own. Dropping it waits for the job that runs, and runs none after it.
pub struct Worker<D: Disk> {
    shared: Arc<Shared<D>>,
    thread: Option<JoinHandle<()>>,
    /// Jobs submitted whose outcome has not been taken.
    outstanding: usize,
}

impl<D: Disk> Worker<D> {
    /// Starts the thread.
    pub fn spawn(disk: Arc<D>) -> io::Result<Worker<D>> {
        let shared = Arc::new(Shared {
            desk: Mutex::new(Desk::new()),
            work: Condvar::new(),
        });
        let thread = std::thread::Builder::new()
            .name("storage".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || shared.run(&*disk)
            })?;
        Ok(Worker {
            shared,
            thread: Some(thread),
            outstanding: 0,
        })
    }

    /// Hands a job to the thread.
    pub fn submit(&mut self, job: Job<D>) {
        self.outstanding += 1;
        self.shared.desk().jobs.push_back(job);
        self.shared.work.notify_one();
    }

    /// The outcome of the oldest job that is done; else the waker is called when there is one. Without a
    /// job this is pending for ever.
    pub fn poll_done(&mut self, context: &mut Context<'_>) -> Poll<Done<D>> {
        let mut desk = self.shared.desk();
        let Some(done) = desk.done.pop_front() else {
            match &mut desk.waker {
                Some(waker) => waker.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
            return Poll::Pending;
        };
        drop(desk);
        self.outstanding -= 1;
        Poll::Ready(done)
    }

    /// Whether a job was submitted whose outcome has not been taken. A watchdog that sees it busy for long
    /// compares [`completed`](Worker::completed).
    pub fn busy(&self) -> bool {
        self.outstanding > 0
    }

    /// Jobs that the thread has done since it started.
    pub fn completed(&self) -> u64 {
        self.shared.desk().completed
    }
}

impl<D: Disk> Drop for Worker<D> {
    fn drop(&mut self) {
        self.shared.desk().stop = true;
        self.shared.work.notify_one();
        if let Some(thread) = self.thread.take() {
            if thread.join().is_err() {
                log::error!("the storage thread had panicked");
            }
        }
    }
}

struct Shared<D: Disk> {
    desk: Mutex<Desk<D>>,
    work: Condvar,
}

struct Desk<D: Disk> {
    jobs: VecDeque<Job<D>>,
    done: VecDeque<Done<D>>,
    waker: Option<Waker>,
    completed: u64,
    stop: bool,
}

impl<D: Disk> Desk<D> {
    fn new() -> Desk<D> {
        Desk {
            jobs: VecDeque::with_capacity(1),
            done: VecDeque::with_capacity(1),
            waker: None,
            completed: 0,
            stop: false,
        }
    }
}

impl<D: Disk> Shared<D> {
    fn desk(&self) -> MutexGuard<'_, Desk<D>> {
        // No code that could panic runs under the lock, so what it guards is whole.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, disk: &D) {
        while let Some(job) = self.next_job() {
            let done = run_job(disk, job);
            let mut desk = self.desk();
            desk.completed += 1;
            desk.done.push_back(done);
            let waker = desk.waker.take();
            drop(desk);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    fn next_job(&self) -> Option<Job<D>> {
        let mut desk = self.desk();
        loop {
            if desk.stop {
                return None;
            }
            if let Some(job) = desk.jobs.pop_front() {
                return Some(job);
            }
            desk = self.work.wait(desk).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{FaultyDisk, TOP_DIR};
    use crate::job::Step;
    use std::task::Wake;
    use std::thread::Thread;

    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    fn wait(worker: &mut Worker<FaultyDisk>) -> Done<FaultyDisk> {
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut context = Context::from_waker(&waker);
        loop {
            match worker.poll_done(&mut context) {
                Poll::Ready(done) => return done,
                Poll::Pending => std::thread::park(),
            }
        }
    }

    fn create(name: &str) -> Job<FaultyDisk> {
        Job {
            steps: vec![Step::Create {
                name: name.to_owned(),
                bytes: 512,
            }],
        }
    }

    #[test]
    fn jobs_are_done_in_order_and_each_wakes_the_one_who_waits() {
        let disk = Arc::new(FaultyDisk::new());
        let mut worker = Worker::spawn(disk.clone()).unwrap();
        assert!(!worker.busy());
        worker.submit(create("a"));
        worker.submit(create("../b"));
        assert!(worker.busy());
        assert!(wait(&mut worker).result.is_ok());
        assert!(worker.busy());
        assert_eq!(wait(&mut worker).result.unwrap_err().0, 0);
        assert!(!worker.busy());
        assert_eq!(worker.completed(), 2);
        worker.submit(create("c"));
        assert_eq!(wait(&mut worker).created.len(), 1);
        assert_eq!(disk.list(TOP_DIR).unwrap(), ["a", "c"]);
    }

    #[test]
    fn dropping_the_worker_waits_for_the_running_job() {
        let disk = Arc::new(FaultyDisk::new());
        let mut worker = Worker::spawn(disk.clone()).unwrap();
        worker.submit(create("a"));
        drop(worker);
        // Whether the job had begun is a race; that nothing runs any more is not.
        assert_eq!(Arc::strong_count(&disk), 1);
    }
}
