//! The network of the race: two namespaces and two cables, which end with this process.
//!
//! ```text
//!   this process, on core 1                              the servers, on core 0
//!   l<pid>  10.9.1.1 UDP clients, 10.9.2.1 peer  ═ veth ═  s<pid>  10.9.0.10 coturn, .20 ternd, .30 forwarder,
//!   m<pid>  10.9.3.1 TCP and TLS clients         ═ veth ═  t<pid>            .40 ternd with two shards
//! ```
//!
//! The servers receive in kernel threads (threaded NAPI) that are pinned beside them and go first, as an interrupt
//! would; their run time is what receiving costs the servers' side. Runs of packets are cut before a cable, as before
//! most network cards of virtual machines, and put together by GRO behind it.
//!
//! What the servers send to `l<pid>` lies in the load's ring at once, for as little as a network card would take. To
//! `m<pid>`, where the kernel has the load's sockets, it wakes a kernel thread on core 1; in a virtual machine that takes
//! some microseconds of whoever sends, and in the first cable would be most of what sending a datagram costs.

use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};

use crate::process::{LOAD_CORE, SERVER_CORE, cpu_of};
use crate::sys;

pub const CLIENTS: Ipv4Addr = Ipv4Addr::new(10, 9, 1, 1);
pub const PEER: Ipv4Addr = Ipv4Addr::new(10, 9, 2, 1);
/// Only permitted, never sent to.
pub const SECOND_PEER: Ipv4Addr = Ipv4Addr::new(10, 9, 2, 2);
/// Where no kernel listens: it drops such frames at once, so that only [`sys::Wire`] takes them.
pub const CLIENTS_MAC: [u8; 6] = [2, 0, 0, 9, 9, 9];
pub const SERVER_MAC: [u8; 6] = [2, 0, 0, 9, 0, 10];

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
        let [load, server, sockets, streams] = ["l", "s", "m", "t"].map(|end| format!("{end}{pid}"));
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
        let veth = |here: &str, far: &str| {
            run(&format!("ip link add {here} type veth peer name {far} netns {there}"));
            run(&format!("ip link set {here} up"));
            lab.run(&format!("ip link set {far} up"));
            let uncut = "tso off tx-udp-segmentation off";
            run(&format!("ethtool -K {here} gro {} {uncut}", if here == load { "off" } else { "on" }));
            lab.run(&format!("ethtool -K {far} gro on {uncut}"));
        };
        run("ip link set lo up");
        lab.run("ip link set lo up");
        veth(&load, &server);
        veth(&sockets, &streams);
        lab.run(&format!("ip link set {server} address {}", mac(SERVER_MAC)));
        for last in [10, 20, 30, 40] {
            lab.run(&format!("ip addr add 10.9.0.{last}/24 dev {server}"));
        }
        for (ip, net) in [(CLIENTS, "10.9.1.0/24"), (PEER, "10.9.2.0/24"), (SECOND_PEER, "10.9.2.0/24")] {
            lab.run(&format!("ip route replace {net} dev {server}"));
            lab.run(&format!("ip neigh add {ip} lladdr {} dev {server} nud permanent", mac(CLIENTS_MAC)));
        }
        run(&format!("ip addr add 10.9.3.1/24 dev {sockets}"));
        run(&format!("ip route add 10.9.0.0/24 dev {sockets}"));
        lab.run(&format!("ip addr add 10.9.3.2/24 dev {streams}"));
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
        let there = lab.enter();
        finish(threaded(&sockets));
        for device in [&server, &streams] {
            finish([there.clone(), threaded(device)].concat());
        }
        for (device, core) in [(&sockets, LOAD_CORE), (&server, SERVER_CORE), (&streams, SERVER_CORE)] {
            let threads = napi_threads(device);
            assert!(!threads.is_empty(), "{device} has no NAPI thread");
            for thread in &threads {
                run(&format!("taskset -pc {core} {thread}"));
                run(&format!("chrt -f -p 50 {thread}"));
            }
            if core == SERVER_CORE {
                lab.napi.extend(threads);
            }
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
