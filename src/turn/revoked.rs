//! Users whose credentials end before their time: a member that left its room.

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

    pub(super) fn contains(&self, user: &str, now: Now) -> bool {
        // Most servers have no rooms, and most rooms are quiet.
        !self.0.is_empty() && self.0.get(user).is_some_and(|until| *until > now.unix)
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
    /// Ends all allocations of a user, and refuses its credentials until the last of them has expired, at `expires`
    /// (seconds since the Unix epoch).
    pub fn revoke(&mut self, now: Now, user: &str, expires: u64) {
        if expires > now.unix {
            self.revoked.insert(user, expires, now);
        }
        let of_user = |(slot, allocation): (usize, &super::allocation::Allocation)| {
            (&*allocation.owner.user == user).then_some(slot)
        };
        for slot in self.allocations.iter().filter_map(of_user).collect::<Vec<_>>() {
            if !self.abandon(slot) {
                self.end(now, slot, EndReason::Revoked);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Instant;

    #[test]
    fn names_are_forgotten_when_their_time_is_over_or_there_are_too_many() {
        let at = |unix| Now { instant: Instant::from_millis(0), unix };
        let mut revoked = Revoked::new(RandomState::new());
        revoked.insert("early", 10, at(0));
        assert!(revoked.contains("early", at(9)));
        assert!(!revoked.contains("early", at(10)));
        assert!(!revoked.contains("nobody", at(0)));
        for n in 0..MAX {
            revoked.insert(&n.to_string(), 1000 + n as u64, at(0));
        }
        assert_eq!(revoked.0.len(), MAX);
        assert!(!revoked.contains("early", at(0)));
        revoked.insert("last", 5000, at(1999));
        assert_eq!(revoked.0.len(), MAX - 1000 + 1);
    }
}
