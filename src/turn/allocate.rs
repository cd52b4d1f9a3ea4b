//! Allocate (RFC 8656 section 7.2): a relayed transport address for a client.
//!
//! ```text
//! client ── Allocate ──► checks 2 to 10 ── BindRelay ──► driver
//! client ◄── success ─── relay_bound ◄──── address ─────┘
//! ```

use std::net::SocketAddr;
use std::time::Duration;

use super::allocation::{Allocation, Relay};
use super::policy::tunnel;
use super::rejection::Rejection;
use super::request::Request;
use super::shared::{Holder, Limit, ReservationToken};
use super::{BindError, Event, FiveTuple, Output, PortChoice, RelayAddr, RelayId, RelayTransport, Server};
use crate::auth::Identity;
use crate::stun::{Attribute, AttributeType, Family, Message};
use crate::time::{Instant, Now};

const UDP: u8 = 17;
const TCP: u8 = 6;
/// RFC 8656 section 7.2: a reservation is held for at least 30 seconds.
//= 8656-7.2-6
const RESERVATION_LIFETIME: Duration = Duration::from_secs(30);

/// An Allocate request whose sockets are being bound.
#[derive(Debug)]
pub(super) struct Pending {
    flow: FiveTuple,
    /// The request itself: the answer needs its header and whether it had FINGERPRINT.
    request: Vec<u8>,
    lifetime: Duration,
    port: PortChoice,
    /// Families still to hear of.
    waiting: Vec<Family>,
    /// It is to have a mobility ticket.
    mobile: bool,
    /// The client has gone meanwhile.
    abandoned: bool,
}

/// What a valid request asks for.
struct Wish {
    transport: RelayTransport,
    families: Vec<Family>,
    port: PortChoice,
    token: Option<ReservationToken>,
    mobile: bool,
    lifetime: Duration,
}

impl Server {
    /// Steps 2 to 11, after authentication. `None`: the answer comes when the sockets are bound.
    pub(super) fn allocate(
        &mut self,
        now: Now,
        request: &Request<'_>,
        identity: &Identity,
    ) -> Result<Option<Vec<u8>>, Rejection> {
        //= 8489-6.3.1-1
        // 2. The 5-tuple must be free. The same request once more gets the same answer.
        if let Some(slot) = self.slot_of(&request.flow) {
            return match self.allocations.get(slot) {
                Some(a) if a.transaction == request.message.transaction_id() && a.owner.is(identity) => {
                    Ok((!self.pending.contains_key(&slot)).then(|| self.allocated(now, request, slot)))
                }
                _ => Err(Rejection::AllocationMismatch("this 5-tuple has an allocation already")),
            };
        }
        if self.draining {
            let elsewhere = self.try_alternate(request, "this server is about to stop");
            return Err(elsewhere.unwrap_or(Rejection::Draining));
        }
        let wish = self.read(now, request)?;
        //= 8656-21.4-1 8656-21.4-2
        if let Some(range) = tunnel(request.flow.client.0.ip()) {
            return Err(Rejection::TunnelledClient(range));
        }

        // 10. Quotas. A reservation outlives its allocation, so it is counted, too.
        if wish.port == PortChoice::EvenPair {
            self.shared
                .may_reserve(&identity.user, &self.settings.limits, now.instant)
                .map_err(Rejection::AllocationQuotaReached)?;
        }
        let ticket = self
            .shared
            .admit(&identity.user, request.flow.client.0.ip(), &self.settings.limits)
            .map_err(|limit| self.no_room(request, limit))?;
        if let Some(token) = wish.token {
            self.shared.redeem(token, now.instant).ok_or(Rejection::NoReservation)?;
        }

        let slot = self.allocations.insert(Allocation::new(
            request.flow,
            identity.clone(),
            wish.transport,
            request.message.transaction_id(),
            now.instant,
            ticket,
        ));
        self.by_flow.insert(request.flow, slot);
        for &family in &wish.families {
            let relay = RelayId::new(slot, family);
            self.outputs.push_back(Output::BindRelay {
                relay,
                transport: wish.transport,
                family,
                port: wish.port,
            });
        }
        self.pending.insert(
            slot,
            Pending {
                flow: request.flow,
                request: request.message.as_bytes().to_vec(),
                lifetime: wish.lifetime,
                port: wish.port,
                waiting: wish.families,
                mobile: wish.mobile,
                abandoned: false,
            },
        );
        Ok(None)
    }

    /// Steps 3 to 9: does the request make sense, and can this server do it at all?
    fn read(&self, now: Now, request: &Request<'_>) -> Result<Wish, Rejection> {
        use AttributeType as T;

        // 3. REQUESTED-TRANSPORT.
        let transport = match request.get(T::REQUESTED_TRANSPORT)? {
            Some(Attribute::RequestedTransport(UDP)) => RelayTransport::Udp,
            //= 6062-5.1-1 6062-5.1-2
            // RFC 6062 section 5.1: over a connection only, and without what makes sense for UDP alone.
            Some(Attribute::RequestedTransport(TCP)) => {
                let for_udp = [T::EVEN_PORT, T::DONT_FRAGMENT, T::RESERVATION_TOKEN];
                if !request.flow.transport.is_stream()
                    || for_udp.iter().any(|t| request.message.find(*t).is_some())
                {
                    return Err(Rejection::BadRequest(
                        "a TCP allocation needs a connection, and no EVEN-PORT, DONT-FRAGMENT or RESERVATION-TOKEN",
                    ));
                }
                RelayTransport::Tcp
            }
            Some(Attribute::RequestedTransport(other)) => {
                return Err(Rejection::UnsupportedTransportProtocol(other));
            }
            _ => return Err(Rejection::BadRequest("REQUESTED-TRANSPORT is missing")),
        };
        // 4. DONT-FRAGMENT is supported; only its form can be wrong.
        request.get(T::DONT_FRAGMENT)?;

        let mobile = self.wants_mobility(request, transport)?;
        let even_port = request.get(T::EVEN_PORT)?;
        let requested = request.get(T::REQUESTED_ADDRESS_FAMILY)?;
        let additional = request.get(T::ADDITIONAL_ADDRESS_FAMILY)?;
        let token = request.get(T::RESERVATION_TOKEN)?;
        let lifetime = self.lifetime(now, request, request.lifetime()?);

        // 5. RESERVATION-TOKEN goes alone.
        if let Some(Attribute::ReservationToken(token)) = token {
            if even_port.is_some() || requested.is_some() || additional.is_some() {
                return Err(Rejection::BadRequest(
                    "RESERVATION-TOKEN does not go with EVEN-PORT or an address family",
                ));
            }
            let local = self.shared.reserved(*token, now.instant).ok_or(Rejection::NoReservation)?;
            let families = vec![Family::of(&local.ip())];
            let port = PortChoice::Exactly(local);
            return Ok(Wish { transport, families, port, token: Some(*token), mobile, lifetime });
        }
        // 6. One of the two family attributes.
        if requested.is_some() && additional.is_some() {
            return Err(Rejection::BadRequest("REQUESTED- and ADDITIONAL-ADDRESS-FAMILY do not go together"));
        }
        // 8. (form) and 9. (form)
        let reserve = matches!(even_port, Some(Attribute::EvenPort { reserve: true }));
        match additional {
            Some(_) if reserve => {
                return Err(Rejection::BadRequest(
                    "EVEN-PORT with R does not go with ADDITIONAL-ADDRESS-FAMILY",
                ));
            }
            None | Some(Attribute::AdditionalAddressFamily(Some(Family::V6))) => {}
            Some(_) => return Err(Rejection::BadRequest("ADDITIONAL-ADDRESS-FAMILY must be IPv6")),
        }
        //= 8656-7.2-2 8656-7.2-3
        // 7. The family must be one this server relays.
        let family = match requested {
            Some(Attribute::RequestedAddressFamily(Some(family))) => family,
            Some(_) => return Err(Rejection::AddressFamilyNotSupported),
            //= 8656-7.2-4
            None => Family::V4,
        };
        if !self.relays_family(family) && additional.is_none() {
            return Err(Rejection::AddressFamilyNotSupported);
        }
        let families = if additional.is_some() { vec![Family::V4, Family::V6] } else { vec![family] };
        // Section 3.7: sockets don't show the DF bit of what comes in, so it can't be carried over to IPv6.
        //= 8656-3.7-1
        let translates = !request.flow.transport.is_stream() && request.flow.client.0.is_ipv4();
        if translates && families == [Family::V6] && request.message.find(T::DONT_FRAGMENT).is_some() {
            return Err(Rejection::UnknownAttributes(vec![T::DONT_FRAGMENT]));
        }
        let port = match even_port {
            None => PortChoice::Any,
            Some(_) if reserve => PortChoice::EvenPair,
            Some(_) => PortChoice::Even,
        };
        Ok(Wish { transport, families, port, token: None, mobile, lifetime })
    }

    /// Seconds asked for, clamped: the default is the least, the maximum the most (RFC 8656 section 7.2); and no longer
    /// than the token of whoever asks (RFC 7635 section 9).
    //= 7635-9-1
    pub(super) fn lifetime(&self, now: Now, request: &Request<'_>, asked: Option<u32>) -> Duration {
        let (default, max) = (self.settings.default_lifetime, self.settings.max_lifetime);
        let lifetime = asked.map_or(default, |s| Duration::from_secs(s.into()).min(max).max(default));
        request.identity.and_then(|i| i.bound(now)).map_or(lifetime, |bound| bound.min(lifetime))
    }

    /// 11. When all is in use, another server may have room; who has used up a quota of its own is not sent there.
    fn no_room(&self, request: &Request<'_>, limit: Limit) -> Rejection {
        let elsewhere = match limit {
            Limit::Allocations => self.try_alternate(request, "limits.allocations is reached"),
            _ => None,
        };
        elsewhere.unwrap_or(Rejection::AllocationQuotaReached(limit))
    }

    fn relays_family(&self, family: Family) -> bool {
        self.settings.relay_addresses.iter().any(|r| Family::of(&r.local) == family)
    }

    /// Takes the driver's answer to [`Output::BindRelay`]: the local address, or why there is none.
    pub fn relay_bound(&mut self, now: Now, relay: RelayId, result: Result<SocketAddr, BindError>) {
        let (slot, family) = (relay.slot(), relay.family());
        let (Some(pending), Some(allocation)) = (self.pending.get_mut(&slot), self.allocations.get_mut(slot))
        else {
            return;
        };
        pending.waiting.retain(|f| *f != family);
        match result {
            Ok(_) if pending.abandoned => self.outputs.push_back(Output::CloseRelay { relay }),
            Ok(local) => {
                let announced = RelayAddr(self.addresses.announced(local));
                // Its life begins when the client is told.
                let expires = now.instant;
                *allocation.relay_mut(family) = Some(Relay { id: relay, announced, local, expires });
                let holder = Holder { shard: self.shard, relay };
                self.shared.open_relay_port(allocation.transport, local, holder);
            }
            // If nothing comes of both families, that one of them is full says more than that the other is not there.
            Err(BindError::FamilyNotSupported) if allocation.failed.is_some() => {}
            Err(error) => allocation.failed = Some((family, error)),
        }
        if !pending.waiting.is_empty() {
            return;
        }
        match self.pending.remove(&slot) {
            Some(pending) if pending.abandoned => drop(self.allocations.remove(slot)),
            Some(pending) => self.answer_pending(now, slot, &pending),
            None => {}
        }
    }

    /// The client has gone before its allocation was made; returns whether it was so. The slot stays taken until all
    /// sockets have been heard of: nobody else may get their ids meanwhile.
    pub(super) fn abandon(&mut self, slot: usize) -> bool {
        let Some(pending) = self.pending.get_mut(&slot) else { return false };
        pending.abandoned = true;
        self.by_flow.remove(&pending.flow);
        for family in [Family::V4, Family::V6] {
            self.close_relay(slot, family);
        }
        true
    }

    /// All sockets have been heard of: success with what there is, or failure with nothing left behind.
    fn answer_pending(&mut self, now: Now, slot: usize, pending: &Pending) {
        let Ok(message) = Message::parse(&pending.request) else { return };
        let Some(allocation) = self.allocations.get_mut(slot) else { return };
        let identity = allocation.owner.clone();
        let request = Request { message, flow: pending.flow, identity: Some(&identity) };

        let Some(first) = allocation.relays().next().copied() else {
            let rejection = match allocation.failed {
                Some((_, BindError::FamilyNotSupported)) | None => Rejection::AddressFamilyNotSupported,
                Some((_, error)) => Rejection::NoRelay(error),
            };
            self.by_flow.remove(&pending.flow);
            self.allocations.remove(slot);
            self.reject(now, &request, rejection);
            return;
        };
        let expires = now.instant + pending.lifetime;
        allocation.relays_mut().for_each(|r| r.expires = expires);
        if pending.port == PortChoice::EvenPair {
            let next = SocketAddr::new(first.local.ip(), first.local.port() | 1);
            let token: ReservationToken = self.random.next();
            allocation.reservation = Some(token);
            let expires = now.instant + RESERVATION_LIFETIME;
            self.shared.reserve(token, &identity.user, next, now.instant, expires);
        }
        if pending.mobile {
            self.make_mobile(slot);
        }
        let allocation = &self.allocations[slot];
        let event = Event::AllocationCreated {
            flow: allocation.flow,
            user: allocation.owner.user.clone(),
            relay: first.announced,
            lifetime: pending.lifetime,
        };
        self.counters.allocations += 1;
        self.counters.tallies.success(request.message.method());
        self.outputs.push_back(Output::Event(event));
        self.schedule(slot);
        let answer = self.allocated(now, &request, slot);
        self.send(request.flow, answer);
    }

    /// The success response for an allocation that exists.
    //= 8489-6.3.1-2
    fn allocated(&self, now: Now, request: &Request<'_>, slot: usize) -> Vec<u8> {
        let allocation = &self.allocations[slot];
        let mut builder = request.success();
        for relay in allocation.relays() {
            builder = builder.xor_address(AttributeType::XOR_RELAYED_ADDRESS, relay.announced.0);
        }
        let left = allocation.relays().map(|r| seconds_until(r.expires, now.instant)).max().unwrap_or(0);
        builder = builder
            .u32(AttributeType::LIFETIME, left)
            .xor_address(AttributeType::XOR_MAPPED_ADDRESS, request.flow.client.0);
        //= 8016-3.1.2-3
        if let Some(mobility) = &allocation.mobility {
            builder = builder.raw(AttributeType::MOBILITY_TICKET, mobility.ticket.as_bytes());
        }
        if let Some(token) = allocation.reservation {
            builder = builder.raw(AttributeType::RESERVATION_TOKEN, &token);
        }
        if let Some((family, error)) = allocation.failed {
            builder = builder.address_error_code(
                family,
                match error {
                    BindError::FamilyNotSupported => 440,
                    BindError::NoPort => 508,
                },
            );
        }
        request.seal(self.with_software(builder))
    }
}

/// Whole seconds, rounded up: what is left when the answer arrives is never more than promised by a whole second.
pub(super) fn seconds_until(end: Instant, now: Instant) -> u32 {
    end.since(now).as_millis().div_ceil(1000).try_into().unwrap_or(u32::MAX)
}
