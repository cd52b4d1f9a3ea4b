//! Shards on CPUs of their own: what one core has in its caches stays there.

/// Keeps this thread on one of the CPUs it may use; threads with other numbers get other ones, as long as there are
/// enough. Where that can't be had, the log says so and the thread goes where the system puts it.
pub(super) fn to_one_cpu(number: usize) {
    match pin(number) {
        Ok(cpu) => log::debug!("shard {number} stays on CPU {cpu}"),
        Err(error) => log::warn!("shard {number} can't be kept on one CPU (pin-shards): {error}"),
    }
}

#[cfg(target_os = "linux")]
fn pin(number: usize) -> std::io::Result<usize> {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let allowed = sched_getaffinity(None)?;
    let cpus = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    let cpu = cpus.clone().nth(number % cpus.count().max(1)).ok_or(std::io::ErrorKind::NotFound)?;
    let mut only = CpuSet::new();
    only.set(cpu);
    sched_setaffinity(None, &only)?;
    Ok(cpu)
}

#[cfg(not(target_os = "linux"))]
fn pin(_: usize) -> std::io::Result<usize> {
    Err(std::io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use rustix::thread::sched_getaffinity;

    #[test]
    fn threads_get_cpus_in_turn() {
        let allowed = sched_getaffinity(None).unwrap().count();
        let pinned = |number| {
            std::thread::spawn(move || {
                let cpu = pin(number).unwrap();
                let set = sched_getaffinity(None).unwrap();
                assert!(set.count() == 1 && set.is_set(cpu));
                cpu
            })
            .join()
            .unwrap()
        };
        let first = pinned(0);
        assert_eq!(pinned(allowed as usize), first, "around again");
        assert!(allowed == 1 || pinned(1) != first);
    }
}
