//! What a set of links is told, what happens on it, and what it asks for.

use std::time::Duration;

use log::Level;
use protocol::frame::Message;
use runtime::net::Address;

use crate::connection::{ConnectionOptions, Token};

/// One connection or attempt at one. Never used twice, so that late news of an old one cannot be
/// taken for news of a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub(super) u64);

/// What holds for all links of a set.
#[derive(Debug, Clone)]
pub struct LinksOptions {
    /// What is told to and expected of each broker.
    pub connection: ConnectionOptions,
    /// Longest wait for a connection to open.
    pub dial_timeout: Duration,
    /// Ceiling of the pause after a first failure.
    pub backoff_min: Duration,
    /// Ceiling of every pause.
    pub backoff_max: Duration,
}

impl Default for LinksOptions {
    fn default() -> Self {
        Self {
            connection: ConnectionOptions::default(),
            dial_timeout: Duration::from_secs(5),
            backoff_min: Duration::from_millis(250),
            backoff_max: Duration::from_secs(60),
        }
    }
}

/// What the shell has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Open a connection; then `handle_connected` or `handle_closed`.
    Dial {
        /// Name of the attempt and of the connection that comes of it.
        link: LinkId,
        /// Where.
        address: Address,
        /// Longest time it may take.
        timeout: Duration,
    },
    /// Send what is in the output, then close. Nothing about this link needs to be told any more.
    HangUp(LinkId),
    /// Close at once.
    Drop(LinkId),
}

/// What happened on the links.
#[derive(Debug, PartialEq)]
pub enum Event<'a> {
    /// Ready for publishes or a window.
    Up(LinkId),
    /// Gone, or never opened. Its publishes came as `Lost` before.
    Down {
        /// Which one.
        link: LinkId,
        /// Why, with the broker's address.
        reason: String,
        /// Failures of this broker since it last proved well, this one included.
        failures: u32,
    },
    /// A publish is at a broker.
    Answered(LinkId, Token),
    /// A publish was refused; `CODE description`. `Down` follows.
    Refused(LinkId, Token, String),
    /// A publish was on a link that broke: the broker may have it or not.
    Lost(LinkId, Token),
    /// A delivery.
    Message(LinkId, Message<'a>),
    /// FIN, REQ or TOUCH came too late.
    TooLate(LinkId, &'a [u8]),
    /// No more deliveries on this link.
    CloseWait(LinkId),
}

/// How loudly to say that a broker failed: the first time aloud, then ever more rarely, so that a
/// long outage does not fill the log. Who is `closing` hangs up itself, and it is no failure.
pub fn level_of(failures: u32, closing: bool) -> Level {
    if failures.is_power_of_two() && !closing {
        Level::Warn
    } else {
        Level::Debug
    }
}
