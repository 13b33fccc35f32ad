//! Bytes that reach the flash for each byte of payload.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "panicking is how a bench fails; its wrapper cleans up"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use bench::args::Common;
use bench::figures::{grouped, ratio, short};
use bench::flash::Flash;
use bench::load::{self, Client};
use bench::report::Report;
use bench::server::{Program, Server, occupied, used};
use bench::time::{Watch, pause};
use clap::Parser;

/// Bytes that reach the flash for each byte of payload, against nsqd
#[derive(Debug, Parser)]
#[command(name = "bench/wear")]
struct Args {
    #[command(flatten)]
    common: Common,
    /// Keep the pace of 50 clicks a second instead of going on as soon as all answers are there
    #[arg(long)]
    real_time: bool,
    /// Where the images of the file systems lie while they are mounted [default: /dev/shm, or the bench directory]
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Clicks of each run of nsq-edge and nsqd default [default: three laps of the ring]
    #[arg(long, value_name = "N")]
    clicks: Option<u64>,
    /// Only the workloads whose name contains this
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
}

const CLICKS_PER_SECOND: u64 = 50;
const CHANNELS: [&str; 3] = ["archive", "uplink", "count"];
const RING_BYTES: f64 = 4.0 * 1024.0 * 1024.0;
const PAGE_BYTES: f64 = 4096.0;
/// Commits of at least a page each that make three laps of the ring, and some more.
const COMMITS: u64 = 3 * 1024 + 128;
/// A producer's interval where it gathers clicks.
const INTERVAL: Duration = Duration::from_millis(250);
/// For what a store writes by its timers: finishes of which no publish takes care within a second.
const AFTERWARDS: Duration = Duration::from_millis(2_500);
/// At the real pace finishes are long there when the next clicks come; without a pause they would race with them.
const FINISHES_ARRIVE: Duration = Duration::from_millis(3);
/// Below nsqd's 2,500, the highest RDY that both allow.
const READY: u32 = 1_000;

struct Workload {
    name: &'static str,
    topics: usize,
    /// One click at a time, or what comes in [`INTERVAL`] at once.
    serial: bool,
    /// Channels that are read: at once, or after all is published.
    consumed: Consumed,
    goal: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Consumed {
    Never,
    AtOnce,
    Afterwards,
}

const WORKLOADS: [Workload; 5] = [
    Workload {
        name: "1 topic, serial publisher",
        topics: 1,
        serial: true,
        consumed: Consumed::Never,
        goal: "25x",
    },
    Workload {
        name: "1 topic, pipelined",
        topics: 1,
        serial: false,
        consumed: Consumed::Never,
        goal: "2.5x",
    },
    Workload {
        name: "8 topics, pipelined",
        topics: 8,
        serial: false,
        consumed: Consumed::Never,
        goal: "3x",
    },
    Workload {
        name: "8 topics, pipelined, all consumed",
        topics: 8,
        serial: false,
        consumed: Consumed::AtOnce,
        goal: "4x",
    },
    Workload {
        name: "an hour's backlog, then drained",
        topics: 1,
        serial: false,
        consumed: Consumed::Afterwards,
        goal: "",
    },
];

/// What a run gave.
#[derive(Default)]
struct Outcome {
    clicks: u64,
    payload: f64,
    /// Up to the end of publishing, of each third of it, and of draining.
    flash: f64,
    thirds: Vec<f64>,
    drained: f64,
    flushes: f64,
    /// Ours alone.
    store_written: f64,
    commits: f64,
    syncs: f64,
    segments: f64,
    segments_occupied: f64,
    ring_used: f64,
}

impl Outcome {
    fn wear(&self) -> f64 {
        (self.flash + self.drained) / self.payload
    }
}

fn main() {
    let args = Args::parse();
    let common = &args.common;
    let mut report = Report::begin(common, "wear", &what(&args));
    let mut rows = Vec::new();
    let mut details = Vec::new();
    for workload in WORKLOADS.iter().filter(|one| one.name.contains(&args.only)) {
        eprintln!("{} ...", workload.name);
        let ours = run(&args, workload, &Program::broker());
        let durable = run(&args, workload, &Program::nsqd_durable());
        let default = run(&args, workload, &nsqd_default(&args));
        rows.push(row(workload, &ours, &durable, &default));
        details.push(detail(workload, &ours));
        if workload.consumed == Consumed::Afterwards {
            report.say(&backlog(&ours, &durable, &default));
        }
    }
    report.table(
        &[
            "flash bytes / payload",
            "nsq-edge",
            "goal",
            "nsqd durable",
            "nsqd durable / nsq-edge",
            "nsqd default (not durable)",
            "clicks: nsq-edge, durable, default",
        ],
        &rows,
    );
    report.table(
        &[
            "nsq-edge in detail",
            "commits",
            "laps of the ring, at least",
            "thirds of the run",
            "store's own bytes / payload",
            "file system's share",
            "syncs",
            "flushes of the device",
        ],
        &details,
    );
    report.end(common);
}

fn what(args: &Args) -> String {
    let pace = if args.real_time {
        "The pace is the real one."
    } else {
        "Faster than real time with the same commits: the producer sends the next click (or the next quarter second's \
         clicks, in one write) as soon as it has all answers, and where channels are consumed, when all consumers \
         have finished it. So each is a commit of its own, as it is at 50 a second. nsqd default, whose syncs come by \
         the clock, keeps a pace and has its sync timeout shortened by the same factor."
    };
    format!(
        "Sectors written to a loop-mounted ext4 (noatime, lazytime), a final sync included, over the bytes of the \
         clicks' bodies. 3 channels, {CLICKS_PER_SECOND} clicks a second from one producer connection, serial or every \
         250 ms. Defaults of nsq-edge: each `OK` is after a sync. nsqd durable: `{}`; it runs fewer clicks, as each \
         costs it the same. nsqd default keeps up to 10,000 messages of each channel in memory alone and loses them \
         with the power. {pace}\n",
        Program::nsqd_durable().command_line()
    )
}

/// How much faster than the clock nsqd default runs.
fn speed(args: &Args) -> u32 {
    if args.real_time {
        1
    } else {
        args.common.size(50, 200)
    }
}

fn nsqd_default(args: &Args) -> Program {
    let timeout = Duration::from_secs(2) / speed(args);
    let flag = format!("-sync-timeout={}us", timeout.as_micros());
    Program::nsqd().named("nsqd default").with(&[&flag])
}

/// Clicks that a program gets.
fn clicks(args: &Args, workload: &Workload, program: &Program) -> u64 {
    let per_interval_twice = 2 * CLICKS_PER_SECOND * INTERVAL.as_millis() as u64 / 1000;
    if *program == Program::nsqd_durable() {
        return args.common.size(3_000, 300);
    }
    if let Some(clicks) = args.clicks {
        return clicks;
    }
    match workload.consumed {
        Consumed::Afterwards => args.common.size(3_600, 900) * CLICKS_PER_SECOND,
        _ if workload.serial => COMMITS,
        _ => COMMITS * per_interval_twice / 2,
    }
}

fn run(args: &Args, workload: &Workload, program: &Program) -> Outcome {
    let common = &args.common;
    let mount = common.work.join("flash");
    let images = args.images.clone().unwrap_or_else(|| {
        let memory = Path::new("/dev/shm");
        let there = memory.is_dir();
        if there {
            memory.into()
        } else {
            common.work.clone()
        }
    });
    let flash = Flash::mount(&mount, &images);
    let server = Server::start(common, program, &mount.join("data"));
    let topics: Vec<String> = (0..workload.topics).map(|n| format!("clicks{n}")).collect();
    for topic in &topics {
        server.create(topic, &CHANNELS);
    }
    pause(AFTERWARDS);
    let counter = |key: &str| server.counter(key);
    let before = ["written_bytes", "commits", "syncs"].map(counter);
    let mut outcome = Outcome {
        clicks: clicks(args, workload, program),
        ..Outcome::default()
    };
    let pace = match program.name {
        "nsqd default" => Some(speed(args)),
        _ => args.real_time.then_some(1),
    };
    publish(workload, &topics, &server, &flash, pace, &mut outcome);
    if workload.consumed == Consumed::Afterwards {
        server.wait_for_depth(outcome.clicks);
        at_rest(&server, before, &mut outcome);
        let before = flash.written();
        load::consume(server.tcp, &topics[0], &CHANNELS, outcome.clicks, READY);
        pause(AFTERWARDS);
        outcome.drained = flash.written().bytes - before.bytes;
    } else {
        at_rest(&server, before, &mut outcome);
    }
    server.kill_9();
    outcome
}

/// Publishes all clicks and counts what reaches the flash.
fn publish(
    workload: &Workload,
    topics: &[String],
    server: &Server,
    flash: &Flash,
    pace: Option<u32>,
    outcome: &mut Outcome,
) {
    let mut producer = Client::connect(server.tcp);
    let mut consumers = match workload.consumed {
        Consumed::AtOnce => consumers(server, topics),
        _ => Vec::new(),
    };
    let interval = match workload.serial {
        true => Duration::from_millis(1000 / CLICKS_PER_SECOND),
        false => INTERVAL,
    };
    let start = flash.written();
    let mut before = start;
    let mut clicks = bench::clicks().take(outcome.clicks as usize).enumerate();
    let mut done = 0;
    let watch = Watch::start();
    for round in 0.. {
        // 12 and 13 in turns.
        let burst = if workload.serial { 1 } else { 12 + round % 2 };
        let mut commands = Vec::new();
        let mut counts = vec![0; topics.len()];
        for (number, click) in clicks.by_ref().take(burst) {
            let topic = number % topics.len();
            counts[topic] += 1;
            outcome.payload += click.len() as f64;
            commands.extend(load::publish_command(&topics[topic], &click));
        }
        let count: u64 = counts.iter().sum();
        if count == 0 {
            break;
        }
        producer.send(&commands);
        producer.answers(count as usize);
        for (topic, consumer) in &mut consumers {
            consumer.consume(counts[*topic]);
        }
        if !consumers.is_empty() {
            pause(FINISHES_ARRIVE);
        }
        done += count;
        if 3 * done / outcome.clicks > outcome.thirds.len() as u64 {
            pause_for_timers(done == outcome.clicks);
            let now = flash.written();
            let third = outcome.payload / (outcome.thirds.len() + 1) as f64;
            outcome.thirds.push((now.bytes - before.bytes) / third);
            before = now;
        }
        if let Some(speed) = pace {
            watch.sleep_until(interval * (round as u32 + 1) / speed);
        }
    }
    outcome.flash = before.bytes - start.bytes;
    outcome.flushes = before.flushes - start.flushes;
}

fn pause_for_timers(at_end: bool) {
    if at_end {
        pause(AFTERWARDS);
    }
}

fn consumers(server: &Server, topics: &[String]) -> Vec<(usize, Client)> {
    let mut consumers = Vec::new();
    for (number, topic) in topics.iter().enumerate() {
        for channel in CHANNELS {
            let mut client = Client::connect(server.tcp);
            client.identify_unbuffered();
            client.subscribe(topic, channel, READY);
            consumers.push((number, client));
        }
    }
    consumers
}

fn at_rest(server: &Server, before: [f64; 3], outcome: &mut Outcome) {
    outcome.store_written = server.counter("written_bytes") - before[0];
    outcome.commits = server.counter("commits") - before[1];
    outcome.syncs = server.counter("syncs") - before[2];
    let segments = server.data.join("segments");
    outcome.segments = used(&segments) as f64;
    outcome.ring_used = server.counter("ring_used_bytes");
    outcome.segments_occupied = occupied(&segments, |_| true) as f64;
}

fn row(workload: &Workload, ours: &Outcome, durable: &Outcome, default: &Outcome) -> Vec<String> {
    vec![
        workload.name.into(),
        format!("**{}x**", short(ours.wear())),
        workload.goal.into(),
        format!("{}x", short(durable.wear())),
        ratio(durable.wear(), ours.wear()),
        format!("{}x", short(default.wear())),
        [ours, durable, default]
            .map(|outcome| grouped(outcome.clicks as f64))
            .join("; "),
    ]
}

fn detail(workload: &Workload, ours: &Outcome) -> Vec<String> {
    vec![
        workload.name.into(),
        grouped(ours.commits),
        short(ours.commits * PAGE_BYTES / RING_BYTES),
        ours.thirds
            .iter()
            .map(|third| format!("{}x", short(*third)))
            .collect::<Vec<_>>()
            .join(", "),
        ratio(ours.store_written, ours.payload),
        ratio(ours.flash - ours.store_written, ours.payload),
        grouped(ours.syncs),
        grouped(ours.flushes),
    ]
}

/// The parts of the last workload, and what lies on the flash between them.
fn backlog(ours: &Outcome, durable: &Outcome, default: &Outcome) -> String {
    let parts = |name: &str, outcome: &Outcome| {
        format!(
            "{name} {}x to keep and {}x to drain",
            short(outcome.flash / outcome.payload),
            short(outcome.drained / outcome.payload)
        )
    };
    // What a commit's page holds of clicks that are not in a segment yet.
    let per_commit = outcome_per_commit(ours);
    let in_segments = ours.clicks as f64 - ours.ring_used / PAGE_BYTES * per_commit;
    format!(
        "The backlog of {} clicks: {}; {}; {}. At rest, besides ring and state, nsq-edge's segments hold about {} \
         clicks for 3 channels in {} bytes each ({} bytes each with what is reserved for the next).\n",
        grouped(ours.clicks as f64),
        parts("nsq-edge", ours),
        parts("nsqd durable", durable),
        parts("nsqd default", default),
        grouped(in_segments),
        short(ours.segments / in_segments),
        short(ours.segments_occupied / in_segments),
    )
}

fn outcome_per_commit(outcome: &Outcome) -> f64 {
    outcome.clicks as f64 / outcome.commits
}
