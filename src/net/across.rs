//! Datagrams between allocations of two shards: they stay in user space.
//!
//! ```text
//! shard 0: Verdict::ToShard ──► send ──► [ parcels ] ──► take ──► Server::handle_relayed: shard 1
//!                                ▲                         │
//!                                └────── [ empties ] ◄─────┘ give_back
//! ```
//! Both queues are bounded and have no lock; buffers go round, so that a parcel allocates nothing.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_queue::ArrayQueue;

/// Parcels that may wait for one shard. What comes when it is full is dropped, as a socket's buffer would.
const PARCELS: usize = 512;
/// A buffer larger than this does not go round.
const KEEP: usize = 16 * 1024;

/// A datagram, or a run of them, without its framing.
#[derive(Debug)]
pub(super) struct Parcel {
    /// The relay it comes from, as its socket is bound.
    pub from: SocketAddr,
    /// The relay it goes to, as its socket is bound.
    pub to: SocketAddr,
    pub bytes: Vec<u8>,
    /// Bytes of each datagram but the last, which may be shorter.
    pub segment: usize,
}

/// What waits for one shard.
#[derive(Debug)]
pub(super) struct Across {
    parcels: ArrayQueue<Parcel>,
    empties: ArrayQueue<Vec<u8>>,
    /// The shard has been woken and has not looked yet.
    called: AtomicBool,
}

impl Across {
    pub(super) fn new() -> Self {
        Self {
            parcels: ArrayQueue::new(PARCELS),
            empties: ArrayQueue::new(PARCELS),
            called: AtomicBool::new(false),
        }
    }

    /// Copies the datagrams of a run, `segment` bytes each but the last, into a parcel. `false`: the queue is full.
    pub(super) fn send<'a>(
        &self,
        from: SocketAddr,
        to: SocketAddr,
        segment: usize,
        datagrams: impl Iterator<Item = &'a [u8]>,
    ) -> bool {
        let mut bytes = self.empties.pop().unwrap_or_default();
        datagrams.for_each(|datagram| bytes.extend_from_slice(datagram));
        match self.parcels.push(Parcel { from, to, bytes, segment }) {
            Ok(()) => true,
            Err(parcel) => {
                self.give_back(parcel.bytes);
                false
            }
        }
    }

    /// After sending: must the shard be woken? One that was called and has not looked yet will find it all.
    pub(super) fn must_wake(&self) -> bool {
        !self.called.swap(true, Ordering::AcqRel)
    }

    /// Before taking: whoever sends from here on must wake the shard again.
    pub(super) fn look(&self) {
        self.called.swap(false, Ordering::AcqRel);
    }

    pub(super) fn take(&self) -> Option<Parcel> {
        self.parcels.pop()
    }

    pub(super) fn give_back(&self, mut bytes: Vec<u8>) {
        if bytes.capacity() <= KEEP {
            bytes.clear();
            // There are no more buffers than places, but for those in hand just now.
            let _ = self.empties.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn parcels_come_in_order_until_there_is_no_place_and_buffers_go_round() {
        let across = Across::new();
        for n in 0..PARCELS + 3 {
            let datagrams = [&[n as u8; 3][..], &[n as u8; 2]];
            assert_eq!(across.send(addr(1), addr(2), 3, datagrams.into_iter()), n < PARCELS);
        }
        for n in 0..PARCELS {
            let parcel = across.take().unwrap();
            assert_eq!((parcel.from, parcel.to, parcel.segment), (addr(1), addr(2), 3));
            assert_eq!(parcel.bytes, [n as u8; 5]);
            across.give_back(parcel.bytes);
        }
        assert!(across.take().is_none());
        across.send(addr(1), addr(2), 1, [&b"x"[..]].into_iter());
        let parcel = across.take().unwrap();
        assert!(parcel.bytes == b"x" && parcel.bytes.capacity() >= 5, "a buffer that was used before");
        let kept = across.empties.len();
        across.give_back(vec![0; KEEP + 1]);
        assert_eq!(across.empties.len(), kept, "a large one does not");
    }

    #[test]
    fn a_shard_is_woken_once_until_it_looks() {
        let across = Across::new();
        assert_eq!([across.must_wake(), across.must_wake()], [true, false]);
        across.look();
        assert_eq!([across.must_wake(), across.must_wake()], [true, false]);
    }

    #[test]
    fn nothing_is_forgotten_between_threads() {
        let across = Across::new();
        let (woken, wakes) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..100_000_u32 {
                    while !across.send(addr(1), addr(2), 4, [&n.to_be_bytes()[..]].into_iter()) {
                        std::thread::yield_now();
                    }
                    if across.must_wake() {
                        woken.send(()).unwrap();
                    }
                }
            });
            let mut expected = 0_u32;
            while expected < 100_000 {
                // A wake-up that was forgotten would leave us here for ever.
                wakes.recv_timeout(std::time::Duration::from_secs(60)).unwrap();
                across.look();
                while let Some(parcel) = across.take() {
                    assert_eq!(parcel.bytes, expected.to_be_bytes());
                    expected += 1;
                    across.give_back(parcel.bytes);
                }
            }
        });
    }
}
