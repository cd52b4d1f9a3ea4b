//! What clients may call things.

/// Names of rooms and peer connections: a letter or digit of any script, then letters, digits, `-`, `_`, `.`, `~`.
/// Such a name goes into a URL, a log and an attribute without surprises. Names are compared code point by code
/// point; accents must be part of their letter (NFC), so that the two spellings of "é" can't be two rooms.
pub(super) fn is_identifier(text: &str, max_chars: usize) -> bool {
    text.starts_with(char::is_alphanumeric)
        && fits(text, max_chars)
        && text.chars().all(|c| c.is_alphanumeric() || "-_.~".contains(c))
}

/// Names for people: anything on one line. No control characters, no line separators, and nothing that turns
/// the direction of the text around it.
pub(super) fn is_label(text: &str, max_chars: usize) -> bool {
    let turns = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    fits(text, max_chars)
        && !text.chars().any(|c| c.is_control() || turns(c) || matches!(c, '\u{2028}' | '\u{2029}'))
}

fn fits(text: &str, max_chars: usize) -> bool {
    text.chars().nth(max_chars).is_none()
}

/// The beginning of a text, for an error message.
pub(super) fn excerpt(text: &str) -> &str {
    const CHARS: usize = 160;
    text.char_indices().nth(CHARS).map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers() {
        for good in ["demo", "7", "Ñandú", "会议室", "комната-1", "a.b~c_d", "हिन", &"x".repeat(64)]
        {
            assert!(is_identifier(good, 64), "{good:?}");
        }
        let long = "x".repeat(65);
        for bad in ["", ".", "..", "-a", "a b", "a/b", "a\n", "<b>", "a\u{301}", "\u{202e}a", "a%20", &long] {
            assert!(!is_identifier(bad, 64), "{bad:?}");
        }
    }

    #[test]
    fn labels() {
        for good in ["", "Alice", "José  O'Neill <jo@x>", "👩‍💻", &"ü".repeat(64)] {
            assert!(is_label(good, 64), "{good:?}");
        }
        for bad in ["a\nb", "\u{0}", "\u{7f}", "\u{202e}evil", "\u{2028}", &"ü".repeat(65)] {
            assert!(!is_label(bad, 64), "{bad:?}");
        }
    }
}
