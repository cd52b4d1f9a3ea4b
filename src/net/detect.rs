//! Which addresses of this machine to relay from, when nobody says.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::stun::Family;
use crate::turn::special;

/// Every address of this machine.
///
/// # Errors
/// The system does not tell.
pub fn interface_addresses() -> io::Result<Vec<IpAddr>> {
    Ok(if_addrs::get_if_addrs()?.into_iter().map(|interface| interface.ip()).collect())
}

/// Can this machine have IPv6 sockets at all?
pub fn has_ipv6() -> bool {
    UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() || UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok()
}

/// One address of each family to relay from: the one that packets to the Internet leave with, else the most public
/// one that some interface has. Loopback only if there is nothing else.
pub fn relay_addresses(interfaces: &[IpAddr]) -> Vec<IpAddr> {
    let best = |family| {
        route(family).or_else(|| {
            let of_family = interfaces.iter().filter(|ip| Family::of(ip) == family && !is_link_local(ip));
            of_family.copied().max_by_key(|ip| rank(*ip))
        })
    };
    let all: Vec<_> = [Family::V4, Family::V6].into_iter().filter_map(best).collect();
    let outside: Vec<_> = all.iter().copied().filter(|ip| !ip.is_loopback()).collect();
    if outside.is_empty() { all } else { outside }
}

/// Would peers on the Internet fail to reach this address? `Some` says why.
pub fn unreachable(ip: IpAddr) -> Option<&'static str> {
    special(ip)
}

/// The source address of packets to the Internet. Connecting a UDP socket sends nothing.
fn route(family: Family) -> Option<IpAddr> {
    let (any, outside): (IpAddr, SocketAddr) = match family {
        // Any global unicast address does: only the routing table is asked.
        Family::V4 => (Ipv4Addr::UNSPECIFIED.into(), ([1, 1, 1, 1], 9).into()),
        Family::V6 => (Ipv6Addr::UNSPECIFIED.into(), ([0x2606, 0x4700, 0, 0, 0, 0, 0, 1], 9).into()),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(outside).ok()?;
    socket.local_addr().ok().map(|addr| addr.ip()).filter(|ip| !ip.is_unspecified() && !ip.is_loopback())
}

fn is_link_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

fn rank(ip: IpAddr) -> u8 {
    match special(ip) {
        None => 2,
        Some(_) if !ip.is_loopback() => 1,
        Some(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_public_address_of_each_family() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let choose = |list: &[&str]| {
            let list: Vec<_> = list.iter().map(|t| ip(t)).collect();
            // Without a route only the list counts; with one, the list does not.
            let chosen = relay_addresses(&list);
            [Family::V4, Family::V6]
                .map(|f| (route(f), chosen.iter().copied().find(|ip| Family::of(ip) == f)))
        };
        for (list, v4, v6) in [
            (
                &["127.0.0.1", "10.0.0.1", "9.9.9.9", "::1", "fe80::1", "2a00::1"][..],
                Some("9.9.9.9"),
                Some("2a00::1"),
            ),
            (&["127.0.0.1", "10.0.0.1", "::1"], Some("10.0.0.1"), None),
            (&["127.0.0.1", "::1"], Some("127.0.0.1"), Some("::1")),
        ] {
            let [(route4, chosen4), (route6, chosen6)] = choose(list);
            if route4.is_none() && route6.is_none() {
                assert_eq!((chosen4, chosen6), (v4.map(ip), v6.map(ip)));
            }
            assert!(route4.is_none() || chosen4 == route4);
            assert!(route6.is_none() || chosen6 == route6);
        }
    }
}
