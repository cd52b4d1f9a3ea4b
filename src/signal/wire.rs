//! The messages of `ternd.v1` as JSON: [`parse`] reads and checks what clients send, [`Frame`] is what they get.
//!
//! Descriptions, candidates and data are checked in shape and size and passed on byte for byte. All else that a
//! client sends is read into a value and written anew, so nothing of it reaches others unless it is named here.

use std::borrow::Cow;
use std::sync::Arc;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::error::{ErrorCode, Refusal};
use super::event::{Report, ReportedCandidate, ReportedError, ReportedState, ReportedTransport};
use super::json;
use super::settings::Settings;
use super::text::{excerpt, is_identifier, is_label};

/// The largest integer that every JSON parser keeps (RFC 8259 section 6).
const MAX_ID: u64 = (1 << 53) - 1;
/// Bounds of names that the server passes on but does not keep.
const PC_CHARS: usize = 64;
const URL_CHARS: usize = 256;
const REPORTED_ERRORS: usize = 16;

const REQUESTS: &str = "hello, join, signal, message, ice, report, leave, bye";

/// What a client asks for, checked.
#[derive(Debug)]
pub(super) enum Request<'a> {
    Hello { client: Option<Cow<'a, str>> },
    Join(Join<'a>),
    Signal(Signal<'a>),
    Message(Message<'a>),
    Ice,
    Report(Report),
    Leave,
    Bye,
}

#[derive(Debug, Deserialize)]
struct Head<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct Hello<'a> {
    #[serde(borrow)]
    client: Option<Cow<'a, str>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Join<'a> {
    #[serde(borrow)]
    pub(super) room: Cow<'a, str>,
    pub(super) create: Option<Create>,
    #[serde(borrow)]
    pub(super) name: Option<Cow<'a, str>>,
    pub(super) pin: Option<IgnoredAny>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Create {
    IfMissing,
    Never,
}

#[derive(Debug, Deserialize)]
pub(super) struct Signal<'a> {
    #[serde(borrow)]
    pub(super) to: Cow<'a, str>,
    #[serde(borrow, default = "main")]
    pub(super) pc: Cow<'a, str>,
    #[serde(rename = "gen", default)]
    pub(super) generation: u32,
    #[serde(borrow)]
    pub(super) description: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) candidates: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Message<'a> {
    #[serde(borrow)]
    pub(super) to: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) data: &'a RawValue,
}

#[derive(Debug, Deserialize)]
struct Description<'a> {
    #[serde(rename = "type")]
    kind: DescriptionKind,
    #[serde(borrow)]
    sdp: Option<Cow<'a, str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum DescriptionKind {
    Offer,
    Answer,
    Pranswer,
    Rollback,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "read to check the shape")]
struct Candidate<'a> {
    #[serde(borrow)]
    candidate: Cow<'a, str>,
    #[serde(borrow)]
    sdp_mid: Option<Cow<'a, str>>,
    #[serde(rename = "sdpMLineIndex")]
    sdp_m_line_index: Option<u16>,
    #[serde(borrow)]
    username_fragment: Option<Cow<'a, str>>,
}

#[derive(Debug, Deserialize)]
struct RawReport<'a> {
    #[serde(borrow, default = "main")]
    pc: Cow<'a, str>,
    #[serde(borrow)]
    peer: Option<Cow<'a, str>>,
    state: ReportedState,
    ms: Option<u64>,
    local: Option<ReportedCandidate>,
    remote: Option<ReportedCandidate>,
    relay: Option<ReportedTransport>,
    rtt_ms: Option<u64>,
    #[serde(borrow)]
    errors: Option<Vec<&'a RawValue>>,
}

#[derive(Debug, Deserialize)]
struct RawReportedError<'a> {
    #[serde(borrow)]
    url: Cow<'a, str>,
    code: u16,
}

fn main() -> Cow<'static, str> {
    "main".into()
}

/// Reads a message: its id, as far as it can be echoed, and the request or what is wrong with it.
pub(super) fn parse<'a>(text: &'a str, settings: &Settings) -> (Option<u64>, Result<Request<'a>, Refusal>) {
    // An array would do for a struct, too: serde reads its fields by position.
    if !text.trim_start().starts_with('{') {
        return (None, Err(Refusal::malformed("Not a JSON object")));
    }
    let head: Head<'_> = match serde_json::from_str(text) {
        Ok(head) => head,
        Err(e) => return (None, Err(Refusal::malformed(format!("Not a message: {e}")))),
    };
    let id = match head.id.map(request_id).transpose() {
        Ok(id) => id,
        Err(refusal) => return (None, Err(refusal)),
    };
    let request =
        json::check(text).map_err(|e| cause(&head.kind, &e)).and_then(|()| read(&head.kind, text, settings));
    (id, request.map_err(|why| Refusal::bad(excerpt(&why))))
}

fn request_id(raw: &RawValue) -> Result<u64, Refusal> {
    serde_json::from_str(raw.get())
        .ok()
        .filter(|id| *id <= MAX_ID)
        .ok_or_else(|| Refusal::bad(format!("'id' must be an integer from 0 to {MAX_ID}")))
}

fn read<'a>(kind: &str, text: &'a str, settings: &Settings) -> Result<Request<'a>, String> {
    let request = match kind {
        "hello" => {
            let Hello { client } = fields(text, kind)?;
            label(client.as_deref(), "client", settings.name_chars)?;
            Request::Hello { client }
        }
        "join" => {
            let join: Join<'_> = fields(text, kind)?;
            identifier(&join.room, "room", settings.room_chars)?;
            label(join.name.as_deref(), "name", settings.name_chars)?;
            Request::Join(join)
        }
        "signal" => {
            let signal: Signal<'_> = fields(text, kind)?;
            identifier(&signal.pc, "pc", PC_CHARS)?;
            match (signal.description, signal.candidates) {
                (Some(description), None) => check_description(description)?,
                (None, Some(candidates)) => check_candidates(candidates, settings.candidates)?,
                _ => return Err("signal: needs either 'description' or 'candidates'".into()),
            }
            Request::Signal(signal)
        }
        "message" => Request::Message(fields(text, kind)?),
        "report" => Request::Report(report(fields(text, kind)?)?),
        "ice" => Request::Ice,
        "leave" => Request::Leave,
        "bye" => Request::Bye,
        _ => return Err(format!("Unknown type '{}'; there are {REQUESTS}", kind.get(..32).unwrap_or(kind))),
    };
    Ok(request)
}

fn fields<'a, T: Deserialize<'a>>(json: &'a str, what: &str) -> Result<T, String> {
    if json.trim_start().starts_with('{') {
        serde_json::from_str(json).map_err(|e| cause(what, &e))
    } else {
        Err(format!("{what}: not an object"))
    }
}

/// Without the position: in a part of the message it would mislead.
fn cause(what: &str, error: &serde_json::Error) -> String {
    let text = error.to_string();
    format!("{what}: {}", text.rsplit_once(" at line ").map_or(text.as_str(), |(cause, _)| cause))
}

fn identifier(text: &str, field: &str, chars: usize) -> Result<(), String> {
    if is_identifier(text, chars) {
        return Ok(());
    }
    Err(format!(
        "'{field}' must have 1 to {chars} letters, digits, '-', '_', '.', '~', and begin with a letter or digit"
    ))
}

fn label(text: Option<&str>, field: &str, chars: usize) -> Result<(), String> {
    if text.is_none_or(|text| is_label(text, chars)) {
        return Ok(());
    }
    Err(format!("'{field}' must have at most {chars} characters, none of them a control character"))
}

fn check_description(raw: &RawValue) -> Result<(), String> {
    let Description { kind, sdp } = fields(raw.get(), "description")?;
    if sdp.is_none() && kind != DescriptionKind::Rollback {
        return Err("description: missing field `sdp`".into());
    }
    Ok(())
}

fn check_candidates(raw: &RawValue, max: usize) -> Result<(), String> {
    let all: Vec<Option<&RawValue>> = serde_json::from_str(raw.get()).map_err(|e| cause("candidates", &e))?;
    if all.is_empty() || all.len() > max {
        return Err(format!("candidates: {} of them; a message has 1 to {max}", all.len()));
    }
    all.into_iter().flatten().try_for_each(|one| fields::<Candidate<'_>>(one.get(), "candidate").map(drop))
}

fn report(raw: RawReport<'_>) -> Result<Report, String> {
    let RawReport { pc, peer, state, ms, local, remote, relay, rtt_ms, errors } = raw;
    identifier(&pc, "pc", PC_CHARS)?;
    if let Some(peer) = &peer {
        identifier(peer, "peer", PC_CHARS)?;
    }
    let errors = errors.unwrap_or_default();
    if errors.len() > REPORTED_ERRORS {
        return Err(format!("errors: {} of them; a report has at most {REPORTED_ERRORS}", errors.len()));
    }
    let errors = errors
        .into_iter()
        .map(|raw| {
            let RawReportedError { url, code } = fields(raw.get(), "errors")?;
            label(Some(&url), "url", URL_CHARS)?;
            Ok(ReportedError { url: url.into_owned(), code })
        })
        .collect::<Result<_, String>>()?;
    let peer = peer.map(Cow::into_owned);
    Ok(Report { pc: pc.into_owned(), peer, state, ms, local, remote, relay, rtt_ms, errors })
}

/// What the server sends.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum Frame<'a> {
    Welcome {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        session: &'a str,
        secret: &'a str,
        resumed: bool,
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
        peers: &'a [Member<'a>],
        ice: Option<&'a RawValue>,
    },
    Peer {
        seq: u64,
        #[serde(flatten)]
        event: PeerEvent<'a>,
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
    Ice {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        ice: &'a RawValue,
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
    pub(super) state: State,
    pub(super) you: Roles,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Here,
}

#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(super) enum PeerEvent<'a> {
    Join { peer: &'a str, name: Option<&'a str>, you: Roles },
    Leave { peer: &'a str },
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
    /// The text of the frame.
    pub(super) fn encode(&self) -> Arc<str> {
        // Only a map whose keys are no strings could fail, and there is none.
        serde_json::to_string(self).map_or_else(|_| INTERNAL.into(), Arc::from)
    }
}

const INTERNAL: &str =
    r#"{"type":"error","code":"internal","message":"Internal error","retry_ms":null,"fatal":false}"#;
