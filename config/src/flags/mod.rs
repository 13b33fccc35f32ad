//! The drop-in names: `nsqd`, `nsqlookupd` and `nsq_to_nsq` with the flags of NSQ 1.3.0, so that unit
//! files and scripts written for NSQ keep working.
//!
//! There is one table ([`table`]) of every flag that those programs know. A flag is supported, or has
//! no meaning here and is explained in the log, or is refused with an error that says that it is known
//! and not yet supported. None is silently ignored.

mod go;
mod state;
mod table;

use std::path::Path;

use crate::error::ConfigError;
use crate::file::Config;
use crate::options::{Environment, Options};

pub use table::{Flag, Meaning};

/// A program of NSQ whose name and flags this one takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The broker.
    Nsqd,
    /// The registry.
    Nsqlookupd,
    /// The relay.
    NsqToNsq,
}

impl Program {
    /// All of them.
    pub const ALL: [Program; 3] = [Program::Nsqd, Program::Nsqlookupd, Program::NsqToNsq];

    /// The program's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Program::Nsqd => "nsqd",
            Program::Nsqlookupd => "nsqlookupd",
            Program::NsqToNsq => "nsq_to_nsq",
        }
    }

    /// The program of which `argv0` is a path.
    #[must_use]
    pub fn of(argv0: &str) -> Option<Self> {
        let name = Path::new(argv0).file_name()?.to_str()?;
        Self::ALL.into_iter().find(|program| program.name() == name)
    }

    /// The program's flags.
    #[must_use]
    pub const fn flags(self) -> &'static [Flag] {
        match self {
            Program::Nsqd => table::NSQD,
            Program::Nsqlookupd => table::NSQLOOKUPD,
            Program::NsqToNsq => table::NSQ_TO_NSQ,
        }
    }

    /// The text that `-help` prints.
    #[must_use]
    pub fn usage(self) -> String {
        table::usage(self)
    }
}

/// What a command line asks for.
#[derive(Debug)]
pub enum Request {
    /// Run with these options.
    Run(Box<Run>),
    /// Print the version (`-version`).
    Version,
    /// Print the usage (`-help`, `-h`).
    Help,
}

/// A command line that was accepted.
#[derive(Debug)]
pub struct Run {
    /// The configuration that the flags add up to.
    pub config: Config,
    /// The same, validated.
    pub options: Options,
    /// One line for each flag that has no meaning here, for the log.
    pub notes: Vec<String>,
    /// One line for each flag that allows what is not yet supported, for the log.
    pub warnings: Vec<String>,
}

/// Why a command line was not accepted. Each prints as one line.
#[derive(Debug, thiserror::Error)]
pub enum FlagsError {
    /// The command line is wrong; what Go's flag package says, followed by the usage, exit code 2.
    #[error("{0}")]
    Usage(String),
    /// A flag that NSQ has and this program does not yet; exit code 2, without the usage.
    #[error("-{flag}: known and not yet supported: {what}")]
    NotYet {
        /// The flag, without dashes.
        flag: &'static str,
        /// What is not supported.
        what: &'static str,
    },
    /// A value that is out of its bounds, or a file that cannot be used; exit code 1.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// Reads the arguments after the program's name.
///
/// `-config FILE` is NSQ's own file: TOML with the names of the flags, underscores for dashes. The
/// command line wins over it.
///
/// # Errors
/// See [`FlagsError`].
pub fn parse(
    program: Program,
    args: &[String],
    environment: &Environment,
) -> Result<Request, FlagsError> {
    let given = match go::split(program.flags(), args)? {
        go::Split::Help => return Ok(Request::Help),
        go::Split::Given(given) => given,
    };
    if given
        .iter()
        .any(|(flag, value)| flag.name == "version" && *value == go::Value::Bool(true))
    {
        return Ok(Request::Version);
    }
    let file = match given.iter().rev().find(|(flag, _)| flag.name == "config") {
        Some((_, go::Value::Text(path))) if !path.is_empty() => go::file(program, Path::new(path))?,
        _ => Vec::new(),
    };
    let mut state = state::State::new(program);
    let in_file = file
        .iter()
        .filter(|(flag, _)| !given.iter().any(|(g, _)| g.name == flag.name));
    for (flag, value) in in_file.chain(&given) {
        state.apply(flag, value)?;
    }
    let state::State {
        mut config,
        notes,
        warnings,
        ..
    } = state.finish()?;
    config.fit();
    let options = config
        .resolve(environment)
        .map_err(|error| with_flag(program, error))?;
    Ok(Request::Run(Box::new(Run {
        config,
        options,
        notes,
        warnings,
    })))
}

/// Names the flag beside the key that it sets.
fn with_flag(program: Program, error: ConfigError) -> ConfigError {
    let ConfigError::Bound { key, value, bound } = error else {
        return error;
    };
    let name = key.rsplit_once('.').map_or(key.as_str(), |(_, name)| name);
    let is_of = |flag: &&Flag| flag.key == key || flag.key.ends_with(&format!("route.{name}"));
    let key = match program.flags().iter().find(is_of) {
        Some(flag) => format!("-{} ({key})", flag.name),
        None => key,
    };
    ConfigError::Bound { key, value, bound }
}
