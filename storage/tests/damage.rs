//! Media that rot, lie or are full: never a panic, never a message that was not published, never a false `OK`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test"
)]

mod world;

use std::sync::Arc;
use std::time::Duration;

use storage::disk::{CrashPolicy, Disk, Fault, FaultyDisk, SEGMENTS_DIR, TOP_DIR};
use world::model::Model;
use world::script::{live_on, script};
use world::{Draw, Ids, Seen, World, small_options};

fn after_the_script() -> World<FaultyDisk> {
    let disk = Arc::new(FaultyDisk::new());
    let mut world = World::open(
        disk,
        &small_options(),
        &[Model::default()],
        &Ids::default(),
        0,
    )
    .unwrap();
    script(&mut world).unwrap();
    world.publish("clicks", &[5000, 5000, 100]).unwrap();
    world.publish("views", &[100]).unwrap();
    world.settle().unwrap();
    world
}

fn is_as_published(world: &World<FaultyDisk>, seen: &Seen) -> bool {
    let key: Option<u64> = std::str::from_utf8(&seen.body[..16])
        .ok()
        .and_then(|key| key.parse().ok());
    key.and_then(|key| world.sent.get(&key))
        .is_some_and(|sent| sent.body == seen.body)
}

#[test]
fn a_flipped_bit_anywhere_never_makes_up_a_message() {
    let world = after_the_script();
    let mut names = world.disk.list(TOP_DIR).unwrap();
    names.extend(world.disk.list(SEGMENTS_DIR).unwrap());
    let (mut opened, mut refused) = (0, 0);
    for seed in 0..400 {
        let mut draw = Draw(seed);
        let disk = world.disk.kill();
        let mut flips = Vec::new();
        for _ in 0..draw.below(4) + 1 {
            let name = &names[draw.below(names.len())];
            let file = disk.open(name).unwrap();
            let bytes = usize::try_from(disk.len(&file).unwrap()).unwrap();
            // Most of what is written stands at the front.
            let within = if draw.below(2) == 0 {
                bytes.min(4096)
            } else {
                bytes
            };
            let (byte, bit) = (draw.below(within), draw.below(8));
            assert!(disk.flip_bit(name, byte as u64, bit as u8));
            flips.push(format!("{name} {byte}.{bit}"));
        }
        let open = World::open_unchecked(Arc::new(disk), &small_options(), &Ids::default(), seed);
        match open {
            Ok(mut damaged) => {
                opened += 1;
                // Counts may be off by what the damage took; what is delivered may not.
                for seen in damaged.delivered().unwrap_or_default() {
                    assert!(
                        is_as_published(&world, &seen),
                        "seed {seed}, {flips:?}: {seen:?}"
                    );
                }
            }
            Err(text) => {
                refused += 1;
                let identity = flips.iter().any(|flip| flip.starts_with("identity"));
                assert!(identity, "seed {seed}, {flips:?}: {text}");
            }
        }
    }
    println!("{opened} opened, {refused} refused");
    assert!(opened > 200, "{opened}");
}

#[test]
fn a_medium_without_its_ring_or_states_is_never_taken_for_a_fresh_one() {
    let world = after_the_script();
    let due = |world: &mut World<FaultyDisk>| world.delivered().unwrap().len();
    for gone in [
        &["ring"][..],
        &["state-a", "state-b"],
        &["ring", "state-a", "state-b"],
    ] {
        let disk = Arc::new(world.disk.kill());
        for name in gone {
            disk.remove(name).unwrap();
        }
        let open = World::open_unchecked(disk.clone(), &small_options(), &world.ids, 9);
        let Ok(mut lossy) = open else {
            continue;
        };
        for seen in lossy.delivered().unwrap() {
            assert!(is_as_published(&world, &seen), "{gone:?}: {seen:?}");
        }
        println!("{gone:?}: {} left; {:?}", due(&mut lossy), lossy.report);
        // What is there may be used, under ids that were never given before.
        lossy.create_topic("new", true).unwrap();
        lossy.create_channel("new", "all", true).unwrap();
        lossy.publish("new", &[100]).unwrap();
        lossy.settle().unwrap();
        lossy.consume("new", "all", 1).unwrap();
    }
}

#[test]
fn every_failing_write_or_sync_is_an_error_or_is_mended_and_loses_nothing() {
    let calls = {
        let world = after_the_script();
        world.disk.calls()
    };
    for nth in (1..calls / 2).step_by(3) {
        for fault in [
            Fault::WriteError(nth),
            Fault::SyncError { nth, forget: false },
            Fault::SyncError { nth, forget: true },
        ] {
            one_fault(fault);
        }
    }
    for nth in 1..30 {
        one_fault(Fault::SyncDirError(nth));
    }
}

fn one_fault(fault: Fault) {
    let disk = Arc::new(FaultyDisk::new());
    let mut world = World::open(
        disk,
        &small_options(),
        &[Model::default()],
        &Ids::default(),
        0,
    )
    .unwrap();
    world.may_fail = true;
    world.disk.inject(fault);
    let why = |text: String| panic!("{fault:?}: {text}");
    script(&mut world).unwrap_or_else(why);
    world.check().unwrap_or_else(why);
    for policy in [
        CrashPolicy::LoseAll,
        CrashPolicy::KeepAll,
        CrashPolicy::Subset(1),
    ] {
        let disk = Arc::new(world.disk.crash(policy));
        let candidates = world.candidates();
        World::open(disk, &small_options(), &candidates, &world.ids, 1)
            .unwrap_or_else(|text| panic!("{fault:?}, then {policy:?}: {text}"));
    }
}

#[test]
fn a_full_disk_is_told_to_publishers_and_is_over_when_there_is_space() {
    let mut world = after_the_script();
    world.may_fail = true;
    let free = world.disk.free_bytes().unwrap();
    world.disk.set_capacity(u64::MAX - free);
    let mut refused = false;
    for _ in 0..200 {
        world.publish("clicks", &[3000]).unwrap();
        for _ in 0..20 {
            world.run_one().unwrap();
            world.now = world
                .store
                .poll_timeout()
                .map_or(world.now, |at| at.max(world.now));
        }
        refused |= world.failures > 0 || !world.store.has_room(4096);
    }
    assert!(refused, "200 messages of 3000 bytes found room in 64 KiB");
    world.check_without_settling().unwrap();
    // Everything acknowledged so far is there after a power cut, too, while the disk is full.
    let candidates = world.candidates();
    let disk = Arc::new(world.disk.crash(CrashPolicy::LoseAll));
    let mut again = World::open(disk, &small_options(), &candidates, &world.ids, 1).unwrap();
    again.disk.set_capacity(u64::MAX);
    live_on(&mut again).unwrap();
    world.disk.set_capacity(u64::MAX);
    world.now += Duration::from_secs(60);
    live_on(&mut world).unwrap();
}

#[test]
fn a_full_ring_on_a_full_disk_opens_start_after_start_and_works_when_there_is_space() {
    let mut world = after_the_script();
    world.create_channel("views", "slow", true).unwrap();
    world.settle().unwrap();
    let free = world.disk.free_bytes().unwrap();
    world.disk.set_capacity(u64::MAX - free);
    let mut fullest = 0;
    for start in 1..40 {
        world.may_fail = true;
        world.is_full = true;
        // Publishes until they fail, and finishes, which may use what is left.
        for turn in 0..20 {
            world.publish("views", &[1500]).unwrap();
            world.consume("views", "slow", 2).unwrap();
            if turn % 3 == 0 {
                world.finish("views", "slow", 1).unwrap();
            }
            world.now += Duration::from_secs(2);
            for _ in 0..6 {
                world.run_one().unwrap();
            }
        }
        fullest = fullest.max(world.store.counters().ring_used_bytes);
        let policy = match start % 3 {
            0 => CrashPolicy::LoseAll,
            1 => CrashPolicy::KeepAll,
            _ => CrashPolicy::Subset(start),
        };
        let (candidates, ids) = (world.candidates(), world.ids.clone());
        let disk = Arc::new(world.disk.crash(policy));
        world = World::open(disk, &small_options(), &candidates, &ids, start)
            .unwrap_or_else(|text| panic!("start {start}: {text}"));
        assert!(!world.report.has_damage(), "{:?}", world.report);
    }
    assert!(fullest > small_options().ring_bytes / 4 * 3, "{fullest}");
    world.disk.set_capacity(u64::MAX);
    world.may_fail = false;
    world.is_full = false;
    live_on(&mut world).unwrap();
}
