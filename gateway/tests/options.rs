//! What the configuration accepts, the store accepts.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use config::{Config, Environment};

fn storage_options(settings: &[&str]) -> storage::Options {
    let mut config = Config::default();
    for setting in settings {
        config.set(setting).unwrap();
    }
    let options = config.resolve(&Environment::default());
    let own = options
        .unwrap_or_else(|error| panic!("{error}"))
        .broker
        .storage;
    storage::Options {
        ring_bytes: own.ring_bytes,
        segment_bytes: own.segment_bytes,
        message_bytes_max: own.message_bytes_max,
        batch_bytes_max: own.batch_bytes_max,
        topics_max: own.topics_max,
        channels_max: own.channels_max,
        outstanding_max: own.outstanding_max,
        cache_bytes: own.cache_bytes,
        pending_bytes_max: own.pending_bytes_max,
    }
}

#[test]
fn the_defaults_of_the_configuration_are_those_of_the_store() {
    assert_eq!(storage_options(&[]), storage::Options::default());
}

#[test]
fn the_store_takes_what_is_within_the_bounds_of_the_configuration() {
    let memory = "memory.max=64GiB";
    for settings in [
        &["ring.bytes=1MiB"][..],
        &["ring.bytes=1GiB"],
        &["ring.bytes=1114112"],
        &["segment.bytes=1GiB"],
        &["broker.message_bytes_max=1", "segment.bytes=256KiB"],
        &[
            "broker.message_bytes_max=1",
            "broker.body_bytes_max=4KiB",
            "memory.pending=64KiB",
        ],
        &[
            "broker.message_bytes_max=64MiB",
            "segment.bytes=134225920",
            "memory.bodies=67112960",
            "memory.pending=67112960",
        ],
        &[
            "broker.body_bytes_max=256MiB",
            "memory.bodies=1GiB",
            "memory.pending=1GiB",
        ],
        &[
            "broker.topics_max=1",
            "broker.channels_max=1",
            "broker.outstanding_max=1",
        ],
        &[
            "broker.topics_max=10000",
            "broker.channels_max=100000",
            "broker.outstanding_max=10000000",
        ],
        &["cache.bytes=64KiB"],
        &["cache.bytes=256MiB"],
    ] {
        let settings: Vec<&str> = settings.iter().copied().chain([memory]).collect();
        if let Err(error) = storage_options(&settings).validate() {
            panic!("{settings:?}: {error}");
        }
    }
}
