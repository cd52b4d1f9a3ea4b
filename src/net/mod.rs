//! The sockets of the relay.

pub mod clock;

/// Hands TLS connections that turned out to carry TURN over to a shard. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handoff {}

impl Handoff {
    /// Gives a connection away: the socket (nonblocking), its TLS state, and the plaintext read from it so far.
    pub fn adopt(&self, socket: std::net::TcpStream, tls: Box<rustls::ServerConnection>, early: Vec<u8>) {
        let _ = (socket, tls, early);
    }
}
