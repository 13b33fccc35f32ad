//! An error is one line that names the key, the value and the bound.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;
use std::time::Duration;

use config::{Config, Environment, load};

fn error(text: &str) -> String {
    let parsed = Config::parse(text);
    let error = parsed
        .and_then(|config| config.resolve(&Environment::default()))
        .unwrap_err();
    let line = error.to_string();
    assert!(!line.contains('\n'), "{line}");
    line
}

#[test]
fn an_unknown_key_is_named_with_its_section_and_line() {
    assert_eq!(
        error("[broker]\ntcp_adress = \":4150\"\n"),
        "line 2: broker.tcp_adress: unknown key"
    );
    assert_eq!(error("mem = 1"), "line 1: mem: unknown key");
    assert_eq!(error("[brokr]\n"), "line 1: brokr: unknown key");
    assert_eq!(
        error("[[forwarder.route]]\ntopic = \"t\"\nupstreams = []"),
        "line 3: forwarder.route.upstreams: unknown key"
    );
    assert_eq!(error("broker.ring = 1"), "line 1: broker.ring: unknown key");
}

#[test]
fn a_value_of_the_wrong_kind_is_named_with_its_key() {
    assert_eq!(
        error("[ring]\nbytes = \"12XB\""),
        "line 2: ring.bytes = \"12XB\": must be a size such as 4096, \"64KiB\" or \"4MiB\""
    );
    assert_eq!(
        error("[ring]\nbytes = 1.5"),
        "line 2: ring.bytes = 1.5: must be a size such as 4096, \"64KiB\" or \"4MiB\""
    );
    assert_eq!(
        error("[ring]\nbytes = -1"),
        "line 2: ring.bytes = -1: must be a size such as 4096, \"64KiB\" or \"4MiB\""
    );
    assert_eq!(
        error("[broker]\nmsg_timeout = 60"),
        "line 2: broker.msg_timeout = 60: must be a duration such as \"250ms\", \"60s\" or \"1m30s\""
    );
    assert_eq!(
        error("[broker]\nconnections_max = \"many\""),
        "line 2: broker.connections_max = \"many\": must be a whole number"
    );
    assert_eq!(
        error("[broker]\nconnections_max = -5"),
        "line 2: broker.connections_max = -5: must be 0..=4294967295"
    );
    assert_eq!(
        error("[broker]\nbroadcast_tcp_port = 70000"),
        "line 2: broker.broadcast_tcp_port = 70000: must be 0..=65535"
    );
    assert_eq!(
        error("[broker]\nbroadcast_address = \"10.0.0.7:4150\""),
        "broker.broadcast_address = \"10.0.0.7:4150\": must be a host's name or address, without port"
    );
    assert_eq!(
        error("[lookupd]\nbroadcast_address = \" \""),
        "lookupd.broadcast_address = \" \": must be a host's name or address, without port"
    );
    assert_eq!(
        error("[log]\nlevel = \"loud\""),
        "line 2: log.level = \"loud\": must be one of debug, info, warn, error, fatal"
    );
    assert_eq!(
        error("[broker]\nlookupd_tcp_addresses = \"a:4160\""),
        "line 2: broker.lookupd_tcp_addresses = \"a:4160\": must be a list, [\"like\", \"this\"]"
    );
    assert_eq!(error("broker = 1"), "line 1: broker = 1: must be a section");
}

#[test]
fn what_is_not_toml_is_named_by_its_line() {
    assert!(error("[broker]\ntcp_address = \n").starts_with("line 2: "));
    assert!(error("[broker]\n[broker]\n").starts_with("line 2: "));
    assert!(error("[log]\nlevel = \"info\"\nlevel = \"info\"\n").starts_with("line 3: "));
}

#[test]
fn a_bound_names_key_value_and_range() {
    assert_eq!(
        error("[ring]\nbytes = \"12KiB\""),
        "ring.bytes = 12KiB: must be 1MiB..=1GiB"
    );
    assert_eq!(
        error("[ring]\nbytes = 1048577"),
        "ring.bytes = 1048577B: must be a multiple of 64KiB"
    );
    assert_eq!(
        error("[broker]\nmsg_timeout = \"25h\""),
        "broker.msg_timeout = 25h: must be 1ms..=24h"
    );
    assert_eq!(
        error("[broker]\nconnections_max = 0"),
        "broker.connections_max = 0: must be 2..=10000"
    );
    assert_eq!(
        error("[broker]\ntcp_address = \"4150\""),
        "broker.tcp_address = \"4150\": must be host:port, :port or the path of a unix socket"
    );
    assert_eq!(
        error("[broker]\nlookupd_tcp_addresses = [\":4160\"]"),
        "broker.lookupd_tcp_addresses = \":4160\": must be host:port or the path of a unix socket"
    );
}

#[test]
fn a_relation_names_both_sides() {
    assert_eq!(
        error("[broker]\nmessage_bytes_max = \"5MiB\""),
        "segment.bytes = 8MiB: must be at least 10248KiB: a segment holds two largest messages \
         (broker.message_bytes_max = 5MiB)"
    );
    assert_eq!(
        error("[memory]\nbodies = \"4MiB\""),
        "memory.bodies = 4MiB: must be at least 5MiB, to hold broker.body_bytes_max (5MiB)"
    );
    assert_eq!(
        error("[broker]\nmsg_timeout = \"20m\""),
        "broker.msg_timeout = 20m: must be at most broker.msg_timeout_max (15m)"
    );
    let line = error("[broker]\nconnections_max = 2000");
    assert!(
        line.starts_with("memory.max = 96MiB: the worst case is 233 MiB = program 6MiB + "),
        "{line}"
    );
    assert!(line.contains("connections 2000 x 88KiB"), "{line}");
}

#[test]
fn a_route_is_checked_whole() {
    let route = |text: &str| error(&format!("[[forwarder.route]]\n{text}"));
    assert_eq!(
        route("topic = \"t\""),
        "forwarder.route[0].upstream = [0 entries]: must be 1..=32 entries"
    );
    assert!(
        route("topic = \"a b\"\nupstream = [\"h:1\"]")
            .starts_with("forwarder.route[0].topic = \"a b\": a name is 1 to 64 ")
    );
    assert_eq!(
        route("topic = \"t\"\nupstream = [\"h:1\", \"h:1\"]"),
        "forwarder.route[0].upstream = \"h:1\": is there twice"
    );
    assert_eq!(
        route("topic = \"t\"\nupstream = [\"h:1\"]\nbackoff_min = \"2m\""),
        "forwarder.route[0].backoff_min = 2m: must be at most forwarder.route[0].backoff_max (1m)"
    );
    let one = "topic = \"t\"\nupstream = [\"h:1\"]\n";
    assert!(
        route(&format!("{one}[[forwarder.route]]\n{one}"))
            .starts_with("forwarder.route[1].channel = \"uplink\": another route ")
    );
}

#[test]
fn a_missing_file_is_named() {
    let error = load(Path::new("/nonexistent/nsq-edge.toml"))
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "cannot read /nonexistent/nsq-edge.toml: No such file or directory (os error 2)"
    );
}

#[test]
fn a_file_becomes_options() {
    let text = "data_path = \"/var/lib/x\"\n[broker]\nbroadcast_tcp_port = 14150\n\
                message_bytes_max = 65536\nmsg_timeout = \"1m30s\"\n[ring]\nbytes = \"8MiB\"\n\
                [[forwarder.route]]\ntopic = \"clicks\"\nupstream = [\"h:4150\"]";
    let environment = Environment {
        hostname: "site-7".to_owned(),
        ..Environment::default()
    };
    let options = Config::parse(text).unwrap().resolve(&environment).unwrap();
    assert_eq!(options.broker.data_path, Path::new("/var/lib/x"));
    assert_eq!(options.broker.broadcast_address, "site-7");
    assert_eq!(options.broker.broadcast_tcp_port, Some(14150));
    assert_eq!(options.broker.broadcast_http_port, None);
    assert_eq!(options.broker.msg_timeout, Duration::from_secs(90));
    assert_eq!(options.broker.storage.ring_bytes, 8 << 20);
    assert_eq!(options.broker.storage.message_bytes_max, 65536);
    assert_eq!(options.broker.storage.batch_bytes_max, 5 << 20);
    assert_eq!(options.broker.initial_channels[0].topic.as_str(), "clicks");
    assert_eq!(options.forwarder.routes[0].hostname, "site-7");
    assert_eq!(
        options.forwarder.routes[0].upstream_topic.as_str(),
        "clicks"
    );
    assert_eq!(options.forwarder.routes[0].channel.as_str(), "uplink");
}

#[test]
fn the_store_is_where_systemd_says_unless_the_file_says_otherwise() {
    let state = |state_directory: Option<&str>| Environment {
        state_directory: state_directory.map(str::to_owned),
        hostname: String::new(),
    };
    let path = |config: &Config, environment: &Environment| {
        config.resolve(environment).unwrap().broker.data_path
    };
    let config = Config::default();
    assert_eq!(path(&config, &state(None)), Path::new("nsq-edge-data"));
    assert_eq!(path(&config, &state(Some(""))), Path::new("nsq-edge-data"));
    assert_eq!(
        path(&config, &state(Some("/var/lib/a"))),
        Path::new("/var/lib/a")
    );
    assert_eq!(
        path(&config, &state(Some("/var/lib/a:/var/lib/b"))),
        Path::new("/var/lib/a")
    );
    let config = Config {
        data_path: "/data".to_owned(),
        ..config
    };
    assert_eq!(
        path(&config, &state(Some("/var/lib/a"))),
        Path::new("/data")
    );
}

#[test]
fn a_key_is_set_by_itself_with_the_errors_of_a_file() {
    let mut config = Config::default();
    for assignment in [
        "broker.tcp_address=127.0.0.1:0",
        "ring.bytes = 8MiB",
        "cache.bytes=65536",
        "log.level=\"warn\"",
        "data_path=/tmp/a b",
        "broker.lookupd_tcp_addresses=[\"a:4160\"]",
        "forwarder.route=[{topic = \"t\", upstream = [\"h:1\"]}]",
    ] {
        config.set(assignment).unwrap();
    }
    let expected = "data_path = \"/tmp/a b\"\nlog.level = \"warn\"\nring.bytes = \"8MiB\"\n\
                    cache.bytes = 65536\n[broker]\ntcp_address = \"127.0.0.1:0\"\n\
                    lookupd_tcp_addresses = [\"a:4160\"]\n\
                    [[forwarder.route]]\ntopic = \"t\"\nupstream = [\"h:1\"]";
    assert_eq!(config, Config::parse(expected).unwrap());
    assert_eq!(config, Config::parse(&config.to_text()).unwrap());
    let error = |assignment: &str| config.clone().set(assignment).unwrap_err().to_string();
    assert_eq!(error("broker.tcp=x"), "broker.tcp: unknown key");
    assert_eq!(
        error("ring.bytes=big"),
        "ring.bytes = \"big\": must be a size such as 4096, \"64KiB\" or \"4MiB\""
    );
    assert_eq!(error("nonsense"), "nonsense: unknown key");
    assert!(!error("=1").contains("line"));
}

#[test]
fn the_broker_makes_the_channels_of_routes_that_consume_from_it_and_no_others() {
    let route =
        |more: &str| format!("[[forwarder.route]]\ntopic = \"t\"\nupstream = [\"h:1\"]\n{more}\n");
    let text = route("channel = \"a\"")
        + &route("channel = \"b\"\nsources = [\"h:2\"]")
        + &route("channel = \"c\"\nsource_lookupds = [\"h:3\"]");
    let options = Config::parse(&text).unwrap();
    let options = options.resolve(&Environment::default()).unwrap();
    let channels: Vec<_> = options.broker.initial_channels.iter().collect();
    assert_eq!(channels.len(), 1);
    assert_eq!(channels[0].channel.as_str(), "a");
}
