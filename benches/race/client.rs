//! A client with an allocation and one channel to the peer.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use ternd::auth::{Algorithm, Key};
use ternd::stun::{Attribute, AttributeType as T, Builder, Class, Message, Method, TransactionId};

use crate::server::{PASSWORD, USER};

pub struct Client {
    pub socket: UdpSocket,
    pub relayed: SocketAddr,
}

pub const CHANNEL: u16 = 0x4000;

impl Client {
    pub fn new(server: SocketAddr, peer: SocketAddr, number: usize) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let mut id = [0; 12];
        id[..8].copy_from_slice(&(number as u64).to_be_bytes());
        let mut step = 0u8;
        let mut request = |method| {
            step += 1;
            id[11] = step;
            Builder::new(Class::Request, method, TransactionId(id))
        };

        let allocate = |b: Builder| b.raw(T::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
        let challenge = ask(&socket, server, &allocate(request(Method::ALLOCATE)).finish());
        let message = Message::parse(&challenge).unwrap();
        let value = |kind| message.find(kind).unwrap().value;
        let (realm, nonce) = (value(T::REALM), value(T::NONCE));
        let key = Key::derive(Algorithm::Md5, USER.as_bytes(), std::str::from_utf8(realm).unwrap(), PASSWORD);
        let sign = |b: Builder| {
            b.raw(T::USERNAME, USER.as_bytes())
                .raw(T::REALM, realm)
                .raw(T::NONCE, nonce)
                .message_integrity(key.as_bytes())
                .finish()
        };

        let allocated = ask(&socket, server, &sign(allocate(request(Method::ALLOCATE))));
        let message = Message::parse(&allocated).unwrap();
        let relayed =
            message.find(T::XOR_RELAYED_ADDRESS).expect("allocated").decode(message.transaction_id());
        let Ok(Attribute::XorRelayedAddress(relayed)) = relayed else { panic!("{relayed:?}") };

        let [a, b] = CHANNEL.to_be_bytes();
        let bind = request(Method::CHANNEL_BIND)
            .raw(T::CHANNEL_NUMBER, &[a, b, 0, 0])
            .xor_address(T::XOR_PEER_ADDRESS, peer);
        let bound = ask(&socket, server, &sign(bind));
        assert_eq!(Message::parse(&bound).unwrap().class(), Class::Success);
        socket.set_nonblocking(true).unwrap();
        Self { socket, relayed }
    }
}

/// Sends until there is an answer.
fn ask(socket: &UdpSocket, server: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut answer = [0; 1_500];
    for _ in 0..10 {
        socket.send_to(request, server).unwrap();
        if let Ok(len) = socket.recv(&mut answer) {
            return answer[..len].to_vec();
        }
    }
    panic!("no answer");
}
