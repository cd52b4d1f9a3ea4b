//! A request on its way through the server: what it asks, who asks, and the answer.

use super::FiveTuple;
use super::rejection::Rejection;
use crate::auth::{Challenge, Identity};
use crate::stun::{Attribute, AttributeType, Builder, Class, Message};

/// One request and where it came from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    pub message: Message<'a>,
    pub flow: FiveTuple,
    /// Who asks; `None` until that is proved, and for Binding, which anybody may ask.
    pub identity: Option<&'a Identity>,
}

impl<'a> Request<'a> {
    /// Does it carry a signature, good or bad?
    pub(super) fn is_signed(&self) -> bool {
        let signed = |kind| self.message.find(kind).is_some();
        signed(AttributeType::MESSAGE_INTEGRITY) || signed(AttributeType::MESSAGE_INTEGRITY_SHA256)
    }

    /// The first attribute of this type, understood.
    pub(super) fn get(&self, kind: AttributeType) -> Result<Option<Attribute<'a>>, Rejection> {
        let decode = |raw: crate::stun::RawAttribute<'a>| raw.decode(self.message.transaction_id());
        self.message
            .find(kind)
            .map(decode)
            .transpose()
            .map_err(|_| Rejection::BadRequest("a malformed attribute"))
    }

    /// LIFETIME in seconds, if present.
    pub(super) fn lifetime(&self) -> Result<Option<u32>, Rejection> {
        Ok(self.get(AttributeType::LIFETIME)?.and_then(|a| match a {
            Attribute::Lifetime(seconds) => Some(seconds),
            _ => None,
        }))
    }

    /// Attributes that this server must understand and does not; `also` lists some that it does here.
    pub(super) fn unknown_attributes(&self, also: &[AttributeType]) -> Vec<AttributeType> {
        let mut unknown: Vec<_> = unknown(&self.message).filter(|kind| !also.contains(kind)).collect();
        unknown.sort_unstable();
        unknown.dedup();
        unknown
    }

    /// A success response, to be filled and then sealed with [`seal`](Self::seal).
    pub(super) fn success(&self) -> Builder {
        Builder::response(Class::Success, &self.message)
    }

    /// An error response, to be sealed. 401 and 438 carry a challenge.
    //= 8489-6.3.1.1-1 8489-9.2.4-6 8489-9.2.4-8 8489-9.2.4-11 8489-9.2.4-13 8489-9.2.4-15
    pub(super) fn error(&self, rejection: &Rejection, challenge: Option<&Challenge<'_>>) -> Builder {
        // Without a phrase for strangers: an answer should not be much larger than its question.
        let reason = if self.identity.is_some() { rejection.reason() } else { "" };
        let mut builder = Builder::response(Class::Error, &self.message).error_code(rejection.code(), reason);
        //= 8489-9.2.4-2
        if let Some(challenge) = challenge {
            builder = builder
                .raw(AttributeType::REALM, challenge.realm.as_bytes())
                .raw(AttributeType::NONCE, challenge.nonce.as_bytes());
            //= 7635-6.1-1
            if let (Some(name), 401) = (challenge.server_name, rejection.code()) {
                builder = builder.raw(AttributeType::THIRD_PARTY_AUTHORIZATION, name.as_bytes());
            }
            if let Some(algorithms) = challenge.algorithms {
                builder = builder.raw(AttributeType::PASSWORD_ALGORITHMS, algorithms);
            }
        }
        match rejection {
            //= 8489-6.3.1.1-3
            Rejection::UnknownAttributes(kinds) => builder.unknown_attributes(kinds),
            Rejection::TryAlternate { to, or, .. } => {
                let named = std::iter::once(to).chain(or);
                named.fold(builder, |b, server| b.address(AttributeType::ALTERNATE_SERVER, *server))
            }
            _ => builder,
        }
    }

    /// Signs, and adds FINGERPRINT if the request had one.
    //= 7635-7-5 8489-6.3.1.1-4 8489-9.2.4-16 8489-9.2.4-17 8489-14.8-3
    pub(super) fn seal(&self, builder: Builder) -> Vec<u8> {
        let builder = match self.identity.map(|i| &i.key) {
            // Who chose an algorithm is answered with the stronger signature (RFC 8489 section 9.2.4).
            Some(key) if self.message.find(AttributeType::PASSWORD_ALGORITHM).is_some() => {
                builder.message_integrity_sha256(key.as_bytes())
            }
            Some(key) => builder.message_integrity(key.as_bytes()),
            None => builder,
        };
        //= 8489-14.7-1
        match self.message.find(AttributeType::FINGERPRINT) {
            Some(_) => builder.fingerprint().finish(),
            None => builder.finish(),
        }
    }
}

/// The comprehension-required attributes of a message that this server does not know, as they come.
//= 8489-6.3-1
pub(super) fn unknown<'a>(message: &Message<'a>) -> impl Iterator<Item = AttributeType> + use<'a> {
    message.attributes().map(|a| a.kind).filter(|kind| kind.is_comprehension_required() && !is_known(*kind))
}

//= 8489-6.3-2
const fn is_known(kind: AttributeType) -> bool {
    use AttributeType as T;
    matches!(
        kind,
        T::MAPPED_ADDRESS
            | T::USERNAME
            | T::MESSAGE_INTEGRITY
            | T::ERROR_CODE
            | T::UNKNOWN_ATTRIBUTES
            | T::CHANNEL_NUMBER
            | T::LIFETIME
            | T::XOR_PEER_ADDRESS
            | T::DATA
            | T::REALM
            | T::NONCE
            | T::XOR_RELAYED_ADDRESS
            | T::REQUESTED_ADDRESS_FAMILY
            | T::EVEN_PORT
            | T::REQUESTED_TRANSPORT
            | T::DONT_FRAGMENT
            | T::MESSAGE_INTEGRITY_SHA256
            | T::PASSWORD_ALGORITHM
            | T::USERHASH
            | T::XOR_MAPPED_ADDRESS
            | T::RESERVATION_TOKEN
            | T::CONNECTION_ID
    )
}
