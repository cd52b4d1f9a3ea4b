//! OpaqueString (RFC 8265 section 4.2): one form for text that people type, so that the é of one keyboard is the é of
//! another. What enters: a realm, a name or a password as configured. What leaves: the form that clients send and hash
//! (RFC 8489 section 9.2.2).

use std::borrow::Cow;

use precis_profiles::OpaqueString;
use precis_profiles::precis_core::Error;
use precis_profiles::precis_core::profile::PrecisFastInvocation;

/// Text that the OpaqueString profile forbids: no client can send it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// Nothing is left of it.
    #[error("it is empty")]
    Empty,
    /// Control characters, unassigned ones, and others that can't be told apart or seen.
    #[error("its character number {0} is not allowed in names and passwords (RFC 8265)")]
    Character(
        /// Counted from 1.
        usize,
    ),
    /// A character that may stand only beside certain others, such as a middle dot (RFC 8264 section 9.8).
    #[error("one of its characters is not allowed in its place (RFC 8265)")]
    Context,
}

/// Prepares text by the OpaqueString profile: composed (NFC), each kind of space a plain one; case and width stay.
///
/// ```
/// use ternd::auth::opaque_string;
///
/// assert_eq!(opaque_string("cafe\u{301}\u{a0}au lait").unwrap(), "caf\u{e9} au lait");
/// assert!(opaque_string("bell\u{7}").is_err());
/// ```
///
/// # Errors
/// [`Forbidden`] tells where.
//= 8489-14.3-2
pub fn opaque_string(text: &str) -> Result<Cow<'_, str>, Forbidden> {
    let prepared = enforce(text)?;
    // Composing can make a character of another one that is not allowed: what clients send must be right by itself.
    enforce(&prepared)?;
    Ok(prepared)
}

fn enforce(text: &str) -> Result<Cow<'_, str>, Forbidden> {
    OpaqueString::enforce(text).map_err(|error| match error {
        Error::BadCodepoint(bad) => Forbidden::Character(bad.position + 1),
        Error::Invalid | Error::Unexpected(_) if text.is_empty() => Forbidden::Empty,
        Error::Invalid | Error::Unexpected(_) => Forbidden::Context,
    })
}
