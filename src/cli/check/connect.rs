//! From a name to a connection: DNS, TCP, TLS, each a row.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use crate::net::clock::Clock;
use crate::stun::Family;

use super::report::{Advice, Report, Row, Status, printable};
use super::tls::{self, Secured, Trust};
use super::uri::Transport;
use super::wire::{Stream, Wire};
use super::{advice, nat};

/// What all checks of a run share.
pub(super) struct Context {
    pub(super) clock: Clock,
    /// For each step.
    pub(super) patience: Duration,
    /// Only addresses of this family.
    pub(super) family: Option<Family>,
    pub(super) trust: Trust,
    /// Go on with a bad certificate.
    pub(super) insecure: bool,
}

impl Context {
    /// A future, and how long it took.
    pub(super) async fn time<T>(&self, future: impl Future<Output = T>) -> (T, Duration) {
        let start = self.clock.since_start();
        let value = future.await;
        (value, self.clock.since_start().saturating_sub(start))
    }

    /// The same, with an end to patience.
    async fn within<T>(&self, future: impl Future<Output = io::Result<T>>) -> (io::Result<T>, Duration) {
        let late = || io::Error::new(io::ErrorKind::TimedOut, "no answer");
        self.time(async { timeout(self.patience, future).await.unwrap_or_else(|_| Err(late())) }).await
    }
}

/// A row for a connection that did not come about.
fn unconnected(step: &'static str, error: &io::Error, transport: Transport, to: SocketAddr) -> Row {
    Row::fail(step, printable(&error.to_string()), advice::of_kind(error.kind(), transport, to))
}

/// The first address of each family, IPv4 first; empty after a failure.
pub(super) async fn resolve(ctx: &Context, report: &mut Report, host: &str, port: u16) -> Vec<SocketAddr> {
    let (found, took) = ctx.within(async { Ok(lookup_host((host, port)).await?.collect::<Vec<_>>()) }).await;
    let wanted = |a: &SocketAddr| ctx.family.is_none_or(|family| family == Family::of(&a.ip()));
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            let advice = Advice::new(
                "the name does not exist, or the name server does not answer",
                format!("look at it with: dig +short A {host}; dig +short AAAA {host}"),
            );
            report.push(
                Row::fail("DNS", format!("{host}: {}", printable(&error.to_string())), advice).took(took),
            );
            return Vec::new();
        }
    };
    let mut all: Vec<IpAddr> = Vec::new();
    for address in &found {
        if !all.contains(&address.ip()) {
            all.push(address.ip());
        }
    }
    let shown = all.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut chosen = Vec::new();
    for family in [Family::V4, Family::V6] {
        chosen.extend(found.iter().filter(|a| wanted(a)).find(|a| Family::of(&a.ip()) == family));
    }
    let row = if chosen.is_empty() {
        let kind = if ctx.family == Some(Family::V6) { "IPv6" } else { "IPv4" };
        Row::fail(
            "DNS",
            format!("{host} has no {kind} address, only {}", shown.join(", ")),
            Advice::new(
                format!("-4 and -6 narrow it down to {kind}"),
                "leave the option out, or add a DNS record",
            ),
        )
    } else if host.parse::<IpAddr>().is_ok() {
        Row::ok("DNS", format!("{host} is an address"))
    } else {
        let rest = if all.iter().filter(|ip| wanted(&(**ip, port).into())).count() > chosen.len() {
            "; the first of each kind is checked"
        } else {
            ""
        };
        Row::ok("DNS", format!("{}{rest}", shown.join(", ")))
    };
    let row = if host.parse::<IpAddr>().is_ok() { row } else { row.took(took) };
    report.push(row.with("addresses", shown));
    // A server is not to blame for what this machine lacks.
    if let [_, v6] = chosen[..]
        && nat::local_ip(v6).await.is_none()
    {
        report.push(Row::skip("IPv6", "this machine has no route to IPv6 addresses"));
        chosen.truncate(1);
    }
    chosen
}

/// A TCP connection, with TLS over it or without. `None` after a failure, which has its row.
pub(super) async fn stream(
    ctx: &Context,
    report: &mut Report,
    host: &str,
    address: SocketAddr,
    secure: bool,
) -> Option<(Box<dyn Stream>, SocketAddr)> {
    let (connected, took) = ctx.within(TcpStream::connect(address)).await;
    let tcp = match connected {
        Ok(tcp) => tcp,
        Err(error) => {
            report.push(unconnected("TCP connect", &error, Transport::Tcp, address).took(took));
            return None;
        }
    };
    let local = tcp.local_addr().ok()?;
    let _ = tcp.set_nodelay(true);
    report.push(Row::ok("TCP connect", format!("from {local}")).took(took));
    if !secure {
        return Some((Box::new(tcp), local));
    }
    let (shaken, took) = ctx.within(tls::handshake(tcp, host, &ctx.trust)).await;
    let Secured { stream, version, suite, certificate } = match shaken {
        Ok(secured) => secured,
        Err(error) => {
            let advice = advice::of_handshake(&error, address);
            report.push(Row::fail("TLS handshake", printable(&error.to_string()), advice).took(took));
            return None;
        }
    };
    report.push(Row::ok("TLS handshake", format!("{version}, {suite}")).took(took).with("version", version));
    let row = certificate_row(ctx, host, &certificate);
    let go_on = row.status != Status::Fail;
    report.push(row);
    if !go_on {
        report.push(Row::skip("The rest", "clients stop here; --insecure goes on"));
        return None;
    }
    Some((Box::new(stream), local))
}

fn certificate_row(ctx: &Context, host: &str, certificate: &tls::Certificate) -> Row {
    let mut names =
        certificate.names.iter().take(2).map(|name| printable(name)).collect::<Vec<_>>().join(", ");
    if certificate.names.len() > 2 {
        names.push_str(&format!(" and {} more", certificate.names.len() - 2));
    }
    let facts = format!(
        "{names}; {} days left; by \"{}\"; chain of {}",
        certificate.days_left,
        printable(&certificate.issuer),
        certificate.chain
    );
    let row = match advice::of_certificate(certificate, host) {
        Some((flaw, advice)) if ctx.insecure => Row::warn("Certificate", format!("{flaw} ({facts})"), advice),
        Some((flaw, advice)) => Row::fail("Certificate", format!("{flaw} ({facts})"), advice),
        None if certificate.ends_soon() => Row::warn(
            "Certificate",
            facts,
            Advice::new(
                "it ends soon: it is not renewed by itself, or the server still has the old one in memory",
                "renew it (certbot renew) and reload the server",
            ),
        ),
        None => Row::ok("Certificate", facts),
    };
    row.with("names", certificate.names.clone())
        .with("days_left", certificate.days_left)
        .with("not_after", certificate.not_after)
        .with("issuer", certificate.issuer.clone())
        .with("chain", certificate.chain)
}

/// A connection to a STUN or TURN server. `None` after a failure, which has its row.
pub(super) async fn open(
    ctx: &Context,
    report: &mut Report,
    host: &str,
    transport: Transport,
    address: SocketAddr,
) -> Option<Wire> {
    if transport != Transport::Udp {
        let secure = transport == Transport::Tls;
        let (stream, local) = stream(ctx, report, host, address, secure).await?;
        return Some(Wire::stream(stream, local, address));
    }
    match Wire::udp(address).await {
        Ok(wire) => Some(wire),
        Err(error) => {
            report.push(unconnected("Binding", &error, transport, address));
            None
        }
    }
}

/// Another connection of the same kind, without rows.
pub(super) async fn open_another(
    ctx: &Context,
    host: &str,
    transport: Transport,
    address: SocketAddr,
) -> io::Result<Wire> {
    let connect = async {
        let (stream, local): (Box<dyn Stream>, _) = match transport {
            Transport::Udp | Transport::Dtls => return Wire::udp(address).await,
            Transport::Tcp => {
                let tcp = TcpStream::connect(address).await?;
                let local = tcp.local_addr()?;
                (Box::new(tcp), local)
            }
            Transport::Tls => {
                let tls = tls::again(address, host, &ctx.trust).await?;
                let local = tls.get_ref().0.local_addr()?;
                (Box::new(tls), local)
            }
        };
        Ok(Wire::stream(stream, local, address))
    };
    ctx.within(connect).await.0
}
