//! ALTERNATE-SERVER (RFC 8489 section 10): whoever can't be served here is told where else to try.

use std::net::SocketAddr;

use super::rejection::Rejection;
use super::request::Request;
use super::{Server, Transport};
use crate::stun::Family;

impl Server {
    /// The refusal that sends a client elsewhere, because of `why`; `None` if there is nowhere to send it.
    ///
    /// A client stays with its transport and, if it likes, with its address family. What is configured are ports without TLS, so
    /// whoever came over TLS would knock in vain.
    //= 8489-10-1 8489-10-2
    pub(super) fn try_alternate(&self, request: &Request<'_>, why: &'static str) -> Option<Rejection> {
        let flow = &request.flow;
        if flow.transport == Transport::Tls {
            return None;
        }
        // The client's own random number spreads clients over the servers; the same request again gets the same one.
        let [.., last] = request.message.transaction_id().0;
        let one_of = |family| {
            let alternates = &self.settings.alternate_servers;
            let fitting: Vec<SocketAddr> =
                alternates.iter().filter(|a| Family::of(&a.ip()) == family).copied().collect();
            fitting.get(usize::from(last) % fitting.len().max(1)).copied()
        };
        let (family, other) = match flow.client.family() {
            Family::V4 => (Family::V4, Family::V6),
            Family::V6 => (Family::V6, Family::V4),
        };
        Some(Rejection::TryAlternate { to: one_of(family)?, or: one_of(other), why })
    }
}
