//! Addresses without their last part, wherever they stand in a text: for logs that may not tell who called.
//!
//! ```text
//! from 192.0.2.77:5004 (udp)      from 192.0.2.x (udp)
//! [2001:db8:7:1::9]:443           2001:db8:7::x
//! ```
//! The log is masked at its end, so no line that is added later can forget it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The text with all addresses in it masked, but for those of this machine.
pub(super) fn mask(text: &str, own: &BTreeSet<IpAddr>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(of_address) {
        let (before, from) = rest.split_at(start);
        let end = from.find(|c| !of_address(c)).unwrap_or(from.len());
        let (word, after) = from.split_at(end);
        out.push_str(before);
        // A sentence may end behind an address, or a colon follow it.
        let bare = word.trim_end_matches(['.', ':']);
        let bare = if bare.is_empty() || word.ends_with("::") { word } else { bare };
        match address(bare).filter(|ip| !own.contains(ip) && !ip.is_loopback() && !ip.is_unspecified()) {
            Some(ip) => {
                out.push_str(&masked(ip));
                out.push_str(word.get(bare.len()..).unwrap_or_default());
            }
            None => out.push_str(word),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

fn of_address(c: char) -> bool {
    c.is_ascii_hexdigit() || matches!(c, '.' | ':' | '[' | ']')
}

fn address(word: &str) -> Option<IpAddr> {
    let ip = word.parse::<IpAddr>().ok().or_else(|| word.parse::<SocketAddr>().ok().map(|at| at.ip()))?;
    Some(ip.to_canonical())
}

fn masked(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            format!("{a}.{b}.{c}.x")
        }
        IpAddr::V6(v6) => {
            let [a, b, c, ..] = v6.segments();
            let network = Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).to_string();
            format!("{network}x")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_loses_its_last_part_and_nothing_else_changes() {
        let own = BTreeSet::from(["203.0.113.5".parse().unwrap()]);
        for (text, masked) in [
            ("from 192.0.2.77:5004 (udp)", "from 192.0.2.x (udp)"),
            ("192.0.2.77", "192.0.2.x"),
            ("to 192.0.2.77.", "to 192.0.2.x."),
            ("to 192.0.2.77: refused", "to 192.0.2.x: refused"),
            ("[2001:db8:7:1::9]:443 and 2001:db8:7:1::9", "2001:db8:7::x and 2001:db8:7::x"),
            ("[::ffff:192.0.2.77]:9", "192.0.2.x"),
            (
                "at 203.0.113.5:50000 on [::]:3478, 0.0.0.0:3478, 127.0.0.1:1",
                "at 203.0.113.5:50000 on [::]:3478, 0.0.0.0:3478, 127.0.0.1:1",
            ),
            ("expired 42 s ago: 1.5 beef dead: 12:30", "expired 42 s ago: 1.5 beef dead: 12:30"),
            ("user \"é192.0.2.1\"", "user \"é192.0.2.x\""),
            ("", ""),
        ] {
            assert_eq!(mask(text, &own), masked);
        }
    }
}
