//! The only place that reads clocks.
//!
//! Two of them: time since boot for everything that waits or times out, and wall time, which only
//! stamps messages. Boards without a battery start in 1970 and jump when the network comes up;
//! nothing here may wait on such a clock.

use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};

/// Time since boot on CLOCK_BOOTTIME: never steps, and counts the time a device was suspended.
pub fn now() -> Duration {
    // Linux has had this clock since 2.6.39 and the call writes to our own stack: it cannot fail.
    // Zero is the answer that a broken sandbox would get, and everything would be due at once
    // rather than never.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// Wall time in nanoseconds since 1970; negative before it. From std, because time_t has 32 bits in
/// nix on armhf.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the wall clock"
)]
pub fn wall_ns() -> i64 {
    let wall = SystemTime::now();
    match wall.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanos| -nanos),
    }
}

/// What hyper's timers count in. Only differences of it are used, and at once.
#[expect(
    clippy::disallowed_methods,
    reason = "hyper's timer interface is made of it"
)]
pub(crate) fn instant() -> std::time::Instant {
    std::time::Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_time_is_the_kernels_uptime_and_never_goes_back() {
        let first = now();
        let uptime: f64 = std::fs::read_to_string("/proc/uptime")
            .unwrap()
            .split(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        let second = now();
        assert!(second >= first);
        // /proc/uptime is this clock (with suspend), printed in hundredths; containers may shift
        // one but not the other.
        if std::fs::read_to_string("/proc/self/timens_offsets").is_ok_and(|offsets| {
            offsets
                .lines()
                .all(|line| line.split_whitespace().skip(1).all(|field| field == "0"))
        }) {
            assert!(
                (uptime - first.as_secs_f64()).abs() < 5.0,
                "{uptime} and {first:?}"
            );
        }
    }

    #[test]
    fn wall_time_is_in_nanoseconds() {
        let seconds = wall_ns() / 1_000_000_000;
        let date = std::process::Command::new("date")
            .arg("+%s")
            .output()
            .unwrap()
            .stdout;
        let date: i64 = String::from_utf8(date).unwrap().trim().parse().unwrap();
        assert!((date - seconds).abs() <= 5);
    }
}
