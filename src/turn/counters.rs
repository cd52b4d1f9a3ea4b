//! What a shard has done since its start.

use super::Tallies;
use super::allocation::Traffic;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts of one shard since its start; [`Counters::add`] sums shards up.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
            /// Relayed data.
            pub traffic: Traffic,
            /// By method, cause and bound.
            pub tallies: Tallies,
        }

        impl Counters {
            /// Adds the counts of another shard.
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
                self.traffic.add(&other.traffic);
                self.tallies.add(&other.tallies);
            }

            /// Every count with its name, for metrics and logs.
            pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [
                    $((stringify!($name), self.$name),)*
                    ("relayed_to_peers", self.traffic.to_peers),
                    ("relayed_to_peers_bytes", self.traffic.to_peers_bytes),
                    ("relayed_to_client", self.traffic.to_client),
                    ("relayed_to_client_bytes", self.traffic.to_client_bytes),
                ]
                .into_iter()
            }
        }
    };
}

counters! {
    /// Binding requests answered with success.
    bindings,
    /// Allocations made.
    allocations,
    /// Allocations that moved to another path of their client (RFC 8016).
    moves,
    /// Requests answered with a challenge: 401 without a signature, 438.
    challenges,
    /// Signed requests refused because of the user name or the key.
    authentication_failures,
    /// Requests of strangers that got no answer: `limits.unauthenticated-answers` was used up.
    unanswered,
    /// Requests refused for any other reason.
    rejected,
    /// Refusals that were not reported one by one: there were too many in too short a time.
    unreported,
    /// ICMP errors about relayed datagrams, told to the client.
    icmp_errors,
    /// Datagrams or frames dropped: neither STUN nor ChannelData.
    not_stun,
    /// Messages dropped: STUN or ChannelData, but malformed, or with a wrong FINGERPRINT.
    malformed,
    /// Messages dropped: a method, or a class for it, that this server does not know.
    unsupported,
    /// Data dropped: its 5-tuple or relay has no allocation.
    no_allocation,
    /// Data dropped: its channel is not bound.
    no_channel,
    /// Data dropped: no permission for the peer.
    no_permission,
    /// Data dropped: its client has gone, and may come back with a mobility ticket.
    no_path,
    /// Data dropped: over a cap on bytes or packets per second.
    over_rate,
}

impl Traffic {
    fn add(&mut self, other: &Self) {
        self.to_peers += other.to_peers;
        self.to_peers_bytes += other.to_peers_bytes;
        self.to_client += other.to_client;
        self.to_client_bytes += other.to_client_bytes;
    }
}
