//! The daemon over real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "panicking is how a test fails"
)]

use std::time::Duration;

use config::LookupdOptions;
use lookupd::Lookupd;
use protocol::lookup::{self, PeerInfo};
use runtime::http::{Url, fetch};
use runtime::io::{AsyncReadExt, AsyncWriteExt};
use runtime::net::{Address, Stream, connect};
use runtime::{Stop, Task, run, spawn, timer};

const PATIENCE: Duration = Duration::from_secs(10);

struct Running {
    tcp: Address,
    http: Address,
    stop: Stop,
    task: Task<()>,
}

fn start(connections_max: u32) -> Running {
    let options = LookupdOptions {
        tcp_address: "127.0.0.1:0".to_owned(),
        http_address: "127.0.0.1:0".to_owned(),
        broadcast_address: "site".to_owned(),
        inactive_producer_timeout: Duration::from_secs(300),
        tombstone_lifetime: Duration::from_secs(45),
        connections_max,
    };
    let daemon = Lookupd::bind(options).unwrap();
    let (tcp, http) = (daemon.tcp_address().clone(), daemon.http_address().clone());
    let stop = Stop::new();
    let task = spawn(daemon.run(stop.clone()));
    Running {
        tcp,
        http,
        stop,
        task,
    }
}

impl Running {
    async fn get(&self, target: &str) -> (u16, String) {
        let url = Url::new(self.http.clone(), target).unwrap();
        let fetched = fetch("GET", &url, &[], Vec::new(), PATIENCE, 1 << 20)
            .await
            .unwrap();
        if target != "/ping" {
            assert_eq!(
                fetched.header("x-nsq-content-type"),
                Some("nsq; version=1.0")
            );
        }
        (fetched.status, String::from_utf8(fetched.body).unwrap())
    }

    async fn broker(&self, name: &str) -> Stream {
        let mut stream = connect(&self.tcp, PATIENCE).await.unwrap();
        let broker = PeerInfo {
            broadcast_address: name.to_owned(),
            hostname: name.to_owned(),
            tcp_port: 4150,
            http_port: 4151,
            version: "1.3.0".to_owned(),
        };
        let mut bytes = b"  V1".to_vec();
        lookup::encode_identify(&broker, &mut bytes);
        stream.write_all(&bytes).await.unwrap();
        let own = PeerInfo::from_reply(&reply(&mut stream).await).unwrap();
        assert_eq!(Some(own.tcp_port), self.tcp.port().map(i32::from));
        assert_eq!(Some(own.http_port), self.http.port().map(i32::from));
        assert_eq!(own.broadcast_address, "site");
        stream
    }
}

async fn reply(stream: &mut Stream) -> Vec<u8> {
    let reading = async {
        let mut length = [0; 4];
        stream.read_exact(&mut length).await.unwrap();
        let mut data = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut data).await.unwrap();
        data
    };
    timer::timeout(PATIENCE, reading)
        .await
        .expect("an answer comes")
}

async fn say(stream: &mut Stream, line: &str) -> String {
    stream.write_all(line.as_bytes()).await.unwrap();
    String::from_utf8(reply(stream).await).unwrap()
}

#[test]
fn a_broker_is_found_while_its_link_lives() {
    run(async {
        let daemon = start(16);
        let mut link = daemon.broker("a").await;
        assert_eq!(say(&mut link, "REGISTER clicks uplink\n").await, "OK");
        let (status, found) = daemon.get("/lookup?topic=clicks").await;
        assert_eq!(status, 200);
        assert!(found.contains(r#""broadcast_address":"a""#), "{found}");
        assert!(found.contains(r#""channels":["uplink"]"#), "{found}");
        drop(link);
        // The daemon sees the end of the link a moment later.
        let gone = async {
            while daemon.get("/nodes").await.1 != r#"{"producers":[]}"# {
                runtime::yield_now().await;
            }
        };
        timer::timeout(PATIENCE, gone)
            .await
            .expect("the broker is forgotten");
        assert_eq!(
            daemon.get("/channels?topic=clicks").await.1,
            r#"{"channels":["uplink"]}"#
        );
    });
}

#[test]
fn a_refusal_arrives_and_closes_only_its_own_link() {
    run(async {
        let daemon = start(16);
        let (mut good, mut bad) = (daemon.broker("good").await, daemon.broker("bad").await);
        // The rest of what was sent is never read, and the answer arrives all the same.
        let flood = format!("REGISTER a$b\n{}", "x".repeat(100_000));
        bad.write_all(flood.as_bytes()).await.unwrap();
        let text = String::from_utf8(reply(&mut bad).await).unwrap();
        assert_eq!(text, "E_BAD_TOPIC REGISTER topic name 'a$b' is not valid");
        assert_eq!(bad.read(&mut [0; 1]).await.unwrap(), 0);
        assert_eq!(say(&mut good, "PING\n").await, "OK");
    });
}

#[test]
fn a_body_cut_off_by_the_end_is_told_as_nsqlookupd_tells_it() {
    run(async {
        let daemon = start(16);
        let mut stream = connect(&daemon.tcp, PATIENCE).await.unwrap();
        stream
            .write_all(b"  V1IDENTIFY\n\x00\x00\x00\x05ab")
            .await
            .unwrap();
        stream.half_close().unwrap();
        assert_eq!(
            reply(&mut stream).await,
            b"E_BAD_BODY IDENTIFY failed to read body"
        );
    });
}

#[test]
fn links_are_bounded_and_the_next_is_served_when_one_ends() {
    run(async {
        let daemon = start(4); // half of them for links
        let (first, _second) = (daemon.broker("a").await, daemon.broker("b").await);
        let mut third = connect(&daemon.tcp, PATIENCE).await.unwrap();
        third.write_all(b"  V1PING\n").await.unwrap();
        let early = timer::timeout(Duration::from_millis(50), third.readable()).await;
        assert!(early.is_err(), "the third waits");
        drop(first);
        assert_eq!(reply(&mut third).await, b"OK");
        assert_eq!(daemon.get("/ping").await, (200, "OK".to_owned()));
    });
}

#[test]
fn a_stop_closes_links_and_listeners() {
    run(async {
        let daemon = start(16);
        let mut link = daemon.broker("a").await;
        daemon.stop.request();
        timer::timeout(PATIENCE, daemon.task)
            .await
            .expect("run returns");
        assert_eq!(link.read(&mut [0; 1]).await.unwrap_or(0), 0);
        assert!(connect(&daemon.tcp, PATIENCE).await.is_err());
        assert!(connect(&daemon.http, PATIENCE).await.is_err());
    });
}
