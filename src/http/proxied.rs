//! Connections that a proxy passes on: whose are they?

use std::io;
use std::net::{IpAddr, SocketAddr};

use hyper::HeaderMap;
use ipnet::IpNet;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::net::proxy;

/// Proxies that may speak for others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    /// They begin each connection with a header of the PROXY protocol.
    pub headers: Vec<IpNet>,
    /// Their X-Forwarded-For is believed.
    pub forwarded_for: Vec<IpNet>,
}

impl Proxies {
    /// Does a connection from there begin with a header?
    pub(super) fn sends_header(&self, ip: IpAddr) -> bool {
        is_in(&self.headers, ip)
    }

    /// Is X-Forwarded-For from there believed?
    pub(super) fn forwards(&self, ip: IpAddr) -> bool {
        is_in(&self.forwarded_for, ip)
    }

    /// The client of a request that came from `peer`. Each proxy appends whom it saw, so the last address that is none of
    /// our proxies counts: what stands before it is the client's own invention.
    pub(super) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        if !self.forwards(peer) {
            return peer;
        }
        let lines = headers.get_all("x-forwarded-for").into_iter().filter_map(|value| value.to_str().ok());
        let listed: Vec<_> = lines.flat_map(|line| line.split(',')).map(str::trim).collect();
        let mut client = peer;
        for text in listed.into_iter().rev() {
            let at = text.parse::<SocketAddr>().map(|at| at.ip());
            let bare = text.trim_start_matches('[').trim_end_matches(']');
            // What is no address was not written by our proxy.
            let Ok(ip) = at.or_else(|_| bare.parse::<IpAddr>()) else { break };
            client = ip;
            if !self.forwards(ip) {
                break;
            }
        }
        client
    }
}

fn is_in(networks: &[IpNet], ip: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&ip.to_canonical()))
}

/// Takes the header off a connection, and nothing more. `None`: the proxy speaks for itself.
pub(super) async fn client(stream: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut header = Vec::with_capacity(128);
    loop {
        match proxy::parse(&header) {
            Ok(Some(whole)) => return Ok(whole.client),
            // What follows belongs to TLS, so it is read byte by byte: a hundred of them, once.
            Ok(None) => header.push(stream.read_u8().await?),
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_our_proxies_wrote_is_believed() {
        let networks = |list: &[&str]| list.iter().map(|n| n.parse().unwrap()).collect();
        let proxies =
            Proxies { headers: Vec::new(), forwarded_for: networks(&["127.0.0.1/32", "10.0.0.0/8"]) };
        for (peer, forwarded, client) in [
            ("192.0.2.7", &["198.51.100.1"][..], "192.0.2.7"),
            ("127.0.0.1", &[], "127.0.0.1"),
            ("127.0.0.1", &["192.0.2.7"], "192.0.2.7"),
            ("127.0.0.1", &["198.51.100.1, 192.0.2.7, 10.0.0.9"], "192.0.2.7"),
            ("127.0.0.1", &["198.51.100.1", "192.0.2.7"], "192.0.2.7"),
            ("127.0.0.1", &["192.0.2.7:5004"], "192.0.2.7"),
            ("127.0.0.1", &["[2001:db8::7]:5004"], "2001:db8::7"),
            ("127.0.0.1", &["[2001:db8::7]"], "2001:db8::7"),
            ("127.0.0.1", &["192.0.2.7, nonsense"], "127.0.0.1"),
            ("127.0.0.1", &["10.0.0.8"], "10.0.0.8"),
        ] {
            let mut headers = HeaderMap::new();
            for line in forwarded {
                headers.append("x-forwarded-for", line.parse().unwrap());
            }
            let found = proxies.client(peer.parse().unwrap(), &headers);
            assert_eq!(found, client.parse::<IpAddr>().unwrap(), "{forwarded:?}");
        }
    }
}
