//! The likely cause of a failure and the way out, in words.

use std::io::ErrorKind;
use std::net::SocketAddr;

use super::report::{Advice, printable};
use super::session::Trouble;
use super::tls::{Certificate, Flaw, Untrusted};
use super::uri::Transport;

/// An error code with its name, and what the server says if that is something else.
pub(super) fn code_in_words(code: u16, reason: &str) -> String {
    let name = match code {
        300 => "Try Alternate",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        420 => "Unknown Attribute",
        437 => "Allocation Mismatch",
        438 => "Stale Nonce",
        440 => "Address Family not Supported",
        441 => "Wrong Credentials",
        442 => "Unsupported Transport Protocol",
        443 => "Peer Address Family Mismatch",
        486 => "Allocation Quota Reached",
        500 => "Server Error",
        508 => "Insufficient Capacity",
        _ => "",
    };
    let said = printable(reason.trim());
    match (name, said.as_str()) {
        ("", "") => format!("error {code}"),
        ("", said) => format!("{code} {said}"),
        (name, said) if said.is_empty() || said.eq_ignore_ascii_case(name) => format!("{code} {name}"),
        (name, said) => format!("{code} {name} (\"{said}\")"),
    }
}

/// What an error code to a signed request means. 300 has its own words, and of a 401 the login knows more.
pub(super) fn of_code(code: u16) -> Advice {
    let (cause, fix) = match code {
        400 | 420 => (
            "the server does not understand a plain request of RFC 8656",
            "update the server; see what it logs for this request",
        ),
        403 => (
            "the server's rules forbid it",
            "see the server's rules for users and for peers: peers.allow, peers.deny (ternd), allowed-peer-ip, \
             denied-peer-ip (coturn)",
        ),
        437 => (
            "an allocation of these ports is still there, or is gone already",
            "wait a minute and try again; if it stays, something between here and the server changes addresses",
        ),
        438 => (
            "the server takes none of the nonces it hands out",
            "see its clock; several servers behind one name?",
        ),
        440 => ("the server has no relay address of this family", "give it one, or let it announce none"),
        441 => ("the allocation belongs to another user", "several servers behind one address?"),
        442 => ("the server relays no UDP", "switch UDP relaying on: WebRTC needs it"),
        443 => ("peer and relay are of different address families", "this is a fault of the server"),
        486 => (
            "the user's quota of allocations is used up",
            "wait for old ones to end (10 minutes), or raise limits.allocations-per-user (ternd), user-quota (coturn)",
        ),
        500 => ("the server has a fault of its own", "see what it logs; restart it"),
        508 => (
            "the server has no free relay port, or may not bind one",
            "widen relay.ports (ternd), min-port and max-port (coturn); look at its limits of files and allocations, \
             and at its relay address",
        ),
        _ => ("the server refuses it", "see what it logs for this request"),
    };
    Advice::new(cause, fix)
}

/// 300: the server sends its clients away.
pub(super) fn elsewhere(server: Option<SocketAddr>) -> Advice {
    let server = server.map_or_else(|| "another one".to_owned(), |server| server.to_string());
    Advice::new(format!("this server sends its clients to {server}"), "check that one: clients go there, too")
}

/// No connection, or no answer over it.
pub(super) fn of_trouble(trouble: &Trouble, transport: Transport, server: SocketAddr) -> (String, Advice) {
    match trouble {
        Trouble::Silence => ("no answer".into(), of_kind(ErrorKind::TimedOut, transport, server)),
        Trouble::Lost(fault) => (printable(&fault.text), of_kind(fault.kind, transport, server)),
        Trouble::Nonsense(what) => (
            format!("an answer that makes no sense: {}", printable(what)),
            Advice::new(
                "the server breaks the protocol, or something between changes what it says",
                "update the server; try it from another network",
            ),
        ),
    }
}

pub(super) fn of_kind(kind: ErrorKind, transport: Transport, server: SocketAddr) -> Advice {
    let port = server.port();
    let protocol = if transport == Transport::Udp { "UDP" } else { "TCP" };
    let listening = if transport == Transport::Udp { "ss -lnup" } else { "ss -lntp" };
    match kind {
        ErrorKind::ConnectionRefused => Advice::new(
            format!("nothing listens on {protocol} port {port} of {}", server.ip()),
            format!(
                "is the server running, and is this its port? On its machine: {listening} | grep {port}. A firewall \
                 that rejects looks the same"
            ),
        ),
        ErrorKind::TimedOut if transport == Transport::Udp => Advice::new(
            format!("UDP is blocked on the way, or no STUN server listens on UDP port {port}"),
            format!(
                "open UDP port {port} in the server's firewall and in its cloud's rules. If it is this network that \
                 blocks UDP, check turn:...?transport=tcp and turns: on port 443: they are made for that"
            ),
        ),
        ErrorKind::TimedOut => Advice::new(
            format!("a firewall drops TCP port {port}, or the server hangs"),
            format!("open TCP port {port} in the server's firewall and in its cloud's rules"),
        ),
        ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable | ErrorKind::AddrNotAvailable => {
            Advice::new(
                format!("this machine has no way to {}", server.ip()),
                "is the address in DNS right? Without IPv6 here, check with -4",
            )
        }
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Advice::new(
            "the server, or a proxy before it, closed the connection",
            "is this the port of TURN, and not of something else? See what the server logs; a limit of connections?",
        ),
        ErrorKind::InvalidData => Advice::new(
            format!("another service than STUN and TURN answers on port {port}"),
            "is this its port, and is turn: or turns: right for it?",
        ),
        _ => Advice::new("the network refuses", "try it from another network"),
    }
}

/// A handshake that failed.
pub(super) fn of_handshake(error: &std::io::Error, server: SocketAddr) -> Advice {
    let text = error.to_string();
    if text.contains("InvalidContentType") || text.contains("corrupt message") {
        return Advice::new(
            format!("what answers on port {} does not speak TLS", server.port()),
            "turns: needs a TLS port (5349, often 443); turn: is without TLS",
        );
    }
    if text.contains("HandshakeFailure") || text.contains("ProtocolVersion") {
        return Advice::new(
            "the server offers no version of TLS, or no cipher, that is still good",
            "let it offer TLS 1.2 and 1.3: cipher-list, no-tlsv1, no-tlsv1_1 (coturn)",
        );
    }
    match error.kind() {
        ErrorKind::TimedOut => Advice::new(
            "the connection stands, and no TLS answers: another service, or a firewall that looks inside",
            "turns: needs a TLS port (5349, often 443); try it from another network",
        ),
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset => Advice::new(
            "the server hung up during the handshake: it has no certificate, or this is no TLS port",
            "see what it logs; tls.certificate and tls.key (ternd), cert and pkey (coturn) must be readable for it",
        ),
        _ => Advice::new(
            "the server and this machine don't agree on TLS",
            "see what the server logs; openssl s_client -connect shows more",
        ),
    }
}

/// What is wrong with a certificate, its worst flaw first.
pub(super) fn of_certificate(certificate: &Certificate, host: &str) -> Option<(String, Advice)> {
    let flaw = certificate.flaws.first()?;
    let names = match certificate.names.as_slice() {
        [] => "no name at all".to_owned(),
        names => names.iter().take(5).map(|name| printable(name)).collect::<Vec<_>>().join(", "),
    };
    let full = "tls.certificate (ternd), cert (coturn)";
    Some(match flaw {
        Flaw::Name => (
            format!("not for {host}"),
            Advice::new(
                format!("the certificate is for {names}"),
                format!("use one of these names in the URI, or get a certificate for {host}"),
            ),
        ),
        Flaw::Expired { days } => (
            format!("expired {days} days ago"),
            Advice::new(
                "it was not renewed, or the server still has the old one in memory",
                "renew it (certbot renew) and reload the server; if the date looks right, see this machine's clock",
            ),
        ),
        Flaw::NotYet { days } => (
            format!("good from {days} days on"),
            Advice::new("it begins in the future", "compare the clocks: timedatectl on both machines"),
        ),
        Flaw::Untrusted(Untrusted::SelfSigned) => (
            "self-signed".into(),
            Advice::new(
                "nobody vouches for it, so browsers drop the connection without a word",
                "get one, for example from Let's Encrypt; --ca FILE trusts an authority of your own, --insecure goes on",
            ),
        ),
        Flaw::Untrusted(Untrusted::Alone) => (
            format!("signed by \"{}\", and no chain to a root came with it", printable(&certificate.issuer)),
            Advice::new(
                "the server shows its own certificate alone, without the intermediate ones; or a private authority \
                 signed it",
                format!(
                    "give {full} the whole chain (fullchain.pem, not cert.pem); --ca FILE for a private authority"
                ),
            ),
        ),
        Flaw::Untrusted(Untrusted::UnknownRoot) => (
            format!("signed by \"{}\", which leads to no root trusted here", printable(&certificate.issuer)),
            Advice::new(
                "a private authority signed it, or the chain is in the wrong order",
                format!("give {full} a chain that browsers trust; --ca FILE for a private authority"),
            ),
        ),
        Flaw::Untrusted(Untrusted::NoRoots) => (
            "not checked: this machine trusts no authority".into(),
            Advice::new(
                "there are no root certificates here",
                "apt install ca-certificates, or give --ca FILE",
            ),
        ),
        Flaw::Other(what) => (
            printable(what),
            Advice::new("the certificate is no good for a server", "get one, for example from Let's Encrypt"),
        ),
    })
}
