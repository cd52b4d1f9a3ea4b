//! The layers, held against what the sources mention.
//!
//! An arrow only ever points down. The rules are the table [`RULES`]; the checker reads the sources as tokens, so
//! comments and strings don't count, and macros do. At the end of this file the checker has to find each kind of
//! mistake in a snippet that makes it.
#![allow(unreachable_pub, missing_docs, clippy::unwrap_used)] // a test binary has no outside

mod coverage;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::{fs, process};

use proc_macro2::{TokenStream, TokenTree};

/// What one module may mention.
struct Rule {
    module: &'static str,
    /// Modules, or parts of modules, of this crate. Its own are always allowed.
    may_use: &'static [&'static str],
    crates: Crates,
    /// Parts of the standard library that it must not mention.
    never: &'static [&'static str],
}

/// Crates that a module may mention.
enum Crates {
    /// These, and proptest in tests.
    Only(&'static [&'static str]),
    /// None that a cargo feature brings: no runtime, no sockets, no files, no randomness.
    Core,
    /// All but these.
    NotOf(&'static [&'static str]),
}

/// Values in, values out.
const PURE: &[&str] = &[
    "std::env",
    "std::fs",
    "std::io",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::ToSocketAddrs",
    "std::net::UdpSocket",
    "std::os",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
];
const SOCKETS: &[&str] = &["std::net::TcpListener", "std::net::TcpStream", "std::net::UdpSocket"];
const ALL: &[&str] =
    &["auth", "config", "dial", "http", "ice", "net", "ops", "signal", "stun", "time", "turn"];

#[rustfmt::skip]
const RULES: &[Rule] = &[
    // L0: the wire format; time as a value
    Rule { module: "time", may_use: &[], crates: Crates::Only(&[]), never: PURE },
    Rule { module: "stun", may_use: &[], never: PURE,
           crates: Crates::Only(&["crc32fast", "hmac", "sha1", "sha2", "subtle", "thiserror"]) },
    // L1: may this user name act, and with which key?
    Rule { module: "auth", may_use: &["stun", "time"], crates: Crates::Core, never: PURE },
    // L2: pure state machines; none knows of another
    Rule { module: "turn", may_use: &["stun", "auth", "time"], crates: Crates::Core, never: PURE },
    Rule { module: "ice", may_use: &["auth", "time"], crates: Crates::Core, never: PURE },
    Rule { module: "signal", may_use: &["auth", "time"], crates: Crates::Core, never: PURE },
    // L3: sockets of the relay, in threads with a loop of their own | HTTP, WebSocket and pages, on tokio
    Rule { module: "net", may_use: &["stun", "turn", "auth", "time"], never: &[],
           crates: Crates::NotOf(&["clap", "http_body_util", "hyper", "hyper_util", "tokio", "tokio_rustls",
                                   "tokio_tungstenite", "toml"]) },
    Rule { module: "http", may_use: &["dial", "ice", "signal", "auth", "time", "net::admission", "net::clock", "net::listen",
                                         "net::proxy", "net::tls"],
           crates: Crates::NotOf(&["clap", "libc", "mio", "toml"]), never: &[] },
    // Beside them: the way to other servers
    Rule { module: "dial", may_use: &[], crates: Crates::Only(&["rcgen", "rustls", "rustls_native_certs", "tokio"]),
           never: &["std::fs", "std::process"] },
    // and the other side of the rooms, which knows nothing of how a server does it
    Rule { module: "client", may_use: &["dial", "signal::SUBPROTOCOL", "signal::close"], never: &["std::env", "std::fs", "std::process"],
           crates: Crates::Only(&["futures_util", "rustls", "rustls_native_certs", "serde", "serde_json", "thiserror",
                                  "tokio", "tokio_rustls", "tokio_tungstenite"]) },
    // L4: TOML as written -> settings of the layers below
    Rule { module: "config", may_use: &["stun", "auth", "turn", "ice", "signal", "time"], never: SOCKETS,
           crates: Crates::NotOf(&["clap", "hyper", "hyper_util", "mio", "socket2", "tokio", "tokio_rustls",
                                   "tokio_tungstenite"]) },
    // L5: commands; start and stop order
    Rule { module: "ops", may_use: ALL, crates: Crates::NotOf(&["clap"]), never: &[] },
    Rule { module: "cli", may_use: ALL, crates: Crates::NotOf(&[]), never: SOCKETS },
    // The binary
    Rule { module: "main", may_use: &["cli"], crates: Crates::Only(&[]), never: &["std::fs", "std::net"] },
];

/// The one module of batched system calls.
const MAY_BE_UNSAFE: &str = "net::udp::linux";
/// The one module that reads the clocks. (tokio's timers count on tokio's own, which only `http` and above can name.)
const MAY_READ_CLOCKS: &str = "net::clock";
const MAX_LINES: usize = 800;

// --- What a source mentions ---

/// A path as written, after `use` trees are taken apart.
#[derive(Clone, Debug, PartialEq)]
struct Mention {
    line: usize,
    /// The inline modules it stands in.
    within: Vec<String>,
    path: Vec<String>,
}

#[derive(Default)]
struct Mentions {
    paths: Vec<Mention>,
    /// What `use` gives a name to.
    names: BTreeMap<String, Mention>,
    unsafe_at: Vec<usize>,
    elapsed_at: Vec<usize>,
}

impl Mentions {
    fn of(source: &str) -> Self {
        let mut found = Self::default();
        found.walk(source.parse().unwrap(), &[]);
        found
    }

    fn walk(&mut self, tokens: TokenStream, within: &[String]) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            match (&tokens[at..], word(&tokens, at).as_deref()) {
                ([_, TokenTree::Ident(name), TokenTree::Group(body), ..], Some("mod")) => {
                    let within = [within, &[name.to_string()]].concat();
                    self.walk(body.stream(), &within);
                    at += 3;
                }
                // `impl Trait + use<'a>` imports nothing.
                (_, Some("use")) if punct(&tokens, at + 1) != Some('<') => {
                    let end =
                        (at..tokens.len()).find(|&i| punct(&tokens, i) == Some(';')).unwrap_or(tokens.len());
                    self.use_tree(&tokens[at + 1..end], &[], within);
                    at = end;
                }
                ([TokenTree::Group(group), ..], _) => {
                    self.walk(group.stream(), within);
                    at += 1;
                }
                (_, Some(first)) => {
                    let line = line(&tokens[at]);
                    if first == "unsafe" {
                        self.unsafe_at.push(line);
                    }
                    let called =
                        matches!(tokens.get(at + 1), Some(TokenTree::Group(g)) if g.stream().is_empty());
                    if first == "elapsed" && at > 0 && punct(&tokens, at - 1) == Some('.') && called {
                        self.elapsed_at.push(line);
                    }
                    let mut path = vec![first.to_owned()];
                    at += 1;
                    while let (true, Some(next)) = (colons(&tokens, at), word(&tokens, at + 2)) {
                        path.push(next);
                        at += 3;
                    }
                    self.paths.push(Mention { line, within: within.to_vec(), path });
                }
                _ => at += 1,
            }
        }
    }

    /// `a::b`, `a as b`, `a::*`, `a::{b, c::{d, e}}`.
    fn use_tree(&mut self, tokens: &[TokenTree], prefix: &[String], within: &[String]) {
        let mut path = prefix.to_vec();
        let mut name = None;
        let mut at = 0;
        while at < tokens.len() {
            match (&tokens[at], word(tokens, at).as_deref()) {
                (TokenTree::Group(group), _) => {
                    let inside: Vec<TokenTree> = group.stream().into_iter().collect();
                    for branch in inside.split(|t| matches!(t, TokenTree::Punct(p) if p.as_char() == ',')) {
                        if !branch.is_empty() {
                            self.use_tree(branch, &path, within);
                        }
                    }
                    return;
                }
                (_, Some("as")) => {
                    name = word(tokens, at + 1);
                    break;
                }
                (_, Some("self")) if !path.is_empty() => {}
                (_, Some(segment)) => path.push(segment.to_owned()),
                (TokenTree::Punct(p), _) if p.as_char() == '*' => path.push("*".into()),
                _ => {}
            }
            at += 1;
        }
        let mention = Mention { line: line(&tokens[0]), within: within.to_vec(), path };
        if let Some(name) = name.or_else(|| mention.path.last().cloned()) {
            self.names.insert(name, mention.clone());
        }
        self.paths.push(mention);
    }
}

fn word(tokens: &[TokenTree], at: usize) -> Option<String> {
    match tokens.get(at) {
        Some(TokenTree::Ident(ident)) => Some(ident.to_string()),
        _ => None,
    }
}

fn punct(tokens: &[TokenTree], at: usize) -> Option<char> {
    match tokens.get(at) {
        Some(TokenTree::Punct(punct)) => Some(punct.as_char()),
        _ => None,
    }
}

fn colons(tokens: &[TokenTree], at: usize) -> bool {
    punct(tokens, at) == Some(':') && punct(tokens, at + 1) == Some(':')
}

fn line(token: &TokenTree) -> usize {
    token.span().start().line
}

// --- What is wrong with it ---

/// A path from the root of this crate, or from another crate.
#[derive(Clone, Debug, PartialEq)]
enum Target {
    Inside(Vec<String>),
    Outside(Vec<String>),
}

fn resolve(mention: &Mention, file: &[String], names: &BTreeMap<String, Mention>) -> Target {
    let mut here = [file, &mention.within[..]].concat();
    let (first, rest) = mention.path.split_first().unwrap();
    match first.as_str() {
        "crate" | "ternd" => Target::Inside(rest.to_vec()),
        "self" => Target::Inside([&here[..], rest].concat()),
        "super" => {
            let ups = mention.path.iter().take_while(|segment| *segment == "super").count();
            here.truncate(here.len().saturating_sub(ups));
            Target::Inside([&here[..], &mention.path[ups..]].concat())
        }
        "core" | "alloc" => Target::Outside([&["std".to_owned()][..], rest].concat()),
        name => match names.get(name) {
            // A name that `use` gave, unless this is that very `use`.
            Some(import) if import.path != mention.path && import.path[0] != *name => {
                match resolve(import, file, names) {
                    Target::Inside(path) => Target::Inside([&path[..], rest].concat()),
                    Target::Outside(path) => Target::Outside([&path[..], rest].concat()),
                }
            }
            _ => Target::Outside(mention.path.clone()),
        },
    }
}

/// Is `path` something below `prefix`, or does a `*` in it reach there?
fn reaches(path: &[String], prefix: &str) -> bool {
    let prefix: Vec<&str> = prefix.split("::").collect();
    match path.split_last() {
        Some((last, before)) if last == "*" => prefix.iter().zip(before).all(|(a, b)| a == b),
        _ => path.len() >= prefix.len() && prefix.iter().zip(path).all(|(a, b)| a == b),
    }
}

/// All rules that a file of this module breaks, one line each.
fn check(module: &str, source: &str) -> Vec<String> {
    let file: Vec<String> = module.split("::").map(str::to_owned).collect();
    let rule = RULES.iter().find(|rule| rule.module == file[0]);
    let Some(rule) = rule else { return vec![format!("module {} is in no rule", file[0])] };
    let found = Mentions::of(source);
    let mut wrong = BTreeSet::new();
    for mention in &found.paths {
        let target = resolve(mention, &file, &found.names);
        let (Target::Inside(path) | Target::Outside(path)) = &target;
        let problem = match &target {
            // `pub(crate)`, `self.x`: a lone word leads nowhere.
            _ if mention.path.len() == 1 && !found.paths_are_imports(mention) => None,
            Target::Inside(path) => inside(rule, path),
            Target::Outside(path) => outside(rule, path),
        };
        let clock = ["std::time::Instant::now", "std::time::SystemTime::now"];
        if let Some(problem) = problem {
            wrong.insert((mention.line, format!("{} {problem}: {}", rule.module, path.join("::"))));
        } else if module != MAY_READ_CLOCKS && clock.contains(&path.join("::").as_str()) {
            wrong.insert((
                mention.line,
                format!("only {MAY_READ_CLOCKS} may read a clock: {}", path.join("::")),
            ));
        }
    }
    for line in found.elapsed_at.iter().filter(|_| module != MAY_READ_CLOCKS) {
        wrong.insert((*line, format!("only {MAY_READ_CLOCKS} may read a clock: .elapsed()")));
    }
    for line in found.unsafe_at.iter().filter(|_| module != MAY_BE_UNSAFE) {
        wrong.insert((*line, format!("only {MAY_BE_UNSAFE} may be unsafe")));
    }
    wrong.into_iter().map(|(line, problem)| format!("line {line}: {problem}")).collect()
}

impl Mentions {
    fn paths_are_imports(&self, mention: &Mention) -> bool {
        self.names.values().any(|import| import == mention)
    }
}

fn inside(rule: &Rule, path: &[String]) -> Option<&'static str> {
    match path.first().map(String::as_str) {
        Some(own) if own == rule.module => None,
        Some("*") | None => Some("must not use the whole crate"),
        Some(_) if rule.may_use.iter().any(|allowed| reaches(path, allowed)) => None,
        Some(_) => Some("must not use"),
    }
}

fn outside(rule: &Rule, path: &[String]) -> Option<&'static str> {
    if rule.never.iter().any(|never| reaches(path, never)) {
        return Some("must not mention");
    }
    let (all, daemon) = dependencies();
    let name = path[0].as_str();
    let fine = match rule.crates {
        Crates::Only(these) => !all.contains(name) || these.contains(&name) || name == "proptest",
        Crates::Core => !daemon.contains(name),
        Crates::NotOf(these) => !these.contains(&name),
    };
    (!fine).then_some("must not mention the crate")
}

/// The names, as sources write them, of all dependencies, and of those that the feature `daemon` brings.
fn dependencies() -> &'static (BTreeSet<String>, BTreeSet<String>) {
    static NAMES: std::sync::OnceLock<(BTreeSet<String>, BTreeSet<String>)> = std::sync::OnceLock::new();
    NAMES.get_or_init(|| {
        let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
        let lib = |name: &str| if name == "md-5" { "md5".to_owned() } else { name.replace('-', "_") };
        let (mut all, mut section) = (BTreeSet::new(), "");
        for line in manifest.lines() {
            section = if line.starts_with('[') { line } else { section };
            let is_key = line.starts_with(|c: char| c.is_ascii_lowercase());
            if is_key && section.ends_with("dependencies]") {
                all.insert(lib(line.split([' ', '=']).next().unwrap()));
            }
        }
        let daemon =
            manifest.split("\"dep:").skip(1).map(|rest| lib(rest.split('"').next().unwrap())).collect();
        (all, daemon)
    })
}

// --- The files ---

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Files in the repository, from its root; without git, all there are but what is built.
fn tracked() -> Vec<PathBuf> {
    let listed = process::Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    if let Some(listed) = listed.ok().filter(|l| l.status.success() && !l.stdout.is_empty()) {
        let names = String::from_utf8(listed.stdout).unwrap();
        return names
            .split_terminator('\0')
            .map(PathBuf::from)
            .filter(|p| root().join(p).is_file())
            .collect();
    }
    let (mut files, mut folders) = (Vec::new(), vec![root()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap();
            if path.is_dir() && !["target", ".git", "node_modules"].iter().any(|built| name == *built) {
                folders.push(path);
            } else if path.is_file() {
                files.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    files
}

/// Each source file with its module: `src/net/udp.rs` is `net::udp`.
fn sources() -> Vec<(PathBuf, String, String)> {
    let is_source = |path: &PathBuf| path.starts_with("src") && path.extension().is_some_and(|e| e == "rs");
    let files: Vec<_> = tracked().into_iter().filter(is_source).collect();
    assert!(files.len() > 50, "these are not the sources: {files:?}");
    let source = |path: PathBuf| {
        let module = path.strip_prefix("src").unwrap().with_extension("");
        let module = if module.ends_with("mod") { module.parent().unwrap().to_owned() } else { module };
        let module = module.iter().map(|part| part.to_str().unwrap()).collect::<Vec<_>>().join("::");
        let text = fs::read_to_string(root().join(&path)).unwrap();
        (path, module, text)
    };
    files.into_iter().map(source).collect()
}

fn assert_none(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "\n  {}\n", wrong.join("\n  "));
}

#[test]
fn an_arrow_only_ever_points_down() {
    let mut wrong = Vec::new();
    for (path, module, text) in sources().iter().filter(|(_, module, _)| module != "lib") {
        wrong.extend(check(module, text).into_iter().map(|problem| format!("{}, {problem}", path.display())));
    }
    assert_none(wrong);
}

#[test]
fn each_module_has_its_rule() {
    let modules: BTreeSet<String> =
        sources().into_iter().map(|(_, m, _)| m.split("::").next().unwrap().into()).collect();
    let ruled: BTreeSet<String> = RULES.iter().map(|rule| rule.module.into()).collect();
    assert_eq!(&modules - &BTreeSet::from(["lib".to_owned()]), ruled);
    let (_, daemon) = dependencies();
    assert!(
        ["tokio", "mio", "hyper", "rustls", "getrandom"].iter().all(|name| daemon.contains(*name)),
        "{daemon:?}"
    );
}

#[test]
fn files_are_short_and_say_what_they_are() {
    let mut wrong = Vec::new();
    for (path, _, text) in sources() {
        let lines = text.lines().count();
        if lines > MAX_LINES {
            wrong.push(format!("{} has {lines} lines; split it at {MAX_LINES}", path.display()));
        }
        if !text.starts_with("//!") {
            wrong.push(format!("{} does not begin with //! and what it is", path.display()));
        }
    }
    assert_none(wrong);
}

#[test]
fn no_promises_in_place_of_work() {
    let mut wrong = Vec::new();
    for path in tracked() {
        let Some("rs" | "js" | "html" | "css" | "toml" | "service") =
            path.extension().and_then(|e| e.to_str())
        else {
            continue;
        };
        let text = fs::read_to_string(root().join(&path)).unwrap();
        wrong.extend(promises(&text).into_iter().map(|line| format!("{}, line {line}", path.display())));
    }
    assert_none(wrong);
}

fn promises(text: &str) -> Vec<usize> {
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let is_word =
        |line: &str| line.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| words.contains(&word));
    (1..).zip(text.lines()).filter(|(_, line)| is_word(line)).map(|(n, _)| n).collect()
}

#[test]
fn no_paths_of_one_machine() {
    let mut wrong = Vec::new();
    for path in tracked() {
        let text = String::from_utf8_lossy(&fs::read(root().join(&path)).unwrap()).into_owned();
        wrong.extend(machine_paths(&text).into_iter().map(|line| format!("{}, line {line}", path.display())));
    }
    assert_none(wrong);
}

/// Lines with an absolute path into somebody's home or workspace.
fn machine_paths(text: &str) -> Vec<usize> {
    let homes = ["work", "root", "farm"].map(|name| format!("/{name}"));
    let part = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let names_one = |line: &str| {
        homes.iter().any(|home| {
            line.match_indices(home.as_str()).any(|(at, _)| {
                let (before, after) = (&line[..at], &line[at + home.len()..]);
                !before.ends_with(part) && !after.starts_with(part)
            })
        })
    };
    (1..).zip(text.lines()).filter(|(_, line)| names_one(line)).map(|(n, _)| n).collect()
}

// --- The checker itself ---

/// Each of these breaks one rule, which the checker names.
#[rustfmt::skip]
const BAD: &[(&str, &str, &str)] = &[
    // Arrows that point up, or sideways, one for each rule.
    ("time", "use crate::stun::Message;", "time must not use: stun::Message"),
    ("stun", "use crate::auth::Key;", "stun must not use: auth::Key"),
    ("stun::message", "fn f(now: crate::time::Now) {}", "stun must not use: time::Now"),
    ("auth", "use crate::turn::Server;", "auth must not use: turn::Server"),
    ("turn::allocate", "use crate::config::Config;", "turn must not use: config::Config"),
    ("turn", "use crate::signal::Rooms;", "turn must not use: signal::Rooms"),
    ("ice", "use crate::turn::Transport;", "ice must not use: turn::Transport"),
    ("ice", "use crate::stun::Message;", "ice must not use: stun::Message"),
    ("signal", "use crate::ice::Settings;", "signal must not use: ice::Settings"),
    ("net::shard", "use crate::http::Routes;", "net must not use: http::Routes"),
    ("net", "use crate::ops::log;", "net must not use: ops::log"),
    ("http::front", "use crate::turn::Server;", "http must not use: turn::Server"),
    ("http::front", "use crate::net::shard::Shard;", "http must not use: net::shard::Shard"),
    ("http", "use crate::net;", "http must not use: net"),
    ("client", "use crate::signal::Rooms;", "client must not use: signal::Rooms"),
    ("client", "use crate::net::clock;", "client must not use: net::clock"),
    ("dial", "use crate::net::tls;", "dial must not use: net::tls"),
    ("config", "use crate::net::Relay;", "config must not use: net::Relay"),
    ("config", "use crate::http::Settings;", "config must not use: http::Settings"),
    ("ops", "use crate::cli::main;", "ops must not use: cli::main"),
    ("cli", "use crate::elsewhere::X;", "cli must not use: elsewhere::X"),
    ("main", "fn main() { ternd::ops::serve() }", "main must not use: ops::serve"),
    // However it is written.
    ("turn", "use crate::{auth, net::{self, udp as fast}};", "turn must not use: net::udp"),
    ("turn", "use crate::{auth, net::{self, clock}};", "turn must not use: net"),
    ("turn::data", "use super::super::net::Shard;", "turn must not use: net::Shard"),
    ("turn::data", "use super::{Server, super::config};", "turn must not use: config"),
    ("turn", "use super::ice;", "turn must not use: ice"),
    ("turn", "mod tests { use super::super::ice; }", "turn must not use: ice"),
    ("turn", "pub(crate) use ::ternd::ice::X as Y;", "turn must not use: ice::X"),
    ("turn", "use crate::*;", "turn must not use the whole crate: *"),
    ("turn", "use super::*;", "turn must not use the whole crate: *"),
    ("turn", "use crate as all; fn f() { all::net::f() }", "turn must not use: net::f"),
    ("turn", "fn f() { println!(\"{}\", crate::ops::NAME) }", "turn must not use: ops::NAME"),
    ("turn", "fn f() -> impl Fn() + use<> { crate::ops::f }", "turn must not use: ops::f"),
    // Crates.
    ("time", "use thiserror::Error;", "time must not mention the crate: thiserror::Error"),
    ("stun", "use base64::Engine;", "stun must not mention the crate: base64::Engine"),
    ("stun", "#[derive(serde::Serialize)] struct S;", "stun must not mention the crate: serde::Serialize"),
    ("auth", "use tokio::fs;", "auth must not mention the crate: tokio::fs"),
    ("auth", "fn f(b: &mut [u8]) { getrandom::fill(b) }", "auth must not mention the crate: getrandom::fill"),
    ("turn", "async fn f() { tokio::time::sleep(D).await }", "turn must not mention the crate: tokio::time::sleep"),
    ("turn", "use mio::net::UdpSocket;", "turn must not mention the crate: mio::net::UdpSocket"),
    ("ice", "use hyper::Request;", "ice must not mention the crate: hyper::Request"),
    ("signal", "use tokio_tungstenite::tungstenite::Message;", "signal must not mention the crate: tokio_tungstenite"),
    ("signal", "use rustls;", "signal must not mention the crate: rustls"),
    ("net", "use tokio::net::UdpSocket;", "net must not mention the crate: tokio::net::UdpSocket"),
    ("net", "fn f() { hyper::rt() }", "net must not mention the crate: hyper::rt"),
    ("http", "use mio::Poll;", "http must not mention the crate: mio::Poll"),
    ("client", "use hyper::Request;", "client must not mention the crate: hyper::Request"),
    ("dial", "use hyper::Request;", "dial must not mention the crate: hyper::Request"),
    ("config", "use tokio::runtime::Runtime;", "config must not mention the crate: tokio::runtime::Runtime"),
    ("ops", "use clap::Parser;", "ops must not mention the crate: clap::Parser"),
    ("main", "use clap::Parser;", "main must not mention the crate: clap::Parser"),
    // The standard library.
    ("time", "use std::time::Instant;", "time must not mention: std::time::Instant"),
    ("stun", "use std::net::{SocketAddr, UdpSocket};", "stun must not mention: std::net::UdpSocket"),
    ("stun", "use std::net::*;", "stun must not mention: std::net::*"),
    ("auth", "fn f() { std::fs::read(\"secret\") }", "auth must not mention: std::fs::read"),
    ("auth", "use std as s; use s::fs;", "auth must not mention: std::fs"),
    ("turn", "use std::{net, time}; fn f() { net::UdpSocket::bind(A) }", "turn must not mention: std::net::UdpSocket::bind"),
    ("turn", "use std::time::SystemTime as Clock;", "turn must not mention: std::time::SystemTime"),
    ("ice", "use std::thread;", "ice must not mention: std::thread"),
    ("signal", "use std::{io::{self, Read}};", "signal must not mention: std::io"),
    ("client", "use std::fs;", "client must not mention: std::fs"),
    ("dial", "use std::fs;", "dial must not mention: std::fs"),
    ("config", "use std::net::TcpListener;", "config must not mention: std::net::TcpListener"),
    ("cli", "use std::net::UdpSocket;", "cli must not mention: std::net::UdpSocket"),
    ("main", "use std::fs;", "main must not mention: std::fs"),
    // Clocks and unsafe code.
    ("net::shard", "fn f() { std::time::Instant::now(); }", "only net::clock may read a clock: std::time::Instant::now"),
    ("ops", "use std::time::SystemTime; fn f() { SystemTime::now() }", "only net::clock may read a clock"),
    ("http", "use std::time::Instant as I; const F: fn() -> I = I::now;", "only net::clock may read a clock"),
    ("net::shard", "fn f(t: T) { t.elapsed() }", "only net::clock may read a clock: .elapsed()"),
    ("net::shard", "fn f() { unsafe { g() } }", "only net::udp::linux may be unsafe"),
    ("http::listen", "unsafe impl Send for S {}", "only net::udp::linux may be unsafe"),
    ("elsewhere", "", "module elsewhere is in no rule"),
];

/// Each of these is fine.
const GOOD: &[(&str, &str)] = &[
    ("turn::data", "use super::{Server, types::*}; use crate::stun::{self, Message}; pub(super) fn f() {}"),
    (
        "turn::data",
        "//! As `crate::net` does.\n/// See [`crate::http`].\nfn f() { g(\"crate::net::x\") } // tokio::spawn",
    ),
    ("turn", "mod tests { use super::*; mod deep { use super::super::*; use crate::time::Now; } }"),
    ("turn", "use std::net::SocketAddr; use std::time::Duration; use log::info; use ipnet::IpNet;"),
    (
        "turn",
        "fn f(&self) { self.net.tokio.unsafe_name(); net::local(); } pub(crate) struct S; enum E { Http }",
    ),
    ("stun", "use proptest::prelude::*; use hmac::{Hmac, Mac}; use super::stun::message; mod message;"),
    ("http", "use crate::net::{clock::Clock, tls}; use crate::signal::Rooms; use tokio::time::Instant;"),
    ("http", "use tokio::time::Instant; fn f() { Instant::now() }"),
    (
        "net::clock",
        "use std::time::{Instant as I, SystemTime}; fn f() { I::now().elapsed(); SystemTime::now() }",
    ),
    ("net::udp::linux", "fn f() { unsafe { libc::recvmmsg() } }"),
    ("main", "fn main() -> std::process::ExitCode { ternd::cli::main() }"),
];

#[test]
fn the_checker_finds_each_mistake() {
    for (module, source, expected) in BAD {
        let wrong = check(module, source);
        assert!(
            wrong.iter().any(|w| w.contains(expected)),
            "{module}: {source}\n  expected {expected}\n  found {wrong:?}"
        );
    }
    for rule in RULES {
        let told = |what: &str| {
            BAD.iter().any(|(_, _, told)| told.starts_with(&format!("{} must not {what}", rule.module)))
        };
        assert!(told("use: "), "no snippet for what {} may use", rule.module);
        let any_crate = matches!(rule.crates, Crates::NotOf(&[]));
        assert!(any_crate || told("mention the crate: "), "no snippet for the crates of {}", rule.module);
        assert!(
            rule.never.is_empty() || told("mention: "),
            "no snippet for what {} never mentions",
            rule.module
        );
    }
}

#[test]
fn the_checker_finds_no_mistake_where_there_is_none() {
    for (module, source) in GOOD {
        assert_eq!(check(module, source), [""; 0], "{module}: {source}");
    }
}

#[test]
fn the_checker_names_the_line() {
    let wrong = check("turn", "//! x\n\nuse crate::stun;\nfn f() {\n    crate::net::g();\n}\n");
    assert_eq!(wrong, ["line 5: turn must not use: net::g"]);
}

#[test]
fn promises_and_machine_paths_are_found() {
    let text = format!(
        "fine\n// {}: later\n{}S are many\nat /{}/x\n",
        concat!("TO", "DO"),
        concat!("TO", "DO"),
        "work"
    );
    assert_eq!(promises(&text), [2]);
    assert_eq!(machine_paths(&text), [4]);
    let home = |name: &str| format!("/{name}");
    for fine in ["network/work", "/workers", "a.b/root", "./work", "/root-ca.pem", "web/root"] {
        assert_eq!(machine_paths(fine), [0; 0], "{fine}");
    }
    for name in ["work", "root", "farm"] {
        for text in [format!("cd {}", home(name)), format!("\"{}/main\"", home(name)), home(name)] {
            assert_eq!(machine_paths(&text), [1], "{text}");
        }
    }
}
