//! NSQ's own flags: every one is known, and none is silently ignored.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::time::Duration;

use config::flags::{FlagsError, Meaning, Program, Request, Run, parse};
use config::{Config, Environment, Level};

fn request(program: Program, args: &[&str]) -> Result<Request, FlagsError> {
    let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
    let environment = Environment {
        hostname: "site-7".to_owned(),
        ..Environment::default()
    };
    parse(program, &args, &environment)
}

fn run(program: Program, args: &[&str]) -> Run {
    match request(program, args) {
        Ok(Request::Run(run)) => *run,
        other => panic!("{args:?}: {other:?}"),
    }
}

fn usage_error(program: Program, args: &[&str]) -> String {
    match request(program, args) {
        Err(FlagsError::Usage(message)) => message,
        other => panic!("{args:?}: {other:?}"),
    }
}

fn error(program: Program, args: &[&str]) -> String {
    request(program, args).unwrap_err().to_string()
}

/// What `-help` of NSQ 1.3.0's programs lists.
const NSQD: &str = "auth-http-address broadcast-address broadcast-http-port broadcast-tcp-port config \
    data-path deflate e2e-processing-latency-percentile e2e-processing-latency-window-time \
    http-address http-client-connect-timeout http-client-request-timeout https-address log-level \
    log-prefix lookupd-tcp-address max-body-size max-bytes-per-file max-channel-consumers \
    max-deflate-level max-heartbeat-interval max-msg-size max-msg-timeout max-output-buffer-size \
    max-output-buffer-timeout max-rdy-count max-req-timeout mem-queue-size \
    min-output-buffer-timeout msg-timeout node-id output-buffer-timeout \
    queue-scan-selection-count queue-scan-worker-pool-max snappy statsd-address \
    statsd-exclude-ephemeral statsd-interval statsd-mem-stats statsd-prefix \
    statsd-udp-packet-size sync-every sync-timeout tcp-address tls-cert tls-client-auth-policy \
    tls-key tls-min-version tls-required tls-root-ca-file verbose version worker-id";
const NSQLOOKUPD: &str = "broadcast-address config http-address inactive-producer-timeout log-level \
    log-prefix tcp-address tombstone-lifetime verbose version";
const NSQ_TO_NSQ: &str = "channel consumer-opt destination-nsqd-tcp-address destination-topic \
    lookupd-http-address max-in-flight mode nsqd-tcp-address producer-opt require-json-field \
    require-json-value status-every topic version whitelist-json-field";

#[test]
fn every_flag_of_nsq_is_in_the_table_and_no_other() {
    let listed = [NSQD, NSQLOOKUPD, NSQ_TO_NSQ];
    for (program, listed) in Program::ALL.into_iter().zip(listed) {
        let known: Vec<&str> = program.flags().iter().map(|flag| flag.name).collect();
        let listed: Vec<&str> = listed.split_whitespace().collect();
        assert_eq!(known, listed, "{}", program.name());
        for flag in program.flags() {
            assert!(program.usage().contains(&format!("\n  -{}", flag.name)));
        }
    }
}

#[test]
fn every_key_that_a_flag_names_exists() {
    let mut all = Config::default();
    all.forwarder.routes.push(config::Route::default());
    let all = toml::Value::try_from(&all).unwrap();
    for flag in Program::ALL.into_iter().flat_map(Program::flags) {
        let mut at = &all;
        for name in flag.key.split('.').filter(|name| !name.is_empty()) {
            at = at.get(name).unwrap_or_else(|| panic!("{}", flag.key));
            at = at.get(0).filter(|_| name == "route").unwrap_or(at);
        }
        assert_eq!(
            flag.key.is_empty(),
            !matches!(flag.meaning, Meaning::Sets(_)) || flag.name == "mode"
        );
    }
}

#[test]
fn no_flags_are_the_defaults() {
    for program in [Program::Nsqd, Program::Nsqlookupd] {
        let run = run(program, &[]);
        assert_eq!(run.config, Config::default());
        assert!(run.notes.is_empty());
    }
}

#[test]
fn all_four_spellings_of_a_flag_are_the_same() {
    for args in [
        &["-tcp-address", ":5150"][..],
        &["--tcp-address", ":5150"],
        &["-tcp-address=:5150"],
        &["--tcp-address=:5150"],
    ] {
        assert_eq!(run(Program::Nsqd, args).options.broker.tcp_address, ":5150");
    }
}

#[test]
fn the_usual_flags_of_nsqd_become_options() {
    let run = run(
        Program::Nsqd,
        &[
            "-data-path=/tmp/x",
            "--broadcast-address",
            "10.0.0.1",
            "-broadcast-tcp-port=14150",
            "-broadcast-http-port=0x3747",
            "-lookupd-tcp-address=a:4160",
            "-lookupd-tcp-address",
            "b:4160",
            "-msg-timeout=1m30s",
            "-max-req-timeout=2h",
            "-max-rdy-count=100",
            "-log-level=WARN",
            "-log-prefix=[x] ",
            "-deflate=false",
            "-tls-required=0",
        ],
    );
    let broker = &run.options.broker;
    assert_eq!(broker.data_path.to_str(), Some("/tmp/x"));
    assert_eq!(broker.broadcast_address, "10.0.0.1");
    assert_eq!(
        (broker.broadcast_tcp_port, broker.broadcast_http_port),
        (Some(14150), Some(14151))
    );
    assert_eq!(broker.lookupd_tcp_addresses, ["a:4160", "b:4160"]);
    assert_eq!(broker.msg_timeout, Duration::from_secs(90));
    assert_eq!(broker.req_timeout_max, Duration::from_secs(7200));
    assert_eq!(broker.rdy_count_max, 100);
    assert_eq!(run.options.log.level, Level::Warn);
    assert_eq!(run.options.log.prefix, "[x] ");
    assert!(run.notes.is_empty());
}

#[test]
fn the_last_of_a_repeated_flag_counts() {
    let run = run(Program::Nsqd, &["-tcp-address=:1", "-tcp-address=:2"]);
    assert_eq!(run.options.broker.tcp_address, ":2");
}

#[test]
fn larger_messages_take_the_store_and_the_memory_with_them() {
    let options = run(Program::Nsqd, &["-max-msg-size=20971520"]).options;
    assert_eq!(options.broker.message_bytes_max, 20 << 20);
    assert!(options.broker.storage.segment_bytes >= 40 << 20);
    assert!(options.broker.bodies_bytes_max >= 20 << 20);
    assert!(options.memory.bytes() > 96 << 20);
    let options = run(Program::Nsqd, &["-msg-timeout=20m"]).options;
    assert_eq!(options.broker.msg_timeout_max, Duration::from_secs(20 * 60));
}

#[test]
fn a_bound_names_flag_key_value_and_range() {
    assert_eq!(
        error(Program::Nsqd, &["-max-msg-size=1073741824"]),
        "-max-msg-size (broker.message_bytes_max) = 1GiB: must be 1B..=64MiB"
    );
    assert_eq!(
        error(Program::Nsqd, &["-max-msg-size=-1"]),
        "-max-msg-size = -1: must not be negative"
    );
    assert_eq!(
        error(Program::Nsqd, &["-broadcast-tcp-port=70000"]),
        "-broadcast-tcp-port = 70000: must be 0..=65535"
    );
    assert_eq!(
        error(
            Program::NsqToNsq,
            &[
                "-topic=a b",
                "-nsqd-tcp-address=h:1",
                "-destination-nsqd-tcp-address=h:2"
            ]
        ),
        "-topic (forwarder.route[0].topic) = \"a b\": a name is 1 to 64 of the characters \
         . a-z A-Z 0-9 _ -, with or without #ephemeral"
    );
}

#[test]
fn a_flag_without_meaning_is_accepted_and_explained_once() {
    let run = run(
        Program::Nsqd,
        &[
            "-mem-queue-size=0",
            "-mem-queue-size=1",
            "-sync-every",
            "1",
            "-verbose",
            "-node-id=7",
        ],
    );
    assert_eq!(run.config, Config::default());
    assert_eq!(run.notes.len(), 4);
    assert_eq!(
        run.notes[0],
        "-mem-queue-size has no meaning here: no message waits in memory alone, OK means that it \
         is on flash"
    );
}

#[test]
fn a_flag_that_is_not_yet_supported_is_refused_and_says_so() {
    assert_eq!(
        error(Program::Nsqd, &["-tls-cert=/x"]),
        "-tls-cert: known and not yet supported: TLS"
    );
    assert_eq!(
        error(Program::Nsqd, &["-tls-required=tcp-https"]),
        "-tls-required: known and not yet supported: TLS"
    );
    assert_eq!(
        error(Program::Nsqd, &["-statsd-address=h:8125"]),
        "-statsd-address: known and not yet supported: statistics sent to a statsd"
    );
    assert_eq!(
        error(Program::Nsqd, &["-max-channel-consumers=5"]),
        "-max-channel-consumers: known and not yet supported: a bound of consumers per channel"
    );
    let without = |flag: &&config::flags::Flag| matches!(flag.meaning, Meaning::NotYet);
    for program in Program::ALL {
        for flag in program.flags().iter().filter(without) {
            let refused = ["1", "1s", "true"].iter().any(|value| {
                error(program, &[&format!("-{}={value}", flag.name)])
                    .starts_with(&format!("-{}: known and not yet supported: ", flag.name))
            });
            assert!(refused, "{}", flag.name);
        }
    }
}

#[test]
fn errors_of_the_command_line_are_those_of_go() {
    for (args, message) in [
        (&["-nope"][..], "flag provided but not defined: -nope"),
        (&["--nope=1"], "flag provided but not defined: -nope"),
        (&["-data-path"], "flag needs an argument: -data-path"),
        (&["---data-path"], "bad flag syntax: ---data-path"),
        (&["-=x"], "bad flag syntax: -=x"),
        (
            &["-msg-timeout=5"],
            "invalid value \"5\" for flag -msg-timeout: parse error",
        ),
        (
            &["-max-msg-size=abc"],
            "invalid value \"abc\" for flag -max-msg-size: parse error",
        ),
        (
            &["-max-msg-size=99999999999999999999"],
            "invalid value \"99999999999999999999\" for flag -max-msg-size: value out of range",
        ),
        (
            &["-verbose=x"],
            "invalid boolean value \"x\" for -verbose: parse error",
        ),
        (&["-verbose", "x"], "unexpected argument: x"),
        (&["--", "x"], "unexpected argument: x"),
        (&["-"], "unexpected argument: -"),
    ] {
        assert_eq!(usage_error(Program::Nsqd, args), message);
    }
    assert!(usage_error(Program::Nsqd, &["-log-level=loud"]).contains("must be one of debug"));
}

#[test]
fn version_and_help_are_asked_for_as_in_go() {
    for args in [
        &["-version"][..],
        &["--version"],
        &["-version=true"],
        &["-verbose", "-version"],
    ] {
        assert!(
            matches!(request(Program::Nsqd, args), Ok(Request::Version)),
            "{args:?}"
        );
    }
    for args in [&["-h"][..], &["-help"], &["--help"]] {
        assert!(
            matches!(request(Program::NsqToNsq, args), Ok(Request::Help)),
            "{args:?}"
        );
    }
    assert!(matches!(
        request(Program::Nsqd, &["-version=false"]),
        Ok(Request::Run(_))
    ));
}

#[test]
fn nsq_to_nsq_becomes_a_route_per_topic() {
    let run = run(
        Program::NsqToNsq,
        &[
            "-topic=a",
            "-topic=b",
            "-nsqd-tcp-address=127.0.0.1:4150",
            "-nsqd-tcp-address=s:4150",
            "-destination-nsqd-tcp-address=x:4150",
            "-destination-nsqd-tcp-address=y:4150",
            "-destination-topic=all",
            "-max-in-flight=10",
            "-mode=hostpool",
        ],
    );
    let forwarder = &run.options.forwarder;
    assert_eq!(forwarder.routes.len(), 2);
    for (route, topic) in forwarder.routes.iter().zip(["a", "b"]) {
        assert_eq!(route.topic.as_str(), topic);
        assert_eq!(route.channel.as_str(), "nsq_to_nsq");
        assert_eq!(route.upstream_topic.as_str(), "all");
        assert_eq!(route.upstream, ["x:4150", "y:4150"]);
        assert_eq!(route.sources, ["127.0.0.1:4150", "s:4150"]);
        assert_eq!(route.in_flight_batches * route.batch_count, 8);
    }
}

#[test]
fn nsq_to_nsq_says_what_it_needs() {
    let program = Program::NsqToNsq;
    assert_eq!(usage_error(program, &[]), "--topic required");
    let args = ["-topic=a"];
    assert_eq!(
        usage_error(program, &args),
        "--destination-nsqd-tcp-address required"
    );
    let args = ["-topic=a", "-destination-nsqd-tcp-address=x:1"];
    assert_eq!(
        usage_error(program, &args),
        "--nsqd-tcp-address or --lookupd-http-address required"
    );
    let both = ["-nsqd-tcp-address=s:1", "-lookupd-http-address=l:1"];
    assert_eq!(
        usage_error(program, &[args.as_slice(), &both].concat()),
        "use --nsqd-tcp-address or --lookupd-http-address not both"
    );
}

#[test]
fn nsqs_own_file_is_read_and_the_command_line_wins() {
    let directory = std::env::temp_dir().join(format!("nsq-edge-flags-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("nsqd.cfg");
    let file = path.to_str().unwrap().to_owned();
    std::fs::write(
        &path,
        "tcp_address = \":1\"\nhttp_address = \":2\"\nmax_rdy_count = 7\nmsg_timeout = \"5s\"\n\
         lookupd_tcp_address = []\n",
    )
    .unwrap();
    let refused = error(Program::Nsqd, &["-config", &file]);
    std::fs::write(
        &path,
        "tcp_address = \":1\"\nhttp_address = \":2\"\nmax_rdy_count = 7\nmsg_timeout = \"5s\"\n\
         nsqlookupd_tcp_addresses = [\"a:1\", \"b:1\"]\n",
    )
    .unwrap();
    let run = run(Program::Nsqd, &["-config", &file, "-tcp-address=:3"]);
    std::fs::remove_dir_all(&directory).unwrap();
    assert!(
        refused.ends_with("line 5: lookupd_tcp_address: unknown key"),
        "{refused}"
    );
    let broker = &run.options.broker;
    assert_eq!(
        (broker.tcp_address.as_str(), broker.http_address.as_str()),
        (":3", ":2")
    );
    assert_eq!(broker.rdy_count_max, 7);
    assert_eq!(broker.msg_timeout, Duration::from_secs(5));
    assert_eq!(broker.lookupd_tcp_addresses, ["a:1", "b:1"]);
}

#[test]
fn a_flag_that_allows_what_is_not_yet_supported_is_accepted_and_says_so() {
    let accepted = run(
        Program::Nsqd,
        &["-snappy", "-deflate=true", "-max-deflate-level=9"],
    );
    assert_eq!(accepted.config, Config::default());
    assert_eq!(
        accepted.warnings,
        ["snappy", "deflate", "max-deflate-level"].map(|flag| format!(
            "-{flag}: known and not yet supported: compression; clients that ask are told so"
        ))
    );
    let off = run(
        Program::Nsqd,
        &["-snappy=false", "-deflate=false", "-tls-cert="],
    );
    assert!(off.warnings.is_empty() && off.notes.is_empty());
}

#[test]
fn bounds_of_output_buffers_become_options() {
    let broker = run(
        Program::Nsqd,
        &[
            "-max-output-buffer-size=1024",
            "-max-output-buffer-timeout=1s",
            "-min-output-buffer-timeout=5ms",
        ],
    )
    .options
    .broker;
    assert_eq!(broker.output_buffer_bytes_max, 1024);
    assert_eq!(broker.output_buffer_timeout_max, Duration::from_secs(1));
    assert_eq!(broker.output_buffer_timeout_min, Duration::from_millis(5));
}
