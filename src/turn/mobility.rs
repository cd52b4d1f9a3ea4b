//! Mobility (RFC 8016): an allocation that stays when its client's address changes.
//!
//! ```text
//! old path ══ Allocate, MOBILITY-TICKET empty ══►        ◄══ success, ticket 1
//! new path ══ Refresh, ticket 1 ════════════════► redeem, take_path
//!                                                        ◄══ success, ticket 2
//! old path ◄════ data of peers                           both paths may send
//! new path ══ Send or ChannelData ══════════════► heard_on
//! new path ◄════ data of peers                           the old path is nobody's
//! ```
//!
//! A ticket names an allocation, no more: only the credentials that made the allocation can move it. It works once, and
//! ends with the allocation. When a stream breaks first, the allocation waits for its client, as long as it would live.
//! Permissions, channels and the place in the quotas go along.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::policy::tunnel;
use super::rejection::Rejection;
use super::request::Request;
use super::server::Random;
use super::{Event, FiveTuple, Output, RelayTransport, Server};
use crate::stun::{AttributeType, Method, TransactionId};

/// The value of MOBILITY-TICKET as this server makes it: text, since some clients handle it as that.
///
/// ```text
/// base64:  | shard | 7 random bytes | MAC over these: 7 bytes |
/// ```
/// The MAC tells what this server once gave out (437, make a new allocation) from what it never did (400).
//= 8016-3.3-1
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct MobilityTicket([u8; TEXT]);

const HEAD: usize = 8;
const RAW: usize = 15;
const TEXT: usize = RAW / 3 * 4;

impl MobilityTicket {
    fn new(shard: u8, random: &mut Random) -> Self {
        let mut head = random.next();
        head[0] = shard;
        Self::sealed(&head, random)
    }

    fn sealed(head: &[u8], random: &Random) -> Self {
        let mut raw = [0; RAW];
        raw[..HEAD].copy_from_slice(head);
        raw[HEAD..].copy_from_slice(&random.mac(b"mobility ticket", head)[..RAW - HEAD]);
        let mut text = [0; TEXT];
        // Three bytes make four characters; the array is sized so.
        let _ = STANDARD.encode_slice(raw, &mut text);
        Self(text)
    }

    /// The ticket of a Refresh, if it shows one.
    pub(super) fn of(request: &Request<'_>) -> Result<Option<Self>, Rejection> {
        if request.message.method() != Method::REFRESH {
            return Ok(None);
        }
        let Some(shown) = request.message.find(AttributeType::MOBILITY_TICKET) else { return Ok(None) };
        shown.value.try_into().map(|text| Some(Self(text))).map_err(|_| NEVER_GIVEN)
    }

    /// The shard that holds the allocation, if this server has made the ticket.
    pub(super) fn shard(&self) -> Option<u8> {
        self.raw().map(|[shard, ..]| shard)
    }

    fn raw(&self) -> Option<[u8; RAW]> {
        let mut raw = [0; RAW];
        STANDARD.decode_slice(self.0, &mut raw).is_ok().then_some(raw)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What an allocation that may move knows of it.
#[derive(Debug)]
pub(super) struct Mobility {
    pub ticket: MobilityTicket,
    /// The path it moves to, until the client is heard on it.
    next: Option<FiveTuple>,
    /// The stream that was its path has ended: the allocation waits for its client to come back.
    pub lost: bool,
    /// The last move, to recognise a retransmission.
    moved: Option<(TransactionId, MobilityTicket)>,
}

impl Server {
    /// Does an Allocate request ask for a ticket, and may it have one (RFC 8016 section 3.1.2)?
    //= 8016-3.1.2-1 8016-3.1.2-2
    pub(super) fn wants_mobility(
        &self,
        request: &Request<'_>,
        transport: RelayTransport,
    ) -> Result<bool, Rejection> {
        match request.message.find(AttributeType::MOBILITY_TICKET) {
            None => Ok(false),
            Some(a) if !a.value.is_empty() => {
                Err(Rejection::BadRequest("MOBILITY-TICKET in an Allocate must be empty"))
            }
            Some(_) if !self.settings.mobility => Err(OFF),
            // The connections to peers are joined to connections from the old address.
            Some(_) if transport == RelayTransport::Tcp => {
                Err(Rejection::MobilityForbidden("a TCP allocation can't move"))
            }
            Some(_) => Ok(true),
        }
    }

    /// Gives an allocation its first ticket.
    pub(super) fn make_mobile(&mut self, slot: usize) {
        let ticket = self.new_ticket(slot);
        self.allocations[slot].mobility =
            Some(Box::new(Mobility { ticket, next: None, lost: false, moved: None }));
    }

    fn new_ticket(&mut self, slot: usize) -> MobilityTicket {
        let ticket = loop {
            let ticket = MobilityTicket::new(self.shard, &mut self.random);
            if !self.by_ticket.contains_key(&ticket) {
                break ticket;
            }
        };
        self.by_ticket.insert(ticket, slot);
        ticket
    }

    /// The allocation that an authentic request means, with all that can be wrong with a ticket (RFC 8016 section 3.2.2).
    //= 8016-3.2.2-2 8016-3.2.2-3
    pub(super) fn redeem(&self, request: &Request<'_>) -> Result<Option<usize>, Rejection> {
        let here = self.slot_of(&request.flow);
        let Some(ticket) = MobilityTicket::of(request)? else { return Ok(here) };
        if !self.settings.mobility {
            return Err(OFF);
        }
        let known = self.by_ticket.get(&ticket).copied();
        if let Some(slot) = here {
            let moved = self.allocations[slot].mobility.as_ref().and_then(|m| m.moved);
            return match known {
                _ if moved == Some((request.message.transaction_id(), ticket)) => Ok(here),
                Some(other) if other != slot => {
                    Err(Rejection::AllocationMismatch("this 5-tuple has an allocation of its own"))
                }
                _ => Err(Rejection::BadRequest("a ticket is of no use on the allocation's own path")),
            };
        }
        if known.is_some() {
            return Ok(known);
        }
        match ticket.raw() {
            Some(raw)
                if raw[0] == self.shard && ticket == MobilityTicket::sealed(&raw[..HEAD], &self.random) =>
            {
                Err(Rejection::AllocationMismatch("the ticket is used up, or its allocation is over"))
            }
            _ => Err(NEVER_GIVEN),
        }
    }

    /// A valid Refresh has come over `request.flow`: if that is a new path, the allocation gets it beside the old one.
    /// Returns the ticket for the answer to a Refresh with one.
    //= 8016-3.2.2-4
    pub(super) fn take_path(
        &mut self,
        request: &Request<'_>,
        slot: usize,
    ) -> Result<Option<MobilityTicket>, Rejection> {
        let Some(used) = MobilityTicket::of(request)? else { return Ok(None) };
        let allocation = &mut self.allocations[slot];
        let Some(mobility) = &mut allocation.mobility else { return Ok(None) };
        if self.by_flow.contains_key(&request.flow) {
            return Ok(Some(mobility.ticket));
        }
        let client = request.flow.client.0.ip();
        // What could not have been made there can't move there.
        if let Some(range) = tunnel(client) {
            return Err(Rejection::TunnelledClient(range));
        }
        allocation
            .ticket
            .move_to(client, Some(&self.settings.limits))
            .map_err(Rejection::AllocationQuotaReached)?;
        if let Some(never_used) = mobility.next.replace(request.flow) {
            self.by_flow.remove(&never_used);
        }
        mobility.moved = Some((request.message.transaction_id(), used));
        self.by_flow.insert(request.flow, slot);
        self.by_ticket.remove(&used);
        let ticket = self.new_ticket(slot);
        let lost = self.allocations[slot].mobility.as_mut().is_some_and(|mobility| {
            mobility.ticket = ticket;
            mobility.lost
        });
        if lost {
            self.arrive(slot);
        }
        Ok(Some(ticket))
    }

    /// Data has come over one of an allocation's paths. On the new one it tells that the client has moved.
    //= 8016-3.2.2-6
    #[inline]
    pub(super) fn heard_on(&mut self, slot: usize, flow: FiveTuple) {
        if self.allocations[slot].mobility.as_ref().is_some_and(|m| m.next == Some(flow)) {
            self.arrive(slot);
        }
    }

    fn arrive(&mut self, slot: usize) {
        let allocation = &mut self.allocations[slot];
        let Some(mobility) = &mut allocation.mobility else { return };
        let Some(to) = mobility.next.take() else { return };
        mobility.lost = false;
        let from = std::mem::replace(&mut allocation.flow, to);
        // Whoever lost a stream may come back from the same port.
        if from != to {
            self.forget_path(slot, &from);
        }
        self.counters.moves += 1;
        let user = self.allocations[slot].owner.user.clone();
        self.outputs.push_back(Output::Event(Event::AllocationMoved { from, to, user }));
        let grants: Vec<_> = self.allocations[slot].peers.grants().collect();
        grants.into_iter().for_each(|(grant, until)| self.tell_grant(slot, grant, until));
    }

    /// The stream of one path has ended; returns whether the allocation goes on: on its other path, or with none until
    /// its client comes with the ticket. What breaks first, and what is made then, is not the client's choice.
    pub(super) fn lose_path(&mut self, slot: usize, flow: &FiveTuple) -> bool {
        let allocation = &mut self.allocations[slot];
        let Some(mobility) = &mut allocation.mobility else { return false };
        match mobility.next {
            None => {
                mobility.lost = true;
                self.by_flow.remove(flow);
                true
            }
            Some(next) if next == *flow => {
                mobility.next = None;
                self.by_flow.remove(flow);
                // It has been counted there before.
                let _ = allocation.ticket.move_to(allocation.flow.client.0.ip(), None);
                true
            }
            Some(_) => {
                self.arrive(slot);
                true
            }
        }
    }

    /// The allocation has ended: nothing of its paths and tickets stays.
    pub(super) fn forget_mobility(&mut self, mobility: &Mobility) {
        self.by_ticket.remove(&mobility.ticket);
        if let Some(next) = &mobility.next {
            self.by_flow.remove(next);
        }
    }

    /// A path that was lost may be somebody else's by now.
    pub(super) fn forget_path(&mut self, slot: usize, flow: &FiveTuple) {
        if self.slot_of(flow) == Some(slot) {
            self.by_flow.remove(flow);
        }
    }
}

const NEVER_GIVEN: Rejection = Rejection::BadRequest("no ticket of this server");
const OFF: Rejection = Rejection::MobilityForbidden("relay.mobility is off");
