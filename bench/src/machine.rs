//! The machine and the versions that figures belong to.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use crate::args::Common;
use crate::figures::{median, short};
use crate::time::Watch;

/// Syncs that the medium's latency is the median of.
const PROBES: u64 = 100;

/// Two lines: programs and machine.
pub fn describe(common: &Common) -> String {
    let file = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let find = |text: &str, key: &str| -> String {
        text.lines()
            .find(|line| line.starts_with(key))
            .and_then(|line| line.split_once(':'))
            .map(|(_, value)| value.trim().to_owned())
            .unwrap_or_default()
    };
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let cpu = find(&file("/proc/cpuinfo"), "model name");
    let memory = find(&file("/proc/meminfo"), "MemTotal").replace(" kB", "");
    let memory: f64 = memory.parse().unwrap_or(0.0);
    let load = file("/proc/loadavg");
    format!(
        "- {}, commit {}; {}; {}; {}.\n\
         - {cpus} x {cpu}, {} GB of memory, Linux {}, {}; load at the start {}. \
         Bench directory on {}, {} ms for a 4 KiB write and fdatasync (median of {PROBES}).\n",
        output(Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"])),
        commit(),
        output(Command::new(&common.edge).arg("--version")),
        output(Command::new(&common.nsqd).arg("--version")),
        output(Command::new("rustc").arg("--version")),
        short(memory * 1024.0 / 1e9),
        file("/proc/sys/kernel/osrelease").trim(),
        std::env::consts::ARCH,
        load.split_whitespace().next().unwrap_or("?"),
        output(
            Command::new("stat")
                .args(["-f", "-c", "%T"])
                .arg(&common.work)
        ),
        short(sync_seconds(&common.work) * 1e3),
    )
}

/// The commit of the workspace, and whether there is more than it.
fn commit() -> String {
    let git = |args: &[&str]| {
        let directory = env!("CARGO_MANIFEST_DIR");
        output(Command::new("git").args(["-C", directory]).args(args))
    };
    let hash = git(&["rev-parse", "--short=10", "HEAD"]);
    // The page of results changes by running this.
    let changed = git(&["status", "--porcelain", "--", ":/", ":!RESULTS.md"]);
    match changed.as_str() {
        "" => hash,
        _ => format!("{hash} with changes"),
    }
}

/// What a synced page costs here.
fn sync_seconds(directory: &Path) -> f64 {
    let path = directory.join("probe");
    let file = File::create(&path).unwrap();
    let page = [7; 4096];
    for at in 0..PROBES {
        file.write_all_at(&page, at * 4096).unwrap();
    }
    file.sync_all().unwrap();
    let times: Vec<f64> = (0..PROBES)
        .map(|at| {
            let watch = Watch::start();
            file.write_all_at(&page, at * 4096).unwrap();
            file.sync_data().unwrap();
            watch.elapsed().as_secs_f64()
        })
        .collect();
    fs::remove_file(&path).unwrap();
    median(&times)
}

fn output(command: &mut Command) -> String {
    let Ok(output) = command.output() else {
        return "?".into();
    };
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
