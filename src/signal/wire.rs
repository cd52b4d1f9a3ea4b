//! What clients send: [`parse`] reads and checks it. (What they get is in `frame.rs`.)
//!
//! Descriptions, candidates and data are checked in shape and size and passed on byte for byte. All else that a
//! client sends is read into a value and written anew, so nothing of it reaches others unless it is named here.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::access::Role;
use super::error::Refusal;
use super::event::{
    Report, ReportedCandidate, ReportedError, ReportedFamily, ReportedState, ReportedTransport,
};
use super::json::Object;
use super::settings::Settings;
use super::text::{excerpt, is_identifier, is_label};

/// The largest integer that every JSON parser keeps (RFC 8259 section 6).
const MAX_ID: u64 = (1 << 53) - 1;
/// Bounds of names that the server passes on but does not keep.
const PC_CHARS: usize = 64;
const URL_CHARS: usize = 256;
/// Of a value in the state of a room.
const KEY_CHARS: usize = 64;
/// Names in tokens are no longer than this, whatever the settings say of others.
const CLAIMED_NAME_CHARS: usize = 64;
const REPORTED_ERRORS: usize = 16;
const PIN_CHARS: usize = 64;
/// Seconds: a day.
const MAX_BAN: u64 = 86_400;
/// Seconds of an invite: from a minute to 30 days.
const INVITE_SECONDS: std::ops::RangeInclusive<u64> = 60..=30 * 86_400;

const REQUESTS: &str =
    "hello, join, ready, signal, message, set, ice, report, lock, kick, invite, leave, bye";

/// What a client asks for, checked.
#[derive(Debug)]
pub(super) enum Request<'a> {
    Hello(Hello<'a>),
    Join(Join<'a>),
    Ready,
    Signal(Signal<'a>),
    Message(Message<'a>),
    Set(Set<'a>),
    Ice,
    Report(Report),
    Lock { locked: bool },
    Kick(Kick<'a>),
    Invite(Invite<'a>),
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
pub(super) struct Hello<'a> {
    #[serde(borrow)]
    pub(super) client: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) token: Option<Cow<'a, str>>,
    #[serde(borrow)]
    resume: Option<&'a RawValue>,
    #[serde(skip)]
    pub(super) resumes: Option<Resume<'a>>,
}

/// Which session to go on with, and the number of the last event that was seen of it.
#[derive(Debug, Deserialize)]
pub(super) struct Resume<'a> {
    #[serde(borrow)]
    pub(super) session: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) secret: Cow<'a, str>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) seq: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Join<'a> {
    #[serde(borrow)]
    pub(super) room: Cow<'a, str>,
    pub(super) create: Option<Create>,
    #[serde(borrow)]
    pub(super) name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) pin: Option<Cow<'a, str>>,
    pub(super) capacity: Option<usize>,
    pub(super) history: Option<usize>,
    pub(super) ready: Option<bool>,
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
    #[serde(borrow)]
    pc: Option<Cow<'a, str>>,
    #[serde(rename = "gen", default, deserialize_with = "or_default")]
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
pub(super) struct Set<'a> {
    #[serde(borrow)]
    pub(super) key: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) value: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct Lock {
    locked: Option<bool>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Kick<'a> {
    #[serde(borrow)]
    pub(super) peer: Cow<'a, str>,
    pub(super) ban_s: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Invite<'a> {
    pub(super) ttl_s: Option<u64>,
    #[serde(borrow)]
    pub(super) name: Option<Cow<'a, str>>,
    pub(super) role: Option<Role>,
}

#[derive(Debug, Deserialize)]
struct Description<'a> {
    #[serde(rename = "type")]
    kind: DescriptionKind,
    /// Nobody here reads it: it is only known to be a string.
    #[serde(borrow)]
    sdp: Option<&'a RawValue>,
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
    #[serde(borrow)]
    pc: Option<Cow<'a, str>>,
    #[serde(borrow)]
    peer: Option<Cow<'a, str>>,
    state: ReportedState,
    ms: Option<u64>,
    local: Option<ReportedCandidate>,
    remote: Option<ReportedCandidate>,
    relay: Option<ReportedTransport>,
    family: Option<ReportedFamily>,
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

/// `null` is as good as absent.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(value: D) -> Result<T, D::Error> {
    Option::deserialize(value).map(Option::unwrap_or_default)
}

/// Which RTCPeerConnection, if there are several.
fn main_or(pc: Option<&str>) -> &str {
    pc.unwrap_or("main")
}

impl Signal<'_> {
    pub(super) fn pc(&self) -> &str {
        main_or(self.pc.as_deref())
    }
}

/// Reads a message: its id, as far as it can be echoed, and the request or what is wrong with it.
pub(super) fn parse<'a>(text: &'a str, settings: &Settings) -> (Option<u64>, Result<Request<'a>, Refusal>) {
    // An array would do for a struct, too: serde reads its fields by position.
    if !text.trim_start().starts_with('{') {
        return (None, Err(Refusal::malformed("Not a JSON object")));
    }
    let object = Object::of(text);
    let head: Head<'_> = match object.as_ref().map_or_else(|_| serde_json::from_str(text), Object::read) {
        Ok(head) => head,
        Err(e) => return (None, Err(Refusal::malformed(format!("Not a message: {e}")))),
    };
    let id = match head.id.map(request_id).transpose() {
        Ok(id) => id,
        Err(refusal) => return (None, Err(refusal)),
    };
    let request = object
        .map_err(|why| format!("{}: {why}", head.kind))
        .and_then(|object| read(&head.kind, &object, settings));
    (id, request.map_err(|why| Refusal::bad(excerpt(&why))))
}

/// The token that a `hello` shows: for drivers that have to fetch its key before they pass the message on. One that
/// hides behind escapes is not found; it is looked at with the keys there are.
pub fn shown_token(text: &str) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Shown<'a> {
        #[serde(rename = "type", borrow)]
        kind: Cow<'a, str>,
        #[serde(borrow)]
        token: Option<Cow<'a, str>>,
    }
    // Nearly all messages are others: they are not read twice.
    if !text.contains("\"token\"") {
        return None;
    }
    serde_json::from_str::<Shown<'_>>(text).ok().filter(|shown| shown.kind == "hello")?.token
}

fn request_id(raw: &RawValue) -> Result<u64, Refusal> {
    serde_json::from_str(raw.get())
        .ok()
        .filter(|id| *id <= MAX_ID)
        .ok_or_else(|| Refusal::bad(format!("'id' must be an integer from 0 to {MAX_ID}")))
}

fn read<'a>(kind: &str, object: &Object<'a>, settings: &Settings) -> Result<Request<'a>, String> {
    let request = match kind {
        "hello" => {
            let mut hello: Hello<'_> = fields(object, kind)?;
            label(hello.client.as_deref(), "client", settings.name_chars)?;
            hello.resumes = hello.resume.take().map(|raw| part(raw, "resume")).transpose()?;
            Request::Hello(hello)
        }
        "join" => {
            let join: Join<'_> = fields(object, kind)?;
            identifier(&join.room, "room", settings.room_chars)?;
            label(join.name.as_deref(), "name", settings.name_chars)?;
            if join.pin.as_ref().is_some_and(|pin| pin.is_empty() || pin.chars().nth(PIN_CHARS).is_some()) {
                return Err(format!("'pin' must have 1 to {PIN_CHARS} characters"));
            }
            if join.capacity.is_some_and(|capacity| capacity < 2) {
                return Err("'capacity' must be 2 or more".into());
            }
            Request::Join(join)
        }
        "signal" => {
            let signal: Signal<'_> = fields(object, kind)?;
            identifier(signal.pc(), "pc", PC_CHARS)?;
            match (signal.description, signal.candidates) {
                (Some(description), None) => check_description(description)?,
                (None, Some(candidates)) => check_candidates(candidates, settings.candidates)?,
                _ => return Err("signal: needs either 'description' or 'candidates'".into()),
            }
            Request::Signal(signal)
        }
        "message" => Request::Message(fields(object, kind)?),
        "set" => {
            let set: Set<'_> = fields(object, kind)?;
            identifier(&set.key, "key", KEY_CHARS)?;
            Request::Set(set)
        }
        "lock" => {
            let Lock { locked } = fields(object, kind)?;
            Request::Lock { locked: locked.unwrap_or(true) }
        }
        "kick" => {
            let kick: Kick<'_> = fields(object, kind)?;
            if kick.ban_s.is_some_and(|seconds| seconds > MAX_BAN) {
                return Err(format!("'ban_s' must be from 0 to {MAX_BAN}"));
            }
            Request::Kick(kick)
        }
        "invite" => {
            let invite: Invite<'_> = fields(object, kind)?;
            label(invite.name.as_deref(), "name", settings.name_chars.min(CLAIMED_NAME_CHARS))?;
            if invite.ttl_s.is_some_and(|seconds| !INVITE_SECONDS.contains(&seconds)) {
                let (min, max) = (INVITE_SECONDS.start(), INVITE_SECONDS.end());
                return Err(format!("'ttl_s' must be from {min} to {max}"));
            }
            Request::Invite(invite)
        }
        "ready" => Request::Ready,
        "report" => Request::Report(report(fields(object, kind)?)?),
        "ice" => Request::Ice,
        "leave" => Request::Leave,
        "bye" => Request::Bye,
        _ => return Err(format!("Unknown type '{}'; there are {REQUESTS}", kind.get(..32).unwrap_or(kind))),
    };
    Ok(request)
}

fn fields<'a, T: Deserialize<'a>>(object: &Object<'a>, what: &str) -> Result<T, String> {
    object.read().map_err(|e| cause(what, &e))
}

/// Reads a value that must be an object.
fn part<'a, T: Deserialize<'a>>(raw: &'a RawValue, what: &str) -> Result<T, String> {
    fields(&Object::of(raw.get()).map_err(|_| format!("{what}: not an object"))?, what)
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
    let Description { kind, sdp } = part(raw, "description")?;
    match sdp {
        None if kind != DescriptionKind::Rollback => Err("description: missing field `sdp`".into()),
        Some(sdp) if !sdp.get().starts_with('"') => Err("description: `sdp` is not a string".into()),
        _ => Ok(()),
    }
}

fn check_candidates(raw: &RawValue, max: usize) -> Result<(), String> {
    let all: Vec<Option<&RawValue>> = serde_json::from_str(raw.get()).map_err(|e| cause("candidates", &e))?;
    if all.is_empty() || all.len() > max {
        return Err(format!("candidates: {} of them; a message has 1 to {max}", all.len()));
    }
    all.into_iter().flatten().try_for_each(|one| part::<Candidate<'_>>(one, "candidate").map(drop))
}

fn report(raw: RawReport<'_>) -> Result<Report, String> {
    let RawReport { pc, peer, state, ms, local, remote, relay, family, rtt_ms, errors } = raw;
    let pc = main_or(pc.as_deref()).to_owned();
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
            let RawReportedError { url, code } = part(raw, "errors")?;
            label(Some(&url), "url", URL_CHARS)?;
            Ok(ReportedError { url: url.into_owned(), code })
        })
        .collect::<Result<_, String>>()?;
    let peer = peer.map(Cow::into_owned);
    Ok(Report { pc, peer, state, ms, local, remote, relay, family, rtt_ms, errors })
}
