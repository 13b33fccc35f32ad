//! What the store asks of the medium: one [`Job`] at a time, its steps in order, the first failure ends it.
//!
//! The store itself only reads. Every write and every sync leaves as a job, so that the same store runs with
//! a thread of its own ([`crate::Worker`]) or step by step in a simulation ([`run_job`]).

use std::io;

use crate::disk::Disk;

/// One call on the medium.
pub enum Step<F> {
    /// Write `bytes` at `offset`.
    Write {
        /// The file.
        file: F,
        /// Byte offset in it.
        offset: u64,
        /// What to write.
        bytes: Vec<u8>,
    },
    /// Make the file's data durable.
    Sync {
        /// The file.
        file: F,
    },
    /// Create a file with its space reserved; it comes back in [`Done::created`].
    Create {
        /// Its name, relative to the store.
        name: String,
        /// Its length.
        bytes: u64,
    },
    /// Open a file under a new name; it comes back in [`Done::created`].
    Adopt {
        /// The present name.
        from: String,
        /// The new name.
        to: String,
    },
    /// Remove a file; one that is not there is no error.
    Remove {
        /// Its name.
        name: String,
    },
    /// Make the names of a directory durable.
    SyncDir {
        /// The directory.
        dir: &'static str,
    },
}

/// Steps to be run in order by one caller at a time.
pub struct Job<D: Disk> {
    pub(crate) steps: Vec<Step<D::File>>,
}

/// What became of a [`Job`].
pub struct Done<D: Disk> {
    /// Files that `Create` and `Adopt` steps opened, in their order.
    pub(crate) created: Vec<D::File>,
    /// The steps, for the reuse of their buffers.
    pub(crate) steps: Vec<Step<D::File>>,
    /// Success, or the index of the step that failed and why; the steps after it were not run.
    pub(crate) result: Result<(), (usize, io::Error)>,
}

/// Runs a job on the calling thread.
pub fn run_job<D: Disk>(disk: &D, job: Job<D>) -> Done<D> {
    let mut created = Vec::new();
    let mut result = Ok(());
    for (index, step) in job.steps.iter().enumerate() {
        if let Err(error) = run_step(disk, step, &mut created) {
            result = Err((index, error));
            break;
        }
    }
    Done {
        created,
        steps: job.steps,
        result,
    }
}

fn run_step<D: Disk>(disk: &D, step: &Step<D::File>, created: &mut Vec<D::File>) -> io::Result<()> {
    match step {
        Step::Write {
            file,
            offset,
            bytes,
        } => disk.write_at(file, *offset, bytes),
        Step::Sync { file } => disk.sync(file),
        Step::Create { name, bytes } => {
            created.push(disk.create(name, *bytes)?);
            Ok(())
        }
        Step::Adopt { from, to } => {
            disk.rename(from, to)?;
            created.push(disk.open(to)?);
            Ok(())
        }
        Step::Remove { name } => match disk.remove(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        },
        Step::SyncDir { dir } => disk.sync_dir(dir),
    }
}
