//! Clients of RFC 3489, "classic STUN", as far as RFC 5389 section 12.2 serves them: a Binding request over UDP
//! without the magic cookie is told the client's address in the clear.
//!
//! ```text
//! client ── Binding, 128 bits of transaction id ──►  classic
//!        ◄── MAPPED-ADDRESS, the same 128 bits ────
//! ```
//! Where this server has two addresses (RFC 5780), CHANGE-REQUEST is answered, too, with SOURCE-ADDRESS and
//! CHANGED-ADDRESS. RESPONSE-ADDRESS never is: it would send answers to whom anybody likes.

use super::nat_discovery::Corner;
use super::rejection::Rejection;
use super::request::Request;
use super::{FiveTuple, Server, ServerAddr, Transport};
use crate::stun::{Attribute, AttributeType as T, Class, Message, Method};
use crate::time::Now;

const SOURCE_ADDRESS: T = T(0x0004);
const CHANGED_ADDRESS: T = T(0x0005);
const PASSWORD: T = T(0x0007);
const REFLECTED_FROM: T = T(0x000B);

impl Server {
    /// Takes what is no message of RFC 8489 for want of its cookie; returns whether it is one of RFC 3489.
    //= 8489-12-5
    pub(super) fn classic(&mut self, now: Now, flow: FiveTuple, bytes: &[u8]) -> bool {
        let Ok(message) = Message::parse_classic(bytes) else { return false };
        let is_binding = (message.class(), message.method()) == (Class::Request, Method::BINDING);
        if !self.settings.rfc3489_clients || flow.transport != Transport::Udp || !is_binding {
            return false;
        }
        if !self.answers(now, &flow) {
            return true;
        }
        let request = Request { message, flow, identity: None };
        let corner = self.discovery_for(&flow);
        let (flow, bytes) = match self.classic_answer(&request, corner.as_ref()) {
            Ok(answer) => {
                self.counters.bindings += 1;
                answer
            }
            Err(rejection) => {
                self.counters.rejected += 1;
                (flow, request.error(&rejection, None).finish())
            }
        };
        self.send(flow, bytes);
        true
    }

    /// The answer, and the path it takes.
    fn classic_answer(
        &self,
        request: &Request<'_>,
        corner: Option<&Corner>,
    ) -> Result<(FiveTuple, Vec<u8>), Rejection> {
        let mut unknown =
            request.unknown_attributes(&[SOURCE_ADDRESS, CHANGED_ADDRESS, PASSWORD, REFLECTED_FROM]);
        unknown.retain(|kind| corner.is_none() || *kind != T::CHANGE_REQUEST);
        if let Some(last) = unknown.last().copied() {
            // Values were multiples of four bytes: an odd one out is named twice.
            if unknown.len() % 2 == 1 {
                unknown.push(last);
            }
            return Err(Rejection::UnknownAttributes(unknown));
        }
        let client = request.flow.client.0;
        let mut builder = request.success().address(T::MAPPED_ADDRESS, client);
        let mut flow = request.flow;
        if let Some(corner) = corner {
            let (ip, port) = match request.get(T::CHANGE_REQUEST)? {
                Some(Attribute::ChangeRequest { ip, port }) => (ip, port),
                _ => (false, false),
            };
            let (source, both) = (corner.source(ip, port), corner.source(true, true));
            flow.server = ServerAddr(source);
            builder = builder
                .address(SOURCE_ADDRESS, self.addresses.announced(source))
                .address(CHANGED_ADDRESS, self.addresses.announced(both));
        }
        Ok((flow, builder.finish()))
    }
}
