//! What clients get, as JSON. (What they send is in `wire.rs`.)

use std::fmt::{self, Write};
use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;

use super::error::ErrorCode;

/// An answer, or, where there is a `seq`, an event. Of events `seq` is 0 until [`Numbered`] writes it.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum Frame<'a> {
    Welcome {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        session: &'a str,
        secret: &'a str,
        resumed: bool,
        last_id: Option<u64>,
        ping_ms: u64,
        timeout_ms: u64,
        resume_ms: u64,
        max_bytes: usize,
        server: &'a str,
        features: &'a [&'a str],
    },
    Joined {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        seq: u64,
        room: &'a str,
        #[serde(rename = "self")]
        me: &'a str,
        created: bool,
        capacity: usize,
        pin: bool,
        locked: bool,
        moderators: &'a [&'a str],
        peers: &'a [Member<'a>],
        state: &'a super::room::Values,
        history: &'a [Remembered<'a>],
        ice: Option<&'a RawValue>,
    },
    Peer {
        seq: u64,
        #[serde(flatten)]
        event: PeerEvent<'a>,
    },
    Room {
        seq: u64,
        locked: bool,
        moderators: &'a [&'a str],
        by: Option<&'a str>,
    },
    Signal {
        seq: u64,
        from: &'a str,
        to: &'a str,
        pc: &'a str,
        #[serde(rename = "gen")]
        generation: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<&'a RawValue>,
        #[serde(skip_serializing_if = "Option::is_none")]
        candidates: Option<&'a RawValue>,
    },
    Message {
        seq: u64,
        from: &'a str,
        to: Option<&'a str>,
        data: &'a RawValue,
    },
    State {
        seq: u64,
        from: &'a str,
        key: &'a str,
        value: Option<&'a RawValue>,
    },
    Ice {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
        ice: &'a RawValue,
    },
    Draining {
        seq: u64,
        action: &'a str,
        after_ms: u64,
    },
    Invite {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        token: &'a str,
        expires: u64,
    },
    Ok {
        id: u64,
    },
    Bye {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
    },
    Error {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        code: ErrorCode,
        message: &'a str,
        retry_ms: Option<u64>,
        fatal: bool,
    },
}

/// A member as a newcomer finds it.
#[derive(Debug, Serialize)]
pub(super) struct Member<'a> {
    pub(super) peer: &'a str,
    pub(super) name: Option<&'a str>,
    pub(super) state: Presence,
    pub(super) you: Roles,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Presence {
    Here,
    Away,
}

/// A message from before a newcomer came.
#[derive(Debug, Serialize)]
pub(super) struct Remembered<'a> {
    pub(super) from: &'a str,
    pub(super) name: Option<&'a str>,
    pub(super) data: &'a RawValue,
    pub(super) ago_ms: u64,
}

#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(super) enum PeerEvent<'a> {
    Join {
        peer: &'a str,
        name: Option<&'a str>,
        you: Roles,
    },
    Away {
        peer: &'a str,
    },
    Back {
        peer: &'a str,
    },
    Leave {
        peer: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'a str>,
    },
}

/// What the receiver is to a peer.
///
/// The later one of a pair makes the offer, and gives way should both offer. So one side always begins, and
/// who reloads a page comes back as the later one: a fresh connection meets an offer, not two that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Roles {
    pub(super) polite: bool,
    pub(super) offerer: bool,
}

impl Roles {
    pub(super) const EARLIER: Self = Self { polite: false, offerer: false };
    pub(super) const LATER: Self = Self { polite: true, offerer: true };
}

impl Frame<'_> {
    /// The text of an answer.
    pub(super) fn encode(&self) -> Text {
        Text { text: self.json().into(), number: None }
    }

    /// An event, written once for all its receivers.
    pub(super) fn event(&self) -> Numbered {
        const SEQ: &str = r#""seq":0"#;
        let json = self.json();
        // Nothing stands before it but the type and numbers. What has no `seq` is no event, and stays as it is.
        let at = json.find(SEQ).map(|at| at + SEQ.len() - 1);
        Numbered { text: json.into(), at }
    }

    fn json(&self) -> String {
        let mut json = Vec::with_capacity(FIELDS + self.payload());
        match serde_json::to_writer(&mut json, self) {
            Ok(()) => String::from_utf8(json).unwrap_or_else(|_| INTERNAL.into()),
            // Only a map whose keys are no strings could fail, and there is none.
            Err(_) => INTERNAL.into(),
        }
    }

    /// Bytes of what passes through.
    fn payload(&self) -> usize {
        let (one, other) = match self {
            Self::Signal { description, candidates, .. } => (*description, *candidates),
            Self::Message { data, .. } => (Some(*data), None),
            Self::State { value, .. } => (*value, None),
            Self::Ice { ice, .. } => (Some(*ice), None),
            Self::Joined { ice, .. } => (*ice, None),
            _ => (None, None),
        };
        [one, other].into_iter().flatten().map(|raw| raw.get().len()).sum()
    }
}

/// Bytes of a message without its payload; some have more.
const FIELDS: usize = 192;

const INTERNAL: &str =
    r#"{"type":"error","code":"internal","message":"Internal error","retry_ms":null,"fatal":false}"#;

/// An event that has no number yet: each receiver has reached another one.
#[derive(Clone, Debug)]
pub(super) struct Numbered {
    text: Arc<str>,
    /// Where its number goes, in the place of a `0`.
    at: Option<usize>,
}

impl Numbered {
    pub(super) fn with(&self, seq: u64) -> Text {
        Text { text: self.text.clone(), number: self.at.map(|at| (at, seq)) }
    }

    pub(super) fn len(&self) -> usize {
        self.text.len()
    }
}

/// A message for a client: one JSON object. All receivers of an event share its text, and each has a number of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    text: Arc<str>,
    number: Option<(usize, u64)>,
}

impl Text {
    /// About so many bytes: exactly, but for the digits of the number.
    pub fn size(&self) -> usize {
        self.text.len()
    }

    /// Its three parts, one after the other; the second is the number.
    fn parts(&self) -> (&str, Option<u64>, &str) {
        let number = self.number.and_then(|(at, seq)| Some((self.text.split_at_checked(at)?, seq)));
        match number {
            Some(((head, tail), seq)) => (head, Some(seq), tail.get(1..).unwrap_or_default()),
            None => (&self.text, None, ""),
        }
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (head, number, tail) = self.parts();
        f.write_str(head)?;
        if let Some(number) = number {
            write!(f, "{number}")?;
        }
        f.write_str(tail)
    }
}

impl From<&Text> for String {
    fn from(text: &Text) -> Self {
        const DIGITS: usize = 20;
        let mut whole = Self::with_capacity(text.size() + DIGITS);
        // A String takes whatever is written to it.
        let _ = write!(whole, "{text}");
        whole
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self { text: text.into(), number: None }
    }
}
