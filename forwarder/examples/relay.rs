//! Relays one channel until SIGTERM or SIGINT: a route without a configuration file.
//!
//!     relay SOURCE_HOST:PORT TOPIC CHANNEL UPSTREAM_HOST:PORT..

use std::error::Error;
use std::process::ExitCode;

use config::{Config, Environment, Route};
use forwarder::Forwarder;
use runtime::signal::Signals;
use runtime::{Stop, clock, spawn};

fn main() -> ExitCode {
    match relay() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn relay() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("too few arguments");
    let mut config = Config::default();
    config.forwarder.nsqd_tcp_address = next()?;
    let route = Route {
        topic: next()?,
        channel: next()?,
        ..Route::default()
    };
    config.forwarder.routes.push(Route {
        upstream: arguments.collect(),
        ..route
    });
    let options = config.resolve(&Environment::default())?.forwarder;
    let mut signals = Signals::block()?;
    runtime::run(async {
        let seed = u64::try_from(clock::wall_ns()).unwrap_or_default();
        let forwarder = Forwarder::bind(&options, seed)?;
        let stop = Stop::new();
        let running = spawn(forwarder.run(stop.clone()));
        signals.next().await;
        stop.request();
        running.await;
        Ok(())
    })
}
