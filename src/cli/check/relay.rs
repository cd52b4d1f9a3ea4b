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

/// The channels to the socket, to the socket as the relay sees it, and to the second allocation.
const TO_SOCKET: u16 = 0x4000;
const TO_SEEN: u16 = 0x4001;
const TO_SECOND: u16 = 0x4002;
/// Between two tries: datagrams get lost.
const AGAIN: Duration = Duration::from_millis(200);

/// The rows about relaying from `relayed`.
pub(super) async fn check(leg: &Leg<'_>, report: &mut Report, session: &mut Session, relayed: SocketAddr) {
    let exchange = Exchange { leg, relayed, inward: token(), outward: token() };
    let through = match Partner::socket(leg, relayed).await {
        Some((partner, peer)) => exchange.with_socket(report, session, &partner, peer).await,
        None => {
            let why = "no server tells this machine its UDP address; a second allocation is the peer instead";
            report.push(Row::skip(INWARD, why));
            Through::Nothing
        }
    };
    if through == Through::Nothing {
        exchange.with_allocation(report, session).await;
    }
}

/// What a partner has shown.
#[derive(PartialEq, Eq)]
enum Through {
    /// All there is to see.
    Enough,
    /// Another kind of partner may show more.
    Nothing,
}

/// What came of a request about a peer.
enum Permit {
    Given(Duration),
    /// 403.
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
    /// With a plain socket, which the server sees at `peer`.
    async fn with_socket(
        &self,
        report: &mut Report,
        session: &mut Session,
        partner: &Partner,
        peer: SocketAddr,
    ) -> Through {
        // Some servers close the ports of an address, not the address: the channel's answer counts, too.
        match self.permit(session, peer).await {
            Permit::Given(took) => {
                report
                    .push(Row::ok(PERMISSION, format!("for {}, a second socket here", peer.ip())).took(took));
            }
            Permit::Closed(took) => {
                report.push(self.closed(PERMISSION, peer).took(took));
                return Through::Nothing;
            }
            Permit::Failed(row) => {
                report.push(row);
                return Through::Enough;
            }
        }
        match self.bind(session, TO_SOCKET, peer).await {
            Permit::Given(took) => report.push(bound(TO_SOCKET, peer).took(took)),
            Permit::Closed(took) => {
                report.push(self.closed(CHANNEL, peer).took(took));
                return Through::Nothing;
            }
            Permit::Failed(row) => {
                report.push(row);
                return Through::Enough;
            }
        }
        let half = self.leg.ctx.patience / 2;
        let (unasked, took) = self.leg.ctx.time(self.inward(session, partner, peer, half)).await;
        let mut channel = TO_SOCKET;
        if let Some(seen) = unasked.filter(|seen| *seen != peer) {
            // The NAT here shows the relay another port than it showed the STUN server.
            if let Permit::Given(_) = self.bind(session, TO_SEEN, seen).await {
                channel = TO_SEEN;
            }
        }
        let trip = self.round_trip(session, channel, partner, half).await;
        report.push(self.inward_row(unasked, &trip).took(took));
        report.push(self.trip_row(&trip));
        if unasked.is_none() && trip.seen_from.is_none() { Through::Nothing } else { Through::Enough }
    }

    fn inward_row(&self, unasked: Option<SocketAddr>, trip: &Trip) -> Row {
        match (unasked, trip.back) {
            (Some(peer), _) => {
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
                Row::fail(INWARD, format!("nothing sent to {} came through", self.relayed), self.lost(trip))
            }
        }
    }

    /// A peer that is refused with 403.
    fn closed(&self, step: &'static str, peer: SocketAddr) -> Row {
        let what = if step == PERMISSION { peer.ip().to_string() } else { peer.to_string() };
        let what = format!("{what} is closed to peers (403)");
        let right = match unreachable(peer.ip()) {
            _ if peer.ip() == self.relayed.ip() => "the server's own address",
            Some(range) => range,
            None => return Row::warn(step, what, policy(peer)),
        };
        Row::ok(step, format!("{what}, as is right for {right}; a second allocation is the peer instead"))
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
        match self.bind(session, TO_SECOND, other).await {
            Permit::Given(took) => report.push(bound(TO_SECOND, other).took(took)),
            Permit::Closed(took) => {
                return report.push(Row::fail(CHANNEL, "403 Forbidden", own_relay(other)).took(took));
            }
            Permit::Failed(row) => return report.push(row),
        }
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
        let attributes = || -> Setters { vec![peer_address(peer)] };
        self.ask(PERMISSION, session.ask(METHOD_CREATE_PERMISSION, attributes)).await
    }

    async fn bind(&self, session: &mut Session, number: u16, peer: SocketAddr) -> Permit {
        let attributes = || -> Setters { vec![Box::new(ChannelNumber(number)), peer_address(peer)] };
        self.ask(CHANNEL, session.ask(METHOD_CHANNEL_BIND, attributes)).await
    }

    async fn ask(
        &self,
        step: &'static str,
        request: impl Future<Output = Result<Answer, Trouble>>,
    ) -> Permit {
        let (answer, took) = self.leg.ctx.time(request).await;
        let row = match answer {
            Ok(Answer::Success(_)) => return Permit::Given(took),
            Ok(Answer::Error { code: 403, .. }) => return Permit::Closed(took),
            Ok(Answer::Error { code, reason, .. }) => {
                Row::fail(step, advice::code_in_words(code, &reason), advice::of_code(code))
                    .with("code", code)
            }
            Err(trouble) => {
                let (detail, advice) = advice::of_trouble(&trouble, self.leg.uri.transport, self.leg.address);
                Row::fail(step, detail, advice)
            }
        };
        Permit::Failed(row.took(took))
    }

    /// The partner alone sends. Where the server saw it send from, if it came through.
    async fn inward(
        &self,
        session: &Session,
        partner: &Partner,
        peer: SocketAddr,
        patience: Duration,
    ) -> Option<SocketAddr> {
        let exchange = async {
            let mut tick = interval(AGAIN);
            loop {
                tokio::select! {
                    _ = tick.tick() => { let _ = partner.send(self.relayed, &self.inward).await; }
                    relayed = session.receive() => match relayed {
                        Relayed::ByChannel(_, data) if data == self.inward => return peer,
                        Relayed::ByIndication(seen, data) if data == self.inward => return seen,
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
                        data.extend((tries.len() as u16).to_be_bytes());
                        tries.push(clock.since_start());
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
                        let nth = data.strip_prefix(self.outward.as_slice()).and_then(|rest| rest.try_into().ok());
                        if let Some(sent) = nth.and_then(|nth| tries.get(usize::from(u16::from_be_bytes(nth)))) {
                            trip.back = Some(clock.since_start().saturating_sub(*sent));
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
                let bytes = self.outward.len() + 2;
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

fn bound(number: u16, peer: SocketAddr) -> Row {
    Row::ok(CHANNEL, format!("channel {number:#06x} is for {peer}"))
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
