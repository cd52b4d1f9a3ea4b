//! Names of hosts as they stand in URLs.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// A DNS name or an IP address. Displays as URLs have it: IPv6 in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// Lower case.
    Name(String),
    Address(IpAddr),
}

/// Not a DNS name and not an IP address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a host: a DNS name or an IP address, as in turn.example.org, 192.0.2.1 or [2001:db8::1]")]
pub struct HostError;

impl Host {
    /// The host of a `Host` header, or of an `:authority`: without its port, if it has one (RFC 9110 section 7.2).
    ///
    /// # Errors
    /// [`HostError`]; nothing that isn't a name or an address gets into a URL.
    pub fn from_authority(authority: &str) -> Result<Self, HostError> {
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                let number = port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
                if !number || host.contains(':') && !host.starts_with('[') {
                    return Err(HostError);
                }
                host
            }
            _ => authority,
        };
        host.parse()
    }
}

impl FromStr for Host {
    type Err = HostError;

    /// A name, an IPv4 address, or an IPv6 address with or without brackets.
    fn from_str(text: &str) -> Result<Self, HostError> {
        if let Some(inner) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
            return inner.parse::<Ipv6Addr>().map(Self::from).map_err(|_| HostError);
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::from(address));
        }
        let label = |l: &str| {
            (1..=63).contains(&l.len())
                && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !l.starts_with('-')
                && !l.ends_with('-')
        };
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.len() > 253 || !name.split('.').all(label) {
            return Err(HostError);
        }
        Ok(Self(Kind::Name(name.to_ascii_lowercase())))
    }
}

impl<A: Into<IpAddr>> From<A> for Host {
    fn from(address: A) -> Self {
        Self(Kind::Address(address.into()))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Name(name) => f.write_str(name),
            Kind::Address(IpAddr::V4(ip)) => ip.fmt(f),
            Kind::Address(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_taken_off_and_ipv6_keeps_its_brackets() {
        for (authority, host) in [
            ("turn.example.org", "turn.example.org"),
            ("Turn.Example.ORG:8443", "turn.example.org"),
            ("turn.example.org.:443", "turn.example.org"),
            ("localhost:8443", "localhost"),
            ("192.0.2.1:80", "192.0.2.1"),
            ("[2001:db8::1]:443", "[2001:db8::1]"),
            ("[2001:DB8::1]", "[2001:db8::1]"),
        ] {
            assert_eq!(Host::from_authority(authority).unwrap().to_string(), host);
        }
        assert_eq!("2001:db8::1".parse::<Host>().unwrap().to_string(), "[2001:db8::1]");
    }

    #[test]
    fn nothing_else_gets_into_a_url() {
        let long = "a".repeat(64);
        for bad in [
            "",
            ":443",
            "a b",
            "a/b",
            "a?b",
            "user@host",
            "a\"b",
            "-a",
            "a..b",
            "[::1",
            "::1]",
            "[a]",
            "a:b",
            "a:",
            "2001:db8::1:443x",
            "[::1]:x",
            "a:123456",
            "ä",
            &long,
        ] {
            // An empty port is legal (RFC 3986 section 3.2.3).
            assert_eq!(Host::from_authority(bad).is_ok(), bad == "a:", "{bad:?}");
        }
    }
}
