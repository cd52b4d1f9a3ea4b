//! Listeners that come and go while the relay runs.

use super::*;

fn rebind(relay: &Relay, udp: &[&str], tcp: &[&str]) {
    let control = relay.control();
    let rebound = control.bind(&settings(udp, tcp)).unwrap();
    control.listen(rebound).unwrap();
}

/// Clients that relay to a peer each, on all shards.
struct Calls(Vec<(Client, UdpSocket)>);

impl Calls {
    fn start(server: SocketAddr) -> Self {
        let call = |_| {
            let (mut client, peer) = (Client::udp(server), peer("127.0.0.1"));
            client.allocate(17, 1);
            client.bind(0x4000, peer.local_addr().unwrap());
            (client, peer)
        };
        Self((0..16).map(call).collect())
    }

    fn go_on(&mut self) {
        for (client, peer) in &mut self.0 {
            client.send(&channel_data(0x4000, b"ping"));
            let mut buffer = [0; 16];
            let (len, relayed) = peer.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..len], b"ping");
            peer.send_to(b"pong", relayed).unwrap();
            assert_eq!(client.receive(), channel_data(0x4000, b"pong"));
        }
    }

    fn end(mut self) {
        for (client, _) in &mut self.0 {
            let request = client.request(Method::REFRESH).raw(T::LIFETIME, &[0; 4]);
            client.succeed(request);
        }
    }
}

/// Is a stranger answered there?
fn answers(server: SocketAddr) -> bool {
    let socket = UdpSocket::bind((server.ip(), 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    socket.connect(server).unwrap();
    let _ = socket.send(&binding(1));
    socket.recv(&mut [0; 256]).is_ok()
}

fn is_free(addr: SocketAddr) -> bool {
    UdpSocket::bind(addr).is_ok()
}

#[test]
fn a_udp_listener_that_is_removed_stays_for_its_allocations_alone() {
    let relay = start(settings(&["127.0.0.1:0"], &[]));
    let old = relay.listeners()[0].1;
    let mut calls = Calls::start(old);
    rebind(&relay, &["127.0.0.2:0"], &[]);
    let new = relay.listeners()[0].1;
    assert_eq!(relay.listeners().len(), 1);
    assert!(answers(new) && !answers(old));
    assert!(relay.counters().listener_removed > 0);
    calls.go_on();
    // Longer than shards wait between two looks: what one shard needs no more, another one may.
    let few = Calls(calls.0.split_off(1));
    few.end();
    std::thread::sleep(Duration::from_millis(2_500));
    calls.go_on();
    assert!(!is_free(old));
    calls.end();
    for _ in 0..100 {
        if is_free(old) {
            return relay.stop();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{old} is bound still");
}

#[test]
fn a_listener_that_comes_back_was_never_away_for_its_allocations() {
    let relay = start(settings(&["127.0.0.1:0"], &[]));
    let server = relay.listeners()[0].1;
    let mut calls = Calls::start(server);
    // With its own number: to be removed and added is to name it.
    rebind(&relay, &[], &[]);
    assert!(!answers(server));
    rebind(&relay, &["127.0.0.1:0"], &[]);
    assert_eq!(relay.listeners(), [(Transport::Udp, server)]);
    assert!(answers(server));
    calls.go_on();
    calls.end();
    std::thread::sleep(Duration::from_millis(1_500));
    assert!(answers(server));
    relay.stop();
}

#[test]
fn a_wildcard_makes_way_for_one_address_over_tcp_and_over_udp_says_why_not() {
    let relay = start(settings(&["0.0.0.0:0"], &["0.0.0.0:0"]));
    let all = relay.listeners();
    let (udp, tcp) = (all[0].1.port(), all[1].1.port());
    let at = |host: [u8; 4], port| SocketAddr::from((host, port));
    let control = relay.control();
    let one = at([127, 0, 0, 1], udp).to_string();
    let error = control.bind(&settings(&[&one], &[])).unwrap_err().to_string();
    assert!(error.contains(&format!("0.0.0.0:{udp} serves this port")), "{error}");

    let (one, other) = (at([127, 0, 0, 1], tcp), at([127, 0, 0, 2], tcp));
    let mut client = Client::tcp(other);
    rebind(&relay, &["0.0.0.0:0"], &[&one.to_string()]);
    assert!(TcpStream::connect(other).is_err());
    Client::tcp(one).allocate(17, 1);
    client.allocate(17, 1);
    rebind(&relay, &["0.0.0.0:0"], &[&format!("0.0.0.0:{tcp}")]);
    Client::tcp(other).allocate(17, 1);
    relay.stop();
}

#[test]
fn streams_outlive_their_listener() {
    let relay = start(settings(&[], &["127.0.0.1:0"]));
    let server = relay.listeners()[0].1;
    let (mut alice, mut bob) = (Client::tcp(server), Client::tcp(server));
    let (at_alice, at_bob) = (alice.allocate(17, 1), bob.allocate(17, 1));
    rebind(&relay, &[], &["127.0.0.2:0"]);
    let refused = TcpStream::connect(server).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    alice.bind(0x4000, at_bob);
    bob.bind(0x4000, at_alice);
    alice.send(&channel_data(0x4000, b"ping"));
    assert_eq!(bob.receive(), channel_data(0x4000, b"ping"));
    Client::tcp(relay.listeners()[0].1).allocate(17, 1);
    relay.stop();
}

#[test]
fn one_listener_that_cannot_be_had_leaves_all_as_it_was() {
    let relay = start(settings(&["127.0.0.1:0"], &["127.0.0.1:0"]));
    let before = relay.listeners();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (free, taken) = ("127.0.0.2:24999", taken.local_addr().unwrap().to_string());
    let error = relay.control().bind(&settings(&[free], &[&taken])).unwrap_err().to_string();
    assert!(error.contains(&taken) && error.contains("another program uses this port"), "{error}");
    assert_eq!(relay.listeners(), before);
    assert!(is_free(free.parse().unwrap()));
    assert!(answers(before[0].1));
    Client::tcp(before[1].1).allocate(17, 1);
    relay.stop();
}
