//! Publishes to a broker and consumes it all again, some of it after a requeue, then says how it
//! went; exits 1 if anything is missing.
//!
//!     round_trip NSQD_HOST:PORT [COUNT] [LOOKUPD_URL]
//!
//! With a lookupd the consumer finds the broker there.

use std::collections::BTreeMap;
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use client::{Consumer, ConsumerOptions, Producer, ProducerOptions};
use protocol::names::{ChannelName, TopicName};
use runtime::net::Address;
use runtime::{clock, join_all, timer};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match runtime::run(round_trip(&arguments)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn round_trip(arguments: &[String]) -> Result<bool, Box<dyn Error>> {
    let address: Address = arguments
        .first()
        .map_or("127.0.0.1:4150", String::as_str)
        .parse()?;
    let count: usize = arguments.get(1).map_or("1000", String::as_str).parse()?;
    let topic = TopicName::new(&format!("round_trip.{}", clock::now().as_nanos()))?;
    let channel = ChannelName::new("c")?;
    let mut options = ConsumerOptions {
        in_flight_max: 50,
        ..ConsumerOptions::default()
    };
    match arguments.get(2) {
        Some(lookupd) => options.lookupds.push(lookupd.parse()?),
        None => options.addresses.push(address.clone()),
    }
    options.lookup_interval = Duration::from_millis(500);
    let producer = Producer::connect([address], ProducerOptions::default());
    // The topic is there before the lookupd is asked.
    producer.publish(&topic, &["first"]).await?;
    let consumer = Consumer::subscribe(&topic, &channel, options);

    let bodies: Vec<String> = (0..count).map(|n| format!("message {n}")).collect();
    let started = clock::now();
    let batches = bodies
        .chunks(7)
        .map(|batch| producer.publish(&topic, batch));
    for outcome in join_all(batches).await {
        outcome?;
    }
    println!("published {count} in {:?}", clock::now() - started);

    let started = clock::now();
    let (mut seen, mut requeued, mut deliveries) = (BTreeMap::new(), 0, 0);
    while seen.len() <= count {
        let Ok(delivery) = timer::timeout(Duration::from_secs(10), consumer.next()).await else {
            println!("nothing came for 10 s");
            break;
        };
        deliveries += 1;
        let body = String::from_utf8(delivery.body().to_vec())?;
        if delivery.attempts() == 1 && body.ends_with('3') {
            requeued += 1;
            delivery.requeue(Duration::ZERO);
            continue;
        }
        *seen.entry(body).or_insert(0) += 1;
        delivery.finish();
    }
    println!(
        "{deliveries} deliveries in {:?}, {requeued} requeued",
        clock::now() - started
    );
    consumer.close(Duration::from_secs(5)).await;
    producer.close().await;
    let missing = bodies
        .iter()
        .filter(|body| !seen.contains_key(*body))
        .count();
    let twice = seen.values().filter(|times| **times > 1).count();
    println!("{missing} missing, {twice} twice");
    Ok(missing == 0 && deliveries == count + 1 + requeued)
}
