//! What has something to read that no event will announce: its budget was used up, or it was read before it was
//! watched. It gets its turn in the next round, which does not sleep.

use std::collections::{HashSet, VecDeque};

use ahash::RandomState;
use mio::Token;

/// A queue in which each token waits once, however often it is asked for: whoever floods gets one more turn in a
/// round, not one more for each round before.
pub(super) struct Again {
    queue: VecDeque<Token>,
    waiting: HashSet<Token, RandomState>,
}

impl Again {
    pub(super) fn new(hasher: RandomState) -> Self {
        Self { queue: VecDeque::new(), waiting: HashSet::with_hasher(hasher) }
    }

    pub(super) fn push(&mut self, token: Token) {
        if self.waiting.insert(token) {
            self.queue.push_back(token);
        }
    }

    pub(super) fn pop(&mut self) -> Option<Token> {
        let token = self.queue.pop_front()?;
        self.waiting.remove(&token);
        Some(token)
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_waits_once_and_in_order() {
        let mut again = Again::new(RandomState::with_seeds(1, 2, 3, 4));
        for token in [3, 1, 3, 2, 1, 3] {
            again.push(Token(token));
        }
        assert_eq!(again.len(), 3);
        assert_eq!(again.pop(), Some(Token(3)));
        again.push(Token(3));
        let rest: Vec<_> = std::iter::from_fn(|| again.pop()).collect();
        assert_eq!(rest, [Token(1), Token(2), Token(3)]);
        assert!(again.is_empty());
    }
}
