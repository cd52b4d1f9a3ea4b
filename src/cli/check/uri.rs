//! `stun:`, `stuns:`, `turn:` and `turns:` URIs (RFC 7064, RFC 7065).
//!
//! ```text
//! turns:turn.example.org:5349?transport=tcp
//! ─┬─── ───────┬──────── ──┬─ ──────┬──────
//! scheme      host        port   how to get there; stun: has no such part
//! ```

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// How bytes get to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
    Tls,
    /// TURN over DTLS: no browser speaks it.
    Dtls,
}

impl Transport {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
            Self::Dtls => "DTLS",
        }
    }
}

/// Where a server is, and what is wanted of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Uri {
    /// `turn:` and `turns:`: it relays. Otherwise it only tells addresses.
    pub(super) relays: bool,
    /// A name, or an address without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) transport: Transport,
}

impl Uri {
    /// Reads a URI.
    ///
    /// # Errors
    /// What is wrong with it, and how it is written.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        const FORM: &str = "write turn:host, turn:host:port?transport=tcp, turns:host:port, or stun:host";
        let (scheme, rest) = text.split_once(':').ok_or_else(|| format!("no scheme: {FORM}"))?;
        let (relays, secure) = match scheme.to_ascii_lowercase().as_str() {
            "stun" => (false, false),
            "stuns" => (false, true),
            "turn" => (true, false),
            "turns" => (true, true),
            _ => return Err(format!("'{scheme}:' is no scheme of STUN or TURN: {FORM}")),
        };
        if rest.starts_with("//") {
            return Err(format!("no // behind the colon: {FORM}"));
        }
        let (place, query) = match rest.split_once('?') {
            Some((place, query)) => (place, Some(query)),
            None => (rest, None),
        };
        let transport = match (query.map(str::to_ascii_lowercase).as_deref(), secure) {
            (Some(_), _) if !relays => {
                return Err(format!("{scheme}: has no '?' part (RFC 7064); browsers refuse the whole list"));
            }
            (None | Some("transport=udp"), false) => Transport::Udp,
            (Some("transport=tcp"), false) => Transport::Tcp,
            (None | Some("transport=tcp"), true) => Transport::Tls,
            (Some("transport=udp"), true) => Transport::Dtls,
            (Some(_), _) => return Err("what follows '?' is neither transport=udp nor transport=tcp".into()),
        };
        let (host, port) = place_of(place)?;
        Ok(Self { relays, host, port: port.unwrap_or(if secure { 5349 } else { 3478 }), transport })
    }
}

fn place_of(place: &str) -> Result<(String, Option<u16>), String> {
    if place.contains('@') {
        return Err("user and password do not go into the URI: use --user and --password".into());
    }
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or("a '[' without its ']'")?;
            host.parse::<Ipv6Addr>().map_err(|_| format!("[{host}] is no IPv6 address"))?;
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return Err(format!("'{after}' behind the ']'")),
            }
        }
        None if place.parse::<Ipv6Addr>().is_ok() => {
            return Err(format!("an IPv6 address stands in brackets: [{place}]"));
        }
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    let fits = |c: char| c.is_alphanumeric() || "-._~%:".contains(c);
    if host.is_empty() || host.len() > 253 || !host.chars().all(fits) {
        return Err(format!("'{host}' is no host name"));
    }
    let port = match port {
        None => None,
        Some(text) => match text.parse() {
            Ok(port) if port > 0 && text.bytes().all(|b| b.is_ascii_digit()) => Some(port),
            _ => return Err(format!("'{text}' is no port: 1 to 65535")),
        },
    };
    Ok((host.to_owned(), port))
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secure = matches!(self.transport, Transport::Tls | Transport::Dtls);
        f.write_str(match (self.relays, secure) {
            (false, false) => "stun:",
            (false, true) => "stuns:",
            (true, false) => "turn:",
            (true, true) => "turns:",
        })?;
        match self.host.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port)?,
            _ => write!(f, "{}:{}", self.host, self.port)?,
        }
        match (self.relays, self.transport) {
            (false, _) => Ok(()),
            (true, Transport::Udp | Transport::Dtls) => f.write_str("?transport=udp"),
            (true, Transport::Tcp | Transport::Tls) => f.write_str("?transport=tcp"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfcs() {
        for (text, shown) in [
            ("stun:example.org", "stun:example.org:3478"),
            ("stuns:example.org", "stuns:example.org:5349"),
            ("stun:example.org:8000", "stun:example.org:8000"),
            ("turn:example.org", "turn:example.org:3478?transport=udp"),
            ("turns:example.org", "turns:example.org:5349?transport=tcp"),
            ("turn:example.org:8000", "turn:example.org:8000?transport=udp"),
            ("turn:example.org?transport=udp", "turn:example.org:3478?transport=udp"),
            ("turn:example.org?transport=tcp", "turn:example.org:3478?transport=tcp"),
            ("turns:example.org?transport=udp", "turns:example.org:5349?transport=udp"),
            ("TURN:[2001:db8::1]:3479?transport=TCP", "turn:[2001:db8::1]:3479?transport=tcp"),
            ("turn:[::1]", "turn:[::1]:3478?transport=udp"),
        ] {
            assert_eq!(Uri::parse(text).map(|uri| uri.to_string()), Ok(shown.into()), "{text}");
        }
        assert_eq!(Uri::parse("turns:h?transport=udp").map(|uri| uri.transport), Ok(Transport::Dtls));
        assert_eq!(Uri::parse("turn:[::1]:5").map(|uri| uri.host), Ok("::1".into()));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, part) in [
            ("example.org", "no scheme"),
            ("http://example.org", "no scheme of STUN"),
            ("turn://example.org", "no //"),
            ("turn:", "no host name"),
            ("turn:example.org/x", "no host name"),
            ("turn:a b", "no host name"),
            ("turn:example.org:0", "no port"),
            ("turn:example.org:+80", "no port"),
            ("turn:example.org:65536", "no port"),
            ("turn:example.org:", "no port"),
            ("turn:2001:db8::1", "brackets"),
            ("turn:[2001:db8::1", "without its ']'"),
            ("turn:[example.org]", "no IPv6 address"),
            ("turn:[::1]3478", "behind the ']'"),
            ("turn:alice:secret@example.org", "--password"),
            ("turn:example.org?transport=sctp", "neither"),
            ("turn:example.org?ttl=1", "neither"),
            ("stun:example.org?transport=udp", "RFC 7064"),
        ] {
            let error = Uri::parse(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
