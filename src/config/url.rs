//! Addresses of the web that the daemon itself goes to.

use std::net::IpAddr;

use super::reader::{Node, Read};

/// `https://host:port/path?query`, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebUrl {
    /// `https`, not `http`.
    pub secure: bool,
    /// A name or an address, without brackets.
    pub host: String,
    /// The port, written or not.
    pub port: u16,
    /// Path and query.
    pub path: String,
}

/// A URL whose answer can be trusted: with TLS, or of this machine.
pub(super) fn web_url(node: &Node<'_>) -> Read<WebUrl> {
    let form = "write a URL, as in \"https://id.example.org/jwks.json\", without a user name and without #";
    let url = parse(node.text()?).ok_or_else(|| node.error("not a URL", form))?;
    let loopback =
        url.host == "localhost" || url.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if !url.secure && !loopback {
        let fix = "write https://; http:// is for this machine only";
        return Err(node.error("whoever is on the way could put keys of its own there", fix));
    }
    Ok(url)
}

pub(super) fn parse(text: &str) -> Option<WebUrl> {
    let (scheme, rest) = text.split_once("://")?;
    let secure = match scheme {
        "https" => true,
        "http" => false,
        _ => return None,
    };
    if !rest.bytes().all(|b| b.is_ascii_graphic() && !b"\"#<>\\^`{|}@".contains(&b)) {
        return None;
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            let _: std::net::Ipv6Addr = address.parse().ok()?;
            (address, port)
        }
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port = match port.strip_prefix(':') {
        Some(port) => port.parse().ok().filter(|port| *port != 0)?,
        None if !port.is_empty() => return None,
        None if secure => 443,
        None => 80,
    };
    let named = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
    if host.is_empty() || !host.bytes().all(named) {
        return None;
    }
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Some(WebUrl { secure, host: host.to_ascii_lowercase(), port, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_url() {
        let url = |secure, host: &str, port, path: &str| {
            Some(WebUrl { secure, host: host.into(), port, path: path.into() })
        };
        assert_eq!(parse("https://Id.example.org"), url(true, "id.example.org", 443, "/"));
        assert_eq!(
            parse("https://id.example.org:8443/a/b?c=d"),
            url(true, "id.example.org", 8443, "/a/b?c=d")
        );
        assert_eq!(parse("http://[::1]:8080/jwks"), url(false, "::1", 8080, "/jwks"));
        assert_eq!(parse("http://127.0.0.1?x"), url(false, "127.0.0.1", 80, "/?x"));
        for wrong in [
            "id.example.org/jwks",
            "ftp://h/",
            "https://",
            "https:///x",
            "https://user@h/",
            "https://h/#x",
            "https://h:0/",
            "https://h:99999/",
            "https://h:/",
            "https://[::1]x/",
            "https://[h]/",
            "https://h /",
            "https://h\n/",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
