//! Paths over UDP that lead to the wrong shard. The kernel deals datagrams to shards by their addresses; a client that
//! moves with a mobility ticket (RFC 8016) may so come to a shard that does not hold its allocation.
//!
//! ```text
//! client ── Refresh, ticket of shard 1 ──► shard 0 ── Command::Datagram ──► shard 1: has it, answers the client itself
//!                                          shard 0 ◄── Command::Follow ──── shard 1
//! client ── ChannelData ─────────────────► shard 0 ── Command::Datagram ──► shard 1 ──► peer
//!                                          shard 0 ◄── Command::Unfollow ── shard 1, when the path is no allocation's
//! ```
//! Nothing is remembered for strangers: only the shard that has authenticated a client, and has an allocation on its path,
//! asks for what follows. What waits for a shard is bounded ([`Places`]), and so are the paths that it may ask for. A
//! datagram that is passed on is copied to the heap: few clients move, and most move to the right shard.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ahash::RandomState;

use super::burst::Burst;
use super::shard::{Command, Shard};
use crate::time::Now;
use crate::turn::FiveTuple;

/// Datagrams that may wait for one shard. What comes when there are as many is dropped, as a socket's buffer would.
const WAITING: usize = 256;
/// Paths that one shard asks others for; a client over another one has to start anew. One allocation has two at most.
const PATHS: usize = 65_536;

/// A datagram for another shard.
pub(super) struct Passed {
    flow: FiveTuple,
    bytes: Vec<u8>,
    /// The shard that the kernel gave it to.
    came_in_at: u8,
    _place: Place,
}

/// Room for datagrams that wait for one shard.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Arc<AtomicUsize>);

/// A place in the queue, given back when it is dropped.
struct Place(Arc<AtomicUsize>);

impl Places {
    fn take(&self) -> Option<Place> {
        let place = Place(self.0.clone());
        // The place is given back at once if it is one too many.
        (self.0.fetch_add(1, Ordering::Relaxed) < WAITING).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What one shard knows of paths that lead to the wrong one.
pub(super) struct Forward {
    /// Paths that come in here, and whose they are.
    away: HashMap<FiveTuple, u8, RandomState>,
    /// Paths of allocations here, and where they come in.
    home: HashMap<FiveTuple, u8, RandomState>,
    /// Where the datagram that is being handled has come in, if not here.
    came_in_at: Option<u8>,
}

impl Forward {
    pub(super) fn new(hasher: RandomState) -> Self {
        let map = || HashMap::with_hasher(hasher.clone());
        Self { away: map(), home: map(), came_in_at: None }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.home.is_empty()
    }

    /// Whose is this path?
    fn owner(&self, flow: &FiveTuple) -> Option<u8> {
        if self.away.is_empty() { None } else { self.away.get(flow).copied() }
    }

    pub(super) fn follow(&mut self, flow: FiveTuple, owner: u8) {
        self.away.insert(flow, owner);
    }

    /// A path that another shard has asked for since stays.
    pub(super) fn unfollow(&mut self, flow: &FiveTuple, owner: u8) {
        if self.away.get(flow) == Some(&owner) {
            self.away.remove(flow);
        }
    }

    /// An allocation here has a path that comes in elsewhere: is that new, and is there room for it?
    fn settle_in(&mut self, flow: FiveTuple, came_in_at: u8) -> bool {
        self.home.len() < PATHS && self.home.insert(flow, came_in_at) != Some(came_in_at)
    }

    /// The paths that are no allocation's any more, and where they come in.
    fn give_up(&mut self, mut has_allocation: impl FnMut(&FiveTuple) -> bool) -> Vec<(FiveTuple, u8)> {
        self.home.extract_if(|flow, _| !has_allocation(flow)).collect()
    }
}

impl Shard {
    /// Passes the datagrams of a slot on, if their path is another shard's; returns whether it is.
    pub(super) fn pass_on(&mut self, flow: &FiveTuple, slot: usize) -> bool {
        let Some(owner) = self.forward.owner(flow) else { return false };
        for one in Burst::of(slot, &self.pool).singles() {
            let bytes = self.pool.part(slot, one.range()).to_vec();
            self.pass(*flow, owner, bytes);
        }
        true
    }

    /// Passes one datagram on.
    pub(super) fn pass(&mut self, flow: FiveTuple, owner: u8, bytes: Vec<u8>) {
        let came_in_at = self.forward.came_in_at.unwrap_or(self.number as u8);
        let Some(mailbox) = self.siblings.get(usize::from(owner)) else { return };
        match mailbox.places.take() {
            Some(_place) => {
                self.counters.datagrams_passed += 1;
                mailbox.send(Command::Datagram(Passed { flow, bytes, came_in_at, _place }));
            }
            None => self.counters.datagrams_not_passed += 1,
        }
    }

    /// Takes a datagram that has come in at another shard.
    pub(super) fn take_passed(&mut self, now: Now, passed: Passed) {
        let Passed { flow, bytes, came_in_at, .. } = passed;
        if self.pool.free() == 0 {
            self.settle();
        }
        let Some(slot) = self.pool.put(&bytes) else { return };
        self.forward.came_in_at = Some(came_in_at);
        self.take_from_client(now, flow, slot);
        self.forward.came_in_at = None;
        if self.server.has_allocation(&flow) && self.forward.settle_in(flow, came_in_at) {
            self.tell(came_in_at, Command::Follow(flow, self.number as u8));
        }
    }

    /// Asks no more for paths that are no allocation's.
    pub(super) fn sweep_forward(&mut self) {
        let (forward, server) = (&mut self.forward, &self.server);
        for (flow, came_in_at) in forward.give_up(|flow| server.has_allocation(flow)) {
            self.tell(came_in_at, Command::Unfollow(flow, self.number as u8));
        }
    }

    fn tell(&self, shard: u8, command: Command) {
        if let Some(mailbox) = self.siblings.get(usize::from(shard)) {
            mailbox.send(command);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::{ClientAddr, ServerAddr, Transport};

    fn flow(port: u16) -> FiveTuple {
        FiveTuple {
            client: ClientAddr(([192, 0, 2, 7], port).into()),
            server: ServerAddr(([198, 51, 100, 1], 3478).into()),
            transport: Transport::Udp,
        }
    }

    fn forward() -> Forward {
        Forward::new(RandomState::with_seeds(1, 2, 3, 4))
    }

    #[test]
    fn a_path_is_followed_until_its_owner_gives_it_up() {
        let mut forward = forward();
        forward.follow(flow(1), 1);
        assert_eq!((forward.owner(&flow(1)), forward.owner(&flow(2))), (Some(1), None));
        // Its client has moved to an allocation of shard 2; then shard 1 notices that it has none.
        forward.follow(flow(1), 2);
        forward.unfollow(&flow(1), 1);
        assert_eq!(forward.owner(&flow(1)), Some(2));
        forward.unfollow(&flow(1), 2);
        assert_eq!(forward.owner(&flow(1)), None);
    }

    #[test]
    fn a_path_is_asked_for_once_while_it_has_an_allocation() {
        let mut forward = forward();
        assert!(forward.is_idle());
        assert_eq!([forward.settle_in(flow(1), 3), forward.settle_in(flow(1), 3)], [true, false]);
        assert!(forward.settle_in(flow(2), 3));
        assert_eq!(forward.give_up(|f| *f == flow(2)), [(flow(1), 3)]);
        assert_eq!(forward.give_up(|_| false), [(flow(2), 3)]);
        assert!(forward.is_idle() && forward.settle_in(flow(1), 3));
    }

    #[test]
    fn no_shard_asks_for_more_paths_than_it_can_need() {
        let mut forward = forward();
        let asked = (0..3).flat_map(|n| (0..u16::MAX).map(move |port| (n, port))).filter(|(n, port)| {
            let mut flow = flow(*port);
            flow.server.0.set_port(*n);
            forward.settle_in(flow, 1)
        });
        assert_eq!(asked.count(), PATHS);
    }

    #[test]
    fn so_many_datagrams_wait_and_no_more() {
        let places = Places::default();
        let mut taken: Vec<Place> = std::iter::from_fn(|| places.take()).collect();
        assert_eq!(taken.len(), WAITING);
        assert!(places.take().is_none());
        taken.pop();
        assert!(places.take().is_some());
    }
}
