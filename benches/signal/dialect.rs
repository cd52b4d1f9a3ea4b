//! What a client says to each of the servers, and what it gets.

use crate::server::Kind;

/// What the members of a room say to each other, as JSON.
pub struct Payload {
    /// The name of its field in a `signal` of `ternd.v1`; or `data`, of a `message` to all.
    pub field: &'static str,
    pub json: String,
}

/// A trickled candidate.
pub fn candidate() -> Payload {
    let json = r#"[{"candidate":"candidate:842163049 1 udp 1677729535 203.0.113.77 46154 typ srflx raddr 10.0.0.17 rport 46154 generation 0 ufrag sXP5 network-cost 999","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":"sXP5"}]"#;
    Payload { field: "candidates", json: json.into() }
}

/// A browser's offer of audio and video, about 5 KB.
pub fn offer() -> Payload {
    let mut sdp = String::from(
        "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n\
         a=extmap-allow-mixed\r\na=msid-semantic: WMS 8f2b4a31-6f0e-4d7b-a3d5-a4f0f3a1a0c7\r\n",
    );
    for (mid, media, formats) in [(0, "audio", 8), (1, "video", 24)] {
        sdp +=
            &format!("m={media} 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n");
        sdp += "a=ice-ufrag:sXP5\r\na=ice-pwd:VbuT3tCsyvJvxAQfFS9A5jzC\r\na=ice-options:trickle\r\n";
        sdp += "a=fingerprint:sha-256 7B:8B:F0:65:5F:78:E2:51:3B:AC:6F:F3:3F:46:1B:35:DC:B8:5F:64:1A:24:C2:43:F0:A1:58:D0:A1:2C:19:08\r\n";
        sdp += &format!("a=setup:actpass\r\na=mid:{mid}\r\na=sendrecv\r\na=rtcp-mux\r\na=rtcp-rsize\r\n");
        for format in 96..96 + formats {
            sdp += &format!("a=rtpmap:{format} H264/90000\r\na=rtcp-fb:{format} goog-remb\r\n");
            sdp += &format!("a=rtcp-fb:{format} transport-cc\r\na=rtcp-fb:{format} nack pli\r\n");
            sdp += &format!("a=fmtp:{format} level-asymmetry-allowed=1;packetization-mode=1\r\n");
        }
    }
    let json = serde_json::json!({"type": "offer", "sdp": sdp}).to_string();
    Payload { field: "description", json }
}

/// A line of chat, to all in the room.
pub fn chat() -> Payload {
    let json = r#"{"text":"Could everybody hear that? I have shared the notes of last week; the second page is new.","at":1795347722}"#;
    Payload { field: "data", json: json.into() }
}

/// What a client says once its WebSocket is open.
pub fn opening(kind: Kind, room: usize) -> Vec<String> {
    match kind {
        // Its server speaks first.
        Kind::Node => vec![],
        Kind::Ternd => vec![
            r#"{"type":"hello","id":1}"#.into(),
            format!(r#"{{"type":"join","id":2,"room":"r{room}","capacity":8}}"#),
        ],
        Kind::Floor => vec![format!("r{room}")],
    }
}

pub fn path(kind: Kind) -> &'static str {
    match kind {
        Kind::Node => "/socket.io/?EIO=4&transport=websocket",
        Kind::Ternd => "/v1/ws",
        Kind::Floor => "/",
    }
}

/// What came before the connection was in its room.
pub enum Step {
    Wait,
    Say(String),
    /// It is; what the others call it.
    Joined(String),
}

pub fn step(kind: Kind, room: usize, text: &str) -> Step {
    match kind {
        Kind::Node if text.starts_with("0{") => Step::Say("40".into()),
        Kind::Node if text.starts_with("40") => Step::Say(format!(r#"420["join","r{room}"]"#)),
        Kind::Node if text.starts_with("430") => Step::Joined(String::new()),
        Kind::Ternd if text.starts_with(r#"{"type":"joined""#) => {
            let (_, rest) = text.split_once(r#""self":""#).unwrap();
            Step::Joined(rest.split('"').next().unwrap().into())
        }
        Kind::Floor if text == "joined" => Step::Joined(String::new()),
        Kind::Ternd => {
            assert!(!text.starts_with(r#"{"type":"error""#), "{text}");
            Step::Wait
        }
        _ => Step::Wait,
    }
}

/// The parts of the message that carries a payload.
pub fn parts<'a>(kind: Kind, payload: &'a Payload, to: &'a str) -> [&'a str; 7] {
    let Payload { field, json } = payload;
    match (kind, *field) {
        (Kind::Ternd, "data") => [r#"{"type":"message","to":null,""#, field, "\":", json, "}", "", ""],
        (Kind::Ternd, _) => {
            [r#"{"type":"signal","to":""#, to, r#"","pc":"main","gen":1,""#, field, "\":", json, "}"]
        }
        (Kind::Node, _) => ["42[\"signal\",{\"", field, "\":", json, "}]", "", ""],
        (Kind::Floor, _) => ["{\"", field, "\":", json, "}", "", ""],
    }
}

/// Is this a payload that came whole?
pub fn carries(kind: Kind, text: &[u8], payload: &Payload) -> bool {
    let end: &[u8] = if kind == Kind::Node { b"}]" } else { b"}" };
    text.strip_suffix(end).is_some_and(|rest| rest.ends_with(payload.json.as_bytes()))
}

/// What must be answered, or the server takes the client for dead.
pub fn is_ping(kind: Kind, text: &[u8]) -> bool {
    kind == Kind::Node && text == b"2"
}

/// Presence of others, and the like.
pub fn is_notice(kind: Kind, text: &[u8]) -> bool {
    let begins = [r#"{"type":"peer""#, r#"{"type":"room""#];
    kind == Kind::Ternd && begins.iter().any(|begin| text.starts_with(begin.as_bytes()))
}
