//! Relayed data, both ways (RFC 8656 sections 11 and 12): what 99 % of all packets are.
//!
//! No answer, no queue, no copy, no heap: a look-up, the checks, a [`Verdict`].
//!
//! ```text
//! client ── ChannelData or Send indication ──► relay_to ──► peer
//! client ◄── ChannelData or Data indication ── relay_from_peer ◄── peer
//! ```
//!
//! A run of equal datagrams, which the kernel hands over as one, is looked up and checked once. When the peer is a relay
//! of this server, both halves follow each other: client ──► relay_to ──► relay_from_peer ──► the other client.

use std::net::SocketAddr;

use super::allocation::Allocation;
use super::meter::Load;
use super::request::unknown;
use super::{Access, FiveTuple, Framing, PayloadRange, PeerAddr, RelayId, RelayTransport, Server, Verdict};
use crate::stun::{
    AttributeType, Builder, CHANNEL_DATA_HEADER, ChannelData, ChannelNumber, Class, Family, Message, Method,
    decode_xor_address,
};
use crate::time::Now;

impl Server {
    /// Takes a run: datagrams of `segment` bytes that came from one client at once, the last may be shorter.
    /// [`Verdict::Apart`]: it must be handed in datagram by datagram.
    pub fn handle_client_run(&mut self, now: Now, flow: FiveTuple, bytes: &[u8], segment: usize) -> Verdict {
        let Some(number) = one_channel(bytes, segment) else { return Verdict::Apart };
        let payload = PayloadRange { start: CHANNEL_DATA_HEADER, end: segment };
        self.relay_on_channel(
            now,
            flow,
            number,
            payload,
            Load::run(segment, bytes.len(), CHANNEL_DATA_HEADER),
        )
    }

    /// RFC 8656 section 12.6.
    //= 8656-12.6-1
    pub(super) fn channel_data(&mut self, now: Now, flow: FiveTuple, bytes: &[u8]) -> Verdict {
        let Some(data) = ChannelData::parse(bytes) else {
            self.counters.malformed += 1;
            return Verdict::Nothing;
        };
        let len = data.data.len();
        let payload = PayloadRange { start: CHANNEL_DATA_HEADER, end: CHANNEL_DATA_HEADER + len };
        self.relay_on_channel(now, flow, data.number, payload, Load::one(len))
    }

    fn relay_on_channel(
        &mut self,
        now: Now,
        flow: FiveTuple,
        number: ChannelNumber,
        payload: PayloadRange,
        load: Load,
    ) -> Verdict {
        let Some(slot) = self.slot_of(&flow) else {
            //= 8656-5-5
            return drop(&mut self.counters.no_allocation, load);
        };
        self.heard_on(slot, flow);
        let Some(peer) = self.allocations[slot].peers.peer_of(number, now.instant) else {
            //= 8656-12-1
            return drop(&mut self.counters.no_channel, load);
        };
        self.relay_to(now, slot, peer, payload, load, false)
    }

    /// RFC 8656 section 11.2.
    pub(super) fn send_indication(&mut self, now: Now, flow: FiveTuple, message: &Message<'_>) -> Verdict {
        let Some(slot) = self.slot_of(&flow) else {
            self.counters.no_allocation += 1;
            return Verdict::Nothing;
        };
        self.heard_on(slot, flow);
        let peer = message
            .find(AttributeType::XOR_PEER_ADDRESS)
            .and_then(|a| decode_xor_address(a.value, message.transaction_id()))
            .filter(|peer| peer.port() != 0);
        let data = message.find(AttributeType::DATA);
        //= 8656-11.2-1
        let (Some(peer), Some(data), None) = (peer, data, unknown(message).next()) else {
            self.counters.malformed += 1;
            return Verdict::Nothing;
        };
        let start = data.offset + 4;
        let payload = PayloadRange { start, end: start + data.value.len() };
        //= 8656-13.1-1 8656-13.2-3 8656-13.3-2
        // From datagram to datagram the DF bit exists between IPv4 and IPv4 only (RFC 8656 sections 13 and 14).
        let ignored = !flow.transport.is_stream() && (flow.client.0.is_ipv6() || peer.is_ipv6());
        let dont_fragment = !ignored && message.find(AttributeType::DONT_FRAGMENT).is_some();
        let load = Load::one(data.value.len());
        self.relay_to(now, slot, PeerAddr(peer), payload, load, dont_fragment)
    }

    fn relay_to(
        &mut self,
        now: Now,
        slot: usize,
        peer: PeerAddr,
        payload: PayloadRange,
        load: Load,
        dont_fragment: bool,
    ) -> Verdict {
        let allocation = &self.allocations[slot];
        if allocation.transport != RelayTransport::Udp {
            return drop(&mut self.counters.no_channel, load);
        }
        let access = allocation.peers.permission(peer.0.ip(), now.instant);
        if !access.is_some_and(|access| self.is_port_open(access, RelayTransport::Udp, peer)) {
            return drop(&mut self.counters.no_permission, load);
        }
        let Some(relay) = allocation.relay(peer.family()).filter(|r| r.expires > now.instant) else {
            return drop(&mut self.counters.no_allocation, load);
        };
        let (relay, from) = (relay.id, relay.local);
        let to = self.addresses.local(peer.0);
        let holder = self.shared.holder(to);
        let is_here = holder.is_some_and(|there| there.shard == self.shard);
        if is_here && load.is_run() && self.settings.limits.has_rates() {
            // The caps of two allocations count, and each may admit a part.
            return Verdict::Apart;
        }
        if !allocation.admit(&self.settings.limits, load, now.instant) {
            return over_rate(&mut self.counters.over_rate, load);
        }
        let verdict = match holder {
            None => Verdict::Relay { relay, to, payload, dont_fragment },
            // To another allocation of this server, without a way through the kernel. From there it goes to the client
            // in any case, so nothing can go round in circles.
            Some(there) if is_here => match self.relay_from_peer(now, there.relay, from, load) {
                Verdict::Apart => return Verdict::Apart,
                Verdict::ToClient { flow, framing, .. } => Verdict::ToClient { flow, framing, payload },
                other => other,
            },
            Some(there) => Verdict::ToShard { shard: there.shard, from, to, payload },
        };
        self.allocations[slot].traffic.count_to_peers(load);
        self.counters.traffic.count_to_peers(load);
        verdict
    }

    /// Takes one datagram of `len` bytes that came in on a relay socket, `from` as the socket saw it
    /// (RFC 8656 section 11.3).
    pub fn handle_peer(&mut self, now: Now, relay: RelayId, from: SocketAddr, len: usize) -> Verdict {
        self.relay_from_peer(now, relay, from, Load::one(len))
    }

    /// Takes a run: datagrams of `segment` bytes that came in on a relay socket from one peer at once, the last may be
    /// shorter, `len` bytes in all. [`Verdict::Apart`]: it must be handed in datagram by datagram.
    pub fn handle_peer_run(
        &mut self,
        now: Now,
        relay: RelayId,
        from: SocketAddr,
        segment: usize,
        len: usize,
    ) -> Verdict {
        self.relay_from_peer(now, relay, from, Load::run(segment, len, 0))
    }

    /// Takes a datagram, or a run of them, that another shard has given the verdict [`Verdict::ToShard`].
    /// [`Verdict::Apart`]: it must be handed in datagram by datagram.
    pub fn handle_relayed(
        &mut self,
        now: Now,
        from: SocketAddr,
        to: SocketAddr,
        segment: usize,
        len: usize,
    ) -> Verdict {
        let load = if len > segment { Load::run(segment, len, 0) } else { Load::one(len) };
        match self.shared.holder(to).filter(|there| there.shard == self.shard) {
            Some(there) => self.relay_from_peer(now, there.relay, from, load),
            None => drop(&mut self.counters.no_allocation, load),
        }
    }

    fn relay_from_peer(&mut self, now: Now, relay: RelayId, from: SocketAddr, load: Load) -> Verdict {
        let from = PeerAddr(self.addresses.announced(from));
        let slot = relay.slot();
        let Some(allocation) = self.allocation_at(now, relay) else {
            return drop(&mut self.counters.no_allocation, load);
        };
        let access = allocation.peers.permission(from.0.ip(), now.instant);
        if !access.is_some_and(|access| self.is_port_open(access, RelayTransport::Udp, from)) {
            return drop(&mut self.counters.no_permission, load);
        }
        if !allocation.has_path() {
            return drop(&mut self.counters.no_path, load);
        }
        let (flow, channel) = (allocation.flow, allocation.peers.channel_of(from, now.instant));
        if load.is_run() && channel.is_none() {
            // Each Data indication has a transaction id of its own.
            return Verdict::Apart;
        }
        if !allocation.admit(&self.settings.limits, load, now.instant) {
            return over_rate(&mut self.counters.over_rate, load);
        }
        if load.longest > Framing::MAX_PAYLOAD {
            return drop(&mut self.counters.malformed, load);
        }
        let framing = match channel {
            //= 8656-12.5-1
            Some(number) => Framing::Channel(number),
            None => Framing::Data { peer: from, id: self.random.transaction_id() },
        };
        self.allocations[slot].traffic.count_to_client(load);
        self.counters.traffic.count_to_client(load);
        Verdict::ToClient { flow, framing, payload: PayloadRange::all(load.longest) }
    }

    /// Takes an ICMP error about a datagram that was sent from a relay to `to` (RFC 8656 section 11.5). `mtu` is that
    /// of "too big" errors, else 0. The client hears of it if it has a permission for that peer.
    //= 8656-11.5-1 8656-11.5-2
    pub fn handle_peer_error(&mut self, now: Now, relay: RelayId, to: SocketAddr, icmp: (u8, u8), mtu: u32) {
        let (kind, code) = icmp;
        let Some(allocation) = self.allocation_at(now, relay) else { return };
        let peer = PeerAddr(self.addresses.announced(to));
        // Destination unreachable and time exceeded; in ICMPv6 also packet too big.
        let relevant = match relay.family() {
            Family::V4 => matches!(kind, 3 | 11),
            Family::V6 => matches!(kind, 1..=3),
        };
        if !relevant
            || !allocation.has_path()
            || allocation.peers.permission(peer.0.ip(), now.instant).is_none()
        {
            return;
        }
        // Anybody can send what looks like an error: it counts as a datagram without payload.
        if !allocation.admit(&self.settings.limits, Load::one(0), now.instant) {
            self.counters.over_rate += 1;
            return;
        }
        let flow = allocation.flow;
        let [a, b, c, d] = mtu.to_be_bytes();
        let bytes = Builder::new(Class::Indication, Method::DATA, self.random.transaction_id())
            .xor_address(AttributeType::XOR_PEER_ADDRESS, peer.0)
            //= 8656-18.13-1
            .raw(AttributeType::ICMP, &[0, 0, kind, code, a, b, c, d])
            .finish();
        self.counters.icmp_errors += 1;
        self.send(flow, bytes);
    }

    /// The allocation of a relay that is not over.
    pub(super) fn allocation_at(&self, now: Now, relay: RelayId) -> Option<&Allocation> {
        let allocation = self.allocations.get(relay.slot())?;
        allocation.relay(relay.family()).filter(|r| r.expires > now.instant).map(|_| allocation)
    }

    /// On this server's own relay addresses, only the ports of live allocations are open. A UDP port and the TCP port
    /// of the same number are two.
    pub(super) fn is_port_open(&self, access: Access, transport: RelayTransport, peer: PeerAddr) -> bool {
        match access {
            Access::Open => true,
            Access::RelayPortsOnly => self.shared.is_relay_port(transport, self.addresses.local(peer.0)),
        }
    }
}

/// Counts what is dropped.
fn drop(counter: &mut u64, load: Load) -> Verdict {
    *counter += load.count;
    Verdict::Nothing
}

/// A run over a cap is taken datagram by datagram, so that what still fits gets through.
fn over_rate(counter: &mut u64, load: Load) -> Verdict {
    if load.is_run() { Verdict::Apart } else { drop(counter, load) }
}

/// The channel that all datagrams of a run name, if each is one ChannelData message without padding.
fn one_channel(bytes: &[u8], segment: usize) -> Option<ChannelNumber> {
    let mut all = bytes.chunks(segment.max(1)).map(|datagram| {
        let data = ChannelData::parse(datagram)?;
        (CHANNEL_DATA_HEADER + data.data.len() == datagram.len()).then_some(data.number)
    });
    let number = all.next()??;
    all.all(|other| other == Some(number)).then_some(number)
}
