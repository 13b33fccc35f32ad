//! The drop-in names: a link named `nsqd`, `nsqlookupd` or `nsq_to_nsq` takes that program's flags.

use std::process::ExitCode;

use config::flags::{self, FlagsError, Program, Request};

use crate::daemons::{self, Daemons, Said};
use crate::{environment, exit};

/// The release of NSQ whose flags and protocol these programs have: what its users compare.
const NSQ_VERSION: &str = "1.3.0";

/// Runs as one of NSQ's programs.
pub(crate) fn main(program: Program, args: &[String]) -> ExitCode {
    match flags::parse(program, args, &environment::read()) {
        Ok(Request::Run(run)) => {
            let flags::Run {
                options,
                notes,
                warnings,
                ..
            } = *run;
            let said = Said { notes, warnings };
            daemons::main(program.name(), daemons_of(program), options, &said)
        }
        Ok(Request::Version) => {
            let own = env!("CARGO_PKG_VERSION");
            let name = program.name();
            exit::print(&format!("{name} v{NSQ_VERSION} (nsq-edge v{own})\n"));
            ExitCode::SUCCESS
        }
        Ok(Request::Help) => {
            exit::tell(&program.usage());
            ExitCode::SUCCESS
        }
        Err(FlagsError::Config(error)) => {
            exit::tell(&format!("{}: {error}\n", program.name()));
            ExitCode::FAILURE
        }
        Err(error @ FlagsError::NotYet { .. }) => {
            exit::usage(format_args!("{}: {error}", program.name()))
        }
        // As Go's flag package does it; the line comes first and last, for the usage is long.
        Err(FlagsError::Usage(error)) => exit::usage(format_args!(
            "{error}\n{}{}: {error}",
            program.usage(),
            program.name()
        )),
    }
}

const fn daemons_of(program: Program) -> Daemons {
    match program {
        Program::Nsqd => Daemons::BROKER,
        Program::Nsqlookupd => Daemons::LOOKUPD,
        Program::NsqToNsq => Daemons::FORWARDER,
    }
}
