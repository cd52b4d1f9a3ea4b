//! Refresh (RFC 8656 section 8.2): a longer life for an allocation, or its end.

use std::time::Duration;

use super::allocate::seconds_until;
use super::rejection::Rejection;
use super::request::Request;
use super::{EndReason, Server};
use crate::auth::Identity;
use crate::stun::{Attribute, AttributeType, Method};
use crate::time::Now;

impl Server {
    /// Does a Refresh show the next token of the allocation's client (RFC 7635 section 9)? Tokens don't say whose they
    /// are. So it must come over the allocation's own path, with a token of the same authorization server: a mobility
    /// ticket or a connection's number do not pass from one token to another.
    //= 7635-9-2
    pub(super) fn is_renewal(&self, request: &Request<'_>, owner: &Identity, identity: &Identity) -> bool {
        request.message.method() == Method::REFRESH
            && request.message.find(AttributeType::MOBILITY_TICKET).is_none()
            && owner.may_become(identity)
    }

    pub(super) fn refresh(
        &mut self,
        now: Now,
        request: &Request<'_>,
        slot: usize,
    ) -> Result<Vec<u8>, Rejection> {
        let desired = match request.lifetime()? {
            Some(0) => Duration::ZERO,
            asked => self.lifetime(now, request, asked),
        };
        let only = match request.get(AttributeType::REQUESTED_ADDRESS_FAMILY)? {
            None => None,
            Some(Attribute::RequestedAddressFamily(Some(family)))
                if self.allocations[slot].relay(family).is_some() =>
            {
                Some(family)
            }
            //= 8656-8.2-1
            Some(_) => return Err(Rejection::PeerAddressFamilyMismatch),
        };
        // What is deleted need not move first.
        let ticket = if desired.is_zero() { None } else { self.take_path(request, slot)? };
        let allocation = &mut self.allocations[slot];
        if let Some(fresh) = request.identity.filter(|i| !allocation.owner.is(i)) {
            allocation.owner = fresh.clone();
        }

        match only {
            Some(family) if desired.is_zero() && allocation.relays().count() > 1 => {
                self.close_relay(slot, family)
            }
            _ if desired.is_zero() => self.end(now, slot, EndReason::Deleted),
            _ => {
                for relay in
                    allocation.relays_mut().filter(|r| only.is_none_or(|f| f == r.announced.family()))
                {
                    relay.expires = now.instant + desired;
                }
                self.schedule(slot);
            }
        }
        let left = seconds_until(now.instant + desired, now.instant);
        let mut builder = request.success().u32(AttributeType::LIFETIME, left);
        //= 8016-3.2.2-5
        if let Some(ticket) = ticket {
            builder = builder.raw(AttributeType::MOBILITY_TICKET, ticket.as_bytes());
        }
        Ok(request.seal(self.with_software(builder)))
    }
}
