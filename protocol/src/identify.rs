//! IDENTIFY: what a client asks for, what it gets.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::CommandError;
use crate::json::{self, go_object};
use crate::limits::IDENTITY_BYTES_MAX;

/// The body of IDENTIFY. Zero, empty and `false` mean "not said".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Request {
    /// Name of the client, such as its short host name.
    pub client_id: String,
    /// Host of the client.
    pub hostname: String,
    /// ms; -1 turns heartbeats off.
    pub heartbeat_interval: i64,
    /// Bytes; -1 turns buffering off.
    pub output_buffer_size: i64,
    /// ms; -1 turns the timer off.
    pub output_buffer_timeout: i64,
    /// Whether the answer shall be a [`Reply`] instead of `OK`.
    pub feature_negotiation: bool,
    /// Asks for TLS.
    pub tls_v1: bool,
    /// Asks for deflate.
    pub deflate: bool,
    /// 1 to 9.
    pub deflate_level: i64,
    /// Asks for snappy.
    pub snappy: bool,
    /// Percent of messages wanted; 0 is all.
    pub sample_rate: i32,
    /// Program and version.
    pub user_agent: String,
    /// ms until an unfinished message is given again.
    pub msg_timeout: i64,
}

go_object!(Request {
    client_id,
    hostname,
    heartbeat_interval,
    output_buffer_size,
    output_buffer_timeout,
    feature_negotiation,
    tls_v1,
    deflate,
    deflate_level,
    snappy,
    sample_rate,
    user_agent,
    msg_timeout,
});

impl Request {
    /// Reads the body of IDENTIFY.
    ///
    /// # Errors
    /// [`CommandError::BadJson`].
    pub fn from_json(body: &[u8]) -> Result<Self, CommandError> {
        json::from_slice(body).ok_or(CommandError::BadJson)
    }

    /// The body to send.
    pub fn to_json(&self) -> Vec<u8> {
        // Strings, numbers and bools cannot fail to serialise.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// What an operator allows, and what a client has that does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after nsqd's options")]
pub struct Ranges {
    pub heartbeat_default: Duration,
    pub heartbeat_max: Duration,
    pub output_buffer_bytes_default: u32,
    pub output_buffer_bytes_max: u32,
    pub output_buffer_timeout_default: Duration,
    pub output_buffer_timeout_min: Duration,
    pub output_buffer_timeout_max: Duration,
    pub msg_timeout_default: Duration,
    pub msg_timeout_max: Duration,
}

impl Default for Ranges {
    /// nsqd's defaults.
    fn default() -> Self {
        Self {
            heartbeat_default: Duration::from_secs(30),
            heartbeat_max: Duration::from_secs(60),
            output_buffer_bytes_default: 16 * 1024,
            output_buffer_bytes_max: 64 * 1024,
            output_buffer_timeout_default: Duration::from_millis(250),
            output_buffer_timeout_min: Duration::from_millis(25),
            output_buffer_timeout_max: Duration::from_secs(30),
            msg_timeout_default: Duration::from_secs(60),
            msg_timeout_max: Duration::from_secs(900),
        }
    }
}

/// What holds for a connection. IDENTIFY may come several times before SUB; each changes what it
/// names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Name of the client; empty until it is said (nsqd then shows the remote address).
    pub client_id: Box<str>,
    /// Host of the client; empty until it is said.
    pub hostname: Box<str>,
    /// Program and version.
    pub user_agent: Box<str>,
    /// Between heartbeats; `None` when they are off.
    pub heartbeat: Option<Duration>,
    /// Messages may wait until there are this many bytes; 1 when buffering is off.
    pub output_buffer_bytes: u32,
    /// Longest time that messages wait; `None` when they wait for nothing or for the buffer alone.
    pub output_buffer_timeout: Option<Duration>,
    /// Percent of messages wanted; 0 is all.
    pub sample_rate: u8,
    /// Until an unfinished message is given again.
    pub msg_timeout: Duration,
}

impl Settings {
    /// Those of a connection that has not said anything.
    pub fn new(ranges: &Ranges) -> Self {
        Self {
            client_id: Box::default(),
            hostname: Box::default(),
            user_agent: Box::default(),
            heartbeat: Some(ranges.heartbeat_default),
            output_buffer_bytes: ranges.output_buffer_bytes_default,
            output_buffer_timeout: Some(ranges.output_buffer_timeout_default),
            sample_rate: 0,
            msg_timeout: ranges.msg_timeout_default,
        }
    }

    /// Takes over what `request` says.
    ///
    /// # Errors
    /// [`CommandError::Setting`] for the first setting out of its range, in nsqd's order.
    pub fn apply(&mut self, request: &Request, ranges: &Ranges) -> Result<(), CommandError> {
        for (kept, said) in [
            (&mut self.client_id, &request.client_id),
            (&mut self.hostname, &request.hostname),
            (&mut self.user_agent, &request.user_agent),
        ] {
            *kept = cut(said).into();
        }
        let second = Duration::from_secs(1);
        match request.heartbeat_interval {
            -1 => self.heartbeat = None,
            0 => {}
            asked => {
                let range = (second, ranges.heartbeat_max);
                self.heartbeat = Some(millis("heartbeat interval", asked, range)?);
            }
        }
        match request.output_buffer_timeout {
            -1 => self.output_buffer_timeout = None,
            0 => {}
            asked => {
                let range = (
                    ranges.output_buffer_timeout_min,
                    ranges.output_buffer_timeout_max,
                );
                let timeout = millis("output buffer timeout", asked, range)?;
                self.output_buffer_timeout = Some(timeout);
            }
        }
        match request.output_buffer_size {
            -1 => {
                self.output_buffer_bytes = 1;
                self.output_buffer_timeout = None;
            }
            0 => {}
            asked => match u32::try_from(asked) {
                Ok(bytes @ 64..) if bytes <= ranges.output_buffer_bytes_max => {
                    self.output_buffer_bytes = bytes;
                }
                _ => {
                    let name = "output buffer size";
                    return Err(CommandError::Setting { name, value: asked });
                }
            },
        }
        match u8::try_from(request.sample_rate) {
            Ok(rate @ ..=99) => self.sample_rate = rate,
            _ => {
                let value = i64::from(request.sample_rate);
                return Err(CommandError::Setting {
                    name: "sample rate",
                    value,
                });
            }
        }
        if request.msg_timeout != 0 {
            let range = (second, ranges.msg_timeout_max);
            self.msg_timeout = millis("msg timeout", request.msg_timeout, range)?;
        }
        Ok(())
    }
}

/// What a broker offers besides [`Ranges`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after nsqd's options")]
pub struct Offer<'a> {
    /// Plain `major.minor.patch`: nsqadmin reads nothing else.
    pub version: &'a str,
    pub rdy_count_max: u32,
    pub tls: bool,
    pub deflate: bool,
    pub deflate_level_max: u32,
    pub snappy: bool,
    pub auth_required: bool,
}

/// The answer to an IDENTIFY with `feature_negotiation`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "nsqd's keys; see `Request` and `Settings`")]
pub struct Reply {
    pub max_rdy_count: i64,
    pub version: String,
    /// ms
    pub max_msg_timeout: i64,
    /// ms
    pub msg_timeout: i64,
    pub tls_v1: bool,
    pub deflate: bool,
    pub deflate_level: i64,
    pub max_deflate_level: i64,
    pub snappy: bool,
    pub sample_rate: i32,
    pub auth_required: bool,
    pub output_buffer_size: i64,
    /// ms
    pub output_buffer_timeout: i64,
}

impl Reply {
    /// The answer to `request` once its settings are applied.
    ///
    /// # Errors
    /// [`CommandError::TwoCompressions`] when both are asked for and offered.
    pub fn new(
        request: &Request,
        settings: &Settings,
        ranges: &Ranges,
        offer: &Offer<'_>,
    ) -> Result<Self, CommandError> {
        let deflate = offer.deflate && request.deflate;
        let snappy = offer.snappy && request.snappy;
        if deflate && snappy {
            return Err(CommandError::TwoCompressions);
        }
        let asked = Some(request.deflate_level).filter(|level| deflate && *level > 0);
        let millis = |duration: Duration| duration.as_millis() as i64;
        Ok(Self {
            max_rdy_count: i64::from(offer.rdy_count_max),
            version: offer.version.to_owned(),
            max_msg_timeout: millis(ranges.msg_timeout_max),
            msg_timeout: millis(settings.msg_timeout),
            tls_v1: offer.tls && request.tls_v1,
            deflate,
            deflate_level: asked.unwrap_or(6).min(i64::from(offer.deflate_level_max)),
            max_deflate_level: i64::from(offer.deflate_level_max),
            snappy,
            sample_rate: i32::from(settings.sample_rate),
            auth_required: offer.auth_required,
            output_buffer_size: i64::from(settings.output_buffer_bytes),
            output_buffer_timeout: settings.output_buffer_timeout.map_or(0, millis),
        })
    }

    /// The data of the response frame.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads the data of a response frame; `None` if it is not such a reply (a plain `OK`).
    pub fn from_json(data: &[u8]) -> Option<Self> {
        serde_json::from_slice(data).ok()
    }
}

fn millis(
    name: &'static str,
    asked: i64,
    (min, max): (Duration, Duration),
) -> Result<Duration, CommandError> {
    let duration = u64::try_from(asked).map(Duration::from_millis);
    match duration {
        Ok(duration) if duration >= min && duration <= max => Ok(duration),
        _ => Err(CommandError::Setting { name, value: asked }),
    }
}

/// At most [`IDENTITY_BYTES_MAX`] bytes of `text`, whole characters.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(IDENTITY_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}
