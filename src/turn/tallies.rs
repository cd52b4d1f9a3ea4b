//! Counts with a small, fixed set of names: requests by method and outcome, refusals by cause, quotas hit.

use super::rejection::Rejection;
use super::shared::Limit;
use crate::auth::{Cause, Denied};
use crate::stun::Method;

const METHODS: [(Method, &str); 7] = [
    (Method::BINDING, "binding"),
    (Method::ALLOCATE, "allocate"),
    (Method::REFRESH, "refresh"),
    (Method::CREATE_PERMISSION, "create_permission"),
    (Method::CHANNEL_BIND, "channel_bind"),
    (Method::CONNECT, "connect"),
    (Method::CONNECTION_BIND, "connection_bind"),
];
/// What [`Rejection::code`] can be. 0 stands for success.
const OUTCOMES: [u16; 17] =
    [0, 300, 400, 401, 403, 405, 420, 437, 438, 440, 441, 442, 443, 446, 447, 486, 508];
const CAUSES: [&str; 10] = [
    "expired",
    "no_such_secret",
    "wrong_realm",
    "unknown_user",
    "unknown_token_key",
    "bad_token",
    "not_the_tokens_key",
    "wrong_password",
    "malformed_username",
    "revoked",
];
const LIMITS: [Limit; 6] = [
    Limit::Allocations,
    Limit::AllocationsPerUser,
    Limit::AllocationsPerAddress,
    Limit::Permissions,
    Limit::Channels,
    Limit::PeerConnections,
];

/// Counts by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tallies {
    requests: [[u64; OUTCOMES.len()]; METHODS.len()],
    causes: [u64; CAUSES.len()],
    limits: [u64; LIMITS.len()],
}

impl Tallies {
    /// Requests answered: the method, and `success` or the code of the error.
    pub fn requests(&self) -> impl Iterator<Item = (&'static str, u16, u64)> {
        METHODS.iter().zip(&self.requests).flat_map(|((_, method), counts)| {
            OUTCOMES.iter().zip(counts).map(|(outcome, count)| (*method, *outcome, *count))
        })
    }

    /// Requests refused with 401 although they were signed, by their cause.
    pub fn causes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        CAUSES.into_iter().zip(self.causes)
    }

    /// Requests refused because a bound was reached, by the key of that bound.
    pub fn limits(&self) -> impl Iterator<Item = (&'static str, u64)> {
        LIMITS.into_iter().map(Limit::key).zip(self.limits)
    }

    pub(super) fn success(&mut self, method: Method) {
        self.request(method, 0);
    }

    pub(super) fn refused(&mut self, method: Method, rejection: &Rejection) {
        self.request(method, rejection.code());
        match rejection {
            Rejection::Denied(Denied::Unauthorized { cause, .. }) => self.causes[index(cause)] += 1,
            Rejection::AllocationQuotaReached(limit) | Rejection::LimitReached(limit) => {
                if let Some(at) = LIMITS.iter().position(|l| l == limit) {
                    self.limits[at] += 1;
                }
            }
            _ => {}
        }
    }

    fn request(&mut self, method: Method, outcome: u16) {
        let row = METHODS.iter().position(|(m, _)| *m == method);
        let column = OUTCOMES.iter().position(|code| *code == outcome);
        if let (Some(row), Some(column)) = (row, column) {
            self.requests[row][column] += 1;
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        let sum = |to: &mut [u64], from: &[u64]| to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        self.requests.iter_mut().zip(&other.requests).for_each(|(to, from)| sum(to, from));
        sum(&mut self.causes, &other.causes);
        sum(&mut self.limits, &other.limits);
    }
}

/// Where [`CAUSES`] has its name.
const fn index(cause: &Cause) -> usize {
    match cause {
        Cause::Expired { .. } => 0,
        Cause::NoSuchSecret => 1,
        Cause::WrongRealm => 2,
        Cause::UnknownUser => 3,
        Cause::UnknownTokenKey => 4,
        Cause::BadToken => 5,
        Cause::NotTheTokensKey => 6,
        Cause::WrongPassword => 7,
        Cause::MalformedUsername => 8,
        Cause::Revoked => 9,
    }
}
