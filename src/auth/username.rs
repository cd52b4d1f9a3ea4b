//! User names that carry their own end.

/// A user name with a time stamp, in one of the four forms that coturn accepts.
///
/// | form | user |
/// |---|---|
/// | `1795347722` | empty |
/// | `1795347722:alice` | `alice` |
/// | `alice:1795347722` | `alice` |
/// | `:1795347722` | empty |
///
/// A leading time stamp wins over a trailing one; what stands on the other side of its colon is the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedUsername<'a> {
    /// Seconds since the Unix epoch.
    pub expires: u64,
    /// The user, possibly empty.
    pub user: &'a str,
}

impl<'a> TimedUsername<'a> {
    /// `None` if the name carries no time stamp.
    pub fn parse(name: &'a str) -> Option<Self> {
        let (head, tail) = name.split_once(':').unwrap_or((name, ""));
        if let Some(expires) = timestamp(head) {
            return Some(Self { expires, user: tail });
        }
        let (user, tail) = name.rsplit_once(':')?;
        Some(Self { expires: timestamp(tail)?, user })
    }
}

/// Digits only: `u64::from_str` alone would also take a sign.
fn timestamp(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}
