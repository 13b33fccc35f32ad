//! Those who count clicks per campaign: two that share a channel of the gateway, one upstream.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use client::links::LinksOptions;
use client::{Consumer, ConsumerOptions};
use protocol::names::{ChannelName, TopicName};
use runtime::net::Address;
use runtime::{Task, spawn};

use super::ledger::{Campaigns, End};
use super::state::State;

/// Ceilings of the pause before connecting again.
const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_millis(200);
/// The shortest that nsqd grants: a demo is watched.
const OUTPUT_BUFFER_TIMEOUT: Duration = Duration::from_millis(25);
const IN_FLIGHT_MAX: u32 = 500;

/// One consumer's own count of distinct clicks per campaign.
pub(crate) type Tally = Rc<RefCell<Campaigns>>;

/// A consumer that counts. It ends when it is dropped.
pub(crate) struct Counter {
    consumer: Rc<Consumer>,
    _task: Task<()>,
}

/// What a consumer consumes.
pub(crate) struct Source<'a> {
    pub(crate) end: End,
    pub(crate) topic: &'a TopicName,
    pub(crate) channel: &'a ChannelName,
    pub(crate) address: &'a Address,
}

impl Counter {
    /// Subscribes and counts.
    pub(crate) fn start(source: &Source<'_>, tally: &Tally, seed: u64, state: &Rc<State>) -> Self {
        let mut links = LinksOptions {
            backoff_min: BACKOFF_MIN,
            backoff_max: BACKOFF_MAX,
            ..LinksOptions::default()
        };
        links.connection.output_buffer_timeout = OUTPUT_BUFFER_TIMEOUT;
        links.connection.client_id = "nsq-edge-demo".to_owned();
        let options = ConsumerOptions {
            links,
            in_flight_max: IN_FLIGHT_MAX,
            addresses: vec![source.address.clone()],
            seed,
            ..ConsumerOptions::default()
        };
        let consumer = Rc::new(Consumer::subscribe(source.topic, source.channel, options));
        let task = spawn(count(
            Rc::clone(&consumer),
            Rc::clone(tally),
            source.end,
            Rc::clone(state),
        ));
        Self {
            consumer,
            _task: task,
        }
    }

    /// Waits until the channel is there and this one gets of it.
    pub(crate) async fn subscribed(&self) {
        self.consumer.subscribed().await;
    }
}

async fn count(consumer: Rc<Consumer>, tally: Tally, end: End, state: Rc<State>) {
    loop {
        let delivery = consumer.next().await;
        // At-least-once: who counts looks at the id first. A real one keeps the ids that it counted
        // last; here the ledger has them all.
        let first = state.ledger.borrow_mut().arrive(end, delivery.body());
        if let Some(campaign) = first {
            *tally.borrow_mut().entry(campaign).or_default() += 1;
        }
        delivery.finish();
        state.changed.notify();
    }
}

/// The sum of what several counted.
pub(crate) fn together<'a>(tallies: impl IntoIterator<Item = &'a Tally>) -> Campaigns {
    let mut sum = Campaigns::new();
    for tally in tallies {
        for (campaign, clicks) in tally.borrow().iter() {
            *sum.entry(campaign.clone()).or_default() += clicks;
        }
    }
    sum
}
