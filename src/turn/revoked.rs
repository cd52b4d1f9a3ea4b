//! Credentials that end before their time: those of a member that left its room, and what the operator takes back.
//!
//! They are remembered until the process ends: a restart forgets them, and only another secret is for good.

use std::collections::HashMap;
use std::sync::Arc;

use ahash::RandomState;

use super::{EndReason, Server};
use crate::time::Now;

/// Names of one shard; with one more the one that ends first is forgotten.
const MAX: usize = 16_384;

/// Names, and until when they must be remembered: the end of their last credential, in seconds since the Unix epoch.
#[derive(Debug)]
pub(super) struct Revoked(HashMap<Arc<str>, u64, RandomState>);

impl Revoked {
    pub(super) fn new(hasher: RandomState) -> Self {
        Self(HashMap::with_hasher(hasher))
    }

    pub(super) fn has_one_of(&self, names: [&str; 2], now: Now) -> bool {
        // Most servers have no rooms, and most rooms are quiet.
        let has = |name: &str| self.0.get(name).is_some_and(|until| *until > now.unix);
        !self.0.is_empty() && names.into_iter().any(has)
    }

    fn insert(&mut self, user: &str, until: u64, now: Now) {
        if self.0.len() >= MAX {
            self.0.retain(|_, until| *until > now.unix);
        }
        if self.0.len() >= MAX
            && let Some(first) = self.0.iter().min_by_key(|(_, until)| **until).map(|(user, _)| user.clone())
        {
            self.0.remove(&first);
        }
        self.0.insert(user.into(), until);
    }
}

impl Server {
    /// Ends the allocations made with a name, which is a user's or the whole USERNAME of one credential, and refuses it
    /// until the last credential of that name has expired, at `expires` (seconds since the Unix epoch). Says how many
    /// it ended.
    pub fn revoke(&mut self, now: Now, name: &str, expires: u64) -> usize {
        if expires > now.unix {
            self.revoked.insert(name, expires, now);
        }
        let of_name = |(slot, allocation): (usize, &super::allocation::Allocation)| {
            [&allocation.owner.user, &allocation.owner.username].iter().any(|n| &***n == name).then_some(slot)
        };
        let slots: Vec<usize> = self.allocations.iter().filter_map(of_name).collect();
        for &slot in &slots {
            if !self.abandon(slot) {
                self.end(now, slot, EndReason::Revoked);
            }
        }
        slots.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Instant;

    #[test]
    fn names_are_forgotten_when_their_time_is_over_or_there_are_too_many() {
        let at = |unix| Now { instant: Instant::from_millis(0), unix };
        let has = |name, revoked: &Revoked, unix| revoked.has_one_of(["another", name], at(unix));
        let mut revoked = Revoked::new(RandomState::new());
        revoked.insert("early", 10, at(0));
        assert!(has("early", &revoked, 9));
        assert!(!has("early", &revoked, 10));
        assert!(!has("nobody", &revoked, 0));
        for n in 0..MAX {
            revoked.insert(&n.to_string(), 1000 + n as u64, at(0));
        }
        assert_eq!(revoked.0.len(), MAX);
        assert!(!has("early", &revoked, 0));
        revoked.insert("last", 5000, at(1999));
        assert_eq!(revoked.0.len(), MAX - 1000 + 1);
    }
}
