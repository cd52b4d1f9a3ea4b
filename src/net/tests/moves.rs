//! Clients that move over UDP (RFC 8016), whatever shard their new path leads to.

use super::*;

fn ticket(answer: &[u8]) -> Vec<u8> {
    Message::parse(answer).unwrap().find(T::MOBILITY_TICKET).expect("a ticket").value.to_vec()
}

/// Sends until it arrives: the shard that the datagrams come to may hear of the path a moment after the client.
fn reaches(client: &mut Client, peer: &UdpSocket, data: &[u8]) {
    peer.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut buffer = [0; 100];
    for _ in 0..100 {
        client.send(&channel_data(0x4000, data));
        while let Ok(len) = peer.recv(&mut buffer) {
            if &buffer[..len] == data {
                return;
            }
        }
    }
    panic!("what the client sends does not arrive");
}

#[test]
fn a_client_moves_to_any_port_and_keeps_its_allocation() {
    let settings = Settings { shards: 4, ..settings(&["127.0.0.1:0"], &[]) };
    let relay = start_with(settings, |turn| turn.mobility = true);
    let server = relay.listeners()[0].1;
    let peer = peer("127.0.0.1");

    let mut client = Client::udp(server);
    let request = client.request(Method::ALLOCATE).raw(T::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
    let answer = client.succeed(request.raw(T::MOBILITY_TICKET, b""));
    let mut shown = ticket(&answer);
    let message = Message::parse(&answer).unwrap();
    let relayed = match message.find(T::XOR_RELAYED_ADDRESS).unwrap().decode(message.transaction_id()) {
        Ok(Attribute::XorRelayedAddress(relayed)) => relayed,
        other => panic!("{other:?}"),
    };
    client.bind(0x4000, peer.local_addr().unwrap());

    // Three of four ports lead to another shard.
    for n in 0..12_u8 {
        client = Client::udp(server);
        let request = client.request(Method::REFRESH).raw(T::MOBILITY_TICKET, &shown);
        shown = ticket(&client.succeed(request));
        reaches(&mut client, &peer, &[n; 20]);
        // The relay has heard the client here, so this is where data goes from here on.
        peer.send_to(&[n; 30], relayed).unwrap();
        assert_eq!(client.receive(), channel_data(0x4000, &[n; 30]));
        client.permit(peer.local_addr().unwrap());
    }
    let counters = relay.counters();
    assert!(counters.datagrams_passed > 0 && counters.datagrams_not_passed == 0, "{counters:?}");
    assert_eq!((counters.allocations, counters.turn.moves), (1, 12));

    let request = client.request(Method::REFRESH).u32(T::LIFETIME, 0);
    client.succeed(request);
    assert_eq!(relay.counters().allocations, 0);
    // The port is as good as any other.
    client.allocate(17, 1);
    relay.stop();
}
