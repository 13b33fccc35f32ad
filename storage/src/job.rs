//! What the store asks of the medium: one [`Job`] at a time, its steps in order, the first failure ends it.
//!
//! The store itself only reads. Every write and every sync leaves as a job, so that the same store runs with
//! a thread of its own ([`crate::Worker`]) or step by step in a simulation ([`run_job`]).

use std::io;

use crate::disk::Disk;

/// The file of a step.
#[derive(Clone)]
pub enum Target<F> {
    /// One that is open.
    Open(F),
    /// The one that the job's `Create` step of this count (from 0) made.
    Created(usize),
}

/// One call on the medium.
pub enum Step<F> {
    /// Write `bytes` at `offset`.
    Write {
        /// The file.
        file: Target<F>,
        /// Byte offset in it.
        offset: u64,
        /// What to write.
        bytes: Vec<u8>,
    },
    /// Make the file's data durable.
    Sync {
        /// The file.
        file: Target<F>,
    },
    /// Create a file with its space reserved; it comes back in [`Done::created`].
    Create {
        /// Its name, relative to the store.
        name: String,
        /// Its length.
        bytes: u64,
    },
    /// Remove a file; one that is not there is no error.
    Remove {
        /// Its name.
        name: String,
    },
    /// What was found impossible while the job was planned.
    Fail {
        /// Why.
        error: String,
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
    /// Files that `Create` steps made, in their order.
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
        } => disk.write_at(resolve(file, created)?, *offset, bytes),
        Step::Sync { file } => disk.sync(resolve(file, created)?),
        Step::Create { name, bytes } => {
            created.push(disk.create(name, *bytes)?);
            Ok(())
        }
        Step::Remove { name } => match disk.remove(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        },
        Step::Fail { error } => Err(io::Error::other(error.clone())),
        Step::SyncDir { dir } => disk.sync_dir(dir),
    }
}

fn resolve<'a, F>(target: &'a Target<F>, created: &'a [F]) -> io::Result<&'a F> {
    match target {
        Target::Open(file) => Ok(file),
        Target::Created(index) => created
            .get(*index)
            .ok_or_else(|| io::Error::other("a step names a file that no step before it created")),
    }
}
