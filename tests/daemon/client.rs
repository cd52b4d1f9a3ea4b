//! A TURN client that does one thing at a time, over any stream or socket. Its messages come from the `stun` crate,
//! so that the daemon is not held against its own codec.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use stun::agent::TransactionId;
use stun::attributes::{
    ATTR_DATA, ATTR_NONCE, ATTR_REALM, ATTR_USERNAME, ATTR_XOR_PEER_ADDRESS, ATTR_XOR_RELAYED_ADDRESS,
};
use stun::error_code::ErrorCodeAttribute;
use stun::integrity::MessageIntegrity;
use stun::message::{
    CLASS_INDICATION, CLASS_REQUEST, CLASS_SUCCESS_RESPONSE, Getter, METHOD_ALLOCATE, METHOD_BINDING,
    METHOD_CREATE_PERMISSION, METHOD_DATA, METHOD_REFRESH, METHOD_SEND, Message, MessageType, Method, Setter,
};
use stun::textattrs::{Nonce, Realm, TextAttribute, Username};
use stun::xoraddr::XorMappedAddress;
use turn::proto::data::Data;
use turn::proto::lifetime::Lifetime;
use turn::proto::peeraddr::PeerAddress;
use turn::proto::reqfamily::{REQUESTED_FAMILY_IPV4, RequestedAddressFamily};
use turn::proto::reqtrans::RequestedTransport;

use crate::https;

const TIMEOUT: Duration = Duration::from_secs(10);

/// A user name and its password.
#[derive(Clone, Debug)]
pub struct Login {
    pub username: String,
    pub password: String,
}

impl Login {
    /// The shared-secret scheme, computed apart from `ternd::auth`: with openssl's words, `printf %s "$username" |
    /// openssl dgst -sha1 -hmac "$secret" -binary | base64`.
    pub fn new(secret: &str, username: impl Into<String>) -> Self {
        use base64::Engine;
        use hmac::{KeyInit, Mac};
        let username = username.into();
        let mut mac = hmac::Hmac::<sha1::Sha1>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(username.as_bytes());
        let password = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
        Self { username, password }
    }
}

/// An error response.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Refused(pub u16);

impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused with {}", self.0)
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

enum Wire {
    Datagrams(UdpSocket),
    Stream(Box<dyn Stream>),
}

/// What signs requests once the server has named its realm and a nonce.
struct Session {
    username: Username,
    realm: Realm,
    nonce: Nonce,
    integrity: MessageIntegrity,
}

pub struct Client {
    wire: Wire,
    session: Option<Session>,
}

impl Client {
    pub fn udp(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind((loopback(server.is_ipv6()), 0)).unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        Self { wire: Wire::Datagrams(socket), session: None }
    }

    pub fn tcp(server: SocketAddr) -> Self {
        let stream = TcpStream::connect(server).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        Self::over(stream)
    }

    pub fn tls(server: SocketAddr) -> Self {
        Self::over(https::connect(server, &[]))
    }

    pub fn over(stream: impl Read + Write + 'static) -> Self {
        Self { wire: Wire::Stream(Box::new(stream)), session: None }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        match &mut self.wire {
            Wire::Datagrams(socket) => {
                // The error of an earlier datagram (nobody listened yet) is reported once, by the next call.
                let _ = socket.send(bytes).or_else(|_| socket.send(bytes)).unwrap();
            }
            Wire::Stream(stream) => {
                stream.write_all(bytes).unwrap();
                stream.flush().unwrap();
            }
        }
    }

    fn receive(&mut self) -> std::io::Result<Message> {
        let mut raw;
        match &mut self.wire {
            Wire::Datagrams(socket) => {
                raw = vec![0; 2048];
                let n = socket.recv(&mut raw)?;
                raw.truncate(n);
            }
            Wire::Stream(stream) => {
                raw = vec![0; 20];
                stream.read_exact(&mut raw)?;
                raw.resize(20 + usize::from(u16::from_be_bytes([raw[2], raw[3]])), 0);
                stream.read_exact(&mut raw[20..])?;
            }
        }
        let mut message = Message { raw, ..Message::default() };
        message.decode().map_err(|error| std::io::Error::new(ErrorKind::InvalidData, error.to_string()))?;
        Ok(message)
    }

    /// One request and its answer.
    fn exchange(&mut self, method: Method, attributes: Vec<Box<dyn Setter>>) -> Result<Message, Refused> {
        let mut request = build(MessageType::new(method, CLASS_REQUEST), attributes);
        if let Some(session) = &self.session {
            for setter in
                [&session.username as &dyn Setter, &session.realm, &session.nonce, &session.integrity]
            {
                setter.add_to(&mut request).unwrap();
            }
        }
        self.send(&request.raw);
        let mut answer = self.receive().expect("an answer");
        assert_eq!(answer.transaction_id, request.transaction_id);
        assert_eq!(answer.typ.method, method);
        if answer.typ.class == CLASS_SUCCESS_RESPONSE {
            // Anybody may send a Binding request, so nobody's key signs the answer (RFC 8489 section 12).
            if let Some(session) = self.session.as_ref().filter(|_| method != METHOD_BINDING) {
                session
                    .integrity
                    .check(&mut answer)
                    .expect("a success response to a signed request is signed");
            }
            return Ok(answer);
        }
        let mut error = ErrorCodeAttribute::default();
        error.get_from(&answer).expect("an error response has an ERROR-CODE");
        if self.session.is_none() && error.code.0 == 401 {
            return Ok(answer);
        }
        Err(Refused(error.code.0))
    }

    /// The address the server sees us at; `None` if it does not answer at once.
    pub fn try_binding(&mut self) -> Option<SocketAddr> {
        if let Wire::Datagrams(socket) = &self.wire {
            socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        }
        let request = build(MessageType::new(METHOD_BINDING, CLASS_REQUEST), vec![]);
        self.send(&request.raw);
        mapped(&self.receive().ok()?)
    }

    pub fn binding(&mut self) -> SocketAddr {
        let answer = self.exchange(METHOD_BINDING, vec![]).unwrap();
        mapped(&answer).expect("XOR-MAPPED-ADDRESS")
    }

    /// Allocates an IPv4 address.
    pub fn allocate(&mut self, login: &Login) -> Result<SocketAddr, Refused> {
        self.allocate_in(REQUESTED_FAMILY_IPV4, login)
    }

    /// The whole handshake: a challenge, then a signed request. Gives the relayed address.
    pub fn allocate_in(
        &mut self,
        family: RequestedAddressFamily,
        login: &Login,
    ) -> Result<SocketAddr, Refused> {
        let wishes = || -> Vec<Box<dyn Setter>> {
            vec![
                Box::new(RequestedTransport { protocol: turn::proto::PROTO_UDP }),
                Box::new(RequestedAddressFamily(family.0)),
            ]
        };
        let challenge = self.exchange(METHOD_ALLOCATE, wishes())?;
        let realm = Realm::get_from_as(&challenge, ATTR_REALM).expect("a 401 names the realm");
        let Login { username, password } = login.clone();
        self.session = Some(Session {
            integrity: MessageIntegrity::new_long_term_integrity(
                username.clone(),
                realm.text.clone(),
                password,
            ),
            username: TextAttribute::new(ATTR_USERNAME, username),
            nonce: Nonce::get_from_as(&challenge, ATTR_NONCE).expect("a 401 has a nonce"),
            realm,
        });
        let answer = self.exchange(METHOD_ALLOCATE, wishes())?;
        let mut relayed = XorMappedAddress::default();
        relayed.get_from_as(&answer, ATTR_XOR_RELAYED_ADDRESS).expect("XOR-RELAYED-ADDRESS");
        Ok(SocketAddr::new(relayed.ip, relayed.port))
    }

    /// CreatePermission.
    pub fn permit(&mut self, peer: SocketAddr) -> Result<(), Refused> {
        let peer = PeerAddress { ip: peer.ip(), port: peer.port() };
        self.exchange(METHOD_CREATE_PERMISSION, vec![Box::new(peer)]).map(drop)
    }

    /// A Send indication.
    pub fn send_to(&mut self, peer: SocketAddr, data: &[u8]) {
        let peer = PeerAddress { ip: peer.ip(), port: peer.port() };
        let kind = MessageType::new(METHOD_SEND, CLASS_INDICATION);
        self.send(&build(kind, vec![Box::new(peer), Box::new(Data(data.to_vec()))]).raw);
    }

    /// Relays a datagram to a peer of ours, and its answer back.
    pub fn relay_both_ways(&mut self, relayed: SocketAddr) {
        let peer = UdpSocket::bind((loopback(relayed.is_ipv6()), 0)).unwrap();
        peer.set_read_timeout(Some(TIMEOUT)).unwrap();
        let at = peer.local_addr().unwrap();
        self.permit(at).unwrap();

        self.send_to(at, b"to the peer");
        let mut buffer = [0; 64];
        let (n, from) = peer.recv_from(&mut buffer).expect("the datagram reaches the peer");
        assert_eq!((&buffer[..n], from), (b"to the peer".as_slice(), relayed));

        peer.send_to(b"to the client", relayed).unwrap();
        let indication = self.receive().expect("the datagram comes back");
        assert_eq!(indication.typ, MessageType::new(METHOD_DATA, CLASS_INDICATION));
        assert_eq!(indication.get(ATTR_DATA).unwrap(), b"to the client");
        let mut from = XorMappedAddress::default();
        from.get_from_as(&indication, ATTR_XOR_PEER_ADDRESS).unwrap();
        assert_eq!(SocketAddr::new(from.ip, from.port), at);
    }

    /// Ends the allocation.
    pub fn release(&mut self) {
        self.exchange(METHOD_REFRESH, vec![Box::new(Lifetime(Duration::ZERO))]).unwrap();
    }
}

fn loopback(v6: bool) -> IpAddr {
    if v6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() }
}

fn build(kind: MessageType, attributes: Vec<Box<dyn Setter>>) -> Message {
    let mut message = Message::new();
    let mut setters: Vec<Box<dyn Setter>> = vec![Box::new(TransactionId::new()), Box::new(kind)];
    setters.extend(attributes);
    message.build(&setters).unwrap();
    message
}

fn mapped(answer: &Message) -> Option<SocketAddr> {
    let mut address = XorMappedAddress::default();
    address.get_from(answer).ok()?;
    Some(SocketAddr::new(address.ip, address.port))
}

/// Allocates, relays both ways, and releases: all that a call needs of a relay.
pub fn call(mut client: Client, login: &Login) {
    let relayed = client.allocate(login).expect("an allocation");
    client.relay_both_ways(relayed);
    client.release();
}
