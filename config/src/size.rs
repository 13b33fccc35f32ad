//! Sizes in bytes as an operator writes them: an integer, or a string such as `"4MiB"`.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

/// Units from the largest down. Only the binary ones: `4MB` is refused, since half of all programs
/// mean 4,194,304 by it and the others 4,000,000.
const UNITS: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// Reads `4096`, `"4096"`, `"512B"`, `"64KiB"`, `"4MiB"`, `"1GiB"`. `None` is anything else, or more
/// than a `u64` holds.
#[must_use]
pub fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let (digits, factor) = UNITS
        .iter()
        .find_map(|&(unit, factor)| Some((text.strip_suffix(unit)?.trim_end(), factor)))
        .unwrap_or((text, 1));
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// Writes a size in the largest unit that says it exactly: `4MiB`, `12KiB`, `1000B`.
#[must_use]
pub fn format_bytes(bytes: u64) -> String {
    let (unit, factor) = UNITS
        .iter()
        .copied()
        .find(|&(_, factor)| bytes >= factor && bytes % factor == 0)
        .unwrap_or(("B", 1));
    format!("{}{unit}", bytes / factor)
}

impl fmt::Display for Bytes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&format_bytes(self.0))
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format_bytes(self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Bytes;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("must be a size such as 4096, \"64KiB\" or \"4MiB\"")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Bytes, E> {
                Ok(Bytes(value))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Bytes, E> {
                u64::try_from(value).map(Bytes).map_err(|_| wrong(&self))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Bytes, E> {
                parse_bytes(value).map(Bytes).ok_or_else(|| wrong(&self))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// The visitor's own words as the whole error: the key and the value are added by the caller.
fn wrong<E: de::Error>(expected: &dyn de::Expected) -> E {
    E::custom(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_integers_or_binary_units() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("512B", 512),
            ("64KiB", 65_536),
            ("64 KiB", 65_536),
            ("4MiB", 4 << 20),
            ("1GiB", 1 << 30),
        ] {
            assert_eq!(parse_bytes(text), Some(bytes), "{text}");
        }
        for text in [
            "",
            "B",
            "MiB",
            "4MB",
            "4M",
            "-1",
            "+1",
            "1.5MiB",
            "99999999999GiB",
            "4mib",
        ] {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
    }

    #[test]
    fn a_written_size_reads_back_as_itself() {
        for bytes in [0, 1, 1000, 1024, 12 << 10, (4 << 20) + 1, 3 << 30, u64::MAX] {
            assert_eq!(parse_bytes(&format_bytes(bytes)), Some(bytes));
        }
        assert_eq!(format_bytes(12 << 10), "12KiB");
    }
}
