//! JSON objects read as Go reads them: keys match without regard to case, the last of several
//! wins, `null` leaves the default, unknown keys are skipped, a wrong type is an error.

use serde::{Deserialize, Deserializer};

/// Decodes `body`; invalid UTF-8 becomes U+FFFD, as in Go.
pub(crate) fn from_slice<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Option<T> {
    serde_json::from_str(&String::from_utf8_lossy(body)).ok()
}

/// A list that may be `null`.
pub(crate) fn list<'de, T, D>(input: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Ok(Option::deserialize(input)?.unwrap_or_default())
}

/// `Deserialize` for a struct with `Default` whose JSON keys are its field names.
macro_rules! go_object {
    ($type:ident { $($field:ident),* $(,)? }) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                struct Keys;
                impl<'de> serde::de::Visitor<'de> for Keys {
                    type Value = $type;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("an object")
                    }

                    fn visit_unit<E: serde::de::Error>(self) -> Result<$type, E> {
                        Ok($type::default())
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(
                        self,
                        mut map: A,
                    ) -> Result<$type, A::Error> {
                        let mut object = $type::default();
                        while let Some(key) = map.next_key::<String>()? {
                            $(if key.eq_ignore_ascii_case(stringify!($field)) {
                                if let Some(value) = map.next_value::<Option<_>>()? {
                                    object.$field = value;
                                }
                                continue;
                            })*
                            map.next_value::<serde::de::IgnoredAny>()?;
                        }
                        Ok(object)
                    }
                }
                input.deserialize_any(Keys)
            }
        }
    };
}

pub(crate) use go_object;
