//! GET /stats: JSON with nsqd's keys, and the text that scripts grep.

use std::fmt::{self, Write};
use std::time::Duration;

use serde::Serialize;
use storage::disk::Disk;

use crate::engine::{ChannelStats, ClientStats, Engine, TopicStats};
use crate::http::About;
use crate::limits;

/// What a request asks for.
pub(crate) struct Wanted<'a> {
    pub(crate) topic: Option<&'a str>,
    pub(crate) channel: Option<&'a str>,
    pub(crate) clients: bool,
    pub(crate) memory: bool,
}

/// The answer.
#[derive(Serialize)]
pub(crate) struct Stats {
    version: &'static str,
    health: String,
    start_time: i64,
    topics: Vec<TopicStats>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<Memory>,
    producers: Vec<ClientStats>,
    /// Ours, not NSQ's.
    storage: StorageStats,
}

/// What the store has done since the start. For a gateway on flash, the ratio of the first to the
/// third is its wear.
#[derive(Serialize)]
struct StorageStats {
    written_bytes: u64,
    syncs: u64,
    payload_bytes: u64,
    commits: u64,
    messages: u64,
    checkpoints: u64,
    damaged_records: u64,
    ring_used_bytes: u64,
    segments: u64,
    segment_bytes: u64,
}

/// nsqd's keys. There is no garbage collector here; the resident set stands for the heap in use.
#[derive(Default, Serialize)]
struct Memory {
    heap_objects: u64,
    heap_idle_bytes: u64,
    heap_in_use_bytes: u64,
    heap_released_bytes: u64,
    gc_pause_usec_100: u64,
    gc_pause_usec_99: u64,
    gc_pause_usec_95: u64,
    next_gc_bytes: u64,
    gc_total_runs: u64,
}

impl Stats {
    pub(crate) fn new<D: Disk>(engine: &Engine<D>, about: &About, wanted: &Wanted<'_>) -> Stats {
        let topics = engine.topic_stats(wanted.topic, wanted.channel, wanted.clients);
        let producers = if wanted.clients {
            engine.producer_stats(wanted.topic)
        } else {
            Vec::new()
        };
        let counters = engine.counters();
        Stats {
            version: limits::NSQ_VERSION,
            health: match engine.health() {
                Ok(()) => "OK".to_owned(),
                Err(reason) => format!("NOK - {reason}"),
            },
            start_time: about.started_wall_ns.div_euclid(1_000_000_000),
            topics,
            memory: wanted.memory.then(|| Memory {
                heap_in_use_bytes: resident_bytes(),
                ..Memory::default()
            }),
            producers,
            storage: StorageStats {
                written_bytes: counters.written_bytes,
                syncs: counters.syncs,
                payload_bytes: counters.payload_bytes,
                commits: counters.commits,
                messages: counters.messages,
                checkpoints: counters.checkpoints,
                damaged_records: counters.damaged_records,
                ring_used_bytes: counters.ring_used_bytes,
                segments: counters.segments,
                segment_bytes: counters.segment_bytes,
            },
        }
    }

    /// nsqd's text; `wall_s` is the present time, seconds since 1970.
    pub(crate) fn to_text(&self, uptime: Duration, wall_s: i64) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _infallible = self.write_text(&mut out, uptime, wall_s);
        out
    }

    fn write_text(&self, out: &mut String, uptime: Duration, wall_s: i64) -> fmt::Result {
        writeln!(
            out,
            "nsqd v{} (nsq-edge {})",
            self.version,
            env!("CARGO_PKG_VERSION")
        )?;
        writeln!(out, "start_time {}", Rfc3339(self.start_time))?;
        writeln!(out, "uptime {}", GoDuration(uptime))?;
        writeln!(out, "\nHealth: {}", self.health)?;
        if let Some(memory) = &self.memory {
            memory.write_text(out)?;
        }
        if self.topics.is_empty() {
            writeln!(out, "\nTopics: None")?;
        } else {
            write!(out, "\nTopics:")?;
        }
        for topic in &self.topics {
            let paused = if topic.paused { "*P " } else { "   " };
            writeln!(
                out,
                "\n{paused}[{:<15}] depth: {:<5} be-depth: {:<5} msgs: {:<8} e2e%: ",
                topic.topic_name, topic.depth, topic.backend_depth, topic.message_count
            )?;
            for channel in &topic.channels {
                write_channel(out, channel, wall_s)?;
            }
        }
        if self.producers.is_empty() {
            return writeln!(out, "\nProducers: None");
        }
        writeln!(out, "\nProducers:")?;
        for producer in &self.producers {
            write!(out, "   ")?;
            write_client(out, producer, wall_s)?;
        }
        Ok(())
    }
}

impl Memory {
    fn write_text(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "\nMemory:")?;
        for (name, value) in [
            ("heap_objects", self.heap_objects),
            ("heap_idle_bytes", self.heap_idle_bytes),
            ("heap_in_use_bytes", self.heap_in_use_bytes),
            ("heap_released_bytes", self.heap_released_bytes),
            ("gc_pause_usec_100", self.gc_pause_usec_100),
            ("gc_pause_usec_99", self.gc_pause_usec_99),
            ("gc_pause_usec_95", self.gc_pause_usec_95),
            ("next_gc_bytes", self.next_gc_bytes),
            ("gc_total_runs", self.gc_total_runs),
        ] {
            writeln!(out, "   {name:<25}\t{value}")?;
        }
        Ok(())
    }
}

fn write_channel(out: &mut String, channel: &ChannelStats, wall_s: i64) -> fmt::Result {
    let paused = if channel.paused { "   *P " } else { "      " };
    writeln!(
        out,
        "{paused}[{:<25}] depth: {:<5} be-depth: {:<5} inflt: {:<4} def: {:<4} re-q: {:<5} \
         timeout: {:<5} msgs: {:<8} e2e%: ",
        channel.channel_name,
        channel.depth,
        channel.backend_depth,
        channel.in_flight_count,
        channel.deferred_count,
        channel.requeue_count,
        channel.timeout_count,
        channel.message_count,
    )?;
    for client in channel.clients.iter().flatten() {
        write!(out, "        ")?;
        write_client(out, client, wall_s)?;
    }
    Ok(())
}

fn write_client(out: &mut String, client: &ClientStats, wall_s: i64) -> fmt::Result {
    let port = client
        .remote_address
        .rsplit_once(':')
        .map_or("", |(_, port)| port);
    let id = format!("{}:{port} {}", client.hostname, client.user_agent);
    let connected = u64::try_from(wall_s - client.connect_ts).unwrap_or(0);
    let connected = GoDuration(Duration::from_secs(connected));
    let version = client.version;
    if !client.pub_counts.is_empty() {
        let total: u64 = client
            .pub_counts
            .iter()
            .map(|published| published.count)
            .sum();
        write!(out, "[{version} {id:<21}] msgs: {total:<8} topics: ")?;
        for (at, published) in client.pub_counts.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(out, "{comma}{}={}", published.topic, published.count)?;
        }
        return writeln!(out, " connected: {connected}");
    }
    writeln!(
        out,
        "[{version} {id:<21}] state: {} inflt: {:<4} rdy: {:<4} fin: {:<8} re-q: {:<8} \
         msgs: {:<8} connected: {connected}",
        client.state,
        client.in_flight_count,
        client.ready_count,
        client.finish_count,
        client.requeue_count,
        client.message_count,
    )
}

/// A duration as Go prints it: `1h2m3.5s`, `250ms`.
struct GoDuration(Duration);

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.0.as_secs();
        if all == 0 {
            return match self.0.as_nanos() {
                0 => f.write_str("0s"),
                nanos @ ..1_000 => write!(f, "{nanos}ns"),
                nanos @ ..1_000_000 => write!(f, "{}µs", nanos as f64 / 1e3),
                nanos => write!(f, "{}ms", nanos as f64 / 1e6),
            };
        }
        let (hours, minutes) = (all / 3600, all / 60 % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if hours > 0 || minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        let nanos = self.0.subsec_nanos();
        if nanos == 0 {
            return write!(f, "{}s", all % 60);
        }
        let fraction = format!("{nanos:09}");
        write!(f, "{}.{}s", all % 60, fraction.trim_end_matches('0'))
    }
}

/// Seconds since 1970 as a date in UTC.
struct Rfc3339(i64);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.0.div_euclid(86_400), self.0.rem_euclid(86_400));
        // Years that begin in March have their leap day last: 400 of them are 146,097 days, and the
        // months before month m of such a year have (153 m + 2) / 5 days.
        let days = days + 719_468;
        let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let (month, carry) = if month < 10 {
            (month + 3, 0)
        } else {
            (month - 9, 1)
        };
        let year = year + era * 400 + carry;
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"
        )
    }
}

/// This process's resident set; 0 when /proc is not there.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: Option<u64> = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    // The kernel counts in pages, of 4 KiB on every board that we build for.
    pages.unwrap_or(0) * 4096
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_printed_as_go_prints_them() {
        for (millis, text) in [
            (0, "0s"),
            (250, "250ms"),
            (1_500, "1.5s"),
            (60_000, "1m0s"),
            (3_723_004, "1h2m3.004s"),
        ] {
            assert_eq!(GoDuration(Duration::from_millis(millis)).to_string(), text);
        }
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(Rfc3339(seconds).to_string(), text);
        }
    }
}
