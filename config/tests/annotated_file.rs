//! The annotated `nsq-edge.toml` says what the code does.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use config::{Config, Environment, Route};

const ANNOTATED: &str = include_str!("../nsq-edge.toml");

/// The file with its commented defaults (`# key = value`) and its example (`#: ...`) in force.
fn uncommented() -> String {
    let is_default = |line: &str| {
        line.split_once(" = ").is_some_and(|(key, _)| {
            !key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        })
    };
    ANNOTATED
        .lines()
        .map(
            |line| match (line.strip_prefix("#: "), line.strip_prefix("# ")) {
                (Some(example), _) => example,
                (_, Some(default)) if is_default(default) => default,
                _ => line,
            },
        )
        .collect::<Vec<_>>()
        .join("\n")
}

fn leaves(prefix: &str, table: &toml::Table, found: &mut Vec<String>) {
    for (key, value) in table {
        match value {
            toml::Value::Table(inner) => leaves(&format!("{prefix}{key}."), inner, found),
            _ => found.push(format!("{prefix}{key}")),
        }
    }
}

#[test]
fn every_commented_default_is_the_default_of_the_code() {
    let mut written = Config::parse(&uncommented()).unwrap();
    let example = written.forwarder.routes.pop().unwrap();
    assert_eq!(written, Config::default());
    let route = Route {
        topic: example.topic.clone(),
        upstream: example.upstream.clone(),
        ..Route::default()
    };
    assert_eq!(example, route);
}

#[test]
fn every_key_of_the_code_is_in_the_file() {
    let mut all = Config::default();
    all.forwarder.routes.push(Route::default());
    let all = toml::Table::try_from(&all).unwrap();
    let written: toml::Table = uncommented().parse().unwrap();
    let (mut expected, mut found) = (Vec::new(), Vec::new());
    leaves("", &all, &mut expected);
    leaves("", &written, &mut found);
    assert_eq!(found.len(), expected.len());
    for key in &expected {
        assert!(found.contains(key), "{key} is not in nsq-edge.toml");
    }
    let route = |table: &toml::Table| {
        let first = &table["forwarder"]["route"].as_array().unwrap()[0];
        first
            .as_table()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(route(&written), route(&all));
}

#[test]
fn the_file_as_it_is_shipped_is_the_default_and_valid() {
    let shipped = Config::parse(ANNOTATED).unwrap();
    assert_eq!(shipped, Config::default());
    shipped.resolve(&Environment::default()).unwrap();
    Config::parse(&uncommented())
        .unwrap()
        .resolve(&Environment::default())
        .unwrap();
}
