//! Relayed data, both ways (RFC 8656 sections 11 and 12): what 99 % of all packets are.
//!
//! No answer, no queue, no copy, no heap: a look-up, the checks, a [`Verdict`].
//!
//! ```text
//! client ── ChannelData or Send indication ──► from_client ──► peer
//! client ◄── ChannelData or Data indication ── handle_peer ◄── peer
//! ```

use std::net::SocketAddr;

use super::allocation::Allocation;
use super::request::unknown;
use super::{Access, FiveTuple, Framing, PayloadRange, PeerAddr, RelayId, RelayTransport, Server, Verdict};
use crate::stun::{
    AttributeType, Builder, CHANNEL_DATA_HEADER, ChannelData, Class, Family, Message, Method,
    decode_xor_address,
};
use crate::time::Now;

impl Server {
    /// RFC 8656 section 12.6.
    //= 8656-12.6-1
    pub(super) fn channel_data(&mut self, now: Now, flow: FiveTuple, bytes: &[u8]) -> Verdict {
        let Some(data) = ChannelData::parse(bytes) else {
            self.counters.malformed += 1;
            return Verdict::Nothing;
        };
        let Some(slot) = self.slot_of(&flow) else {
            //= 8656-5-5
            self.counters.no_allocation += 1;
            return Verdict::Nothing;
        };
        self.heard_on(slot, flow);
        let Some(peer) = self.allocations[slot].peers.peer_of(data.number, now.instant) else {
            //= 8656-12-1
            self.counters.no_channel += 1;
            return Verdict::Nothing;
        };
        let payload = PayloadRange { start: CHANNEL_DATA_HEADER, end: CHANNEL_DATA_HEADER + data.data.len() };
        self.relay_to(now, slot, peer, payload, false)
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
        self.relay_to(now, slot, PeerAddr(peer), payload, dont_fragment)
    }

    fn relay_to(
        &mut self,
        now: Now,
        slot: usize,
        peer: PeerAddr,
        payload: PayloadRange,
        dont_fragment: bool,
    ) -> Verdict {
        let allocation = &self.allocations[slot];
        if allocation.transport != RelayTransport::Udp {
            self.counters.no_channel += 1;
            return Verdict::Nothing;
        }
        let Some(access) = allocation.peers.permission(peer.0.ip(), now.instant) else {
            self.counters.no_permission += 1;
            return Verdict::Nothing;
        };
        if !self.is_port_open(access, RelayTransport::Udp, peer) {
            self.counters.no_permission += 1;
            return Verdict::Nothing;
        }
        let Some(relay) = allocation.relay(peer.family()).filter(|r| r.expires > now.instant) else {
            self.counters.no_allocation += 1;
            return Verdict::Nothing;
        };
        if !allocation.admit(&self.settings.limits, payload.end - payload.start, now.instant) {
            self.counters.over_rate += 1;
            return Verdict::Nothing;
        }
        let verdict =
            Verdict::Relay { relay: relay.id, to: self.addresses.local(peer.0), payload, dont_fragment };
        let bytes = (payload.end - payload.start) as u64;
        let traffic = &mut self.allocations[slot].traffic;
        traffic.to_peers += 1;
        traffic.to_peers_bytes += bytes;
        self.counters.traffic.to_peers += 1;
        self.counters.traffic.to_peers_bytes += bytes;
        verdict
    }

    /// Takes one datagram of `len` bytes that came in on a relay socket, `from` as the socket saw it
    /// (RFC 8656 section 11.3).
    pub fn handle_peer(&mut self, now: Now, relay: RelayId, from: SocketAddr, len: usize) -> Verdict {
        let from = PeerAddr(self.addresses.announced(from));
        let slot = relay.slot();
        let Some(allocation) = self.allocation_at(now, relay) else {
            self.counters.no_allocation += 1;
            return Verdict::Nothing;
        };
        let access = allocation.peers.permission(from.0.ip(), now.instant);
        if !access.is_some_and(|access| self.is_port_open(access, RelayTransport::Udp, from)) {
            self.counters.no_permission += 1;
            return Verdict::Nothing;
        }
        if !allocation.has_path() {
            self.counters.no_path += 1;
            return Verdict::Nothing;
        }
        if !allocation.admit(&self.settings.limits, len, now.instant) {
            self.counters.over_rate += 1;
            return Verdict::Nothing;
        }
        if len > Framing::MAX_PAYLOAD {
            self.counters.malformed += 1;
            return Verdict::Nothing;
        }
        let (flow, channel) = (allocation.flow, allocation.peers.channel_of(from, now.instant));
        let framing = match channel {
            //= 8656-12.5-1
            Some(number) => Framing::Channel(number),
            None => Framing::Data { peer: from, id: self.random.transaction_id() },
        };
        let traffic = &mut self.allocations[slot].traffic;
        traffic.to_client += 1;
        traffic.to_client_bytes += len as u64;
        self.counters.traffic.to_client += 1;
        self.counters.traffic.to_client_bytes += len as u64;
        Verdict::ToClient { flow, framing }
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
        if !allocation.admit(&self.settings.limits, 0, now.instant) {
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
