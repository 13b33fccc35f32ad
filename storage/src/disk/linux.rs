//! The store's directory on a Linux file system. The one place of this crate that makes system calls.
//!
//! A `lock` file in the directory is held with flock(2) for as long as a [`LinuxDisk`] lives; it carries the
//! holder's process id for the error that a second opener gets. It is this module's own: no name of the store.
//! Every descriptor is close-on-exec (std opens all files so).

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, posix_fallocate};
use nix::sys::statvfs::fstatvfs;

use super::{Disk, SEGMENTS_DIR, TOP_DIR};

/// A directory of which this process is the only user.
#[derive(Debug)]
pub struct LinuxDisk {
    dir: PathBuf,
    /// Kept open, so that an error of writing a directory back is reported to the next sync of it.
    top: File,
    segments: File,
    _lock: Flock<File>,
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process (or another store of this one) has it.
    #[error("{} is in use by {}", .dir.display(), holder(.pid))]
    Held {
        /// The directory.
        dir: PathBuf,
        /// Process id of the holder, as far as it has noted it.
        pid: Option<u32>,
    },
    /// It cannot be made, opened or locked.
    #[error("cannot use {}: {source}", .path.display())]
    Io {
        /// The directory, or the file in it.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl LinuxDisk {
    /// Takes the lock on `dir`, and makes the directory if its parent is there.
    pub fn open(dir: &Path) -> Result<LinuxDisk, LockError> {
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |source| LockError::Io { path, source }
        };
        make_dir(dir).map_err(failed(dir))?;
        let lock = take_lock(dir)?;
        let segments_dir = dir.join(SEGMENTS_DIR);
        make_dir(&segments_dir).map_err(failed(&segments_dir))?;
        let top = File::open(dir).map_err(failed(dir))?;
        top.sync_all().map_err(failed(dir))?;
        let segments = File::open(&segments_dir).map_err(failed(&segments_dir))?;
        Ok(LinuxDisk {
            dir: dir.to_path_buf(),
            top,
            segments,
            _lock: lock,
        })
    }

    fn path(&self, name: &str) -> io::Result<PathBuf> {
        check_name(name)?;
        Ok(self.dir.join(name))
    }
}

impl Disk for LinuxDisk {
    type File = Arc<File>;

    fn open(&self, name: &str) -> io::Result<Arc<File>> {
        let path = self.path(name)?;
        Ok(Arc::new(
            OpenOptions::new().read(true).write(true).open(path)?,
        ))
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<File>> {
        let path = self.path(name)?;
        // A new file, not a truncated one: whoever has the old one open keeps its contents.
        absent_is_fine(fs::remove_file(&path))?;
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(&path)?;
        if let Err(error) = reserve(&file, bytes) {
            absent_is_fine(fs::remove_file(&path))?;
            return Err(error);
        }
        Ok(Arc::new(file))
    }

    fn len(&self, file: &Arc<File>) -> io::Result<u64> {
        Ok(file.metadata()?.len())
    }

    fn read_at(&self, file: &Arc<File>, offset: u64, into: &mut [u8]) -> io::Result<()> {
        file.read_exact_at(into, offset)
    }

    fn write_at(&self, file: &Arc<File>, offset: u64, bytes: &[u8]) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn sync(&self, file: &Arc<File>) -> io::Result<()> {
        file.sync_data()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        super::check_same_dir(from, to)?;
        fs::rename(self.path(from)?, self.path(to)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name)?)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let prefix = super::dir_prefix(dir)?;
        let mut names = Vec::new();
        for entry in fs::read_dir(self.dir.join(dir))? {
            let entry = entry?;
            // A name that is not UTF-8 is not one of ours, and nothing could be asked about it.
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let name = format!("{prefix}{name}");
            if check_name(&name).is_ok() && !entry.file_type()?.is_dir() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        super::dir_prefix(dir)?;
        if dir == TOP_DIR {
            self.top.sync_all()
        } else {
            self.segments.sync_all()
        }
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = fstatvfs(&self.top)?;
        #[allow(clippy::useless_conversion, reason = "both are 32 bits wide on armhf")]
        let (blocks, block) = (
            u64::from(stat.blocks_available()),
            u64::from(stat.fragment_size()),
        );
        Ok(blocks.saturating_mul(block))
    }
}

/// The events are the operator's: other users of the machine need not read them.
const FILE_MODE: u32 = 0o640;
const DIR_MODE: u32 = 0o750;

const LOCK_FILE: &str = "lock";

/// Zeros written at once where a file system cannot reserve space.
const ZEROS_BYTES: usize = 64 * 1024;

fn check_name(name: &str) -> io::Result<()> {
    super::check_name(name)?;
    if name == LOCK_FILE {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the lock is not the store's",
        ));
    }
    Ok(())
}

fn make_dir(dir: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(DIR_MODE).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        other => other?,
    }
    match dir.parent() {
        Some(parent) if parent != Path::new("") => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

fn take_lock(dir: &Path) -> Result<Flock<File>, LockError> {
    let path = dir.join(LOCK_FILE);
    let failed = |source| LockError::Io {
        path: path.clone(),
        source,
    };
    let mut options = OpenOptions::new();
    let options = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(FILE_MODE);
    let file = options.open(&path).map_err(failed)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => {
            // The lock is what counts; on a full disk the note may fail.
            if let Err(error) = note_holder(&lock) {
                log::warn!("cannot write the process id to {}: {error}", path.display());
            }
            Ok(lock)
        }
        Err((mut file, Errno::EWOULDBLOCK)) => Err(LockError::Held {
            dir: dir.to_path_buf(),
            pid: read_holder(&mut file),
        }),
        Err((_, errno)) => Err(failed(errno.into())),
    }
}

fn note_holder(mut lock: &File) -> io::Result<()> {
    lock.set_len(0)?;
    writeln!(lock, "{}", std::process::id())
}

fn read_holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn holder(pid: &Option<u32>) -> String {
    match pid {
        Some(pid) => format!("process {pid}"),
        None => "another process".to_owned(),
    }
}

fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    let Ok(length) = nix::libc::off_t::try_from(bytes) else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{bytes} bytes in one file"),
        ));
    };
    if length == 0 {
        return Ok(());
    }
    loop {
        match posix_fallocate(file, 0, length) {
            Err(Errno::EINTR) => {}
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL) => {
                return write_zeros(file, bytes);
            }
            other => return Ok(other?),
        }
    }
}

fn write_zeros(file: &File, bytes: u64) -> io::Result<()> {
    let zeros = vec![0; ZEROS_BYTES];
    let mut offset = 0;
    while offset < bytes {
        let left = usize::try_from(bytes - offset).unwrap_or(usize::MAX);
        let chunk = zeros.get(..left.min(zeros.len())).unwrap_or(&zeros);
        file.write_all_at(chunk, offset)?;
        offset += chunk.len() as u64;
    }
    Ok(())
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_opener_is_refused_with_the_directory_and_the_holders_pid() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("store");
        let first = LinuxDisk::open(&dir).unwrap();
        let error = LinuxDisk::open(&dir).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "{} is in use by process {}",
                dir.display(),
                std::process::id()
            )
        );
        drop(first);
        LinuxDisk::open(&dir).unwrap();
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("absent/store");
        let error = LinuxDisk::open(&dir).unwrap_err().to_string();
        assert!(
            error.contains("absent/store") && error.contains("No such file"),
            "{error}"
        );
        let file = temp.path().join("file");
        fs::write(&file, "").unwrap();
        let error = LinuxDisk::open(&file).unwrap_err().to_string();
        assert!(
            error.contains("file") && error.contains("Not a directory"),
            "{error}"
        );
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let temp = tempfile::tempdir().unwrap();
        let disk = LinuxDisk::open(temp.path()).unwrap();
        for name in [
            "",
            "/etc/passwd",
            "..",
            "../x",
            "segments/../x",
            "segments/",
            "a/b",
            "lock",
        ] {
            let error = disk.create(name, 1).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name}");
        }
    }

    #[test]
    fn a_file_that_finds_no_space_leaves_no_litter() {
        let temp = tempfile::tempdir().unwrap();
        let disk = LinuxDisk::open(temp.path()).unwrap();
        let too_much = disk.free_bytes().unwrap().saturating_mul(2).max(1 << 60);
        assert!(disk.create("segments/big", too_much).is_err());
        assert_eq!(disk.list(SEGMENTS_DIR).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn where_space_cannot_be_reserved_zeros_are_written() {
        let temp = tempfile::tempdir().unwrap();
        let disk = LinuxDisk::open(temp.path()).unwrap();
        let file = disk.create("x", 0).unwrap();
        let bytes = ZEROS_BYTES as u64 + 5;
        write_zeros(&file, bytes).unwrap();
        assert_eq!(disk.len(&file).unwrap(), bytes);
    }

    #[test]
    fn created_space_is_allocated_and_not_sparse() {
        use std::os::unix::fs::MetadataExt;
        let temp = tempfile::tempdir().unwrap();
        let disk = LinuxDisk::open(temp.path()).unwrap();
        let file = disk.create("ring", 1 << 20).unwrap();
        assert!(file.metadata().unwrap().blocks() * 512 >= 1 << 20);
    }
}
