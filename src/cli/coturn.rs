//! `ternd import-coturn`: the TOML that does what a turnserver.conf does, and why where something can't be had.
//!
//! ```text
//! listening-port=3478     ─┐                      [listen]
//! static-auth-secret=...   ├─► Import: options ─► udp = ["0.0.0.0:3478", ...]   + comments for what has no counterpart
//! cipher-list=...         ─┘    by name           ...
//! ```

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;

use ipnet::{IpSubnets, Ipv4Subnets, Ipv6Subnets};

use super::{fail, print};

pub(super) fn run(path: &Path) -> ExitCode {
    match std::fs::read_to_string(path) {
        Ok(text) => print(&convert(&text, &path.display().to_string())),
        Err(error) => fail(&format!("cannot read {}: {error}", path.display())),
    }
}

/// What needs nothing here, because it is so anyway; and what can't be had, with the reason.
const NOTES: &[(&str, &str)] = &[
    ("fingerprint", "answers have FINGERPRINT where the question has it"),
    ("lt-cred-mech", "always on"),
    ("use-auth-secret", "on where there is a secret"),
    ("no-multicast-peers", "always so"),
    ("no-loopback-peers", "always so, unless peers.allow opens them"),
    ("no-cli", "there is no telnet: `ternd ctl` uses a socket that only root and its group can open"),
    ("cli-ip", "`ternd ctl` uses a Unix socket"),
    ("cli-port", "`ternd ctl` uses a Unix socket"),
    ("cli-password", "`ternd ctl` uses a Unix socket"),
    ("web-admin", "`ternd ctl` shows sessions, /metrics the figures"),
    ("web-admin-ip", "see web-admin"),
    ("web-admin-port", "see web-admin"),
    ("syslog", "the journal has everything, with fields"),
    ("log-file", "the journal has everything, with fields; log.format = \"json\" writes lines on stderr"),
    ("simple-log", "the journal rotates"),
    ("new-log-timestamp", "times are always whole"),
    ("pidfile", "systemd knows it"),
    ("proc-user", "User= of the unit"),
    ("proc-group", "Group= of the unit"),
    ("userdb", "there is no data base: users are in [auth.users], and time-limited credentials need none"),
    ("psql-userdb", "see userdb"),
    ("mysql-userdb", "see userdb"),
    ("mongo-userdb", "see userdb"),
    ("redis-userdb", "see userdb"),
    ("redis-statsdb", "/metrics has the figures, the journal each session"),
    ("no-dtls", "TURN over DTLS is not spoken: browsers don't use it"),
    ("no-tlsv1", "only TLS 1.2 and 1.3 are spoken"),
    ("no-tlsv1_1", "only TLS 1.2 and 1.3 are spoken"),
    ("no-tlsv1_2", "TLS 1.2 can't be switched off"),
    ("cipher-list", "only suites with forward secrecy and AEAD are offered"),
    ("dh-file", "only elliptic curves are used"),
    ("dh566", "only elliptic curves are used"),
    ("dh1066", "only elliptic curves are used"),
    ("ec-curve-name", "chosen by the TLS library"),
    ("CA-file", "clients are known by their credentials, not by certificates"),
    ("pkey-pwd", "keys must not be encrypted: systemd hands them over (LoadCredential=)"),
    ("channel-lifetime", "10 minutes, as RFC 8656 says"),
    ("permission-lifetime", "5 minutes, as RFC 8656 says"),
    ("bps-capacity", "there is no cap on the whole server: tc(8) shapes an interface"),
    ("server-relay", "server relays are not supported: they open the machine to the world"),
    ("secure-stun", "Binding needs no credential"),
    ("no-stun", "STUN can't be switched off"),
    ("no-stun-backward-compatibility", "RFC 3489 is not spoken"),
    ("response-origin-only-with-rfc5780", "always so"),
    ("no-software-attribute", "SOFTWARE is told to clients with a credential only"),
    ("no-rfc5780", "off unless nat-discovery.addresses is set"),
    ("alt-listening-port", "see nat-discovery.port"),
    ("alt-tls-listening-port", "name all ports in listen.tls"),
    ("aux-server", "name all addresses in [listen]"),
    ("check-origin-consistency", "origins are checked where browsers send them: ice.origins"),
    ("udp-self-balance", "each thread has its own socket"),
    ("no-tcp-relay", "TCP relays can't be switched off; limits.peer-connections bounds them"),
    ("no-udp-relay", "UDP relays can't be switched off"),
    ("keep-address-family", "as RFC 8656: IPv4 unless the client asks otherwise"),
    ("allocation-default-address-family", "as RFC 8656: IPv4 unless the client asks otherwise"),
    ("rest-api-separator", "it is always a colon"),
    ("tls-alternate-server", "clients over TLS are not sent elsewhere"),
    ("oauth", "set auth.oauth.server-name and auth.oauth.keys"),
    ("acme-redirect", "set acme.domains, and the certificate comes by itself"),
];

struct Import<'a> {
    /// Each option with its values, in the order of the file.
    options: BTreeMap<&'a str, Vec<&'a str>>,
    /// By section, the root being "".
    keys: BTreeMap<&'static str, Vec<String>>,
    comments: Vec<String>,
}

fn convert(text: &str, name: &str) -> String {
    let mut import = Import { options: BTreeMap::new(), keys: BTreeMap::new(), comments: Vec::new() };
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (option, value) = line.split_once(['=', ' ', '\t']).unwrap_or((line, ""));
        import.options.entry(option.trim_start_matches('-')).or_default().push(value.trim());
    }
    import.listeners();
    import.relay();
    import.auth();
    import.peers();
    import.limits();
    import.rest();
    import.toml(name)
}

impl<'a> Import<'a> {
    fn all(&mut self, option: &str) -> Vec<&'a str> {
        self.options.remove(option).unwrap_or_default()
    }

    /// The last one counts, as in coturn.
    fn last(&mut self, option: &str) -> Option<&'a str> {
        self.all(option).pop().filter(|value| !value.is_empty())
    }

    fn flag(&mut self, option: &str) -> bool {
        // `no-udp`, `no-udp=1`; `=0` and `=no` switch it off.
        self.options
            .remove(option)
            .is_some_and(|values| !matches!(values.last().copied(), Some("0" | "no" | "off" | "false" | "n")))
    }

    fn set(&mut self, section: &'static str, key: &str, value: impl std::fmt::Display) {
        self.keys.entry(section).or_default().push(format!("{key} = {value}"));
    }

    /// A number from 1 up; coturn's 0 means "no limit".
    fn number(&mut self, option: &str) -> Option<u64> {
        let value = self.last(option)?;
        let number = value.parse().ok();
        if number.is_none() {
            self.comments.push(format!("{option}={value}: not a number"));
        }
        number
    }

    fn note(&mut self, text: String) {
        self.comments.push(text);
    }

    fn listeners(&mut self) {
        let ips = self.all("listening-ip");
        let everywhere = |port: u64| match ips.as_slice() {
            [] => list(["0.0.0.0", "[::]"].map(|ip| format!("{ip}:{port}"))),
            ips => list(ips.iter().map(|ip| match ip.contains(':') {
                true => format!("[{ip}]:{port}"),
                false => format!("{ip}:{port}"),
            })),
        };
        let plain = self.number("listening-port").unwrap_or(3478);
        let tls = self.number("tls-listening-port").unwrap_or(5349);
        let (certificate, key) = (self.last("cert"), self.last("pkey"));
        for (switch, option, port) in
            [("udp", "no-udp", plain), ("tcp", "no-tcp", plain), ("tls", "no-tls", tls)]
        {
            let off = self.flag(option) || switch == "tls" && certificate.is_none();
            let value = if off { "[]".into() } else { everywhere(port) };
            self.set("listen", switch, value);
        }
        if certificate.is_none() {
            self.note(
                "no cert and pkey: TURN over TLS was off; with them, listen.tls = 443 serves HTTPS, too"
                    .into(),
            );
        }
        for (name, file) in [("certificate", certificate), ("key", key)] {
            if let Some(file) = file {
                self.set("tls", name, quoted(file));
            }
        }
    }

    fn relay(&mut self) {
        let addresses = self.all("relay-ip");
        if !addresses.is_empty() {
            self.set("relay", "addresses", list(addresses));
        }
        // coturn: PUBLIC or PUBLIC/PRIVATE.
        let external = self.all("external-ip");
        if !external.is_empty() {
            let mapped = external.iter().map(|value| match value.split_once('/') {
                Some((public, private)) => format!("{private}={public}"),
                None => (*value).to_owned(),
            });
            self.set("relay", "external-ip", list(mapped));
        }
        let (min, max) = (self.number("min-port"), self.number("max-port"));
        if min.is_some() || max.is_some() {
            let range = format!("{}-{}", min.unwrap_or(49_152), max.unwrap_or(65_535));
            self.set("relay", "ports", quoted(&range));
        }
        if let Some(seconds) = self.number("max-allocate-lifetime") {
            self.set("relay", "max-lifetime", seconds);
        }
        if self.flag("mobility") {
            self.set("relay", "mobility", true);
        }
        let alternates = self.all("alternate-server");
        if !alternates.is_empty() {
            let with_port = |at: &&str| match at.parse::<IpAddr>() {
                Ok(IpAddr::V4(ip)) => format!("{ip}:3478"),
                Ok(IpAddr::V6(ip)) => format!("[{ip}]:3478"),
                Err(_) => (*at).to_owned(),
            };
            self.set("relay", "alternate-servers", list(alternates.iter().map(with_port)));
            self.note("alternate-server: clients are sent there only when limits.allocations is reached, or at a drain".into());
        }
        if self.flag("rfc5780") {
            self.note("rfc5780: set nat-discovery.addresses to two addresses of this machine".into());
        }
    }

    fn auth(&mut self) {
        if let Some(realm) = self.last("realm") {
            self.set("auth", "realm", quoted(realm));
        }
        match self.all("static-auth-secret").as_slice() {
            [] => {}
            [secret] => self.set("auth", "secret", quoted(secret)),
            several => {
                let items = several.iter().zip(1..);
                let items =
                    items.map(|(secret, n)| format!("{{ id = \"{n}\", secret = {} }}", quoted(secret)));
                self.set("auth", "secrets", format!("[{}]", items.collect::<Vec<_>>().join(", ")));
            }
        }
        for user in self.all("user") {
            match user.split_once(':') {
                Some((name, key)) if key.starts_with("0x") => self.note(format!(
                    "user={name}: only its key is there, not its password; write {} = \"password\" into [auth.users]",
                    quoted(name)
                )),
                Some((name, password)) => self.set("auth.users", &quoted(name), quoted(password)),
                None => self.note(format!("user={user}: no password")),
            }
        }
        if self.flag("no-auth") {
            self.note(
                "no-auth: not to be had: an open relay is used by others within days. Use a secret".into(),
            );
        }
        if let Some(seconds) = self.number("stale-nonce").filter(|seconds| *seconds > 0) {
            self.set("auth", "nonce-lifetime", seconds.max(60));
        }
        if let Some(name) = self.last("server-name") {
            self.set("", "host", quoted(name));
        }
    }

    fn peers(&mut self) {
        for (option, key) in [("allowed-peer-ip", "allow"), ("denied-peer-ip", "deny")] {
            let mut networks = Vec::new();
            for value in self.all(option) {
                match networks_of(value) {
                    Some(some) => networks.extend(some),
                    None => self.note(format!("{option}={value}: neither an address, a network nor a range")),
                }
            }
            if key == "allow" && self.flag("allow-loopback-peers") {
                networks.extend(["127.0.0.0/8".into(), "::1/128".into()]);
                self.note("allow-loopback-peers opens this machine's own services to every client".into());
            }
            if !networks.is_empty() {
                self.set("peers", key, list(networks));
            }
        }
        self.note(
            "private, loopback, link-local and other special networks are closed without any denied-peer-ip"
                .into(),
        );
    }

    fn limits(&mut self) {
        for (option, key) in [
            ("total-quota", "allocations"),
            ("user-quota", "allocations-per-user"),
            ("max-bps", "allocation-bytes-per-second"),
        ] {
            if let Some(number) = self.number(option).filter(|number| *number > 0) {
                self.set("limits", key, number);
            }
        }
        if let Some(threads) = self.number("relay-threads") {
            self.set("", "shards", threads);
        }
    }

    fn rest(&mut self) {
        if self.flag("verbose") || self.flag("Verbose") {
            self.set("log", "level", "\"debug\"");
        }
        let (address, port) = (self.last("prometheus-address"), self.number("prometheus-port"));
        if self.flag("prometheus") {
            let at = format!("{}:{}", address.unwrap_or("127.0.0.1"), port.unwrap_or(9641));
            self.set("metrics", "listen", list([at]));
            self.note("prometheus: the metrics have other names: docs/operations.md".into());
        }
        for (option, values) in std::mem::take(&mut self.options) {
            let why = NOTES.iter().find(|(name, _)| *name == option).map(|(_, why)| *why);
            // Without the value: it may be a password.
            let shown = if values.iter().all(|value| value.is_empty()) { "" } else { "=..." };
            self.note(format!("{option}{shown}: {}", why.unwrap_or("nothing like it is known here")));
        }
    }

    fn toml(self, name: &str) -> String {
        let mut out = format!(
            "# Made from {name} by `ternd import-coturn`. Look through it, then:\n#   ternd check-config FILE\n"
        );
        for comment in &self.comments {
            // Writing to a String can't fail.
            let _ = writeln!(out, "# {comment}");
        }
        for (section, keys) in &self.keys {
            out.push('\n');
            if !section.is_empty() {
                let _ = writeln!(out, "[{section}]");
            }
            keys.iter().for_each(|key| out.push_str(&format!("{key}\n")));
        }
        out
    }
}

/// `10.0.0.1`, `10.0.0.0/8`, `10.0.0.1-10.0.0.9`.
fn networks_of(value: &str) -> Option<Vec<String>> {
    if let Ok(network) = value.parse::<ipnet::IpNet>() {
        return Some(vec![network.trunc().to_string()]);
    }
    let (first, last) = value.split_once('-').unwrap_or((value, value));
    let subnets = match (first.trim().parse().ok()?, last.trim().parse().ok()?) {
        (IpAddr::V4(a), IpAddr::V4(b)) => IpSubnets::V4(Ipv4Subnets::new(a, b, 0)),
        (IpAddr::V6(a), IpAddr::V6(b)) => IpSubnets::V6(Ipv6Subnets::new(a, b, 0)),
        _ => return None,
    };
    Some(subnets.map(|network| network.to_string()).collect())
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn list<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<_> = items.into_iter().map(|item| quoted(item.as_ref())).collect();
    format!("[{}]", items.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Disk, parse};

    fn imported(conf: &str) -> (String, Config) {
        let text = convert(conf, "turnserver.conf");
        let checked = parse(&text, &Disk::beside(Path::new("ternd.toml")));
        (text.clone(), checked.unwrap_or_else(|problems| panic!("{problems:?} in\n{text}")).config)
    }

    #[test]
    fn options_become_keys() {
        let (_, config) = imported(
            "# a comment\nlistening-port=3479\nlistening-ip=192.0.2.1\nlistening-ip=2001:db8::1\nno-tls\n\
             relay-ip=192.0.2.1\nexternal-ip=203.0.113.5/192.0.2.1\nmin-port=50000\nmax-port=51000\n\
             use-auth-secret\nstatic-auth-secret=north \"and\" south\nrealm=example.org\nuser=alice:her password\n\
             allowed-peer-ip=10.0.0.0-10.0.0.9\ndenied-peer-ip=198.51.100.7\ntotal-quota=1200\nuser-quota 12\n\
             max-bps=64000\nstale-nonce=600\nserver-name=turn.example.org\nverbose\nprometheus\nmobility\n\
             alternate-server=203.0.113.20\n",
        );
        let addresses = |at: &[std::net::SocketAddr]| at.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(addresses(&config.listen.udp), ["192.0.2.1:3479", "[2001:db8::1]:3479"]);
        assert_eq!(addresses(&config.listen.tls), [""; 0]);
        assert_eq!(config.relay.announced("192.0.2.1".parse().unwrap()).to_string(), "203.0.113.5");
        assert_eq!(config.relay.ports, 50_000..=51_000);
        assert_eq!(&config.auth.secrets[0].bytes[..], b"north \"and\" south");
        assert_eq!((&*config.auth.realm, &*config.auth.users[0].name), ("example.org", "alice"));
        let allowed: Vec<_> = config.turn.allow_peers.iter().map(ToString::to_string).collect();
        assert_eq!(allowed, ["10.0.0.0/29", "10.0.0.8/31"]);
        assert_eq!(config.turn.deny_peers[0].to_string(), "198.51.100.7/32");
        assert_eq!((config.turn.limits.allocations, config.turn.limits.allocations_per_user), (1200, 12));
        assert_eq!(config.turn.limits.allocation_rates.bytes, 64_000);
        assert_eq!(config.auth.nonce_lifetime.as_secs(), 600);
        assert_eq!(config.host.as_deref(), Some("turn.example.org"));
        assert_eq!(addresses(&config.metrics), ["127.0.0.1:9641"]);
        assert_eq!(addresses(&config.turn.alternate_servers), ["203.0.113.20:3478"]);
        assert!(config.turn.mobility);
    }

    #[test]
    fn what_has_no_counterpart_is_said_with_the_reason_and_without_secrets() {
        let (text, _) = imported(
            "cli-password=qwerty\ncipher-list=X\nno-such-thing=7\nuser=bob:0x1234\nno-auth\nsyslog\nno-multicast-peers=0\n",
        );
        for part in [
            "cli-password=...: `ternd ctl`",
            "cipher-list=...: only suites",
            "no-such-thing=...: nothing like it",
            "user=bob: only its key",
            "no-auth: not to be had",
            "syslog: the journal",
        ] {
            assert!(text.contains(part), "no {part:?} in\n{text}");
        }
        assert!(!text.contains("qwerty") && !text.contains("0x1234"));
    }

    #[test]
    fn several_secrets_are_a_list() {
        let (_, config) =
            imported("static-auth-secret=the first one, long\nstatic-auth-secret=the second one, long\n");
        let ids: Vec<_> = config.auth.secrets.iter().map(|secret| secret.id.as_str()).collect();
        assert_eq!(ids, ["1", "2"]);
    }
}
