//! TCP allocations (RFC 6062): a connection for each peer, and a client connection joined to it.
//!
//! ```text
//! client ══ control ══ Connect ─────────► connect ── ConnectPeer ──► driver ════► peer
//!        ◄═ CONNECTION-ID ════════════════ peer_connected ◄──────────┘
//!
//! client ◄═ ConnectionAttempt ════════════ peer_accepted ◄═══════════════════════ peer
//!
//! client ══ data ══ ConnectionBind ──────► connection_bind ── Join ──► driver: raw bytes both ways
//! ```

use std::net::SocketAddr;
use std::time::Duration;

use super::allocation::PeerConnection;
use super::policy::Rule;
use super::rejection::Rejection;
use super::request::Request;
use super::shared::Limit;
use super::{ConnectionId, Output, PeerAddr, RelayId, RelayTransport, Server};
use crate::auth::Identity;
use crate::stun::{Attribute, AttributeType, Builder, Class, Family, Message, Method};
use crate::time::Now;

/// How long a peer may take to answer, and then the client to bind the connection (RFC 6062 sections 5.2 to 5.4).
//= 6062-5.2-5
const TIMEOUT: Duration = Duration::from_secs(30);

impl Server {
    /// Connect, on the control connection. `None`: the answer comes when the peer has been reached or not.
    //= 6062-5.2-2
    pub(super) fn connect(
        &mut self,
        now: Now,
        request: &Request<'_>,
        slot: usize,
    ) -> Result<Option<Vec<u8>>, Rejection> {
        if self.allocations[slot].transport == RelayTransport::Udp {
            return Err(Rejection::BadRequest("the allocation relays UDP"));
        }
        let peer = match request.get(AttributeType::XOR_PEER_ADDRESS)? {
            Some(Attribute::XorPeerAddress(peer)) if peer.port() != 0 => PeerAddr(peer),
            _ => return Err(Rejection::BadRequest("XOR-PEER-ADDRESS is missing or has port 0")),
        };
        let access = self.check_peer(slot, peer)?;
        if !self.is_port_open(access, RelayTransport::Tcp, peer) {
            return Err(Rejection::Forbidden { peer, rule: Rule::OwnAddress });
        }
        let allocation = &self.allocations[slot];
        if let Some(existing) = allocation.connections.iter().find(|c| c.peer == peer) {
            // The same request once more is answered when the peer is.
            let waiting = existing.request.as_deref() == Some(request.message.as_bytes());
            //= 6062-5.2-1
            return if waiting { Ok(None) } else { Err(Rejection::ConnectionAlreadyExists) };
        }
        let relay = allocation.relay(peer.family()).ok_or(Rejection::PeerAddressFamilyMismatch)?.id;
        let connection = self
            .add_connection(now, slot, peer, Some(request.message.as_bytes().to_vec()))
            .ok_or(Rejection::LimitReached(Limit::PeerConnections))?;
        //= 6062-5.2-3
        self.outputs.push_back(Output::ConnectPeer { relay, connection, to: self.addresses.local(peer.0) });
        Ok(None)
    }

    /// Takes the driver's answer to [`Output::ConnectPeer`].
    pub fn peer_connected(&mut self, now: Now, connection: ConnectionId, connected: bool) {
        let Some(&slot) = self.by_connection.get(&connection) else { return };
        let allocation = &mut self.allocations[slot];
        let Some(entry) = allocation.connections.iter_mut().find(|c| c.id == connection) else { return };
        let Some(request) = entry.request.take() else { return };
        entry.until = Some(now.instant + TIMEOUT);
        let (flow, identity) = (allocation.flow, allocation.owner.clone());
        let Ok(message) = Message::parse(&request) else { return };
        let request = Request { message, flow, identity: Some(&identity) };
        if connected {
            //= 6062-5.2-7
            let answer = request.seal(request.success().u32(AttributeType::CONNECTION_ID, connection.0));
            self.counters.tallies.success(request.message.method());
            self.send(flow, answer);
        } else {
            self.forget_connection(slot, connection);
            //= 6062-5.2-4
            self.reject(now, &request, Rejection::ConnectionTimeoutOrFailure);
        }
    }

    /// A peer has connected to a TCP relay. `None`: close it, it may not.
    //= 6062-5.3-1 6062-5.3-2
    pub fn peer_accepted(&mut self, now: Now, relay: RelayId, from: SocketAddr) -> Option<ConnectionId> {
        let peer = PeerAddr(self.addresses.announced(from));
        let allocation = self.allocation_at(now, relay)?;
        let access = allocation.peers.permission(peer.0.ip(), now.instant);
        if !access.is_some_and(|access| self.is_port_open(access, RelayTransport::Tcp, peer)) {
            self.counters.no_permission += 1;
            return None;
        }
        let flow = allocation.flow;
        let connection = self.add_connection(now, relay.slot(), peer, None)?;
        let attempt =
            Builder::new(Class::Indication, Method::CONNECTION_ATTEMPT, self.random.transaction_id())
                .xor_address(AttributeType::XOR_PEER_ADDRESS, peer.0)
                .u32(AttributeType::CONNECTION_ID, connection.0)
                .finish();
        self.send(flow, attempt);
        Some(connection)
    }

    /// ConnectionBind, on a connection of its own.
    //= 6062-5.4-1 6062-5.4-2
    pub(super) fn connection_bind(
        &mut self,
        now: Now,
        request: &Request<'_>,
        identity: &Identity,
    ) -> Result<Option<Vec<u8>>, Rejection> {
        let connection = match request.get(AttributeType::CONNECTION_ID)? {
            Some(Attribute::ConnectionId(id)) => ConnectionId(id),
            _ => return Err(Rejection::BadRequest("CONNECTION-ID is missing")),
        };
        if !request.flow.transport.is_stream() || self.slot_of(&request.flow).is_some() {
            return Err(Rejection::BadRequest("ConnectionBind needs a TCP or TLS connection of its own"));
        }
        let no_such = Rejection::BadRequest("no connection with this CONNECTION-ID waits to be bound");
        let Some(&slot) = self.by_connection.get(&connection) else { return Err(no_such) };
        let allocation = &mut self.allocations[slot];
        if !allocation.owner.is(identity) {
            return Err(Rejection::WrongCredentials);
        }
        let waiting = |c: &&mut PeerConnection| {
            c.id == connection && c.request.is_none() && c.until.is_some_and(|until| until > now.instant)
        };
        let Some(entry) = allocation.connections.iter_mut().find(waiting) else { return Err(no_such) };
        entry.until = None;
        let answer = request.seal(request.success().u32(AttributeType::CONNECTION_ID, connection.0));
        self.send(request.flow, answer);
        self.outputs.push_back(Output::Join { flow: request.flow, connection });
        Ok(None)
    }

    /// The connection to a peer has ended, or the client's end of it.
    pub fn peer_gone(&mut self, connection: ConnectionId) {
        if let Some(&slot) = self.by_connection.get(&connection) {
            self.forget_connection(slot, connection);
        }
    }

    fn add_connection(
        &mut self,
        now: Now,
        slot: usize,
        peer: PeerAddr,
        request: Option<Vec<u8>>,
    ) -> Option<ConnectionId> {
        if self.allocations[slot].connections.len() >= self.settings.limits.peer_connections {
            return None;
        }
        //= 6062-5.2-7
        let id = loop {
            let [_, a, b, c, ..] = self.random.next();
            let id = ConnectionId(u32::from_be_bytes([self.shard, a, b, c]));
            if !self.by_connection.contains_key(&id) {
                break id;
            }
        };
        self.by_connection.insert(id, slot);
        let until = Some(now.instant + TIMEOUT);
        self.allocations[slot].connections.push(PeerConnection { id, peer, request, until });
        self.schedule(slot);
        Some(id)
    }

    fn forget_connection(&mut self, slot: usize, connection: ConnectionId) {
        self.by_connection.remove(&connection);
        self.allocations[slot].connections.retain(|c| c.id != connection);
    }

    /// Gives up what was not reached or not bound in time.
    //= 6062-5.2-8
    pub(super) fn expire_connections(&mut self, now: Now, slot: usize) {
        let over = |c: &PeerConnection| c.until.is_some_and(|until| until <= now.instant);
        let over: Vec<_> =
            self.allocations[slot].connections.iter().filter(|c| over(c)).map(|c| c.id).collect();
        for connection in over {
            self.outputs.push_back(Output::ClosePeer { connection });
            // Answers a Connect that still waits.
            self.peer_connected(now, connection, false);
            self.forget_connection(slot, connection);
        }
    }

    /// The connections of one family go with its relay.
    //= 6062-5.5-1
    pub(super) fn close_connections(&mut self, slot: usize, family: Family) {
        let connections = &mut self.allocations[slot].connections;
        for connection in connections.extract_if(.., |c| c.peer.family() == family) {
            self.by_connection.remove(&connection.id);
            self.outputs.push_back(Output::ClosePeer { connection: connection.id });
        }
    }
}
