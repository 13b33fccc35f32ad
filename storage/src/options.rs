//! What a store is opened with.

use thiserror::Error;

use crate::limits;

/// Sizes and bounds of a store. `ring_bytes` is fixed when the store is made; the rest may change at each start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes of the ring, a multiple of 64 KiB.
    pub ring_bytes: u64,
    /// Bytes of a full-size segment.
    pub segment_bytes: u64,
    /// Bytes of the largest message body.
    pub message_bytes_max: u32,
    /// Bytes of the largest batch (all bodies and 16 bytes for each).
    pub batch_bytes_max: u32,
    /// Topics, ephemeral ones included.
    pub topics_max: u32,
    /// Channels of all topics, ephemeral ones included.
    pub channels_max: u32,
    /// Messages in flight, given back or deferred, over all channels: bounds what finishes can leave gaps in.
    pub outstanding_max: u32,
    /// Bytes of decoded blocks kept in memory.
    pub cache_bytes: u32,
    /// Bytes of publishes that wait for their commit.
    pub pending_bytes_max: u32,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            ring_bytes: 4 * 1024 * 1024,
            segment_bytes: 8 * 1024 * 1024,
            message_bytes_max: 1024 * 1024,
            batch_bytes_max: 5 * 1024 * 1024,
            topics_max: 1000,
            channels_max: 3000,
            outstanding_max: 32 * 1024,
            cache_bytes: 512 * 1024,
            pending_bytes_max: 8 * 1024 * 1024,
        }
    }
}

/// An option outside its bounds.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{name} = {got}: must be {bound}")]
pub struct OptionsError {
    /// The field.
    pub name: &'static str,
    /// Its value.
    pub got: u64,
    /// What it has to be.
    pub bound: String,
}

/// Bytes that a record takes in a segment besides its body: file and block header, run, record.
pub(crate) const RECORD_OVERHEAD_BYTES: u64 = 512;

impl Options {
    /// Checks every bound and the relations between them.
    ///
    /// # Errors
    /// The first field that is out of its bounds.
    pub fn validate(&self) -> Result<(), OptionsError> {
        let check = |ok: bool, name: &'static str, got: u64, bound: String| {
            if ok {
                Ok(())
            } else {
                Err(OptionsError { name, got, bound })
            }
        };
        let unit = limits::PAGE_BYTES * limits::RING_PARTS_PER_BATCH;
        check(
            self.ring_bytes % unit == 0 && (unit..=1 << 30).contains(&self.ring_bytes),
            "ring_bytes",
            self.ring_bytes,
            format!("a multiple of {unit} from {unit} to {}", 1 << 30),
        )?;
        let message = u64::from(self.message_bytes_max);
        check(
            message > 0,
            "message_bytes_max",
            message,
            "at least 1".into(),
        )?;
        let two_messages = 2 * (message + RECORD_OVERHEAD_BYTES);
        let segment_min = two_messages.max(limits::SEGMENT_BYTES_FIRST);
        check(
            (segment_min..=1 << 30).contains(&self.segment_bytes),
            "segment_bytes",
            self.segment_bytes,
            format!("{segment_min} (two largest messages) to {}", 1 << 30),
        )?;
        let batch = u64::from(self.batch_bytes_max);
        check(
            (message + 16..=1 << 30).contains(&batch),
            "batch_bytes_max",
            batch,
            format!("{} (a largest message) to {}", message + 16, 1 << 30),
        )?;
        check(
            u64::from(self.pending_bytes_max) >= batch,
            "pending_bytes_max",
            self.pending_bytes_max.into(),
            format!("at least batch_bytes_max = {batch}"),
        )?;
        check(self.topics_max > 0, "topics_max", 0, "at least 1".into())?;
        check(
            self.channels_max > 0,
            "channels_max",
            0,
            "at least 1".into(),
        )?;
        check(
            self.outstanding_max > 0,
            "outstanding_max",
            0,
            "at least 1".into(),
        )
    }

    /// Bytes that one state file is made with: room for all that these bounds allow in one run. Finished ranges outlive
    /// a restart; a state that has more of them lengthens its file.
    pub fn state_bytes(&self) -> u64 {
        let bytes = crate::state::HEADER_BYTES as u64
            + 64
            + u64::from(self.topics_max) * limits::STATE_BYTES_PER_TOPIC
            + u64::from(self.channels_max) * limits::STATE_BYTES_PER_CHANNEL
            + u64::from(self.outstanding_max) * limits::STATE_BYTES_PER_OUTSTANDING
            + limits::SEGMENTS_MAX * limits::STATE_BYTES_PER_SEGMENT;
        crate::block::pages(bytes)
    }

    /// The largest batch that goes to the ring.
    pub(crate) fn ring_batch_bytes_max(&self) -> u64 {
        self.ring_bytes / limits::RING_PARTS_PER_BATCH
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_a_bad_value_is_named_with_its_bound() {
        Options::default().validate().unwrap();
        let error = Options {
            ring_bytes: 5000,
            ..Options::default()
        }
        .validate()
        .unwrap_err();
        assert_eq!(error.name, "ring_bytes");
        assert!(
            error
                .to_string()
                .starts_with("ring_bytes = 5000: must be a multiple of 65536")
        );
        let error = Options {
            segment_bytes: 1 << 20,
            ..Options::default()
        }
        .validate()
        .unwrap_err();
        assert_eq!(error.name, "segment_bytes");
    }
}
