//! The network of the race: two namespaces and a cable, which end with this process.
//!
//! ```text
//!   this process, on core 1                          the servers, on core 0
//!   l<pid>  10.9.0.1 (TCP, TLS)  ══════ veth ══════  s<pid>  10.9.0.10 coturn, .20 ternd, .30 forwarder,
//!           10.9.1.1 UDP clients, 10.9.2.1 peer                   .40 ternd with two shards
//! ```
//!
//! Each end of the cable receives in a kernel thread of its own (threaded NAPI) that is pinned beside who receives,
//! and goes first, as an interrupt would; its run time is what receiving costs the server's side. Runs of packets
//! are cut before the cable, as before most network cards of virtual machines, and put together by GRO behind it.

use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};

use crate::sys;

pub const CLIENTS: Ipv4Addr = Ipv4Addr::new(10, 9, 1, 1);
pub const PEER: Ipv4Addr = Ipv4Addr::new(10, 9, 2, 1);
/// Only permitted, never sent to.
pub const SECOND_PEER: Ipv4Addr = Ipv4Addr::new(10, 9, 2, 2);
/// Where no kernel listens: it drops such frames at once, so that only [`sys::Wire`] takes them.
pub const CLIENTS_MAC: [u8; 6] = [2, 0, 0, 9, 9, 9];
pub const SERVER_MAC: [u8; 6] = [2, 0, 0, 9, 0, 10];

pub const SERVER_CORE: usize = 0;
pub const LOAD_CORE: usize = 1;

pub struct Lab {
    /// Holds the servers' namespace while its standard input is open.
    holder: Child,
    pub load_device: String,
    /// Kernel threads that receive for the servers.
    napi: Vec<u32>,
}

impl Lab {
    /// Moves this thread into a network of its own; call before there are others.
    pub fn new() -> Self {
        let pid = std::process::id();
        let (load, server) = (format!("l{pid}"), format!("s{pid}"));
        sys::unshare_network().expect("a network namespace (are you root?)");
        let holder = Command::new("unshare")
            .args(["--net", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare");
        let mut lab = Self { holder, load_device: load.clone(), napi: Vec::new() };
        lab.wait_for_namespace();

        let mac = |m: [u8; 6]| m.map(|b| format!("{b:02x}")).join(":");
        let there = lab.holder.id().to_string();
        run(&format!(
            "ip link add {load} type veth peer name {server} address {} netns {there}",
            mac(SERVER_MAC)
        ));
        run("ip link set lo up");
        run(&format!("ip addr add 10.9.0.1/16 dev {load}"));
        run(&format!("ip link set {load} up"));
        lab.run("ip link set lo up");
        for last in [10, 20, 30, 40] {
            lab.run(&format!("ip addr add 10.9.0.{last}/16 dev {server}"));
        }
        lab.run(&format!("ip link set {server} up"));
        for ip in [CLIENTS, PEER, SECOND_PEER] {
            lab.run(&format!("ip neigh add {ip} lladdr {} dev {server} nud permanent", mac(CLIENTS_MAC)));
        }
        let offloads = "gro on tso off tx-udp-segmentation off";
        run(&format!("ethtool -K {load} {offloads}"));
        lab.run(&format!("ethtool -K {server} {offloads}"));
        // Each network namespace has a sysfs of its own, and it has to be mounted to be seen.
        let threaded = |device: &str| {
            vec![
                "unshare".into(),
                "--mount".into(),
                "sh".into(),
                "-c".into(),
                format!("mount -t sysfs race /sys && echo 1 > /sys/class/net/{device}/threaded"),
            ]
        };
        finish(threaded(&load));
        finish([lab.enter(), threaded(&server)].concat());
        for (device, core) in [(&load, LOAD_CORE), (&server, SERVER_CORE)] {
            let threads = napi_threads(device);
            assert!(!threads.is_empty(), "{device} has no NAPI thread");
            for thread in &threads {
                run(&format!("taskset -pc {core} {thread}"));
                run(&format!("chrt -f -p 50 {thread}"));
            }
            lab.napi = threads;
        }
        lab
    }

    /// What to put before a command so that it runs where the servers are.
    pub fn enter(&self) -> Vec<String> {
        vec!["nsenter".into(), format!("--net=/proc/{}/ns/net", self.holder.id())]
    }

    fn run(&self, command: &str) {
        finish([self.enter(), words(command)].concat());
    }

    fn wait_for_namespace(&self) {
        let link = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        for _ in 0..1_000 {
            if link(&self.holder.id().to_string()) != link("self") {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        panic!("no second network namespace");
    }

    /// Nanoseconds that receiving has cost the servers' side outside of their processes.
    pub fn napi_cpu(&self) -> u64 {
        self.napi.iter().map(|thread| cpu_of(&format!("/proc/{thread}/schedstat"))).sum()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// The first word of a schedstat: nanoseconds on the CPU.
pub fn cpu_of(schedstat: &str) -> u64 {
    let text = std::fs::read_to_string(schedstat).unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
}

fn napi_threads(device: &str) -> Vec<u32> {
    let prefix = format!("napi/{device}-");
    let of = |entry: std::fs::DirEntry| {
        let name = std::fs::read_to_string(entry.path().join("comm")).ok()?;
        name.starts_with(&prefix).then(|| entry.file_name().to_str()?.parse().ok())?
    };
    std::fs::read_dir("/proc").unwrap().filter_map(|entry| of(entry.ok()?)).collect()
}

fn words(command: &str) -> Vec<String> {
    command.split(' ').map(Into::into).collect()
}

fn run(command: &str) {
    finish(words(command));
}

fn finish(command: Vec<String>) {
    let output = Command::new(&command[0]).args(&command[1..]).output();
    let output = output.unwrap_or_else(|e| panic!("{}: {e} (see --help for what is needed)", command[0]));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", command.join(" "));
}
