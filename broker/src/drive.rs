//! The driver: the one task that keeps the engine going between the connections, the storage thread
//! and the clock.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use runtime::{Stop, clock, spawn, timer, yield_now};
use storage::disk::Disk;
use storage::{Done, Worker};

use crate::host::Host;
use crate::registration::Lookup;

/// Drives until `stop`, and then until everything is on flash or `patience` is over.
pub(crate) async fn drive<D: Disk>(
    host: Rc<Host<D>>,
    mut worker: Worker<D>,
    lookup: Option<Lookup>,
    stop: Stop,
    patience: Duration,
) {
    let mut stopping_until = None;
    loop {
        if stop.is_requested() {
            // Each time: a flush ends when nothing waits, and sessions that end give more to write.
            host.with_quietly(|engine| engine.flush());
        }
        let more = turn(&host, &mut worker, lookup.as_ref());
        if stop.is_requested() {
            let until = *stopping_until.get_or_insert_with(|| clock::now() + patience);
            if host.view(|engine| engine.is_idle()) {
                return;
            }
            if clock::now() >= until {
                log::error!("the store did not become idle within {patience:?}");
                return;
            }
        }
        if more {
            yield_now().await;
            continue;
        }
        if let Some(done) = wait(&host, &mut worker, stopping_until, &stop).await {
            host.progress.done();
            let outcome = host.with_quietly(|engine| engine.handle_done(clock::now(), done));
            host.outcome(outcome.as_ref());
        }
    }
}

/// Everything that is to be done now; true if there is more.
fn turn<D: Disk>(host: &Rc<Host<D>>, worker: &mut Worker<D>, lookup: Option<&Lookup>) -> bool {
    let now = clock::now();
    let (more, job, changed) = host.with_quietly(|engine| {
        engine.handle_timeout(now);
        let more = engine.deliver(now) || engine.poll_timeout().is_some_and(|at| at <= now);
        (more, engine.poll_job(now), engine.take_catalogue_changed())
    });
    if let Some(job) = job {
        worker.submit(job);
        host.progress.submitted(now);
    }
    if changed {
        host.catalogue_changed.notify();
    }
    while let Some(topic) = host.with_quietly(|engine| engine.poll_lookup()) {
        let (host, lookup) = (Rc::clone(host), lookup.cloned());
        spawn(async move {
            let channels = match lookup {
                Some(lookup) => lookup.channels(&topic).await,
                None => Vec::new(),
            };
            host.with(|engine| engine.lookup_done(&topic, &channels));
            host.outcome(None);
        })
        .detach();
    }
    more
}

/// Waits for the storage thread, for somebody who did something, or for the next time that
/// something is due.
async fn wait<D: Disk>(
    host: &Host<D>,
    worker: &mut Worker<D>,
    until: Option<Duration>,
    stop: &Stop,
) -> Option<Done<D>> {
    let due = host.view(|engine| {
        let times = [engine.poll_timeout(), engine.poll_store_timeout(), until];
        times.into_iter().flatten().min()
    });
    let mut due = pin!(timer::sleep_until(due.unwrap_or(Duration::MAX)));
    let mut stopped = pin!(stop.requested());
    poll_fn(|context| {
        if let Poll::Ready(done) = worker.poll_done(context) {
            return Poll::Ready(Some(done));
        }
        let woken = host.driver.poll_notified(context).is_ready()
            || due.as_mut().poll(context).is_ready()
            || (until.is_none() && stopped.as_mut().poll(context).is_ready());
        if woken {
            Poll::Ready(None)
        } else {
            Poll::Pending
        }
    })
    .await
}
