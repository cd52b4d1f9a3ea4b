//! Binding: "which address do you see?" (RFC 8489 section 12). Anybody may ask; nothing is remembered.

use super::Server;
use super::rejection::Rejection;
use super::request::Request;
use crate::stun::AttributeType;
use crate::time::Now;

impl Server {
    //= 8489-12-1 8489-12-2
    pub(super) fn binding(&mut self, now: Now, request: &Request<'_>) {
        if !self.answers(now, &request.flow) {
            return;
        }
        // RFC 5780 is a question of its own, where this server can answer it.
        let answer = match self.discovery_for(&request.flow) {
            Some(discovery) => self.discover(request, &discovery),
            None => plain(request).map(|bytes| (request.flow, bytes)),
        };
        let (flow, bytes) = match answer {
            Ok(answer) => {
                self.counters.bindings += 1;
                self.counters.tallies.success(request.message.method());
                answer
            }
            Err(rejection) => {
                self.counters.rejected += 1;
                self.counters.tallies.refused(request.message.method(), &rejection);
                (request.flow, request.seal(request.error(&rejection, None)))
            }
        };
        self.send(flow, bytes);
    }
}

fn plain(request: &Request<'_>) -> Result<Vec<u8>, Rejection> {
    let unknown = request.unknown_attributes(&[]);
    if !unknown.is_empty() {
        return Err(Rejection::UnknownAttributes(unknown));
    }
    Ok(request.seal(request.success().xor_address(AttributeType::XOR_MAPPED_ADDRESS, request.flow.client.0)))
}
