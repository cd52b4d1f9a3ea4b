//! `[acme]`, good and bad.

use super::super::{Acme, Challenge, ExternalAccount};
use super::*;

#[test]
fn names_and_an_address_are_all_it_takes() {
    let config = good(
        "[listen]\ntls = 443\n[acme]\ndomains = ['Turn.example.org', 'b.example.org']\nemail = 'a@example.org'",
    );
    assert_eq!(config.acme.domains, ["turn.example.org", "b.example.org"]);
    assert_eq!(config.acme.email.as_deref(), Some("a@example.org"));
    assert_eq!(config.acme.directory, "https://acme-v02.api.letsencrypt.org/directory");
    assert_eq!(config.acme.challenge, Challenge::TlsAlpn01);
    assert_eq!(config.host.as_deref(), Some("turn.example.org"), "the first, unless it is given");
    assert!(config.acme.is_on() && config.listen.redirect.is_empty());
    assert!(!good("").acme.is_on());
    assert_eq!(good("[acme]\ndomains = []").acme, Acme::default());
}

#[test]
fn http_01_listens_on_port_80_unless_told_otherwise() {
    let ports = |more: &str| {
        let text = format!(
            "[listen]\ntls = 443\n{more}\n[acme]\ndomains = ['a.example.org']\nchallenge = 'http-01'"
        );
        let checked = parse(&text, &Fake::default()).unwrap();
        let ports: BTreeSet<_> = checked.config.listen.redirect.iter().map(SocketAddr::port).collect();
        (Vec::from_iter(ports), checked.warnings.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    assert_eq!(ports(""), (vec![80], vec![]));
    let (listens, warnings) = ports("redirect = 8080");
    assert_eq!(listens, [8080]);
    only(
        &warnings,
        &["acme.challenge = 'http-01'", "port 80, where nothing listens", "listen.redirect = 80"],
    );
    assert_eq!(ports("http = '127.0.0.1:80'").0, Vec::<u16>::new(), "there it is answered, too");
}

#[test]
fn a_private_ca_and_an_account_of_the_ca() {
    let (certificate, _) = self_signed();
    let files = files(&[("ca.pem", &certificate), ("eab.key", "a-b_\n"), ("bad.key", "not base64!")]);
    let with = |key: &str| {
        let text = format!(
            "[listen]\ntls = 443\n[acme]\ndomains = ['a.example.org']\ndirectory = 'https://ca.example:14000/dir'\n\
             ca-file = 'ca.pem'\nstate-dir = '/srv/acme'\nexternal-account = {{ id = 'kid', key-file = '{key}' }}"
        );
        parse(&text, &files)
    };
    let acme = with("eab.key").unwrap().config.acme;
    assert_eq!(acme.directory, "https://ca.example:14000/dir");
    assert_eq!((acme.ca, acme.state_dir), (Some(certificate.clone().into()), Some("/srv/acme".into())));
    let key = vec![0x6B, 0xE6, 0xFF].into();
    assert_eq!(acme.external_account, Some(ExternalAccount { id: "kid".into(), key }));
    let problems: Vec<_> = with("bad.key").unwrap_err().iter().map(ToString::to_string).collect();
    only(&problems, &["acme.external-account.key-file", "no key in Base64"]);
}

#[test]
fn mistakes_name_the_way_out() {
    let (certificate, key) = self_signed();
    let files = files(&[("c.pem", &certificate), ("k.pem", &key)]);
    let tls = "[listen]\ntls = 443\n";
    for (text, parts) in [
        ("[acme]\ndomains = ['*.example.org']", &["acme.domains[0]", "DNS-01", "name each host"][..]),
        (
            "[acme]\ndomains = ['192.0.2.1']",
            &["acme.domains[0] = '192.0.2.1'", "an IP address is no DNS name"],
        ),
        ("[acme]\ndomains = ['[2001:db8::1]']", &["an IP address is no DNS name"]),
        ("[acme]\ndomains = ['https://a.example.org']", &["not a host name", "no scheme"]),
        ("[acme]\ndomains = 'a.example.org'", &["should be a list", "in brackets"]),
        ("[acme]\ndomains = ['a.example.org', 'A.example.org']", &["a.example.org is there twice"]),
        ("[acme]\nemail = 'a@example.org'", &["acme.domains: missing, though acme.email is set"]),
        (
            "[acme]\ndomains = ['a.example.org']\nemail = 'me'",
            &["acme.email = 'me'", "not an e-mail address"],
        ),
        ("[acme]\ndomains = ['a.example.org']\nemail = 'a@b,c@d'", &["not an e-mail address"]),
        ("[acme]\ndomains = ['a.example.org']\nchallenge = 'dns-01'", &["\"tls-alpn-01\", \"http-01\""]),
        (
            "[acme]\ndomains = ['a.example.org']\ndirectory = 'http://ca.example/dir'",
            &["not the URL of a directory", "https://"],
        ),
        (
            "[acme]\ndomains = ['a.example.org']\nca-file = 'gone'",
            &["acme.ca-file = 'gone'", "cannot read gone"],
        ),
        ("[acme]\ndomains = ['a.example.org']\nstate-dir = 'x'", &["not a place for a directory"]),
        (
            "[acme]\ndomains = ['a.example.org']\nexternal-account = { id = 'x' }",
            &["needs an id and a key-file"],
        ),
        (
            "[acme]\ndomains = ['a.example.org']\n[tls]\ncertificate = 'c.pem'\nkey = 'k.pem'",
            &["acme.domains", "there is tls.certificate too", "leave [tls] out"],
        ),
        ("[acme]\ndomain = ['a.example.org']", &["acme.domain: there is no such key; did you mean domains?"]),
    ] {
        only(&errors_with(&format!("{tls}{text}"), &files), parts);
    }
    for url in ["https://", "https:///dir", "https://a b/", "https://ca.example:port/", "ca.example/dir"] {
        let text = format!("{tls}[acme]\ndomains = ['a.example.org']\ndirectory = '{url}'");
        only(&errors(&text), &["not the URL of a directory"]);
    }
    only(
        &errors("[listen]\ntls = []\nhttp = '127.0.0.1:80'\n[acme]\ndomains = ['a.example.org']"),
        &["listen.tls = []", "no TLS listener for the certificate"],
    );
    only(
        &errors("[listen]\ntls = []\nredirect = 80\nhttp = '127.0.0.1:81'"),
        &["listen.redirect = 80", "no HTTPS"],
    );
    let many: Vec<_> = (0..101).map(|n| format!("'n{n}.example.org'")).collect();
    only(&errors(&format!("{tls}[acme]\ndomains = [{}]", many.join(", "))), &["101 names", "at most 100"]);
}

#[test]
fn what_the_ca_will_not_reach_is_warned_about() {
    only(
        &warnings("[acme]\ndomains = ['a.example.org']"),
        &["acme.domains", "port 443, where nothing listens", "listen.tls = 443", "http-01"],
    );
    for (text, parts) in [
        ("[acme]\ndomains = ['turn.local']", &["acme.domains[0]", "no public CA"][..]),
        ("host = 'b.example.org'\n[acme]\ndomains = ['a.example.org']", &["connect to b.example.org"]),
    ] {
        let (top, acme) = text.split_once("[acme]").unwrap();
        only(&warnings(&format!("{top}[listen]\ntls = 443\n[acme]{acme}")), parts);
    }
}
