//! How the program ends: one clear line for an operator and an exit code.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::process::ExitCode;

/// The command line is wrong; Go's flag package and clap agree on it.
pub(crate) const USAGE: u8 = 2;

/// Ends with an error: exit code 1. The line is printed whatever the log level, since it says why the
/// program is not there any more.
pub(crate) fn fatal(error: impl Display) -> ExitCode {
    crate::logging::fatal(&error.to_string());
    ExitCode::FAILURE
}

/// Ends with an error of the command line: exit code 2, plainly on stderr.
pub(crate) fn usage(error: impl Display) -> ExitCode {
    tell(&format!("{error}\n"));
    ExitCode::from(USAGE)
}

/// Writes to stdout. Unlike `print!` it does not panic when the reader is gone (`nsq-edge ... | head`).
pub(crate) fn print(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
    let _ = io::stdout().flush();
}

/// Writes to stderr, which may be gone as well.
pub(crate) fn tell(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}
