//! The rooms as a program uses them: `ternd::client`, alone and by the hundreds.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use ternd::client::{Client, Error, Event, Join, Options, Presence};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Barrier, Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::call::call;
use crate::files::raise_file_limit;
use crate::harness::{Daemon, Setup, certificate, free_port};

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

/// A daemon with rooms on plain HTTP, and where.
fn start(rooms: &str) -> (Daemon, SocketAddr) {
    let http = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let setup = Setup::new()
        .replace("[listen]\n", &format!("[listen]\nhttp = [\"{http}\"]\n"))
        .replace("[metrics]", &format!("[rooms]\n{rooms}\n\n[metrics]"));
    (setup.start(), http)
}

fn options(server: SocketAddr) -> Options {
    Options::new(&format!("ws://{server}")).client("tests/1")
}

#[test]
fn a_client_gets_in_by_tls_and_is_told_what_is_refused() {
    let daemon = Daemon::start();
    let mut roots = rustls::RootCertStore::empty();
    let pem = rustls::pki_types::pem::PemObject::from_pem_slice(certificate().0.as_bytes()).unwrap();
    roots.add(pem).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let trusting = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let url = format!("wss://{}", daemon.https());
    run(async {
        let stranger = Client::connect(Options::new(&url)).await;
        assert!(matches!(&stranger, Err(Error::Lost(why)) if why.contains("TLS")), "{stranger:?}");

        let options = Options::new(&url).tls(Arc::new(trusting));
        let mut alice = Client::connect(options.clone()).await.unwrap();
        let nowhere = alice.join(Join::room("r").only_if_there()).await;
        assert!(
            matches!(&nowhere, Err(Error::Refused { code, .. }) if code == "room_not_found"),
            "{nowhere:?}"
        );
        let joined = alice.join(Join::room("r").name("Alice").pin("1234").capacity(2)).await.unwrap();
        assert!(joined.created && joined.peers.is_empty() && joined.ice.is_some(), "{joined:?}");

        let mut bob = Client::connect(options).await.unwrap();
        let wrong = bob.join(Join::room("r").pin("4321")).await;
        assert!(matches!(&wrong, Err(Error::Refused { code, .. }) if code == "bad_pin"), "{wrong:?}");
        let there = bob.join(Join::room("r").pin("1234")).await.unwrap();
        assert_eq!((&there.peers[0].peer, there.peers[0].name.as_deref()), (&joined.me, Some("Alice")));
        assert!(bob.ice().await.unwrap()["iceServers"].is_array());
        bob.message(Some("p_nobody"), json!(1)).await.unwrap();
        let refused = bob.next().await.unwrap();
        assert!(matches!(&refused, Event::Refused { code, .. } if code == "peer_not_found"), "{refused:?}");
        bob.request("set", json!({"key": "topic", "value": "plans"})).await.unwrap();
        let no_fields = bob.request("set", json!(["key"])).await;
        assert!(matches!(no_fields, Err(Error::Options(_))), "{no_fields:?}");
        bob.leave().await.unwrap();
        bob.close().await.unwrap();

        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push(alice.next().await.unwrap());
        }
        let [
            Event::Peer(Presence::Join { peer, you, .. }),
            Event::State { key, value, .. },
            Event::Peer(left),
        ] = &seen[..]
        else {
            panic!("{seen:?}");
        };
        assert_eq!((peer, you.offerer), (&there.me, false));
        assert_eq!((key.as_str(), value), ("topic", &Some(json!("plans"))));
        assert_eq!(*left, Presence::Leave { peer: there.me.clone(), reason: None });
        alice.request("bye", Value::Null).await.unwrap();
    });
}

/// Something between client and server that can be cut.
struct Cable {
    at: SocketAddr,
    cut: watch::Sender<u32>,
    task: JoinHandle<()>,
}

impl Cable {
    async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let at = listener.local_addr().unwrap();
        let (cut, cuts) = watch::channel(0);
        let task = tokio::spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let mut cuts = cuts.clone();
                cuts.mark_unchanged();
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(server).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = cuts.changed() => {}
                    }
                });
            }
        });
        Self { at, cut, task }
    }

    fn cut(&self) {
        self.cut.send_modify(|cuts| *cuts += 1);
    }
}

/// The next event: a message is kept, presence given.
async fn hear(client: &mut Client, heard: &mut Vec<Value>) -> Option<Presence> {
    match client.next().await.unwrap() {
        Event::Message { data, .. } => {
            heard.push(data);
            None
        }
        Event::Peer(presence) => Some(presence),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_client_that_is_cut_off_resumes_and_nothing_is_lost_or_comes_twice() {
    let (_daemon, server) = start("");
    run(async {
        let cable = Cable::to(server).await;
        let mut alice = Client::connect(options(cable.at)).await.unwrap();
        let mut bob = Client::connect(options(server)).await.unwrap();
        alice.join(Join::room("r")).await.unwrap();
        bob.join(Join::room("r")).await.unwrap();
        for round in 0..3 {
            // Some of it comes before the cut, some after, some when nobody is there.
            alice.message(None, json!([round, "before"])).await.unwrap();
            bob.message(None, json!([round, 1])).await.unwrap();
            cable.cut();
            let mut heard = Vec::new();
            while !matches!(hear(&mut bob, &mut heard).await, Some(Presence::Away { .. })) {}
            bob.message(None, json!([round, 2])).await.unwrap();
            let mut got = Vec::new();
            let lost = loop {
                match alice.next().await {
                    Ok(Event::Message { data, .. }) => got.push(data),
                    Ok(_) => {}
                    Err(lost) => break lost,
                }
            };
            assert!(lost.may_resume(), "{lost}");
            let unsent = alice.message(None, json!([round, "cut off"])).await;
            assert!(matches!(unsent, Err(Error::Lost(_))), "{unsent:?}");
            assert!(alice.resume().await.unwrap(), "the same session");
            while got.len() < 2 {
                if let Event::Message { data, .. } = alice.next().await.unwrap() {
                    got.push(data);
                }
            }
            assert_eq!(got, [json!([round, 1]), json!([round, 2])]);

            while !matches!(hear(&mut bob, &mut heard).await, Some(Presence::Back { .. })) {}
            alice.message(None, json!([round, "last"])).await.unwrap();
            while heard.last() != Some(&json!([round, "last"])) {
                hear(&mut bob, &mut heard).await;
            }
            assert_eq!(heard, [json!([round, "before"]), json!([round, "cut off"]), json!([round, "last"])]);
        }
        cable.task.abort();
    });
}

#[test]
fn who_comes_back_too_late_begins_anew() {
    let (_daemon, server) = start("resume = \"0s\"");
    run(async {
        let cable = Cable::to(server).await;
        let mut alice = Client::connect(options(cable.at)).await.unwrap();
        let first = alice.join(Join::room("r")).await.unwrap();
        cable.cut();
        assert!(alice.next().await.unwrap_err().may_resume());
        assert!(!alice.resume().await.unwrap(), "the server keeps nothing");
        let second = alice.join(Join::room("r")).await.unwrap();
        assert!(second.created && second.me != first.me, "{second:?}");
        cable.task.abort();

        let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let nothing = Client::connect(options(nobody).patience(Duration::from_secs(5))).await;
        assert!(matches!(nothing, Err(Error::Lost(_))), "{nothing:?}");
    });
}

/// Idle connections, and rooms in which a call is made at the same time: what the benchmark does with 10,000 and 2,000.
const IDLE: usize = 1_000;
const ROOMS: usize = 200;
/// Connections of one source address: less than the server's bound on them.
const PER_ADDRESS: usize = 100;

#[test]
fn a_thousand_idle_connections_stand_while_two_hundred_rooms_call() {
    raise_file_limit();
    // The joins of an address may fall into the slot of another one's.
    let (_daemon, server) = start("joins-per-minute = 0");
    run(async {
        let open = Arc::new(Semaphore::new(32));
        let connect = move |index: usize| {
            let address =
                Ipv4Addr::from_bits(Ipv4Addr::new(127, 2, 0, 1).to_bits() + (index / PER_ADDRESS) as u32);
            let (open, options) = (open.clone(), options(server).from(address.into()));
            async move {
                let _permit = open.acquire().await.unwrap();
                Client::connect(options).await.unwrap()
            }
        };
        let mut idle = JoinSet::new();
        for index in 0..IDLE {
            let client = connect(index);
            idle.spawn(async move {
                let mut client = client.await;
                client.join(Join::room(&format!("idle-{}", index / 2))).await.unwrap();
                client
            });
        }
        let idle = idle.join_all().await;
        assert_eq!(idle.len(), IDLE);

        let everybody = Arc::new(Barrier::new(2 * ROOMS));
        let mut calls = JoinSet::new();
        for index in 0..2 * ROOMS {
            let (client, everybody) = (connect(IDLE + index), everybody.clone());
            calls.spawn(async move {
                let mut client = client.await;
                everybody.wait().await;
                call(&mut client, &format!("call-{}", index / 2)).await.unwrap();
                everybody.wait().await;
                client.close().await.unwrap();
            });
        }
        assert_eq!(calls.join_all().await.len(), 2 * ROOMS);

        for client in idle {
            client.close().await.unwrap();
        }
    });
}
