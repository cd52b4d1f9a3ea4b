//! CreatePermission (RFC 8656 section 10.2): lets peers' addresses through, all of a request or none.

use std::net::IpAddr;

use super::policy::Rule;
use super::rejection::Rejection;
use super::request::Request;
use super::shared::Limit;
use super::{Access, Grant, PeerAddr, Server};
use crate::stun::{Attribute, AttributeType};
use crate::time::Now;

impl Server {
    pub(super) fn create_permission(
        &mut self,
        now: Now,
        request: &Request<'_>,
        slot: usize,
    ) -> Result<Vec<u8>, Rejection> {
        let id = request.message.transaction_id();
        let mut named: Vec<PeerAddr> = Vec::new();
        for raw in request.message.attributes().filter(|a| a.kind == AttributeType::XOR_PEER_ADDRESS) {
            let Ok(Attribute::XorPeerAddress(peer)) = raw.decode(id) else {
                return Err(Rejection::BadRequest("a malformed XOR-PEER-ADDRESS"));
            };
            named.push(PeerAddr(peer));
        }
        //= 8656-10.2-1
        if named.is_empty() {
            return Err(Rejection::BadRequest("XOR-PEER-ADDRESS is missing"));
        }
        //= 8656-10.2-2
        // What is wrong with any of them, in the order of the RFC, not in that of the attributes.
        named.iter().try_for_each(|peer| self.check_family(slot, *peer))?;
        let mut peers: Vec<(IpAddr, Access)> = Vec::new();
        for peer in named {
            let access = self.check_peer(slot, peer)?;
            // The port means nothing to a permission. But who names this server's own address means a client of it, and
            // a port, if there is one, shows that: data passes to such ports only. A refresh may name one that is gone.
            let allocation = &self.allocations[slot];
            if peer.0.port() != 0
                && allocation.peers.permission(peer.0.ip(), now.instant).is_none()
                && !self.is_port_open(access, allocation.transport, peer)
            {
                return Err(Rejection::Forbidden { peer, rule: Rule::OwnAddress });
            }
            peers.push((peer.0.ip(), access));
        }

        self.expire_peers(now, slot);
        let allocation = &self.allocations[slot];
        peers.sort_unstable_by_key(|(ip, _)| *ip);
        peers.dedup_by_key(|(ip, _)| *ip);
        let new =
            peers.iter().filter(|(ip, _)| allocation.peers.permission(*ip, now.instant).is_none()).count();
        if allocation.peers.permissions() + new > self.settings.limits.permissions {
            return Err(Rejection::LimitReached(Limit::Permissions));
        }
        for (ip, access) in peers {
            let until = self.allocations[slot].peers.permit(ip, access, now.instant);
            self.tell_grant(slot, Grant::Permission(ip), until);
        }
        let answer = request.seal(request.success());
        self.schedule(slot);
        Ok(answer)
    }

    fn check_family(&self, slot: usize, peer: PeerAddr) -> Result<(), Rejection> {
        let relay = self.allocations[slot].relay(peer.family());
        relay.map(|_| ()).ok_or(Rejection::PeerAddressFamilyMismatch)
    }

    /// The family must be one of the allocation's, and the policy must leave the address open.
    //= 8656-12.2-1
    pub(super) fn check_peer(&self, slot: usize, peer: PeerAddr) -> Result<Access, Rejection> {
        self.check_family(slot, peer)?;
        self.policy.check(peer.0.ip()).map_err(|rule| Rejection::Forbidden { peer, rule })
    }
}
