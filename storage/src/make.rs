//! The store's files: made, opened, replaced.

use std::io;

use crate::block::{HEADER_BYTES, Header, Place};
use crate::chain::{self, Chain};
use crate::checkpoint::SPARE_NAME;
use crate::disk::{Disk, SEGMENTS_DIR, TOP_DIR};
use crate::identity::{self, Identity};
use crate::ids::BlockNo;
use crate::limits::PAGE_BYTES;
use crate::options::Options;
use crate::recovery::{OpenError, RING_NAME, doing};
use crate::state::{self, Image};

pub(crate) fn read_identity<D: Disk>(disk: &D) -> Result<Option<Identity>, OpenError> {
    let file = match disk.open(identity::FILE_NAME) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(doing("open the identity")(error)),
    };
    let mut bytes = [0; identity::BYTES];
    match disk.read_at(&file, 0, &mut bytes) {
        Ok(()) => Ok(Identity::decode(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(doing("read the identity")(error)),
    }
}

/// True if a ring is there that was ever written to: its first page is not zero, or it is not a whole ring.
pub(crate) fn has_ring_blocks<D: Disk>(disk: &D) -> Result<bool, OpenError> {
    let Ok(file) = disk.open(RING_NAME) else {
        return Ok(false);
    };
    let states = state::FILE_NAMES.iter().any(|name| {
        let mut page = [0; state::HEADER_BYTES];
        let read = disk
            .open(name)
            .and_then(|file| disk.read_at(&file, 0, &mut page));
        read.is_ok() && page.iter().any(|byte| *byte != 0)
    });
    let segments = disk.list(SEGMENTS_DIR).map_err(doing("list segments"))?;
    let bytes = disk.len(&file).map_err(doing("read the ring"))?;
    let mut page = vec![0; PAGE_BYTES as usize];
    let mut blocks = 0;
    let mut at = 0;
    while at + PAGE_BYTES <= bytes {
        disk.read_at(&file, at, &mut page)
            .map_err(doing("read the ring"))?;
        blocks += u64::from(page.iter().any(|byte| *byte != 0));
        at += PAGE_BYTES;
    }
    // A store whose making was interrupted has at most its first, empty block, and nothing else.
    Ok(states || blocks > 1 || segments.iter().any(|name| name != SPARE_NAME))
}

/// Makes a store: ring with its first block, state files, directory, and the identity last.
pub(crate) fn create<D: Disk>(disk: &D, options: &Options, seed: u64) -> io::Result<Identity> {
    let store_id = mix(seed);
    let identity = Identity {
        store_id,
        ring_id: mix(store_id),
        ring_bytes: options.ring_bytes,
        is_salvaged: false,
    };
    make_ring(disk, RING_NAME, &identity, 0, BlockNo(1))?;
    for name in state::FILE_NAMES {
        let file = disk.create(name, options.state_bytes())?;
        write_zeros(disk, &file, 0, options.state_bytes())?;
        disk.sync(&file)?;
    }
    disk.sync_dir(TOP_DIR)?;
    write_identity(disk, &identity, None)?;
    Ok(identity)
}

/// Makes a ring with one empty block. Zeros are written, not only reserved: a page that was never written costs
/// metadata at its first sync.
pub(crate) fn make_ring<D: Disk>(
    disk: &D,
    name: &str,
    identity: &Identity,
    epoch: u32,
    number: BlockNo,
) -> io::Result<(D::File, Header)> {
    let file = disk.create(name, identity.ring_bytes)?;
    write_zeros(disk, &file, 0, identity.ring_bytes)?;
    let place = Place { number, offset: 0 };
    let mut header = Header {
        place,
        epoch,
        payload_bytes: 0,
        payload_crc: 0,
        previous: Place::default(),
        previous_crc: 0,
        live_from: place,
        synced_through: BlockNo(0),
        crc: 0,
    };
    let mut block = vec![0; HEADER_BYTES];
    header.seal(&mut block, identity.ring_id);
    disk.write_at(&file, 0, &block)?;
    disk.sync(&file)?;
    Ok((file, header))
}

/// Puts an identity in place, and a ring that is to go with it.
pub(crate) fn write_identity<D: Disk>(
    disk: &D,
    identity: &Identity,
    new_ring: Option<&str>,
) -> io::Result<()> {
    let file = disk.create(identity::NEW_FILE_NAME, identity::BYTES as u64)?;
    disk.write_at(&file, 0, &identity.encode())?;
    disk.sync(&file)?;
    if let Some(new_ring) = new_ring {
        disk.rename(new_ring, RING_NAME)?;
    }
    disk.rename(identity::NEW_FILE_NAME, identity::FILE_NAME)?;
    disk.sync_dir(TOP_DIR)
}

/// Renames a damaged file to the first free `NAME.lost-N`; one that is not there is no error.
pub(crate) fn keep_aside<D: Disk>(disk: &D, name: &str) -> io::Result<()> {
    let names = disk.list(TOP_DIR)?;
    if !names.iter().any(|known| known == name) {
        return Ok(());
    }
    let free = (1..u32::MAX)
        .map(|n| format!("{name}.lost-{n}"))
        .find(|n| !names.contains(n));
    disk.rename(name, &free.unwrap_or_else(|| format!("{name}.lost")))
}

pub(crate) fn read_ring<D: Disk>(
    disk: &D,
    identity: &Identity,
    state_live_from: Option<Place>,
) -> io::Result<Option<(D::File, Chain)>> {
    let file = match disk.open(RING_NAME) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if disk.len(&file)? < identity.ring_bytes {
        return Ok(None);
    }
    let (bytes, ring_id) = (identity.ring_bytes, identity.ring_id);
    let chain = chain::read(disk, &file, bytes, ring_id, state_live_from)?;
    Ok(chain.map(|chain| (file, chain)))
}

/// The two state files.
pub(crate) struct States<F> {
    pub(crate) files: [F; 2],
}

/// Opens the state files, makes one that is missing and lengthens those that larger limits have outgrown.
pub(crate) fn open_states<D: Disk>(disk: &D, options: &Options) -> io::Result<States<D::File>> {
    let wanted = options.state_bytes();
    let open = |name: &str| {
        let file = match disk.open(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create(name, wanted),
            opened => opened,
        }?;
        let len = disk.len(&file)?;
        write_zeros(disk, &file, len, wanted)?;
        Ok::<_, io::Error>(file)
    };
    let [even, odd] = state::FILE_NAMES;
    let files = [open(even)?, open(odd)?];
    Ok(States { files })
}

impl<F> States<F> {
    /// The newest whole state.
    pub(crate) fn newest<D: Disk<File = F>>(
        &self,
        disk: &D,
        store_id: u64,
    ) -> io::Result<Option<(state::Header, Image)>> {
        let mut newest: Option<(state::Header, Image)> = None;
        for file in &self.files {
            let mut head = [0; state::HEADER_BYTES];
            disk.read_at(file, 0, &mut head)?;
            let room = disk.len(file)?.saturating_sub(state::HEADER_BYTES as u64);
            let header = state::Header::decode(&head, store_id)
                .filter(|header| u64::from(header.payload_bytes) <= room);
            let Some(header) = header else { continue };
            let mut payload = vec![0; header.payload_bytes as usize];
            disk.read_at(file, state::HEADER_BYTES as u64, &mut payload)?;
            let Some(image) = header.image(&payload, store_id) else {
                continue;
            };
            if newest
                .as_ref()
                .is_none_or(|(other, _)| other.generation < header.generation)
            {
                newest = Some((header, image));
            }
        }
        Ok(newest)
    }
}

fn write_zeros<D: Disk>(disk: &D, file: &D::File, from: u64, to: u64) -> io::Result<()> {
    const CHUNK_BYTES: u64 = 64 * 1024;
    let zeros = vec![0; CHUNK_BYTES as usize];
    let mut at = from;
    while at < to {
        let len = CHUNK_BYTES.min(to - at) as usize;
        disk.write_at(file, at, zeros.get(..len).unwrap_or_default())?;
        at += len as u64;
    }
    Ok(())
}

/// SplitMix64's finalizer (Steele, Lea, Flood 2014): spreads a seed over all bits.
pub(crate) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
