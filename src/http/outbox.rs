//! What waits to be written to one WebSocket: bounded, and filled without waiting.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::signal::{Text, close};

#[derive(Debug)]
pub(super) struct Outbox {
    max_messages: usize,
    max_bytes: usize,
    queue: Mutex<Queue>,
    changed: Notify,
    closed: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<Text>,
    bytes: usize,
    close: Option<(u16, &'static str)>,
}

/// There is no room for another message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

/// What the writer does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Message(Text),
    /// The last thing: a close frame.
    Close(u16, &'static str),
}

impl Outbox {
    pub(super) fn new(max_messages: usize, max_bytes: usize) -> Self {
        Self {
            max_messages,
            max_bytes,
            queue: Mutex::default(),
            changed: Notify::new(),
            closed: Notify::new(),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a message; after [`close`](Self::close) it is dropped.
    pub(super) fn push(&self, text: Text) -> Result<(), Full> {
        let mut queue = self.queue();
        if queue.close.is_some() {
            return Ok(());
        }
        // An empty queue takes a message of any size.
        let fits = queue.messages.len() < self.max_messages && queue.bytes + text.size() <= self.max_bytes;
        if !fits && !queue.messages.is_empty() {
            return Err(Full);
        }
        queue.bytes += text.size();
        queue.messages.push_back(text);
        drop(queue);
        self.changed.notify_one();
        Ok(())
    }

    /// Ends it: after what waits, or, for who reads too slowly, instead of it. The first close counts.
    pub(super) fn close(&self, code: u16, reason: &'static str) {
        let mut queue = self.queue();
        if queue.close.is_none() {
            queue.close = Some((code, reason));
            if code == close::SLOW {
                queue.messages = VecDeque::new();
            }
        }
        drop(queue);
        self.changed.notify_one();
        self.closed.notify_one();
    }

    /// Waits for [`close`](Self::close). One caller at a time.
    pub(super) async fn closed(&self) {
        while self.queue().close.is_none() {
            self.closed.notified().await;
        }
    }

    /// Waits for the next thing to write. One caller at a time.
    pub(super) async fn next(&self) -> Next {
        loop {
            if let Some(next) = self.try_next() {
                return next;
            }
            self.changed.notified().await;
        }
    }

    /// The next thing to write, if there is one.
    pub(super) fn try_next(&self) -> Option<Next> {
        let mut queue = self.queue();
        if let Some(text) = queue.messages.pop_front() {
            queue.bytes -= text.size();
            return Some(Next::Message(text));
        }
        queue.close.map(|(code, reason)| Next::Close(code, reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_bounded_by_count_and_by_bytes_but_takes_one_of_any_size() {
        let outbox = Outbox::new(2, 10);
        assert_eq!(outbox.push("longer than ten".into()), Ok(()));
        assert_eq!(outbox.push("a".into()), Err(Full));
        assert_eq!(outbox.next().await, Next::Message("longer than ten".into()));
        assert_eq!(outbox.push("a".into()), Ok(()));
        assert_eq!(outbox.push("b".into()), Ok(()));
        assert_eq!(outbox.push("c".into()), Err(Full));
    }

    #[tokio::test]
    async fn a_close_comes_after_the_messages_and_the_first_one_counts() {
        let outbox = Outbox::new(2, 10);
        outbox.push("a".into()).unwrap();
        outbox.close(1009, "first");
        outbox.close(1001, "second");
        outbox.push("late".into()).unwrap();
        assert_eq!(outbox.next().await, Next::Message("a".into()));
        assert_eq!(outbox.next().await, Next::Close(1009, "first"));
    }

    #[tokio::test]
    async fn who_reads_too_slowly_gets_the_close_at_once() {
        let outbox = Outbox::new(2, 10);
        outbox.push("a".into()).unwrap();
        outbox.close(close::SLOW, "slow");
        assert_eq!(outbox.next().await, Next::Close(close::SLOW, "slow"));
    }
}
