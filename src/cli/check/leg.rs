//! One address of one URI, step by step, in the order a client takes them.
//!
//! ```text
//! connect ─ Binding ─ Allocate (unsigned: must be refused) ─ Allocate ─ [relay.rs: permission, channel, data] ─ Refresh 0
//!              └─ NAT behaviour, over UDP
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ::stun::attributes::ATTR_REALM;
use ::stun::message::{Getter, METHOD_ALLOCATE, METHOD_BINDING, METHOD_REFRESH, Message};
use ::stun::textattrs::TextAttribute;
use ::turn::proto::PROTO_UDP;
use ::turn::proto::lifetime::Lifetime;
use ::turn::proto::relayaddr::RelayedAddress;
use ::turn::proto::reqfamily::REQUESTED_FAMILY_IPV6;
use ::turn::proto::reqtrans::RequestedTransport;

use super::connect::{self, Context};
use super::login::Login;
use super::report::{Advice, Report, Row, printable};
use super::session::{Answer, Session, Setters, Trouble, software};
use super::uri::{Transport, Uri};
use super::wire::Wire;
use super::{addresses, advice, nat, relay};

/// What is checked, over which address, as whom.
pub(super) struct Leg<'a> {
    pub(super) ctx: &'a Context,
    pub(super) uri: &'a Uri,
    pub(super) address: SocketAddr,
    pub(super) login: Option<&'a Login>,
}

const BINDING: &str = "Binding";
const UNSIGNED: &str = "Allocate, unsigned";
const ALLOCATE: &str = "Allocate";

impl Leg<'_> {
    /// Takes the steps until one fails that the others need.
    pub(super) async fn check(&self, report: &mut Report) {
        let Self { ctx, uri, address, .. } = *self;
        report.section(&uri.to_string(), Some((address, uri.transport.name())));
        let wire = connect::open(ctx, report, &uri.host, uri.transport, address).await;
        let Some(wire) = wire.map(Arc::new) else { return };
        self.converse(report, &mut Session::over(wire, ctx.patience)).await;
    }

    async fn converse(&self, report: &mut Report, session: &mut Session) {
        let (answer, took) = self.ctx.time(session.ask(METHOD_BINDING, Vec::new)).await;
        let other = match &answer {
            Ok(Answer::Success(response)) => nat::other_address(response),
            _ => None,
        };
        let row = self.binding_row(session, &answer).took(took);
        if !self.uri.relays {
            report.push(row);
        } else {
            // Servers may be told to answer no Binding; only the next request shows whether this is one.
            let (challenge, challenge_took) = match answer {
                Err(Trouble::Lost(_)) => return report.push(row),
                _ => self.ctx.time(session.ask(METHOD_ALLOCATE, plain)).await,
            };
            report.push(match (&answer, &challenge) {
                (Ok(Answer::Success(_)), _) => row,
                (_, Err(_)) => return report.push(row),
                (_, Ok(_)) => no_binding().took(took),
            });
            self.turn(report, session, challenge, challenge_took).await;
        }
        if self.uri.transport == Transport::Udp {
            match other {
                Some(other) => report.push(nat::row(self.ctx, self.address, other).await),
                None if !self.uri.relays => report
                    .push(Row::skip("NAT behaviour", "the server has no second address for it (RFC 5780)")),
                None => {}
            }
        }
    }

    fn trouble(&self, step: &'static str, trouble: &Trouble) -> Row {
        let (detail, advice) = advice::of_trouble(trouble, self.uri.transport, self.address);
        Row::fail(step, detail, advice)
    }

    fn binding_row(&self, session: &Session, answer: &Result<Answer, Trouble>) -> Row {
        let response = match answer {
            Ok(Answer::Success(response)) => response,
            Ok(Answer::Error { code, reason, .. }) => {
                return Row::fail(BINDING, advice::code_in_words(*code, reason), advice::of_code(*code));
            }
            Err(trouble) => return self.trouble(BINDING, trouble),
        };
        let Some(mapped) = nat::mapped_address(response) else {
            return self.trouble(BINDING, &Trouble::Nonsense("no mapped address in it".into()));
        };
        let by = software(response);
        let shown = by.as_ref().map_or_else(String::new, |by| format!("; server: {}", printable(by)));
        addresses::mapped(mapped, session.wire.local, self.address.ip(), &shown).with("software", by)
    }

    /// From the answer to an unsigned Allocate on.
    async fn turn(
        &self,
        report: &mut Report,
        session: &mut Session,
        answer: Result<Answer, Trouble>,
        took: Duration,
    ) {
        let challenge = match answer {
            Ok(Answer::Error { code: 401, message, .. }) => message,
            Ok(Answer::Error { code, reason, message }) => {
                let advice = match code {
                    300 => advice::elsewhere(nat::alternate_server(&message)),
                    _ => Advice::new(
                        "it speaks STUN and does not relay, or not over this transport",
                        "switch the relay on; stun-only (coturn) switches it off",
                    ),
                };
                let row = Row::fail(UNSIGNED, advice::code_in_words(code, &reason), advice);
                return report.push(row.took(took));
            }
            Ok(Answer::Success(response)) => {
                let advice = Advice::new(
                    "an open relay: anybody sends through it, at your cost and in your name",
                    "ask for credentials: lt-cred-mech or use-auth-secret (coturn), and no no-auth; ternd always does",
                );
                report.push(Row::fail(UNSIGNED, "granted to nobody in particular", advice).took(took));
                // Granted it is, so the rest can be seen over it.
                return self.relay(report, session, &response).await;
            }
            Err(trouble) => return report.push(self.trouble(UNSIGNED, &trouble).took(took)),
        };
        let realm = TextAttribute::get_from_as(&challenge, ATTR_REALM).map(|a| a.text).unwrap_or_default();
        let Some(login) = self.login else {
            report.push(refused(&realm).took(took));
            return report.push(Row::skip(
                ALLOCATE,
                "and all that follows: give --secret, or --user and --password, to check it",
            ));
        };
        if let Err(missing) = session.sign_as(login, &challenge) {
            let what = format!("refused with 401, but without {missing}");
            let advice = Advice::new(
                "the server asks for no long-term credentials, which is what clients have",
                "switch them on: lt-cred-mech or use-auth-secret (coturn)",
            );
            return report.push(Row::fail(UNSIGNED, what, advice).took(took));
        }
        report.push(refused(&realm).took(took));

        let (answer, took) = self.ctx.time(self.allocate(session)).await;
        match answer {
            Ok(Answer::Success(response)) => {
                report.push(self.allocated(&response).took(took));
                self.relay(report, session, &response).await;
            }
            Ok(Answer::Error { code: 401, reason, .. }) => {
                let advice = match self.clock_is_ahead(session, login, &challenge).await {
                    true => Advice::new(
                        "the server's clock is ahead: it takes credentials only that end more than 10 minutes later",
                        "set both clocks: timedatectl set-ntp true on both machines",
                    ),
                    false => login.refused(&realm, self.ctx.clock.now()),
                };
                report.push(Row::fail(ALLOCATE, advice::code_in_words(401, &reason), advice).took(took));
            }
            Ok(Answer::Error { code, reason, message }) => {
                let advice = match code {
                    300 => advice::elsewhere(nat::alternate_server(&message)),
                    _ => advice::of_code(code),
                };
                let row = Row::fail(ALLOCATE, advice::code_in_words(code, &reason), advice);
                report.push(row.took(took).with("code", code));
            }
            Err(trouble) => report.push(self.trouble(ALLOCATE, &trouble).took(took)),
        }
    }

    /// Over IPv6 it asks for an IPv6 relay first: without being asked, servers give IPv4 (RFC 8656 section 7.2).
    pub(super) async fn allocate(&self, session: &mut Session) -> Result<Answer, Trouble> {
        if self.address.is_ipv6() {
            let answer = session.ask(METHOD_ALLOCATE, plain_v6).await?;
            if !matches!(answer, Answer::Error { code: 400 | 420 | 440, .. }) {
                return Ok(answer);
            }
        }
        session.ask(METHOD_ALLOCATE, plain).await
    }

    /// Are credentials of the same secret taken that end much later?
    async fn clock_is_ahead(&self, session: &mut Session, login: &Login, challenge: &Message) -> bool {
        let Some(far) = login.far_ahead(self.ctx.clock.now()) else { return false };
        if session.sign_as(&far, challenge).is_err() {
            return false;
        }
        let taken = matches!(self.allocate(session).await, Ok(Answer::Success(_)));
        if taken {
            let _ = session.ask(METHOD_REFRESH, end).await;
        }
        taken
    }

    fn allocated(&self, response: &Message) -> Row {
        let Some(relayed) = relayed_address(response) else {
            return self.trouble(ALLOCATE, &Trouble::Nonsense("no relayed address in it".into()));
        };
        let mut lifetime = Lifetime::default();
        let lifetime = lifetime.get_from(response).map_or(Duration::ZERO, |()| lifetime.0);
        addresses::relayed(relayed, lifetime, self.address.ip())
    }

    async fn relay(&self, report: &mut Report, session: &mut Session, response: &Message) {
        if let Some(relayed) = relayed_address(response).filter(|relayed| !relayed.ip().is_unspecified()) {
            relay::check(self, report, session, relayed).await;
        }
        let (answer, took) = self.ctx.time(session.ask(METHOD_REFRESH, end)).await;
        let row = match answer {
            Ok(Answer::Success(_)) => Row::ok("Refresh 0", "the allocation is given back"),
            Ok(Answer::Error { code, reason, .. }) => {
                Row::fail("Refresh 0", advice::code_in_words(code, &reason), advice::of_code(code))
            }
            Err(trouble) => self.trouble("Refresh 0", &trouble),
        };
        report.push(row.took(took));
    }

    /// Another connection to the server.
    pub(super) async fn another(&self) -> std::io::Result<Arc<Wire>> {
        let Self { ctx, uri, address, .. } = *self;
        Ok(Arc::new(connect::open_another(ctx, &uri.host, uri.transport, address).await?))
    }
}

fn plain() -> Setters {
    vec![Box::new(RequestedTransport { protocol: PROTO_UDP })]
}

fn plain_v6() -> Setters {
    vec![Box::new(RequestedTransport { protocol: PROTO_UDP }), Box::new(REQUESTED_FAMILY_IPV6)]
}

fn end() -> Setters {
    vec![Box::new(Lifetime(Duration::ZERO))]
}

/// XOR-RELAYED-ADDRESS of an Allocate response.
pub(super) fn relayed_address(response: &Message) -> Option<SocketAddr> {
    let mut relayed = RelayedAddress::default();
    relayed.get_from(response).ok()?;
    Some(SocketAddr::new(relayed.ip, relayed.port))
}

fn refused(realm: &str) -> Row {
    Row::ok(UNSIGNED, format!("refused with 401, as it must; realm \"{}\"", printable(realm)))
        .with("realm", realm)
}

fn no_binding() -> Row {
    Row::warn(
        BINDING,
        "no answer, though the server answers other requests",
        Advice::new(
            "it is told to answer no Binding requests (no-stun, secure-stun of coturn)",
            "let it answer them if its URL is to be used as stun:, too",
        ),
    )
}
