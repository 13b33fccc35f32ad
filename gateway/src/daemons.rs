//! The daemons of one process: opened in order, stopped by a signal, drained.

use std::process::ExitCode;

use config::Options;
use runtime::signal::{Signal, Signals};
use runtime::{Stop, notify};

use crate::{exit, logging};

/// Which daemons run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Daemons {
    broker: bool,
    lookupd: bool,
    forwarder: bool,
}

impl Daemons {
    pub(crate) const ALL: Self = Self {
        broker: true,
        lookupd: true,
        forwarder: true,
    };
    pub(crate) const BROKER: Self = Self {
        broker: true,
        lookupd: false,
        forwarder: false,
    };
    pub(crate) const LOOKUPD: Self = Self {
        broker: false,
        lookupd: true,
        forwarder: false,
    };
    pub(crate) const FORWARDER: Self = Self {
        broker: false,
        lookupd: false,
        forwarder: true,
    };
}

/// Runs until a signal says stop and everything is drained.
pub(crate) fn main(program: &str, wanted: Daemons, options: Options, notes: &[String]) -> ExitCode {
    logging::start(program, &options.log);
    for note in notes {
        log::info!("{note}");
    }
    log::info!("{program} v{} starts", env!("CARGO_PKG_VERSION"));
    // Before any thread starts: they inherit the mask.
    let signals = match Signals::block() {
        Ok(signals) => signals,
        Err(error) => return exit::fatal(format_args!("no signals: {error}")),
    };
    runtime::run(serve(wanted, options, signals))
}

async fn serve(_wanted: Daemons, options: Options, mut signals: Signals) -> ExitCode {
    log::info!("memory, at most: {}", options.memory);
    let stop = Stop::new();
    notify::ready();
    wait_for_stop(&mut signals).await;
    stop.request();
    notify::stopping();
    ExitCode::SUCCESS
}

async fn wait_for_stop(signals: &mut Signals) {
    loop {
        match signals.next().await {
            Signal::Terminate | Signal::Interrupt => return,
            Signal::HangUp => log::info!("SIGHUP: there is nothing to reload"),
        }
    }
}
