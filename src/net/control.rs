//! Orders to the running shards, and questions: each is a piece of work that a shard does between two rounds, so
//! nothing is ever locked where packets pass.

use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::IpNet;

use super::admission::{Admission, StreamLimits};
use super::listeners::Listeners;
use super::shard::{Command, Shard};
use super::{Counters, Mailbox, Relay};
use crate::auth::Authenticator;
use crate::time::Now;
use crate::turn::{self, Census, Listed};

/// Work for a shard, done in its own thread.
pub(super) type Work = Box<dyn FnOnce(&mut Shard, Now) + Send>;

/// How long a shard may take to answer: in a healthy one it is less than a round.
const PATIENCE: Duration = Duration::from_secs(5);

/// A shard does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("shard {shard} does not answer")]
pub struct Stuck {
    /// Its number.
    pub shard: usize,
}

/// A handle to the shards of a running [`Relay`]. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Control {
    mailboxes: Arc<Vec<Mailbox>>,
    listeners: Arc<Mutex<Listeners>>,
    admission: Arc<Admission>,
}

/// What can change while the relay runs.
#[derive(Clone, Debug)]
pub struct Changes {
    /// The relay's settings; its addresses stay.
    pub turn: Arc<turn::Settings>,
    /// Secrets and users.
    pub auth: Arc<Authenticator>,
    /// Bounds on streams.
    pub streams: StreamLimits,
    /// Proxies whose connections begin with a header of the PROXY protocol.
    pub proxies: Vec<IpNet>,
    /// How long a stream may take until its first whole message.
    pub first_message_timeout: Duration,
}

impl Relay {
    /// For whoever looks after it while it runs.
    pub fn control(&self) -> Control {
        Control {
            mailboxes: self.mailboxes.clone(),
            listeners: self.listeners.clone(),
            admission: self.admission.clone(),
        }
    }
}

impl Control {
    pub(super) fn listeners(&self) -> MutexGuard<'_, Listeners> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn shards(&self) -> usize {
        self.mailboxes.len()
    }

    /// Lets all shards do the same, side by side, and waits for them.
    pub(super) fn each<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Shard, Now) -> T + Clone + Send + 'static,
    ) -> Result<Vec<T>, Stuck> {
        self.each_its(vec![work; self.shards()])
    }

    /// The same with work for each of its own.
    pub(super) fn each_its<T: Send + 'static>(
        &self,
        work: Vec<impl FnOnce(&mut Shard, Now) -> T + Send + 'static>,
    ) -> Result<Vec<T>, Stuck> {
        let asked = self.mailboxes.iter().zip(work).map(|(mailbox, work)| {
            let (to, from) = sync_channel(1);
            mailbox.send(Command::Control(Box::new(move |shard, now| {
                let _ = to.try_send(work(shard, now));
            })));
            from
        });
        let asked: Vec<_> = asked.collect();
        let answers = asked.into_iter().enumerate();
        answers.map(|(shard, from)| from.recv_timeout(PATIENCE).map_err(|_| Stuck { shard })).collect()
    }

    /// Do all shards answer?
    ///
    /// # Errors
    /// [`Stuck`] names the first that does not.
    pub fn beat(&self) -> Result<(), Stuck> {
        self.each(|_, _| ()).map(drop)
    }

    /// Counts of all shards.
    ///
    /// # Errors
    /// [`Stuck`], if a shard does not answer.
    pub fn counters(&self) -> Result<Counters, Stuck> {
        let mut sum = Counters::default();
        self.each(|shard, _| shard.report())?.iter().for_each(|counters| sum.add(counters));
        Ok(sum)
    }

    /// Allocations by transport and family.
    ///
    /// # Errors
    /// [`Stuck`], if a shard does not answer.
    pub fn census(&self) -> Result<Census, Stuck> {
        let mut sum = Census::default();
        self.each(|shard, _| shard.server.census())?.iter().for_each(|census| sum.add(census));
        Ok(sum)
    }

    /// Goes on with other settings.
    ///
    /// # Errors
    /// [`Stuck`], if a shard does not answer; the others have taken the settings.
    pub fn reconfigure(&self, changes: Changes) -> Result<(), Stuck> {
        self.admission.set_limits(changes.streams);
        self.each(move |shard, now| {
            shard.settings.first_message_timeout = changes.first_message_timeout;
            shard.settings.proxies.clone_from(&changes.proxies);
            shard.server.reconfigure(now, &changes.turn, changes.auth.clone());
        })
        .map(drop)
    }

    /// From here on new allocations are refused, or sent elsewhere.
    ///
    /// # Errors
    /// [`Stuck`], if a shard does not answer.
    pub fn drain(&self, draining: bool) -> Result<(), Stuck> {
        self.each(move |shard, _| shard.server.drain(draining)).map(drop)
    }

    /// All allocations.
    ///
    /// # Errors
    /// [`Stuck`], if a shard does not answer.
    pub fn list(&self) -> Result<Vec<Listed>, Stuck> {
        Ok(self.each(|shard, now| shard.server.list(now))?.concat())
    }

    /// Ends the allocations that `who` picks, and says how many.
    ///
    /// # Errors
    /// [`Stuck`], if a shard does not answer.
    pub fn kick(&self, who: impl Fn(&Listed) -> bool + Clone + Send + 'static) -> Result<usize, Stuck> {
        Ok(self.each(move |shard, now| shard.server.kick(now, &who))?.iter().sum())
    }

    /// Ends all allocations of a user, and lets it make no new ones until its last credential has expired, at `expires`
    /// (seconds since the Unix epoch). Does not wait for the shards: it may be called where nothing may block.
    pub fn revoke(&self, user: &str, expires: u64) {
        let user = Arc::<str>::from(user);
        for mailbox in self.mailboxes.iter() {
            let user = user.clone();
            let work = move |shard: &mut Shard, now| {
                shard.server.revoke(now, &user, expires);
            };
            mailbox.send(Command::Control(Box::new(work)));
        }
    }

    /// The same for a user or the USERNAME of one credential; waits, and says how many allocations have ended.
    ///
    /// # Errors
    /// [`Stuck`], if a shard does not answer.
    pub fn take_back(&self, name: &str, expires: u64) -> Result<usize, Stuck> {
        let name = Arc::<str>::from(name);
        Ok(self.each(move |shard, now| shard.server.revoke(now, &name, expires))?.iter().sum())
    }
}
