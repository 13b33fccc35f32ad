//! A medium in memory that loses what was not synced, refuses and lies, each time in the same way.
//!
//! Every file has what was made durable and, per 512-byte sector, every content that was written since: at a
//! power cut any of them may be what the medium holds, sector by sector, in any order over files. The names of
//! a directory are the durable ones and a list of operations that wait for [`Disk::sync_dir`]; any subset of
//! them survives. The length of a new file waits for the file's own sync.
//!
//! [`FaultyDisk::crash`] and [`FaultyDisk::kill`] leave the disk as it is and return the medium that the next
//! start finds, so that one run serves for many crashes.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::{Disk, TOP_DIR, check_name, check_same_dir, dir_of, dir_prefix};
use inode::{Draw, Inode, SECTOR};

mod inode;

/// What survives a power cut of that which no sync covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashPolicy {
    /// Nothing.
    LoseAll,
    /// Everything, except what a failed sync dropped.
    KeepAll,
    /// A subset drawn from the seed: of sectors, of earlier contents of a sector, of names. It differs in
    /// kind too: single sectors, the first ones of each file, or whole files.
    Subset(u64),
}

/// What goes wrong, and when. The n-th call is counted from 1, from the injection on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The n-th call that changes or syncs anything has no effect; it and every later call of any kind fail.
    /// [`FaultyDisk::has_crashed`] tells.
    CrashAtCall(u64),
    /// The n-th read fails with EIO, once.
    ReadError(u64),
    /// The n-th write fails with EIO when half of its sectors are in the cache.
    WriteError(u64),
    /// The n-th sync of a file fails with EIO: what it was to write cannot become durable until it is written
    /// again, and later syncs succeed without it. What happens to be on the medium is up to the crash.
    SyncError {
        /// Which one.
        nth: u64,
        /// Whether the cache forgets too, so that reads see what is on the medium at once.
        forget: bool,
    },
    /// The n-th sync of a directory fails with EIO; a later one does its work.
    SyncDirError(u64),
}

/// See the module.
#[derive(Debug)]
pub struct FaultyDisk {
    state: Mutex<State>,
}

/// An open file of a [`FaultyDisk`].
#[derive(Clone, Debug)]
pub struct FaultyFile {
    inode: u64,
    life: u64,
    /// Keeps the space of a removed file taken.
    _open: Arc<()>,
}

impl Default for FaultyDisk {
    fn default() -> FaultyDisk {
        FaultyDisk::new()
    }
}

impl FaultyDisk {
    /// An empty medium of unlimited size.
    pub fn new() -> FaultyDisk {
        FaultyDisk {
            state: Mutex::new(State::default()),
        }
    }

    /// Limits what all files together may take; a limit below what they do take is a full disk.
    pub fn set_capacity(&self, bytes: u64) {
        self.state().capacity = bytes;
    }

    /// Lets something go wrong.
    pub fn inject(&self, fault: Fault) {
        let state = &mut *self.state();
        let (at, new) = match fault {
            Fault::CrashAtCall(n) => (&mut state.crash_at, state.calls + n),
            Fault::ReadError(n) => (&mut state.read_error_at, state.reads + n),
            Fault::WriteError(n) => (&mut state.write_error_at, state.writes + n),
            Fault::SyncError { nth, forget } => {
                state.forget = forget;
                (&mut state.sync_error_at, state.syncs + nth)
            }
            Fault::SyncDirError(n) => (&mut state.sync_dir_error_at, state.dir_syncs + n),
        };
        *at = Some(new);
    }

    /// Calls so far that changed or synced something, or would have.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Whether [`Fault::CrashAtCall`] has struck.
    pub fn has_crashed(&self) -> bool {
        self.state().crashed
    }

    /// The medium after a power cut at this moment.
    pub fn crash(&self, policy: CrashPolicy) -> FaultyDisk {
        let mut next = self.state().next_life();
        next.cut_power(policy);
        FaultyDisk {
            state: Mutex::new(next),
        }
    }

    /// The medium after the process died at this moment: the page cache lives on, unsynced as it was.
    pub fn kill(&self) -> FaultyDisk {
        FaultyDisk {
            state: Mutex::new(self.state().next_life()),
        }
    }

    /// Inverts a bit in every content that the sector may have; false if there is no such file or byte.
    pub fn flip_bit(&self, name: &str, byte: u64, bit: u8) -> bool {
        let state = &mut *self.state();
        let Some(inode) = state.cached_names.get(name) else {
            return false;
        };
        let Some(file) = state.inodes.get_mut(inode) else {
            return false;
        };
        file.flip_bit(byte, 1 << (bit % 8))
    }

    /// A digest of all that can be read after a restart and of what is not synced, for the recognition of
    /// media that were tried already.
    pub fn fingerprint(&self) -> u64 {
        self.state().fingerprint()
    }

    /// From now on calls are noted for [`take_trace`](FaultyDisk::take_trace).
    pub fn start_trace(&self) {
        self.state().trace = Some(String::new());
    }

    /// The calls noted since, one a line with their numbers.
    pub fn take_trace(&self) -> String {
        self.state()
            .trace
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for FaultyDisk {
    type File = FaultyFile;

    fn open(&self, name: &str) -> io::Result<FaultyFile> {
        let mut state = self.state();
        state.alive()?;
        check_name(name)?;
        let Some(&inode) = state.cached_names.get(name) else {
            return Err(not_found(name));
        };
        state.handle(inode)
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<FaultyFile> {
        let mut state = self.state();
        state.call(|_| format!("create {name} {bytes}"))?;
        check_name(name)?;
        if state.cached_names.contains_key(name) {
            state.change_names(NameChange {
                from: Some(name.to_owned()),
                to: None,
            });
        }
        if bytes > state.free_bytes() {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        let Ok(length) = usize::try_from(bytes) else {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        };
        let inode = state
            .inodes
            .last_key_value()
            .map_or(1, |(last, _)| last + 1);
        state.inodes.insert(inode, Inode::new(length));
        state.change_names(NameChange {
            from: None,
            to: Some((name.to_owned(), inode)),
        });
        state.handle(inode)
    }

    fn len(&self, file: &FaultyFile) -> io::Result<u64> {
        Ok(self.state().inode(file)?.cached.len() as u64)
    }

    fn read_at(&self, file: &FaultyFile, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let mut state = self.state();
        state.reads += 1;
        if state.read_error_at == Some(state.reads) {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let cached = &state.inode(file)?.cached;
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|start| cached.get(start..));
        let Some(bytes) = bytes.and_then(|bytes| bytes.get(..into.len())) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        into.copy_from_slice(bytes);
        Ok(())
    }

    fn write_at(&self, file: &FaultyFile, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let (inode, length) = (file.inode, bytes.len());
        state.call(|state| format!("write {} {offset}+{length}", state.name_of(inode)))?;
        state.writes += 1;
        let fails = state.write_error_at == Some(state.writes);
        let free = state.free_bytes();
        let file = state.inode(file)?;
        let Ok(start) = usize::try_from(offset) else {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        };
        let growth = start
            .saturating_add(length)
            .saturating_sub(file.cached.len());
        if growth as u64 > free {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        let through = if fails {
            length / SECTOR / 2 * SECTOR
        } else {
            length
        };
        file.write(start, bytes.get(..through).unwrap_or(bytes));
        if fails {
            Err(io::Error::from_raw_os_error(EIO))
        } else {
            Ok(())
        }
    }

    fn sync(&self, file: &FaultyFile) -> io::Result<()> {
        let mut state = self.state();
        let inode = file.inode;
        state.call(|state| format!("sync {}", state.name_of(inode)))?;
        state.syncs += 1;
        let fails = state.sync_error_at == Some(state.syncs);
        let forget = state.forget;
        let file = state.inode(file)?;
        if fails {
            file.fail_sync(forget);
            return Err(io::Error::from_raw_os_error(EIO));
        }
        file.sync();
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.call(|_| format!("rename {from} {to}"))?;
        check_name(from)?;
        check_name(to)?;
        check_same_dir(from, to)?;
        let Some(&inode) = state.cached_names.get(from) else {
            return Err(not_found(from));
        };
        let (from, to) = (Some(from.to_owned()), Some((to.to_owned(), inode)));
        state.change_names(NameChange { from, to });
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.call(|_| format!("remove {name}"))?;
        check_name(name)?;
        if !state.cached_names.contains_key(name) {
            return Err(not_found(name));
        }
        state.change_names(NameChange {
            from: Some(name.to_owned()),
            to: None,
        });
        Ok(())
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let state = self.state();
        state.alive()?;
        dir_prefix(dir)?;
        Ok(state
            .cached_names
            .keys()
            .filter(|name| dir_of(name) == dir)
            .cloned()
            .collect())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.state();
        state.call(|_| format!("sync_dir {}", if dir == TOP_DIR { "." } else { dir }))?;
        dir_prefix(dir)?;
        state.dir_syncs += 1;
        if state.sync_dir_error_at == Some(state.dir_syncs) {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let (here, elsewhere) = std::mem::take(&mut state.unsynced_names)
            .into_iter()
            .partition(|change| change.dir() == dir);
        state.unsynced_names = elsewhere;
        let here: Vec<NameChange> = here;
        here.iter()
            .for_each(|change| change.apply(&mut state.durable_names));
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.state();
        state.alive()?;
        Ok(state.free_bytes())
    }
}

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

type Names = BTreeMap<String, u64>;

#[derive(Debug)]
struct State {
    /// Which restart this is; files opened in an earlier one are refused.
    life: u64,
    inodes: BTreeMap<u64, Inode>,
    durable_names: Names,
    cached_names: Names,
    /// What leads from the durable names to the cached ones, in order.
    unsynced_names: Vec<NameChange>,
    capacity: u64,
    crashed: bool,
    calls: u64,
    reads: u64,
    writes: u64,
    syncs: u64,
    dir_syncs: u64,
    crash_at: Option<u64>,
    read_error_at: Option<u64>,
    write_error_at: Option<u64>,
    sync_error_at: Option<u64>,
    forget: bool,
    sync_dir_error_at: Option<u64>,
    trace: Option<String>,
}

impl Default for State {
    fn default() -> State {
        State {
            life: 0,
            inodes: BTreeMap::new(),
            durable_names: Names::new(),
            cached_names: Names::new(),
            unsynced_names: Vec::new(),
            capacity: u64::MAX,
            crashed: false,
            calls: 0,
            reads: 0,
            writes: 0,
            syncs: 0,
            dir_syncs: 0,
            crash_at: None,
            read_error_at: None,
            write_error_at: None,
            sync_error_at: None,
            forget: false,
            sync_dir_error_at: None,
            trace: None,
        }
    }
}

impl State {
    fn alive(&self) -> io::Result<()> {
        if self.crashed {
            return Err(io::Error::other("the machine is off"));
        }
        Ok(())
    }

    /// Every call that changes or syncs something begins here.
    fn call(&mut self, text: impl Fn(&State) -> String) -> io::Result<()> {
        self.alive()?;
        self.calls += 1;
        self.crashed = self.crash_at == Some(self.calls);
        if self.trace.is_some() {
            let end = if self.crashed { " -- power cut" } else { "" };
            let line = format!("{:5} {}{end}\n", self.calls, text(self));
            self.trace.get_or_insert_default().push_str(&line);
        }
        self.alive()
    }

    fn name_of(&self, inode: u64) -> &str {
        let named = self.cached_names.iter().find(|(_, named)| **named == inode);
        named.map_or("(removed)", |(name, _)| name)
    }

    fn inode(&mut self, file: &FaultyFile) -> io::Result<&mut Inode> {
        self.alive()?;
        if file.life != self.life {
            return Err(io::Error::other(
                "a file that was opened before the last restart",
            ));
        }
        self.inodes
            .get_mut(&file.inode)
            .ok_or_else(|| io::Error::other("no such file"))
    }

    fn handle(&mut self, inode: u64) -> io::Result<FaultyFile> {
        let life = self.life;
        let file = self
            .inodes
            .get_mut(&inode)
            .ok_or_else(|| io::Error::other("no such file"))?;
        let open = file.open.upgrade().unwrap_or_default();
        file.open = Arc::downgrade(&open);
        Ok(FaultyFile {
            inode,
            life,
            _open: open,
        })
    }

    fn change_names(&mut self, change: NameChange) {
        change.apply(&mut self.cached_names);
        self.unsynced_names.push(change);
    }

    fn free_bytes(&self) -> u64 {
        let named = |inode: &u64| self.cached_names.values().any(|named| named == inode);
        let taken = self
            .inodes
            .iter()
            .filter(|(inode, file)| file.open.strong_count() > 0 || named(inode));
        self.capacity
            .saturating_sub(taken.map(|(_, file)| file.cached.len() as u64).sum())
    }

    fn next_life(&self) -> State {
        let inodes = self.inodes.iter().map(|(&inode, file)| {
            (
                inode,
                Inode {
                    open: Weak::new(),
                    ..file.clone()
                },
            )
        });
        State {
            life: self.life + 1,
            inodes: inodes.collect(),
            durable_names: self.durable_names.clone(),
            cached_names: self.cached_names.clone(),
            unsynced_names: self.unsynced_names.clone(),
            capacity: self.capacity,
            ..State::default()
        }
    }

    fn cut_power(&mut self, policy: CrashPolicy) {
        let mut draw = match policy {
            CrashPolicy::Subset(seed) => Some(Draw::new(seed)),
            CrashPolicy::LoseAll | CrashPolicy::KeepAll => None,
        };
        let keep_all = policy == CrashPolicy::KeepAll;
        let names_odds = draw
            .as_mut()
            .map_or(0, |draw| draw.one_of(&[0, 64, 128, 192, 256]));
        for change in std::mem::take(&mut self.unsynced_names) {
            if draw
                .as_mut()
                .map_or(keep_all, |draw| draw.chance(names_odds))
            {
                change.apply(&mut self.durable_names);
            }
        }
        self.cached_names = self.durable_names.clone();
        let named = &self.cached_names;
        self.inodes
            .retain(|inode, _| named.values().any(|named| named == inode));
        for file in self.inodes.values_mut() {
            match &mut draw {
                Some(draw) => file.keep_some(draw),
                None => file.keep(
                    |unsynced| if keep_all { unsynced.newest() } else { 0 },
                    keep_all,
                ),
            }
        }
    }

    fn fingerprint(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        self.cached_names.hash(&mut hasher);
        self.durable_names.hash(&mut hasher);
        for (inode, file) in &self.inodes {
            (inode, file.digest, file.cached.len(), file.durable_len).hash(&mut hasher);
            file.unsynced.hash(&mut hasher);
        }
        hasher.finish()
    }
}

/// A creation (`to`), a removal (`from`) or a rename (both), whole or not at all.
#[derive(Clone, Debug)]
struct NameChange {
    from: Option<String>,
    to: Option<(String, u64)>,
}

impl NameChange {
    fn apply(&self, names: &mut Names) {
        if let Some(from) = &self.from {
            names.remove(from);
        }
        if let Some((to, inode)) = &self.to {
            names.insert(to.clone(), *inode);
        }
    }

    fn dir(&self) -> &'static str {
        let to = self.to.as_ref().map(|(to, _)| to);
        self.from
            .as_ref()
            .or(to)
            .map_or(TOP_DIR, |name| dir_of(name))
    }
}

fn not_found(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{name}: no such file"))
}
