//! What a start after kill -9 reads and how long it takes until the first message is served.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "panicking is how a bench fails; its wrapper cleans up"
)]

use std::fs::{self, File};
use std::path::Path;

use bench::args::Common;
use bench::figures::{grouped, mb, median, ratio, short};
use bench::load::{self, Client};
use bench::process;
use bench::report::Report;
use bench::server::{Program, Server, occupied};
use bench::time::Watch;
use clap::Parser;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

/// Bytes read and time to serve after kill -9, by the size of the backlog, against nsqd
#[derive(Debug, Parser)]
#[command(name = "bench/recovery")]
struct Args {
    #[command(flatten)]
    common: Common,
    /// Backlogs, in MB of payload [default: 10,1000; 10,100 with --quick; say 10,1000,4000 for all]
    #[arg(long, value_name = "MB,MB", value_delimiter = ',')]
    sizes: Vec<u64>,
}

const CHANNELS: [&str; 3] = ["archive", "uplink", "count"];
const TOPIC: &str = "clicks";
const BATCH: usize = 200;
/// What a click has about.
const CLICK_BYTES: u64 = 200;

/// A start.
#[derive(Clone, Copy)]
struct Sample {
    /// Until a subscriber has a message.
    seconds: f64,
    read_medium: f64,
    read_calls: f64,
}

fn main() {
    let args = Args::parse();
    let common = &args.common;
    let starts = common.rounds(5);
    let sizes = match args.sizes.as_slice() {
        [] => common.size(vec![10, 1000], vec![10, 100]),
        given => given.to_vec(),
    };
    let what = format!(
        "A backlog of clicks in 1 topic with 3 channels, none consumed; kill -9; the directory dropped from the page \
         cache; a start. Time is from the start of the process until a subscriber holds the first message; bytes read \
         are the process's until then, from the medium (read-ahead and cold pages of the executable included) and by \
         its system calls (from /proc/PID/io). Median of {starts} starts of each. nsqd on disk = `{}`, which loses at \
         kill -9 what it had not synced.\n",
        Program::nsqd_on_disk().command_line()
    );
    let mut report = Report::begin(common, "recovery", &what);
    let mut rows = Vec::new();
    for size in sizes {
        eprintln!("{size} MB ...");
        let programs = [Program::broker(), Program::nsqd_on_disk()];
        let both = programs.map(|program| run(common, &program, size * 1_000_000, starts));
        for (name, (samples, fixed, all)) in ["nsq-edge", "nsqd on disk"].iter().zip(&both) {
            let of =
                |what: fn(&Sample) -> f64| median(&samples.iter().map(what).collect::<Vec<f64>>());
            let seconds = of(|sample| sample.seconds);
            let ours = &both[0].0;
            let ours = median(&ours.iter().map(|s| s.seconds).collect::<Vec<f64>>());
            rows.push(vec![
                format!("{} MB, {name}", grouped(size as f64)),
                mb(*all),
                fixed.map_or("-".into(), mb),
                mb(of(|sample| sample.read_medium)),
                mb(of(|sample| sample.read_calls)),
                format!("{} ms", short(seconds * 1e3)),
                ratio(seconds, ours),
            ]);
        }
    }
    report.table(
        &[
            "backlog",
            "on disk",
            "ring + state",
            "read from the medium",
            "read by calls",
            "time to serve",
            "to nsq-edge",
        ],
        &rows,
    );
    report.end(common);
}

/// The starts, bytes of ring and state if it has them, bytes of the directory.
fn run(
    common: &Common,
    program: &Program,
    payload: u64,
    starts: u32,
) -> (Vec<Sample>, Option<f64>, f64) {
    let data = common.work.join("data");
    let server = Server::start(common, program, &data);
    server.create(TOPIC, &CHANNELS);
    fill(&server, payload / CLICK_BYTES);
    server.wait_for_depth(payload / CLICK_BYTES);
    server.kill_9();
    let fixed = occupied(&data, |name| name == "ring" || name.starts_with("state")) as f64;
    let fixed = program.is_ours().then_some(fixed);
    let all = occupied(&data, |_| true) as f64;
    let samples = (0..starts)
        .map(|_| {
            drop_cached(&data);
            start(common, program, &data)
        })
        .collect();
    fs::remove_dir_all(&data).unwrap();
    (samples, fixed, all)
}

/// In parts, so that this side holds little.
fn fill(server: &Server, messages: u64) {
    const PART: u64 = 50_000;
    let mut clicks = bench::clicks();
    let mut left = messages;
    while left > 0 {
        let part = left.min(PART);
        let commands = load::batches(TOPIC, clicks.by_ref(), part, BATCH);
        load::publish(server.tcp, &commands, 1, 4);
        left -= part;
    }
}

fn start(common: &Common, program: &Program, data: &Path) -> Sample {
    let watch = Watch::start();
    let mut server = Server::launch(common, program, data);
    let mut client = Client::on(server.connect_soon());
    client.subscribe(TOPIC, CHANNELS[1], 1);
    client.message();
    let seconds = watch.elapsed().as_secs_f64();
    let io = process::io(server.pid);
    server.kill_9();
    Sample {
        seconds,
        read_medium: io.read_medium,
        read_calls: io.read_calls,
    }
}

/// Writes all files of a directory out and forgets them, so that the next reader goes to the medium.
fn drop_cached(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            drop_cached(&path);
            continue;
        }
        let file = File::open(&path).unwrap();
        file.sync_all().unwrap();
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap();
    }
}
