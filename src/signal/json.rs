//! Is a payload that passes through unread fit for whoever receives it?
//!
//! JSON's grammar allows what many parsers refuse: half a surrogate pair, numbers beyond a double, nesting without
//! end (RFC 8259 sections 6, 8.2, 9). One member must not break another's parser through us.

/// Objects and arrays within each other.
const MAX_DEPTH: u32 = 32;

/// Looks through a JSON text whose grammar is known to be right: once, and without reading any of it into a value.
///
/// # Errors
/// The first thing that is not as above.
pub(super) fn check(text: &str) -> Result<(), String> {
    let bytes = text.as_bytes();
    let (mut at, mut depth) = (0, 0);
    while let Some(byte) = bytes.get(at) {
        at = match byte {
            b'"' => string(bytes, at + 1)?,
            b'-' | b'0'..=b'9' => number(text, at)?,
            b'{' | b'[' if depth == MAX_DEPTH => return Err(format!("nested deeper than {MAX_DEPTH}")),
            b'{' | b'[' => {
                depth += 1;
                at + 1
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                at + 1
            }
            _ => at + 1,
        };
    }
    Ok(())
}

/// Where the string ends that begins at `at`, after its quotation mark.
fn string(bytes: &[u8], mut at: usize) -> Result<usize, String> {
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some(next) = memchr::memchr2(b'"', b'\\', rest) else {
            return Err("a string without end".into());
        };
        at += next;
        at = match (bytes.get(at), unit(bytes, at)) {
            (Some(b'"'), _) => return Ok(at + 1),
            // Two units make one character beyond U+FFFF (RFC 8259 section 7).
            (_, Some(0xD800..0xDC00)) if matches!(unit(bytes, at + UNIT), Some(0xDC00..0xE000)) => {
                at + 2 * UNIT
            }
            (_, Some(0xD800..0xE000)) => return Err("half a surrogate pair".into()),
            (_, Some(_)) => at + UNIT,
            (_, None) => at + 2,
        };
    }
}

/// Bytes of `\uXXXX`.
const UNIT: usize = 6;

/// The UTF-16 code unit whose escape begins at `at`, if it is one.
fn unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + UNIT)?.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Where the number ends that begins at `at`.
fn number(text: &str, at: usize) -> Result<usize, String> {
    let rest = text.get(at..).unwrap_or_default();
    let len =
        rest.find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E')).unwrap_or(rest.len());
    match rest.get(..len).unwrap_or_default().parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(at + len),
        _ => Err("number out of range".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_parser_takes_passes() {
        let deep = format!("{}{}", "[".repeat(32), "]".repeat(32));
        for good in [
            r#"{"a":[null,true,-1,1.5e300,"\ud83d\ude00 é \u0000"]}"#,
            "123456789012345678901234567890",
            &deep,
        ] {
            assert!(check(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn what_many_parsers_refuse_is_refused() {
        let deep = format!("{}{}", "[".repeat(33), "]".repeat(33));
        let endless = "[".repeat(100_000);
        for bad in [r#""\ud800""#, r#"{"\udc00":1}"#, "[1e999]", &deep, &endless, r#"{"a":"#] {
            assert!(check(bad).is_err(), "{bad:.40}");
        }
    }
}
