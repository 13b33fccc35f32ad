//! `nsq-edge config check`: the same check that a start makes, as an ExecStartPre= and for people.

use std::process::ExitCode;

use config::{Config, ConfigError, Options};

use crate::exit;

/// Prints the configuration that results, with every key and in the file's form, and its worst case
/// of memory; or the one line that says what is wrong.
pub(crate) fn run(resolved: Result<(Config, Options), ConfigError>, quiet: bool) -> ExitCode {
    let (config, options) = match resolved {
        Ok(resolved) => resolved,
        Err(error) => return exit::fatal(error),
    };
    if quiet {
        return ExitCode::SUCCESS;
    }
    let mut shown = config;
    shown.data_path = options.broker.data_path.display().to_string();
    shown.broker.broadcast_address = options.broker.broadcast_address;
    shown.lookupd.broadcast_address = options.lookupd.broadcast_address;
    exit::print(&format!(
        "{}\n# memory, at most: {}\n",
        shown.to_text(),
        options.memory
    ));
    ExitCode::SUCCESS
}
