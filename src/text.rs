//! Text from outside, made fit for a line of a log.

/// How much of a text is kept unless its place has a bound of its own, in bytes.
const MAX: usize = 512;

/// What a peer sent: valid UTF-8 without control characters, which could end the line or look like another one, and at
/// most `limit` bytes.
pub(crate) fn clean(raw: &[u8], limit: usize) -> String {
    let mut text = String::with_capacity(raw.len().min(limit));
    for char in String::from_utf8_lossy(raw).chars() {
        let char = if char.is_control() { ' ' } else { char };
        if text.len() + char.len_utf8() > limit {
            break;
        }
        text.push(char);
    }
    text
}

/// The same of a text, in at most 512 bytes.
pub(crate) fn one_line(text: &str) -> String {
    clean(text.as_bytes(), MAX)
}

/// The first 512 bytes of a text, for places that escape it.
pub(crate) fn shorten(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX)]
}

/// A text without the mark of its byte order (U+FEFF), which some servers put before JSON.
#[cfg(feature = "client")]
pub(crate) fn without_mark(raw: &[u8]) -> &[u8] {
    raw.strip_prefix("\u{feff}".as_bytes()).unwrap_or(raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_peer_is_one_line_of_bounded_length() {
        assert_eq!(clean(b"a\r\n\x1b[31mb\xff", 100), "a   [31mb\u{fffd}");
        assert_eq!(clean("ééé".as_bytes(), 5), "éé");
        assert_eq!(one_line(&"é\n".repeat(MAX)).len(), MAX);
    }
}
