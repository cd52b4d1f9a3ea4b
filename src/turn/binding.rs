//! Binding: "which address do you see?" (RFC 8489 section 12). Anybody may ask; nothing is remembered.

use super::Server;
use super::rejection::Rejection;
use super::request::Request;
use crate::stun::AttributeType;
use crate::time::Now;

impl Server {
    pub(super) fn binding(&mut self, now: Now, request: &Request<'_>) {
        if !self.answers(now, &request.flow) {
            return;
        }
        let unknown = request.unknown_attributes();
        let answer = if unknown.is_empty() {
            self.counters.bindings += 1;
            let mapped =
                request.success().xor_address(AttributeType::XOR_MAPPED_ADDRESS, request.flow.client.0);
            request.seal(mapped)
        } else {
            self.counters.rejected += 1;
            request.error(&Rejection::UnknownAttributes(unknown), None)
        };
        self.send(request.flow, answer);
    }
}
