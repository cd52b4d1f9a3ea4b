//! Who may do what: the operator's rules, and what a token says of whoever shows it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::Authority;
use super::text::{is_identifier, is_label};
use crate::time::Now;

/// Who may do a thing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Everybody, but who has a token that forbids it.
    #[default]
    Any,
    /// Who has a token that allows it.
    Token,
    /// Nobody.
    Never,
}

impl Access {
    /// `claim`: what the token says; `None`: there is no token, or it says nothing.
    pub fn allows(self, claim: Option<bool>) -> bool {
        match self {
            Self::Any => claim != Some(false),
            Self::Token => claim == Some(true),
            Self::Never => false,
        }
    }
}

/// What a member is to its room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// One of many.
    #[default]
    Member,
    /// May lock, kick and invite.
    Moderator,
}

/// One room, or several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RoomClaim {
    /// This one.
    One(String),
    /// Each of these.
    Several(Vec<String>),
}

impl RoomClaim {
    fn names(&self) -> &[String] {
        match self {
            Self::One(room) => std::slice::from_ref(room),
            Self::Several(rooms) => rooms,
        }
    }
}

/// What a token says: the payload of an invite or of a JWT (RFC 7519).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "specified in docs/signaling-protocol.md")]
pub struct Claims {
    pub exp: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<RoomClaim>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    #[serde(rename = "may-create", default, skip_serializing_if = "Option::is_none")]
    pub may_create: Option<bool>,
    #[serde(rename = "may-relay", default, skip_serializing_if = "Option::is_none")]
    pub may_relay: Option<bool>,
}

/// Why a token is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// It was good once.
    #[error("The token expired {0} s ago")]
    Expired(u64),
    /// It can't be verified. A sentence for whoever shows it.
    #[error("{0}")]
    Invalid(String),
}

impl Claims {
    /// Lets into this room until then, in seconds since the Unix epoch, and says nothing else.
    pub fn for_room(room: &str, exp: u64) -> Self {
        Self {
            exp,
            nbf: None,
            room: Some(RoomClaim::One(room.into())),
            name: None,
            sub: None,
            role: None,
            may_create: None,
            may_relay: None,
        }
    }

    /// Are they of this time, and fit to be used?
    ///
    /// # Errors
    /// [`BadToken`], with the claim.
    pub fn check(&self, now: Now) -> Result<(), BadToken> {
        let invalid = |why: &str| Err(BadToken::Invalid(why.into()));
        if self.exp <= now.unix {
            return Err(BadToken::Expired(now.unix - self.exp));
        }
        if self.nbf.is_some_and(|nbf| nbf > now.unix) {
            return invalid("The token is not good yet ('nbf'; check both clocks)");
        }
        if self.name.as_ref().is_some_and(|name| !is_label(name, 64)) {
            return invalid("The token's 'name' is no name for a member");
        }
        if self.sub.as_ref().is_some_and(|sub| !is_label(sub, 256)) {
            return invalid("The token's 'sub' is longer than 256 characters, or has control characters");
        }
        let rooms = self.room.as_ref().map_or(&[][..], RoomClaim::names);
        if !rooms.iter().all(|room| is_identifier(room, 256)) {
            return invalid("The token's 'room' is no name of a room");
        }
        Ok(())
    }

    /// Does it name this room?
    pub(super) fn names(&self, room: &str) -> bool {
        self.room.as_ref().is_some_and(|claim| claim.names().iter().any(|name| name == room))
    }
}

/// Invites begin so; the number is the version.
pub(super) const INVITE: &str = "i1.";

/// Makes an invite: `i1.<claims>.<mac>`, both base64url, the MAC over all that stands before its dot.
pub fn invite(secret: &[u8], claims: &Claims) -> String {
    // Text, numbers and booleans only: there is nothing in it that JSON lacks.
    let claims = serde_json::to_string(claims).unwrap_or_default();
    let signed = format!("{INVITE}{}", URL_SAFE_NO_PAD.encode(claims));
    let mac = mac(secret, &signed).finalize().into_bytes();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac))
}

/// What an invite says, if it was made with this secret. Its time is not looked at.
///
/// # Errors
/// [`BadToken::Invalid`].
pub fn read_invite(secret: &[u8], token: &str) -> Result<Claims, BadToken> {
    let invalid = || BadToken::Invalid("The invite was not made by this server, or was changed".into());
    let (signed, given) = token.rsplit_once('.').ok_or_else(invalid)?;
    let given = URL_SAFE_NO_PAD.decode(given).map_err(|_| invalid())?;
    mac(secret, signed).verify_slice(&given).map_err(|_| invalid())?;
    let payload = signed.strip_prefix(INVITE).and_then(|payload| URL_SAFE_NO_PAD.decode(payload).ok());
    serde_json::from_slice(&payload.ok_or_else(invalid)?)
        .map_err(|e| BadToken::Invalid(format!("The invite says what nobody understands: {e}")))
}

/// What a token says, an invite signed with `secret` or one for the authority, if it is good now.
///
/// # Errors
/// [`BadToken`].
pub fn read_token(
    now: Now,
    token: &str,
    secret: &[u8],
    authority: &mut dyn Authority,
) -> Result<Claims, BadToken> {
    let claims = match token.starts_with(INVITE) {
        true => read_invite(secret, token),
        false => authority.verify(now, token),
    }?;
    claims.check(now).map(|()| claims)
}

fn mac(secret: &[u8], signed: &str) -> Hmac<Sha256> {
    #[expect(clippy::expect_used, reason = "an HMAC takes a key of any length")]
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(secret).expect("any length");
    mac.update(signed.as_bytes());
    mac
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Instant;

    fn claims() -> Claims {
        Claims {
            exp: 1000,
            nbf: None,
            room: Some(RoomClaim::One("demo".into())),
            name: Some("Bob".into()),
            sub: None,
            role: None,
            may_create: None,
            may_relay: Some(true),
        }
    }

    fn at(unix: u64) -> Now {
        Now { instant: Instant::from_millis(0), unix }
    }

    #[test]
    fn an_invite_says_what_was_signed_and_nothing_else_passes() {
        let token = invite(b"secret", &claims());
        assert_eq!(read_invite(b"secret", &token), Ok(claims()));
        assert!(read_invite(b"another", &token).is_err());
        for at in 0..token.len() {
            let mut forged = token.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            // The last letter of a MAC has two bits that stand for nothing; base64 refuses others than zero.
            assert!(read_invite(b"secret", &forged).is_err(), "{at}");
        }
        for bad in ["", "i1.", "i1..", "a.b", &token[..token.len() - 1], &token[3..]] {
            assert!(read_invite(b"secret", bad).is_err(), "{bad}");
        }
    }

    /// Made with Python: base64.urlsafe_b64encode, hmac.new(b"secret", b"i1." + payload, "sha256").
    #[test]
    fn an_invite_can_be_made_elsewhere() {
        let token = "i1.eyJleHAiOjEwMDAsInJvb20iOiJkZW1vIn0.slHkvFL7VjRRZ0vjR_4jv5cSzLwH6IIlCJGSLpih-D4";
        let read = read_invite(b"secret", token).unwrap();
        assert_eq!(read.room, Some(RoomClaim::One("demo".into())));
    }

    #[test]
    fn claims_have_their_time_and_form() {
        assert_eq!(claims().check(at(999)), Ok(()));
        assert_eq!(claims().check(at(1007)), Err(BadToken::Expired(7)));
        assert!(Claims { nbf: Some(5), ..claims() }.check(at(4)).is_err());
        assert!(Claims { name: Some("\n".into()), ..claims() }.check(at(4)).is_err());
        let rooms = RoomClaim::Several(vec!["a".into(), "b c".into()]);
        assert!(Claims { room: Some(rooms), ..claims() }.check(at(4)).is_err());
    }

    #[test]
    fn rules() {
        use Access::{Any, Never, Token};
        for (access, none, yes, no) in
            [(Any, true, true, false), (Token, false, true, false), (Never, false, false, false)]
        {
            let allowed = [None, Some(true), Some(false)].map(|claim| access.allows(claim));
            assert_eq!(allowed, [none, yes, no], "{access:?}");
        }
    }
}
