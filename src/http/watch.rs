//! What time does to a connection of the rooms: pings, and its end after a silence or a close that goes on for too long.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use super::Shared;
use super::outbox::Outbox;
use crate::signal::ConnectionId;

/// Ends when nothing was heard for too long (`heard`: milliseconds of the monotonic clock), or when the outbox was
/// closed a while ago and still is not written out. One timer does for all of it.
pub(super) async fn watch(shared: &Shared, id: ConnectionId, outbox: &Outbox, heard: &AtomicU64) {
    let now = || Duration::from_millis(shared.services.clock.now().instant.as_millis());
    let (every, limit) = {
        let live = shared.live();
        (live.rooms.ping.max(Duration::from_millis(1)), live.rooms.timeout)
    };
    let mut ping = now() + every;
    loop {
        let (now, heard) = (now(), Duration::from_millis(heard.load(Ordering::Relaxed)));
        if now >= heard + limit {
            shared.counters.silent_websockets.add();
            log::debug!(connection = id.0; "silent for too long");
            return;
        }
        if now >= ping {
            outbox.ping();
            ping = now + every;
        }
        // A millisecond more, or rounding makes it spin.
        let wait = ping.min(heard + limit).saturating_sub(now) + Duration::from_millis(1);
        tokio::select! {
            () = sleep(wait) => {}
            () = outbox.closed() => return sleep(shared.settings.linger).await,
        }
    }
}
