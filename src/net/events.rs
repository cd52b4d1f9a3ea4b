//! What the relay reports, put into the log: one record for each allocation that ends, and for each refusal its cause.

use log::{debug, info, warn};

use crate::auth::{Denied, TimedUsername};
use crate::turn::{Event, Rejection};

/// Writes one event.
pub(super) fn record(event: &Event) {
    match event {
        Event::AllocationCreated { flow, user, relay, lifetime } => debug!(
            target: "ternd::relay",
            user = **user, client:% = flow.client, transport = flow.transport.name(), allocation:% = relay;
            "allocation of user {user:?} from {} ({}) at {relay} for {} s",
            flow.client, flow.transport.name(), lifetime.as_secs()
        ),
        Event::AllocationMoved { from, to, user } => debug!(
            target: "ternd::relay",
            user = **user, client:% = to.client, transport = to.transport.name();
            "allocation of user {user:?} moved from {} ({}) to {} ({})",
            from.client, from.transport.name(), to.client, to.transport.name()
        ),
        Event::AllocationEnded { flow, user, relay, lived, traffic, reason } => info!(
            target: "ternd::relay",
            user = **user, client:% = flow.client, transport = flow.transport.name(),
            allocation = relay.map(|r| r.to_string()).unwrap_or_default().as_str(), seconds = lived.as_secs(),
            to_peers = traffic.to_peers, to_peers_bytes = traffic.to_peers_bytes,
            to_client = traffic.to_client, to_client_bytes = traffic.to_client_bytes, reason = reason.name();
            "allocation of user {user:?} from {} ({}) at {} ended after {} s: {}; {} packets ({} bytes) to peers, \
             {} ({}) to the client",
            flow.client, flow.transport.name(), relay.map_or("no address".into(), |r| r.to_string()),
            lived.as_secs(), reason.name(), traffic.to_peers, traffic.to_peers_bytes,
            traffic.to_client, traffic.to_client_bytes
        ),
        // Somebody with a name was turned away: the operator's first question when a call fails.
        Event::Refused {
            flow,
            method,
            rejection: Rejection::Denied(Denied::Unauthorized { username, cause }),
            ..
        } => {
            warn!(
                target: "ternd::auth",
                user = bare(username), username = username.as_str(), client:% = flow.client, code = 401,
                cause:% = cause;
                "{} of user {username:?} from {} ({}) refused with 401: {cause}",
                name(method.0), flow.client, flow.transport.name()
            );
        }
        Event::Refused { flow, method, user: Some(user), rejection } => info!(
            target: "ternd::relay",
            user = **user, client:% = flow.client, code = rejection.code();
            "{} of user {user:?} from {} ({}) refused with {}: {rejection}",
            name(method.0), flow.client, flow.transport.name(), rejection.code()
        ),
        Event::RefusalsWithheld { count } => warn!(
            target: "ternd::relay",
            count = *count;
            "{count} refusals are not in the log: they came faster than anybody can read"
        ),
        // Anybody can send nonsense.
        Event::Refused { flow, method, user: None, rejection } => debug!(
            target: "ternd::relay",
            client:% = flow.client, code = rejection.code();
            "{} from {} ({}) refused with {}: {rejection}",
            name(method.0), flow.client, flow.transport.name(), rejection.code()
        ),
    }
}

/// The user in a name with a time stamp: `journalctl TERND_USER=alice` finds what was refused, too.
fn bare(username: &str) -> &str {
    match TimedUsername::parse(username) {
        Some(timed) if !timed.user.is_empty() => timed.user,
        _ => username,
    }
}

const fn name(method: u16) -> &'static str {
    match method {
        0x003 => "Allocate",
        0x004 => "Refresh",
        0x008 => "CreatePermission",
        0x009 => "ChannelBind",
        0x00A => "Connect",
        0x00B => "ConnectionBind",
        _ => "request",
    }
}
