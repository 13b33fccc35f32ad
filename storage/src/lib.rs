//! The log: ring, segments, cursors, checkpoint, recovery. Knows bytes, not NSQ.

pub mod disk;
mod job;
mod worker;

pub use job::{Done, Job, Step, run_job};
pub use worker::Worker;
