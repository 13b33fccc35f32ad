//! Sizes on flash and in memory.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "panicking is how a bench fails; its wrapper cleans up"
)]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bench::args::Common;
use bench::figures::{grouped, mb, median, ratio};
use bench::load::{self, Client};
use bench::process::{self, Memory};
use bench::report::Report;
use bench::server::{Program, Server};
use bench::time::pause;
use clap::Parser;

/// Sizes of the executables and memory at several loads, against nsqd
#[derive(Debug, Parser)]
#[command(name = "bench/footprint")]
struct Args {
    #[command(flatten)]
    common: Common,
    /// Messages of the backlog
    #[arg(long, value_name = "N")]
    messages: Option<u64>,
}

const CHANNELS: [&str; 3] = ["archive", "uplink", "count"];
const TOPICS: usize = 100;
const SUBSCRIBERS: usize = 500;
const BATCH: usize = 200;
/// What a start, or a load that is over, may leave to be done: before memory is read.
const SETTLE: Duration = Duration::from_secs(2);
const SETTLE_QUICK: Duration = Duration::from_millis(700);

#[derive(Clone, Copy)]
enum Load {
    Idle,
    Topics,
    Subscribers,
    Backlog(u64),
}

fn main() {
    let args = Args::parse();
    let common = &args.common;
    let messages = args.messages.unwrap_or(common.size(1_000_000, 100_000));
    let rounds = common.rounds(3);
    // 500 connections are above our default bound.
    let many = ["broker.connections_max=600", "memory.max=\"256MiB\""];
    let programs = [
        Program::broker().with(&many),
        Program::nsqd(),
        Program::nsqd_on_disk(),
    ];
    let what = format!(
        "Memory is VmRSS (RssAnon behind it: what no file backs), {} s after the load; `+` is above the same process \
         before the load. Medians of {rounds} rounds, a new process for each figure. The backlog is {} clicks of \
         about 200 B. nsq-edge = `{}`; nsqd = `nsqd`, which keeps 10,000 messages of each channel in memory; nsqd on \
         disk = `{}`.\n",
        common.size(SETTLE, SETTLE_QUICK).as_secs_f64(),
        grouped(messages as f64),
        programs[0].command_line(),
        programs[2].command_line(),
    );
    let mut report = Report::begin(common, "footprint", &what);
    sizes(&mut report, common);
    let loads = [
        ("idle", "", Load::Idle),
        ("100 topics x 3 channels", "+1.5 MB", Load::Topics),
        ("500 subscribers", "", Load::Subscribers),
        ("backlog, 3 channels", "6 MB", Load::Backlog(messages)),
    ];
    let mut rows = Vec::new();
    for (name, goal, load) in loads {
        eprintln!("{name} ...");
        let mut all: [Vec<[Memory; 2]>; 3] = Default::default();
        for _ in 0..rounds {
            for (program, all) in programs.iter().zip(&mut all) {
                all.push(measure(common, program, load));
            }
        }
        rows.push(row(name, goal, &all));
    }
    rows.push(gateway(common, rounds));
    report.table(
        &[
            "memory, MB",
            "nsq-edge",
            "goal",
            "nsqd",
            "nsqd on disk",
            "nsqd / nsq-edge",
            "nsqd on disk / nsq-edge",
        ],
        &rows,
    );
    report.end(common);
}

/// Before and under the load.
fn measure(common: &Common, program: &Program, load: Load) -> [Memory; 2] {
    let data = common.work.join("data");
    let server = Server::start(common, program, &data);
    pause(common.size(SETTLE, SETTLE_QUICK));
    let before = process::memory(server.pid);
    let mut subscribers = Vec::new();
    match load {
        Load::Idle => {}
        Load::Topics => {
            for number in 0..TOPICS {
                server.create(&format!("topic{number}"), &CHANNELS);
            }
        }
        Load::Subscribers => {
            server.create("clicks", &CHANNELS[..1]);
            for _ in 0..SUBSCRIBERS {
                let mut client = Client::small(server.tcp);
                client.subscribe("clicks", CHANNELS[0], 1);
                subscribers.push(client);
            }
        }
        Load::Backlog(messages) => {
            server.create("clicks", &CHANNELS);
            publish(&server, messages);
            server.wait_for_depth(messages);
        }
    }
    pause(common.size(SETTLE, SETTLE_QUICK));
    let after = process::memory(server.pid);
    server.kill_9();
    fs::remove_dir_all(&data).unwrap();
    [before, after]
}

/// In parts, so that this side holds little.
fn publish(server: &Server, messages: u64) {
    const PART: u64 = 50_000;
    let mut clicks = bench::clicks();
    let mut left = messages;
    while left > 0 {
        let part = left.min(PART);
        let commands = load::batches("clicks", clicks.by_ref(), part, BATCH);
        load::publish(server.tcp, &commands, 1, 2);
        left -= part;
    }
}

fn row(name: &str, goal: &str, all: &[Vec<[Memory; 2]>; 3]) -> Vec<String> {
    let of = |program: usize, what: fn(&[Memory; 2]) -> f64| {
        let values: Vec<f64> = all[program].iter().map(what).collect();
        median(&values)
    };
    let resident = [0, 1, 2].map(|program| of(program, |[_, after]| after.resident));
    let shown = [0, 1, 2].map(|program| {
        let anonymous = of(program, |[_, after]| after.anonymous);
        let above = of(program, |[before, after]| after.resident - before.resident);
        let above = match name {
            "idle" => String::new(),
            _ => format!(", +{}", mb(above)),
        };
        format!("{} ({}){above}", mb(resident[program]), mb(anonymous))
    });
    let [ours, nsqd, disk] = shown;
    vec![
        name.into(),
        ours,
        goal.into(),
        nsqd,
        disk,
        ratio(resident[1], resident[0]),
        ratio(resident[2], resident[0]),
    ]
}

/// All three daemons in one process, against NSQ's three.
fn gateway(common: &Common, rounds: u32) -> Vec<String> {
    let data = common.work.join("data");
    let [mut ours, mut theirs] = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (program, all) in [
            (Program::gateway(), &mut ours),
            (Program::nsqd(), &mut theirs),
        ] {
            let server = Server::start(common, &program, &data);
            let others = match program.is_ours() {
                true => Vec::new(),
                false => vec![Server::lookupd(common), Server::relay(common, &server)],
            };
            pause(common.size(SETTLE, SETTLE_QUICK));
            let sum = |what: fn(Memory) -> f64| -> f64 {
                let all = others.iter().chain([&server]);
                all.map(|server| what(process::memory(server.pid))).sum()
            };
            all.push([
                sum(|memory| memory.resident),
                sum(|memory| memory.anonymous),
            ]);
            drop(others);
            server.kill_9();
            fs::remove_dir_all(&data).unwrap();
        }
    }
    let median = |all: &[[f64; 2]], which: usize| -> f64 {
        let values: Vec<f64> = all.iter().map(|both| both[which]).collect();
        median(&values)
    };
    let shown = |all: &[[f64; 2]]| format!("{} ({})", mb(median(all, 0)), mb(median(all, 1)));
    vec![
        "idle: gateway; nsqd + nsqlookupd + nsq_to_nsq".into(),
        shown(&ours),
        String::new(),
        shown(&theirs),
        "-".into(),
        ratio(median(&theirs, 0), median(&ours, 0)),
        "-".into(),
    ]
}

fn sizes(report: &mut Report, common: &Common) {
    let mut sum = 0.0;
    let mut rows = Vec::new();
    let mut add = |name: &str, file: &Path| {
        let copy = common.work.join("stripped");
        fs::copy(file, &copy).unwrap();
        let status = Command::new("strip").arg(&copy).status();
        assert!(status.is_ok_and(|status| status.success()), "strip fails");
        let bytes = fs::metadata(&copy).unwrap().len() as f64;
        rows.push(vec![name.to_owned(), mb(bytes)]);
        bytes
    };
    let ours = add(
        "nsq-edge (broker, lookupd, forwarder and demo)",
        &common.edge,
    );
    for name in ["nsqd", "nsqlookupd", "nsq_to_nsq"] {
        sum += add(name, &common.nsqd.with_file_name(name));
    }
    rows.push(vec!["the three of NSQ".into(), mb(sum)]);
    rows.push(vec!["the three of NSQ / nsq-edge".into(), ratio(sum, ours)]);
    report.table(&["stripped executable", "size"], &rows);
}
