//! Exponential backoff with full jitter: each pause is uniform between nothing and a ceiling that
//! doubles with every failure, so that many gateways that lost the same peer do not return in step.

use std::time::Duration;

use crate::rng::Rng;

/// How long to leave a failing peer alone.
#[derive(Debug, Clone)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// The ceiling is `min` after the first failure and `max` in the end.
    pub fn new(min: Duration, max: Duration) -> Self {
        Self {
            min,
            max: max.max(min),
            failures: 0,
        }
    }

    /// Counts a failure and draws the pause after it.
    pub fn fail(&mut self, rng: &mut Rng) -> Duration {
        let doubled = 1u32.checked_shl(self.failures.min(31)).unwrap_or(u32::MAX);
        let ceiling = self.min.saturating_mul(doubled).min(self.max);
        self.failures = self.failures.saturating_add(1);
        let nanos = u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(rng.below(nanos))
    }

    /// The peer proved well.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Failures since it last proved well.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_spread_up_to_a_ceiling_that_doubles_to_its_cap() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(1));
        let mut rng = Rng::new(7);
        let mut longest = [Duration::ZERO; 8];
        let mut shortest = [Duration::MAX; 8];
        for _ in 0..1000 {
            let mut backoff = Backoff::new(min, max);
            for (longest, shortest) in longest.iter_mut().zip(&mut shortest) {
                let pause = backoff.fail(&mut rng);
                *longest = pause.max(*longest);
                *shortest = pause.min(*shortest);
            }
        }
        for (failure, ceiling) in [100u64, 200, 400, 800, 1000, 1000, 1000, 1000]
            .iter()
            .enumerate()
        {
            let ceiling = Duration::from_millis(*ceiling);
            assert!(longest[failure] < ceiling && longest[failure] > ceiling * 95 / 100);
            assert!(shortest[failure] < ceiling / 20);
        }
    }

    #[test]
    fn many_failures_do_not_overflow_and_success_starts_over() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::MAX);
        let mut rng = Rng::new(1);
        for _ in 0..100 {
            backoff.fail(&mut rng);
        }
        backoff.reset();
        assert!(backoff.fail(&mut rng) < Duration::from_secs(1));
    }
}
