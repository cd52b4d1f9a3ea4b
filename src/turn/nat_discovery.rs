//! How does a client's NAT map and filter? (RFC 5780 section 6)
//!
//! The client asks to be answered from the other address or port; whether the answer arrives tells it.
//!
//! ```text
//!                 ┌─ A1:P1 ─┐ ◄── request
//! client ── NAT ──┤  A1:P2  │ ──► "change port"
//!                 │  A2:P1  │ ──► "change IP"
//!                 └─ A2:P2 ─┘ ──► both; the OTHER-ADDRESS of A1:P1
//! ```
//! Over TCP the answer goes back where the question came from, with the addresses to ask next.

use std::net::SocketAddr;

use super::rejection::Rejection;
use super::request::Request;
use super::settings::NatDiscovery;
use super::{ClientAddr, FiveTuple, Server, ServerAddr, Transport};
use crate::stun::{Attribute, AttributeType as T};

/// An answer is padded like its question, to one Ethernet frame at most: padding must not make an amplifier.
//= 5780-7.6-1
const MAX_PADDING: usize = 1_500;

/// The four addresses, seen from the one that was asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Corner {
    here: SocketAddr,
    other: SocketAddr,
}

impl Corner {
    //= 5780-6.1-2 5780-6.1-3 5780-6.1-4 5780-6.1-5
    pub(super) fn source(&self, change_ip: bool, change_port: bool) -> SocketAddr {
        let ip = if change_ip { self.other.ip() } else { self.here.ip() };
        let port = if change_port { self.other.port() } else { self.here.port() };
        SocketAddr::new(ip, port)
    }
}

impl NatDiscovery {
    //= 5780-6-1
    fn corner(&self, here: SocketAddr) -> Option<Corner> {
        let (addresses, ports) = (self.addresses, self.ports);
        let other_ip = *addresses.iter().find(|ip| **ip != here.ip() && addresses.contains(&here.ip()))?;
        let other_port = *ports.iter().find(|port| **port != here.port() && ports.contains(&here.port()))?;
        Some(Corner { here, other: SocketAddr::new(other_ip, other_port) })
    }
}

impl Server {
    /// Can a request on this path be answered from four addresses?
    //= 5780-6-3
    pub(super) fn discovery_for(&self, flow: &FiveTuple) -> Option<Corner> {
        self.settings.nat_discovery?.corner(flow.server.0)
    }

    /// The answer, and the path it takes.
    //= 5780-6.1-1 5780-6.1-6 5780-6.1-7 5780-6.1-12
    pub(super) fn discover(
        &self,
        request: &Request<'_>,
        corner: &Corner,
    ) -> Result<(FiveTuple, Vec<u8>), Rejection> {
        let unknown = request.unknown_attributes(&[T::CHANGE_REQUEST, T::PADDING, T::RESPONSE_PORT]);
        if !unknown.is_empty() {
            return Err(Rejection::UnknownAttributes(unknown));
        }
        let (ip, port) = match request.get(T::CHANGE_REQUEST)? {
            Some(Attribute::ChangeRequest { ip, port }) => (ip, port),
            _ => (false, false),
        };
        let padding = match request.get(T::PADDING)? {
            Some(Attribute::Padding(padding)) => Some(padding.len().min(MAX_PADDING)),
            _ => None,
        };
        let response_port = request.get(T::RESPONSE_PORT)?;
        let (client, transport) = (request.flow.client.0, request.flow.transport);
        if transport != Transport::Udp && (ip || port || padding.is_some() || response_port.is_some()) {
            return Err(Rejection::BadRequest(
                "a connection is answered where it is; these tests go over UDP",
            ));
        }
        let to = match response_port {
            //= 5780-6.1-10
            Some(_) if padding.is_some() => {
                return Err(Rejection::BadRequest("RESPONSE-PORT does not go with PADDING"));
            }
            Some(Attribute::ResponsePort(0)) => return Err(Rejection::BadRequest("RESPONSE-PORT is 0")),
            //= 5780-7.5-1
            Some(Attribute::ResponsePort(port)) => SocketAddr::new(client.ip(), port),
            _ => client,
        };
        let source = corner.source(ip, port);
        let mut builder = request
            .success()
            .xor_address(T::XOR_MAPPED_ADDRESS, client)
            .address(T::MAPPED_ADDRESS, client)
            .address(T::RESPONSE_ORIGIN, self.addresses.announced(source))
            .address(T::OTHER_ADDRESS, self.addresses.announced(corner.other));
        //= 5780-6.1-8
        if let Some(len) = padding {
            builder = builder.raw(T::PADDING, &vec![0; len]);
        }
        let flow = FiveTuple { client: ClientAddr(to), server: ServerAddr(source), transport };
        Ok((flow, request.seal(builder)))
    }
}
