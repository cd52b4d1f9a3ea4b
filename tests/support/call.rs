//! A call as browsers make it: two members of a room, an offer, an answer, candidates from both sides.

use serde_json::json;
use ternd::client::{Client, Error, Event, Join, Presence};

/// Messages with candidates from each side.
const TRICKLES: usize = 4;

/// One side of it. Returns when all of the other side's is there; who leaves then may cut the other one off.
pub async fn call(client: &mut Client, room: &str) -> Result<(), Error> {
    // Not the default, or nobody would notice that it gets lost.
    let generation = 1;
    let joined = client.join(Join::room(room)).await?;
    // A bit of both sides is in it, so that no other's is taken for it.
    let description =
        |kind: &str| json!({"type": kind, "sdp": format!("v=0\r\ns={room}\r\n{}", "a=x\r\n".repeat(500))});
    let candidate = json!({"candidate": format!("candidate:1 1 udp 2122260223 192.0.2.7 54321 typ host ufrag {room}"),
                           "sdpMid": "0", "sdpMLineIndex": 0, "usernameFragment": room});
    if let [peer] = &joined.peers[..] {
        assert!(peer.you.offerer, "the later one offers");
        client.describe(&peer.peer, generation, description("offer")).await?;
    }
    let (mut described, mut trickled, mut sent) = (false, 0, false);
    while !(described && trickled == TRICKLES) {
        let from = match client.next().await? {
            Event::Signal(signal) => {
                assert_eq!(signal.generation, generation);
                if let Some(theirs) = signal.description {
                    let kind = if joined.peers.is_empty() { "offer" } else { "answer" };
                    assert_eq!(theirs, description(kind), "byte for byte, and once");
                    assert!(!std::mem::replace(&mut described, true));
                    if kind == "offer" {
                        client.describe(&signal.from, signal.generation, description("answer")).await?;
                    }
                }
                if let Some(theirs) = signal.candidates {
                    assert_eq!(theirs, std::slice::from_ref(&candidate));
                    trickled += 1;
                }
                signal.from
            }
            Event::Peer(Presence::Join { you, .. }) => {
                assert!(!you.offerer, "the earlier one waits");
                continue;
            }
            other => panic!("{other:?}"),
        };
        if !std::mem::replace(&mut sent, true) {
            for _ in 0..TRICKLES {
                client.candidates(&from, generation, vec![candidate.clone()]).await?;
            }
        }
    }
    Ok(())
}
