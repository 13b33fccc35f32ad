//! What the kernel counts of a process.

use std::fs;

use nix::unistd::{SysconfVar, sysconf};

/// Memory of a process, in bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Memory {
    /// VmRSS: all that is resident, the executable's pages included.
    pub resident: f64,
    /// RssAnon: what is not backed by a file, so what no one can take back without swap.
    pub anonymous: f64,
}

/// From /proc/PID/status.
pub fn memory(pid: u32) -> Memory {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let bytes = |key: &str| field(&status, key) * 1024.0;
    Memory {
        resident: bytes("VmRSS:"),
        anonymous: bytes("RssAnon:"),
    }
}

/// User and system time of all its threads, in seconds, from /proc/PID/stat.
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name in parentheses may hold anything: fields are counted behind it, from `state`, the third.
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks: f64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<f64>().unwrap())
        .sum();
    let per_second = sysconf(SysconfVar::CLK_TCK).unwrap().unwrap();
    ticks / per_second as f64
}

/// Bytes that a process read and wrote, from /proc/PID/io.
#[derive(Debug, Clone, Copy)]
pub struct Io {
    /// By system calls, from the page cache or not.
    pub read_calls: f64,
    /// From the medium, read-ahead and the executable included.
    pub read_medium: f64,
    /// Pages made dirty.
    pub written: f64,
}

/// See [`Io`].
pub fn io(pid: u32) -> Io {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
    Io {
        read_calls: field(&io, "rchar:"),
        read_medium: field(&io, "read_bytes:"),
        written: field(&io, "write_bytes:"),
    }
}

fn field(text: &str, key: &str) -> f64 {
    text.lines()
        .find_map(|line| line.strip_prefix(key))
        .and_then(|rest| rest.split_whitespace().next())
        .unwrap_or_else(|| panic!("no {key}"))
        .parse()
        .unwrap()
}
