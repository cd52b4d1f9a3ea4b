//! The reference on the side of peers: who may be reached, data both ways, and connections.

use std::net::{IpAddr, SocketAddr};

use ternd::stun::Family;
use ternd::turn::RelayTransport;

use super::operations::Path;
use super::reference::{Allocation, Ask, Connection, Named, Out, Reference, Refusal, Relayed, Says, user};

impl Reference {
    pub(super) fn may_reach(&self, id: usize, peer: SocketAddr) -> Result<(), Refusal> {
        let a = &self.allocations[&id];
        if !a.relays.contains_key(&Family::of(&peer.ip())) {
            return Err(443);
        }
        if self.closed(peer.ip()) || !self.open(a.transport, peer) {
            return Err(403);
        }
        Ok(())
    }

    /// In this world: open are two nets, and the relays themselves.
    pub(super) fn closed(&self, ip: IpAddr) -> bool {
        let open = match ip {
            IpAddr::V4(ip) => ip.octets()[..3] == [192, 0, 2],
            IpAddr::V6(ip) => ip.segments()[..3] == [0x2001, 0xDB8, 2],
        };
        !open && !self.is_own(ip)
    }

    pub(super) fn is_own(&self, ip: IpAddr) -> bool {
        self.rules.relays.iter().any(|(local, announced)| [*local, *announced].contains(&ip))
    }

    /// On the relays' own addresses only ports that relay the same protocol are open.
    pub(super) fn open(&self, transport: RelayTransport, peer: SocketAddr) -> bool {
        !self.is_own(peer.ip()) || self.holds(transport, self.local(peer))
    }

    fn holds(&self, transport: RelayTransport, local: SocketAddr) -> bool {
        let mut live =
            self.allocations.values().filter(|a| a.transport == transport).flat_map(|a| a.relays.values());
        live.any(|r| r.local == local)
    }

    pub fn announced(&self, local: SocketAddr) -> SocketAddr {
        let known = self.rules.relays.iter().find(|(l, _)| *l == local.ip());
        known.map_or(local, |(_, announced)| SocketAddr::new(*announced, local.port()))
    }

    pub(super) fn local(&self, announced: SocketAddr) -> SocketAddr {
        let known = self.rules.relays.iter().find(|(_, a)| *a == announced.ip());
        known.map_or(announced, |(local, _)| SocketAddr::new(*local, announced.port()))
    }

    /// The relay at this address, if it is not over.
    fn alive(&self, transport: RelayTransport, local: SocketAddr) -> Option<usize> {
        let here = |a: &Allocation| {
            a.transport == transport && a.relays.values().any(|r| r.local == local && r.expires > self.now)
        };
        self.allocations.iter().find(|(_, a)| a.waiting.is_empty() && here(a)).map(|(id, _)| *id)
    }

    fn permitted(&self, id: usize, peer: SocketAddr) -> bool {
        self.allocations[&id].permissions.get(&peer.ip()).is_some_and(|until| *until > self.now)
    }

    // ── Data: sections 11 and 12 ───────────────────────────────────────────────────────────────────────────────

    pub fn send(&mut self, path: Path, peer: Named, len: usize, dont_fragment: bool) -> Relayed {
        match (self.at(path), peer.filter(|p| p.port() != 0)) {
            (Some(id), Some(peer)) => {
                let ipv4_only = self.clients[path].is_ipv4() && peer.is_ipv4();
                self.relay_out(
                    id,
                    peer,
                    len,
                    dont_fragment && (self.transports[path].is_stream() || ipv4_only),
                )
            }
            _ => Relayed::Nothing,
        }
    }

    pub fn channel(&mut self, path: Path, number: u16, len: usize) -> Relayed {
        let Some(id) = self.at(path) else { return Relayed::Nothing };
        match self.allocations[&id].channels.get(&number) {
            Some((peer, until)) if *until > self.now => self.relay_out(id, *peer, len, false),
            _ => Relayed::Nothing,
        }
    }

    fn relay_out(&mut self, id: usize, peer: SocketAddr, len: usize, dont_fragment: bool) -> Relayed {
        let a = &self.allocations[&id];
        let relay = a.relays.get(&Family::of(&peer.ip())).filter(|r| r.expires > self.now).copied();
        let passes =
            a.transport == RelayTransport::Udp && self.permitted(id, peer) && self.open(a.transport, peer);
        let Some(relay) = relay.filter(|_| passes) else { return Relayed::Nothing };
        if !self.within_caps(id) {
            return Relayed::Nothing;
        }
        for traffic in [&mut self.allocations.get_mut(&id).unwrap().traffic, &mut self.traffic] {
            traffic.to_peers += 1;
            traffic.to_peers_bytes += len as u64;
        }
        // Between two allocations of one server a datagram takes no way through the network.
        let to = self.local(peer);
        if self.holds(RelayTransport::Udp, to) {
            self.relay_in(to, relay.local, len)
        } else {
            Relayed::ToPeer { from: relay.local, to, len, dont_fragment }
        }
    }

    /// A datagram has come in at a relay.
    pub fn relay_in(&mut self, local: SocketAddr, from: SocketAddr, len: usize) -> Relayed {
        let peer = self.announced(from);
        let Some(id) = self.alive(RelayTransport::Udp, local) else { return Relayed::Nothing };
        let passes = self.permitted(id, peer) && self.open(RelayTransport::Udp, peer) && self.has_path(id);
        if !passes || !self.within_caps(id) {
            return Relayed::Nothing;
        }
        let a = self.allocations.get_mut(&id).unwrap();
        for traffic in [&mut a.traffic, &mut self.traffic] {
            traffic.to_client += 1;
            traffic.to_client_bytes += len as u64;
        }
        let bound = a.channels.iter().find(|(_, (p, until))| *p == peer && *until > self.now);
        let channel = bound.map(|(number, _)| *number);
        Relayed::ToClient { path: a.path, channel, peer: channel.is_none().then_some(peer) }
    }

    /// So many datagrams a second of one allocation, and of one user.
    fn within_caps(&mut self, id: usize) -> bool {
        let now = self.now;
        let count = |(second, n): &mut (u64, usize), most: usize| {
            if *second != now {
                (*second, *n) = (now, 0);
            }
            *n += 1;
            most == 0 || *n <= most
        };
        let a = self.allocations.get_mut(&id).unwrap();
        let of_user = self.packets_of_user.entry(a.user.clone()).or_default();
        count(&mut a.packets, self.rules.packets) && count(of_user, self.rules.packets_of_user)
    }

    /// Section 11.5: the client hears of it if it has a permission.
    pub fn icmp(&mut self, transport: RelayTransport, local: SocketAddr, to: SocketAddr) -> Vec<Out> {
        let peer = self.announced(to);
        let id = self.alive(transport, local).filter(|id| self.permitted(*id, peer) && self.has_path(*id));
        match id {
            Some(id) if self.within_caps(id) => vec![Out::Icmp { path: self.allocations[&id].path, peer }],
            _ => Vec::new(),
        }
    }

    // ── Connections to peers: RFC 6062 section 5 ───────────────────────────────────────────────────────────────

    pub(super) fn connect(&mut self, ask: &Ask, id: usize, peer: Option<Named>) -> Result<Vec<Out>, Refusal> {
        if self.allocations[&id].transport != RelayTransport::Tcp {
            return Err(400);
        }
        let peer = peer.flatten().filter(|p| p.port() != 0).ok_or(400u16)?;
        self.may_reach(id, peer)?;
        let a = &self.allocations[&id];
        if let Some(same) = a.connections.values().find(|c| c.peer == peer) {
            let again = same.asked.as_ref().is_some_and(|a| a.number == ask.number);
            return if again { Ok(Vec::new()) } else { Err(446) };
        }
        if a.connections.len() >= self.rules.connections {
            return Err(508);
        }
        let from = a.relays[&Family::of(&peer.ip())].local;
        let connection = self.add_connection(id, peer, Some(ask.clone()));
        Ok(vec![Out::Connect { from, to: self.local(peer), connection }])
    }

    fn add_connection(&mut self, id: usize, peer: SocketAddr, asked: Option<Ask>) -> usize {
        let connection = Connection { peer, asked, until: Some(self.now + 30) };
        self.allocations.get_mut(&id).unwrap().connections.insert(self.connections, connection);
        self.connections += 1;
        self.connections - 1
    }

    fn of_connection(&mut self, connection: usize) -> Option<&mut Allocation> {
        self.allocations.values_mut().find(|a| a.connections.contains_key(&connection))
    }

    /// The peer has answered, or not.
    pub fn connected(&mut self, connection: usize, reached: bool) -> Vec<Out> {
        let until = Some(self.now + 30);
        let Some(a) = self.of_connection(connection) else { return Vec::new() };
        let entry = a.connections.get_mut(&connection).unwrap();
        let Some(ask) = entry.asked.take() else { return Vec::new() };
        if reached {
            entry.until = until;
            return vec![self.success(&ask, Says { connection: Some(connection), ..Says::default() })];
        }
        a.connections.remove(&connection);
        self.refuse(&ask, 447)
    }

    /// A peer connects to a relay; may it?
    pub fn accept(&mut self, local: SocketAddr, from: SocketAddr) -> (Option<usize>, Vec<Out>) {
        let peer = self.announced(from);
        let Some(id) = self.alive(RelayTransport::Tcp, local) else { return (None, Vec::new()) };
        let a = &self.allocations[&id];
        if !self.permitted(id, peer)
            || !self.open(RelayTransport::Tcp, peer)
            || a.connections.len() >= self.rules.connections
        {
            return (None, Vec::new());
        }
        let path = a.path;
        let connection = self.add_connection(id, peer, None);
        (Some(connection), vec![Out::Attempt { path, peer, connection }])
    }

    pub(super) fn connection_bind(
        &mut self,
        ask: &Ask,
        connection: Option<usize>,
    ) -> Result<Vec<Out>, Refusal> {
        let (now, alone) = (self.now, self.transports[ask.path].is_stream() && self.at(ask.path).is_none());
        let connection = connection.filter(|_| alone).ok_or(400u16)?;
        let a = self.of_connection(connection).ok_or(400u16)?;
        if a.user != user(ask) {
            return Err(441);
        }
        let entry = a.connections.get_mut(&connection).unwrap();
        if entry.asked.is_some() || entry.until.is_none_or(|until| until <= now) {
            return Err(400);
        }
        entry.until = None;
        let answer = self.success(ask, Says { connection: Some(connection), ..Says::default() });
        Ok(vec![answer, Out::Join { path: ask.path, connection }])
    }

    pub fn peer_gone(&mut self, connection: usize) {
        if let Some(a) = self.of_connection(connection) {
            a.connections.remove(&connection);
        }
    }
}
