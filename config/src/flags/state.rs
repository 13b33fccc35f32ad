//! What the flags add up to, and how each value gets to where it belongs.

use super::go::Value;
use super::table::{Flag, Meaning, Setter};
use super::{FlagsError, Program};
use crate::duration::Span;
use crate::error::ConfigError;
use crate::file::{Config, Route};
use crate::options::Level;
use crate::size::Bytes;

/// The channel of `nsq_to_nsq` that is not told another.
const NSQ_TO_NSQ_CHANNEL: &str = "nsq_to_nsq";

/// What the flags add up to.
pub(super) struct State {
    program: Program,
    pub(super) config: Config,
    pub(super) notes: Vec<String>,
    pub(super) warnings: Vec<String>,
    pub(super) topics: Vec<String>,
    pub(super) route: Route,
}

impl State {
    pub(super) fn new(program: Program) -> Self {
        Self {
            program,
            config: Config::default(),
            notes: Vec::new(),
            warnings: Vec::new(),
            topics: Vec::new(),
            route: Route {
                channel: NSQ_TO_NSQ_CHANNEL.to_owned(),
                ..Route::default()
            },
        }
    }

    pub(super) fn apply(&mut self, flag: &'static Flag, value: &Value) -> Result<(), FlagsError> {
        let not_yet = |what| FlagsError::NotYet {
            flag: flag.name,
            what,
        };
        match &flag.meaning {
            Meaning::ByCaller => Ok(()),
            Meaning::NotYet => Err(not_yet(flag.help)),
            Meaning::OnlyWith(only) if shown(value) == *only => Ok(()),
            Meaning::OnlyWith(_) => Err(not_yet(flag.help)),
            Meaning::Allows(without) => {
                if shown(value) != *without {
                    let what = flag.help;
                    let name = flag.name;
                    self.warnings.push(format!(
                        "-{name}: known and not yet supported: {what}; clients that ask are told so"
                    ));
                }
                Ok(())
            }
            Meaning::NoMeaning => {
                let note = format!("-{} has no meaning here: {}", flag.name, flag.help);
                if !self.notes.contains(&note) {
                    self.notes.push(note);
                }
                Ok(())
            }
            Meaning::Sets(Setter(set)) => set(self, value).map_err(|refusal| match refusal {
                Refusal::NotYet(what) => not_yet(what),
                Refusal::Bound(bound) => FlagsError::Config(ConfigError::Bound {
                    key: format!("-{}", flag.name),
                    value: shown(value),
                    bound: bound.to_owned(),
                }),
                Refusal::Invalid(why) => FlagsError::Usage(format!(
                    "invalid value {:?} for flag -{}: {why}",
                    shown(value),
                    flag.name
                )),
            }),
        }
    }

    /// What the flags add up to as a whole.
    pub(super) fn finish(mut self) -> Result<Self, FlagsError> {
        if self.program == Program::NsqToNsq {
            self.routes()?;
        }
        Ok(self)
    }

    fn routes(&mut self) -> Result<(), FlagsError> {
        let missing = |what: &str| Err(FlagsError::Usage(format!("{what} required")));
        if self.topics.is_empty() {
            return missing("--topic");
        }
        if self.route.upstream.is_empty() {
            return missing("--destination-nsqd-tcp-address");
        }
        match (
            self.route.sources.is_empty(),
            self.route.source_lookupds.is_empty(),
        ) {
            (true, true) => return missing("--nsqd-tcp-address or --lookupd-http-address"),
            (false, false) => {
                let both = "use --nsqd-tcp-address or --lookupd-http-address not both";
                return Err(FlagsError::Usage(both.to_owned()));
            }
            _ => {}
        }
        for topic in &self.topics {
            let route = Route {
                topic: topic.clone(),
                ..self.route.clone()
            };
            self.config.forwarder.routes.push(route);
        }
        Ok(())
    }
}

/// Why a setter does not take a value.
pub(super) enum Refusal {
    /// In the words of Go's flag package, after `invalid value "x" for flag -f: `.
    Invalid(String),
    /// A bound.
    Bound(&'static str),
    /// This one, or this many, is known and not yet supported.
    NotYet(&'static str),
}

fn shown(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        Value::Int(number) => number.to_string(),
        Value::Duration(duration) => Span(*duration).to_string(),
        Value::Bool(value) => value.to_string(),
    }
}

pub(super) fn text(to: &mut String, value: &Value) -> Result<(), Refusal> {
    *to = shown(value);
    Ok(())
}

pub(super) fn push(to: &mut Vec<String>, value: &Value) -> Result<(), Refusal> {
    to.push(shown(value));
    Ok(())
}

/// A whole number of whatever width the key has.
pub(super) fn int<T: TryFrom<i64>>(value: &Value, bound: &'static str) -> Result<T, Refusal> {
    match value {
        Value::Int(number) => T::try_from(*number).map_err(|_| Refusal::Bound(bound)),
        _ => Err(Refusal::Bound(bound)),
    }
}

pub(super) fn bytes(to: &mut Bytes, value: &Value) -> Result<(), Refusal> {
    *to = Bytes(int(value, "must not be negative")?);
    Ok(())
}

pub(super) fn port(to: &mut u16, value: &Value) -> Result<(), Refusal> {
    *to = int(value, "must be 0..=65535")?;
    Ok(())
}

pub(super) fn span(to: &mut Span, value: &Value) -> Result<(), Refusal> {
    if let Value::Duration(duration) = value {
        *to = Span(*duration);
    }
    Ok(())
}

pub(super) fn level(state: &mut State, value: &Value) -> Result<(), Refusal> {
    let word = shown(value);
    state.config.log.level = Level::parse(&word).ok_or_else(|| {
        Refusal::Invalid("must be one of debug, info, warn, error, fatal".to_owned())
    })?;
    Ok(())
}

/// How `nsq_to_nsq` picks a destination: its `hostpool` leaves a failing one alone for a while, which
/// is what a route does.
pub(super) fn mode(_: &mut State, value: &Value) -> Result<(), Refusal> {
    match shown(value).as_str() {
        "hostpool" | "round-robin" => Ok(()),
        "epsilon-greedy" => Err(Refusal::NotYet(
            "destinations chosen by their response times",
        )),
        _ => Err(Refusal::Invalid(
            "must be hostpool or round-robin".to_owned(),
        )),
    }
}

/// Messages in flight per topic: the route's batches under way times their size.
pub(super) fn max_in_flight(state: &mut State, value: &Value) -> Result<(), Refusal> {
    let count: u32 = int(value, "must be 1..=4294967295")?;
    if count == 0 {
        return Err(Refusal::Bound("must be 1..=4294967295"));
    }
    let route = &mut state.route;
    route.in_flight_batches = route.in_flight_batches.min(count);
    route.batch_count = route.batch_count.min(count / route.in_flight_batches);
    Ok(())
}
