//! Room for many sockets in this process, and in those that it starts.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// As many open files as the system gives, at best 100,000.
pub fn raise_file_limit() {
    const FILES: u64 = 100_000;
    let given = getrlimit(Resource::Nofile).maximum.unwrap_or(FILES);
    let raise = |maximum: u64| {
        let limit = Rlimit { current: Some(maximum.min(FILES)), maximum: Some(maximum) };
        setrlimit(Resource::Nofile, limit)
    };
    // Only root may raise the maximum.
    if raise(given.max(FILES)).is_err() {
        let _ = raise(given);
    }
}
