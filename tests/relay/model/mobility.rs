//! The reference on the side of clients that move (RFC 8016).

use std::net::IpAddr;

use super::operations::{Path, Ticket};
use super::reference::{Allocation, Ask, Out, Reference, Refusal, Wants, network};

/// What an allocation that may move has besides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mobility {
    /// The ticket that works: the how manieth that was given out.
    pub(super) ticket: usize,
    /// The path it moves to, until data comes over it.
    next: Option<Path>,
    /// Its path is no more, and there is no next one.
    lost: bool,
    /// The last move: transaction, and ticket shown.
    moved: Option<(usize, usize)>,
}

impl Mobility {
    pub(super) fn new(ticket: usize) -> Self {
        Self { ticket, next: None, lost: false, moved: None }
    }
}

impl Allocation {
    /// Does it have this path?
    pub(super) fn is_at(&self, path: Path) -> bool {
        match self.mobility {
            Some(m) => m.next == Some(path) || self.path == path && !m.lost,
            None => self.path == path,
        }
    }
}

impl Reference {
    /// Allocations that count for one client address: where they are, or are about to be.
    pub(super) fn allocations_at(&self, here: IpAddr) -> usize {
        let at = |a: &Allocation| a.mobility.and_then(|m| m.next).unwrap_or(a.path);
        self.allocations.values().filter(|a| network(self.clients[at(a)].ip()) == here).count()
    }

    pub(super) fn has_path(&self, id: usize) -> bool {
        self.allocations[&id].mobility.is_none_or(|m| !m.lost)
    }

    /// Section 3.2.2: whose ticket is it?
    pub(super) fn redeem(&self, ask: &Ask, ticket: Ticket) -> Result<usize, Refusal> {
        if ticket == Ticket::Malformed {
            return Err(400);
        }
        if !self.rules.mobility {
            return Err(405);
        }
        let given = match ticket {
            Ticket::Given(n) if n < self.tickets => Some(n),
            _ => None,
        };
        let works = |a: &Allocation| a.mobility.is_some_and(|m| Some(m.ticket) == given);
        let whose = self.allocations.iter().find(|(_, a)| works(a)).map(|(id, _)| *id);
        if let Some(here) = self.at(ask.path) {
            let moved = self.allocations[&here].mobility.and_then(|m| m.moved);
            return match whose {
                _ if moved.is_some() && moved == given.map(|n| (ask.transaction, n)) => Ok(here),
                Some(other) if other != here => Err(437),
                _ => Err(400),
            };
        }
        whose.ok_or(if given.is_some() { 437 } else { 400 })
    }

    /// A Refresh with a ticket gives the allocation a second path; data makes it the only one.
    pub(super) fn take_path(&mut self, ask: &Ask, id: usize) -> Result<(Option<usize>, Vec<Out>), Refusal> {
        let Wants::Refresh { ticket: Some(Ticket::Given(used)), .. } = ask.what else {
            return Ok((None, Vec::new()));
        };
        let a = &self.allocations[&id];
        if a.is_at(ask.path) {
            return Ok((a.mobility.map(|m| m.ticket), Vec::new()));
        }
        let (there, m) = (network(self.clients[ask.path].ip()), a.mobility.unwrap());
        let stays = network(self.clients[m.next.unwrap_or(a.path)].ip()) == there;
        if !stays && self.allocations_at(there) >= self.rules.per_address {
            return Err(486);
        }
        let ticket = self.tickets;
        self.tickets += 1;
        let moved = Some((ask.transaction, used));
        self.allocations.get_mut(&id).unwrap().mobility =
            Some(Mobility { ticket, next: Some(ask.path), moved, ..m });
        Ok((Some(ticket), if m.lost { self.arrive(id) } else { Vec::new() }))
    }

    /// Data has come over this path.
    pub fn heard(&mut self, path: Path) -> Vec<Out> {
        match self.at(path) {
            Some(id) if self.allocations[&id].mobility.is_some_and(|m| m.next == Some(path)) => {
                self.arrive(id)
            }
            _ => Vec::new(),
        }
    }

    fn arrive(&mut self, id: usize) -> Vec<Out> {
        let a = self.allocations.get_mut(&id).unwrap();
        let m = a.mobility.as_mut().unwrap();
        let to = m.next.take().unwrap();
        m.lost = false;
        let from = std::mem::replace(&mut a.path, to);
        vec![Out::Moved { from, to, user: a.user.clone() }]
    }

    /// A client's connection has ended. `None`: and its allocation with it.
    pub(super) fn lose_path(&mut self, id: usize, path: Path) -> Option<Vec<Out>> {
        let m = self.allocations.get_mut(&id).unwrap().mobility.as_mut()?;
        match m.next {
            None => m.lost = true,
            Some(next) if next == path => m.next = None,
            Some(_) => return Some(self.arrive(id)),
        }
        Some(Vec::new())
    }
}
