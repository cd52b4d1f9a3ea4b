//! `hello`: begins a session, or goes on with one.

use std::sync::Arc;

use super::access::{BadToken, Claims, read_token};
use super::error::{ErrorCode, Refusal, close};
use super::frame::{Frame, PeerEvent};
use super::session::SessionKey;
use super::text::excerpt;
use super::wire::{Hello, Resume};
use super::{Authority, ConnectionId, Event, Output, Rooms};
use crate::auth::Secret;
use crate::time::Now;

impl Rooms {
    pub(super) fn hello(
        &mut self,
        now: Now,
        from: ConnectionId,
        id: Option<u64>,
        hello: &Hello<'_>,
        authority: &mut dyn Authority,
    ) -> Result<(), Refusal> {
        if self.draining {
            return Err(Refusal::new(ErrorCode::Draining, "The server is about to stop; come back later")
                .retry(super::FULL_RETRY)
                .fatal(close::DRAINING, "the server is about to stop"));
        }
        if let Some(resume) = &hello.resumes
            && let Some((key, missed)) = self.resume(now, from, resume)
        {
            self.go_on(now, from, id, key, missed);
            return Ok(());
        }
        let claims = hello.token.as_deref().map(|token| self.verify(now, token, authority)).transpose()?;
        let Some(key) = self.begin(from, claims) else { return Ok(()) };
        self.counters.sessions += 1;
        self.welcome(from, id, key, false);
        let Some(session) = self.sessions.get(&key) else { return Ok(()) };
        self.outputs.push_back(Output::Event(Event::Greeted {
            connection: from,
            from: session.from,
            session: session.id.clone(),
            client: hello.client.as_deref().map(Arc::from),
        }));
        Ok(())
    }

    /// A connection comes with what a session is resumed with, before any hello. If it can't be, a hello is due.
    pub fn come_back(&mut self, now: Now, connection: ConnectionId, session: &str, secret: &str, seq: u64) {
        let resume = Resume { session: session.into(), secret: secret.into(), seq };
        if !self.draining
            && self.links.contains_key(&connection)
            && let Some((key, missed)) = self.resume(now, connection, &resume)
        {
            self.go_on(now, connection, None, key, missed);
        }
    }

    /// Tells a client what it missed, and the others that it is back.
    fn go_on(&mut self, now: Now, from: ConnectionId, id: Option<u64>, key: SessionKey, missed: usize) {
        self.welcome(from, id, key, true);
        self.replay(now, key, missed);
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let (id, was_away) = (session.id.clone(), std::mem::take(&mut session.was_away));
        if let Some(place) = session.place.as_ref().filter(|_| was_away) {
            let peer = place.peer.clone();
            self.tell_others(key, &Frame::Peer { seq: 0, event: PeerEvent::Back { peer: &peer } });
        }
        self.outputs.push_back(Output::Event(Event::Resumed { connection: from, session: id, missed }));
    }

    fn welcome(&mut self, to: ConnectionId, id: Option<u64>, key: SessionKey, resumed: bool) {
        let Some(session) = self.sessions.get(&key) else { return };
        let settings = &self.settings;
        let optional = [("resume", !settings.resume.is_zero()), ("history", settings.history > 0)];
        let lacks = |feature: &&str| optional.contains(&(*feature, false));
        let features: Vec<_> = FEATURES.iter().copied().filter(|feature| !lacks(feature)).collect();
        let welcome = Frame::Welcome {
            id,
            session: &session.id,
            secret: &session.secret,
            resumed,
            last_id: session.last_id,
            ping_ms: settings.ping.as_millis() as u64,
            timeout_ms: settings.timeout.as_millis() as u64,
            resume_ms: settings.resume.as_millis() as u64,
            max_bytes: settings.max_bytes,
            server: &settings.server,
            features: &features,
        }
        .encode();
        self.send_text(to, welcome);
    }

    fn verify(&mut self, now: Now, token: &str, authority: &mut dyn Authority) -> Result<Claims, Refusal> {
        read_token(now, token, &self.invite_secret.bytes, authority).map_err(|bad| {
            self.counters.bad_tokens += 1;
            refuse_token(&bad)
        })
    }

    /// What invites of this server are signed with.
    pub fn invite_secret(&self) -> &Secret {
        &self.invite_secret
    }
}

/// Optional parts of the protocol, as `welcome` lists them.
const FEATURES: [&str; 8] = ["resume", "state", "history", "pin", "moderation", "ready", "tokens", "sse"];

pub(super) fn refuse_token(bad: &BadToken) -> Refusal {
    let (code, reason) = match bad {
        BadToken::Expired(_) => (ErrorCode::TokenExpired, "the token is over"),
        BadToken::Invalid(_) => (ErrorCode::Unauthorized, "the token is not valid"),
    };
    Refusal::new(code, excerpt(&bad.to_string())).fatal(close::AUTH, reason)
}
