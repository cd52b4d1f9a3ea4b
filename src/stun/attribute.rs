//! Attributes: raw and typed (RFC 8489 section 14, RFC 8656 section 18).

use std::net::SocketAddr;

use super::{ChannelNumber, TransactionId, decode_address, decode_xor_address};

/// The 16-bit type of an attribute. Below 0x8000 the receiver must understand it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttributeType(pub u16);

macro_rules! attribute_types {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal;)*) => {
        impl AttributeType {
            $($(#[$doc])* pub const $name: Self = Self($value);)*

            /// The name in the RFC, if this crate knows it.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 { $($value => Some($text),)* _ => None }
            }
        }
    };
}

attribute_types! {
    /// RFC 8489 section 14.1.
    MAPPED_ADDRESS = 0x0001, "MAPPED-ADDRESS";
    /// RFC 5780 section 7.2.
    CHANGE_REQUEST = 0x0003, "CHANGE-REQUEST";
    /// RFC 8489 section 14.3.
    USERNAME = 0x0006, "USERNAME";
    /// RFC 8489 section 14.5.
    MESSAGE_INTEGRITY = 0x0008, "MESSAGE-INTEGRITY";
    /// RFC 8489 section 14.8.
    ERROR_CODE = 0x0009, "ERROR-CODE";
    /// RFC 8489 section 14.13.
    UNKNOWN_ATTRIBUTES = 0x000A, "UNKNOWN-ATTRIBUTES";
    /// RFC 8656 section 18.1.
    CHANNEL_NUMBER = 0x000C, "CHANNEL-NUMBER";
    /// RFC 8656 section 18.2.
    LIFETIME = 0x000D, "LIFETIME";
    /// RFC 8656 section 18.3.
    XOR_PEER_ADDRESS = 0x0012, "XOR-PEER-ADDRESS";
    /// RFC 8656 section 18.4.
    DATA = 0x0013, "DATA";
    /// RFC 8489 section 14.9.
    REALM = 0x0014, "REALM";
    /// RFC 8489 section 14.10.
    NONCE = 0x0015, "NONCE";
    /// RFC 8656 section 18.5.
    XOR_RELAYED_ADDRESS = 0x0016, "XOR-RELAYED-ADDRESS";
    /// RFC 8656 section 18.6.
    REQUESTED_ADDRESS_FAMILY = 0x0017, "REQUESTED-ADDRESS-FAMILY";
    /// RFC 8656 section 18.7.
    EVEN_PORT = 0x0018, "EVEN-PORT";
    /// RFC 8656 section 18.8.
    REQUESTED_TRANSPORT = 0x0019, "REQUESTED-TRANSPORT";
    /// RFC 8656 section 18.9.
    DONT_FRAGMENT = 0x001A, "DONT-FRAGMENT";
    /// RFC 7635 section 6.2.
    ACCESS_TOKEN = 0x001B, "ACCESS-TOKEN";
    /// RFC 8489 section 14.6.
    MESSAGE_INTEGRITY_SHA256 = 0x001C, "MESSAGE-INTEGRITY-SHA256";
    /// RFC 8489 section 14.12.
    PASSWORD_ALGORITHM = 0x001D, "PASSWORD-ALGORITHM";
    /// RFC 8489 section 14.4.
    USERHASH = 0x001E, "USERHASH";
    /// RFC 8489 section 14.2.
    XOR_MAPPED_ADDRESS = 0x0020, "XOR-MAPPED-ADDRESS";
    /// RFC 8656 section 18.10.
    RESERVATION_TOKEN = 0x0022, "RESERVATION-TOKEN";
    /// RFC 5780 section 7.6.
    PADDING = 0x0026, "PADDING";
    /// RFC 5780 section 7.5.
    RESPONSE_PORT = 0x0027, "RESPONSE-PORT";
    /// RFC 6062 section 6.2.1.
    CONNECTION_ID = 0x002A, "CONNECTION-ID";
    /// RFC 8656 section 18.11.
    ADDITIONAL_ADDRESS_FAMILY = 0x8000, "ADDITIONAL-ADDRESS-FAMILY";
    /// RFC 8656 section 18.12.
    ADDRESS_ERROR_CODE = 0x8001, "ADDRESS-ERROR-CODE";
    /// RFC 8489 section 14.11.
    PASSWORD_ALGORITHMS = 0x8002, "PASSWORD-ALGORITHMS";
    /// RFC 8489 section 14.16.
    ALTERNATE_DOMAIN = 0x8003, "ALTERNATE-DOMAIN";
    /// RFC 8656 section 18.13.
    ICMP = 0x8004, "ICMP";
    /// RFC 8489 section 14.14.
    SOFTWARE = 0x8022, "SOFTWARE";
    /// RFC 8489 section 14.15.
    ALTERNATE_SERVER = 0x8023, "ALTERNATE-SERVER";
    /// RFC 8489 section 14.7.
    FINGERPRINT = 0x8028, "FINGERPRINT";
    /// RFC 5780 section 7.3.
    RESPONSE_ORIGIN = 0x802B, "RESPONSE-ORIGIN";
    /// RFC 5780 section 7.4.
    OTHER_ADDRESS = 0x802C, "OTHER-ADDRESS";
    /// RFC 7635 section 6.1.
    THIRD_PARTY_AUTHORIZATION = 0x802E, "THIRD-PARTY-AUTHORIZATION";
    /// RFC 8016 section 3.3.
    MOBILITY_TICKET = 0x8030, "MOBILITY-TICKET";
}

impl AttributeType {
    /// Must a receiver that does not know this type refuse the message? (RFC 8489 section 14)
    pub const fn is_comprehension_required(self) -> bool {
        self.0 < 0x8000
    }
}

impl std::fmt::Debug for AttributeType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{:#06x}", self.0),
        }
    }
}

/// An address family as attributes name it: 0x01 and 0x02 (RFC 8489 section 14.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub const fn of(addr: &std::net::IpAddr) -> Self {
        if addr.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The number on the wire.
    pub const fn number(self) -> u8 {
        match self {
            Self::V4 => 1,
            Self::V6 => 2,
        }
    }

    const fn from_number(n: u8) -> Option<Self> {
        match n {
            1 => Some(Self::V4),
            2 => Some(Self::V6),
            _ => None,
        }
    }
}

/// An entry of PASSWORD-ALGORITHMS, or PASSWORD-ALGORITHM itself (RFC 8489 sections 14.11, 14.12 and 18.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasswordAlgorithm<'a> {
    /// 1 is MD5, 2 is SHA-256.
    pub number: u16,
    /// Parameters; empty for both known algorithms.
    pub parameters: &'a [u8],
}

impl PasswordAlgorithm<'_> {
    /// RFC 8489 section 18.5.1.1.
    pub const MD5: u16 = 1;
    /// RFC 8489 section 18.5.1.2.
    pub const SHA256: u16 = 2;
}

/// The value does not have the form its type asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0:?}")]
pub struct DecodeError(pub AttributeType);

/// An attribute as it stands in the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawAttribute<'a> {
    /// Its type.
    pub kind: AttributeType,
    /// Its value without padding.
    pub value: &'a [u8],
    /// Where its header starts, in bytes from the start of the message.
    pub offset: usize,
}

/// An attribute with its value understood.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Attribute<'a> {
    /// The client's address as the server sees it, in the clear.
    MappedAddress(SocketAddr),
    /// The client's address as the server sees it.
    XorMappedAddress(SocketAddr),
    /// User name. Senders keep to 508 bytes; up to 763 are read (RFC 8489 section 14.3).
    Username(&'a [u8]),
    /// SHA-256 of user name and realm.
    Userhash(&'a [u8; 32]),
    /// HMAC-SHA1.
    MessageIntegrity(&'a [u8; 20]),
    /// HMAC-SHA256, 16 to 32 bytes.
    MessageIntegritySha256(&'a [u8]),
    /// CRC-32, already without its XOR mask.
    Fingerprint(u32),
    /// Code 300 to 699 and reason phrase.
    ErrorCode {
        /// The code.
        code: u16,
        /// The phrase, meant for people.
        reason: &'a str,
    },
    /// Realm, fewer than 128 characters (763 bytes).
    Realm(&'a [u8]),
    /// Nonce, fewer than 128 characters (763 bytes).
    Nonce(&'a [u8]),
    /// Algorithms on offer: the raw list, see [`RawAttribute::password_algorithms`].
    PasswordAlgorithms(&'a [u8]),
    /// The algorithm chosen.
    PasswordAlgorithm(PasswordAlgorithm<'a>),
    /// The raw list of 16-bit types, see [`RawAttribute::unknown_attributes`].
    UnknownAttributes(&'a [u8]),
    /// Description of the software.
    Software(&'a str),
    /// Where to go instead.
    AlternateServer(SocketAddr),
    /// The name in that server's certificate.
    AlternateDomain(&'a str),
    /// Channel number; any 16-bit value, the range is the relay's affair.
    ChannelNumber(ChannelNumber),
    /// Seconds.
    Lifetime(u32),
    /// A peer.
    XorPeerAddress(SocketAddr),
    /// Application data.
    Data(&'a [u8]),
    /// The allocation's address.
    XorRelayedAddress(SocketAddr),
    /// Which family to allocate. `None`: a number that is no family.
    RequestedAddressFamily(Option<Family>),
    /// Allocate this family too. `None`: a number that is no family.
    AdditionalAddressFamily(Option<Family>),
    /// The port is to be even; with `reserve` the next one is kept.
    EvenPort {
        /// The R bit.
        reserve: bool,
    },
    /// Protocol number of the relay: 17 is UDP, 6 is TCP.
    RequestedTransport(u8),
    /// Set the DF bit.
    DontFragment,
    /// Names a reserved port.
    ReservationToken(&'a [u8; 8]),
    /// Why a family was not allocated.
    AddressErrorCode {
        /// The family. `None`: a number that is no family.
        family: Option<Family>,
        /// The code.
        code: u16,
        /// The phrase.
        reason: &'a str,
    },
    /// An ICMP message that came for a relayed packet.
    Icmp {
        /// ICMP type.
        kind: u8,
        /// ICMP code.
        code: u8,
        /// MTU for "too big", else 0.
        data: u32,
    },
    /// Names a connection to a peer.
    ConnectionId(u32),
    /// Answer from another address or port.
    ChangeRequest {
        /// The "change IP" flag.
        ip: bool,
        /// The "change port" flag.
        port: bool,
    },
    /// Filler, to force fragmentation.
    Padding(&'a [u8]),
    /// Answer to this port.
    ResponsePort(u16),
    /// Where the answer was sent from.
    ResponseOrigin(SocketAddr),
    /// Where it would come from with both flags of CHANGE-REQUEST.
    OtherAddress(SocketAddr),
    /// A key, sealed for the server.
    AccessToken(&'a [u8]),
    /// The name that tokens for this server are sealed with.
    ThirdPartyAuthorization(&'a str),
    /// Names an allocation that moves; empty to ask for one.
    MobilityTicket(&'a [u8]),
    /// A type this crate does not know.
    Unknown(AttributeType, &'a [u8]),
}

impl<'a> RawAttribute<'a> {
    /// Understands the value. `id` unmasks IPv6 XOR addresses.
    ///
    /// # Errors
    /// [`DecodeError`] if the value does not have the form the RFC gives it.
    pub fn decode(&self, id: TransactionId) -> Result<Attribute<'a>, DecodeError> {
        use AttributeType as T;
        let bad = DecodeError(self.kind);
        let v = self.value;
        let xor = || decode_xor_address(v, id).ok_or(bad);
        Ok(match self.kind {
            T::MAPPED_ADDRESS => Attribute::MappedAddress(decode_address(v).ok_or(bad)?),
            T::XOR_MAPPED_ADDRESS => Attribute::XorMappedAddress(xor()?),
            T::USERNAME => Attribute::Username(at_most(v, 763).ok_or(bad)?),
            T::USERHASH => Attribute::Userhash(exact(v).ok_or(bad)?),
            T::MESSAGE_INTEGRITY => Attribute::MessageIntegrity(exact(v).ok_or(bad)?),
            T::MESSAGE_INTEGRITY_SHA256 if (16..=32).contains(&v.len()) && v.len().is_multiple_of(4) => {
                Attribute::MessageIntegritySha256(v)
            }
            T::FINGERPRINT => Attribute::Fingerprint(u32(v).ok_or(bad)? ^ super::integrity::FINGERPRINT_MASK),
            T::ERROR_CODE => {
                let (_, code, reason) = error_code(v).ok_or(bad)?;
                Attribute::ErrorCode { code, reason }
            }
            T::REALM => Attribute::Realm(at_most(v, 763).ok_or(bad)?),
            T::NONCE => Attribute::Nonce(at_most(v, 763).ok_or(bad)?),
            T::PASSWORD_ALGORITHMS => {
                self.password_algorithms().try_for_each(|a| a.map(drop))?;
                Attribute::PasswordAlgorithms(v)
            }
            T::PASSWORD_ALGORITHM => {
                let (algorithm, rest) = password_algorithm(v).ok_or(bad)?;
                if !rest.is_empty() {
                    return Err(bad);
                }
                Attribute::PasswordAlgorithm(algorithm)
            }
            T::UNKNOWN_ATTRIBUTES if v.len().is_multiple_of(2) => Attribute::UnknownAttributes(v),
            T::SOFTWARE => Attribute::Software(text(v, 763).ok_or(bad)?),
            T::ALTERNATE_SERVER => Attribute::AlternateServer(decode_address(v).ok_or(bad)?),
            T::ALTERNATE_DOMAIN => Attribute::AlternateDomain(text(v, 255).ok_or(bad)?),
            T::CHANNEL_NUMBER => {
                //= 8656-18.1-1
                let [a, b, _, _] = *exact(v).ok_or(bad)?;
                Attribute::ChannelNumber(ChannelNumber(u16::from_be_bytes([a, b])))
            }
            T::LIFETIME => Attribute::Lifetime(u32(v).ok_or(bad)?),
            T::XOR_PEER_ADDRESS => Attribute::XorPeerAddress(xor()?),
            T::DATA => Attribute::Data(v),
            T::XOR_RELAYED_ADDRESS => Attribute::XorRelayedAddress(xor()?),
            T::REQUESTED_ADDRESS_FAMILY => Attribute::RequestedAddressFamily(family(v).ok_or(bad)?),
            T::ADDITIONAL_ADDRESS_FAMILY => Attribute::AdditionalAddressFamily(family(v).ok_or(bad)?),
            T::EVEN_PORT => {
                let [flags] = *exact(v).ok_or(bad)?;
                Attribute::EvenPort { reserve: flags & 0x80 != 0 }
            }
            T::REQUESTED_TRANSPORT => {
                //= 8656-18.8-1
                let [protocol, _, _, _] = *exact(v).ok_or(bad)?;
                Attribute::RequestedTransport(protocol)
            }
            T::DONT_FRAGMENT if v.is_empty() => Attribute::DontFragment,
            T::RESERVATION_TOKEN => Attribute::ReservationToken(exact(v).ok_or(bad)?),
            T::ADDRESS_ERROR_CODE => {
                let (first, code, reason) = error_code(v).ok_or(bad)?;
                Attribute::AddressErrorCode { family: Family::from_number(first), code, reason }
            }
            T::ICMP => {
                let [_, _, kind, code, d @ ..]: [u8; 8] = *exact(v).ok_or(bad)?;
                Attribute::Icmp { kind, code, data: u32::from_be_bytes(d) }
            }
            T::CONNECTION_ID => Attribute::ConnectionId(u32(v).ok_or(bad)?),
            T::CHANGE_REQUEST => {
                let flags = u32(v).ok_or(bad)?;
                Attribute::ChangeRequest { ip: flags & 4 != 0, port: flags & 2 != 0 }
            }
            T::PADDING => Attribute::Padding(v),
            // "Followed by 2 bytes of padding" (RFC 5780 section 7.5): clients count them in the length, or don't.
            T::RESPONSE_PORT => match *v {
                [a, b] | [a, b, _, _] => Attribute::ResponsePort(u16::from_be_bytes([a, b])),
                _ => return Err(bad),
            },
            T::RESPONSE_ORIGIN => Attribute::ResponseOrigin(decode_address(v).ok_or(bad)?),
            T::ACCESS_TOKEN => Attribute::AccessToken(v),
            T::THIRD_PARTY_AUTHORIZATION => Attribute::ThirdPartyAuthorization(text(v, 763).ok_or(bad)?),
            T::MOBILITY_TICKET => Attribute::MobilityTicket(v),
            T::OTHER_ADDRESS => Attribute::OtherAddress(decode_address(v).ok_or(bad)?),
            T::MESSAGE_INTEGRITY_SHA256 | T::UNKNOWN_ATTRIBUTES | T::DONT_FRAGMENT => return Err(bad),
            other => Attribute::Unknown(other, v),
        })
    }

    /// The value as a list of [`PasswordAlgorithm`]s, ending with an error where it is malformed.
    pub fn password_algorithms(
        &self,
    ) -> impl Iterator<Item = Result<PasswordAlgorithm<'a>, DecodeError>> + use<'a> {
        let (mut rest, kind) = (self.value, self.kind);
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            match password_algorithm(rest) {
                Some((algorithm, tail)) => {
                    rest = tail;
                    Some(Ok(algorithm))
                }
                None => {
                    rest = &[];
                    Some(Err(DecodeError(kind)))
                }
            }
        })
    }

    /// The value as a list of attribute types; an odd last byte is left out.
    pub fn unknown_attributes(&self) -> impl Iterator<Item = AttributeType> + use<'a> {
        self.value.chunks_exact(2).map(|c| AttributeType(u16::from_be_bytes([c[0], c[1]])))
    }
}

fn exact<const N: usize>(v: &[u8]) -> Option<&[u8; N]> {
    v.try_into().ok()
}

fn u32(v: &[u8]) -> Option<u32> {
    exact(v).copied().map(u32::from_be_bytes)
}

fn at_most(v: &[u8], max: usize) -> Option<&[u8]> {
    (v.len() <= max).then_some(v)
}

fn text(v: &[u8], max: usize) -> Option<&str> {
    std::str::from_utf8(at_most(v, max)?).ok()
}

//= 8656-18.6-1
fn family(v: &[u8]) -> Option<Option<Family>> {
    let [number, _, _, _] = *exact(v)?;
    Some(Family::from_number(number))
}

/// ERROR-CODE and ADDRESS-ERROR-CODE: first byte (reserved or family), code, reason.
fn error_code(v: &[u8]) -> Option<(u8, u16, &str)> {
    let (head, reason) = v.split_first_chunk::<4>()?;
    let (class, number) = (head[2] & 0x07, head[3]);
    if !(3..=6).contains(&class) || number > 99 {
        return None;
    }
    Some((head[0], u16::from(class) * 100 + u16::from(number), text(reason, 763)?))
}

//= 8489-14.12-1
fn password_algorithm(v: &[u8]) -> Option<(PasswordAlgorithm<'_>, &[u8])> {
    let (head, rest) = v.split_first_chunk::<4>()?;
    let number = u16::from_be_bytes([head[0], head[1]]);
    let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
    let parameters = rest.get(..len)?;
    // The last entry's padding may be the attribute's own.
    let rest = rest.get(super::padded(len)..).unwrap_or(&[]);
    Some((PasswordAlgorithm { number, parameters }, rest))
}
