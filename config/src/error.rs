//! What can be wrong with a configuration. Every variant prints as one line.

use std::path::PathBuf;

/// Why a configuration is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("line {line}: {message}")]
    Syntax {
        /// The line, from 1.
        line: usize,
        /// What the parser said, in one line.
        message: String,
    },
    /// A key that does not exist.
    #[error("line {line}: {key}: unknown key")]
    UnknownKey {
        /// The line, from 1.
        line: usize,
        /// The key with its sections.
        key: String,
    },
    /// A value of the wrong kind.
    #[error("line {line}: {key} = {value}: {expected}")]
    Type {
        /// The line, from 1.
        line: usize,
        /// The key with its sections.
        key: String,
        /// The value as it is written.
        value: String,
        /// What it must be.
        expected: String,
    },
    /// A value that is out of its bounds, by itself or beside another.
    #[error("{key} = {value}: {bound}")]
    Bound {
        /// The key with its sections.
        key: String,
        /// The value, as it would be written.
        value: String,
        /// What it must be, and why if that is not obvious.
        bound: String,
    },
    /// An error in a named file.
    #[error("{}: {source}", path.display())]
    In {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        source: Box<ConfigError>,
    },
}
