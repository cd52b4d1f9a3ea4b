//! Whom limits count.

use std::net::{IpAddr, Ipv6Addr};

/// What counts as one client address: an IPv4 address, or the /64 that whoever has an IPv6 address has all of. An IPv4
/// address in its IPv6 form (`::ffff:192.0.2.1`) is itself.
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}
