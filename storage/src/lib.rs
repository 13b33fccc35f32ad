//! The log: ring, segments, cursors, checkpoint, recovery. Knows bytes, not NSQ.

pub mod disk;
mod job;

pub use job::{Done, Job, Step, run_job};
