//! The messages of one publish of many: MPUB over TCP and `/mpub` over HTTP.
//!
//! TCP: `i32 total | i32 count | (i32 length | body)*`. HTTP with `binary=true`: the same without
//! the total. HTTP as text: one message a line. Everything is checked before anything is handed
//! out, so a batch can be stored whole or not at all.

use crate::error::CommandError;
use crate::limits::BATCH_ITEM_BYTES_MIN;
use crate::read_u32;

/// What a batch may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchBounds {
    /// Largest message.
    pub message_bytes_max: u32,
    /// Largest body of the whole (what a total may be; bounds the count).
    pub body_bytes_max: u32,
}

/// Checked messages in their wire form.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Batch<'a> {
    /// `(u32 length | body)*`, exactly `count` of them.
    items: &'a [u8],
    count: u32,
}

impl<'a> Batch<'a> {
    /// Checks the body of an HTTP `/mpub?binary=true`. Bytes after the last message are ignored,
    /// as nsqd does. The errors are those of MPUB; HTTP sends the code without its `E_`.
    pub fn from_http(body: &'a [u8], bounds: &BatchBounds) -> Result<Self, CommandError> {
        let mut scan = Scan::default();
        if scan.advance(body, bounds)? {
            let items = body.get(4..scan.at).unwrap_or_default();
            return Ok(Self {
                items,
                count: scan.count,
            });
        }
        Err(scan.cut_short())
    }

    /// How many messages there are; at least one.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Never: a batch has at least one message.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of all bodies together.
    pub fn body_bytes(&self) -> usize {
        self.items.len() - 4 * self.count as usize
    }

    /// The bodies in their order.
    pub fn iter(&self) -> BatchIter<'a> {
        BatchIter {
            rest: self.items,
            left: self.count as usize,
        }
    }
}

impl<'a> IntoIterator for Batch<'a> {
    type Item = &'a [u8];
    type IntoIter = BatchIter<'a>;

    fn into_iter(self) -> BatchIter<'a> {
        self.iter()
    }
}

impl std::fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Batch({} messages, {} bytes)",
            self.count,
            self.body_bytes()
        )
    }
}

/// Bodies of a [`Batch`].
#[derive(Debug, Clone)]
pub struct BatchIter<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Iterator for BatchIter<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let length = read_u32(self.rest, 0)? as usize;
        let (_, rest) = self.rest.split_at_checked(4)?;
        let (body, rest) = rest.split_at_checked(length)?;
        self.rest = rest;
        self.left = self.left.saturating_sub(1);
        Some(body)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for BatchIter<'_> {}

/// How far the check of a batch that is still arriving has come, so that a trickling sender costs
/// time once per message and not once per read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scan {
    /// Messages announced; 0 until the count is read.
    count: u32,
    /// Messages checked.
    seen: u32,
    /// Bytes checked, from the count on.
    at: usize,
    /// The length of message `seen` is read, its body is not.
    in_body: bool,
}

impl Scan {
    /// Checks on. `bytes` starts at the count and has at least what earlier calls had.
    /// `Ok(true)` when the last message is complete.
    pub(crate) fn advance(
        &mut self,
        bytes: &[u8],
        bounds: &BatchBounds,
    ) -> Result<bool, CommandError> {
        if self.count == 0 {
            let Some(count) = read_u32(bytes, 0) else {
                return Ok(false);
            };
            let max = bounds.body_bytes_max.saturating_sub(4) / BATCH_ITEM_BYTES_MIN;
            if count == 0 || count > max.min(i32::MAX as u32) {
                return Err(CommandError::MessageCount(count as i32));
            }
            self.count = count;
            self.at = 4;
        }
        while self.seen < self.count {
            self.in_body = false;
            let Some(size) = read_u32(bytes, self.at) else {
                return Ok(false);
            };
            if size as i32 <= 0 {
                return Err(CommandError::MessageSize(self.seen, size as i32));
            }
            if size > bounds.message_bytes_max {
                return Err(CommandError::MessageTooBig {
                    size,
                    max: bounds.message_bytes_max,
                });
            }
            let end = self.at + 4 + size as usize;
            if end > bytes.len() {
                self.in_body = true;
                return Ok(false);
            }
            self.at = end;
            self.seen += 1;
        }
        Ok(true)
    }

    /// Bytes from the count on that the messages known so far need at least.
    pub(crate) fn end(&self) -> usize {
        self.at
    }

    /// The whole batch, once `advance` said `true`.
    pub(crate) fn batch<'a>(&self, bytes: &'a [u8]) -> Batch<'a> {
        Batch {
            items: bytes.get(4..self.at).unwrap_or_default(),
            count: self.count,
        }
    }

    /// The error when the input ends here.
    pub(crate) fn cut_short(&self) -> CommandError {
        match self {
            Self { count: 0, .. } => CommandError::NoMessageCount,
            Self { in_body: true, .. } => CommandError::NoMessageBody,
            _ => CommandError::NoMessageSize(self.seen),
        }
    }
}

/// A line of an HTTP text `/mpub` is above the largest message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line of {bytes} bytes, at most {max} are allowed")]
pub struct LineTooBig {
    /// Of the line.
    pub bytes: usize,
    /// As allowed.
    pub max: u32,
}

/// The messages of an HTTP text `/mpub`: lines split at `\n` alone (a `\r` stays in the body),
/// empty ones skipped. There may be none.
#[derive(Debug, Clone, Copy)]
pub struct TextBatch<'a> {
    body: &'a [u8],
    count: usize,
    body_bytes: usize,
}

impl<'a> TextBatch<'a> {
    /// Checks every line.
    pub fn new(body: &'a [u8], message_bytes_max: u32) -> Result<Self, LineTooBig> {
        let mut batch = Self {
            body,
            count: 0,
            body_bytes: 0,
        };
        for line in batch.iter() {
            if line.len() > message_bytes_max as usize {
                return Err(LineTooBig {
                    bytes: line.len(),
                    max: message_bytes_max,
                });
            }
            batch.count += 1;
            batch.body_bytes += line.len();
        }
        Ok(batch)
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none; nsqd answers `OK` all the same.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of all bodies together.
    pub fn body_bytes(&self) -> usize {
        self.body_bytes
    }

    /// The bodies in their order.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        self.body
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
    }
}
