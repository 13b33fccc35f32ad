//! The log: ring, segments, cursors, checkpoint, recovery. Knows bytes, not NSQ.
