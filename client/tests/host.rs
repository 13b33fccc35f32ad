//! Producer and consumer over real sockets, against a broker of a few lines.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use client::{Consumer, ConsumerOptions, Producer, ProducerOptions, PublishError};
use protocol::Progress;
use protocol::command::{Bounds, Command, Parser, Situation, State};
use protocol::frame::{self, Message};
use protocol::id::MessageId;
use protocol::lookup::{LookupAnswer, Producer as Registered};
use protocol::names::{ChannelName, TopicName};
use runtime::http::{self, Limits, Response};
use runtime::io::{AsyncReadExt, AsyncWriteExt};
use runtime::net::{Address, Listener, Stream};
use runtime::{Stop, Task, join_all, spawn, timer};

/// What all connections of the little broker share.
#[derive(Default)]
struct Seen {
    published: RefCell<BTreeSet<Vec<u8>>>,
    finished: RefCell<BTreeSet<u64>>,
    connections: Cell<usize>,
    closed: Cell<usize>,
    /// Every so many publishes a connection breaks before their answer.
    break_every: Cell<usize>,
    publishes: Cell<usize>,
    /// Messages to deliver.
    to_deliver: Cell<u64>,
}

fn broker() -> (Address, Rc<Seen>, Task<()>) {
    let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_address().unwrap();
    let seen = Rc::new(Seen::default());
    let shared = Rc::clone(&seen);
    let task = spawn(async move {
        let mut sessions = Vec::new();
        loop {
            let stream = listener.accept().await;
            shared.connections.set(shared.connections.get() + 1);
            let shared = Rc::clone(&shared);
            sessions.push(spawn(async move {
                serve(stream, &shared).await;
                shared.closed.set(shared.closed.get() + 1);
            }));
        }
    });
    (address, seen, task)
}

/// Until the client ends or the connection breaks.
async fn serve(mut stream: Stream, seen: &Seen) {
    let (mut parser, mut state) = (Parser::new(), State::Init);
    let mut buffer = vec![0; 4];
    if stream.read_exact(&mut buffer).await.is_err() {
        return;
    }
    buffer.clear();
    let mut chunk = [0; 4096];
    loop {
        let Ok(bytes @ 1..) = stream.read(&mut chunk).await else {
            return;
        };
        buffer.extend_from_slice(&chunk[..bytes]);
        let mut out = Vec::new();
        while let Progress::Done { value, consumed } = parser
            .parse(
                &buffer,
                Situation {
                    state,
                    heartbeats: true,
                },
                &Bounds::default(),
            )
            .unwrap()
        {
            match value {
                Command::Subscribe { .. } => {
                    state = State::Subscribed;
                    out.extend_from_slice(frame::OK_FRAME);
                }
                Command::Ready { count: 1.. } => {
                    for n in 0..seen.to_deliver.take() {
                        let id = MessageId(n).to_wire();
                        let body = n.to_string();
                        let body = body.as_bytes();
                        let message = Message {
                            timestamp_ns: 1,
                            attempts: 1,
                            id,
                            body,
                        };
                        frame::encode_message(&message, &mut out);
                    }
                }
                Command::Finish { id } => {
                    seen.finished
                        .borrow_mut()
                        .insert(id.message_id().unwrap().0);
                }
                Command::Close => {
                    state = State::Closing;
                    out.extend_from_slice(frame::CLOSE_WAIT_FRAME);
                }
                Command::Publish { body, .. } => {
                    seen.publishes.set(seen.publishes.get() + 1);
                    let every = seen.break_every.get();
                    if every > 0 && seen.publishes.get() % every == 0 {
                        let _sent = stream.write_all(&out).await;
                        return;
                    }
                    seen.published.borrow_mut().insert(body.to_vec());
                    out.extend_from_slice(frame::OK_FRAME);
                }
                Command::Identify { .. } => out.extend_from_slice(frame::OK_FRAME),
                _ => {}
            }
            buffer.drain(..consumed);
        }
        if stream.write_all(&out).await.is_err() {
            return;
        }
    }
}

fn topic() -> TopicName {
    TopicName::new("t").unwrap()
}

fn channel() -> ChannelName {
    ChannelName::new("c").unwrap()
}

fn fast() -> ProducerOptions {
    let mut options = ProducerOptions::default();
    options.links.backoff_min = Duration::from_millis(1);
    options.links.backoff_max = Duration::from_millis(5);
    options
}

/// Fails instead of hanging.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    timer::timeout(Duration::from_secs(20), future)
        .await
        .unwrap()
}

#[test]
fn every_publish_arrives_though_connections_break_all_the_time() {
    runtime::run(async {
        let (address, seen, _broker) = broker();
        seen.break_every.set(7);
        let producer = Producer::connect([address], fast());
        let bodies: Vec<String> = (0..200).map(|n| format!("event {n}")).collect();
        let topic = topic();
        let publishes = bodies.iter().map(|body| {
            let (producer, topic) = (producer.clone(), topic.clone());
            async move { producer.publish(&topic, &[body]).await }
        });
        for outcome in soon(join_all(publishes)).await {
            assert_eq!(outcome, Ok(()));
        }
        assert_eq!(seen.published.borrow().len(), 200);
        assert!(
            seen.connections.get() > 20,
            "{} connections",
            seen.connections.get()
        );
        soon(producer.close()).await;
        assert_eq!(
            producer.publish(&topic, &["late"]).await,
            Err(PublishError::Closed)
        );
    });
}

#[test]
fn a_producer_waits_for_a_broker_that_is_not_there_yet() {
    runtime::run(async {
        let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_address().unwrap();
        drop(listener);
        let mut options = fast();
        options.timeout = Duration::from_millis(50);
        let producer = Producer::connect([address], options);
        assert_eq!(
            soon(producer.publish(&topic(), &["x"])).await,
            Err(PublishError::TimedOut)
        );
        assert!(!producer.is_connected());
    });
}

#[test]
fn a_consumer_finds_its_broker_takes_all_and_ends_in_order() {
    runtime::run(async {
        let (address, seen, _broker) = broker();
        seen.to_deliver.set(50);
        let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
        let lookupd = listener.local_address().unwrap();
        let stop = Stop::new();
        let port = i32::from(address.port().unwrap());
        let serving = spawn(http::serve(listener, Limits::default(), stop.clone(), {
            move |request: http::Request| async move {
                assert_eq!((request.path(), request.query()), ("/lookup", "topic=t"));
                let broker = Registered {
                    broadcast_address: "127.0.0.1".to_owned(),
                    tcp_port: port,
                    ..Registered::default()
                };
                let answer = LookupAnswer {
                    channels: Vec::new(),
                    producers: vec![broker],
                };
                Response::new(200).with_body(serde_json::to_vec(&answer).unwrap())
            }
        }));
        let lookupds = vec![format!("http://{lookupd}").parse().unwrap()];
        let options = ConsumerOptions {
            lookupds,
            ..ConsumerOptions::default()
        };
        let consumer = Consumer::subscribe(&topic(), &channel(), options);
        soon(consumer.subscribed()).await;
        for n in 0..50 {
            let delivery = soon(consumer.next()).await;
            assert_eq!(
                (delivery.body(), delivery.attempts()),
                (n.to_string().as_bytes(), 1)
            );
            delivery.finish();
        }
        soon(consumer.close(Duration::from_secs(5))).await;
        assert_eq!(seen.finished.borrow().len(), 50);
        assert_eq!((seen.connections.get(), seen.closed.get()), (1, 1));
        stop.request();
        soon(serving).await;
    });
}

#[test]
fn dropping_a_producer_ends_its_connections() {
    runtime::run(async {
        let (address, seen, _broker) = broker();
        let producer = Producer::connect([address], fast());
        soon(producer.connected()).await;
        assert_eq!(seen.closed.get(), 0);
        drop(producer);
        soon(async {
            while seen.closed.get() == 0 {
                runtime::yield_now().await;
            }
        })
        .await;
    });
}
