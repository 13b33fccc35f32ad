//! The daemons of one process: opened in order, stopped by a signal, drained in order.

use std::cell::Cell;
use std::fmt::Display;
use std::future::Future;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use broker::{Broker, OpenStore, Progress};
use config::Options;
use forwarder::Forwarder;
use lookupd::Lookupd;
use runtime::signal::{Signal, Signals};
use runtime::{Either, Notify, Stop, Task, clock, notify, race, spawn, timer};

use crate::sockets::{self, Sockets};
use crate::{exit, logging, watchdog};

/// For the forwarder to hear of what is under way, above the limits that it keeps itself; what it does
/// not hear of is delivered again.
const FORWARDER_DRAIN_MAX: Duration = Duration::from_secs(15);

/// Which daemons run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Daemons {
    broker: bool,
    lookupd: bool,
    forwarder: bool,
}

/// What the command line has to say in the log.
#[derive(Default)]
pub(crate) struct Said {
    pub(crate) notes: Vec<String>,
    pub(crate) warnings: Vec<String>,
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

impl std::fmt::Display for Daemons {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.all().into_iter().map(|daemon| match daemon {
            config::Daemon::Broker => "broker",
            config::Daemon::Lookupd => "lookupd",
            config::Daemon::Forwarder => "forwarder",
        });
        out.write_str(&names.collect::<Vec<_>>().join(", "))
    }
}

impl Daemons {
    fn all(self) -> Vec<config::Daemon> {
        let all = [
            (self.broker, config::Daemon::Broker),
            (self.lookupd, config::Daemon::Lookupd),
            (self.forwarder, config::Daemon::Forwarder),
        ];
        all.into_iter()
            .filter_map(|(wanted, daemon)| wanted.then_some(daemon))
            .collect()
    }
}

/// Runs until a signal says stop and everything is drained.
pub(crate) fn main(program: &str, wanted: Daemons, options: Options, said: &Said) -> ExitCode {
    logging::start(program, &options.log);
    log::info!("nsq-edge v{}: {}", env!("CARGO_PKG_VERSION"), wanted);
    said.notes.iter().for_each(|note| log::info!("{note}"));
    said.warnings
        .iter()
        .for_each(|warning| log::warn!("{warning}"));
    // Both before any thread starts: threads inherit the mask, and the environment is changed.
    let started = Signals::block()
        .map_err(|error| format!("no signals: {error}"))
        .and_then(|signals| Ok((signals, Sockets::take()?)));
    let (signals, sockets) = match started {
        Ok(started) => started,
        Err(error) => return exit::fatal(error),
    };
    match runtime::run(serve(wanted, options, signals, sockets)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::fatal(error),
    }
}

async fn serve(
    wanted: Daemons,
    options: Options,
    mut signals: Signals,
    sockets: Sockets,
) -> Result<(), String> {
    let memory = options.memory.clone().only(&wanted.all());
    log::info!("memory, at most: {memory}");
    let running = open(wanted, options, sockets)?;
    notify::ready();
    let _feeding = spawn(watchdog::feed(running.storage.clone()));
    let end = race(wait_for_stop(&mut signals), running.ended.notified()).await;
    notify::stopping();
    let result = match end {
        Either::Left(signal) => {
            log::info!("{signal}: draining");
            Ok(())
        }
        Either::Right(()) => Err(format!("the {} ended by itself", running.first_end())),
    };
    match race(running.drain(), wait_for_stop(&mut signals)).await {
        Either::Left(()) => log::info!("drained"),
        Either::Right(signal) => return Err(format!("{signal}: a second one, ending at once")),
    }
    result
}

/// Opens what is wanted, each with what it has to know of those before it: the broker registers with
/// this lookupd, the forwarder consumes from this broker. All listen when this returns.
fn open(wanted: Daemons, mut options: Options, mut sockets: Sockets) -> Result<Running, String> {
    let mut running = Running::default();
    // The store first: that it is in use says more than that an address is.
    let store = if wanted.broker {
        warn_of_nsqd_files(&options.broker.data_path);
        Some(OpenStore::new(&options.broker, &[]).map_err(in_daemon("broker"))?)
    } else {
        None
    };
    if wanted.lookupd {
        let own = &options.lookupd;
        let tcp = sockets.listener("lookupd-tcp", &own.tcp_address)?;
        let http = sockets.listener("lookupd-http", &own.http_address)?;
        let lookupd = Lookupd::with_listeners(own, tcp, http).map_err(in_daemon("lookupd"))?;
        let address = sockets::to_dial(lookupd.tcp_address());
        let known = &mut options.broker.lookupd_tcp_addresses;
        if !known.contains(&address) {
            known.push(address);
        }
        running.start("lookupd", |stop| lookupd.run(stop));
    }
    if let Some(store) = store {
        let broker = listen(store, &options, &mut sockets)?;
        options.forwarder.nsqd_tcp_address = sockets::to_dial(broker.tcp_address());
        running.storage = Some(broker.progress());
        running.start("broker", |stop| broker.run(stop));
    }
    sockets.all_taken()?;
    if wanted.forwarder && options.forwarder.routes.is_empty() {
        if !wanted.broker {
            return Err("forwarder: there is no [[forwarder.route]]: nothing to relay".to_owned());
        }
        log::info!("forwarder: no route");
    } else if wanted.forwarder {
        let seed = clock::now().as_nanos() as u64 ^ clock::wall_ns().unsigned_abs();
        let own = Forwarder::bind(&options.forwarder, seed).map_err(in_daemon("forwarder"))?;
        running.start("forwarder", |stop| own.run(stop));
    }
    Ok(running)
}

fn listen(store: OpenStore, options: &Options, sockets: &mut Sockets) -> Result<Broker, String> {
    let own = &options.broker;
    let tcp = sockets.listener("broker-tcp", &own.tcp_address)?;
    let http = sockets.listener("broker-http", &own.http_address)?;
    let broker = store.with_listeners(own, tcp, http);
    broker.map_err(in_daemon("broker"))
}

/// A directory in which nsqd worked: it is not touched, but who changed the program for this one must
/// know that messages are left in it.
fn warn_of_nsqd_files(data_path: &Path) {
    if data_path.join("nsqd.dat").exists() {
        let path = data_path.display();
        log::warn!("{path} has files of an nsqd: the messages in them are not read, nor removed");
    }
}

fn in_daemon<E: Display>(name: &'static str) -> impl Fn(E) -> String {
    move |error| format!("{name}: {error}")
}

/// What runs, in the order in which it was started.
#[derive(Default)]
struct Running {
    daemons: Vec<Daemon>,
    /// Notified when a daemon ends that was not asked to.
    ended: Notify,
    first: Rc<Cell<Option<&'static str>>>,
    /// Of the broker, if there is one.
    storage: Option<Progress>,
}

struct Daemon {
    name: &'static str,
    stop: Stop,
    task: Task<()>,
}

impl Running {
    fn start<F: Future<Output = ()> + 'static>(
        &mut self,
        name: &'static str,
        run: impl FnOnce(Stop) -> F,
    ) {
        let stop = Stop::new();
        let (running, asked) = (run(stop.clone()), stop.clone());
        let (ended, first) = (self.ended.clone(), Rc::clone(&self.first));
        let task = spawn(async move {
            running.await;
            if !asked.is_requested() {
                first.set(first.get().or(Some(name)));
                ended.notify();
            }
        });
        self.daemons.push(Daemon { name, stop, task });
    }

    fn first_end(&self) -> &'static str {
        self.first.get().unwrap_or("program")
    }

    /// Stops the last started first: the forwarder finishes what it hears of while its broker is there,
    /// the broker takes itself off the lookupd's list while that is there.
    async fn drain(self) {
        for Daemon { name, stop, task } in self.daemons.into_iter().rev() {
            stop.request();
            if name != "forwarder" {
                task.await;
            } else if timer::timeout(FORWARDER_DRAIN_MAX, task).await.is_err() {
                log::warn!("{name}: not drained in time, what is under way will be sent again");
            }
        }
    }
}

/// The signal's name. SIGHUP is no reason to end: a terminal that is closed is none for a daemon.
async fn wait_for_stop(signals: &mut Signals) -> &'static str {
    loop {
        match signals.next().await {
            Signal::Terminate => return "SIGTERM",
            Signal::Interrupt => return "SIGINT",
            Signal::HangUp => log::info!("SIGHUP: there is nothing to reload"),
        }
    }
}
