//! Waiting for conditions. The deadline only turns a hang into a failure; no test asserts how long something took.

use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take before it counts as hanging. Far above what the slowest machine needs.
pub const PATIENCE: Duration = Duration::from_secs(45);

/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(10);

/// Waits until `look` gives a value and returns it; panics with `what` after [`PATIENCE`].
pub fn until_some<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = deadline();
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(!passed(deadline), "still not so after {PATIENCE:?}: {what}");
        pause();
    }
}

/// Waits until `look` says true.
pub fn until(what: &str, mut look: impl FnMut() -> bool) {
    until_some(what, || look().then_some(()));
}

#[expect(
    clippy::disallowed_methods,
    reason = "outside a core: only bounds how long a hang lasts"
)]
fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

#[expect(
    clippy::disallowed_methods,
    reason = "outside a core: only bounds how long a hang lasts"
)]
fn passed(deadline: Instant) -> bool {
    Instant::now() > deadline
}

#[expect(
    clippy::disallowed_methods,
    reason = "between two looks at a condition"
)]
fn pause() {
    thread::sleep(LOOK);
}
