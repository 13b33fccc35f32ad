//! `nsq-edge demo`: from click to datacenter, with everything going wrong on the way.
//!
//! In a temporary directory: a gateway as a program of its own, producers and consumers in this one, an
//! upstream, and between gateway and upstream a link that is cut again and again. Half-way the gateway
//! is killed while publishes are unanswered, and started again. Each event is followed by its own id.

mod children;
mod clicks;
mod consumers;
mod ledger;
mod link;
mod producers;
mod replay;
mod report;
mod run;
mod screen;
mod site;
mod state;

use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use runtime::net::{self, Address};
use runtime::signal::{Signal, Signals};
use runtime::{Either, race, timer};
use tempfile::TempDir;

use clicks::Clicks;
use report::grouped;
use run::Run;
use screen::{Screen, print};
use site::Site;

const COUNT: u32 = 20_000;
/// Each event is held in memory by its id; this many take a few GB.
const COUNT_MAX: i64 = 10_000_000;
/// What a run may take beyond the time that its rate needs; a good one takes a few seconds.
const PATIENCE: Duration = Duration::from_secs(45);
/// Events per second that a run without a rate must come to.
const RATE_LEAST: u32 = 500;
/// For an upstream that is not ours to be reached.
const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(5);
/// As shells report a program that SIGINT ended.
const INTERRUPTED: u8 = 130;

/// The demo's command line.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// Events to publish [default: 20000, or all of --events]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=COUNT_MAX))]
    count: Option<u32>,
    /// Events per second; 0 for as fast as they are answered
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    rate: u32,
    /// The same seed gives the same clicks and the same cuts of the link
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Publish the events of this file, one JSON object per line, instead of made-up clicks
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    /// Forward to this nsqd instead of one of our own; a new topic is left there, empty
    #[arg(long, value_name = "HOST:PORT", value_parser = upstream)]
    upstream: Option<Address>,
}

fn upstream(text: &str) -> Result<Address, String> {
    match text.parse() {
        Ok(Address::Tcp { host, port }) if !host.is_empty() && port != 0 => {
            Ok(Address::Tcp { host, port })
        }
        Ok(_) => Err("not HOST:PORT".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Runs the demo. Exit code 0 only if everything was acknowledged and nothing is missing.
pub(crate) fn main(args: &DemoArgs) -> ExitCode {
    // Before any thread starts: threads inherit the mask.
    let signals = match Signals::block() {
        Ok(signals) => signals,
        Err(error) => {
            eprintln!("demo: no signals: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime::run(demo(args, signals)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// An error is one of the preparation: nothing was published. What happens later is in the report.
async fn demo(args: &DemoArgs, mut signals: Signals) -> Result<ExitCode, String> {
    let (events, total) = events(args)?;
    if let Some(address) = &args.upstream {
        // Else it would be found out when everything else stands.
        net::connect(address, UPSTREAM_TIMEOUT)
            .await
            .map_err(|error| format!("--upstream: {error}"))?;
    }
    let directory = tempfile::Builder::new()
        .prefix("nsq-edge-demo-")
        .tempdir()
        .map_err(|error| format!("no temporary directory: {error}"))?;
    let site = Site::lay_out(directory.path(), args.upstream.as_ref())?;
    let rate = if args.rate == 0 {
        RATE_LEAST
    } else {
        args.rate
    };
    let patience = PATIENCE.saturating_add(producers::at_rate(total, rate));
    let screen = Rc::new(Screen::new(total));
    introduce(&screen, args, total, &directory);

    let run = Run::new(site, args, total, Rc::clone(&screen));
    let state = Rc::clone(&run.state);
    let played = timer::timeout(patience, run.play(events));
    let watched = race(played, screen.watch(Rc::clone(&state)));
    let end = match race(watched, interrupted(&mut signals)).await {
        Either::Left(Either::Left(Ok(end))) => end,
        Either::Left(Either::Left(Err(timer::TimedOut))) => Err(format!(
            "STUCK: {} s are over, and the run still waits: {}",
            patience.as_secs(),
            state.phase.get()
        )),
        Either::Left(Either::Right(())) => Ok(()),
        Either::Right(()) => {
            screen.stop();
            print("interrupted: the gateway is stopped, its directory removed");
            return Ok(ExitCode::from(INTERRUPTED));
        }
    };
    if let (Err(error), 0) = (&end, state.totals().published) {
        screen.stop();
        return Err(error.clone());
    }
    screen.end(&state);
    let report = run.report();
    drop(run); // ends the programs
    print(report.text.trim_end());
    if let Err(error) = &end {
        print(error.trim_end());
    }
    if end.is_ok() && report.is_good {
        return Ok(ExitCode::SUCCESS);
    }
    let kept = directory.keep();
    print(&format!(
        "FAILED. Stores and logs are kept in {}",
        kept.display()
    ));
    Ok(ExitCode::FAILURE)
}

/// What is published, and how many.
fn events(args: &DemoArgs) -> Result<(run::Events, u64), String> {
    let Some(file) = &args.events else {
        let count = args.count.unwrap_or(COUNT);
        let clicks = Clicks::new(args.seed).take(count as usize);
        return Ok((Box::new(clicks), count.into()));
    };
    let replay = replay::read(file, args.count, args.seed)?;
    for complaint in &replay.complaints {
        print(&format!("{}: {complaint}: passed over", file.display()));
    }
    let more = replay.skipped - replay.complaints.len() as u64;
    if more > 0 {
        print(&format!(
            "{}: {more} more lines passed over",
            file.display()
        ));
    }
    if replay.named > 0 {
        print(&format!(
            "{}: {} events have no id of their own and get a demo_id",
            file.display(),
            grouped(replay.named)
        ));
    }
    let total = replay.events.len() as u64;
    Ok((Box::new(replay.events.into_iter()), total))
}

fn introduce(screen: &Screen, args: &DemoArgs, total: u64, directory: &TempDir) {
    let what = match &args.events {
        Some(file) => format!("events of {}", file.display()),
        None => format!("clicks (seed {})", args.seed),
    };
    let rate = match args.rate {
        0 => "as fast as they are answered".to_owned(),
        rate => format!("at {} a second", grouped(rate.into())),
    };
    let upstream = match &args.upstream {
        Some(address) => format!("the nsqd at {address}"),
        None => "an upstream of our own".to_owned(),
    };
    screen.say(&format!(
        "{} {what} go {rate} to a gateway. It forwards them to {upstream},\n\
         over a link that is cut again and again; half-way it is killed (kill -9). Each event is\n\
         followed by its id to the upstream and to local consumers. Stores and logs are in\n\
         {} until the end.\n",
        grouped(total),
        directory.path().display(),
    ));
}

/// Ends when somebody wants the demo to end.
async fn interrupted(signals: &mut Signals) {
    match signals.next().await {
        Signal::Terminate | Signal::Interrupt | Signal::HangUp => {}
    }
}
