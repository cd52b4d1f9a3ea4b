//! How many streams there may be: in total, and from one address. Shared by all shards; HTTP counts its own.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::auth::network_of;

/// Bounds on streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamLimits {
    /// Open streams in total.
    pub total: usize,
    /// Open streams of one client address (IPv6: its /64).
    pub per_address: usize,
}

/// Counts streams.
#[derive(Debug)]
pub struct Admission {
    open: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    limits: StreamLimits,
    total: usize,
    networks: HashMap<IpAddr, usize>,
}

impl Admission {
    /// Nothing open yet.
    pub fn new(limits: StreamLimits) -> Arc<Self> {
        Arc::new(Self { open: Mutex::new(Open { limits, total: 0, networks: HashMap::new() }) })
    }

    /// Other bounds from here on; no stream ends for them.
    pub fn set_limits(&self, limits: StreamLimits) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).limits = limits;
    }

    /// A place for one stream, given back when the ticket is dropped; `None` if there is none.
    //= 8489-6.2.2-4
    pub fn admit(self: &Arc<Self>, client: IpAddr) -> Option<StreamTicket> {
        let network = network_of(client);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let of_network = open.networks.get(&network).copied().unwrap_or(0);
        if open.total >= open.limits.total || of_network >= open.limits.per_address {
            return None;
        }
        open.total += 1;
        open.networks.insert(network, of_network + 1);
        Some(StreamTicket { admission: self.clone(), network: Some(network) })
    }

    /// The same for a proxy, which brings the streams of many addresses: it counts in total only.
    pub fn admit_proxy(self: &Arc<Self>) -> Option<StreamTicket> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.total >= open.limits.total {
            return None;
        }
        open.total += 1;
        Some(StreamTicket { admission: self.clone(), network: None })
    }

    /// Open streams.
    pub fn open(&self) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).total
    }
}

/// A place that is taken.
#[derive(Debug)]
pub struct StreamTicket {
    admission: Arc<Admission>,
    /// `None`: a proxy's.
    network: Option<IpAddr>,
}

impl Drop for StreamTicket {
    fn drop(&mut self) {
        let mut open = self.admission.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total -= 1;
        let Some(network) = self.network else { return };
        match open.networks.get_mut(&network) {
            Some(n) if *n > 1 => *n -= 1,
            _ => drop(open.networks.remove(&network)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back() {
        let admission = Admission::new(StreamLimits { total: 3, per_address: 2 });
        let ip = |text: &str| text.parse().unwrap();
        let first = admission.admit(ip("192.0.2.1")).unwrap();
        let _second = admission.admit(ip("192.0.2.1")).unwrap();
        assert!(admission.admit(ip("192.0.2.1")).is_none(), "two of one address");
        let _third = admission.admit(ip("2001:db8::1")).unwrap();
        assert!(admission.admit(ip("2001:db8:1::1")).is_none(), "three in all");
        drop(first);
        assert_eq!(admission.open(), 2);
        let again = admission.admit(ip("2001:db8::2")).unwrap();
        assert!(admission.admit_proxy().is_none(), "three in all");
        drop(again);
        let _proxy = admission.admit_proxy().unwrap();
        assert!(admission.admit(ip("::ffff:192.0.2.2")).is_none(), "three in all");
    }

    #[test]
    fn nothing_is_left_of_who_has_gone() {
        let admission = Admission::new(StreamLimits { total: 9, per_address: 2 });
        let ip = |text: &str| text.parse().unwrap();
        let held = [
            admission.admit(ip("2001:db8::1")),
            admission.admit(ip("2001:db8::ffff:2")),
            admission.admit(ip("::ffff:192.0.2.1")),
            admission.admit(ip("192.0.2.1")),
            admission.admit_proxy(),
        ];
        assert!(held.iter().all(Option::is_some));
        for full in ["2001:db8::3", "192.0.2.1"] {
            assert!(admission.admit(ip(full)).is_none(), "{full}");
        }
        drop(held);
        assert_eq!(admission.open(), 0);
        assert!(admission.open.lock().unwrap().networks.is_empty());
    }
}
