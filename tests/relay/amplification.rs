//! What a spoofed source can make of this server: how long answers to strangers are, and how many they get
//! (decision 15 and 21).

use proptest::prelude::*;
use ternd::stun::{AttributeType as T, Builder, Method};
use ternd::turn::Transport;

use crate::world::{Client, World, auth_settings, settings};

const METHODS: [Method; 6] = [
    Method::ALLOCATE,
    Method::REFRESH,
    Method::CREATE_PERMISSION,
    Method::CHANNEL_BIND,
    Method::CONNECT,
    Method::CONNECTION_BIND,
];

/// A real Allocate has REQUESTED-TRANSPORT. What has less (FINGERPRINT not counted) is answered at more than twice its
/// length, because REALM and NONCE are a MUST.
const SHORTEST: usize = 28;

/// How a stranger fills and signs a request.
#[derive(Clone, Debug)]
struct Stranger {
    method: Method,
    /// Lengths of the values of attributes that nobody has to know.
    fill: Vec<usize>,
    unknown: bool,
    signed: Signed,
    fingerprint: bool,
    from: &'static str,
}

#[derive(Clone, Copy, Debug)]
enum Signed {
    Not,
    WithoutNonce,
    WithAStaleNonce,
    WithAGuessedKey,
}

fn stranger() -> impl Strategy<Value = Stranger> {
    let fill = prop_oneof![
        prop::collection::vec(0usize..9, 0..4),
        prop::collection::vec(Just(0usize), 0..40),
        prop::collection::vec(0usize..200, 0..3),
    ];
    let signed = [Signed::Not, Signed::WithoutNonce, Signed::WithAStaleNonce, Signed::WithAGuessedKey];
    (
        prop::sample::select(&METHODS),
        fill,
        any::<bool>(),
        prop::sample::select(signed.to_vec()),
        any::<bool>(),
        prop::sample::select(vec!["192.0.2.7:4000", "[2001:db8:7::1]:4000"]),
    )
        .prop_map(|(method, fill, unknown, signed, fingerprint, from)| Stranger {
            method,
            fill,
            unknown,
            signed,
            fingerprint,
            from,
        })
}

impl Stranger {
    fn request(&self) -> Builder {
        let mut alice = Client::alice(self.from);
        let mut request = alice.request(self.method);
        if self.unknown {
            request = request.raw(T(0x7FFF), b"");
        }
        for len in &self.fill {
            request = request.raw(T(0xFFF0), &vec![0; *len]);
        }
        let named = |r: Builder| r.raw(T::USERNAME, b"alice").raw(T::REALM, b"ternd");
        let key = alice.key();
        match self.signed {
            Signed::Not => request,
            Signed::WithoutNonce => named(request).message_integrity(key.as_bytes()),
            Signed::WithAStaleNonce => {
                named(request).raw(T::NONCE, b"stale").message_integrity(key.as_bytes())
            }
            Signed::WithAGuessedKey => named(request).raw(T::NONCE, b"stale").message_integrity(b"guessed"),
        }
    }
}

proptest! {
    #[test]
    fn no_refusal_of_a_stranger_is_over_twice_a_request_that_could_be_meant(stranger in stranger()) {
        let (plain, mut request) = (stranger.request().finish().len(), stranger.request());
        if stranger.fingerprint {
            request = request.fingerprint();
        }
        let (mut world, question) = (World::new(), request.finish());
        let answer = world.ask(Client::alice(stranger.from).flow, &question).unwrap();
        prop_assert!(matches!(answer.code(), 400 | 401 | 438));
        prop_assert_eq!(answer.message().verify_fingerprint(), stranger.fingerprint.then_some(true));
        if plain >= SHORTEST {
            prop_assert!(answer.0.len() <= 2 * question.len(), "{} for {}", answer.0.len(), question.len());
        } else {
            prop_assert_eq!(answer.0.len(), if stranger.fingerprint { 64 } else { 56 });
        }
    }
}

#[test]
fn a_bare_header_gets_what_the_rfc_demands_and_no_more() {
    for method in METHODS {
        let (mut world, mut alice) = (World::new(), Client::alice("192.0.2.7:4000"));
        let bare = alice.request(method).finish();
        let answer = world.ask(alice.flow, &bare).unwrap();
        assert_eq!((answer.code(), bare.len(), answer.0.len()), (401, 20, 56), "{method:?}");
        assert_eq!(answer.kinds(), [T::ERROR_CODE, T::REALM, T::NONCE]);
    }
    // Over a connection the source is no lie, and the answer says all there is to say.
    let (mut world, mut alice) = (World::new(), Client::alice("192.0.2.7:4000"));
    alice.flow.transport = Transport::Tcp;
    let answer = world.ask(alice.flow, &alice.clone().request(Method::REFRESH).finish()).unwrap();
    assert_eq!(answer.kinds(), [T::ERROR_CODE, T::REALM, T::NONCE, T::PASSWORD_ALGORITHMS]);
}

#[test]
fn whatever_is_asked_a_stranger_gets_so_many_answers_and_no_more() {
    let mut few = settings();
    few.limits.unauthenticated_answers = 2;
    let mut world = World::with(few, auth_settings());
    let mut alice = Client::alice("192.0.2.7:4000");
    let mut answers = 0;
    for n in 0..60 {
        // All kinds draw on the same five seconds' worth.
        let request = alice.request([&METHODS[..], &[Method::BINDING]].concat()[n % 7]);
        alice.flow.client.0.set_port(4000 + n as u16);
        answers += usize::from(world.ask(alice.flow, &request.finish()).is_some());
    }
    assert_eq!(answers, 10);
    assert_eq!(world.server.counters().unanswered, 50);
    world.wait(1);
    let bare = alice.request(Method::REFRESH).finish();
    assert!(world.ask(alice.flow, &bare).is_some(), "and more as time passes");
}
