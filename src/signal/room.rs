//! One room: who is in it, who may come, and what it remembers. It exists as long as it has members.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::session::SessionKey;
use crate::time::Instant;

/// Bans of one room; with one more the one that ends first is forgotten.
const BANS: usize = 256;

#[derive(Debug)]
pub(super) struct Room {
    /// In the order they came. Never empty.
    pub(super) members: Vec<SessionKey>,
    pub(super) capacity: usize,
    pub(super) pin: Option<Pin>,
    pub(super) locked: bool,
    pub(super) values: Values,
    pub(super) history: History,
    bans: Vec<Ban>,
}

/// Of a PIN only its hash is kept.
#[derive(Debug)]
pub(super) struct Pin([u8; 32]);

/// Whom a ban is for: who the token says, or an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Banned {
    Subject(Arc<str>),
    Address(IpAddr),
}

#[derive(Debug)]
struct Ban {
    who: Banned,
    until: Instant,
}

/// What all members know: a small map of JSON values.
#[derive(Debug, Default)]
pub(super) struct Values {
    map: BTreeMap<Box<str>, Box<RawValue>>,
    bytes: usize,
}

/// The last messages to all.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) limit: usize,
    messages: VecDeque<Past>,
    bytes: usize,
}

#[derive(Debug)]
pub(super) struct Past {
    pub(super) from: Arc<str>,
    pub(super) name: Option<Arc<str>>,
    pub(super) data: Box<RawValue>,
    pub(super) at: Instant,
}

impl Room {
    pub(super) fn new(capacity: usize, pin: Option<&str>, history: usize) -> Self {
        Self {
            members: Vec::new(),
            capacity,
            pin: pin.map(Pin::new),
            locked: false,
            values: Values::default(),
            history: History { limit: history, ..History::default() },
            bans: Vec::new(),
        }
    }

    /// Is this the PIN, or none where there is none?
    pub(super) fn opens(&self, shown: Option<&str>) -> bool {
        match (&self.pin, shown) {
            (None, None) => true,
            (Some(pin), Some(shown)) => pin.0.ct_eq(&Pin::new(shown).0).into(),
            _ => false,
        }
    }

    pub(super) fn ban(&mut self, who: Banned, until: Instant) {
        self.bans.retain(|ban| ban.who != who);
        if self.bans.len() >= BANS
            && let Some(first) = (0..self.bans.len()).min_by_key(|at| self.bans[*at].until)
        {
            self.bans.swap_remove(first);
        }
        self.bans.push(Ban { who, until });
    }

    /// Until when, if at all.
    pub(super) fn banned(
        &self,
        subject: Option<&Arc<str>>,
        address: IpAddr,
        now: Instant,
    ) -> Option<Instant> {
        let is_meant = |who: &Banned| match who {
            Banned::Subject(banned) => subject == Some(banned),
            Banned::Address(banned) => *banned == address,
        };
        self.bans.iter().filter(|ban| ban.until > now && is_meant(&ban.who)).map(|ban| ban.until).max()
    }
}

impl Pin {
    fn new(pin: &str) -> Self {
        Self(Sha256::digest(pin).into())
    }
}

/// There is no room for it.
#[derive(Debug)]
pub(super) struct Full;

impl Values {
    /// Writes a value, or removes it.
    pub(super) fn set(&mut self, key: &str, value: Option<&RawValue>, max_bytes: usize) -> Result<(), Full> {
        let size = |value: &RawValue| key.len() + value.get().len();
        let before = self.map.get(key).map_or(0, |value| size(value));
        let after = self.bytes - before + value.map_or(0, size);
        if after > max_bytes && value.is_some() {
            return Err(Full);
        }
        match value {
            Some(value) => drop(self.map.insert(key.into(), value.to_owned())),
            None => drop(self.map.remove(key)),
        }
        self.bytes = after;
        Ok(())
    }
}

impl Serialize for Values {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.map.len()))?;
        for (key, value) in &self.map {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl History {
    pub(super) fn push(&mut self, past: Past, max_bytes: usize) {
        if self.limit == 0 {
            return;
        }
        self.bytes += past.data.get().len();
        self.messages.push_back(past);
        while self.messages.len() > self.limit || self.bytes > max_bytes {
            let Some(oldest) = self.messages.pop_front() else { break };
            self.bytes -= oldest.data.get().len();
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Past> {
        self.messages.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.into()).unwrap()
    }

    #[test]
    fn values_are_bounded_by_the_bytes_of_keys_and_values() {
        let mut values = Values::default();
        assert!(values.set("key", Some(&raw("1234567")), 10).is_ok());
        assert!(values.set("a", Some(&raw("1")), 10).is_err());
        assert!(values.set("key", Some(&raw("12345678")), 10).is_err());
        assert!(values.set("key", Some(&raw("12345")), 10).is_ok());
        assert!(values.set("a", Some(&raw("1")), 10).is_ok());
        assert!(values.set("nobody", None, 10).is_ok());
        assert_eq!(serde_json::to_string(&values).unwrap(), r#"{"a":1,"key":12345}"#);
        assert!(values.set("key", None, 10).is_ok());
        assert_eq!(values.bytes, 2);
    }

    #[test]
    fn history_keeps_the_last_ones() {
        let past =
            |data: &str| Past { from: "p".into(), name: None, data: raw(data), at: Instant::from_millis(0) };
        let mut history = History { limit: 3, ..History::default() };
        for n in 10..20 {
            history.push(past(&n.to_string()), 100);
        }
        let kept = |history: &History| history.iter().map(|p| p.data.get().to_owned()).collect::<Vec<_>>();
        assert_eq!(kept(&history), ["17", "18", "19"]);
        history.push(past("123456"), 8);
        assert_eq!(kept(&history), ["19", "123456"]);
        history.push(past("123456789"), 8);
        assert_eq!((kept(&history).len(), history.bytes), (0, 0));
    }

    #[test]
    fn bans_end_and_are_bounded() {
        let mut room = Room::new(2, None, 0);
        let ms = Instant::from_millis;
        let address = |n: u32| IpAddr::V4(std::net::Ipv4Addr::from_bits(n));
        room.ban(Banned::Subject("bob".into()), ms(10));
        for n in 0..1000 {
            room.ban(Banned::Address(address(n)), ms(100 + u64::from(n)));
        }
        assert_eq!(room.bans.len(), BANS);
        assert_eq!(room.banned(None, address(999), ms(1098)), Some(ms(1099)));
        assert_eq!(room.banned(None, address(999), ms(1099)), None);
        assert_eq!(room.banned(None, address(0), ms(0)), None, "forgotten");
        room.ban(Banned::Subject("bob".into()), ms(5000));
        assert_eq!(room.banned(Some(&"bob".into()), address(5000), ms(0)), Some(ms(5000)));
    }
}
