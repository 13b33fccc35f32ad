//! Messages a second, processor time and disk bytes of publishing and consuming.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "panicking is how a bench fails; its wrapper cleans up"
)]

use std::fs;

use bench::args::Common;
use bench::figures::{grouped, median, ratio, short};
use bench::load;
use bench::process;
use bench::report::Report;
use bench::server::{Program, Server, used};
use bench::time::Watch;
use clap::Parser;

/// Messages a second, processor time and disk bytes of publishing and consuming, against nsqd
#[derive(Debug, Parser)]
#[command(name = "bench/throughput")]
struct Args {
    #[command(flatten)]
    common: Common,
    /// Messages of a round
    #[arg(long, value_name = "N")]
    messages: Option<u64>,
    /// Connections that publish
    #[arg(long, value_name = "N", default_value_t = 2)]
    connections: usize,
    /// Batches that a connection may have unanswered
    #[arg(long, value_name = "N", default_value_t = 4)]
    window: usize,
    /// Only the workloads whose name contains this
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
}

/// Messages of an MPUB.
const BATCH: usize = 200;
const CHANNELS: [&str; 3] = ["archive", "uplink", "count"];
const TOPIC: &str = "clicks";
/// Bytes of a click or a random body in a block of the ring, about.
const RING_RECORD_BYTES: f64 = 212.0;
/// The highest RDY that both allow.
const READY: u32 = 2_500;

struct Workload {
    name: &'static str,
    random: bool,
    channels: usize,
}

const WORKLOADS: [Workload; 4] = [
    Workload {
        name: "clicks, 1 channel",
        random: false,
        channels: 1,
    },
    Workload {
        name: "clicks, 3 channels",
        random: false,
        channels: 3,
    },
    Workload {
        name: "random, 1 channel",
        random: true,
        channels: 1,
    },
    Workload {
        name: "random, 3 channels",
        random: true,
        channels: 3,
    },
];

/// Of one program in one round; a message counts once a channel where it is consumed.
#[derive(Clone, Copy)]
struct Sample {
    publish_rate: f64,
    publish_cpu_us: f64,
    written: f64,
    at_rest: f64,
    consume_rate: f64,
    consume_cpu_us: f64,
}

/// Of all rounds of the programs, in the order of the columns.
type Samples = [Vec<Sample>; 4];

fn main() {
    let args = Args::parse();
    let common = &args.common;
    let messages = args.messages.unwrap_or(common.size(400_000, 100_000));
    let rounds = common.rounds(5);
    let programs = [
        Program::broker(),
        Program::nsqd_in_memory(2 * messages),
        Program::nsqd_on_disk(),
        Program::nsqd_durable(),
    ];
    let what = what(&args, messages, rounds, &programs);
    let mut report = Report::begin(common, "throughput", &what);
    for workload in WORKLOADS.iter().filter(|one| one.name.contains(&args.only)) {
        let commands = match workload.random {
            true => load::batches(TOPIC, bench::random_bodies(), messages, BATCH),
            false => load::batches(TOPIC, bench::clicks(), messages, BATCH),
        };
        let mut samples = Samples::default();
        for round in 1..=rounds {
            eprintln!("{}: round {round} of {rounds} ...", workload.name);
            for (program, samples) in programs.iter().zip(&mut samples) {
                let is_slow = *program == programs[3];
                // It takes milliseconds for each message: few of them, and once.
                let (commands, messages) = match (is_slow, round) {
                    (false, _) => (&commands[..], messages),
                    (true, 1) => {
                        let batches = common.size(5, 1);
                        (&commands[..batches], (batches * BATCH) as u64)
                    }
                    (true, _) => continue,
                };
                samples.push(run(&args, workload, program, commands, messages));
            }
        }
        table(&mut report, workload, &samples);
    }
    report.end(common);
}

fn what(args: &Args, messages: u64, rounds: u32, programs: &[Program]) -> String {
    let lines: Vec<String> = programs
        .iter()
        .map(|program| format!("{} = `{}`", program.name, program.command_line()))
        .collect();
    format!(
        "{} messages of about 200 bytes in batches (MPUB) of {BATCH} over {} connections with up to {} batches \
         unanswered each; then each channel is consumed over one connection (RDY {READY}, a FIN for each message), all \
         channels at once. nsqd durable runs {} messages, once. Median of {rounds} rounds. nsq-edge answers after a \
         sync; nsqd does not. Processor time is the server's, user and system, from /proc/PID/stat; written bytes are \
         from /proc/PID/io and do not have the file system's own; at rest is what the files hold after publishing \
         (nsq-edge: its segments, and the messages in them; ring and state do not grow). Consumed messages count once \
         for each channel. {}.\n",
        grouped(messages as f64),
        args.connections,
        args.window,
        args.common.size(5, 1) * BATCH,
        lines.join("; "),
    )
}

fn run(
    args: &Args,
    workload: &Workload,
    program: &Program,
    commands: &[Vec<u8>],
    messages: u64,
) -> Sample {
    let data = args.common.work.join("data");
    let server = Server::start(&args.common, program, &data);
    let channels = &CHANNELS[..workload.channels];
    server.create(TOPIC, channels);
    let count = messages as f64;

    let (cpu, io) = (process::cpu_seconds(server.pid), process::io(server.pid));
    let watch = Watch::start();
    load::publish(server.tcp, commands, args.connections, args.window);
    let publish_rate = count / watch.elapsed().as_secs_f64();
    // nsqd answers before the messages are with the channels: their copies are part of its work.
    server.wait_for_depth(messages);
    let publish_cpu = process::cpu_seconds(server.pid) - cpu;
    let written = process::io(server.pid).written - io.written;
    let at_rest = at_rest(program, &server, count);

    let cpu = process::cpu_seconds(server.pid);
    let watch = Watch::start();
    load::consume(server.tcp, TOPIC, channels, messages, READY);
    let took = watch.elapsed().as_secs_f64();
    server.wait_for_depth(0);
    let consume_cpu = process::cpu_seconds(server.pid) - cpu;
    server.kill_9();
    fs::remove_dir_all(&data).unwrap();
    let consumed = count * channels.len() as f64;
    Sample {
        publish_rate,
        publish_cpu_us: publish_cpu * 1e6 / count,
        written: written / count,
        at_rest,
        consume_rate: consumed / took,
        consume_cpu_us: consume_cpu * 1e6 / consumed,
    }
}

/// Bytes on flash for each message that waits there. Ours: in segments, without those that are still in the ring, which
/// does not grow.
fn at_rest(program: &Program, server: &Server, count: f64) -> f64 {
    if !program.is_ours() {
        return used(&server.data) as f64 / count;
    }
    let in_ring = server.counter("ring_used_bytes") / RING_RECORD_BYTES;
    used(&server.data.join("segments")) as f64 / (count - in_ring)
}

fn table(report: &mut Report, workload: &Workload, samples: &Samples) {
    let row = |name: &str, goal: &str, what: fn(&Sample) -> f64| {
        let of = |program: usize| {
            let values: Vec<f64> = samples[program].iter().map(what).collect();
            median(&values)
        };
        // In each round all ran under about the same load: the median of the rounds' ratios, not the ratio of medians.
        let to = |program: usize| {
            // Beside almost nothing (the bytes of a program that writes none) everything is infinite.
            if of(program) < 0.01 {
                return "-".into();
            }
            let pairs = samples[0].iter().zip(&samples[program]);
            let ratios: Vec<f64> = pairs.map(|(a, b)| what(a) / what(b)).collect();
            ratio(median(&ratios), 1.0)
        };
        vec![
            name.to_owned(),
            short(of(0)),
            short(of(1)),
            short(of(2)),
            short(of(3)),
            to(1),
            goal.to_owned(),
            to(2),
            to(3),
        ]
    };
    let rows = [
        row("publish, messages/s", "1x", |s| s.publish_rate),
        row("publish, server us/message", "0.3x", |s| s.publish_cpu_us),
        row("publish, bytes written/message", "", |s| s.written),
        row("at rest, bytes/message", "", |s| s.at_rest),
        row("consume, messages/s", "1x", |s| s.consume_rate),
        row("consume, server us/message", "", |s| s.consume_cpu_us),
    ];
    report.table(
        &[
            workload.name,
            "nsq-edge",
            "nsqd in memory",
            "nsqd on disk",
            "nsqd durable",
            "nsq-edge / nsqd in memory",
            "goal",
            "/ nsqd on disk",
            "/ nsqd durable",
        ],
        &rows,
    );
}
