//! Does the server relay? A datagram each way, between the client and a partner.
//!
//! ```text
//!  session ══ ChannelData ══► server ── relayed address ──► partner      "Round trip": there ...
//!          ◄═ ChannelData ═══        ◄──────────────────────             ... and back
//! ```
//! The partner is a second socket of this machine, as any peer would be. Where the server's policy closes its
//! address, or no UDP gets from here to there, it is a second allocation of the same server.

use std::net::SocketAddr;
use std::time::Duration;

use ::stun::message::{METHOD_CHANNEL_BIND, METHOD_CREATE_PERMISSION};
use ::turn::proto::channum::ChannelNumber;
use ::turn::proto::peeraddr::PeerAddress;
use tokio::time::{interval, timeout};

use super::addresses::{external, unreachable};
use super::advice;
use super::leg::Leg;
use super::partner::Partner;
use super::report::{Advice, Report, Row, milliseconds, printable};
use super::session::{Answer, Relayed, Session, Setters, Trouble};

const PERMISSION: &str = "CreatePermission";
const INWARD: &str = "Peer to client";
const CHANNEL: &str = "ChannelBind";
const ROUND_TRIP: &str = "Round trip";
const SECOND: &str = "Second allocation";

/// The channels to the socket and to the second allocation: a number is for one peer.
const TO_SOCKET: u16 = 0x4000;
const TO_SECOND: u16 = 0x4001;
/// Between two tries: datagrams get lost.
const AGAIN: Duration = Duration::from_millis(200);

/// The rows about relaying from `relayed`.
pub(super) async fn check(leg: &Leg<'_>, report: &mut Report, session: &mut Session, relayed: SocketAddr) {
    let exchange = Exchange { leg, relayed, inward: token(), outward: token() };
    let Some((partner, peer)) = Partner::socket(leg, relayed).await else {
        let why = "no server tells this machine its UDP address; a second allocation is the peer instead";
        report.push(Row::skip(INWARD, why));
        exchange.with_allocation(report, session).await;
        return;
    };
    match exchange.permit(session, peer).await {
        Permit::Given(took) => {
            report.push(Row::ok(PERMISSION, format!("for {}, a second socket here", peer.ip())).took(took));
        }
        Permit::Closed(took) => {
            let what = format!("{} is closed to peers (403)", peer.ip());
            report.push(
                match unreachable(peer.ip()) {
                    Some(range) => Row::ok(
                        PERMISSION,
                        format!("{what}, right for {range}; a second allocation is the peer instead"),
                    ),
                    None => Row::warn(PERMISSION, what, policy(peer)),
                }
                .took(took),
            );
            return exchange.with_allocation(report, session).await;
        }
        Permit::Failed(row) => return report.push(row),
    }
    if !exchange.with_socket(report, session, &partner, peer).await {
        exchange.with_allocation(report, session).await;
    }
}

enum Permit {
    Given(Duration),
    Closed(Duration),
    Failed(Row),
}

/// How far a datagram got.
#[derive(Default)]
struct Trip {
    /// Where the partner saw it come from.
    seen_from: Option<SocketAddr>,
    /// From the client back to the client.
    back: Option<Duration>,
}

struct Exchange<'a> {
    leg: &'a Leg<'a>,
    relayed: SocketAddr,
    /// What the partner sends.
    inward: Vec<u8>,
    /// What the client sends, and the partner sends back.
    outward: Vec<u8>,
}

impl Exchange<'_> {
    /// With a plain socket. False: not a byte came through.
    async fn with_socket(
        &self,
        report: &mut Report,
        session: &mut Session,
        partner: &Partner,
        peer: SocketAddr,
    ) -> bool {
        let half = self.leg.ctx.patience / 2;
        let (unasked, took) = self.leg.ctx.time(self.inward(session, partner, half)).await;
        // A NAT may show the relay another port than it showed the STUN server.
        let peer = unasked.unwrap_or(peer);
        if let Some(row) = self.bind(session, TO_SOCKET, peer).await {
            report.push(row);
            return true;
        }
        let bound = Row::ok(CHANNEL, format!("channel {TO_SOCKET:#06x} is for {peer}"));
        let trip = self.round_trip(session, TO_SOCKET, partner, half).await;
        let inward = match (unasked, trip.back) {
            (Some(_), _) => {
                Row::ok(INWARD, format!("a datagram from {peer} to {} came through", self.relayed))
            }
            (None, Some(_)) => Row::warn(
                INWARD,
                "came through only after the relay had sent something to the peer",
                Advice::new(
                    "a firewall lets packets to the relay ports in only as answers; WebRTC gets by with that, with \
                     a delay",
                    ports("open UDP"),
                ),
            ),
            (None, None) => {
                Row::fail(INWARD, format!("nothing sent to {} came through", self.relayed), self.lost(&trip))
            }
        };
        report.push(inward.took(took));
        report.push(bound);
        if unasked.is_none() && trip.seen_from.is_none() {
            report.push(Row::fail(ROUND_TRIP, "nothing reached the peer", self.lost(&trip)));
            return false;
        }
        report.push(self.trip_row(&trip));
        true
    }

    /// With a second allocation of the same server.
    async fn with_allocation(&self, report: &mut Report, session: &mut Session) {
        let leg = self.leg;
        let (partner, took) = leg.ctx.time(Partner::allocation(leg, leg.login, self.relayed)).await;
        let partner = match partner {
            Ok(partner) => partner,
            Err(said) => return report.push(refused_to_second(&said).took(took)),
        };
        if let Some(other) = partner.relayed() {
            report.push(
                Row::ok(SECOND, format!("relayed address {other}"))
                    .took(took)
                    .with("relayed", other.to_string()),
            );
            self.between_two(report, session, &partner, other).await;
        }
        partner.close().await;
    }

    async fn between_two(
        &self,
        report: &mut Report,
        session: &mut Session,
        partner: &Partner,
        other: SocketAddr,
    ) {
        match self.permit(session, other).await {
            Permit::Given(took) => report.push(Row::ok(PERMISSION, format!("for {}", other.ip())).took(took)),
            Permit::Closed(took) => {
                return report.push(Row::fail(PERMISSION, "403 Forbidden", own_relay(other)).took(took));
            }
            Permit::Failed(row) => return report.push(row),
        }
        if let Some(row) = self.bind(session, TO_SECOND, other).await {
            return report.push(row);
        }
        report.push(Row::ok(CHANNEL, format!("channel {TO_SECOND:#06x} is for {other}")));
        // Gives the partner its permission, too.
        if let Err(said) = partner.send(self.relayed, &self.inward).await {
            return report.push(refused_to_second(&said));
        }
        let trip = self.round_trip(session, TO_SECOND, partner, self.leg.ctx.patience).await;
        report.push(match trip.seen_from {
            None => Row::fail(ROUND_TRIP, "nothing reached the second allocation", self.lost(&trip)),
            Some(_) => self.trip_row(&trip),
        });
    }

    async fn permit(&self, session: &mut Session, peer: SocketAddr) -> Permit {
        let request = session.ask(METHOD_CREATE_PERMISSION, || vec![peer_address(peer)]);
        let (answer, took) = self.leg.ctx.time(request).await;
        match answer {
            Ok(Answer::Success(_)) => Permit::Given(took),
            Ok(Answer::Error { code: 403, .. }) => Permit::Closed(took),
            other => Permit::Failed(self.failed(PERMISSION, other).took(took)),
        }
    }

    /// `None`: the channel is bound.
    async fn bind(&self, session: &mut Session, number: u16, peer: SocketAddr) -> Option<Row> {
        let attributes = || -> Setters { vec![Box::new(ChannelNumber(number)), peer_address(peer)] };
        let (answer, took) = self.leg.ctx.time(session.ask(METHOD_CHANNEL_BIND, attributes)).await;
        match answer {
            Ok(Answer::Success(_)) => None,
            other => Some(self.failed(CHANNEL, other).took(took)),
        }
    }

    fn failed(&self, step: &'static str, answer: Result<Answer, Trouble>) -> Row {
        match answer {
            Ok(Answer::Error { code, reason, .. }) => {
                Row::fail(step, advice::code_in_words(code, &reason), advice::of_code(code))
                    .with("code", code)
            }
            Ok(Answer::Success(_)) => Row::ok(step, ""),
            Err(trouble) => {
                let (detail, advice) = advice::of_trouble(&trouble, self.leg.uri.transport, self.leg.address);
                Row::fail(step, detail, advice)
            }
        }
    }

    /// The partner alone sends. Where the server saw it send from, if it came through.
    async fn inward(&self, session: &Session, partner: &Partner, patience: Duration) -> Option<SocketAddr> {
        let exchange = async {
            let mut tick = interval(AGAIN);
            loop {
                tokio::select! {
                    _ = tick.tick() => { let _ = partner.send(self.relayed, &self.inward).await; }
                    relayed = session.receive() => match relayed {
                        Relayed::ByIndication(peer, data) if data == self.inward => return peer,
                        _ => {}
                    },
                }
            }
        };
        timeout(patience, exchange).await.ok()
    }

    /// The client sends over its channel, the partner sends it back.
    async fn round_trip(
        &self,
        session: &Session,
        number: u16,
        partner: &Partner,
        patience: Duration,
    ) -> Trip {
        let mut trip = Trip::default();
        let clock = self.leg.ctx.clock;
        let exchange = async {
            let mut tick = interval(AGAIN);
            let mut tries = Vec::new();
            loop {
                tokio::select! {
                    _ = tick.tick() => {
                        let mut data = self.outward.clone();
                        data.push(tries.len() as u8);
                        tries.push(clock.elapsed());
                        session.send_by_channel(number, &data).await;
                    }
                    (data, from) = partner.receive() => if data.starts_with(&self.outward) {
                        trip.seen_from.get_or_insert(from);
                        let _ = partner.send(self.relayed, &data).await;
                    },
                    relayed = session.receive() => {
                        let data = match relayed {
                            Relayed::ByChannel(from, _) if from != number => continue,
                            Relayed::ByChannel(_, data) | Relayed::ByIndication(_, data) => data,
                        };
                        let nth = data.strip_prefix(self.outward.as_slice()).and_then(|rest| rest.first());
                        if let Some(sent) = nth.and_then(|nth| tries.get(usize::from(*nth))) {
                            trip.back = Some(clock.elapsed().saturating_sub(*sent));
                            return;
                        }
                    }
                }
            }
        };
        let _ = timeout(patience, exchange).await;
        trip
    }

    fn trip_row(&self, trip: &Trip) -> Row {
        match (trip.back, trip.seen_from) {
            (Some(back), _) => {
                let bytes = self.outward.len() + 1;
                Row::ok(ROUND_TRIP, format!("{bytes} bytes to the peer and back, over the channel"))
                    .took(back)
                    .with("rtt_ms", milliseconds(back))
            }
            (None, Some(_)) => {
                Row::fail(ROUND_TRIP, "reached the peer, and nothing came back", self.lost(trip))
            }
            (None, None) => Row::fail(ROUND_TRIP, "nothing reached the peer", self.lost(trip)),
        }
    }

    /// Why relayed data got lost.
    fn lost(&self, trip: &Trip) -> Advice {
        let relayed = self.relayed;
        match trip.seen_from {
            Some(from) if from.ip() != relayed.ip() => {
                external(&format!("relayed data comes from {}, not from {}", from.ip(), relayed.ip()))
            }
            Some(_) => Advice::new(
                format!(
                    "the server sends, and nothing gets in to its relay port {}: a firewall",
                    relayed.port()
                ),
                ports("open UDP"),
            ),
            None => Advice::new(
                format!(
                    "a firewall closes the relay ports ({} is one of them), or the external address is wrong",
                    relayed.port()
                ),
                format!(
                    "{}; is {} the server's address? From inside the server's own network this says little: check \
                     from outside",
                    ports("open UDP"),
                    relayed.ip()
                ),
            ),
        }
    }
}

fn peer_address(peer: SocketAddr) -> Box<PeerAddress> {
    Box::new(PeerAddress { ip: peer.ip(), port: peer.port() })
}

/// Bytes that nobody else sends. What stands before them tells an onlooker what this is.
fn token() -> Vec<u8> {
    let mut random = ::stun::agent::TransactionId::new().0.to_vec();
    random.splice(..0, *b"ternd check ");
    random
}

fn ports(verb: &str) -> String {
    format!(
        "{verb} for all relay ports, in both directions, in the server's firewall and in its cloud's rules: \
         relay.ports (ternd, 49152-65535), min-port and max-port (coturn)"
    )
}

fn policy(peer: SocketAddr) -> Advice {
    Advice::new(
        format!("the server's peer policy closes {}, which is a public address", peer.ip()),
        "open it: peers.deny (ternd), denied-peer-ip (coturn)",
    )
}

fn own_relay(other: SocketAddr) -> Advice {
    let ip = other.ip();
    let coturn =
        if ip.is_loopback() { "allow-loopback-peers".into() } else { format!("allowed-peer-ip={ip}") };
    Advice::new(
        format!(
            "the server's peer policy closes its own relay address {ip}: two clients that both need the relay can't \
             reach each other"
        ),
        format!("{coturn} (coturn); ternd opens the relay ports of live allocations itself"),
    )
}

fn refused_to_second(said: &str) -> Row {
    let said = printable(said);
    let advice = if said.contains("486") {
        advice::of_code(486)
    } else if said.contains("403") {
        Advice::new(
            "the server's peer policy closes its own relay address: two clients that both need the relay can't \
             reach each other",
            "allow it: allowed-peer-ip (coturn); ternd opens the relay ports of live allocations itself",
        )
    } else {
        Advice::new(
            "the server gives one client's user no second allocation",
            "see what it logs for this request",
        )
    };
    Row::fail(SECOND, said, advice)
}
