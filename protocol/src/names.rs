//! Topic and channel names: `^[.a-zA-Z0-9_-]+(#ephemeral)?$`, 1 to 64 bytes in all.

use std::borrow::Borrow;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::NAME_BYTES_MAX;

const EPHEMERAL_SUFFIX: &[u8] = b"#ephemeral";

/// Why a name was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a name is 1 to 64 of the characters . a-z A-Z 0-9 _ -, with or without #ephemeral")]
pub struct NameError;

/// `name` as text if it is a valid topic or channel name.
pub fn check(name: &[u8]) -> Option<&str> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return None;
    }
    let stem = name.strip_suffix(EPHEMERAL_SUFFIX).unwrap_or(name);
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if stem.is_empty() || !stem.iter().all(plain) {
        return None;
    }
    std::str::from_utf8(name).ok()
}

/// Whether a valid name says that its topic or channel lives in memory only.
pub fn is_ephemeral(name: &str) -> bool {
    name.as_bytes().ends_with(EPHEMERAL_SUFFIX)
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(heapless::String<NAME_BYTES_MAX>);

        impl $name {
            /// Checks and copies a name.
            pub fn new(name: &str) -> Result<Self, NameError> {
                Self::from_bytes(name.as_bytes())
            }

            /// Checks and copies a name as it came over the wire.
            pub fn from_bytes(name: &[u8]) -> Result<Self, NameError> {
                let text = check(name).ok_or(NameError)?;
                heapless::String::try_from(text).map(Self).map_err(|_| NameError)
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }

            /// Whether it ends in `#ephemeral`: kept in memory only, gone with its last user.
            pub fn is_ephemeral(&self) -> bool {
                is_ephemeral(self.as_str())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        // Hash and Ord of the heapless string are those of its text, as Borrow demands.
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                self.as_str()
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;

            fn from_str(name: &str) -> Result<Self, NameError> {
                Self::new(name)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

name_type! {
    /// A valid topic name.
    TopicName
}

name_type! {
    /// A valid channel name.
    ChannelName
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_for_names_is_nsqs() {
        for good in [
            "a",
            "A.b_c-9",
            "clicks#ephemeral",
            "#ephemeral".repeat(0).as_str(),
        ] {
            assert_eq!(
                check(good.as_bytes()).is_some(),
                !good.is_empty(),
                "{good:?}"
            );
        }
        let longest = "x".repeat(64);
        assert!(TopicName::new(&longest).is_ok());
        assert!(TopicName::new(&format!("{}#ephemeral", "x".repeat(54))).is_ok());
        for bad in [
            "".to_owned(),
            "x".repeat(65),
            "x".repeat(55) + "#ephemeral",
            "#ephemeral".to_owned(),
            "a#ephemeral#ephemeral".to_owned(),
            "a b".to_owned(),
            "a\n".to_owned(),
            "é".to_owned(),
            "a#".to_owned(),
        ] {
            assert!(TopicName::new(&bad).is_err(), "{bad:?}");
            assert!(ChannelName::new(&bad).is_err(), "{bad:?}");
        }
        assert!(TopicName::from_bytes(b"a\xff").is_err());
    }

    #[test]
    fn ephemeral_is_told_by_the_suffix() {
        assert!(TopicName::new("t#ephemeral").unwrap().is_ephemeral());
        assert!(!TopicName::new("ephemeral").unwrap().is_ephemeral());
    }

    #[test]
    fn a_name_in_json_is_checked() {
        assert!(serde_json::from_str::<TopicName>("\"a b\"").is_err());
        let name: ChannelName = serde_json::from_str("\"c\"").unwrap();
        assert_eq!(serde_json::to_string(&name).unwrap(), "\"c\"");
    }
}
