//! Durations as Go writes them, which is how NSQ's users write them: `250ms`, `60s`, `1m30s`, `1.5h`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A length of time in the file: a string such as `"250ms"`. A bare number is refused, since it
/// does not say its unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// The units of Go's `time.ParseDuration`, in nanoseconds; the micro sign in both of its codings.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Go's durations are signed 64-bit nanoseconds: about 292 years.
const NANOSECONDS_MAX: u64 = i64::MAX as u64;

/// Reads a duration in Go's syntax: one or more decimal numbers, each with a unit; a lone `0` needs
/// none. `None` is anything else, a negative duration, or more than Go's 292 years.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (whole, after) = take_digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => take_digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let unit_end = after
            .find(|character: char| character == '.' || character.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(unit_end)?;
        let (_, factor) = UNITS.iter().find(|(known, _)| *known == unit)?;
        let whole: u64 = if whole.is_empty() {
            0
        } else {
            whole.parse().ok()?
        };
        total = total
            .checked_add(whole.checked_mul(*factor)?)?
            .checked_add(fraction_of(fraction, *factor))?;
        rest = after;
    }
    (total <= NANOSECONDS_MAX).then(|| Duration::from_nanos(total))
}

/// Writes a duration so that [`parse_duration`] reads it back: hours, minutes, seconds, and below a
/// second the largest unit that says the rest exactly.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let nanoseconds = duration.subsec_nanos();
    let mut text = String::new();
    for (count, unit) in [
        (seconds / 3600, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
    ] {
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
        }
    }
    if nanoseconds > 0 {
        let (count, unit) = match nanoseconds {
            n if n % 1_000_000 == 0 => (n / 1_000_000, "ms"),
            n if n % 1_000 == 0 => (n / 1_000, "us"),
            n => (n, "ns"),
        };
        text.push_str(&format!("{count}{unit}"));
    }
    if text.is_empty() {
        text.push_str("0s");
    }
    text
}

fn take_digits(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// `0.fraction * factor`, cut to whole nanoseconds. Digits beyond the 18th cannot matter.
fn fraction_of(fraction: &str, factor: u64) -> u64 {
    let (mut value, mut scale) = (0_u128, 1_u128);
    for digit in fraction.bytes().take(18) {
        value = value * 10 + u128::from(digit.saturating_sub(b'0'));
        scale *= 10;
    }
    u64::try_from(value * u128::from(factor) / scale).unwrap_or(0)
}

impl fmt::Display for Span {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&format_duration(self.0))
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format_duration(self.0))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const EXPECTED: &str = "must be a duration such as \"250ms\", \"60s\" or \"1m30s\"";
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Span;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(EXPECTED)
            }

            fn visit_i64<E: de::Error>(self, _: i64) -> Result<Span, E> {
                Err(E::custom(EXPECTED))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Span, E> {
                parse_duration(value)
                    .map(Span)
                    .ok_or_else(|| E::custom(EXPECTED))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, nanoseconds) in [
            ("0", 0),
            ("0s", 0),
            ("5s", 5_000_000_000),
            ("+5s", 5_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("1.s", 1_000_000_000),
            (".5s", 500_000_000),
            ("250ms", 250_000_000),
            ("3us", 3_000),
            ("3\u{b5}s", 3_000),
            ("3\u{3bc}s", 3_000),
            ("100ns", 100),
            ("1h1m1s1ms", 3_661_001_000_000),
            ("0.000000001s", 1),
        ] {
            assert_eq!(
                parse_duration(text),
                Some(Duration::from_nanos(nanoseconds)),
                "{text}"
            );
        }
        for text in [
            "",
            "+",
            "5",
            "s",
            ".s",
            "1x",
            "-5s",
            "1 s",
            "1s ",
            "1e3s",
            "300000000h",
            "1d",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn a_written_duration_reads_back_as_itself() {
        for nanoseconds in [0, 1, 1_000, 250_000_000, 60_000_000_000, 5_400_001_000_000] {
            let duration = Duration::from_nanos(nanoseconds);
            assert_eq!(parse_duration(&format_duration(duration)), Some(duration));
        }
        assert_eq!(format_duration(Duration::from_secs(90)), "1m30s");
    }
}
