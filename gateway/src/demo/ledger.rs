//! What became of each event, by its own id: published, acknowledged, arrived at both ends. It grows
//! with the number of events and with nothing else.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hasher};

use serde::Deserialize;
use serde_json::Value;

/// Where events arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// A consumer of the upstream's topic.
    Upstream,
    /// The consumers of the gateway's channel `count`.
    Local,
}

/// An event's number: its place in the order of publishing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Number(u32);

/// Events per campaign.
pub(crate) type Campaigns = BTreeMap<String, u64>;

/// What of an event matters here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// `demo_id`, or else `id`; a text or a number.
    pub(crate) id: Option<String>,
    /// `campaign`; `-` for events that have none.
    pub(crate) campaign: String,
}

/// Looks at an event.
///
/// # Errors
/// It is no JSON object.
pub(crate) fn look(body: &[u8]) -> Result<Look, String> {
    #[derive(Deserialize)]
    struct Fields {
        demo_id: Option<Value>,
        id: Option<Value>,
        campaign: Option<Value>,
    }
    // An array would be taken for the fields in their order.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err("no JSON object".to_owned());
    }
    let fields: Fields = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let text = |value: Value| match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    Ok(Look {
        id: fields.demo_id.and_then(text).or(fields.id.and_then(text)),
        campaign: fields.campaign.and_then(text).unwrap_or("-".to_owned()),
    })
}

/// The sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Events that a producer took to send.
    pub(crate) published: u64,
    /// Events that the gateway answered `OK` for.
    pub(crate) acknowledged: u64,
    /// Events that arrived upstream at least once, and how often more.
    pub(crate) upstream: Arrivals,
    /// The same for the local consumers.
    pub(crate) local: Arrivals,
    /// What arrived and was not published like that: another body, or no id that is known.
    pub(crate) altered: u64,
    /// Acknowledged events that are not upstream yet.
    pub(crate) buffered: u64,
}

/// How much arrived at one end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arrivals {
    /// Distinct events.
    pub(crate) events: u64,
    /// Deliveries beyond the first of an event.
    pub(crate) duplicates: u64,
    /// Distinct events that are acknowledged too.
    pub(crate) acknowledged: u64,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Ledger {
    numbers: HashMap<Box<str>, u32>,
    entries: Vec<Entry>,
    totals: Totals,
    /// Of acknowledged events.
    campaigns: Campaigns,
}

struct Entry {
    /// Of the body.
    hash: u64,
    campaign: Box<str>,
    acknowledged: bool,
    upstream: bool,
    local: bool,
}

impl Ledger {
    /// Enters an event that is about to be published.
    ///
    /// # Errors
    /// It has no id, or one that was there already: it could not be told from another.
    pub(crate) fn publish(&mut self, body: &[u8]) -> Result<Number, String> {
        let look = look(body)?;
        let id = look.id.ok_or("an event has no id")?;
        let number = u32::try_from(self.entries.len()).map_err(|_| "too many events")?;
        if self.numbers.contains_key(id.as_str()) {
            return Err(format!("the id {id} is there twice"));
        }
        self.numbers.insert(id.into(), number);
        self.entries.push(Entry {
            hash: hash(body),
            campaign: look.campaign.into(),
            acknowledged: false,
            upstream: false,
            local: false,
        });
        self.totals.published += 1;
        Ok(Number(number))
    }

    /// The gateway answered `OK`.
    pub(crate) fn acknowledge(&mut self, number: Number) {
        let Some(entry) = self.entries.get_mut(number.0 as usize) else {
            return;
        };
        if std::mem::replace(&mut entry.acknowledged, true) {
            return;
        }
        let totals = &mut self.totals;
        totals.acknowledged += 1;
        totals.upstream.acknowledged += u64::from(entry.upstream);
        totals.local.acknowledged += u64::from(entry.local);
        *self
            .campaigns
            .entry(entry.campaign.to_string())
            .or_default() += 1;
    }

    /// A delivery; the campaign to count if it is the event's first at that end.
    pub(crate) fn arrive(&mut self, end: End, body: &[u8]) -> Option<String> {
        let Some((id, campaign)) = look(body)
            .ok()
            .and_then(|look| Some((look.id?, look.campaign)))
        else {
            self.totals.altered += 1;
            return None;
        };
        let number = self.numbers.get(id.as_str()).copied();
        let entry = number.and_then(|number| self.entries.get_mut(number as usize));
        let Some(entry) = entry.filter(|entry| entry.hash == hash(body)) else {
            self.totals.altered += 1;
            return None;
        };
        let (arrived, arrivals) = match end {
            End::Upstream => (&mut entry.upstream, &mut self.totals.upstream),
            End::Local => (&mut entry.local, &mut self.totals.local),
        };
        if std::mem::replace(arrived, true) {
            arrivals.duplicates += 1;
            return None;
        }
        arrivals.events += 1;
        arrivals.acknowledged += u64::from(entry.acknowledged);
        Some(campaign)
    }

    /// The sums as of now.
    pub(crate) fn totals(&self) -> Totals {
        let acknowledged = self.totals.acknowledged;
        Totals {
            buffered: acknowledged - self.totals.upstream.acknowledged,
            ..self.totals
        }
    }

    /// Whether every acknowledged event is at both ends.
    pub(crate) fn is_complete(&self) -> bool {
        let Totals {
            acknowledged,
            upstream,
            local,
            ..
        } = self.totals;
        upstream.acknowledged == acknowledged && local.acknowledged == acknowledged
    }

    /// Ids of acknowledged events that are missing at an end, in no order.
    pub(crate) fn missing(&self, end: End) -> impl Iterator<Item = &str> {
        let is_missing = move |number: &u32| {
            self.entries.get(*number as usize).is_some_and(|entry| {
                entry.acknowledged
                    && !match end {
                        End::Upstream => entry.upstream,
                        End::Local => entry.local,
                    }
            })
        };
        self.numbers
            .iter()
            .filter(move |(_, number)| is_missing(number))
            .map(|(id, _)| &**id)
    }

    /// Acknowledged events per campaign: what both ends must have counted.
    pub(crate) fn campaigns(&self) -> &Campaigns {
        &self.campaigns
    }
}

/// Not for keeping: it may differ from one Rust to the next.
fn hash(body: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(body);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &[u8] = br#"{"id":"a","campaign":7}"#;
    const B: &[u8] = br#"{"id":2,"campaign":"x"}"#;

    #[test]
    fn an_acknowledged_event_is_missing_until_it_arrived_at_that_end() {
        let mut ledger = Ledger::default();
        let (a, b) = (ledger.publish(A).unwrap(), ledger.publish(B).unwrap());
        assert!(ledger.is_complete(), "nothing is acknowledged yet");
        ledger.acknowledge(a);
        ledger.acknowledge(b);
        assert_eq!(ledger.arrive(End::Upstream, A).as_deref(), Some("7"));
        assert_eq!(ledger.arrive(End::Local, A).as_deref(), Some("7"));
        assert_eq!(ledger.arrive(End::Local, B).as_deref(), Some("x"));
        assert_eq!(ledger.missing(End::Upstream).collect::<Vec<_>>(), ["2"]);
        assert_eq!(ledger.missing(End::Local).count(), 0);
        assert_eq!(ledger.totals().buffered, 1);
        assert!(!ledger.is_complete());
        ledger.arrive(End::Upstream, B);
        assert!(ledger.is_complete());
        assert_eq!(ledger.totals().altered, 0);
    }

    #[test]
    fn an_event_may_arrive_before_its_acknowledgement() {
        let mut ledger = Ledger::default();
        let a = ledger.publish(A).unwrap();
        ledger.arrive(End::Upstream, A);
        ledger.arrive(End::Local, A);
        assert_eq!(ledger.totals().buffered, 0);
        ledger.acknowledge(a);
        assert_eq!(ledger.totals().buffered, 0);
        assert!(ledger.is_complete());
    }

    #[test]
    fn duplicates_and_repeated_acknowledgements_count_no_event_twice() {
        let mut ledger = Ledger::default();
        let a = ledger.publish(A).unwrap();
        ledger.acknowledge(a);
        ledger.acknowledge(a);
        for _ in 0..3 {
            ledger.arrive(End::Upstream, A);
        }
        let totals = ledger.totals();
        assert_eq!((totals.published, totals.acknowledged), (1, 1));
        assert_eq!((totals.upstream.events, totals.upstream.duplicates), (1, 2));
        assert_eq!(ledger.campaigns().get("7"), Some(&1));
    }

    #[test]
    fn an_unknown_id_or_another_body_is_altered_and_not_an_arrival() {
        let mut ledger = Ledger::default();
        ledger.publish(A).unwrap();
        ledger.arrive(End::Local, br#"{"id":"a","campaign":8}"#);
        ledger.arrive(End::Local, B);
        ledger.arrive(End::Local, b"\xff");
        assert_eq!(ledger.totals().altered, 3);
        assert_eq!(ledger.totals().local.events, 0);
    }

    #[test]
    fn an_event_that_cannot_be_told_from_another_is_refused() {
        let mut ledger = Ledger::default();
        ledger.publish(A).unwrap();
        assert!(ledger.publish(A).unwrap_err().contains("twice"));
        assert!(ledger.publish(b"{}").unwrap_err().contains("no id"));
        assert!(ledger.publish(b"[1,2,3]").is_err());
        assert_eq!(ledger.totals().published, 1);
    }

    #[test]
    fn the_demos_own_id_comes_before_the_events() {
        let look = look(br#"{"id":1,"demo_id":"d"}"#).unwrap();
        assert_eq!(
            (look.id.as_deref(), look.campaign.as_str()),
            (Some("d"), "-")
        );
    }
}
