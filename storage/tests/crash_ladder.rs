//! One scripted run, crashed at every call on the medium, and again at every call of each recovery.
//!
//! `LADDER_SUBSETS=n` tries more subsets of what was not synced; `LADDER_CALL=n` crashes at one call only,
//! which with the rest of a failure's label replays it alone.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test"
)]

mod world;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;

use storage::Options;
use storage::disk::{CrashPolicy, Disk, FaultyDisk, LinuxDisk};
use world::model::Model;
use world::recorder::Recorder;
use world::script::{live_on, script};
use world::{Ids, World, small_options};

/// How a run ends.
#[derive(Clone, Copy, Debug)]
enum Ending {
    PowerCut(CrashPolicy),
    Kill,
}

impl Ending {
    fn of(self, medium: &FaultyDisk) -> FaultyDisk {
        match self {
            Ending::PowerCut(policy) => medium.crash(policy),
            Ending::Kill => medium.kill(),
        }
    }

    fn all(subsets: std::ops::Range<u64>) -> impl Iterator<Item = Ending> {
        let plain = [CrashPolicy::LoseAll, CrashPolicy::KeepAll].into_iter();
        let policies = plain.chain(subsets.map(CrashPolicy::Subset));
        policies.map(Ending::PowerCut).chain([Ending::Kill])
    }
}

struct Ladder {
    options: Options,
    subsets: u64,
    only: Option<u64>,
    tried: RefCell<HashSet<(u64, u64)>>,
    recoveries: Cell<u64>,
    firsts: Cell<u64>,
    lives: Cell<u64>,
}

impl Ladder {
    fn new(options: Options) -> Ladder {
        let number = |name| {
            std::env::var(name)
                .ok()
                .and_then(|text: String| text.parse().ok())
        };
        Ladder {
            options,
            subsets: number("LADDER_SUBSETS").unwrap_or(2),
            only: number("LADDER_CALL"),
            tried: RefCell::default(),
            recoveries: Cell::default(),
            firsts: Cell::default(),
            lives: Cell::default(),
        }
    }

    /// Crashes at each call since the last time.
    fn crash_all(&self, disk: &Recorder, version: u64, candidates: &[Model], ids: &Ids) {
        for (call, medium) in disk.take_moments() {
            if self.only.is_some_and(|only| only != call) {
                continue;
            }
            for ending in Ending::all(call * 100..call * 100 + self.subsets) {
                let label = format!("call {call}, {ending:?}");
                self.recover(ending.of(&medium), version, candidates, ids, &label);
            }
        }
    }

    /// False if this medium was recovered before with the same to be found on it.
    fn is_new(&self, version: u64, medium: &FaultyDisk) -> bool {
        self.tried
            .borrow_mut()
            .insert((version, medium.fingerprint()))
    }

    fn recover(&self, medium: FaultyDisk, version: u64, from: &[Model], ids: &Ids, label: &str) {
        if !self.is_new(version, &medium) {
            return;
        }
        let disk = Arc::new(Recorder::new(medium));
        let mut world = self.open(disk.clone(), from, ids, label);
        let found = [world.base.clone()];
        let mut moments = disk.take_moments();
        // What recovery has shown to anybody is there to stay.
        let (_, after) = moments.pop().unwrap();
        self.open(
            Arc::new(after.crash(CrashPolicy::LoseAll)),
            &found,
            ids,
            &format!("{label}, after it"),
        );
        for (call, medium) in moments.into_iter().skip(1) {
            for ending in Ending::all(call..call + 1) {
                let label = format!("{label}, then recovery's call {call}, {ending:?}");
                let medium = ending.of(&medium);
                if self.is_new(version, &medium) {
                    self.open(Arc::new(medium), from, ids, &label);
                }
            }
        }
        self.firsts.set(self.firsts.get() + 1);
        if self.firsts.get() % 8 == 1 {
            self.lives.set(self.lives.get() + 1);
            live_on(&mut world).unwrap_or_else(|text| panic!("{label}, living on: {text}"));
            let medium = disk.inner.crash(CrashPolicy::LoseAll);
            let label = format!("{label}, after living on");
            self.open(Arc::new(medium), &[world.base.clone()], &world.ids, &label);
        }
    }

    fn open<D: Disk>(
        &self,
        disk: Arc<D>,
        candidates: &[Model],
        ids: &Ids,
        label: &str,
    ) -> World<D> {
        self.recoveries.set(self.recoveries.get() + 1);
        let world = World::open(disk, &self.options, candidates, ids, self.recoveries.get())
            .unwrap_or_else(|text| panic!("{label}: {text}"));
        // A power cut is no damage, and is not to be taken for it: that would cost clean-up and trust.
        let missed = world.store.counters().damaged_records;
        assert!(
            !world.report.has_damage() && missed == 0,
            "{label}: {:?}, {missed} records missed",
            world.report
        );
        world
    }
}

#[test]
fn nothing_acknowledged_is_lost_wherever_the_power_fails_even_twice() {
    let ladder = Rc::new(Ladder::new(small_options()));
    let disk = Arc::new(Recorder::new(FaultyDisk::new()));
    let nothing = [Model::default()];
    let mut world = ladder.open(disk.clone(), &nothing, &Ids::default(), "the first start");
    ladder.crash_all(&disk, 0, &nothing, &Ids::default());
    world.hook = Some(Rc::new({
        let ladder = ladder.clone();
        move |world: &World<Recorder>| {
            ladder.crash_all(&world.disk, world.version, &world.candidates(), &world.ids);
        }
    }));
    script(&mut world).unwrap();
    world.check().unwrap();
    println!(
        "{} calls, {} crashes, {} recoveries, {} stores lived on",
        disk.inner.calls(),
        ladder.firsts.get(),
        ladder.recoveries.get(),
        ladder.lives.get()
    );
}

#[test]
fn the_script_goes_round_the_ring_and_through_segments() {
    let disk = Arc::new(FaultyDisk::new());
    disk.start_trace();
    let mut world = World::open(
        disk.clone(),
        &small_options(),
        &[Model::default()],
        &Ids::default(),
        0,
    )
    .unwrap();
    script(&mut world).unwrap();
    let trace = disk.take_trace();
    let count = |what: &str| trace.lines().filter(|line| line.contains(what)).count();
    let ring_bytes: u64 = trace
        .lines()
        .filter_map(|line| line.split_once("write ring "))
        .map(|(_, at)| at.split_once('+').unwrap().1.parse::<u64>().unwrap())
        .sum();
    assert!(
        ring_bytes > 4 * small_options().ring_bytes,
        "{ring_bytes}\n{trace}"
    );
    assert!(count("write state-") > 3, "{trace}");
    assert!(count("write segments/") > 3, "{trace}");
    assert!(
        count("remove segments/") + count("rename segments/") > 2,
        "{trace}"
    );
}

#[test]
fn a_real_directory_holds_the_same_over_clean_restarts() {
    let temp = tempfile::tempdir().unwrap();
    let open = |candidates: &[Model], ids: &Ids, seed| {
        let disk = Arc::new(LinuxDisk::open(temp.path()).unwrap());
        World::open(disk, &small_options(), candidates, ids, seed).unwrap()
    };
    let mut world = open(&[Model::default()], &Ids::default(), 0);
    script(&mut world).unwrap();
    for seed in 1..4 {
        let (candidates, ids) = (world.candidates(), world.ids.clone());
        drop(world);
        world = open(&candidates, &ids, seed);
        live_on(&mut world).unwrap();
    }
}
