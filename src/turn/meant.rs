//! Which allocation a request means, before anybody is known: that of a name it shows, else that of its path. The owner
//! of that allocation then decides with its own key, so a call whose credential has expired since can still move, and
//! take connections of its peers.
//!
//! ```text
//! Refresh, MOBILITY-TICKET ───────► slot_meant: an allocation of this shard
//! ConnectionBind, CONNECTION-ID ─┘► shard_meant: another shard, which gets the stream or the datagram and sees for itself
//! ```

use super::mobility::MobilityTicket;
use super::request::Request;
use super::{ConnectionId, Server};
use crate::stun::{Attribute, AttributeType as T, Method};

impl Server {
    /// The allocation of this shard that a request is about.
    pub(super) fn slot_meant(&self, request: &Request<'_>) -> Option<usize> {
        let named = match named(request) {
            Some(Named::Ticket(ticket)) => self.by_ticket.get(&ticket),
            Some(Named::Connection(connection)) => self.by_connection.get(&connection),
            None => None,
        };
        named.copied().or_else(|| self.slot_of(&request.flow))
    }

    /// The other shard that a request is about. Whoever has not signed is nobody's yet.
    pub(super) fn shard_meant(&self, request: &Request<'_>) -> Option<u8> {
        let free = self.slot_of(&request.flow).is_none();
        let shard = match named(request).filter(|_| free && request.is_signed())? {
            Named::Ticket(ticket) => ticket.shard().filter(|_| self.settings.mobility)?,
            Named::Connection(id) if request.flow.transport.is_stream() => id.shard(),
            Named::Connection(_) => return None,
        };
        (shard != self.shard && self.shared.has_shard(shard)).then_some(shard)
    }
}

/// What names an allocation, whatever path it comes over.
enum Named {
    Ticket(MobilityTicket),
    Connection(ConnectionId),
}

fn named(request: &Request<'_>) -> Option<Named> {
    match request.message.method() {
        Method::REFRESH => MobilityTicket::of(request).ok()?.map(Named::Ticket),
        Method::CONNECTION_BIND => match request.get(T::CONNECTION_ID).ok()?? {
            Attribute::ConnectionId(id) => Some(Named::Connection(ConnectionId(id))),
            _ => None,
        },
        _ => None,
    }
}
