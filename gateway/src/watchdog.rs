//! Feeds systemd's watchdog while there is progress: by running at all, of the event loop, and of the
//! storage thread.

use std::time::Duration;

use broker::Progress;
use runtime::{clock, notify, timer};

/// Feeds for ever, if systemd has a watchdog on us; returns at once if not. `interval` is half of the
/// time after which systemd gives up.
pub(crate) async fn feed(storage: Option<Progress>) {
    let Some(interval) = notify::watchdog_interval() else {
        return;
    };
    let mut was_stuck = false;
    loop {
        let is_stuck = storage
            .as_ref()
            .is_some_and(|storage| stuck(storage, clock::now(), interval));
        if !is_stuck {
            notify::watchdog();
        } else if !was_stuck {
            log::error!(
                "the storage thread is at one job for {interval:?}: no word to the watchdog"
            );
        }
        was_stuck = is_stuck;
        timer::sleep(interval / 2).await;
    }
}

/// A card may stall for seconds and is none the worse for it; not for half of the watchdog's time.
fn stuck(storage: &Progress, now: Duration, patience: Duration) -> bool {
    storage
        .storage_busy_since()
        .is_some_and(|since| now.saturating_sub(since) > patience)
}
