//! Finds the brokers of a topic through lookupds.

use std::time::Duration;

use log::warn;
use protocol::lookup::{LookupAnswer, Producer};
use protocol::names::TopicName;
use runtime::http::{FetchError, Url, fetch};
use runtime::net::Address;

use crate::limits::{LINKS_MAX, LOOKUP_BYTES_MAX, LOOKUP_TIMEOUT};
use crate::rng::Rng;

/// Asks a set of lookupds, each for itself: they know nothing of each other, so their answers are
/// merged.
#[derive(Debug)]
pub struct Discovery {
    lookupds: Vec<Url>,
    interval: Duration,
    rng: Rng,
}

impl Discovery {
    /// `lookupds` are HTTP addresses; one without a path is asked for `/lookup`.
    pub fn new(lookupds: Vec<Url>, interval: Duration, seed: u64) -> Self {
        Self {
            lookupds,
            interval,
            rng: Rng::new(seed),
        }
    }

    /// The brokers of `topic` as the lookupds that answer know them; `None` when none answers.
    pub async fn find(&mut self, topic: &TopicName) -> Option<Vec<Address>> {
        let mut found: Option<Vec<Address>> = None;
        let asked = self.lookupds.iter().map(|lookupd| ask(lookupd, topic));
        for (answer, lookupd) in runtime::join_all(asked)
            .await
            .into_iter()
            .zip(&self.lookupds)
        {
            match answer {
                Ok(answer) => merge(found.get_or_insert_default(), answer),
                Err(reason) => warn!("lookupd {lookupd}: {reason}"),
            }
        }
        found
    }

    /// Until the next round: the interval and up to 30 % more, so that many clients spread.
    pub fn pause(&mut self) -> Duration {
        let jitter = self.rng.below(300);
        self.interval
            .saturating_add(self.interval / 1000 * u32::try_from(jitter).unwrap_or(0))
    }
}

async fn ask(lookupd: &Url, topic: &TopicName) -> Result<LookupAnswer, String> {
    let url = with_topic(lookupd, topic).map_err(|error| error.to_string())?;
    let headers = [("Accept", "application/vnd.nsq; version=1.0")];
    let answer = fetch(
        "GET",
        &url,
        &headers,
        Vec::new(),
        LOOKUP_TIMEOUT,
        LOOKUP_BYTES_MAX,
    );
    let answer = answer
        .await
        .map_err(|error: FetchError| error.to_string())?;
    match answer.status {
        200 => serde_json::from_slice(&answer.body).map_err(|error| error.to_string()),
        // Nobody has the topic yet.
        404 => Ok(LookupAnswer::default()),
        status => Err(format!("status {status}")),
    }
}

fn with_topic(lookupd: &Url, topic: &TopicName) -> Result<Url, runtime::http::UrlError> {
    let (path, query) = lookupd
        .target()
        .split_once('?')
        .unwrap_or((lookupd.target(), ""));
    let path = if path == "/" { "/lookup" } else { path };
    let more = if query.is_empty() { "" } else { "&" };
    // The one character of a name that a query does not take as it is.
    let topic = topic.as_str().replace('#', "%23");
    Url::new(
        lookupd.address().clone(),
        &format!("{path}?{query}{more}topic={topic}"),
    )
}

fn merge(found: &mut Vec<Address>, answer: LookupAnswer) {
    let addresses = answer
        .producers
        .into_iter()
        .filter_map(|producer: Producer| {
            let port = u16::try_from(producer.tcp_port)
                .ok()
                .filter(|port| *port > 0)?;
            let host = producer.broadcast_address;
            (!host.is_empty()).then_some(Address::Tcp { host, port })
        });
    for address in addresses {
        if found.len() < LINKS_MAX && !found.contains(&address) {
            found.push(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_added_only_where_there_is_none_and_parameters_stay() {
        let topic = TopicName::new("t#ephemeral").unwrap();
        for (lookupd, asked) in [
            ("http://h:4161", "/lookup?topic=t%23ephemeral"),
            ("http://h:4161/?a=b", "/lookup?a=b&topic=t%23ephemeral"),
            ("http://h:4161/nsq/find", "/nsq/find?topic=t%23ephemeral"),
        ] {
            let url = with_topic(&lookupd.parse().unwrap(), &topic).unwrap();
            assert_eq!(url.target(), asked);
        }
    }

    #[test]
    fn answers_are_merged_without_doubles_and_without_nonsense() {
        let producer = |host: &str, tcp_port| Producer {
            broadcast_address: host.to_owned(),
            tcp_port,
            ..Producer::default()
        };
        let mut found = Vec::new();
        let producers = vec![producer("a", 4150), producer("", 4150), producer("b", -1)];
        merge(
            &mut found,
            LookupAnswer {
                channels: Vec::new(),
                producers,
            },
        );
        let producers = vec![producer("a", 4150), producer("a", 4152)];
        merge(
            &mut found,
            LookupAnswer {
                channels: Vec::new(),
                producers,
            },
        );
        let found: Vec<_> = found.iter().map(Address::to_string).collect();
        assert_eq!(found, ["a:4150", "a:4152"]);
    }
}
