//! What the configuration accepts, the store accepts; and what documents and units say of it is so.
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

#[test]
fn the_service_may_take_more_memory_than_the_worst_case_by_default() {
    let unit = include_str!("../../systemd/nsq-edge.service");
    let line = unit
        .lines()
        .find_map(|line| line.strip_prefix("MemoryMax="));
    let mebibytes: u64 = line
        .and_then(|max| max.strip_suffix('M'))
        .unwrap()
        .parse()
        .unwrap();
    // Half as much again: the page cache of the store is counted, too.
    assert!(mebibytes << 20 >= Config::default().memory.max.0 * 3 / 2);
}

#[test]
fn the_table_of_the_readme_has_the_defaults() {
    let readme = include_str!("../../README.md");
    let (_, table) = readme.split_once("| key | default | |").unwrap();
    let defaults: toml_like::Table = toml_like::parse(&Config::default().to_text());
    let mut compared = 0;
    for row in table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'))
    {
        let words = |cell: usize| -> Vec<&str> {
            let cell = row.split('|').nth(cell).unwrap();
            cell.split('`').skip(1).step_by(2).collect()
        };
        let (keys, values) = (words(1), words(2));
        for (key, value) in keys.iter().zip(&values) {
            // Told by the machine, and none.
            if *key != "data_path" {
                assert_eq!(
                    defaults.get(*key).map(String::as_str),
                    Some(*value),
                    "{key}"
                );
                compared += 1;
            }
        }
    }
    assert!(compared >= 15, "{compared}");
}

/// Enough of TOML to read what `Config::to_text` writes.
mod toml_like {
    pub(super) type Table = std::collections::BTreeMap<String, String>;

    pub(super) fn parse(text: &str) -> Table {
        let mut section = String::new();
        let mut table = Table::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('[') {
                section = format!("{}.", name.trim_end_matches(']'));
            } else if let Some((key, value)) = line.split_once(" = ") {
                table.insert(
                    format!("{section}{key}"),
                    value.trim_matches('"').to_owned(),
                );
            }
        }
        table
    }
}
