//! Are the addresses that a server tells any good?

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::turn::{canonicalise, special};

use super::login::time_in_words;
use super::report::{Advice, Row};

/// The range of an address that peers on the internet can't reach; `None` if they can.
pub(super) fn unreachable(ip: IpAddr) -> Option<&'static str> {
    special(canonicalise(ip))
}

/// The address that `server` sees this machine at; `local` is its own. `software` starts with "; ", or is empty.
pub(super) fn mapped(mapped: SocketAddr, local: SocketAddr, server: IpAddr, software: &str) -> Row {
    const STEP: &str = "Binding";
    let row = match unreachable(mapped.ip()) {
        // Between a private server and a private client, private addresses are right.
        Some(range) if unreachable(server).is_none() => Row::warn(
            STEP,
            format!("you are {mapped}, in {range}{software}"),
            Advice::new(
                "a proxy, a load balancer or NAT in front of the server hides where clients come from, so that the \
                 addresses it tells them are of no use",
                "let the clients' addresses through: for UDP route instead of proxying, in containers use the host's \
                 network",
            ),
        ),
        _ if mapped == local => Row::ok(STEP, format!("you are {mapped}, without NAT{software}")),
        _ => Row::ok(STEP, format!("you are {mapped}, behind NAT (here {local}){software}")),
    };
    row.with("mapped", mapped.to_string()).with("local", local.to_string())
}

/// The address that `server` relays from.
pub(super) fn relayed(relayed: SocketAddr, lifetime: Duration, server: IpAddr) -> Row {
    const STEP: &str = "Allocate";
    let detail = format!("relayed address {relayed}, for {}", time_in_words(lifetime.as_secs()));
    let row = match unreachable(relayed.ip()) {
        _ if relayed.ip().is_unspecified() => {
            Row::fail(STEP, detail, external("it announces no address at all"))
        }
        Some(range) if unreachable(server).is_none() => {
            Row::warn(STEP, detail, external(&format!("peers can't reach {range}")))
        }
        _ if relayed.is_ipv4() != server.is_ipv4() => Row::warn(
            STEP,
            detail,
            Advice::new(
                "the server has no relay address of the family it was asked over: peers that have only IPv6 are out \
                 of reach",
                "give it an IPv6 relay address: relay.addresses (ternd), relay-ip (coturn)",
            ),
        ),
        _ => Row::ok(STEP, detail),
    };
    row.with("relayed", relayed.to_string()).with("lifetime", lifetime.as_secs())
}

/// A relayed address that is of no use.
pub(super) fn external(what: &str) -> Advice {
    Advice::new(
        format!("the server announces the wrong external address: {what}"),
        "behind the 1:1 NAT of a cloud tell it its public address: relay.external-ip (ternd), external-ip (coturn)",
    )
}

#[cfg(test)]
mod tests {
    use super::super::report::Status;
    use super::*;

    const LIFETIME: Duration = Duration::from_secs(600);

    fn seen(at: &str, server: &str) -> (Status, String) {
        let row = mapped(
            at.parse().unwrap(),
            "10.0.0.7:5000".parse().unwrap(),
            server.parse().unwrap(),
            "; server: X",
        );
        (row.status, row.detail)
    }

    fn relays(from: &str, server: &str) -> (Status, String) {
        let row = relayed(from.parse().unwrap(), LIFETIME, server.parse().unwrap());
        (row.status, row.advice.map(|advice| advice.cause).unwrap_or_default())
    }

    #[test]
    fn mapped_addresses() {
        let (status, detail) = seen("8.8.8.8:1024", "9.9.9.9");
        assert_eq!(
            (status, detail.as_str()),
            (Status::Ok, "you are 8.8.8.8:1024, behind NAT (here 10.0.0.7:5000); server: X")
        );
        assert_eq!(seen("10.0.0.7:5000", "10.0.0.1").1, "you are 10.0.0.7:5000, without NAT; server: X");
        assert_eq!(seen("172.17.0.1:5000", "172.17.0.2").0, Status::Ok);
        let (status, detail) = seen("172.17.0.1:5000", "9.9.9.9");
        assert!(status == Status::Warn && detail.contains("private range 172.16.0.0/12"), "{detail}");
    }

    #[test]
    fn relayed_addresses() {
        assert_eq!(relays("9.9.9.9:50000", "9.9.9.9").0, Status::Ok);
        assert_eq!(relays("9.9.9.10:50000", "9.9.9.9").0, Status::Ok);
        assert_eq!(relays("10.0.0.5:50000", "10.0.0.5").0, Status::Ok);
        for (from, status, cause) in [
            ("10.0.0.5:50000", Status::Warn, "wrong external address: peers can't reach the private range"),
            ("0.0.0.0:50000", Status::Fail, "no address at all"),
            ("[2606:4700::1]:50000", Status::Warn, "no relay address of the family"),
        ] {
            let row = relays(from, "9.9.9.9");
            assert!(row.0 == status && row.1.contains(cause), "{row:?}");
        }
    }
}
