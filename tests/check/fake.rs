//! Servers that coturn can't be.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::thread;

use ternd::stun::{AttributeType, Builder, Class, Message};

/// A UDP server that answers what it is told to; its port. It ends with the test.
pub(crate) fn udp(answer: impl Fn(&Message<'_>, SocketAddr) -> Option<Vec<u8>> + Send + 'static) -> u16 {
    udp_on((Ipv4Addr::LOCALHOST, 0).into(), answer)
}

/// The same at an address of choice.
pub(crate) fn udp_on(
    at: SocketAddr,
    answer: impl Fn(&Message<'_>, SocketAddr) -> Option<Vec<u8>> + Send + 'static,
) -> u16 {
    let socket = UdpSocket::bind(at).unwrap();
    let port = socket.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut buf = [0; 2_048];
        while let Ok((n, from)) = socket.recv_from(&mut buf) {
            let answer = Message::parse(&buf[..n]).ok().and_then(|message| answer(&message, from));
            if let Some(answer) = answer {
                let _ = socket.send_to(&answer, from);
            }
        }
    });
    port
}

/// An error response, with a challenge if it is a 401.
pub(crate) fn error(request: &Message<'_>, code: u16) -> Vec<u8> {
    let response = Builder::response(Class::Error, request).error_code(code, "");
    match code {
        401 => response.raw(AttributeType::REALM, b"fake").raw(AttributeType::NONCE, b"nonce").finish(),
        _ => response.finish(),
    }
}

/// A Binding response.
pub(crate) fn mapped(request: &Message<'_>, address: SocketAddr) -> Vec<u8> {
    let response = Builder::response(Class::Success, request);
    response.xor_address(AttributeType::XOR_MAPPED_ADDRESS, address).finish()
}

/// A Binding response that offers RFC 5780.
pub(crate) fn mapped_with_other(request: &Message<'_>, address: SocketAddr, other: SocketAddr) -> Vec<u8> {
    let response = Builder::response(Class::Success, request);
    let response = response.xor_address(AttributeType::XOR_MAPPED_ADDRESS, address);
    response.address(AttributeType::OTHER_ADDRESS, other).finish()
}

/// A firewall in front of `server`: requests and responses pass, relayed data does not. Its port.
pub(crate) fn firewall(server: SocketAddr) -> u16 {
    between(server, |bytes| Message::parse(bytes).is_ok_and(|message| message.class() != Class::Indication))
}

/// A NAT on the way to `server`, and to nobody else. Its port.
pub(crate) fn nat(server: SocketAddr) -> u16 {
    between(server, |_| true)
}

fn between(server: SocketAddr, passes: fn(&[u8]) -> bool) -> u16 {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = socket.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut ways: HashMap<SocketAddr, UdpSocket> = HashMap::new();
        let mut buf = [0; 2_048];
        while let Ok((n, client)) = socket.recv_from(&mut buf) {
            let way = ways.entry(client).or_insert_with(|| {
                let way = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
                let (back, down) = (way.try_clone().unwrap(), socket.try_clone().unwrap());
                thread::spawn(move || {
                    let mut buf = [0; 2_048];
                    while let Ok((n, from)) = back.recv_from(&mut buf) {
                        if from == server && passes(&buf[..n]) {
                            let _ = down.send_to(&buf[..n], client);
                        }
                    }
                });
                way
            });
            if passes(&buf[..n]) {
                let _ = way.send_to(&buf[..n], server);
            }
        }
    });
    port
}

/// An HTTP server that answers a request with a status and a body; its port.
pub(crate) fn http(answer: impl Fn(&str) -> (u16, String) + Send + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut request = Vec::new();
            let mut buf = [0; 4_096];
            // Several requests per connection; their bodies are "{}" or nothing.
            while let Ok(n @ 1..) = stream.read(&mut buf) {
                request.extend_from_slice(&buf[..n]);
                let text = String::from_utf8_lossy(&request).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                if head.starts_with("POST") && body.len() < 2 {
                    continue;
                }
                request.clear();
                let (status, body) = answer(&text);
                let length = body.len();
                let _ = write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{body}");
            }
        }
    });
    port
}
