//! Command lines as Go's flag package reads them: `-flag v`, `-flag=v`, two dashes as well as one,
//! booleans without a value, its syntax of numbers and durations, its words for errors.

use std::path::Path;
use std::time::Duration;

use super::table::{Flag, Kind};
use super::{FlagsError, Program};
use crate::duration::parse_duration;
use crate::error::ConfigError;

/// A flag's value, by its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Int(i64),
    Duration(Duration),
    Bool(bool),
}

/// The flags that were given, in their order.
pub(super) type Given = Vec<(&'static Flag, Value)>;

pub(super) enum Split {
    Given(Given),
    Help,
}

/// Takes the arguments apart. Unlike Go's programs, which look no further at the first argument that
/// is not a flag, this refuses it: whatever follows would be silently ignored.
pub(super) fn split(flags: &'static [Flag], args: &[String]) -> Result<Split, FlagsError> {
    let mut given = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let bare = match arg.strip_prefix('-') {
            None | Some("") => return Err(usage(format!("unexpected argument: {arg}"))),
            Some("-") => match args.next() {
                None => break,
                Some(extra) => return Err(usage(format!("unexpected argument: {extra}"))),
            },
            Some(rest) => rest.strip_prefix('-').unwrap_or(rest),
        };
        if bare.is_empty() || bare.starts_with(['-', '=']) {
            return Err(usage(format!("bad flag syntax: {arg}")));
        }
        let (name, value) = match bare.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (bare, None),
        };
        let Some(flag) = flags.iter().find(|flag| flag.name == name) else {
            if matches!(name, "help" | "h") {
                return Ok(Split::Help);
            }
            return Err(usage(format!("flag provided but not defined: -{name}")));
        };
        let value = match (flag.kind, value) {
            (Kind::Bool, None) => "true",
            (_, Some(value)) => value,
            (_, None) => match args.next() {
                Some(value) => value,
                None => return Err(usage(format!("flag needs an argument: -{name}"))),
            },
        };
        given.push((flag, parse_value(flag, value)?));
    }
    Ok(Split::Given(given))
}

/// Reads NSQ's configuration file: a list is for a flag that may be given several times.
pub(super) fn file(program: Program, path: &Path) -> Result<Given, FlagsError> {
    let named = |source| ConfigError::In {
        path: path.to_path_buf(),
        source: Box::new(source),
    };
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_path_buf(),
        source,
    })?;
    let line_of = |at: usize| text.get(..at).unwrap_or(&text).matches('\n').count() + 1;
    let table = text.parse::<toml::Table>().map_err(|error| {
        let line = line_of(error.span().map_or(0, |span| span.start));
        named(ConfigError::Syntax {
            line,
            message: error.message().replace('\n', ", "),
        })
    })?;
    let mut given = Vec::new();
    for (key, value) in &table {
        let Some(flag) = program
            .flags()
            .iter()
            .find(|flag| name_in_file(flag) == *key)
        else {
            let at = text.find(key.as_str()).unwrap_or(0);
            return Err(named(ConfigError::UnknownKey {
                line: line_of(at),
                key: key.clone(),
            })
            .into());
        };
        let items = match value {
            toml::Value::Array(items) => items.as_slice(),
            one => std::slice::from_ref(one),
        };
        for item in items {
            let word = match item {
                toml::Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            given.push((flag, parse_value(flag, &word)?));
        }
    }
    Ok(given)
}

/// NSQ's names in the file are the flags' with underscores, but for these.
fn name_in_file(flag: &Flag) -> String {
    match flag.name {
        "auth-http-address" => "auth_http_addresses".to_owned(),
        "e2e-processing-latency-percentile" => "e2e_processing_latency_percentiles".to_owned(),
        "lookupd-tcp-address" => "nsqlookupd_tcp_addresses".to_owned(),
        "node-id" => "id".to_owned(),
        name => name.replace('-', "_"),
    }
}

fn usage(message: String) -> FlagsError {
    FlagsError::Usage(message)
}

fn parse_value(flag: &Flag, text: &str) -> Result<Value, FlagsError> {
    let invalid = |what: &str| {
        usage(format!(
            "invalid value {text:?} for flag -{}: {what}",
            flag.name
        ))
    };
    match flag.kind {
        Kind::Text => Ok(Value::Text(text.to_owned())),
        // The one flag that is almost a boolean; "tcp-https" is TLS all the same.
        Kind::Bool if flag.name == "tls-required" && text == "tcp-https" => {
            Ok(Value::Text(text.to_owned()))
        }
        Kind::Bool => parse_bool(text).map(Value::Bool).ok_or_else(|| {
            usage(format!(
                "invalid boolean value {text:?} for -{}: parse error",
                flag.name
            ))
        }),
        Kind::Int => match parse_int(text) {
            Ok(Some(number)) => Ok(Value::Int(number)),
            Ok(None) => Err(invalid("value out of range")),
            Err(NotANumber) => Err(invalid("parse error")),
        },
        Kind::Duration => parse_duration(text)
            .map(Value::Duration)
            .ok_or_else(|| invalid("parse error")),
    }
}

fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

struct NotANumber;

/// Go's integer literals: a sign, a base by prefix (`0x`, `0o`, `0b`, or a leading zero for octal),
/// underscores between digits or after the prefix. `Ok(None)` is a number beyond 64 bits.
fn parse_int(text: &str) -> Result<Option<i64>, NotANumber> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = match lower.get(..2) {
        Some("0x") => (16, lower.get(2..).unwrap_or("")),
        Some("0o") => (8, lower.get(2..).unwrap_or("")),
        Some("0b") => (2, lower.get(2..).unwrap_or("")),
        Some(prefix) if prefix.starts_with('0') => (8, lower.get(1..).unwrap_or("")),
        _ => (10, lower.as_str()),
    };
    // An underscore may follow a prefix or a digit, and a digit must follow it.
    let prefixed = base != 10;
    let misplaced =
        digits.ends_with('_') || digits.contains("__") || (digits.starts_with('_') && !prefixed);
    let plain = digits.replace('_', "");
    if misplaced || plain.is_empty() || !plain.chars().all(|digit| digit.is_digit(base)) {
        return Err(NotANumber);
    }
    let magnitude = i128::from_str_radix(&plain, base).unwrap_or(i128::MAX);
    let number = if negative { -magnitude } else { magnitude };
    Ok(i64::try_from(number).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        for (text, number) in [
            ("0", 0),
            ("-0", 0),
            ("+7", 7),
            ("1_000", 1000),
            ("0x10", 16),
            ("0X_1f", 31),
            ("010", 8),
            ("0_10", 8),
            ("0o10", 8),
            ("0b101", 5),
            ("-9223372036854775808", i64::MIN),
        ] {
            assert!(
                matches!(parse_int(text), Ok(Some(n)) if n == number),
                "{text}"
            );
        }
        for text in [
            "", "-", "+", "1.5", "1e3", "abc", "0x", "08", "_1", "1_", "1__0", " 1", "--1",
        ] {
            assert!(matches!(parse_int(text), Err(NotANumber)), "{text}");
        }
        for text in [
            "9223372036854775808",
            "0xffffffffffffffffffffffffffffffffffffffff",
        ] {
            assert!(matches!(parse_int(text), Ok(None)), "{text}");
        }
    }
}
