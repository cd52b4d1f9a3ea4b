//! What the sockets of a shard have done since its start; see [`crate::turn::Counters`] for the relay itself.

use crate::turn;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts of all shards since the start.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
            /// Counts of the relay.
            pub turn: turn::Counters,
            /// Allocations at this moment.
            pub allocations: u64,
            /// Streams at this moment.
            pub streams: u64,
            /// Listening sockets at this moment, those of all shards.
            pub listeners: u64,
            /// UDP sockets to relay from at this moment.
            pub relay_sockets: u64,
            /// TCP sockets toward peers at this moment: connections, and those that listen for them (RFC 6062).
            pub peer_sockets: u64,
        }

        impl Counters {
            pub(super) fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
                self.turn.add(&other.turn);
                self.allocations += other.allocations;
                self.streams += other.streams;
                self.listeners += other.listeners;
                self.relay_sockets += other.relay_sockets;
                self.peer_sockets += other.peer_sockets;
            }

            /// Every count of the sockets with its name, for metrics and logs.
            pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }
    };
}

counters! {
    /// Receives that failed (most often ICMP errors about earlier answers), and datagrams from port 0.
    receive_errors,
    /// Datagrams of strangers that came to a listener which a reload has removed.
    listener_removed,
    /// Datagrams not sent: a socket's buffer was full, or the system refused.
    send_dropped,
    /// Datagrams, or runs of them, handed to another shard: the peer was a relayed address there.
    across,
    /// Datagrams between allocations of two shards dropped: too many waited for the other shard.
    across_dropped,
    /// Datagrams that came in at a shard and belong to another one, since their client has moved (RFC 8016).
    datagrams_passed,
    /// Such datagrams dropped: too many waited for the other shard.
    datagrams_not_passed,
    /// Frames not queued for a client's stream, or dropped from its queue: it reads too slowly.
    stream_dropped,
    /// Streams accepted or taken over.
    streams_accepted,
    /// Streams refused: `limits.connections` or `limits.connections-per-address` was reached.
    streams_refused,
    /// Streams closed because they said nothing, or nothing that leads to an allocation, for too long.
    streams_timed_out,
    /// Streams closed because what came was neither STUN nor ChannelData, or not TLS.
    streams_garbage,
    /// Streams closed because more answers waited than the queue holds.
    streams_stuck,
    /// Times that accepting a stream failed; it is tried again.
    accept_errors,
    /// HTTP requests on a TURN port, answered with a page that explains it.
    http_requests,
}
