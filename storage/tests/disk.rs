//! What the simulated medium keeps and loses, rule by rule, and that it otherwise does what Linux does.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use std::io::ErrorKind;

use storage::disk::{
    CrashPolicy, Disk, Fault, FaultyDisk, FaultyFile, LinuxDisk, SEGMENTS_DIR, TOP_DIR,
};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// A file of `sectors` zeros, durable with its name.
fn synced_file(disk: &FaultyDisk, name: &str, sectors: usize) -> FaultyFile {
    let file = disk.create(name, sectors as u64 * 512).unwrap();
    disk.sync(&file).unwrap();
    disk.sync_dir(if name.starts_with(SEGMENTS_DIR) {
        SEGMENTS_DIR
    } else {
        TOP_DIR
    })
    .unwrap();
    file
}

fn contents<D: Disk>(disk: &D, name: &str) -> Vec<u8> {
    let file = disk.open(name).unwrap();
    let mut bytes = vec![0; usize::try_from(disk.len(&file).unwrap()).unwrap()];
    disk.read_at(&file, 0, &mut bytes).unwrap();
    bytes
}

/// The first byte of each sector.
fn sectors(disk: &FaultyDisk, name: &str) -> Vec<u8> {
    contents(disk, name)
        .chunks(512)
        .map(|sector| sector[0])
        .collect()
}

fn all_policies(subsets: u64) -> impl Iterator<Item = CrashPolicy> {
    [CrashPolicy::LoseAll, CrashPolicy::KeepAll]
        .into_iter()
        .chain((0..subsets).map(CrashPolicy::Subset))
}

#[test]
fn what_a_sync_covered_survives_every_crash() {
    let disk = FaultyDisk::new();
    let file = synced_file(&disk, "ring", 4);
    disk.write_at(&file, 0, &[7; 2048]).unwrap();
    disk.sync(&file).unwrap();
    for policy in all_policies(50) {
        assert_eq!(
            contents(&disk.crash(policy), "ring"),
            [7; 2048],
            "{policy:?}"
        );
    }
}

#[test]
fn unsynced_sectors_are_lost_or_kept_as_the_policy_says() {
    let disk = FaultyDisk::new();
    let file = synced_file(&disk, "ring", 4);
    disk.write_at(&file, 0, &[7; 2048]).unwrap();
    assert_eq!(sectors(&disk.crash(CrashPolicy::LoseAll), "ring"), [0; 4]);
    assert_eq!(sectors(&disk.crash(CrashPolicy::KeepAll), "ring"), [7; 4]);
    assert_eq!(sectors(&disk.kill(), "ring"), [7; 4]);
    let mut seen: Vec<_> = (0..200)
        .map(|seed| sectors(&disk.crash(CrashPolicy::Subset(seed)), "ring"))
        .collect();
    seen.sort();
    seen.dedup();
    assert_eq!(
        seen.len(),
        16,
        "each of the sixteen outcomes turns up: {seen:?}"
    );
}

#[test]
fn the_same_seed_leaves_the_same_medium() {
    let disk = FaultyDisk::new();
    let file = synced_file(&disk, "ring", 16);
    disk.write_at(&file, 0, &[7; 16 * 512]).unwrap();
    disk.create("segments/a", 512).unwrap();
    for seed in 0..50 {
        let crash = || disk.crash(CrashPolicy::Subset(seed)).fingerprint();
        assert_eq!(crash(), crash());
    }
}

#[test]
fn a_sector_is_never_torn_and_may_keep_a_content_that_was_overwritten_in_the_cache() {
    let disk = FaultyDisk::new();
    let file = synced_file(&disk, "ring", 1);
    disk.write_at(&file, 0, &[1; 512]).unwrap();
    disk.write_at(&file, 0, &[2; 512]).unwrap();
    let mut seen = [false; 3];
    for seed in 0..300 {
        let bytes = contents(&disk.crash(CrashPolicy::Subset(seed)), "ring");
        assert!(bytes.iter().all(|byte| *byte == bytes[0]));
        seen[usize::from(bytes[0])] = true;
    }
    assert_eq!(seen, [true; 3]);
}

#[test]
fn a_crash_leaves_the_disk_itself_as_it_was() {
    let disk = FaultyDisk::new();
    let file = synced_file(&disk, "ring", 1);
    let lost = disk.crash(CrashPolicy::LoseAll);
    disk.write_at(&file, 0, &[3; 512]).unwrap();
    assert_eq!(sectors(&lost, "ring"), [0]);
    let kept = disk.crash(CrashPolicy::KeepAll);
    kept.write_at(&kept.open("ring").unwrap(), 0, &[4; 512])
        .unwrap();
    assert_eq!(sectors(&disk, "ring"), [3]);
}

#[test]
fn after_a_kill_the_page_cache_is_there_and_still_unsynced() {
    let disk = FaultyDisk::new();
    let file = synced_file(&disk, "ring", 1);
    disk.write_at(&file, 0, &[3; 512]).unwrap();
    disk.create("segments/a", 512).unwrap();
    let killed = disk.kill();
    assert_eq!(sectors(&killed, "ring"), [3]);
    assert_eq!(killed.list(SEGMENTS_DIR).unwrap(), ["segments/a"]);
    assert!(
        killed.sync(&file).is_err(),
        "the old process's files are closed"
    );
    let lost = killed.crash(CrashPolicy::LoseAll);
    assert_eq!(sectors(&lost, "ring"), [0]);
    assert_eq!(lost.list(SEGMENTS_DIR).unwrap(), [""; 0]);
    killed.sync(&killed.open("ring").unwrap()).unwrap();
    assert_eq!(sectors(&killed.crash(CrashPolicy::LoseAll), "ring"), [3]);
}

#[test]
fn names_wait_for_the_sync_of_their_own_directory() {
    let disk = FaultyDisk::new();
    synced_file(&disk, "segments/old", 1);
    synced_file(&disk, "segments/gone", 1);
    disk.create("new", 512).unwrap();
    disk.rename("segments/old", "segments/renamed").unwrap();
    disk.remove("segments/gone").unwrap();
    disk.sync_dir(TOP_DIR).unwrap();
    let lost = disk.crash(CrashPolicy::LoseAll);
    assert_eq!(lost.list(TOP_DIR).unwrap(), ["new"]);
    assert_eq!(
        lost.list(SEGMENTS_DIR).unwrap(),
        ["segments/gone", "segments/old"]
    );
    let kept = disk.crash(CrashPolicy::KeepAll);
    assert_eq!(kept.list(SEGMENTS_DIR).unwrap(), ["segments/renamed"]);
    let mut seen: Vec<_> = (0..100)
        .map(|seed| {
            disk.crash(CrashPolicy::Subset(seed))
                .list(SEGMENTS_DIR)
                .unwrap()
        })
        .collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 4, "a rename is whole or not at all: {seen:?}");
    disk.sync_dir(SEGMENTS_DIR).unwrap();
    let lost = disk.crash(CrashPolicy::LoseAll);
    assert_eq!(lost.list(SEGMENTS_DIR).unwrap(), ["segments/renamed"]);
}

#[test]
fn a_new_files_length_waits_for_its_own_sync() {
    let disk = FaultyDisk::new();
    let file = disk.create("segments/a", 1024).unwrap();
    disk.sync_dir(SEGMENTS_DIR).unwrap();
    assert_eq!(
        contents(&disk.crash(CrashPolicy::LoseAll), "segments/a"),
        []
    );
    assert_eq!(
        contents(&disk.crash(CrashPolicy::KeepAll), "segments/a"),
        [0; 1024]
    );
    disk.sync(&file).unwrap();
    assert_eq!(
        contents(&disk.crash(CrashPolicy::LoseAll), "segments/a"),
        [0; 1024]
    );
}

#[test]
fn from_the_crashing_call_on_nothing_has_an_effect() {
    let disk = FaultyDisk::new();
    let file = synced_file(&disk, "ring", 1);
    disk.inject(Fault::CrashAtCall(2));
    disk.write_at(&file, 0, &[1; 512]).unwrap();
    assert!(!disk.has_crashed());
    disk.sync(&file).unwrap_err();
    assert!(disk.has_crashed());
    disk.write_at(&file, 0, &[2; 512]).unwrap_err();
    disk.read_at(&file, 0, &mut [0]).unwrap_err();
    disk.list(TOP_DIR).unwrap_err();
    disk.open("ring").unwrap_err();
    assert_eq!(sectors(&disk.crash(CrashPolicy::KeepAll), "ring"), [1]);
    assert_eq!(sectors(&disk.crash(CrashPolicy::LoseAll), "ring"), [0]);
}

#[test]
fn a_full_disk_refuses_new_files_and_growth_but_not_writes_to_reserved_space() {
    let disk = FaultyDisk::new();
    disk.set_capacity(2048);
    let file = disk.create("ring", 1024).unwrap();
    assert_eq!(disk.free_bytes().unwrap(), 1024);
    let full = |error: std::io::Error| assert_eq!(error.raw_os_error(), Some(ENOSPC));
    full(disk.create("segments/a", 1025).unwrap_err());
    assert_eq!(disk.list(SEGMENTS_DIR).unwrap(), [""; 0]);
    disk.create("segments/b", 1024).unwrap();
    disk.write_at(&file, 0, &[1; 1024]).unwrap();
    full(disk.write_at(&file, 1024, &[1]).unwrap_err());
}

#[test]
fn a_removed_file_gives_its_space_back_when_it_is_closed() {
    let disk = FaultyDisk::new();
    disk.set_capacity(1024);
    let file = disk.create("segments/a", 1024).unwrap();
    let clone = file.clone();
    disk.remove("segments/a").unwrap();
    disk.read_at(&file, 0, &mut [0; 1024]).unwrap();
    drop(file);
    assert_eq!(disk.free_bytes().unwrap(), 0);
    drop(clone);
    assert_eq!(disk.free_bytes().unwrap(), 1024);
}

#[test]
fn a_failed_read_succeeds_the_next_time() {
    let disk = FaultyDisk::new();
    let file = synced_file(&disk, "ring", 1);
    disk.inject(Fault::ReadError(2));
    disk.read_at(&file, 0, &mut [0]).unwrap();
    assert_eq!(
        disk.read_at(&file, 0, &mut [0]).unwrap_err().raw_os_error(),
        Some(EIO)
    );
    disk.read_at(&file, 0, &mut [0]).unwrap();
}

#[test]
fn a_failed_write_may_have_left_its_beginning() {
    let disk = FaultyDisk::new();
    let file = synced_file(&disk, "ring", 4);
    disk.inject(Fault::WriteError(1));
    let error = disk.write_at(&file, 0, &[1; 2048]).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(EIO));
    assert_eq!(sectors(&disk, "ring"), [1, 1, 0, 0]);
    disk.write_at(&file, 0, &[2; 2048]).unwrap();
}

#[test]
fn the_sync_after_a_failed_one_lies() {
    for forget in [false, true] {
        let disk = FaultyDisk::new();
        let file = synced_file(&disk, "ring", 2);
        let other = synced_file(&disk, "state-a", 1);
        disk.inject(Fault::SyncError { nth: 2, forget });
        disk.sync(&other).unwrap();
        disk.write_at(&file, 0, &[1; 1024]).unwrap();
        disk.sync(&file).unwrap_err();
        disk.sync(&file).unwrap();
        assert_eq!(sectors(&disk, "ring"), if forget { [0, 0] } else { [1, 1] });
        assert_eq!(sectors(&disk.crash(CrashPolicy::LoseAll), "ring"), [0, 0]);
        assert_eq!(sectors(&disk.crash(CrashPolicy::KeepAll), "ring"), [0, 0]);
        let partly = |seed| sectors(&disk.crash(CrashPolicy::Subset(seed)), "ring") == [0, 1];
        assert!(
            (0..100).any(partly),
            "the failed sync may have written some of it"
        );
        disk.write_at(&file, 0, &[2; 512]).unwrap();
        disk.sync(&file).unwrap();
        assert_eq!(sectors(&disk.crash(CrashPolicy::LoseAll), "ring"), [2, 0]);
    }
}

#[test]
fn a_failed_sync_of_a_directory_may_be_tried_again() {
    let disk = FaultyDisk::new();
    disk.inject(Fault::SyncDirError(1));
    let file = disk.create("ring", 512).unwrap();
    disk.sync(&file).unwrap();
    disk.sync_dir(TOP_DIR).unwrap_err();
    assert_eq!(
        disk.crash(CrashPolicy::LoseAll).list(TOP_DIR).unwrap(),
        [""; 0]
    );
    disk.sync_dir(TOP_DIR).unwrap();
    assert_eq!(
        disk.crash(CrashPolicy::LoseAll).list(TOP_DIR).unwrap(),
        ["ring"]
    );
}

#[test]
fn a_flipped_bit_is_there_whatever_survives() {
    let disk = FaultyDisk::new();
    let file = synced_file(&disk, "ring", 2);
    disk.write_at(&file, 512, &[1; 512]).unwrap();
    assert!(disk.flip_bit("ring", 513, 7));
    assert!(!disk.flip_bit("ring", 1024, 0) && !disk.flip_bit("absent", 0, 0));
    assert_eq!(
        contents(&disk.crash(CrashPolicy::LoseAll), "ring")[513],
        0x80
    );
    assert_eq!(
        contents(&disk.crash(CrashPolicy::KeepAll), "ring")[513],
        0x81
    );
    assert_eq!(contents(&disk, "ring")[513], 0x81);
}

#[test]
fn the_trace_numbers_the_calls_that_count() {
    let disk = FaultyDisk::new();
    disk.start_trace();
    let file = disk.create("ring", 512).unwrap();
    disk.read_at(&file, 0, &mut [0; 8]).unwrap();
    disk.write_at(&file, 4, b"abc").unwrap();
    disk.inject(Fault::CrashAtCall(1));
    disk.sync(&file).unwrap_err();
    let trace = disk.take_trace();
    let lines: Vec<_> = trace.lines().map(str::trim).collect();
    assert_eq!(
        lines,
        [
            "1 create ring 512",
            "2 write ring 4+3",
            "3 sync ring -- power cut"
        ]
    );
    assert_eq!(disk.calls(), 3);
}

/// A script of every call, with what each gave, in words.
fn script<D: Disk>(disk: &D) -> Vec<String> {
    fn kind<T: std::fmt::Debug>(result: std::io::Result<T>) -> String {
        match result {
            Ok(value) => format!("{value:?}"),
            Err(error) => format!("{:?}", error.kind()),
        }
    }
    let mut log = Vec::new();
    let read = |file: &D::File, offset, length| {
        let mut bytes = vec![9; length];
        kind(disk.read_at(file, offset, &mut bytes).map(|()| bytes))
    };
    log.push(kind(disk.open("ring").map(|_| ())));
    let ring = disk.create("ring", 1000).unwrap();
    log.push(kind(disk.len(&ring)));
    log.push(read(&ring, 990, 10));
    log.push(read(&ring, 991, 10));
    log.push(kind(disk.write_at(&ring, 600, b"hello")));
    log.push(read(&ring, 598, 9));
    log.push(kind(disk.write_at(&ring, 998, b"grow")));
    log.push(kind(disk.len(&ring)));
    log.push(kind(disk.sync(&ring)));
    let replaced = disk.create("ring", 5).unwrap();
    log.push(kind(disk.len(&ring)) + &read(&ring, 600, 5));
    log.push(kind(disk.len(&replaced)) + &read(&replaced, 0, 5));
    for name in ["segments/b", "segments/a", "segments/c"] {
        let file = disk.create(name, 4).unwrap();
        disk.write_at(&file, 0, name.as_bytes().get(9..10).unwrap())
            .unwrap();
    }
    log.push(kind(disk.list(TOP_DIR)));
    log.push(kind(disk.list(SEGMENTS_DIR)));
    log.push(kind(disk.list("elsewhere")));
    log.push(kind(disk.rename("segments/a", "segments/c")));
    log.push(kind(disk.rename("segments/a", "segments/c")));
    log.push(kind(disk.rename("segments/b", "b")));
    log.push(read(&disk.open("segments/c").unwrap(), 0, 4));
    let open = disk.open("segments/b").unwrap();
    log.push(kind(disk.remove("segments/b")));
    log.push(kind(disk.remove("segments/b")));
    log.push(read(&open, 0, 1));
    log.push(kind(disk.list(SEGMENTS_DIR)));
    log.push(kind(disk.sync_dir(SEGMENTS_DIR)) + &kind(disk.sync_dir(TOP_DIR)));
    log.push(kind(disk.sync_dir("ring")));
    for name in ["../x", "", "segments/", "segments/a/b", "x/y", "nul\0"] {
        log.push(kind(disk.create(name, 1).map(|_| ())));
        log.push(kind(disk.open(name).map(|_| ())));
    }
    log
}

#[test]
fn the_simulated_medium_does_what_linux_does() {
    let temp = tempfile::tempdir().unwrap();
    let linux = script(&LinuxDisk::open(temp.path()).unwrap());
    let faulty = script(&FaultyDisk::new());
    assert_eq!(linux, faulty);
    assert!(linux.contains(&format!("{:?}", ErrorKind::UnexpectedEof)));
}
