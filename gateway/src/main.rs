//! nsq-edge: the NSQ of the edge. One executable: a broker, a registry, a relay, or all three in one
//! process; under the name of one of NSQ's programs it takes that program's flags.

mod check;
mod cli;
mod daemons;
mod demo;
mod drop_in;
mod environment;
mod exit;
mod logging;
mod sockets;
mod watchdog;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    let (name, rest) = args
        .split_first()
        .map_or(("nsq-edge", &[][..]), |(n, r)| (n.as_str(), r));
    match config::flags::Program::of(name) {
        Some(program) => drop_in::main(program, rest),
        None => cli::main(&args),
    }
}
