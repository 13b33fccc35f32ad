//! The site's producers: four ways to publish, over TCP and HTTP, singles and batches, many publishes
//! under way at once. What was not answered `OK` is sent again.

use std::rc::Rc;
use std::time::Duration;

use client::backoff::Backoff;
use client::connection::is_own_fault;
use client::links::LinksOptions;
use client::rng::Rng;
use client::{Producer, ProducerOptions, PublishError};
use protocol::names::TopicName;
use runtime::http::{Url, fetch};
use runtime::net::Address;
use runtime::{Either, Task, clock, race, spawn, timer};

use super::ledger::Number;
use super::state::{Queue, State};

/// Bytes of a batch from which on nothing more is added: with one largest message on top it is below
/// the gateway's largest body.
const BATCH_BYTES: usize = 512 << 10;
const BATCH_COUNT_MAX: u64 = 40;
/// Jobs that wait for a way.
const QUEUE_MAX: usize = 4;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
const ANSWER_BYTES_MAX: usize = 4096;
/// Ceilings of the pause before sending again: the gateway of the demo is back soon.
const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_millis(200);

/// One way to publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    TcpSingles,
    TcpBatches,
    HttpSingles,
    HttpBatches,
}

impl Way {
    const ALL: [Self; 4] = [
        Self::TcpSingles,
        Self::TcpBatches,
        Self::HttpSingles,
        Self::HttpBatches,
    ];

    /// Publishes of this way under way at once.
    const fn lanes(self) -> usize {
        match self {
            Self::TcpSingles => 64,
            Self::TcpBatches => 6,
            Self::HttpSingles => 8,
            Self::HttpBatches => 2,
        }
    }

    /// Of 100 jobs, so many go this way.
    const fn share(self) -> u64 {
        match self {
            Self::TcpSingles => 75,
            Self::TcpBatches => 5,
            Self::HttpSingles => 17,
            Self::HttpBatches => 3,
        }
    }

    fn count(self, rng: &mut Rng) -> usize {
        match self {
            Self::TcpSingles | Self::HttpSingles => 1,
            Self::TcpBatches | Self::HttpBatches => {
                usize::try_from(2 + rng.below(BATCH_COUNT_MAX - 1)).unwrap_or(2)
            }
        }
    }

    fn pick(rng: &mut Rng) -> Self {
        let mut at = rng.below(100);
        for way in Self::ALL {
            match at.checked_sub(way.share()) {
                Some(rest) => at = rest,
                None => return way,
            }
        }
        Self::TcpSingles
    }
}

/// Events that are published together.
struct Job {
    numbers: Vec<Number>,
    bodies: Vec<Vec<u8>>,
}

/// What the producers do.
pub(crate) struct Plan {
    /// In the order of publishing; each has an id of its own.
    pub(crate) events: Box<dyn Iterator<Item = Vec<u8>>>,
    /// Events per second; 0 for as fast as they are answered.
    pub(crate) rate: u32,
    pub(crate) seed: u64,
    pub(crate) topic: TopicName,
    pub(crate) tcp: Address,
    pub(crate) http: Address,
}

/// Publishes all events, and sends again what has no answer. Goes on until it is dropped, or returns
/// why it cannot: an event is refused for its own sake.
pub(crate) async fn publish(plan: Plan, state: Rc<State>) -> String {
    let failure = Rc::new(Queue::new(1));
    let mut lanes: Vec<Task<()>> = Vec::new();
    let queues: Vec<(Way, Rc<Queue<Job>>)> = Way::ALL
        .into_iter()
        .map(|way| (way, Rc::new(Queue::new(QUEUE_MAX))))
        .collect();
    for (way, queue) in &queues {
        let outlet = match Outlet::new(*way, &plan) {
            Ok(outlet) => outlet,
            Err(error) => return error,
        };
        for lane in 0..way.lanes() {
            let (queue, outlet) = (Rc::clone(queue), outlet.clone());
            let (state, failure) = (Rc::clone(&state), Rc::clone(&failure));
            let mut rng = Rng::new(plan.seed ^ lane as u64);
            lanes.push(spawn(async move {
                loop {
                    let job = queue.pop().await;
                    if let Err(error) = deliver(&outlet, &job, &state, &mut rng).await {
                        failure.push(error).await;
                    }
                }
            }));
        }
    }
    match race(feed(plan, &queues, &state), failure.pop()).await {
        // The lanes are dropped with this future; until then they go on.
        Either::Left(Ok(())) => failure.pop().await,
        Either::Left(Err(error)) | Either::Right(error) => error,
    }
}

/// Deals the events out to the ways, at the wanted pace.
async fn feed(plan: Plan, queues: &[(Way, Rc<Queue<Job>>)], state: &State) -> Result<(), String> {
    let mut events = plan.events;
    let mut rng = Rng::new(plan.seed);
    let started = clock::now();
    let mut dealt = 0;
    loop {
        let way = Way::pick(&mut rng);
        let (wanted, mut bytes) = (way.count(&mut rng), 0);
        let mut bodies = Vec::with_capacity(wanted);
        while bodies.len() < wanted && bytes < BATCH_BYTES {
            let Some(body) = events.next() else { break };
            bytes += body.len();
            bodies.push(body);
        }
        if bodies.is_empty() {
            return Ok(());
        }
        let due = started.saturating_add(at_rate(dealt, plan.rate));
        if plan.rate > 0 && !state.is_rushing.get() && due > clock::now() {
            timer::sleep_until(due).await;
        }
        dealt += bodies.len() as u64;
        let numbers: Result<Vec<Number>, String> = {
            let mut ledger = state.ledger.borrow_mut();
            bodies.iter().map(|body| ledger.publish(body)).collect()
        };
        let job = Job {
            numbers: numbers?,
            bodies,
        };
        if let Some((_, queue)) = queues.iter().find(|(its, _)| *its == way) {
            queue.push(job).await;
        }
    }
}

/// How long `events` take at a rate.
pub(crate) fn at_rate(events: u64, rate: u32) -> Duration {
    let rate = u64::from(rate.max(1));
    let nanos = u128::from(events) * 1_000_000_000 / u128::from(rate);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Sends until it is answered `OK`.
async fn deliver(outlet: &Outlet, job: &Job, state: &State, rng: &mut Rng) -> Result<(), String> {
    let count = job.numbers.len() as u64;
    let mut backoff = Backoff::new(BACKOFF_MIN, BACKOFF_MAX);
    loop {
        state.unanswered.set(state.unanswered.get() + count);
        let answer = outlet.publish(&job.bodies).await;
        state.unanswered.set(state.unanswered.get() - count);
        match answer {
            Ok(()) => {
                let mut ledger = state.ledger.borrow_mut();
                for number in &job.numbers {
                    ledger.acknowledge(*number);
                }
                state.changed.notify();
                return Ok(());
            }
            Err(Failure::ForGood(reason)) => {
                return Err(format!("the gateway refuses an event: {reason}"));
            }
            Err(Failure::ForNow(reason)) => {
                state.sent_again.set(state.sent_again.get() + count);
                state.last_refusal.replace(reason);
            }
        }
        timer::sleep(backoff.fail(rng)).await;
    }
}

/// Why there was no `OK`.
enum Failure {
    ForNow(String),
    ForGood(String),
}

/// Where a way's publishes go.
#[derive(Clone)]
enum Outlet {
    Tcp(Producer, TopicName),
    Http(Url),
}

impl Outlet {
    fn new(way: Way, plan: &Plan) -> Result<Self, String> {
        let http = |path: &str| {
            let target = format!("{path}?topic={}", plan.topic.as_str());
            Url::new(plan.http.clone(), &target)
                .map(Self::Http)
                .map_err(|error| error.to_string())
        };
        match way {
            Way::HttpSingles => return http("/pub"),
            Way::HttpBatches => return http("/mpub"),
            Way::TcpSingles | Way::TcpBatches => {}
        }
        let options = ProducerOptions {
            links: LinksOptions {
                backoff_min: BACKOFF_MIN,
                backoff_max: BACKOFF_MAX,
                ..LinksOptions::default()
            },
            // The demo counts what it sends again.
            retry: false,
            timeout: ANSWER_TIMEOUT,
            seed: plan.seed,
            ..ProducerOptions::default()
        };
        let producer = Producer::connect([plan.tcp.clone()], options);
        Ok(Self::Tcp(producer, plan.topic.clone()))
    }

    async fn publish(&self, bodies: &[Vec<u8>]) -> Result<(), Failure> {
        match self {
            Self::Tcp(producer, topic) => match producer.publish(topic, bodies).await {
                Ok(()) => Ok(()),
                Err(PublishError::Refused(text)) if is_own_fault(&text) => {
                    Err(Failure::ForGood(text))
                }
                Err(error) => Err(Failure::ForNow(error.to_string())),
            },
            Self::Http(url) => {
                // One per line: JSON has no line breaks outside its strings, nor in them.
                let body = bodies.join(&b'\n');
                let answer = fetch("POST", url, &[], body, ANSWER_TIMEOUT, ANSWER_BYTES_MAX).await;
                match answer {
                    Ok(answer) if answer.status == 200 => Ok(()),
                    Ok(answer) => {
                        let body = String::from_utf8_lossy(&answer.body);
                        let text = format!("{url} answers {} {}", answer.status, body.trim());
                        match answer.status {
                            400..=499 => Err(Failure::ForGood(text)),
                            _ => Err(Failure::ForNow(text)),
                        }
                    }
                    Err(error) => Err(Failure::ForNow(error.to_string())),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ways_share_the_jobs_as_they_say() {
        assert_eq!(Way::ALL.map(Way::share).iter().sum::<u64>(), 100);
        let mut rng = Rng::new(1);
        let picked: Vec<Way> = (0..10_000).map(|_| Way::pick(&mut rng)).collect();
        for way in Way::ALL {
            let share = picked.iter().filter(|its| **its == way).count() as u64 / 100;
            assert!(share.abs_diff(way.share()) <= 2, "{way:?}: {share}");
        }
    }

    #[test]
    fn batches_have_two_events_at_least_and_their_bound_at_most() {
        let mut rng = Rng::new(1);
        let counts: Vec<usize> = (0..5_000)
            .map(|_| Way::TcpBatches.count(&mut rng))
            .collect();
        assert_eq!(counts.iter().min(), Some(&2));
        assert_eq!(counts.iter().max(), Some(&(BATCH_COUNT_MAX as usize)));
    }

    #[test]
    fn a_rate_says_when_an_event_is_due() {
        assert_eq!(at_rate(3_000, 2_000), Duration::from_millis(1_500));
        assert_eq!(at_rate(u64::MAX, 1), Duration::from_nanos(u64::MAX));
    }
}
