//! Our own client, netcat, and the `turn` crate of webrtc-rs.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use turn::client::{Client as TurnClient, ClientConfig};
use turn::proto::reqfamily::REQUESTED_FAMILY_IPV6;
use webrtc_util::Conn;

use crate::client::{Client, Login, call};
use crate::harness::{Daemon, SECRET, have, ipv6, poll, run_with, skip, unix_now};

fn alice() -> Login {
    Login::new(SECRET, format!("{}:alice", unix_now() + 600))
}

#[test]
fn our_client_relays_over_every_transport() {
    let daemon = Daemon::start();
    call(Client::udp(daemon.turn()), &alice());
    call(Client::tcp(daemon.turn()), &alice());
    call(Client::tls(daemon.https()), &alice());
}

#[test]
fn our_client_relays_over_ipv6() {
    if !ipv6() {
        return skip("this machine has no IPv6");
    }
    let daemon = Daemon::start();
    for mut client in [Client::udp(daemon.turn6()), Client::tcp(daemon.turn6())] {
        assert!(client.binding().is_ipv6());
        let relayed = client.allocate_in(REQUESTED_FAMILY_IPV6, &alice()).expect("an allocation");
        assert!(relayed.is_ipv6());
        client.relay_both_ways(relayed);
        client.release();
    }
}

/// A bare Binding request of 20 bytes, answered with an XOR-MAPPED-ADDRESS.
fn netcat(options: &[&str]) {
    if !have("nc") {
        return;
    }
    let daemon = Daemon::start();
    let request = b"\x00\x01\x00\x00\x21\x12\xa4\x42ternd-test-1";
    // -W 1: the first packet that comes ends it.
    let mut command = Command::new("nc");
    command.args(options).args(["-W", "1", "127.0.0.1", &daemon.turn().port().to_string()]);
    let output = run_with(request, &mut command);
    let answer = output.stdout.as_slice();
    assert!(answer.len() >= 32, "{output:?}");
    // 01 01 | length | 21 12 a4 42 | transaction
    assert_eq!(answer[..2], [0x01, 0x01], "Binding success response");
    assert_eq!(usize::from(u16::from_be_bytes([answer[2], answer[3]])), answer.len() - 20, "its length");
    assert_eq!(answer[4..20], request[4..]);
    // 00 20 | 00 08 | 00 01 | port | address, both XORed with the magic cookie
    let attribute = answer[20..].windows(12).find(|w| w[..6] == [0x00, 0x20, 0x00, 0x08, 0x00, 0x01]);
    let attribute = attribute.expect("XOR-MAPPED-ADDRESS, IPv4");
    assert_eq!(attribute[8..], [127 ^ 0x21, 0x12, 0xa4, 1 ^ 0x42], "127.0.0.1");
}

#[test]
fn netcat_is_answered_over_udp() {
    netcat(&["-u"]);
}

#[test]
fn netcat_is_answered_over_tcp() {
    netcat(&[]);
}

#[tokio::test]
async fn the_turn_crate_allocates_and_relays() {
    let daemon = Daemon::start();
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = daemon.turn().to_string();
    let Login { username, password } = alice();
    let client = TurnClient::new(ClientConfig {
        stun_serv_addr: server.clone(),
        turn_serv_addr: server,
        username,
        password,
        realm: String::new(),
        software: String::new(),
        rto_in_ms: 0,
        conn: Arc::new(socket),
        vnet: None,
    })
    .await
    .unwrap();
    client.listen().await.unwrap();
    let relay = client.allocate().await.expect("an allocation");
    let relayed = relay.local_addr().unwrap();

    let peer = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let patience = Duration::from_secs(10);
    let mut buffer = [0; 2048];
    // The first goes as a Send indication, while the client binds a channel; so do some of the others both ways.
    for round in 0..20 {
        let ping = format!("ping {round}");
        relay.send_to(ping.as_bytes(), peer.local_addr().unwrap()).await.unwrap();
        let (n, from) =
            tokio::time::timeout(patience, peer.recv_from(&mut buffer)).await.expect("ping").unwrap();
        assert_eq!((&buffer[..n], from), (ping.as_bytes(), relayed));
        let pong = format!("pong {round}");
        peer.send_to(pong.as_bytes(), relayed).await.unwrap();
        let (n, from) =
            tokio::time::timeout(patience, relay.recv_from(&mut buffer)).await.expect("pong").unwrap();
        assert_eq!((&buffer[..n], from), (pong.as_bytes(), peer.local_addr().unwrap()));
    }

    relay.close().await.unwrap();
    client.close().await.unwrap();
    let gone = tokio::task::spawn_blocking(move || poll(|| is_closed(relayed).then_some(()))).await.unwrap();
    assert!(gone.is_some(), "closing the client frees {relayed}");
}

/// Does the system say that nobody listens there?
pub fn is_closed(at: SocketAddr) -> bool {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect(at).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let _ = socket.send(b"?");
    socket.recv(&mut [0; 1]).is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}
