//! ChannelBind (RFC 8656 section 12.2): a number that stands for a peer, and a permission with it.

use super::policy::Rule;
use super::rejection::Rejection;
use super::request::Request;
use super::shared::Limit;
use super::{Grant, PeerAddr, RelayTransport, Server};
use crate::stun::{Attribute, AttributeType, ChannelNumber};
use crate::time::Now;

impl Server {
    pub(super) fn channel_bind(
        &mut self,
        now: Now,
        request: &Request<'_>,
        slot: usize,
    ) -> Result<Vec<u8>, Rejection> {
        if self.allocations[slot].transport == RelayTransport::Tcp {
            return Err(Rejection::BadRequest("a TCP allocation has no channels"));
        }
        let old = self.settings.rfc5766_channels;
        let valid = |n: ChannelNumber| {
            n.is_valid() || old && (ChannelNumber::MIN..=ChannelNumber::MAX_RFC5766).contains(&n)
        };
        let number = match request.get(AttributeType::CHANNEL_NUMBER)? {
            Some(Attribute::ChannelNumber(number)) if valid(number) => number,
            Some(_) => {
                return Err(Rejection::BadRequest(
                    "CHANNEL-NUMBER is outside 0x4000 to 0x4FFF; relay.rfc5766-channels admits 0x5000 to 0x7FFF",
                ));
            }
            None => return Err(Rejection::BadRequest("CHANNEL-NUMBER is missing")),
        };
        let peer = match request.get(AttributeType::XOR_PEER_ADDRESS)? {
            Some(Attribute::XorPeerAddress(peer)) if peer.port() != 0 => PeerAddr(peer),
            _ => return Err(Rejection::BadRequest("XOR-PEER-ADDRESS is missing or has port 0")),
        };
        let allocation = &self.allocations[slot];
        if allocation.peers.peer_of(number, now.instant).is_some_and(|bound| bound != peer) {
            return Err(Rejection::BadRequest("the channel is bound to another peer"));
        }
        if allocation.peers.channel_of(peer, now.instant).is_some_and(|bound| bound != number) {
            return Err(Rejection::BadRequest("the peer is bound to another channel"));
        }
        let access = self.check_peer(slot, peer)?;
        if !self.is_port_open(access, self.allocations[slot].transport, peer) {
            return Err(Rejection::Forbidden { peer, rule: Rule::OwnAddress });
        }

        let limits = self.settings.limits;
        self.expire_peers(now, slot);
        let peers = &mut self.allocations[slot].peers;
        if peers.channel_of(peer, now.instant).is_none() && peers.channels() >= limits.channels {
            return Err(Rejection::LimitReached(Limit::Channels));
        }
        if peers.permission(peer.0.ip(), now.instant).is_none() && peers.permissions() >= limits.permissions {
            return Err(Rejection::LimitReached(Limit::Permissions));
        }
        let bound = peers.bind(number, peer, now.instant);
        let permitted = peers.permit(peer.0.ip(), access, now.instant);
        self.tell_grant(slot, Grant::Permission(peer.0.ip()), permitted);
        self.tell_grant(slot, Grant::Channel { number, peer }, bound);
        let answer = request.seal(request.success());
        self.schedule(slot);
        Ok(answer)
    }
}
