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
    #[error("{}{message}", at(*line))]
    Syntax {
        /// The line, from 1; 0 when it is not from a file.
        line: usize,
        /// What the parser said, in one line.
        message: String,
    },
    /// A key that does not exist.
    #[error("{}{key}: unknown key", at(*line))]
    UnknownKey {
        /// The line, from 1; 0 when it is not from a file.
        line: usize,
        /// The key with its sections.
        key: String,
    },
    /// A value of the wrong kind.
    #[error("{}{key} = {value}: {expected}", at(*line))]
    Type {
        /// The line, from 1; 0 when it is not from a file.
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

impl ConfigError {
    /// The same error of a text that is not a file and has no lines.
    pub(crate) fn without_line(mut self) -> Self {
        match &mut self {
            Self::Syntax { line, .. } | Self::UnknownKey { line, .. } | Self::Type { line, .. } => {
                *line = 0;
            }
            Self::Read { .. } | Self::Bound { .. } | Self::In { .. } => {}
        }
        self
    }
}

fn at(line: usize) -> String {
    if line == 0 {
        String::new()
    } else {
        format!("line {line}: ")
    }
}
