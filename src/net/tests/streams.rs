//! Streams at their ends: half closed, cut short, full, too many.

use std::net::Shutdown;

use socket2::{Domain, Socket, Type};

use super::*;

#[test]
fn a_client_that_has_said_all_still_hears_the_answer() {
    let relay = start(settings(&[], &["127.0.0.1:0"]));
    // Often enough that the request and the end come in one wake-up at least once.
    for _ in 0..50 {
        let mut stream = TcpStream::connect(relay.listeners()[0].1).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&binding(3)).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(
            Message::parse(&answer).expect("an answer, then the end").transaction_id(),
            TransactionId([3; 12])
        );
    }
    relay.stop();
}

/// A control connection with a TCP relay, and a peer it is connected to; the CONNECTION-ID.
fn connected(relay: &Relay, listener: &TcpListener) -> (Client, TcpStream, u32) {
    let mut client = Client::tcp(relay.listeners()[0].1);
    client.allocate(6, 1);
    let request =
        client.request(Method::CONNECT).xor_address(T::XOR_PEER_ADDRESS, listener.local_addr().unwrap());
    let id = connection_id(&client.succeed(request));
    let (far, _) = listener.accept().unwrap();
    far.set_read_timeout(Some(PATIENCE)).unwrap();
    (client, far, id)
}

fn noise(len: usize) -> Vec<u8> {
    (0..len as u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect()
}

//= 6062-5.5-2
#[test]
fn what_a_client_said_before_it_closed_reaches_a_slow_peer() {
    let relay = start(settings(&[], &["127.0.0.1:0"]));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    socket2::SockRef::from(&listener).set_recv_buffer_size(8 * 1024).unwrap();
    // What the system holds between a writer and this peer; then lengths around it, in steps smaller than what the
    // relay holds, so that one of them ends in there.
    let mut probe = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let _far = listener.accept().unwrap();
    probe.set_nonblocking(true).unwrap();
    let held: usize = std::iter::from_fn(|| probe.write(&[0; 16 * 1024]).ok()).sum();
    for len in (0..24).map(|n| held.saturating_sub(64 * 1024) + n * 12 * 1024) {
        let (_client, mut far, id) = connected(&relay, &listener);
        let mut near = data_connection(&relay, id);
        let said = noise(len);
        let writer = std::thread::spawn({
            let said = said.clone();
            move || near.write_all(&said).unwrap() // and closes
        });
        std::thread::sleep(Duration::from_millis(15)); // while the peer reads nothing
        let mut heard = Vec::new();
        far.read_to_end(&mut heard).unwrap();
        assert_eq!(heard.len(), said.len());
        assert!(heard == said, "unchanged");
        writer.join().unwrap();
    }
    relay.stop();
}

#[test]
fn what_a_peer_said_before_it_closed_reaches_a_slow_client_over_tls() {
    let relay = start(settings(&[], &["127.0.0.1:0"]));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (_client, mut far, id) = connected(&relay, &listener);
    let mut data = tls_client(&relay, &binding(1));
    data.receive();
    let request = data.request(Method::CONNECTION_BIND).u32(T::CONNECTION_ID, id);
    data.succeed(request);
    let said = noise(12_000_000);
    let writer = std::thread::spawn({
        let said = said.clone();
        move || far.write_all(&said).unwrap() // and closes
    });
    std::thread::sleep(Duration::from_millis(300)); // all buffers are full
    let Line::Stream(near) = &mut data.line else { unreachable!() };
    let mut heard = Vec::new();
    near.read_to_end(&mut heard).expect("ends with close_notify");
    assert_eq!(heard.len(), said.len());
    assert!(heard == said, "unchanged");
    writer.join().unwrap();
    relay.stop();
}

#[test]
fn answers_are_not_lost_when_a_stream_moves_to_another_shard() {
    let relay = start(settings(&[], &["127.0.0.1:0"]));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // With two shards every other data connection has to move.
    for _ in 0..12 {
        let (_client, _far, id) = connected(&relay, &listener);
        let mut data = Client::tcp(relay.listeners()[0].1);
        let bare = data.request(Method::ALLOCATE).finish();
        data.send(&bare);
        let challenge = data.receive();
        data.nonce = Message::parse(&challenge).unwrap().find(T::NONCE).unwrap().value.to_vec();
        let bind = data.request(Method::CONNECTION_BIND).u32(T::CONNECTION_ID, id);
        let both = [binding(99), data.sign(bind)].concat();
        data.send(&both);
        assert_eq!(Message::parse(&data.receive()).unwrap().transaction_id(), TransactionId([99; 12]));
        assert_eq!(Message::parse(&data.receive()).unwrap().class(), Class::Success);
    }
    relay.stop();
}

//= 8656-6-1
#[test]
fn two_tcp_relays_never_share_an_address() {
    let first = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port() & !1;
    let ports = Settings { relay_ports: first..=first + 1, ..settings(&[], &["127.0.0.1:0"]) };
    let relay = start(ports);
    // Enough clients that both shards are asked.
    let mut clients: Vec<_> = (0..12).map(|_| Client::tcp(relay.listeners()[0].1)).collect();
    let mut relayed = Vec::new();
    for client in &mut clients {
        let request = client.request(Method::ALLOCATE).raw(T::REQUESTED_TRANSPORT, &[6, 0, 0, 0]);
        let answer = client.ask(request);
        let message = Message::parse(&answer).unwrap();
        match message.find(T::XOR_RELAYED_ADDRESS) {
            Some(address) => relayed.push(address.value.to_vec()),
            None => assert_eq!(message.find(T::ERROR_CODE).unwrap().value[2..4], [5, 8]),
        }
    }
    // They differ in what they are XORed with only beyond the port: the first four bytes tell the port.
    let mut distinct: Vec<_> = relayed.iter().map(|a| a[..4].to_vec()).collect();
    distinct.sort();
    distinct.dedup();
    assert_eq!(relayed.len(), distinct.len(), "each has its own port");
    assert!((1..=2).contains(&relayed.len()), "two ports, two relays at most: {}", relayed.len());
    relay.stop();
}

#[test]
fn a_lack_of_descriptors_passes() {
    in_its_own_process(
        &["prlimit", "--nofile=64"],
        "net::tests::streams::accepting_goes_on_after_a_lack_of_descriptors",
    );
}

#[test]
#[ignore = "runs in a process with 64 descriptors"]
fn accepting_goes_on_after_a_lack_of_descriptors() {
    let relay = start(Settings { shards: 1, ..settings(&[], &["127.0.0.1:0"]) });
    let server = relay.listeners()[0].1;
    // Its socket exists before the lack does; every other descriptor is taken.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let mut taken = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        taken.push(file);
    }
    socket.connect(&server.into()).unwrap();
    wait_until(|| relay.counters().accept_errors > 0, "the shard has no descriptor left");
    // The stream waits in the queue of the listener; room appears, and it is served.
    drop(taken);
    let mut client = Client::stream(socket.into());
    client.send(&binding(5));
    client.receive();
    relay.stop();
}
