//! Go's `%q`, which nsqd uses for names in error texts.

/// Appends `bytes` in double quotes, escaped as Go's `strconv.Quote` does it.
pub fn quote(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            push_char(c, out);
        }
        for byte in chunk.invalid() {
            out.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
        }
    }
    out.push(b'"');
}

fn push_char(c: char, out: &mut Vec<u8>) {
    let short = match c {
        '\x07' => "\\a",
        '\x08' => "\\b",
        '\x0c' => "\\f",
        '\n' => "\\n",
        '\r' => "\\r",
        '\t' => "\\t",
        '\x0b' => "\\v",
        '\\' => "\\\\",
        '"' => "\\\"",
        _ => "",
    };
    if !short.is_empty() {
        out.extend_from_slice(short.as_bytes());
    } else if is_print(c) {
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    } else {
        let code = u32::from(c);
        let text = match code {
            0..=0x1f | 0x7f => format!("\\x{code:02x}"),
            0x80..=0xffff => format!("\\u{code:04x}"),
            _ => format!("\\U{code:08x}"),
        };
        out.extend_from_slice(text.as_bytes());
    }
}

/// Go's `unicode.IsPrint`: letters, marks, numbers, punctuation, symbols and the plain space.
/// The standard library escapes the same rest when it debug-prints a character that is not the
/// first of its text (the first would also be escaped for being a mark).
fn is_print(c: char) -> bool {
    if c.is_ascii() {
        return matches!(c, ' '..='~');
    }
    let mut text = String::from("a");
    text.push(c);
    text.escape_debug().nth(1) == Some(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quoted(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        quote(bytes, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn texts_are_escaped_as_go_escapes_them() {
        // The right-hand sides are what Go's fmt.Printf("%q") prints.
        assert_eq!(quoted(b""), r#""""#);
        assert_eq!(quoted(b"a b"), r#""a b""#);
        assert_eq!(
            quoted(b"a\"\\\n\t\r\x00\x1b\x7f"),
            r#""a\"\\\n\t\r\x00\x1b\x7f""#
        );
        assert_eq!(quoted(b"\x07\x08\x0c\x0b"), r#""\a\b\f\v""#);
        assert_eq!(quoted("é 日本".as_bytes()), "\"é 日本\"");
        assert_eq!(quoted(b"\xff\xc3"), r#""\xff\xc3""#);
        assert_eq!(
            quoted("\u{ad}\u{85}\u{2028}".as_bytes()),
            r#""\u00ad\u0085\u2028""#
        );
        assert_eq!(quoted("\u{e0001}".as_bytes()), r#""\U000e0001""#);
        assert_eq!(quoted("\u{fffd}".as_bytes()), "\"\u{fffd}\"");
        assert_eq!(quoted("e\u{301}".as_bytes()), "\"e\u{301}\"");
        assert_eq!(quoted("'".as_bytes()), "\"'\"");
    }
}
