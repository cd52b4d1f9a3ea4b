//! The PROXY protocol, versions 1 and 2 (haproxy's `proxy-protocol.txt`): a proxy says, before anything else, whose
//! connection it passes on.
//!
//! ```text
//! v1   PROXY TCP4 192.0.2.7 203.0.113.5 50000 443\r\n
//! v2   0D 0A 0D 0A 00 0D 0A 51 55 49 54 0A | 21 | 11 | 00 0C | source, destination, ports | ...
//!      signature                             ver  fam  length
//! ```
//! Who may say so is the operator's to name. From them it must come, from nobody else is it understood: so no client can
//! choose its address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What is longer is no header: version 1 has at most 107 bytes, version 2 room for some extensions.
const LONGEST: usize = 536;
const VERSION_1: &[u8] = b"PROXY ";
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// A whole header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// Its bytes; what follows is the client's.
    pub len: usize,
    /// The client. `None`: the proxy speaks for itself, to see whether the server lives.
    pub client: Option<SocketAddr>,
}

/// What comes first is no header, or none that says whose connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no header of the PROXY protocol")]
pub struct NoHeader;

/// Does this begin like a header of either version?
pub fn is_header(bytes: &[u8]) -> bool {
    bytes.starts_with(VERSION_1) || bytes.starts_with(&SIGNATURE)
}

/// Reads a header; `None`: more bytes are needed.
///
/// # Errors
/// [`NoHeader`]: more bytes will not make one of it.
pub fn parse(bytes: &[u8]) -> Result<Option<ProxyHeader>, NoHeader> {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(a, b)| a == b);
    if begins(VERSION_1) {
        return version_1(bytes);
    }
    if begins(&SIGNATURE) {
        return version_2(bytes);
    }
    Err(NoHeader)
}

fn version_1(bytes: &[u8]) -> Result<Option<ProxyHeader>, NoHeader> {
    const MAX: usize = 107;
    let Some(end) = bytes.iter().take(MAX).position(|b| *b == b'\n') else {
        return if bytes.len() < MAX { Ok(None) } else { Err(NoHeader) };
    };
    let line = bytes.get(..end).and_then(|line| line.strip_suffix(b"\r")).ok_or(NoHeader)?;
    let line = std::str::from_utf8(line).map_err(|_| NoHeader)?;
    let words: Vec<_> = line.split(' ').collect();
    let client = match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => None,
        ["PROXY", family @ ("TCP4" | "TCP6"), source, destination, from, to] => {
            let ip = |text: &str| {
                let ip = text.parse::<IpAddr>().ok().filter(|ip| ip.is_ipv4() == (*family == "TCP4"));
                ip.ok_or(NoHeader)
            };
            let port = |text: &str| text.parse::<u16>().map_err(|_| NoHeader);
            ip(destination)?;
            port(to)?;
            Some(SocketAddr::new(ip(source)?, port(from)?))
        }
        _ => return Err(NoHeader),
    };
    Ok(Some(ProxyHeader { len: end + 1, client }))
}

fn version_2(bytes: &[u8]) -> Result<Option<ProxyHeader>, NoHeader> {
    let Some(&[command, family, high, low]) = bytes.get(12..16) else { return Ok(None) };
    let len = 16 + usize::from(u16::from_be_bytes([high, low]));
    if command >> 4 != 2 || command & 15 > 1 || len > LONGEST {
        return Err(NoHeader);
    }
    let Some(body) = bytes.get(16..len) else { return Ok(None) };
    let client = match (command & 15, family) {
        // LOCAL: whatever follows is to be ignored.
        (0, _) | (1, 0x00) => None,
        // Only streams are listened on here.
        (1, 0x11) => match *body {
            [a, b, c, d, _, _, _, _, high, low, _, _, ..] => {
                Some((Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low])).into())
            }
            _ => return Err(NoHeader),
        },
        (1, 0x21) => {
            let ip = body.first_chunk::<16>().ok_or(NoHeader)?;
            let Some(&[high, low, _, _]) = body.get(32..36) else { return Err(NoHeader) };
            Some((Ipv6Addr::from(*ip), u16::from_be_bytes([high, low])).into())
        }
        _ => return Err(NoHeader),
    };
    Ok(Some(ProxyHeader { len, client }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let len = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &len, body].concat()
    }

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn whole_headers_tell_the_client() {
        let body4 = [192, 0, 2, 7, 203, 0, 113, 5, 0xC3, 0x50, 1, 0xBB];
        let body6 =
            [&[0x20, 1, 0xD, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7][..], &[0; 16], &[0xC3, 0x50, 1, 0xBB]]
                .concat();
        let extended = [&body4[..], &[4, 0, 1, 0]].concat();
        for (header, client) in [
            (b"PROXY TCP4 192.0.2.7 203.0.113.5 50000 443\r\n".to_vec(), Some("192.0.2.7:50000")),
            (b"PROXY TCP6 2001:db8::7 2001:db8::5 50000 443\r\n".to_vec(), Some("[2001:db8::7]:50000")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN whatever it is\r\n".to_vec(), None),
            (v2(0x21, 0x11, &body4), Some("192.0.2.7:50000")),
            (v2(0x21, 0x11, &extended), Some("192.0.2.7:50000")),
            (v2(0x21, 0x21, &body6), Some("[2001:db8::7]:50000")),
            (v2(0x20, 0x00, &[]), None),
            (v2(0x20, 0x11, &body4), None),
        ] {
            let expected = ProxyHeader { len: header.len(), client: client.map(addr) };
            let more = [&header[..], b"GET / HTTP/1.1"].concat();
            assert_eq!(parse(&more), Ok(Some(expected)), "{header:?}");
            for end in 0..header.len() {
                assert_eq!(parse(&header[..end]), Ok(None), "{end} bytes of {header:?}");
            }
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for bytes in [
            b"GET / HTTP/1.1\r\n".to_vec(),
            vec![0x16, 3, 1],
            vec![0, 1, 0, 0, 0x21, 0x12],
            b"PROXY TCP4 192.0.2.7 203.0.113.5 50000\r\n".to_vec(),
            b"PROXY TCP4 2001:db8::7 203.0.113.5 50000 443\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 203.0.113.5 99999 443\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 203.0.113.5 1 2\n".to_vec(),
            b"PROXY UDP4 192.0.2.7 203.0.113.5 1 2\r\n".to_vec(),
            [&b"PROXY TCP4 "[..], &[b'1'; 200]].concat(),
            v2(0x31, 0x11, &[0; 12]),
            v2(0x22, 0x11, &[0; 12]),
            v2(0x21, 0x12, &[0; 12]),
            v2(0x21, 0x11, &[0; 11]),
            v2(0x21, 0x21, &[0; 35]),
            v2(0x21, 0x11, &[0; 600]),
        ] {
            assert_eq!(parse(&bytes), Err(NoHeader), "{bytes:?}");
        }
    }
}
