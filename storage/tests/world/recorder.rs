//! A medium that remembers how it was before each call, so that one run serves for a crash at every call.

use std::io;
use std::sync::Mutex;

use storage::disk::{Disk, FaultyDisk, FaultyFile};

pub struct Recorder {
    pub inner: FaultyDisk,
    /// With the number of the call that was to come.
    moments: Mutex<Vec<(u64, FaultyDisk)>>,
}

impl Recorder {
    pub fn new(inner: FaultyDisk) -> Recorder {
        Recorder {
            inner,
            moments: Mutex::new(Vec::new()),
        }
    }

    /// The medium before each call since this was last asked, and as it is now.
    pub fn take_moments(&self) -> Vec<(u64, FaultyDisk)> {
        self.remember();
        std::mem::take(&mut self.moments.lock().unwrap())
    }

    fn remember(&self) {
        self.moments
            .lock()
            .unwrap()
            .push((self.inner.calls() + 1, self.inner.kill()));
    }
}

impl Disk for Recorder {
    type File = FaultyFile;

    fn open(&self, name: &str) -> io::Result<FaultyFile> {
        self.inner.open(name)
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<FaultyFile> {
        self.remember();
        self.inner.create(name, bytes)
    }

    fn len(&self, file: &FaultyFile) -> io::Result<u64> {
        self.inner.len(file)
    }

    fn read_at(&self, file: &FaultyFile, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.inner.read_at(file, offset, into)
    }

    fn write_at(&self, file: &FaultyFile, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.remember();
        self.inner.write_at(file, offset, bytes)
    }

    fn sync(&self, file: &FaultyFile) -> io::Result<()> {
        self.remember();
        self.inner.sync(file)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.remember();
        self.inner.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.remember();
        self.inner.remove(name)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.inner.list(dir)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.remember();
        self.inner.sync_dir(dir)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.inner.free_bytes()
    }
}
