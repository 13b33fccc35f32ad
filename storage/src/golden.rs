//! One file of each format, byte for byte. A change here means that stores in the field cannot be read: it needs
//! a new magic and a way to read the old one. `UPDATE_GOLDEN=1 cargo test -p storage golden` writes them anew.

use std::path::Path;

use crate::block::{HEADER_BYTES, Header, Place};
use crate::entry::{self, Entry, Record, Run, SegmentImage};
use crate::identity::Identity;
use crate::ids::{BlockNo, ChannelNo, MessageId, Seq, TopicNo};
use crate::segment::{self, SegmentKey};
use crate::state::{self, ChannelImage, Image, TopicImage};

fn check(name: &str, bytes: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("golden")
        .join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, bytes).unwrap();
    }
    let golden = std::fs::read(&path).unwrap();
    assert!(
        golden == bytes,
        "{name} differs from what stores in the field hold"
    );
}

const TOPIC: TopicNo = TopicNo(3);
const CHANNEL: ChannelNo = ChannelNo(200);

fn segment_image() -> SegmentImage {
    SegmentImage {
        store: 0x0123_4567_89AB_CDEF,
        number: 7,
        bytes: 65_536,
        end: 8192,
        first: Seq(10),
        through: Seq(300),
    }
}

fn records() -> Vec<u8> {
    let mut records = Vec::new();
    for (wall_delta_us, delay_ms, body) in [(0, 0, &b"first"[..]), (-5, 90_000, b"second")] {
        let record = Record {
            wall_delta_us,
            delay_ms,
            body,
        };
        entry::push_record(&mut records, &record);
    }
    records
}

fn run(records: &[u8]) -> Run<'_> {
    Run {
        topic: TOPIC,
        first_seq: Seq(300),
        first_id: MessageId::new(9, 1000),
        mono_ms: 123_456,
        wall_ns: 1_700_000_000_000_000_000,
        count: 2,
        records,
    }
}

#[test]
fn a_ring_block_with_every_entry_is_golden() {
    let records = records();
    let entries = [
        Entry::Run(run(&records)),
        Entry::Finish {
            channel: CHANNEL,
            first: Seq(12),
            count: 3,
        },
        Entry::Retry {
            channel: CHANNEL,
            seq: Seq(20),
            attempts: 2,
            delay_ms: 5000,
        },
        Entry::CreateTopic {
            topic: TOPIC,
            name: "clicks",
        },
        Entry::DeleteTopic { topic: TopicNo(2) },
        Entry::Distribute {
            topic: TOPIC,
            paused: true,
            standing: Some(Seq(300)),
        },
        Entry::CreateChannel {
            channel: CHANNEL,
            topic: TOPIC,
            name: "uplink",
            start: Seq(10),
        },
        Entry::DeleteChannel {
            channel: ChannelNo(1),
        },
        Entry::PauseChannel {
            channel: CHANNEL,
            paused: false,
        },
        Entry::EmptyChannel {
            channel: CHANNEL,
            through: Seq(11),
        },
        Entry::Segment {
            topic: TOPIC,
            segment: segment_image(),
        },
    ];
    let mut block = vec![0; HEADER_BYTES];
    for entry in &entries {
        entry::push(&mut block, entry);
    }
    let mut header = Header {
        place: Place {
            number: BlockNo(42),
            offset: 12_288,
        },
        epoch: 9,
        payload_bytes: 0,
        payload_crc: 0,
        previous: Place {
            number: BlockNo(41),
            offset: 8192,
        },
        previous_crc: 0xDEAD_BEEF,
        live_from: Place {
            number: BlockNo(30),
            offset: 4096,
        },
        synced_through: BlockNo(41),
        crc: 0,
    };
    header.seal(&mut block, 77);
    check("ring-block-v1.bin", &block);
    let read = Header::decode(&block, 77, 12_288).unwrap();
    let payload = read.payload(&block, 77).unwrap();
    let found: Vec<_> = entry::entries(payload).map(|(_, entry)| entry).collect();
    assert_eq!(found, entries);
}

#[test]
fn a_segment_is_golden() {
    let key = SegmentKey {
        store: 5,
        topic: TOPIC,
        number: 7,
    };
    let records = records();
    let mut raw = Vec::new();
    entry::push(&mut raw, &Entry::Run(run(&records)));
    let mut file = segment::encode_file_header(&key, "clicks");
    let at = file.len() as u64;
    segment::push_block(&mut file, &key, at, (Seq(300), Seq(301)), &raw);
    let repeated = raw.repeat(20);
    let at = file.len() as u64;
    segment::push_block(&mut file, &key, at, (Seq(302), Seq(400)), &repeated);
    check("segment-v1.bin", &file);
}

#[test]
fn a_state_is_golden() {
    let image = Image {
        epoch: 9,
        next_topic: TopicNo(4),
        next_channel: ChannelNo(201),
        topics: vec![TopicImage {
            number: TOPIC,
            name: "clicks".into(),
            paused: false,
            standing: None,
            end: Seq(302),
            next_segment: 8,
            segments: vec![segment_image()],
            channels: vec![ChannelImage {
                number: CHANNEL,
                name: "uplink".into(),
                paused: true,
                floor: Seq(11),
                finished: vec![(Seq(13), 2), (Seq(100), 50)],
                retries: vec![(Seq(12), 3, 60_000)],
            }],
        }],
    };
    let live_from = Place {
        number: BlockNo(30),
        offset: 4096,
    };
    check(
        "state-v1.bin",
        &state::encode(&image, 6, BlockNo(42), live_from, 0x55),
    );
}

#[test]
fn an_identity_is_golden() {
    let identity = Identity {
        store_id: 1,
        ring_id: 2,
        ring_bytes: 4 << 20,
        is_salvaged: false,
    };
    check("identity-v1.bin", &identity.encode());
    assert_eq!(Identity::decode(&identity.encode()), Some(identity));
}
