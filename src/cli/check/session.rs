//! One client of the server: requests and their answers, and relayed data.
//!
//! Messages and attributes are those of the `stun` and `turn` crates: a request is a list of their setters. Added here
//! are the signature, the second try after "438 Stale Nonce", and the waiting for the answer: `stun::client` reads
//! 120 bytes of each, which is less than many servers send.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::stun::Error as CodecError;
use ::stun::agent::TransactionId;
use ::stun::attributes::{ATTR_NONCE, ATTR_REALM, ATTR_SOFTWARE, ATTR_USERNAME};
use ::stun::error_code::ErrorCodeAttribute;
use ::stun::fingerprint::FINGERPRINT;
use ::stun::integrity::MessageIntegrity;
use ::stun::message::{
    CLASS_INDICATION, CLASS_REQUEST, CLASS_SUCCESS_RESPONSE, Getter, METHOD_DATA, METHOD_SEND, Message,
    MessageType, Method, Setter,
};
use ::stun::textattrs::TextAttribute;
use ::turn::proto::chandata::ChannelData;
use ::turn::proto::channum::ChannelNumber;
use ::turn::proto::data::Data;
use ::turn::proto::peeraddr::PeerAddress;
use tokio::time::{sleep, timeout};

use super::login::Login;
use super::wire::{Fault, Wire};

/// The attributes of a request.
pub(super) type Setters = Vec<Box<dyn Setter>>;

/// Why there is no answer.
#[derive(Clone, Debug)]
pub(super) enum Trouble {
    /// None came in time.
    Silence,
    /// The connection broke.
    Lost(Fault),
    /// One came, and makes no sense.
    Nonsense(String),
}

impl From<CodecError> for Trouble {
    fn from(error: CodecError) -> Self {
        Self::Nonsense(error.to_string())
    }
}

/// A response.
#[derive(Debug)]
pub(super) enum Answer {
    Success(Message),
    Error { code: u16, reason: String, message: Message },
}

/// What a challenge asks to sign with, and who signs.
struct Signer {
    username: String,
    realm: String,
    nonce: String,
    key: MessageIntegrity,
}

/// Relayed data.
#[derive(Debug)]
pub(super) enum Relayed {
    ByChannel(u16, Vec<u8>),
    ByIndication(SocketAddr, Vec<u8>),
}

/// One client of the server.
pub(super) struct Session {
    pub(super) wire: Arc<Wire>,
    /// Came while an answer was waited for.
    early: Mutex<VecDeque<Relayed>>,
    signer: Option<Signer>,
    patience: Duration,
}

/// Datagrams that come before an answer and are kept.
const MOST: usize = 64;
/// When a datagram is sent again for the first time; then after twice as long each.
const RETRANSMIT: Duration = Duration::from_millis(300);

impl Session {
    /// No request is waited for longer than `patience`.
    pub(super) fn over(wire: Arc<Wire>, patience: Duration) -> Self {
        Self { wire, early: Mutex::default(), signer: None, patience }
    }

    /// Signs what is asked from here on, as the challenge of a 401 has it.
    ///
    /// # Errors
    /// What the challenge lacks.
    pub(super) fn sign_as(&mut self, login: &Login, challenge: &Message) -> Result<(), &'static str> {
        let text = |kind| TextAttribute::get_from_as(challenge, kind).map(|a| a.text);
        let realm = text(ATTR_REALM).map_err(|_| "REALM")?;
        let nonce = text(ATTR_NONCE).map_err(|_| "NONCE")?;
        let (username, password) = (login.username.clone(), login.password.0.clone());
        let key = MessageIntegrity::new_long_term_integrity(username.clone(), realm.clone(), password);
        self.signer = Some(Signer { username, realm, nonce, key });
        Ok(())
    }

    /// Asks, signed if there is something to sign with, and waits for the answer.
    pub(super) async fn ask(
        &mut self,
        method: Method,
        attributes: impl Fn() -> Setters,
    ) -> Result<Answer, Trouble> {
        let answer = self.ask_once(method, attributes()).await?;
        if let (Answer::Error { code: 438, message, .. }, Some(signer)) = (&answer, &mut self.signer)
            && let Ok(nonce) = TextAttribute::get_from_as(message, ATTR_NONCE)
        {
            signer.nonce = nonce.text;
            return self.ask_once(method, attributes()).await;
        }
        Ok(answer)
    }

    async fn ask_once(&self, method: Method, attributes: Setters) -> Result<Answer, Trouble> {
        let mut parts: Setters =
            vec![Box::new(TransactionId::new()), Box::new(MessageType::new(method, CLASS_REQUEST))];
        parts.extend(attributes);
        if let Some(signer) = &self.signer {
            let text = |kind, text: &String| Box::new(TextAttribute::new(kind, text.clone()));
            parts.push(text(ATTR_USERNAME, &signer.username));
            parts.push(text(ATTR_REALM, &signer.realm));
            parts.push(text(ATTR_NONCE, &signer.nonce));
            parts.push(Box::new(signer.key.clone()));
        }
        parts.push(Box::new(FINGERPRINT));
        let mut request = Message::new();
        request.build(&parts)?;

        let mut response = self.transact(&request).await?;
        if response.typ.class == CLASS_SUCCESS_RESPONSE {
            if let Some(signer) = &self.signer
                && signer.key.check(&mut response).is_err()
            {
                return Err(Trouble::Nonsense("its MESSAGE-INTEGRITY is missing or wrong".into()));
            }
            return Ok(Answer::Success(response));
        }
        let mut error = ErrorCodeAttribute::default();
        error.get_from(&response)?;
        let reason = String::from_utf8_lossy(&error.reason).into_owned();
        Ok(Answer::Error { code: error.code.0, reason, message: response })
    }

    async fn transact(&self, request: &Message) -> Result<Message, Trouble> {
        let lost = |error: io::Error| Trouble::Lost(Fault::from(&error));
        let send = async {
            let mut pause = RETRANSMIT;
            loop {
                self.wire.write(&request.raw).await.map_err(lost)?;
                sleep(pause).await;
                pause *= 2;
                if self.wire.is_stream() {
                    // What is lost is sent again by TCP.
                    pause = self.patience;
                }
            }
        };
        let receive = async {
            loop {
                let bytes = self.next().await.map_err(lost)?;
                let mut message = Message::new();
                let parsed = message.unmarshal_binary(&bytes);
                if parsed.is_ok()
                    && message.transaction_id == request.transaction_id
                    && message.typ.method == request.typ.method
                    && message.typ.class != CLASS_REQUEST
                {
                    return Ok(message);
                }
                let mut early = self.early.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(relayed) = relayed(bytes).filter(|_| early.len() < MOST) {
                    early.push_back(relayed);
                }
            }
        };
        let either = async {
            tokio::select! {
                response = receive => response,
                gone = send => gone,
            }
        };
        timeout(self.patience, either).await.unwrap_or(Err(Trouble::Silence))
    }

    async fn next(&self) -> io::Result<Vec<u8>> {
        let mut buf = vec![0; usize::from(u16::MAX)];
        let n = self.wire.read(&mut buf).await?;
        buf.truncate(n);
        Ok(buf)
    }

    /// Sends to a peer that has a permission.
    pub(super) async fn send(&self, peer: SocketAddr, data: &[u8]) {
        let parts: [Box<dyn Setter>; 4] = [
            Box::new(TransactionId::new()),
            Box::new(MessageType::new(METHOD_SEND, CLASS_INDICATION)),
            Box::new(PeerAddress { ip: peer.ip(), port: peer.port() }),
            Box::new(Data(data.to_vec())),
        ];
        let mut message = Message::new();
        if message.build(&parts).is_ok() {
            let _ = self.wire.write(&message.raw).await;
        }
    }

    /// Sends over a channel that is bound.
    pub(super) async fn send_by_channel(&self, number: u16, data: &[u8]) {
        let mut message =
            ChannelData { number: ChannelNumber(number), data: data.to_vec(), ..ChannelData::default() };
        message.encode();
        let _ = self.wire.write(&message.raw).await;
    }

    /// The next relayed data. Waits for ever when the connection is lost.
    pub(super) async fn receive(&self) -> Relayed {
        loop {
            let early = self.early.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            if let Some(relayed) = early {
                return relayed;
            }
            match self.next().await {
                Ok(bytes) => {
                    if let Some(relayed) = relayed(bytes) {
                        return relayed;
                    }
                }
                Err(_) => std::future::pending().await,
            }
        }
    }
}

fn relayed(bytes: Vec<u8>) -> Option<Relayed> {
    if ChannelData::is_channel_data(&bytes) {
        let mut message = ChannelData { raw: bytes, ..ChannelData::default() };
        message.decode().ok()?;
        return Some(Relayed::ByChannel(message.number.0, message.data));
    }
    let mut message = Message::new();
    message.unmarshal_binary(&bytes).ok()?;
    if message.typ != MessageType::new(METHOD_DATA, CLASS_INDICATION) {
        return None;
    }
    let (mut peer, mut data) = (PeerAddress::default(), Data::default());
    peer.get_from(&message).ok()?;
    data.get_from(&message).ok()?;
    Some(Relayed::ByIndication(SocketAddr::new(peer.ip, peer.port), data.0))
}

/// SOFTWARE, if the server tells it.
pub(super) fn software(message: &Message) -> Option<String> {
    TextAttribute::get_from_as(message, ATTR_SOFTWARE).ok().map(|a| a.text).filter(|text| !text.is_empty())
}
