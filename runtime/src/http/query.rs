//! Query strings, read as Go's `url.ParseQuery` reads them, because that decides which requests
//! NSQ's servers refuse.

/// The parameters of a query, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

/// A query that is refused as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// A percent sign without two hexadecimal digits after it.
    #[error("invalid URL escape")]
    Escape,
    /// A semicolon, which once separated parameters.
    #[error("invalid semicolon separator in query")]
    Semicolon,
}

impl Query {
    /// Reads what follows the question mark. A parameter without `=` has an empty value; bytes that
    /// are no UTF-8 become U+FFFD (no name of NSQ's has any).
    ///
    /// # Errors
    /// When one parameter is malformed.
    pub fn parse(text: &str) -> Result<Query, QueryError> {
        let mut pairs = Vec::new();
        for part in text.split('&') {
            if part.contains(';') {
                return Err(QueryError::Semicolon);
            }
            if part.is_empty() {
                continue;
            }
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            pairs.push((unescape(key)?, unescape(value)?));
        }
        Ok(Query { pairs })
    }

    /// The first value of a parameter; `None` when it is not there at all.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(known, _)| known == key)
            .map(|(_, value)| value.as_str())
    }
}

fn unescape(text: &str) -> Result<String, QueryError> {
    let mut bytes = text.bytes();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || {
                    let digit = char::from(bytes.next()?).to_digit(16)?;
                    u8::try_from(digit).ok()
                };
                match (digit(), digit()) {
                    (Some(high), Some(low)) => high << 4 | low,
                    _ => return Err(QueryError::Escape),
                }
            }
            other => other,
        });
    }
    Ok(String::from_utf8_lossy(&plain).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_wins_and_a_missing_one_is_told_from_an_empty_one() {
        let query = Query::parse("topic=a&topic=b&binary&defer=").unwrap();
        assert_eq!(query.get("topic"), Some("a"));
        assert_eq!(query.get("binary"), Some(""));
        assert_eq!(query.get("defer"), Some(""));
        assert_eq!(query.get("channel"), None);
        assert_eq!(Query::parse("").unwrap(), Query::default());
    }

    #[test]
    fn escapes_and_pluses_are_decoded() {
        let query = Query::parse("topic=a%23ephemeral&x=a+b&%6b=v&e=%ff").unwrap();
        assert_eq!(query.get("topic"), Some("a#ephemeral"));
        assert_eq!(query.get("x"), Some("a b"));
        assert_eq!(query.get("k"), Some("v"));
        assert_eq!(query.get("e"), Some("\u{fffd}"));
    }

    #[test]
    fn malformed_queries_are_refused() {
        for text in ["a=%", "a=%4", "a=%zz", "%g1=a", "a=%+1"] {
            assert_eq!(Query::parse(text), Err(QueryError::Escape), "{text}");
        }
        assert_eq!(Query::parse("a=1;b=2"), Err(QueryError::Semicolon));
    }
}
