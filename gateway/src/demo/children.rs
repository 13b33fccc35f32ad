//! The programs that the demo starts, and what it asks them.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use runtime::http::{Url, fetch};
use runtime::net::Address;
use runtime::timer;
use serde::Deserialize;

/// Between two looks at a program that starts.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const STATS_BYTES_MAX: usize = 1 << 20;
/// Of a log, to say why a program ended.
const LOG_LINES_SHOWN: usize = 5;

/// A running `nsq-edge`; killed when it is dropped. It is in a process group of its own, so that
/// Ctrl-C comes to the demo, which then ends it.
pub(crate) struct Program {
    name: &'static str,
    child: Child,
    log: PathBuf,
    http: Address,
}

impl Program {
    /// Starts this executable again, as `subcommand` with that configuration; its log goes to the
    /// end of `log`.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn start(
        name: &'static str,
        subcommand: &str,
        config: &Path,
        log: &Path,
        http: &Address,
    ) -> Result<Self, String> {
        let error = |error: std::io::Error| format!("{name}: cannot be started: {error}");
        let executable = std::env::current_exe().map_err(error)?;
        let log_file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .map_err(error)?;
        let child = Command::new(executable)
            .arg(subcommand)
            .arg("--config")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(log_file.try_clone().map_err(error)?)
            .stderr(log_file)
            // What an operator's shell sets for a daemon is not meant for these.
            .env_remove("RUST_LOG")
            .env_remove("STATE_DIRECTORY")
            .env_remove("NOTIFY_SOCKET")
            .env_remove("LISTEN_FDS")
            .process_group(0)
            .spawn()
            .map_err(error)?;
        Ok(Self {
            name,
            child,
            log: log.to_path_buf(),
            http: http.clone(),
        })
    }

    /// Waits until it answers.
    ///
    /// # Errors
    /// It ended instead.
    pub(crate) async fn answers(&mut self) -> Result<(), String> {
        loop {
            self.is_running()?;
            if matches!(get(&self.http, "/ping").await, Ok(body) if body == b"OK") {
                return Ok(());
            }
            timer::sleep(LOOK_AGAIN).await;
        }
    }

    /// # Errors
    /// It ended by itself; with the end of its log.
    pub(crate) fn is_running(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(format!(
                "{} ended by itself ({status}); the end of its log:\n{}",
                self.name,
                tail(&self.log)
            )),
            Err(error) => Err(format!("{}: {error}", self.name)),
        }
    }

    /// SIGKILL, and waits until it is gone: its lock on the store goes with it.
    pub(crate) fn kill(&mut self) {
        // Both fail only for a program that is gone.
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }

    /// The most memory that it had resident, in bytes; to be asked while it runs.
    pub(crate) fn peak_memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib * 1024)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What is used of GET /stats.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Stats {
    topics: Vec<Topic>,
    /// What the store wrote since its start.
    pub(crate) storage: Written,
}

/// Bytes given to the medium, and the bytes of message bodies among them.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(crate) struct Written {
    #[serde(rename = "written_bytes")]
    pub(crate) bytes: u64,
    pub(crate) payload_bytes: u64,
}

#[derive(Debug, Deserialize)]
struct Topic {
    depth: u64,
    channels: Vec<Channel>,
}

#[derive(Debug, Deserialize)]
struct Channel {
    depth: u64,
    in_flight_count: u64,
    deferred_count: u64,
}

impl Stats {
    /// Messages that are not finished, over all topics and channels.
    pub(crate) fn unfinished(&self) -> u64 {
        let of =
            |channel: &Channel| channel.depth + channel.in_flight_count + channel.deferred_count;
        let topics = self.topics.iter();
        topics
            .map(|topic| topic.depth + topic.channels.iter().map(of).sum::<u64>())
            .sum()
    }
}

/// GET /stats of a broker.
///
/// # Errors
/// No answer, or not one of ours.
pub(crate) async fn stats(http: &Address) -> Result<Stats, String> {
    let body = get(http, "/stats?format=json").await?;
    serde_json::from_slice(&body).map_err(|error| format!("/stats of {http}: {error}"))
}

async fn get(at: &Address, target: &str) -> Result<Vec<u8>, String> {
    let url = Url::new(at.clone(), target).map_err(|error| error.to_string())?;
    let fetched = fetch(
        "GET",
        &url,
        &[],
        Vec::new(),
        ANSWER_TIMEOUT,
        STATS_BYTES_MAX,
    )
    .await
    .map_err(|error| error.to_string())?;
    match fetched.status {
        200 => Ok(fetched.body),
        status => Err(format!("{url} answers {status}")),
    }
}

fn tail(log: &Path) -> String {
    let mut text = Vec::new();
    if let Ok(mut file) = File::open(log) {
        // What was read before an error is shown all the same.
        let _partial = file.read_to_end(&mut text);
    }
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(LOG_LINES_SHOWN);
    let shown = lines.get(from..).unwrap_or_default();
    shown.iter().map(|line| format!("    {line}\n")).collect()
}

/// Ports of 127.0.0.1 that are free now. Not among those that the kernel gives to outgoing connections:
/// while the gateway is dead, its producers' own attempts to reach it could take its port.
///
/// # Errors
/// None is left.
pub(crate) fn free_ports<const N: usize>(seed: u64) -> Result<[Address; N], String> {
    let first = 10_240_u16;
    let end = outgoing_from().unwrap_or(32_768).max(first + 1_000);
    let range = u64::from(end - first);
    let mut rng = client::rng::Rng::new(seed);
    let mut held = Vec::new();
    // Enough to find some among many that are taken.
    for _ in 0..1_000 {
        if held.len() == N {
            break;
        }
        let port = first.saturating_add(u16::try_from(rng.below(range)).unwrap_or(0));
        held.extend(TcpListener::bind(("127.0.0.1", port)));
    }
    let addresses: Vec<Address> = held
        .iter()
        .filter_map(|listener| listener.local_addr().ok())
        .map(Address::from)
        .collect();
    <[Address; N]>::try_from(addresses).map_err(|_| "no free ports on 127.0.0.1".to_owned())
}

fn outgoing_from() -> Option<u16> {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    range.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_differ_and_are_not_those_of_outgoing_connections() {
        let ports: [Address; 5] = free_ports(std::process::id().into()).unwrap();
        for (at, address) in ports.iter().enumerate() {
            assert!(!ports[..at].contains(address));
            assert!(TcpListener::bind(address.to_string()).is_ok());
            assert!(address.port().unwrap() < outgoing_from().unwrap_or(u16::MAX));
        }
    }

    #[test]
    fn what_is_not_finished_is_summed_over_topics_and_channels() {
        let stats: Stats = serde_json::from_str(
            r#"{"version":"x","topics":[{"topic_name":"t","depth":1,"channels":[
                {"depth":20,"in_flight_count":300,"deferred_count":4000},
                {"depth":0,"in_flight_count":50000,"deferred_count":0}]}],
                "storage":{"written_bytes":7,"payload_bytes":2,"syncs":1}}"#,
        )
        .unwrap();
        assert_eq!(stats.unfinished(), 54_321);
        assert_eq!((stats.storage.bytes, stats.storage.payload_bytes), (7, 2));
    }
}
