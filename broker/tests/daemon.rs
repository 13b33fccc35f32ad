//! The daemon on real sockets and a real directory.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "panicking is how a test fails"
)]

use std::path::Path;
use std::time::Duration;

use broker::{Broker, StartError};
use config::{BrokerOptions, Config, Environment};
use protocol::Progress;
use protocol::frame::{Frame, decode};
use protocol::names::{ChannelName, TopicName};
use runtime::http::{Fetched, Url, fetch};
use runtime::io::{AsyncReadExt, AsyncWriteExt};
use runtime::net::{Address, Stream, connect};
use runtime::{Stop, Task, spawn, timer};

const PATIENCE: Duration = Duration::from_secs(20);

fn options(directory: &Path) -> BrokerOptions {
    let mut config = Config::default();
    for setting in [
        format!("data_path = {:?}", directory.display()),
        "broker.tcp_address = \"127.0.0.1:0\"".to_owned(),
        "broker.http_address = \"127.0.0.1:0\"".to_owned(),
        "ring.bytes = \"2MiB\"".to_owned(),
    ] {
        config.set(&setting).unwrap();
    }
    let environment = Environment {
        hostname: "here".to_owned(),
        ..Environment::default()
    };
    config.resolve(&environment).unwrap().broker
}

/// A broker that runs, and the way to end it.
struct Running {
    tcp: Address,
    http: Address,
    stop: Stop,
    task: Task<()>,
}

impl Running {
    fn start(options: &BrokerOptions) -> Running {
        let broker = Broker::bind(options, &[]).unwrap();
        let (tcp, http) = (broker.tcp_address().clone(), broker.http_address().clone());
        let stop = Stop::new();
        let task = spawn(broker.run(stop.clone()));
        Running {
            tcp,
            http,
            stop,
            task,
        }
    }

    async fn end(self) {
        self.stop.request();
        timer::timeout(PATIENCE, self.task).await.unwrap();
    }

    async fn client(&self) -> Client {
        let mut stream = connect(&self.tcp, PATIENCE).await.unwrap();
        stream.write_all(b"  V2").await.unwrap();
        Client {
            stream,
            received: Vec::new(),
        }
    }

    async fn http(&self, method: &str, target: &str, body: &[u8]) -> Fetched {
        let url = Url::new(self.http.clone(), target).unwrap();
        fetch(method, &url, &[], body.to_vec(), PATIENCE, 1 << 20)
            .await
            .unwrap()
    }
}

struct Client {
    stream: Stream,
    received: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
enum Got {
    Response(String),
    Error(String),
    Message(Vec<u8>, String),
    End,
}

impl Client {
    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    async fn next(&mut self) -> Got {
        timer::timeout(PATIENCE, self.read()).await.unwrap()
    }

    async fn read(&mut self) -> Got {
        loop {
            if let Progress::Done { value, consumed } = decode(&self.received, 1 << 24).unwrap() {
                let text = |data: &[u8]| String::from_utf8_lossy(data).into_owned();
                let got = match value {
                    Frame::Response(data) => Got::Response(text(data)),
                    Frame::Error(data) => Got::Error(text(data)),
                    Frame::Message(message) => {
                        Got::Message(message.id.0.to_vec(), text(message.body))
                    }
                };
                self.received.drain(..consumed);
                return got;
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk).await {
                Ok(0) | Err(_) => return Got::End,
                Ok(bytes) => self.received.extend_from_slice(&chunk[..bytes]),
            }
        }
    }

    async fn ok(&mut self) {
        assert_eq!(self.next().await, Got::Response("OK".into()));
    }

    async fn message(&mut self) -> (Vec<u8>, String) {
        match self.next().await {
            Got::Message(id, body) => (id, body),
            other => panic!("{other:?} instead of a message"),
        }
    }

    async fn finish(&mut self, id: &[u8]) {
        self.send(&[b"FIN ", id, b"\n"].concat()).await;
    }
}

fn publish(topic: &str, body: &[u8]) -> Vec<u8> {
    let size = (body.len() as u32).to_be_bytes();
    [format!("PUB {topic}\n").as_bytes(), &size, body].concat()
}

#[test]
fn messages_come_over_tcp_and_http_and_are_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path());
    runtime::run(async {
        let broker = Running::start(&options);
        let mut producer = broker.client().await;
        producer.send(&publish("t", b"one")).await;
        producer.ok().await;
        assert_eq!(
            broker.http("POST", "/pub?topic=t", b"two").await.body,
            b"OK"
        );
        assert_eq!(
            broker
                .http("POST", "/mpub?topic=t", b"three\nfour\n")
                .await
                .body,
            b"OK"
        );
        let mut consumer = broker.client().await;
        consumer.send(b"SUB t c\nRDY 2\n").await;
        consumer.ok().await;
        let (first, body) = consumer.message().await;
        assert_eq!(body, "one");
        consumer.message().await;
        consumer.finish(&first).await;
        assert_eq!(consumer.message().await.1, "three");
        broker.end().await;
        assert_eq!(consumer.next().await, Got::End);

        let broker = Running::start(&options);
        let mut consumer = broker.client().await;
        consumer.send(b"SUB t c\nRDY 10\n").await;
        consumer.ok().await;
        for expected in ["two", "three", "four"] {
            assert_eq!(consumer.message().await.1, expected);
        }
        broker.end().await;
    });
}

#[test]
fn a_second_start_on_the_same_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path());
    let first = Broker::bind(&options, &[]).unwrap();
    let Err(error) = Broker::bind(&options, &[]) else {
        panic!("two brokers on one directory")
    };
    assert!(matches!(error, StartError::DataPath { .. }));
    let text = error.to_string();
    assert!(
        text.contains(&directory.path().display().to_string()),
        "{text}"
    );
    drop(first);
    Broker::bind(&options, &[]).unwrap();
}

#[test]
fn channels_that_shall_be_there_get_the_first_message() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path());
    let route = (
        TopicName::new("t").unwrap(),
        ChannelName::new("uplink").unwrap(),
    );
    runtime::run(async {
        let broker = Broker::bind(&options, &[route]).unwrap();
        let (tcp, http) = (broker.tcp_address().clone(), broker.http_address().clone());
        let stop = Stop::new();
        let task = spawn(broker.run(stop.clone()));
        let broker = Running {
            tcp,
            http,
            stop,
            task,
        };
        let mut client = broker.client().await;
        client.send(b"SUB t other\nRDY 1\n").await;
        client.ok().await;
        client.send(&publish("t", b"x")).await;
        // The message may overtake the answer: both are of one commit.
        let mut got = [client.next().await, client.next().await];
        got.sort_by_key(|got| matches!(got, Got::Message(..)));
        assert!(matches!(&got[1], Got::Message(_, body) if body == "x"));
        let stats = broker
            .http("GET", "/stats?format=json&topic=t&channel=uplink", b"")
            .await;
        let stats: serde_json::Value = serde_json::from_slice(&stats.body).unwrap();
        assert_eq!(stats["topics"][0]["channels"][0]["depth"], 1);
        assert!(stats["storage"]["syncs"].as_u64() > Some(0));
        broker.end().await;
    });
}

#[test]
fn a_large_message_passes_and_a_larger_one_is_refused_without_being_read() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path());
    runtime::run(async {
        let broker = Running::start(&options);
        let mut client = broker.client().await;
        let body = vec![b'x'; 1 << 20];
        client.send(&publish("t", &body)).await;
        client.ok().await;
        client.send(b"SUB t c\nRDY 1\n").await;
        client.ok().await;
        let (id, received) = client.message().await;
        assert!(received.as_bytes() == body);
        client.finish(&id).await;
        client.send(b"PUB t\n\0\x10\0\x01only this").await;
        let text = "E_BAD_MESSAGE PUB message too big 1048577 > 1048576";
        assert_eq!(client.next().await, Got::Error(text.into()));
        assert_eq!(client.next().await, Got::End);
        broker.end().await;
    });
}

#[test]
fn http_answers_are_those_of_nsqd() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path());
    runtime::run(async {
        let broker = Running::start(&options);
        for (method, target, body, status, text) in HTTP {
            let fetched = broker.http(method, target, body).await;
            let expected = match status {
                200 => text.to_owned(),
                _ => format!("{{\"message\":\"{text}\"}}"),
            };
            let answer = (
                fetched.status,
                String::from_utf8_lossy(&fetched.body).into_owned(),
            );
            assert_eq!(answer, (status, expected), "{method} {target}");
            let version = fetched.header("X-NSQ-Content-Type");
            assert_eq!(version.is_none(), target == "/ping", "{method} {target}");
        }
        let text = String::from_utf8(broker.http("GET", "/stats", b"").await.body).unwrap();
        assert!(text.contains("[t              ] depth: "), "{text}");
        broker.end().await;
    });
}

/// One byte more than a message may have.
static LARGE: [u8; (1 << 20) + 1] = [b'x'; (1 << 20) + 1];

/// Method, target and body of a request; status of the answer and what it says.
static HTTP: [(&str, &str, &[u8], u16, &str); 33] = [
    ("GET", "/ping", b"", 200, "OK"),
    ("GET", "/nope", b"", 404, "NOT_FOUND"),
    ("GET", "/pub", b"", 405, "METHOD_NOT_ALLOWED"),
    ("POST", "/pub?topic=t", b"x", 200, "OK"),
    ("POST", "/pub?topic=t", b"", 400, "MSG_EMPTY"),
    ("POST", "/pub?topic=t", &LARGE, 413, "MSG_TOO_BIG"),
    ("POST", "/pub", b"x", 400, "MISSING_ARG_TOPIC"),
    ("POST", "/pub?topic=a$", b"x", 400, "INVALID_TOPIC"),
    ("POST", "/pub?topic=t&defer=50", b"x", 200, "OK"),
    ("POST", "/pub?topic=t&defer=-1", b"x", 400, "INVALID_DEFER"),
    ("POST", "/pub?topic=t&defer=1.5", b"x", 400, "INVALID_DEFER"),
    (
        "POST",
        "/pub?topic=t&defer=3600001",
        b"x",
        400,
        "INVALID_DEFER",
    ),
    ("POST", "/pub?topic=%zz", b"x", 400, "INVALID_REQUEST"),
    ("POST", "/mpub?topic=t", b"a\n\nb", 200, "OK"),
    ("POST", "/mpub?topic=t", b"", 200, "OK"),
    ("POST", "/mpub?topic=t", &LARGE, 413, "MSG_TOO_BIG"),
    (
        "POST",
        "/mpub?topic=t&binary=x",
        b"\0\0\0\x01\0\0\0\x01x",
        200,
        "OK",
    ),
    ("POST", "/mpub?topic=t&binary", b"\0\0\0\0", 413, "BAD_BODY"),
    (
        "POST",
        "/mpub?topic=t&binary=1",
        b"\0\0\0\x01\0\0\0\0",
        413,
        "BAD_MESSAGE",
    ),
    ("POST", "/mpub?topic=t&binary=false", b"\0\0", 200, "OK"),
    ("POST", "/topic/create?topic=k", b"", 200, ""),
    ("POST", "/topic/empty?topic=a$", b"", 400, "INVALID_TOPIC"),
    ("POST", "/topic/pause?topic=a$", b"", 404, "TOPIC_NOT_FOUND"),
    ("POST", "/topic/pause?topic=k", b"", 200, ""),
    ("POST", "/topic/unpause?topic=k", b"", 200, ""),
    (
        "POST",
        "/channel/create?topic=none&channel=c",
        b"",
        404,
        "TOPIC_NOT_FOUND",
    ),
    (
        "POST",
        "/channel/create?topic=k",
        b"",
        400,
        "MISSING_ARG_CHANNEL",
    ),
    (
        "POST",
        "/channel/create?topic=k&channel=c$",
        b"",
        400,
        "INVALID_ARG_CHANNEL",
    ),
    ("POST", "/channel/create?topic=k&channel=c", b"", 200, ""),
    (
        "POST",
        "/channel/empty?topic=k&channel=d",
        b"",
        404,
        "CHANNEL_NOT_FOUND",
    ),
    ("POST", "/channel/delete?topic=k&channel=c", b"", 200, ""),
    ("POST", "/topic/delete?topic=k", b"", 200, ""),
    ("POST", "/topic/delete?topic=k", b"", 404, "TOPIC_NOT_FOUND"),
];
