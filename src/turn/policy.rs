//! Which peers may be relayed to (RFC 8656 section 21): closed unless opened.
//!
//! One check for all paths: CreatePermission and ChannelBind ask before they install anything, and data in
//! either direction passes only where something was installed. Rules, first match wins:
//!
//! 1. `deny-peers`: closed.
//! 2. `allow-peers`: open.
//! 3. an address that relays: open, but only the ports of live allocations. Two clients of one server connect.
//! 4. any other address of this server: closed.
//! 5. whatever is not global unicast, and the tunnels 6to4 and Teredo: closed.
//! 6. the rest: open.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::Settings;

/// How far a peer address is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Any port.
    Open,
    /// The server's own relay address: only ports of live allocations.
    RelayPortsOnly,
}

/// The rule that closed a peer address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Matched `deny-peers`.
    Denied(IpNet),
    /// An address of this server, or a port of it that no allocation holds.
    OwnAddress,
    /// Not global unicast; the text names the range.
    Special(&'static str),
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(net) => write!(f, "peers.deny has {net}"),
            Self::OwnAddress => f.write_str("it is this server's own address; peers.allow could open it"),
            Self::Special(what) => write!(f, "{what} is closed by default; peers.allow could open it"),
        }
    }
}

/// The address that packets to `ip` would reach in the end: the IPv4 address embedded in an IPv6 one, if any.
///
/// | form | where the IPv4 address is |
/// |---|---|
/// | IPv4-mapped `::ffff:0:0/96`, IPv4-compatible `::/96` | last 32 bits |
/// | IPv4-translated `::ffff:0:0:0/96` (RFC 2765) | last 32 bits |
/// | NAT64 `64:ff9b::/96`, local-use NAT64 `64:ff9b:1::/48` | last 32 bits |
/// | 6to4 `2002::/16` | bits 16 to 47 |
/// | Teredo `2001::/32` | last 32 bits, inverted |
/// | ISATAP `…:0:5efe:a.b.c.d`, `…:200:5efe:a.b.c.d` | last 32 bits |
pub fn canonicalise(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    let s = v6.segments();
    let v4 = |hi: u16, lo: u16| {
        let ([a, b], [c, d]) = (hi.to_be_bytes(), lo.to_be_bytes());
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match s {
        // :: and ::1 are addresses of their own.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => ip,
        [0, 0, 0, 0, 0, 0 | 0xFFFF, hi, lo] => v4(hi, lo),
        [0, 0, 0, 0, 0xFFFF, 0, hi, lo] => v4(hi, lo),
        [0x64, 0xFF9B, 0, 0, 0, 0, hi, lo] | [0x64, 0xFF9B, 1, _, _, _, hi, lo] => v4(hi, lo),
        [0x2002, hi, lo, ..] => v4(hi, lo),
        [0x2001, 0, _, _, _, _, hi, lo] => v4(!hi, !lo),
        [_, _, _, _, 0 | 0x200, 0x5EFE, hi, lo] => v4(hi, lo),
        _ => ip,
    }
}

/// The rules of one server.
#[derive(Clone, Debug)]
pub struct PeerPolicy {
    allow: Vec<IpNet>,
    deny: Vec<IpNet>,
    relays: Vec<IpAddr>,
    own: Vec<IpAddr>,
}

impl PeerPolicy {
    /// Reads the rules out of the settings.
    pub fn new(settings: &Settings) -> Self {
        Self {
            allow: settings.allow_peers.clone(),
            deny: settings.deny_peers.clone(),
            relays: settings.relay_addresses.iter().flat_map(|r| [r.local, r.announced]).collect(),
            own: settings.own_addresses.clone(),
        }
    }

    /// Is this peer address open?
    ///
    /// # Errors
    /// The [`Rule`] that closes it.
    pub fn check(&self, ip: IpAddr) -> Result<Access, Rule> {
        let real = canonicalise(ip);
        let tunnel = tunnel(ip);
        if let Some(net) = self.deny.iter().find(|net| net.contains(&real) || net.contains(&ip)) {
            return Err(Rule::Denied(*net));
        }
        // To open the far end of a tunnel does not open the way through it.
        if self.allow.iter().any(|net| net.contains(&ip) || tunnel.is_none() && net.contains(&real)) {
            return Ok(Access::Open);
        }
        if self.relays.contains(&ip) {
            return Ok(Access::RelayPortsOnly);
        }
        if self.own.contains(&real) || self.relays.contains(&real) {
            return Err(Rule::OwnAddress);
        }
        tunnel.or(special(real)).map_or(Ok(Access::Open), |what| Err(Rule::Special(what)))
    }
}

/// The range of tunnelled addresses that an address lies in: through such a tunnel a packet may come back to this
/// server, again and again (RFC 8656 section 21.4).
//= 8656-21.4-1 8656-21.4-2
pub(super) fn tunnel(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => match v6.segments() {
            [0x2002, ..] => Some("the 6to4 range 2002::/16"),
            [0x2001, 0, ..] => Some("the Teredo range 2001::/32"),
            _ => None,
        },
    }
}

/// The IANA special-purpose range that an address lies in; `None` for global unicast.
pub fn special(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(v4) => special_v4(v4),
        IpAddr::V6(v6) => special_v6(v6),
    }
}

fn special_v4(ip: Ipv4Addr) -> Option<&'static str> {
    Some(match ip.octets() {
        [0, ..] => "'this network' 0.0.0.0/8",
        [10, ..] => "the private range 10.0.0.0/8",
        [100, 64..=127, ..] => "the carrier-grade NAT range 100.64.0.0/10",
        [127, ..] => "the loopback range 127.0.0.0/8",
        [169, 254, ..] => "the link-local and metadata range 169.254.0.0/16",
        [172, 16..=31, ..] => "the private range 172.16.0.0/12",
        [192, 0, 0, _] => "the protocol range 192.0.0.0/24",
        [192, 0, 2, _] => "the documentation range 192.0.2.0/24",
        [192, 88, 99, _] => "the 6to4 relay range 192.88.99.0/24",
        [192, 168, ..] => "the private range 192.168.0.0/16",
        [198, 18..=19, ..] => "the benchmarking range 198.18.0.0/15",
        [198, 51, 100, _] => "the documentation range 198.51.100.0/24",
        [203, 0, 113, _] => "the documentation range 203.0.113.0/24",
        [224..=239, ..] => "the multicast range 224.0.0.0/4",
        [240..=255, ..] => "the reserved range 240.0.0.0/4",
        _ => return None,
    })
}

fn special_v6(ip: Ipv6Addr) -> Option<&'static str> {
    Some(match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => "the unspecified address ::",
        [0, 0, 0, 0, 0, 0, 0, 1] => "the loopback address ::1",
        [0xFC00..=0xFDFF, ..] => "the unique local range fc00::/7",
        [0xFE80..=0xFEBF, ..] => "the link-local range fe80::/10",
        [0xFF00..=0xFFFF, ..] => "the multicast range ff00::/8",
        [0x2001, 0..=0x1FF, ..] => "the protocol range 2001::/23",
        [0x2001, 0x0DB8, ..] => "the documentation range 2001:db8::/32",
        [0x3FFF, 0..=0xFFF, ..] => "the documentation range 3fff::/20",
        [0x2000..=0x3FFF, ..] => return None,
        _ => "a range outside global unicast 2000::/3",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::RelayAddress;
    use proptest::prelude::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn policy(allow: &[&str], deny: &[&str]) -> PeerPolicy {
        let nets = |list: &[&str]| list.iter().map(|n| n.parse().unwrap()).collect();
        PeerPolicy::new(&Settings {
            allow_peers: nets(allow),
            deny_peers: nets(deny),
            relay_addresses: vec![RelayAddress { local: ip("10.0.0.5"), announced: ip("8.8.4.4") }],
            own_addresses: vec![ip("9.9.9.9")],
            ..Settings::default()
        })
    }

    #[test]
    fn closed_unless_global_unicast() {
        let p = policy(&[], &[]);
        for closed in [
            "0.0.0.0",
            "0.1.2.3",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fc00::1",
            "fdff::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "2001:db8::1",
            "2001:2::1",
            "3fff::1",
            "100::1",
            "5f00::1",
            "4000::1",
        ] {
            assert!(matches!(p.check(ip(closed)), Err(Rule::Special(_))), "{closed} is open");
        }
        for open in [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.0.1",
            "172.32.0.1",
            "2606:4700::1111",
            "2a00::1",
        ] {
            assert_eq!(p.check(ip(open)), Ok(Access::Open), "{open} is closed");
        }
    }

    #[test]
    fn first_rule_wins() {
        let p = policy(&["10.0.0.0/8", "1.1.1.0/24"], &["10.9.0.0/16", "1.1.1.1/32"]);
        assert_eq!(p.check(ip("10.1.1.1")), Ok(Access::Open));
        assert_eq!(p.check(ip("10.9.1.1")), Err(Rule::Denied("10.9.0.0/16".parse().unwrap())));
        assert_eq!(p.check(ip("1.1.1.1")), Err(Rule::Denied("1.1.1.1/32".parse().unwrap())));
        assert_eq!(p.check(ip("8.8.4.4")), Ok(Access::RelayPortsOnly));
        assert_eq!(p.check(ip("10.0.0.5")), Ok(Access::Open), "allow comes before own");
        assert_eq!(policy(&[], &[]).check(ip("10.0.0.5")), Ok(Access::RelayPortsOnly));
        assert_eq!(p.check(ip("9.9.9.9")), Err(Rule::OwnAddress));
        assert_eq!(p.check(ip("::ffff:9.9.9.9")), Err(Rule::OwnAddress));
        assert_eq!(
            p.check(ip("::ffff:8.8.4.4")),
            Err(Rule::OwnAddress),
            "no detour to the own relay address"
        );
    }

    //= 8656-21.4-2
    #[test]
    fn tunnels_are_closed_unless_they_are_opened_themselves() {
        let (six_to_four, teredo) = (ip("2002:808:808::1"), ip("2001:0:1::f7f7:f7f7"));
        for allow in [&[][..], &["8.8.8.8/32"], &["0.0.0.0/0"]] {
            let p = policy(allow, &[]);
            assert_eq!(p.check(ip("8.8.8.8")), Ok(Access::Open));
            assert_eq!(p.check(six_to_four), Err(Rule::Special("the 6to4 range 2002::/16")));
            assert_eq!(p.check(teredo), Err(Rule::Special("the Teredo range 2001::/32")));
        }
        assert_eq!(policy(&["2002::/16"], &[]).check(six_to_four), Ok(Access::Open));
    }

    /// Each way to write `v4` as an IPv6 address.
    fn embeddings(v4: Ipv4Addr, noise: u64) -> Vec<Ipv6Addr> {
        let n = u128::from(u32::from(v4));
        let noise = u128::from(noise);
        let prefix64 = 0x2a00_u128 << 112 | (noise & 0xFFFF_FFFF_FFFF) << 64;
        [
            0xFFFF_u128 << 32 | n,
            n,
            0xFFFF_u128 << 48 | n,
            0x64_FF9B_u128 << 96 | n,
            0x64_FF9B_0001_u128 << 80 | (noise & 0xFFFF_FFFF_FFFF) << 32 | n,
            0x2002_u128 << 112 | n << 80 | noise,
            0x2001_u128 << 112 | (noise & 0xFFFF_FFFF) << 64 | (noise >> 32) << 32 | (!n & 0xFFFF_FFFF),
            prefix64 | 0x0000_5EFE << 32 | n,
            prefix64 | 0x0200_5EFE << 32 | n,
        ]
        .into_iter()
        .map(Ipv6Addr::from)
        .filter(|v6| !v6.is_unspecified() && !v6.is_loopback())
        .collect()
    }

    proptest! {
        #[test]
        fn no_embedding_hides_a_closed_address(raw: u32, noise: u64) {
            let v4 = Ipv4Addr::from(raw);
            let p = policy(&[], &["20.0.0.0/6"]);
            for v6 in embeddings(v4, noise) {
                prop_assert_eq!(canonicalise(v6.into()), IpAddr::V4(v4), "{}", v6);
                let open = p.check(v4.into()) == Ok(Access::Open) && tunnel(v6.into()).is_none();
                prop_assert_eq!(p.check(v6.into()).is_ok(), open, "{}", v6);
            }
        }
    }
}
