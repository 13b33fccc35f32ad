//! The log: env_logger on stderr, with NSQ's words and form:
//! `[nsqd] 2026/11/22 15:38:43.647531 INFO: TCP: listening on 0.0.0.0:4150`.
//!
//! Under systemd a line is `<6>INFO: ...` instead: the journal knows program and time by itself, and
//! takes the number as the line's priority.

use std::io::Write as _;
use std::os::linux::fs::MetadataExt as _;
use std::sync::OnceLock;

use config::{Level, LogOptions};
use env_logger::{Builder, Env};

/// How lines begin; set once, at start.
static PREFIX: OnceLock<Prefix> = OnceLock::new();

enum Prefix {
    Journal,
    Words(String),
}

/// Starts logging. `RUST_LOG` wins over the configured level.
pub(crate) fn start(program: &str, options: &LogOptions) {
    let prefix = match options.prefix.as_str() {
        _ if stderr_is_the_journal() => Prefix::Journal,
        "" => Prefix::Words(format!("[{program}] ")),
        own => Prefix::Words(own.to_owned()),
    };
    // A second start would keep the first one's prefix: there is one per process.
    let _ = PREFIX.set(prefix);
    let mut builder = Builder::new();
    builder
        .filter_level(filter(options.level))
        .parse_env(Env::default())
        .format(|out, record| {
            let (word, priority) = words(record.level());
            writeln!(out, "{}", line(word, priority, &record.args().to_string()))
        });
    builder.init();
}

/// Prints the line that says why the program ends, at whatever log level.
pub(crate) fn fatal(message: &str) {
    crate::exit::tell(&format!("{}\n", line("FATAL", 2, message)));
}

fn line(word: &str, priority: u8, message: &str) -> String {
    // Whatever a peer or a file put into a message, it is one line.
    let message = message.replace('\n', "\\n");
    match PREFIX.get() {
        Some(Prefix::Journal) => format!("<{priority}>{word}: {message}"),
        Some(Prefix::Words(words)) => {
            format!(
                "{words}{} {word}: {message}",
                timestamp(runtime::clock::wall_ns())
            )
        }
        // Before logging started.
        None => format!("nsq-edge: {message}"),
    }
}

/// NSQ's word and syslog's priority.
fn words(level: log::Level) -> (&'static str, u8) {
    match level {
        log::Level::Error => ("ERROR", 3),
        log::Level::Warn => ("WARNING", 4),
        log::Level::Info => ("INFO", 6),
        log::Level::Debug => ("DEBUG", 7),
        log::Level::Trace => ("TRACE", 7),
    }
}

fn filter(level: Level) -> log::LevelFilter {
    match level {
        Level::Debug => log::LevelFilter::Debug,
        Level::Info => log::LevelFilter::Info,
        Level::Warn => log::LevelFilter::Warn,
        Level::Error => log::LevelFilter::Error,
        // What ends the program does not go through the filter.
        Level::Fatal => log::LevelFilter::Off,
    }
}

/// Whether stderr is the stream that systemd connected to the journal, as systemd.exec(5) tells to
/// find out: `$JOURNAL_STREAM` is device and inode, and may be inherited by what is not connected.
fn stderr_is_the_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    let Ok(stderr) = std::fs::metadata("/proc/self/fd/2") else {
        return false;
    };
    stream == format!("{}:{}", stderr.st_dev(), stderr.st_ino())
}

/// `2026/11/22 15:38:43.647531`, in UTC: a gateway's log is read beside the datacenter's.
fn timestamp(wall_ns: i64) -> String {
    let seconds = wall_ns.div_euclid(1_000_000_000);
    let micros = wall_ns.rem_euclid(1_000_000_000) / 1_000;
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}/{month:02}/{day:02} {hour:02}:{minute:02}:{second:02}.{micros:06}")
}

/// The date of a number of days since 1970, in the proleptic Gregorian calendar: years are counted
/// from March, so that the leap day is the last of its year, in eras of 400 years.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468; // from 0000-03-01
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_written_as_nsq_writes_it() {
        assert_eq!(timestamp(0), "1970/01/01 00:00:00.000000");
        assert_eq!(
            timestamp(951_825_599_123_456_000),
            "2000/02/29 11:59:59.123456"
        );
        assert_eq!(
            timestamp(1_795_361_923_647_531_000),
            "2026/11/22 15:38:43.647531"
        );
        assert_eq!(
            timestamp(4_107_542_400_000_000_000),
            "2100/03/01 00:00:00.000000"
        );
        assert_eq!(timestamp(-1_000), "1969/12/31 23:59:59.999999");
    }

    #[test]
    fn a_message_with_line_breaks_stays_one_line() {
        assert!(!line("INFO", 6, "a\nb").contains('\n'));
    }
}
