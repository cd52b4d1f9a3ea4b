//! Configurations, good and bad, and what is said about them.

mod acme;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::*;

/// A file system of a few names. Names that begin with `public` may be read by everybody.
#[derive(Default)]
struct Fake(BTreeMap<&'static str, String>);

impl Files for Fake {
    fn locate(&self, written: &str) -> Option<PathBuf> {
        (!written.starts_with("credential:")).then(|| written.into())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let content = path.to_str().and_then(|p| self.0.get(p)).ok_or(io::ErrorKind::NotFound)?;
        Ok(content.clone().into_bytes())
    }

    fn is_public(&self, path: &Path) -> bool {
        path.to_str().is_some_and(|p| p.starts_with("public"))
    }

    fn is_directory(&self, path: &Path) -> bool {
        path.to_str().is_some_and(|p| p.ends_with("www"))
    }
}

fn files(names: &[(&'static str, &str)]) -> Fake {
    Fake(names.iter().map(|(name, content)| (*name, (*content).to_owned())).collect())
}

fn self_signed() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["turn.example.org".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

fn good(text: &str) -> Config {
    let checked = parse(text, &Fake::default()).unwrap();
    assert_eq!(checked.warnings, [], "{text}");
    checked.config
}

/// The problems of a refused text, one line each.
fn errors_with(text: &str, files: &Fake) -> Vec<String> {
    let problems = parse(text, files).expect_err(text);
    problems.iter().map(ToString::to_string).collect()
}

fn errors(text: &str) -> Vec<String> {
    errors_with(text, &Fake::default())
}

fn warnings_with(text: &str, files: &Fake) -> Vec<String> {
    let checked = parse(text, files).unwrap();
    assert!(checked.warnings.iter().all(|w| w.severity == Severity::Warning));
    checked.warnings.iter().map(ToString::to_string).collect()
}

fn warnings(text: &str) -> Vec<String> {
    warnings_with(text, &Fake::default())
}

/// Exactly one problem, whose line holds all of `parts`.
fn only(problems: &[String], parts: &[&str]) {
    assert_eq!(problems.len(), 1, "{problems:#?}");
    for part in parts {
        assert!(problems[0].contains(part), "{:?} lacks {part:?}", problems[0]);
    }
}

// The shipped files.

//= 8656-7.2-7
#[test]
fn full_toml_is_exactly_the_defaults() {
    assert_eq!(format!("{:#?}", good(FULL)), format!("{:#?}", Config::default()));
    assert_eq!(format!("{:#?}", good("")), format!("{:#?}", Config::default()));
}

#[test]
fn full_toml_names_every_key_and_no_other() {
    // With its examples uncommented, so that keys without a default are read too.
    let (certificate, key) = self_signed();
    let secret = "a secret of more than 16 bytes";
    let files = files(&[
        ("fullchain.pem", &certificate),
        ("privkey.pem", &key),
        ("secret-2026", secret),
        ("token-key", "a key of thirty-two bytes, raw ."),
        ("api-keys", secret),
        ("app.pem", "a public key"),
        ("jwks.json", "{}"),
        ("ca.pem", &certificate),
        ("eab.key", "a2V5"),
    ]);
    let example = |line: &str| {
        let rest = line.strip_prefix("# ")?;
        let (name, _) = rest.split_once(" = ")?;
        name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-').then(|| rest.to_owned())
    };
    let mut written = BTreeSet::new();
    let mut text = String::new();
    let mut section = String::new();
    for line in FULL.lines() {
        let line = example(line).unwrap_or_else(|| line.to_owned());
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            section = format!("{name}.");
        } else if let Some((name, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            written.insert(format!("{section}{name}"));
            // The same secret twice is an error: one way is enough here.
            if name == "secret-file" || name == "invite-secret-file" {
                continue;
            }
        }
        text += &format!("{line}\n");
    }
    let (outcome, known) = parse_and_list(&text, &files);
    let config = outcome.unwrap().config;
    assert_eq!(config.auth.secrets.len(), 3);
    assert_eq!(config.auth.users[0].name, "alice");

    // Keys of an element, and names of the user's choice, are shown by an example each.
    let elements = [
        "acme.external-account.id",
        "acme.external-account.key-file",
        "auth.secrets.id",
        "auth.secrets.secret",
        "auth.secrets.secret-file",
        "auth.oauth.keys.id",
        "auth.oauth.keys.key-file",
        "auth.oauth.keys.algorithm",
        "rooms.jwt.keys.id",
        "rooms.jwt.keys.algorithm",
        "rooms.jwt.keys.key-file",
    ];
    written.remove("auth.users.alice");
    written.insert("auth.users.*".into());
    written.remove("log.levels.relay");
    written.insert("log.levels.*".into());
    written.extend(elements.map(String::from));
    assert_eq!(written, known.into_iter().collect());
}

#[test]
fn the_installed_file_parses_as_it_is_and_with_its_examples() {
    let short = include_str!("../../etc/ternd.toml");
    assert_eq!(format!("{:?}", good(short)), format!("{:?}", Config::default()));

    let uncommented: Vec<_> = short
        .lines()
        .filter_map(|l| match l.strip_prefix("# ") {
            Some(rest) if rest.contains(" = ") && !rest.contains(": ") => Some(rest),
            Some(_) => None,
            None => Some(l),
        })
        .filter(|l| !l.starts_with('#'))
        .collect();
    let text = uncommented.join("\n");
    let checked = parse(&text, &Fake::default()).unwrap();
    assert_eq!(checked.config.host.as_deref(), Some("turn.example.org"));
    assert_eq!(checked.config.relay.external_ips.len(), 1);
    assert_eq!(checked.config.acme.domains, ["turn.example.org"]);
    assert!(checked.warnings.iter().all(|w| w.path == "auth.secret"), "{:?}", checked.warnings);

    // With the other kind of certificate.
    let own: Vec<_> =
        short.lines().filter(|l| l.starts_with("#certificate") || l.starts_with("#key")).collect();
    let kept = text.lines().filter(|l| !l.starts_with("domains") && !l.starts_with("email"));
    let own = format!("[tls]\n{}", own.join("\n").replace('#', ""));
    let text = kept.collect::<Vec<_>>().join("\n").replace("[tls]", &own);
    let (certificate, key) = self_signed();
    let files = files(&[("fullchain.pem", &certificate), ("privkey.pem", &key)]);
    let checked = parse(&text, &files).unwrap();
    assert_eq!(checked.config.tls.unwrap().key, Path::new("privkey.pem"));
}

// What is accepted.

#[test]
fn values_arrive() {
    let config = good(
        r#"
        host = "Turn.Example.org"
        shards = 3
        [listen]
        udp = [3478, "192.0.2.1:5000"]
        tcp = "192.0.2.1:3478"
        tls = 443
        [auth]
        realm = "example.org"
        secret = "a secret of more than 16 bytes"
        nonce-lifetime = 120
        [auth.users]
        alice = "her long password"
        [relay]
        addresses = ["10.0.0.5", "2001:db8::5"]
        external-ip = ["10.0.0.5=203.0.113.5", "2001:db8:1::5"]
        ports = "50000-60000"
        alternate-servers = ["203.0.113.20:3478", "[2001:db8::20]:3478"]
        [peers]
        allow = ["10.0.0.0/8", "fd00::1"]
        [limits]
        allocations = 10
        [ice]
        ttl = "2h"
        origins = ["https://app.example.org:8443"]
        [log]
        level = "debug"
        format = "json"
        "#,
    );
    assert_eq!(config.host.as_deref(), Some("turn.example.org"));
    assert_eq!(config.shards, 3);
    assert_eq!(format!("{:?}", config.listen.udp), "[0.0.0.0:3478, [::]:3478, 192.0.2.1:5000]");
    assert_eq!(format!("{:?}", config.listen.tcp), "[192.0.2.1:3478]");
    assert_eq!(format!("{:?}", config.listen.tls), "[0.0.0.0:443, [::]:443]");
    assert_eq!(config.auth.realm, "example.org");
    assert_eq!(config.auth.secrets[0].bytes.as_slice(), b"a secret of more than 16 bytes");
    assert_eq!(config.auth.nonce_lifetime, Duration::from_secs(120));
    assert_eq!(config.auth.users[0].password.as_str(), "her long password");
    assert_eq!(config.relay.ports, 50_000..=60_000);
    assert_eq!(format!("{:?}", config.turn.alternate_servers), "[203.0.113.20:3478, [2001:db8::20]:3478]");
    assert_eq!(format!("{:?}", config.turn.allow_peers), "[10.0.0.0/8, fd00::1/128]");
    assert_eq!(config.turn.limits.allocations, 10);
    assert_eq!(config.ice.ttl, Duration::from_secs(7200));
    assert_eq!(config.ice.origins, ["https://app.example.org:8443"]);
    assert_eq!((config.log.level, config.log.format), (LevelFilter::Debug, LogFormat::Json));
}

#[test]
fn announced_prefers_the_exact_mapping() {
    let relay = good("[relay]\nexternal-ip = ['203.0.113.9', '10.0.0.5=203.0.113.5']").relay;
    let announced = |ip: &str| relay.announced(ip.parse().unwrap()).to_string();
    assert_eq!(announced("10.0.0.5"), "203.0.113.5");
    assert_eq!(announced("10.0.0.6"), "203.0.113.9");
    assert_eq!(announced("2001:db8::1"), "2001:db8::1");
}

#[test]
fn secrets_come_from_files_too_and_in_order() {
    let secret = "a secret of more than 16 bytes";
    let text = "[auth]\nsecrets = [{ id = 'new', secret-file = 'f' }, { id = 'old', secret = 'another secret of old' }]\n\
                [ice]\napi-keys = ['an api key of 24 bytes !']\napi-keys-file = 'keys'";
    let files =
        files(&[("f", "a secret of more than 16 bytes\r\n"), ("keys", "# mine\n\n  0123456789abcdef \n")]);
    let config = parse(text, &files).unwrap().config;
    let secrets: Vec<_> = config.auth.secrets.iter().map(|s| (s.id.as_str(), s.bytes.as_slice())).collect();
    assert_eq!(secrets, [("new", secret.as_bytes()), ("old", b"another secret of old")]);
    let keys: Vec<_> = config.ice.api_keys.iter().map(|s| (s.id.as_str(), s.bytes.as_slice())).collect();
    assert_eq!(
        keys,
        [("api-keys 1", &b"an api key of 24 bytes !"[..]), ("api-keys-file line 3", b"0123456789abcdef")]
    );
}

#[test]
fn keys_of_tokens_are_bytes_or_base64() {
    let base64 = "MDEyMzQ1Njc4OWFiY2RlZg==\n";
    let files = files(&[("raw", "0123456789abcdef"), ("base64", base64), ("short", "MDEy"), ("none", "?")]);
    let key = |file: &str| format!("{{ id = 'k', algorithm = 'A128GCM', key-file = '{file}' }}");
    let text = |keys: &str| format!("[auth.oauth]\nserver-name = 'a'\nkeys = [{keys}]");
    for file in ["raw", "base64"] {
        let oauth = parse(&text(&key(file)), &files).unwrap().config.auth.oauth.unwrap();
        assert_eq!(oauth.keys[0].bytes.as_slice(), b"0123456789abcdef", "{file}");
        assert_eq!((&*oauth.server_name, &*oauth.keys[0].id), ("a", "k"));
    }
    for file in ["short", "none"] {
        let errors = errors_with(&text(&key(file)), &files);
        only(&errors, &["auth.oauth.keys[0].key-file", "no key of 16 bytes", "openssl rand -base64 16"]);
    }
    let twice = text(&format!("{}, {}", key("raw"), key("base64")));
    only(&errors_with(&twice, &files), &["auth.oauth.keys", "two keys have the id \"k\""]);
}

#[test]
fn keys_are_fetched_from_where_they_can_be_trusted() {
    let (certificate, _) = self_signed();
    let files = files(&[("ca.pem", &certificate), ("none", "no certificate")]);
    let jwt = |rest: &str| format!("[rooms.jwt]\n{rest}");
    let fetched =
        parse(&jwt("jwks-url = 'https://id.example.org:444/k?v=1'\njwks-ca-file = 'ca.pem'"), &files);
    let fetched = fetched.unwrap().config.jwt.fetched;
    let url = fetched.url.unwrap();
    assert_eq!((url.secure, &*url.host, url.port, &*url.path), (true, "id.example.org", 444, "/k?v=1"));
    assert_eq!(fetched.ca.as_deref(), Some(certificate.as_bytes()));
    for local in ["http://127.0.0.1:8080/k", "http://[::1]/k", "http://localhost/k"] {
        assert!(!good(&jwt(&format!("jwks-url = '{local}'"))).jwt.fetched.url.unwrap().secure, "{local}");
    }
    let wrong = |rest: &str| errors_with(&jwt(rest), &files);
    only(
        &wrong("jwks-url = 'http://id.example.org/k'"),
        &["rooms.jwt.jwks-url", "keys of its own", "https://"],
    );
    only(
        &wrong("jwks-url = 'id.example.org'"),
        &["rooms.jwt.jwks-url", "not a URL", "https://id.example.org"],
    );
    only(
        &wrong("jwks-url = 'https://h/'\njwks-ca-file = 'none'"),
        &["rooms.jwt.jwks-ca-file", "no certificate in the file", "PEM"],
    );
    only(
        &wrong("jwks-ca-file = 'ca.pem'"),
        &["rooms.jwt.jwks-ca-file", "nothing whose certificate", "jwks-url"],
    );
    only(&wrong("jwks-refresh = '1m'\njwks-cooldown = '10m'"), &["rooms.jwt.jwks-refresh", "jwks-cooldown"]);
}

// What is refused.

#[test]
fn all_errors_in_one_run_with_path_value_line_and_way_out() {
    let text = "\
hots = \"turn.example.org\"
shards = -1
[listen]
udp = [
  3478,
  \"localhost:3478\",
  99999,
]
[relay]
ports = \"6000-5000\"
[peers]
deny = [\"10.0.0.0/40\"]
[tls]
certificate = \"nowhere.pem\"
[log]
level = 3
";
    let problems = errors(text);
    let expected = [
        "line 1: hots: there is no such key; did you mean host?",
        "line 2: shards = -1: out of range; write a number from 0 to 256",
        "line 6: listen.udp[1] = \"localhost:3478\": not a port, nor an IP address with a port; write a port, as in 3478,",
        "line 7: listen.udp[2] = 99999: out of range; write a number from 0 to 65535",
        "line 10: relay.ports = \"6000-5000\": an empty range; write the lower port first",
        "line 12: peers.deny[0] = \"10.0.0.0/40\": not a network in CIDR form; write a network, as in \"10.0.0.0/8\"",
        "line 14: tls.certificate = \"nowhere.pem\": cannot read nowhere.pem: entity not found; name a file that exists",
        "line 16: log.level = 3: it is a whole number and should be text; put it in \"quotes\"",
        "tls.key: missing, though tls.certificate is set; name both, or none of them",
    ];
    for (problem, expected) in problems.iter().zip(expected) {
        assert!(problem.starts_with(expected), "{problem:?}\ndoes not start with\n{expected:?}");
    }
    assert_eq!(problems.len(), expected.len());
}

//= 8489-16.1.2-1
#[test]
fn software_is_named_or_not() {
    let software = |text: &str| good(text).turn.software;
    assert!(software("").is_some_and(|s| s.starts_with("ternd/")));
    assert_eq!(software("[relay]\nsoftware = 'a relay'").as_deref(), Some("a relay"));
    assert_eq!(software("[relay]\nsoftware = ''"), None);
    let long = "\u{e9}".repeat(127);
    assert_eq!(software(&format!("[relay]\nsoftware = '{long}'")), Some(long.clone()));
    only(&errors(&format!("[relay]\nsoftware = '{long}x'")), &["not a name of software"]);
}

//= 8489-14.9-1 5780-6-2
#[test]
fn each_wrong_value_is_named() {
    for (text, parts) in [
        ("host = 'https://turn.example.org'", &["host", "not a host name", "no scheme"][..]),
        ("host = 5", &["host = 5", "should be text"]),
        ("shards = '2'", &["it is text and should be a whole number", "without quotes"]),
        ("shards = 1.5", &["it is a decimal number"]),
        ("listen = 3478", &["listen", "should be a table", "[it]"]),
        ("[listen]\nudp = ['3478']", &["listen.udp[0] = '3478'", "a port"]),
        ("[listen]\ntls = ['0.0.0.0:443', '0.0.0.0:443']", &["0.0.0.0:443 is there twice"]),
        ("[listen]\nudp = ['0.0.0.0:443', '0.0.0.0:443']", &["listen.udp", "is there twice"]),
        ("[listen]\ntcp = 8443", &["listen.tcp = 8443", "0.0.0.0:8443 is in listen.tls too"]),
        ("[listen]\nudp = []\ntcp = []\ntls = []", &["listen: there is nothing to listen on"]),
        ("[auth]\nrealm = ''", &["not a realm"]),
        ("[auth]\nrealm = \"a\u{ad}b\"", &["auth.realm", "no client can send this", "character number 2"]),
        (
            "[auth.users]\nalice = \"pass\\u0007word\"",
            &["auth.users.alice: no client can send this: its character number 5"],
        ),
        (
            "[auth.users]\n\"al\\u0007ice\" = 'her long password'",
            &["no client can send this user name", "number 3"],
        ),
        (
            "[auth.users]\n\"caf\u{e9}\" = 'her long password'\n\"cafe\u{301}\" = 'her long password'",
            &["auth.users", "two names are \"caf\u{e9}\" for every client"],
        ),
        ("[auth]\nnonce-lifetime = '5 parsecs'", &["not a duration", "\"10m\""]),
        ("[auth]\nnonce-lifetime = '10s'", &["out of range", "from 60 to 86400 seconds"]),
        ("[auth]\nnonce-lifetime = 10", &["out of range", "from 60 to 86400"]),
        ("[auth]\nstrict-expiry = 'no'", &["should be true or false"]),
        ("[auth]\nsecrets = [{ id = 'a' }]", &["auth.secrets[0]: needs an id, and either"]),
        ("[auth]\nsecret = ''", &["auth.secret: empty"]),
        (
            "[auth.oauth]\nserver-name = 'a'",
            &["auth.oauth.keys: missing, though auth.oauth.server-name is set"],
        ),
        (
            "[auth.oauth]\nserver-name = 'a'\nkeys = [{ id = 'a' }]",
            &["keys[0]", "needs an id and a key-file"],
        ),
        ("[relay]\naddresses = ['0.0.0.0']", &["relay.addresses[0]", "no single machine"]),
        ("[relay]\naddresses = '10.0.0.5'", &["should be a list", "in brackets"]),
        (
            "[relay]\nexternal-ip = ['203.0.113.5/10.0.0.5']",
            &["not an external address", "10.0.0.5=203.0.113.5"],
        ),
        ("[relay]\nexternal-ip = ['10.0.0.5=2001:db8::5']", &["maps between IPv4 and IPv6"]),
        ("[relay]\nexternal-ip = ['203.0.113.5', '203.0.113.6']", &["two addresses are given"]),
        (
            "[relay]\nalternate-servers = ['203.0.113.20']",
            &["alternate-servers[0]", "not an IP address with a port"],
        ),
        ("[relay]\nalternate-servers = ['0.0.0.0:3478']", &["alternate-servers[0]", "no single server"]),
        ("[relay]\nsoftware = \"a\\nb\"", &["relay.software", "not a name of software", "127 characters"]),
        ("[relay]\nports = '50000'", &["not a range of ports", "49152-65535"]),
        (
            "[relay]\nmax-lifetime = '5m'",
            &["relay.max-lifetime = '5m'", "(600 s) is above the maximum (300 s)"],
        ),
        ("[peers]\nallow = ['10.0.0.0-10.255.255.255']", &["not a network in CIDR form"]),
        ("[limits]\nallocations = 0", &["out of range", "from 1 to 1000000"]),
        ("[ice]\nttl = '2d'", &["ice.ttl = '2d'", "ttl (172800 s) is not between"]),
        ("[ice]\norigins = ['https://app.example.org/page']", &["not an origin", "without a path"]),
        ("[rooms]\ncapacity = 1", &["from 2 to 1000"]),
        ("[rooms]\nping = '1m'", &["rooms.ping", "a ping every 60 s"]),
        ("[log]\nformat = 'xml'", &["\"auto\", \"text\", \"json\", \"journal\""]),
    ] {
        only(&errors(text), parts);
    }
}

#[test]
fn unknown_keys_are_explained() {
    for (text, hint) in [
        ("[listen]\nupd = 3478", "did you mean udp?"),
        ("[auth]\nsecret_file = 'x'", "did you mean secret-file?"),
        ("[lisen]\nudp = 3478", "did you mean listen?"),
        ("[listen]\nports = '1-2'", "ports belongs in [relay]"),
        ("[relay]\nhost = 'x'", "host belongs at the top of the file"),
        ("[relay]\nexternal_ip = []", "did you mean external-ip?"),
        ("static-auth-secret = 'x'", "what coturn calls static-auth-secret is auth.secret here"),
        ("[auth]\nsecrets = [{ idd = 'x' }]", "did you mean id?"),
        ("quux = 1", "`ternd default-config` prints every key"),
    ] {
        let problems = errors(text);
        let unknown: Vec<_> = problems.into_iter().filter(|p| p.contains("there is no such key")).collect();
        only(&unknown, &[hint]);
    }
}

#[test]
fn broken_toml_is_reported_with_the_rest() {
    let problems = errors("shards = 1000\nhost = \"turn\n[log]\nlevel = loud\nformat = 'xml'\n[log]\n");
    let lines: Vec<_> = problems.iter().map(|p| p.split(':').next().unwrap()).collect();
    assert_eq!(lines, ["line 1", "line 2", "line 4", "line 5", "line 6"], "{problems:#?}");
    assert!(problems[0].contains("out of range"));
    assert!(problems[1].contains("not TOML"), "{problems:#?}");
    assert!(problems[4].contains("duplicate"), "{problems:#?}");
}

#[test]
fn one_missing_bracket_is_not_a_flood() {
    let text =
        format!("[relay]\naddresses = [\n{}[log]\nlevel = 'loud'", "ports = '50000-60000'\n".repeat(50));
    let problems = errors(&text);
    assert!((1..=5).contains(&problems.len()), "{problems:#?}");
    assert!(problems.iter().all(|p| p.contains("not TOML")), "{problems:#?}");
}

#[test]
fn no_problem_shows_a_secret() {
    let token = "hunter2";
    for text in [
        "[auth]\nsecret = 'hunter2'\nsecret-file = 'x'",
        "[auth]\nsecret = ['hunter2']",
        "[auth]\nsecrets = 'hunter2'",
        "[auth]\nsecrets = ['hunter2']",
        "[auth]\nsecrets = [{ id = 'a', secret = ['hunter2'] }]",
        "[auth]\nsecrets = [{ id = 'a', secret = 'hunter2' }, { id = 'a', secret = 'hunter2' }]",
        "[auth]\nsecert = 'hunter2'",
        "[auth]\nsecret = 'hunter2",
        "[auth]\nsecret = hunter2",
        "[auth]\nusers = 'hunter2'",
        "[auth.users]\nalice = ['hunter2']",
        "[auth.users]\nalice = 'hunter2'\nbob = ''",
        "[ice]\napi-keys = 'hunter2'",
        "[ice]\napi-keys = ['hunter2', 5]",
        "auth = 'hunter2'",
        "secret = 'hunter2'",
    ] {
        let problems = errors(text);
        assert!(!problems.is_empty());
        assert!(!format!("{problems:?}").contains(token), "{text}: {problems:#?}");
    }
    let config = parse(
        "[auth]\nsecret = 'hunter2'\n[auth.users]\na = 'hunter2'\n[ice]\napi-keys = ['hunter2']",
        &Fake::default(),
    );
    assert!(!format!("{config:?}").contains(token));
}

#[test]
fn control_characters_never_reach_the_terminal() {
    let problems = errors("host = \"\"\"a\nb\u{7f}\"\"\"\nshards = 'x'");
    assert!(problems.iter().all(|p| !p.contains(char::is_control)), "{problems:?}");
}

// Certificates.

#[test]
fn certificate_and_key_are_looked_into() {
    let ((certificate, key), (_, other_key)) = (self_signed(), self_signed());
    let files =
        files(&[("c.pem", &certificate), ("k.pem", &key), ("other.pem", &other_key), ("text", "hello")]);
    let tls = |c: &str, k: &str| format!("[tls]\ncertificate = '{c}'\nkey = '{k}'");

    let config = parse(&tls("c.pem", "k.pem"), &files).unwrap().config;
    assert_eq!(config.tls, Some(TlsFiles { certificate: "c.pem".into(), key: "k.pem".into() }));

    only(
        &errors_with(&tls("c.pem", "other.pem"), &files),
        &["tls.key = 'other.pem'", "not the key of this certificate"],
    );
    only(&errors_with(&tls("text", "k.pem"), &files), &["tls.certificate", "no certificate in the file"]);
    only(&errors_with(&tls("c.pem", "c.pem"), &files), &["tls.key", "no private key in the file"]);
    only(&errors_with(&tls("c.pem", "gone"), &files), &["tls.key = 'gone'", "cannot read gone"]);
    only(&errors_with("[tls]\nkey = 'k.pem'", &files), &["tls.certificate: missing"]);
}

// What is foolish but valid.

//= 8656-7.2-8
#[test]
fn foolish_settings_are_warned_about() {
    for (text, parts) in [
        ("host = 'localhost'", &["host", "clients elsewhere"][..]),
        ("host = '192.168.1.5'", &["host", "clients elsewhere"]),
        ("[listen]\nudp = []", &["listen.udp = []", "no STUN and TURN over UDP"]),
        ("[listen]\ntls = []", &["no iceServers endpoint"]),
        ("[listen]\nhttp = 8080", &["listen.http", "without encryption"]),
        ("[listen]\nudp = 0", &["listen.udp = 0", "clients can't know"]),
        ("[listen]\nudp = 50000", &["relay.ports", "contain the listener 0.0.0.0:50000"]),
        ("[auth]\nsecret = 'north'", &["line 2: auth.secret: short enough to be guessed", "openssl"]),
        ("[auth.users]\nalice = 'secret'", &["auth.users.alice: short"]),
        ("[relay]\nports = '50000-50009'", &["only 10 allocations at a time"]),
        ("[relay]\nports = '80-3000'", &["below 1024"]),
        ("[relay]\nexternal-ip = ['10.0.0.5']", &["10.0.0.5 is a private address"]),
        (
            "[relay]\naddresses = ['10.0.0.5']\nexternal-ip = ['10.0.0.6=203.0.113.5']",
            &["none of relay.addresses"],
        ),
        ("[peers]\nallow = ['10.0.0.5/8']", &["this means all of 10.0.0.0/8"]),
        ("[peers]\nallow = ['0.0.0.0/0']", &["opens every address"]),
        ("[peers]\nallow = ['127.0.0.1']", &["loopback"]),
        ("[peers]\nallow = ['169.254.0.0/16']", &["metadata"]),
        (
            "[peers]\nallow = ['10.1.0.0/16']\ndeny = ['10.0.0.0/8']",
            &["closed again by peers.deny 10.0.0.0/8"],
        ),
        ("[ice]\ndemo = false", &["nobody can get credentials"]),
        ("[limits]\nuser-bytes-per-second = 1000", &["too little for one call", "10000 or more"]),
        ("[rooms]\ncapacity = 20", &["sends its video 19 times"]),
    ] {
        only(&warnings(text), parts);
    }
}

#[test]
fn files_everybody_can_read_are_warned_about() {
    let files = files(&[
        ("public-secret", "a secret of more than 16 bytes"),
        ("public.toml", "[auth]\nsecret-file = 'public-secret'"),
    ]);
    let checked = load(Path::new("public.toml"), &files).unwrap();
    let warnings: Vec<_> = checked.warnings.iter().map(ToString::to_string).collect();
    assert!(warnings[0].contains("auth.secret-file = 'public-secret': every user of this machine can read"));
    assert!(warnings[1].contains("it holds or names secrets"));
    assert_eq!(warnings.len(), 2);
}

#[test]
fn credentials_of_systemd_are_trusted_from_outside_and_read_inside() {
    let text = "[auth]\nsecret-file = 'credential:secret'";
    only(&warnings(text), &["auth.secret-file", "hands it to the running service only"]);
    let disk = Disk::beside(Path::new("/etc/ternd/ternd.toml"));
    if std::env::var_os("CREDENTIALS_DIRECTORY").is_none() {
        let problems = parse(text, &disk).unwrap_err();
        assert!(problems[0].what.contains("cannot read $CREDENTIALS_DIRECTORY/secret"), "{problems:?}");
        assert!(parse(text, &disk.from_outside()).is_ok());
    }
}

// Files.

#[test]
fn a_file_that_cannot_be_read_is_an_error_too() {
    let invalid = load(Path::new("gone.toml"), &Fake::default()).unwrap_err();
    assert!(
        invalid.to_string().starts_with("gone.toml: error: cannot be read: entity not found\n"),
        "{invalid}"
    );
    assert!(invalid.to_string().ends_with("gone.toml is refused: 1 error"));
}

#[test]
fn the_disk_bounds_what_it_reads_and_sees_who_may_read() {
    let dir = std::env::temp_dir().join(format!("ternd-config-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let disk = Disk::beside(&dir.join("ternd.toml"));
    let path = disk.locate("big").unwrap();
    assert_eq!(path, dir.join("big"));
    std::fs::write(&path, vec![b'#'; 1024 * 1024]).unwrap();
    assert!(disk.read(&path).is_ok());
    std::fs::write(&path, vec![b'#'; 1024 * 1024 + 1]).unwrap();
    assert_eq!(disk.read(&path).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    use std::os::unix::fs::PermissionsExt;
    for (mode, public) in [(0o640, false), (0o644, true)] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(disk.is_public(&path), public);
    }
    std::fs::remove_dir_all(&dir).unwrap();
}
