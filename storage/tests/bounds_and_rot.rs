//! What a store keeps in memory while its consumers are faster than its commits, and how little it loses when a
//! segment rots.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test"
)]

use std::sync::Arc;
use std::time::Duration;

use storage::disk::{CrashPolicy, Disk, Fault, FaultyDisk, SEGMENTS_DIR};
use storage::{ChannelNo, Cursor, Options, Seq, Stamp, Store, TopicNo, run_job};

fn options() -> Options {
    Options {
        ring_bytes: 256 * 1024,
        segment_bytes: 1 << 20,
        message_bytes_max: 64 * 1024,
        batch_bytes_max: 512 * 1024,
        ..Options::default()
    }
}

fn open(disk: &Arc<FaultyDisk>, options: &Options) -> Store<FaultyDisk> {
    Store::open(disk.clone(), options.clone(), 1, Stamp::default())
        .unwrap()
        .0
}

/// Runs all jobs that are due at `now`; how many they were.
fn drive(disk: &FaultyDisk, store: &mut Store<FaultyDisk>, now: Duration) -> u32 {
    let mut jobs = 0;
    while let Some(job) = store.poll_job(now) {
        let done = run_job(disk, job);
        if let Some(outcome) = store.handle_done(now, done) {
            outcome.result.unwrap();
        }
        jobs += 1;
    }
    jobs
}

fn settle(disk: &FaultyDisk, store: &mut Store<FaultyDisk>) {
    store.flush();
    drive(disk, store, Duration::from_secs(3600));
    assert!(store.is_idle());
}

fn topic_with_channel(store: &mut Store<FaultyDisk>) -> (TopicNo, ChannelNo) {
    let (topic, _) = store.create_topic("clicks", true).unwrap();
    let (channel, _) = store.create_channel(topic, "uplink", true).unwrap();
    (topic, channel)
}

fn publish(store: &mut Store<FaultyDisk>, topic: TopicNo, bodies: &[Vec<u8>]) {
    let bodies = bodies.iter().map(Vec::as_slice);
    store
        .publish(topic, bodies, Duration::ZERO, Stamp::default())
        .unwrap();
}

/// Bodies that no compressor makes smaller.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..bytes).map(next).collect()
}

#[test]
fn finishes_in_any_order_are_said_within_two_seconds_however_many_they_are() {
    let disk = Arc::new(FaultyDisk::new());
    let mut store = open(&disk, &options());
    let (topic, channel) = topic_with_channel(&mut store);
    for _ in 0..4 {
        publish(&mut store, topic, &vec![vec![7; 4]; 5000]);
        settle(&disk, &mut store);
    }
    let mut now = Duration::from_secs(4000);
    let mut store = open(&disk, &options());
    // Three consumers share the channel, and each finishes what it has in its own time.
    for start in [1, 0, 2] {
        for seq in (start..20_000u64).step_by(3) {
            store.finish(channel, Seq(seq));
        }
    }
    for _ in 0..20 {
        now += Duration::from_millis(100);
        drive(&disk, &mut store, now);
    }
    let disk = Arc::new(disk.crash(CrashPolicy::LoseAll));
    let store = open(&disk, &options());
    assert_eq!(store.channel_info(channel).unwrap().unfinished, 0);
}

const MESSAGES: u64 = 12;

/// A backlog in segments, each message a block of its own.
fn backlog(disk: &Arc<FaultyDisk>) -> (Store<FaultyDisk>, ChannelNo) {
    let mut store = open(disk, &options());
    let (topic, channel) = topic_with_channel(&mut store);
    let bodies: Vec<_> = (0..MESSAGES).map(|n| noise(n + 1, 40_000)).collect();
    publish(&mut store, topic, &bodies);
    settle(disk, &mut store);
    (store, channel)
}

fn delivered(store: &mut Store<FaultyDisk>, channel: ChannelNo) -> Vec<u64> {
    let mut cursor = Cursor::new(Seq(0));
    let mut seqs = Vec::new();
    for _ in 0..100 {
        match store.next(channel, &mut cursor) {
            Ok(Some(message)) => {
                assert_eq!(message.body, noise(message.seq.0 + 1, 40_000));
                seqs.push(message.seq.0);
            }
            Ok(None) => break,
            Err(_) => {}
        }
    }
    seqs
}

fn blocks(disk: &FaultyDisk, name: &str) -> Vec<(u64, u64)> {
    let file = disk.open(name).unwrap();
    let mut bytes = vec![0; disk.len(&file).unwrap() as usize];
    disk.read_at(&file, 0, &mut bytes).unwrap();
    let at = bytes
        .windows(4)
        .enumerate()
        .filter(|(_, four)| four == b"NEC1");
    let seq = |at: usize| u64::from_le_bytes(bytes[at + 8..at + 16].try_into().unwrap());
    at.map(|(at, _)| (at as u64, seq(at))).collect()
}

/// The segment with the most blocks: its name, and offset and sequence of each.
fn longest(disk: &FaultyDisk) -> (String, Vec<(u64, u64)>) {
    let names = disk.list(SEGMENTS_DIR).unwrap();
    let all = names.into_iter().map(|name| {
        let blocks = blocks(disk, &name);
        (name, blocks)
    });
    let longest = all.max_by_key(|(_, blocks)| blocks.len()).unwrap();
    assert!(longest.1.len() > 3, "{longest:?}");
    longest
}

fn all_but(lost: &[u64]) -> Vec<u64> {
    (0..MESSAGES).filter(|seq| !lost.contains(seq)).collect()
}

#[test]
fn a_broken_header_in_a_segment_costs_its_own_block_and_no_other() {
    let disk = Arc::new(FaultyDisk::new());
    let (store, channel) = backlog(&disk);
    drop(store);
    let (name, blocks) = longest(&disk);
    assert!(disk.flip_bit(&name, blocks[1].0 + 9, 3));
    let mut store = open(&Arc::new(disk.kill()), &options());
    assert_eq!(delivered(&mut store, channel), all_but(&[blocks[1].1]));
    assert_eq!(store.counters().damaged_records, 1);
}

#[test]
fn a_segment_that_was_cut_short_is_damage_and_no_obstacle() {
    let disk = Arc::new(FaultyDisk::new());
    let (store, channel) = backlog(&disk);
    drop(store);
    let (name, blocks) = longest(&disk);
    let disk = disk.kill();
    let file = disk.open(&name).unwrap();
    let mut kept = vec![0; blocks[1].0 as usize + 1000];
    disk.read_at(&file, 0, &mut kept).unwrap();
    let file = disk.create(&name, kept.len() as u64).unwrap();
    disk.write_at(&file, 0, &kept).unwrap();
    let lost: Vec<_> = blocks[1..].iter().map(|(_, seq)| *seq).collect();
    let mut store = open(&Arc::new(disk), &options());
    assert_eq!(delivered(&mut store, channel), all_but(&lost));
    assert_eq!(store.counters().damaged_records, lost.len() as u64);
}

#[test]
fn a_first_channel_and_its_topics_flow_to_it_are_said_together() {
    // Many changes in one unit, so that its bound falls between two of them; where depends on their lengths.
    for length in (10..40).step_by(2) {
        let disk = Arc::new(FaultyDisk::new());
        let small = Options {
            ring_bytes: 64 * 1024,
            message_bytes_max: 4096,
            batch_bytes_max: 8192,
            ..options()
        };
        let mut store = open(&disk, &small);
        for n in 0..100 {
            let name = format!("{}{n:02}", "x".repeat(length));
            let (topic, _) = store.create_topic(&name, true).unwrap();
            store.create_channel(topic, "first", true).unwrap();
        }
        // One commit, then the power fails.
        let now = Duration::from_secs(3600);
        let job = store.poll_job(now).unwrap();
        let done = run_job(&*disk, job);
        store.handle_done(now, done).unwrap().result.unwrap();
        let disk = Arc::new(disk.crash(CrashPolicy::LoseAll));
        let mut store = open(&disk, &small);
        let topics: Vec<_> = store.topics().map(|info| info.no).collect();
        assert!(topics.len() < 100);
        for topic in topics {
            let channels = store.channels(topic).count() as u64;
            publish(&mut store, topic, &[vec![1]]);
            settle(&disk, &mut store);
            let info = store.topic_info(topic).unwrap();
            assert_eq!(info.undistributed + channels, 1, "{}", info.name);
        }
    }
}

/// Fills the ring, of which nothing is in the cache, past the point at which a checkpoint starts; reads then fail.
fn fill_with_failing_reads(topics: &[&str], bytes: usize, flood: bool) {
    let disk = Arc::new(FaultyDisk::new());
    let uncached = Options {
        cache_bytes: 0,
        ..options()
    };
    let mut store = open(&disk, &uncached);
    let mut now = Duration::from_secs(10);
    let mut channels = Vec::new();
    for name in topics {
        let (topic, _) = store.create_topic(name, true).unwrap();
        let (channel, _) = store.create_channel(topic, "uplink", true).unwrap();
        channels.push((topic, channel, 0));
    }
    for round in 0..60 {
        if round % 10 == 5 {
            disk.inject(Fault::ReadError(1));
        }
        let batch = if flood && round % 10 == 5 { 4 } else { 1 };
        for (topic, _, acknowledged) in &mut channels {
            let bodies = vec![noise(round + 1, bytes); batch];
            publish(&mut store, *topic, &bodies);
            // Refused is not lost: the publisher knows.
            let mut is_refused = false;
            for _ in 0..40 {
                now += Duration::from_millis(10);
                while let Some(job) = store.poll_job(now) {
                    let done = run_job(&*disk, job);
                    let outcome = store.handle_done(now, done);
                    is_refused |= outcome.is_some_and(|outcome| outcome.result.is_err());
                }
            }
            *acknowledged += if is_refused { 0 } else { batch as u64 };
        }
    }
    disk.inject(Fault::ReadError(u64::MAX / 2));
    for (_, channel, acknowledged) in channels {
        let info = store.channel_info(channel).unwrap();
        assert_eq!(info.unfinished, acknowledged);
        let mut cursor = Cursor::new(Seq(0));
        let mut delivered = 0;
        while store.next(channel, &mut cursor).unwrap().is_some() {
            delivered += 1;
        }
        assert_eq!(
            (delivered, store.counters().damaged_records),
            (acknowledged, 0)
        );
    }
}

#[test]
fn a_read_that_fails_once_costs_no_message_that_moves_to_a_segment() {
    fill_with_failing_reads(&["clicks"], 6000, false);
}

#[test]
fn a_read_that_fails_once_costs_no_message_that_is_carried() {
    fill_with_failing_reads(&["clicks", "views", "sales", "taps"], 300, false);
}

#[test]
fn a_read_that_fails_once_costs_no_message_that_a_flood_moves() {
    fill_with_failing_reads(&["clicks"], 6000, true);
}

#[test]
fn a_message_larger_than_what_is_taken_since_is_still_delivered() {
    let disk = Arc::new(FaultyDisk::new());
    let taken = |message_bytes_max| Options {
        message_bytes_max,
        ..options()
    };
    let mut store = open(&disk, &taken(400_000));
    let (topic, channel) = topic_with_channel(&mut store);
    publish(&mut store, topic, &[vec![7; 300_000]]);
    settle(&disk, &mut store);
    let mut store = open(&Arc::new(disk.kill()), &taken(1000));
    let mut cursor = Cursor::new(Seq(0));
    let message = store.next(channel, &mut cursor).unwrap().unwrap();
    assert_eq!(message.body, vec![7; 300_000]);
}

#[test]
fn an_ephemeral_message_has_no_id_of_one_whose_commit_is_under_way() {
    let disk = Arc::new(FaultyDisk::new());
    let mut store = open(&disk, &options());
    let (topic, channel) = topic_with_channel(&mut store);
    let (passing, _) = store.create_topic("passing#ephemeral", false).unwrap();
    let (watch, _) = store.create_channel(passing, "watch", false).unwrap();
    settle(&disk, &mut store);
    publish(&mut store, topic, &[vec![1]]);
    store.flush();
    let job = store.poll_job(Duration::from_secs(1)).unwrap();
    publish(&mut store, passing, &[vec![2]]);
    let done = run_job(&*disk, job);
    store.handle_done(Duration::from_secs(1), done).unwrap();
    let mut first = |channel| {
        let message = store.next(channel, &mut Cursor::new(Seq(0)));
        message.unwrap().unwrap().id
    };
    assert_ne!(first(channel), first(watch));
}

#[test]
fn a_state_that_outgrows_its_file_frees_the_ring_all_the_same_and_is_read_back() {
    let disk = Arc::new(FaultyDisk::new());
    let options = Options {
        topics_max: 1,
        channels_max: 1,
        outstanding_max: 1,
        ..options()
    };
    let mut store = open(&disk, &options);
    let (topic, channel) = topic_with_channel(&mut store);
    let mut count = 0;
    // Every second record is finished: each leaves a range in the state, which holds more than its file was made for.
    while count < 160_000 {
        publish(&mut store, topic, &vec![vec![7; 8]; 100]);
        settle(&disk, &mut store);
        for seq in (count..count + 100).step_by(2) {
            store.finish(channel, Seq(seq));
        }
        count += 100;
    }
    store.flush();
    settle(&disk, &mut store);
    assert!(store.health().is_ok(), "{:?}", store.health());
    let lengths = ["state-a", "state-b"].map(|name| disk.len(&disk.open(name).unwrap()).unwrap());
    let made_for = options.state_bytes();
    assert!(
        lengths.iter().all(|len| *len > made_for),
        "{lengths:?} {made_for}"
    );
    let after = Arc::new(disk.crash(CrashPolicy::LoseAll));
    let store = open(&after, &options);
    assert_eq!(store.channel_info(channel).unwrap().unfinished, count / 2);
}

#[test]
fn a_block_that_only_the_page_cache_has_is_written_again_before_anything_stands_on_it() {
    let disk = Arc::new(FaultyDisk::new());
    let mut store = open(&disk, &options());
    // The commit that makes the topic fails to sync, and the process is killed before it tries again.
    let (topic, channel) = topic_with_channel(&mut store);
    disk.inject(Fault::SyncError {
        nth: 1,
        forget: false,
    });
    let job = store.poll_job(Duration::ZERO).unwrap();
    let done = run_job(&*disk, job);
    assert!(
        store.handle_done(Duration::ZERO, done).is_none(),
        "it is tried again"
    );
    drop(store);
    let disk = Arc::new(disk.kill());
    let mut store = open(&disk, &options());
    assert_eq!(store.topics().count(), 1, "the page cache has the block");
    publish(&mut store, topic, &[b"click".to_vec()]);
    settle(&disk, &mut store);
    let disk = Arc::new(disk.crash(CrashPolicy::LoseAll));
    let mut store = open(&disk, &options());
    let message = store.next(channel, &mut Cursor::new(Seq(0))).unwrap();
    assert_eq!(message.map(|message| message.body), Some(&b"click"[..]));
}
