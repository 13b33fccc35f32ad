//! Message ids. On the wire an id is 16 bytes that the peer echoes; ours are 16 lower-case hex
//! digits of a `u64`.

use std::fmt;

/// Bytes of a message id on the wire.
pub const ID_BYTES: usize = 16;

/// An id of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub u64);

impl MessageId {
    /// The id as it goes over the wire.
    pub fn to_wire(self) -> WireId {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut digits = [b'0'; ID_BYTES];
        let mut rest = self.0;
        for digit in digits.iter_mut().rev() {
            *digit = DIGITS.get((rest & 0xf) as usize).copied().unwrap_or(b'0');
            rest >>= 4;
        }
        WireId(digits)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// 16 bytes that a peer uses as a message id. A client must take them as they are; a broker finds
/// its own [`MessageId`] in them, or none (then the message cannot be in flight).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WireId(pub [u8; ID_BYTES]);

impl WireId {
    /// The id of ours that this is, if it is 16 lower-case hex digits.
    pub fn message_id(self) -> Option<MessageId> {
        let mut value = 0u64;
        for byte in self.0 {
            let digit = match byte {
                b'0'..=b'9' => byte - b'0',
                b'a'..=b'f' => byte - b'a' + 10,
                _ => return None,
            };
            value = value << 4 | u64::from(digit);
        }
        Some(MessageId(value))
    }
}

impl fmt::Display for WireId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.escape_ascii(), f)
    }
}

impl fmt::Debug for WireId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WireId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_16_lower_case_hex_digits_and_come_back() {
        for id in [0, 1, 0xdead_beef, u64::MAX] {
            let wire = MessageId(id).to_wire();
            assert_eq!(wire.0, format!("{id:016x}").as_bytes());
            assert_eq!(wire.message_id(), Some(MessageId(id)));
            assert_eq!(MessageId(id).to_string().as_bytes(), wire.0);
        }
        assert_eq!(WireId(*b"00000000000000AB").message_id(), None);
        assert_eq!(WireId(*b"0000000000000 00").message_id(), None);
        assert_eq!(WireId([0xff; 16]).message_id(), None);
    }
}
