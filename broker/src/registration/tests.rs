//! The links against a lookupd of ten lines, over real sockets.

use std::collections::BTreeMap;

use runtime::http::{self, Response};
use runtime::net::Listener;
use runtime::{Task, run};

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

fn listener() -> (Listener, Address) {
    let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_address().unwrap();
    (listener, address)
}

/// Reads lines from a connection; IDENTIFY comes with its body.
async fn line(stream: &Stream, buffer: &mut Vec<u8>) -> String {
    let reading = async {
        loop {
            if let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let mut length = end + 1;
                if buffer.starts_with(b"  V1IDENTIFY") && buffer.len() >= length + 4 {
                    let body = u32::from_be_bytes(buffer[length..length + 4].try_into().unwrap());
                    length += 4 + body as usize;
                }
                let complete = !buffer.starts_with(b"  V1") || length > end + 1;
                if complete && buffer.len() >= length {
                    let line: Vec<u8> = buffer.drain(..length).collect();
                    return String::from_utf8_lossy(&line[..end]).into_owned();
                }
            }
            assert!(
                stream.read_into(buffer, 4096).await.unwrap() > 0,
                "the link is closed"
            );
        }
    };
    timer::timeout(PATIENCE, reading)
        .await
        .expect("a line comes")
}

async fn answer(stream: &mut Stream, data: &[u8]) {
    let mut out = Vec::new();
    protocol::lookup::encode_reply(data, &mut out);
    stream.write_all(&out).await.unwrap();
}

fn lookupd(http_port: u16) -> Vec<u8> {
    let lookupd = PeerInfo {
        broadcast_address: "host.invalid".to_owned(),
        hostname: "lk".to_owned(),
        tcp_port: 4160,
        http_port: i32::from(http_port),
        version: "1.3.0".to_owned(),
    };
    lookupd.to_json()
}

struct World {
    topics: Rc<RefCell<BTreeMap<String, Vec<String>>>>,
    changed: Notify,
    lookup: Lookup,
    stop: Stop,
    task: Task<()>,
}

impl World {
    fn start(addresses: Vec<String>) -> World {
        let topics: Rc<RefCell<BTreeMap<String, Vec<String>>>> = Rc::default();
        let source = Rc::clone(&topics);
        let source = move || {
            let topics = source.borrow();
            let parse = |name: &String| name.parse().unwrap();
            let all = topics.iter().map(|(topic, channels)| {
                (topic.parse().unwrap(), channels.iter().map(parse).collect())
            });
            all.collect()
        };
        let identity = Identity {
            broadcast_address: "gw".to_owned(),
            hostname: "gw".to_owned(),
            tcp_port: 4150,
            http_port: 4151,
            version: "1.3.0".to_owned(),
        };
        let (changed, stop) = (Notify::new(), Stop::new());
        let registration = Registration::new(addresses, identity, Rc::new(source), changed.clone());
        let lookup = registration.lookup();
        let task = spawn(registration.run(stop.clone()));
        World {
            topics,
            changed,
            lookup,
            stop,
            task,
        }
    }

    fn set(&self, topic: &str, channels: &[&str]) {
        let channels = channels.iter().map(|name| (*name).to_owned()).collect();
        self.topics.borrow_mut().insert(topic.to_owned(), channels);
        self.changed.notify();
    }
}

#[test]
fn a_broker_registers_its_topics_its_changes_and_everything_again_after_a_reconnect() {
    run(async {
        let (listener, address) = listener();
        let world = World::start(vec![address.to_string()]);
        world.set("t", &["a"]);
        let mut stream = timer::timeout(PATIENCE, listener.accept()).await.unwrap();
        let mut buffer = Vec::new();
        assert_eq!(line(&stream, &mut buffer).await, "  V1IDENTIFY");
        answer(&mut stream, &lookupd(1)).await;
        assert_eq!(line(&stream, &mut buffer).await, "REGISTER t a");
        world.set("t", &["b"]); // while the answer is owed
        assert_eq!(line(&stream, &mut buffer).await, "UNREGISTER t a");
        assert_eq!(line(&stream, &mut buffer).await, "REGISTER t b");
        for _ in 0..3 {
            answer(&mut stream, b"OK").await;
        }
        world.set("u", &[]);
        assert_eq!(line(&stream, &mut buffer).await, "REGISTER u");
        drop(stream);
        let mut stream = timer::timeout(PATIENCE, listener.accept()).await.unwrap();
        let mut buffer = Vec::new();
        assert_eq!(line(&stream, &mut buffer).await, "  V1IDENTIFY");
        answer(&mut stream, &lookupd(1)).await;
        assert_eq!(line(&stream, &mut buffer).await, "REGISTER t b");
        assert_eq!(line(&stream, &mut buffer).await, "REGISTER u");
        world.stop.request();
        world.task.await;
        assert_eq!(
            stream.read_into(&mut buffer, 9).await.unwrap(),
            0,
            "the link is closed"
        );
    });
}

#[test]
fn a_lookupd_that_is_away_or_misconfigured_does_not_keep_others_from_being_served() {
    run(async {
        let (gone, nobody) = listener();
        drop(gone);
        let (listener, address) = listener();
        let addresses = [
            "no-address".to_owned(),
            nobody.to_string(),
            address.to_string(),
        ];
        let world = World::start(addresses.to_vec());
        let mut stream = timer::timeout(PATIENCE, listener.accept()).await.unwrap();
        let mut buffer = Vec::new();
        assert_eq!(line(&stream, &mut buffer).await, "  V1IDENTIFY");
        answer(&mut stream, b"OK").await; // an old one, that does not say who it is
        world.set("t", &[]);
        assert_eq!(line(&stream, &mut buffer).await, "REGISTER t");
        // And nobody waits for what it has never said.
        let topic = "t".parse().unwrap();
        let asking = world.lookup.channels(&topic);
        let asked = timer::timeout(LOOKUP_TIME_MAX / 2, asking).await;
        assert_eq!(asked, Ok(Vec::new()));
        drop(world.task);
    });
}

#[test]
fn the_channels_of_a_new_topic_are_those_that_any_lookupd_knows() {
    run(async {
        let (tcp, address) = listener();
        let (http_listener, http_address) = listener();
        let stop = Stop::new();
        let answer_channels = |request: http::Request| async move {
            assert_eq!(
                (request.path(), request.query()),
                ("/channels", "topic=t%23ephemeral")
            );
            Response::new(200).with_body(r#"{"channels":["b","a","e#ephemeral","not valid","a"]}"#)
        };
        let limits = http::Limits::default();
        let serving = spawn(http::serve(
            http_listener,
            limits,
            stop.clone(),
            answer_channels,
        ));
        let world = World::start(vec![address.to_string()]);
        let lookup = world.lookup.clone();
        // Asked before the link is up: the question waits for it.
        let asking = spawn(async move { lookup.channels(&"t#ephemeral".parse().unwrap()).await });
        let mut stream = timer::timeout(PATIENCE, tcp.accept()).await.unwrap();
        let mut buffer = Vec::new();
        line(&stream, &mut buffer).await;
        // The address that it tells of itself leads nowhere; where we reached it does.
        answer(&mut stream, &lookupd(http_address.port().unwrap())).await;
        let channels = asking.await;
        let names: Vec<_> = channels.iter().map(ChannelName::as_str).collect();
        assert_eq!(names, ["a", "b"]);
        drop(serving);
    });
}

#[test]
fn without_a_lookupd_that_answers_a_topic_has_to_wait_for_2_seconds_at_most() {
    run(async {
        let (gone, nobody) = listener();
        drop(gone);
        let world = World::start(vec![nobody.to_string()]);
        let start = clock::now();
        assert!(
            world
                .lookup
                .channels(&"t".parse().unwrap())
                .await
                .is_empty()
        );
        let (_silent, silent_address) = listener(); // accepts in the kernel and never answers
        let world = World::start(vec![silent_address.to_string()]);
        assert!(
            world
                .lookup
                .channels(&"t".parse().unwrap())
                .await
                .is_empty()
        );
        let took = clock::now() - start;
        assert!(
            took >= LOOKUP_TIME_MAX && took < 3 * LOOKUP_TIME_MAX,
            "{took:?}"
        );
        let none = World::start(Vec::new());
        assert!(none.lookup.channels(&"t".parse().unwrap()).await.is_empty());
    });
}
