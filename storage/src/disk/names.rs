//! Which names a store may use: plain ones, in its directory or in [`SEGMENTS_DIR`]. A damaged catalogue
//! must not lead anybody out of it.

use std::io;

use super::{SEGMENTS_DIR, TOP_DIR};

/// Accepts `name` and `segments/name`.
pub(super) fn check_name(name: &str) -> io::Result<()> {
    let (_, plain) = split(name);
    if plain.is_empty() || plain == "." || plain == ".." || plain.contains(['/', '\0']) {
        return Err(invalid(format!(
            "{name:?} is no name for a file of the store"
        )));
    }
    Ok(())
}

/// What stands before the plain names of `dir`.
pub(super) fn dir_prefix(dir: &str) -> io::Result<&'static str> {
    match dir {
        TOP_DIR => Ok(""),
        SEGMENTS_DIR => Ok("segments/"),
        _ => Err(invalid(format!("{dir:?} is no directory of the store"))),
    }
}

/// The directory in which `name` stands.
pub(super) fn dir_of(name: &str) -> &'static str {
    split(name).0
}

/// A rename within a directory is one operation for one sync; between two it would need both.
pub(super) fn check_same_dir(from: &str, to: &str) -> io::Result<()> {
    if dir_of(from) == dir_of(to) {
        return Ok(());
    }
    Err(invalid(format!(
        "{from:?} cannot become {to:?}: not the same directory"
    )))
}

fn split(name: &str) -> (&'static str, &str) {
    match name.split_once('/') {
        Some((SEGMENTS_DIR, plain)) => (SEGMENTS_DIR, plain),
        _ => (TOP_DIR, name),
    }
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}
