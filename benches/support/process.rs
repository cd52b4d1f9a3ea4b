//! A process under test, what it costs, and on which core it runs.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::thread::{CpuSet, sched_setaffinity};

pub const SERVER_CORE: usize = 0;
pub const LOAD_CORE: usize = 1;

/// Ends with this value.
pub struct Process(Child);

impl Process {
    /// Starts a program. With the environment variable `loud` it says what it has to say.
    pub fn start(line: &[String], loud: &str) -> Self {
        let output = || if std::env::var_os(loud).is_some() { Stdio::inherit() } else { Stdio::null() };
        let mut command = Command::new(&line[0]);
        command.args(&line[1..]).stdin(Stdio::null()).stdout(output()).stderr(output());
        Self(command.spawn().unwrap_or_else(|e| panic!("{}: {e}", line[0])))
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Nanoseconds that each of its threads has spent on the CPU.
    pub fn threads(&self) -> BTreeMap<String, u64> {
        threads_of(&self.id().to_string())
    }

    pub fn cpu(&self) -> u64 {
        self.threads().values().sum()
    }

    /// Bytes of memory that are its own, and in RAM.
    pub fn memory(&self) -> u64 {
        let status = Path::new("/proc").join(self.id().to_string()).join("status");
        let status = std::fs::read_to_string(status).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or("0");
        line.trim().split(' ').next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1_024
    }

    pub fn is_alive(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Nanoseconds that each thread of a process (`self`: this one) has spent on the CPU.
pub fn threads_of(process: &str) -> BTreeMap<String, u64> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task"));
    let of = |task: std::fs::DirEntry| {
        let name = task.file_name().to_str()?.to_owned();
        Some((name, cpu_of(task.path().join("schedstat").to_str()?)))
    };
    tasks.into_iter().flatten().filter_map(|task| of(task.ok()?)).collect()
}

/// The first word of a schedstat: nanoseconds on the CPU.
pub fn cpu_of(schedstat: &str) -> u64 {
    let text = std::fs::read_to_string(schedstat).unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
}

/// Puts this thread, and what it starts, on one core.
pub fn pin_to(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    let _ = sched_setaffinity(None, &set);
}
