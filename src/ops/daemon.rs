//! The running daemon, as signals, systemd and `ternd ctl` see it: look, reload, drain, kick, issue.
//!
//! ```text
//! SIGHUP, POST /v1/reload ─► load the file ─► all of it good? ─┬─► log, shards, HTTP: one after the other
//! certificate files change ─► load them ──────────────────────┘  no: nothing changes, and everybody hears why
//! ```

use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::log::{error, info, warn};
use serde::Serialize;
use tokio::sync::watch;

use super::acme::{Keeper, Standing};
use super::setup::Setup;
use super::{log, relayed_over, systemd, web_over};
use crate::config::{self, Checked, Disk};
use crate::ice::{Host, Issued};
use crate::net::clock::Clock;
use crate::net::{self, Stuck};
use crate::signal::Claims;
use crate::time::Now;
use crate::turn::Listed;
use crate::{http, net::tls};

/// How far the daemon's life has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Phase {
    Running,
    /// Running calls go on, new ones are refused.
    Draining,
    Stopping,
}

pub(super) struct Daemon {
    /// The configuration file. `None`: it runs on its defaults.
    path: Option<PathBuf>,
    setup: Mutex<Setup>,
    control: net::Control,
    http: http::Handle,
    clock: Clock,
    phase: watch::Sender<Phase>,
    acme: Keeper,
    /// One reload at a time; holds what the last one came to.
    last_reload: Mutex<Option<Outcome>>,
    /// The relay's traffic at the last status line, for figures per second.
    before: Mutex<(u64, u64, u64)>,
    issued: AtomicU64,
}

/// What a reload came to.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Outcome {
    pub ok: bool,
    /// Unix time.
    pub at: u64,
    /// Why not; or what it takes a restart for.
    pub notes: Vec<String>,
}

/// Figures of this moment.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    version: &'static str,
    state: Phase,
    config: Option<String>,
    uptime_s: u64,
    allocations: u64,
    streams: u64,
    packets_to_peers: u64,
    packets_to_clients: u64,
    bytes_to_peers: u64,
    bytes_to_clients: u64,
    http_connections: usize,
    websockets: usize,
    rooms: usize,
    credentials_issued: u64,
    authentication_failures: u64,
    /// Of the certificate that the daemon gets by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<Standing>,
    last_reload: Option<Outcome>,
}

impl Daemon {
    pub(super) fn new(
        path: Option<PathBuf>,
        setup: Setup,
        control: net::Control,
        http: http::Handle,
        clock: Clock,
    ) -> Self {
        let (phase, _) = watch::channel(Phase::Running);
        let acme = Keeper::new(clock, setup.acme.clone());
        let (last_reload, before, issued) = (Mutex::new(None), Mutex::default(), AtomicU64::new(0));
        Self {
            path,
            setup: Mutex::new(setup),
            control,
            http,
            clock,
            phase,
            acme,
            last_reload,
            before,
            issued,
        }
    }

    /// What gets certificates.
    pub(super) fn acme(&self) -> &Keeper {
        &self.acme
    }

    pub(super) fn control(&self) -> &net::Control {
        &self.control
    }

    pub(super) fn http(&self) -> &http::Handle {
        &self.http
    }

    /// How far its life has got, and when that changes.
    pub(super) fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Goes on with what the configuration file says, or with what it had, all of it. Blocks until the shards have taken
    /// it over.
    pub(super) fn reload(&self) -> Outcome {
        let mut last = lock(&self.last_reload);
        systemd::reloading();
        let result = self.try_reload();
        let (ok, notes) = match result {
            Ok(notes) => (true, notes),
            Err(why) => (false, why),
        };
        for note in &notes {
            if ok { warn!("reload: {note}") } else { error!("reload refused: {note}") }
        }
        if ok {
            info!("reloaded the configuration");
        } else {
            error!("nothing has changed: the daemon goes on with the configuration it had");
        }
        let outcome = Outcome { ok, at: self.clock.now().unix, notes };
        *last = Some(outcome.clone());
        drop(last);
        systemd::ready();
        self.tell_status();
        outcome
    }

    fn try_reload(&self) -> Result<Vec<String>, Vec<String>> {
        let Some(path) = &self.path else {
            return Err(vec!["it runs on its defaults, without a file: start it with --config FILE".into()]);
        };
        let Checked { mut config, warnings } = config::load(path, &Disk::beside(path))
            .map_err(|invalid| invalid.to_string().lines().map(String::from).collect::<Vec<_>>())?;
        let mut setup = lock(&self.setup);
        // Whatever can fail comes before the first change.
        let moved = setup.moved_ports(&config);
        if !moved.is_empty() {
            return Err(moved);
        }
        let mut notes: Vec<_> = warnings.iter().map(|warning| format!("configuration: {warning}")).collect();
        let kept = setup.keep_what_needs_a_restart(&mut config);
        notes.extend(kept.iter().map(|key| format!("{key} changes with the next start")));
        let next = setup.again(config).map_err(|error| vec![error.to_string()])?;
        let relay = self.control.bind(&next.net()).map_err(|error| vec![error.to_string()])?;
        let web = self.http.bind(&next.http()).map_err(|error| vec![error.to_string()])?;

        if let Some(plan) = &next.acme {
            plan.begin(self.clock.now().unix);
        }
        log::configure(&next.config.log);
        log::show(next.interfaces.iter().copied().chain(next.relay_addresses.iter().map(|r| r.announced)));
        notes.extend(say_what_listens(&next, &relay, &web));
        self.http.reload(next.live(), next.config.connections.total, next.config.connections.per_address);
        let taken = self.control.reconfigure(next.changes()).and_then(|()| self.control.listen(relay));
        if let Err(stuck) = taken {
            notes.push(stuck.to_string());
        }
        self.http.listen(web);
        self.acme.adopt(next.acme.clone());
        *setup = next;
        Ok(notes)
    }

    /// Looks at the files of the certificate from time to time, for ever: certbot and its like replace them. Until both
    /// can be used, the old pair stays.
    pub(super) async fn watch_certificate(&self) {
        const INTERVAL: Duration = Duration::from_secs(3);
        let mut taken = self.stamps();
        let mut refused = None;
        loop {
            tokio::time::sleep(INTERVAL).await;
            let stamps = self.stamps();
            if stamps == taken || stamps == refused {
                continue;
            }
            match self.renew_certificate() {
                Ok(()) => (taken, refused) = (stamps, None),
                Err(why) => {
                    warn!("the certificate's files have changed and can't be used, the old ones stay: {why}");
                    refused = stamps;
                }
            }
        }
    }

    /// What shows that the files have changed. `None`: there are none.
    fn stamps(&self) -> Option<[Option<Stamp>; 2]> {
        let setup = lock(&self.setup);
        setup.config.tls.as_ref().map(|files| [stamp(&files.certificate), stamp(&files.key)])
    }

    fn renew_certificate(&self) -> Result<(), String> {
        let mut setup = lock(&self.setup);
        if let Some(files) = &setup.config.tls {
            setup.tls = tls::from_files(&files.certificate, &files.key).map_err(|error| error.to_string())?;
            self.http.set_tls(setup.tls.clone());
            info!("the certificate's files have changed: new connections get the new one");
        }
        Ok(())
    }

    /// Takes no new calls any more, and ends when there are none, or at the deadline. Told twice, it ends at once.
    pub(super) fn drain(&self, why: &str) {
        if *self.phase.borrow() != Phase::Running {
            self.phase.send_replace(Phase::Stopping);
            return info!("stopping at once: {why}");
        }
        self.http.drain(true);
        let running = self.control.drain(true).and_then(|()| self.calls()).unwrap_or_else(|stuck| {
            error!("{stuck}");
            0
        });
        let deadline = lock(&self.setup).config.drain_timeout;
        let at_once = running == 0 || deadline.is_zero();
        // It may be over sooner; then the close tells them.
        self.http.drain_rooms(if at_once { Duration::ZERO } else { deadline });
        if at_once {
            info!("stopping: {why}");
            self.phase.send_replace(Phase::Stopping);
        } else {
            info!(
                "draining: {why}; {running} allocations may go on for {} s, new ones are refused",
                deadline.as_secs()
            );
            self.phase.send_replace(Phase::Draining);
        }
    }

    /// Ends when it is time to stop.
    pub(super) async fn drained(&self) {
        const LOOK: Duration = Duration::from_millis(250);
        let mut phase = self.phase();
        // The sender is part of self.
        let _ = phase.wait_for(|phase| *phase >= Phase::Draining).await;
        let end = self.clock.now().instant + lock(&self.setup).config.drain_timeout;
        loop {
            if *phase.borrow() == Phase::Stopping {
                return;
            }
            let left = end.since(self.clock.now().instant);
            let calls = tokio::task::block_in_place(|| self.calls()).unwrap_or(0);
            if left.is_zero() || calls == 0 {
                match calls {
                    0 => info!("drained: the last allocation has ended"),
                    calls => warn!("{calls} allocations are cut off: drain-timeout is over"),
                }
                self.phase.send_replace(Phase::Stopping);
                return;
            }
            systemd::stopping(Duration::from_secs(20));
            let _ = tokio::time::timeout(LOOK, phase.changed()).await;
        }
    }

    fn calls(&self) -> Result<u64, Stuck> {
        Ok(self.control.counters()?.allocations)
    }

    /// Tells systemd about itself for as long as all shards answer.
    pub(super) fn beat(&self) {
        match self.control.beat() {
            Ok(()) => systemd::alive(),
            Err(stuck) => error!("{stuck}: the watchdog is not fed"),
        }
    }

    /// Tells systemd the figures of this moment.
    pub(super) fn tell_status(&self) {
        if let Ok(line) = self.status_line() {
            systemd::status(&line);
        }
    }

    fn status_line(&self) -> Result<String, Stuck> {
        let counters = self.control.counters()?;
        let traffic = counters.turn.traffic;
        let now = (
            self.clock.now().instant.as_millis(),
            traffic.to_peers + traffic.to_client,
            traffic.to_peers_bytes + traffic.to_client_bytes,
        );
        let before = std::mem::replace(&mut *lock(&self.before), now);
        let per_second = |now: u64, old: u64, time: u64| (now - old) * 1000 / time.max(1);
        let time = now.0 - before.0;
        let figures = self.http.figures();
        let mut line = format!(
            "{} allocations, {} packets/s and {} kB/s relayed; {} rooms, {} WebSockets",
            counters.allocations,
            per_second(now.1, before.1, time),
            per_second(now.2, before.2, time) / 1000,
            figures.rooms,
            figures.websockets,
        );
        if *self.phase.borrow() != Phase::Running {
            line.insert_str(0, "draining: ");
        }
        if let Some(failure) = self.acme.standing().and_then(|standing| standing.failure) {
            line.push_str(&format!("; NO NEW CERTIFICATE: {}", failure.why));
        }
        // A reload that writes this line holds its own outcome.
        let failed = lock(&self.last_reload).clone().filter(|outcome| !outcome.ok);
        if let Some(why) = failed.and_then(|outcome| outcome.notes.into_iter().next()) {
            line.push_str(&format!("; LAST RELOAD REFUSED: {why}"));
        }
        Ok(line)
    }

    pub(super) fn status(&self) -> Result<Status, Stuck> {
        let counters = self.control.counters()?;
        let (figures, http) = (self.http.figures(), self.http.counters());
        let traffic = counters.turn.traffic;
        Ok(Status {
            version: env!("CARGO_PKG_VERSION"),
            state: *self.phase.borrow(),
            config: self.path.as_ref().map(|path| path.display().to_string()),
            uptime_s: self.clock.since_start().as_secs(),
            allocations: counters.allocations,
            streams: counters.streams,
            packets_to_peers: traffic.to_peers,
            packets_to_clients: traffic.to_client,
            bytes_to_peers: traffic.to_peers_bytes,
            bytes_to_clients: traffic.to_client_bytes,
            http_connections: figures.connections,
            websockets: figures.websockets,
            rooms: figures.rooms,
            credentials_issued: http.credentials.get() + http.room_credentials.get() + self.issued(),
            authentication_failures: counters.turn.authentication_failures,
            certificate: self.acme.standing(),
            last_reload: lock(&self.last_reload).clone(),
        })
    }

    /// All allocations, or those of one user, in the order they came.
    pub(super) fn allocations(&self, user: Option<&str>) -> Result<Vec<Listed>, Stuck> {
        let mut list = self.control.list()?;
        list.retain(|listed| user.is_none_or(|user| *listed.user == *user));
        list.sort_by_key(|listed| std::cmp::Reverse(listed.lived));
        Ok(list)
    }

    /// An invite, and the link to send.
    pub(super) fn invite(&self, room: &str, claims: &Claims) -> (String, String) {
        let setup = lock(&self.setup);
        let token = self.http.invite(claims);
        let host = setup.host().parse().unwrap_or_else(|_| Host::from(IpAddr::from([127, 0, 0, 1])));
        let link = setup.config.invite_link(&host, room, &token);
        (token, link)
    }

    /// The time of invites.
    pub(super) fn now(&self) -> Now {
        self.clock.now()
    }

    /// A credential signed with the first secret, with the servers it is for; `None`: there is no secret. `ttl`: that of
    /// the endpoint if it is not given.
    pub(super) fn issue(&self, user: &str, ttl: Option<Duration>) -> Option<Issued> {
        let setup = lock(&self.setup);
        let ttl = ttl.unwrap_or(setup.config.ice.ttl);
        let credential = setup.auth.issue(user, ttl, self.clock.now())?;
        let host = setup.host().parse().ok()?;
        self.issued.fetch_add(1, Ordering::Relaxed);
        Some(setup.config.ice().describe(&host, None, credential, ttl))
    }

    /// Credentials issued so.
    pub(super) fn issued(&self) -> u64 {
        self.issued.load(Ordering::Relaxed)
    }
}

/// Tells the log what a reload does to the listeners, and returns what the operator should know of it.
fn say_what_listens(next: &Setup, relay: &net::Rebound, web: &http::Rebound) -> Vec<String> {
    let relayed = |(transport, addr)| (addr, relayed_over(transport));
    let served = |(door, addr)| (addr, web_over(door));
    for (addr, what) in relay.added().map(relayed).chain(web.added().map(served)) {
        info!("listening on {addr}: {what}");
    }
    let mut notes = Vec::new();
    for (addr, what) in relay.removed().map(relayed).chain(web.removed().map(served)) {
        info!("no longer listening on {addr}: {what}; what is established goes on");
        if next.is_inherited(addr) {
            notes
                .push(format!("{addr} stays open, with nobody behind it: systemd holds it for ternd.socket"));
        }
    }
    notes
}

/// What of a file another content changes, and another owner or mode, too: one that was refused for them is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// `None`: it is not there.
fn stamp(path: &Path) -> Option<Stamp> {
    let file = path.metadata().ok()?;
    Some(Stamp {
        length: file.len(),
        modified: (file.mtime(), file.mtime_nsec()),
        changed: (file.ctime(), file.ctime_nsec()),
    })
}

/// What a thread that panicked has left is whole: each change is one assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn another_mode_makes_a_file_worth_another_try() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("privkey.pem");
        assert_eq!(stamp(&path), None);
        fs::write(&path, "key").unwrap();
        let first = stamp(&path);
        assert!(first.is_some() && stamp(&path) == first);
        // The clock of a file system ticks a few hundred times a second.
        std::thread::sleep(Duration::from_millis(30));
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert_ne!(stamp(&path), first);
    }
}
