//! Servers that are bad in one way each.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ternd::auth::{Algorithm, Key};
use ternd::net::clock::Clock;
use ternd::stun::{AttributeType, Builder, Class, Method, hmac_sha1};

use crate::fake;
use crate::run::{Coturn, SECRET, SHARED_SECRET, check, command, free_port, has_ipv6};

const LOOPBACK: &[&str] = &["--allow-loopback-peers"];
const REFUSED: [&str; 4] = ["DNS ok", "Binding ok", "Allocate, unsigned ok", "Allocate fail"];

#[test]
fn a_wrong_secret_and_an_expired_credential() {
    let Some(coturn) = Coturn::start(&[SHARED_SECRET, LOOPBACK]) else { return };
    let uri = format!("turn:127.0.0.1:{}", coturn.port);
    let found = check(&uri, &["--secret", "another secret"]);
    found.assert_failed("Allocate", "the secret is not the one the server has", "static-auth-secret");
    assert_eq!(found.rows()[..4], REFUSED);

    let name = "1700000000:ann";
    let password = STANDARD.encode(hmac_sha1(SECRET.as_bytes(), &[name.as_bytes()]));
    let found = check(&format!("{uri} --user {name} --password {password}"), &[]);
    found.assert_failed("Allocate", "expired", "compare the clocks");
    assert_eq!(found.rows()[..4], REFUSED);

    let found = check(&format!("{uri} --user ann --password guessed"), &[]);
    found.assert_failed("Allocate", "does not know this user in realm \"example.org\"", "user=name:password");
}

/// Its clock is an hour ahead of ours.
#[test]
fn a_clock_that_is_ahead() {
    let port = fake::udp(|request, from| {
        if request.method() == Method::BINDING {
            return Some(fake::mapped(request, from));
        }
        let Some(name) = request.find(AttributeType::USERNAME) else {
            return Some(fake::error(request, 401));
        };
        let name = std::str::from_utf8(name.value).unwrap();
        let password = STANDARD.encode(hmac_sha1(SECRET.as_bytes(), &[name.as_bytes()]));
        let key = Key::derive(Algorithm::Md5, name.as_bytes(), "fake", &password);
        assert!(request.verify_integrity(key.as_bytes()));
        let its_clock = Clock::start().now().unix + 3_600;
        let expires: u64 = name.split(':').next().unwrap().parse().unwrap();
        if expires < its_clock {
            return Some(fake::error(request, 401));
        }
        let relayed = AttributeType::XOR_RELAYED_ADDRESS;
        let response = Builder::response(Class::Success, request).xor_address(relayed, from);
        Some(response.u32(AttributeType::LIFETIME, 600).message_integrity(key.as_bytes()).finish())
    });
    let found = check(&format!("turn:127.0.0.1:{port}"), &["--secret", SECRET]);
    found.assert_failed("Allocate", "the server's clock is ahead", "timedatectl");
}

#[test]
fn a_certificate_for_another_name_or_of_nobody() {
    let Some(coturn) = Coturn::start(&[SHARED_SECRET, LOOPBACK]) else { return };
    let (tls, ca) = (coturn.tls_port, coturn.ca());
    let found = check(&format!("turns:127.0.0.1:{tls} --ca {ca}"), &["--secret", SECRET]);
    found.assert_failed("Certificate", "the certificate is for localhost", "get a certificate for 127.0.0.1");
    assert_eq!(found.rows()[2..], ["TLS handshake ok", "Certificate fail", "The rest skip"]);

    let found = check(&format!("-4 turns:localhost:{tls}"), &["--secret", SECRET]);
    let untrusted = found.step("Certificate")["detail"].as_str().unwrap();
    assert!(untrusted.contains("signed by \"Test Authority\"") || untrusted.contains("trusts no authority"));
    assert_eq!(found.code, 1);

    let found = check(&format!("turns:127.0.0.1:{tls} --ca {ca} --insecure"), &["--secret", SECRET]);
    assert_eq!((found.code, found.counts("fail"), found.counts("warn")), (0, 0, 1));
    assert_eq!(found.step("Round trip")["status"], "ok");
}

#[test]
fn a_dead_port() {
    let port = free_port();
    let found = check(&format!("turn:127.0.0.1:{port}"), &["--secret", SECRET]);
    found.assert_failed("Binding", &format!("nothing listens on UDP port {port}"), "ss -lnup");
    assert_eq!(found.rows(), ["DNS ok", "Binding fail"]);
    for scheme in ["turn", "turns"] {
        let found = check(&format!("{scheme}:127.0.0.1:{port}?transport=tcp"), &[]);
        found.assert_failed("TCP connect", &format!("nothing listens on TCP port {port}"), "ss -lntp");
        assert_eq!(found.rows(), ["DNS ok", "TCP connect fail"]);
    }
    let found = check("stun:no-such-host.invalid", &[]);
    found.assert_failed("DNS", "does not exist", "dig");
    let found = check(&format!("-6 stun:127.0.0.1:{port}"), &[]);
    found.assert_failed("DNS", "IPv6", "leave the option out");
}

#[test]
fn ports_that_swallow_everything() {
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = silent.local_addr().unwrap().port();
    let found = check(&format!("turn:127.0.0.1:{port} --timeout 1"), &["--secret", SECRET]);
    found.assert_failed("Binding", "UDP is blocked on the way", "transport=tcp");
    assert_eq!(found.rows(), ["DNS ok", "Binding fail"]);

    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = silent.local_addr().unwrap().port();
    let found = check(&format!("turns:127.0.0.1:{port} --timeout 1"), &[]);
    found.assert_failed("TLS handshake", "no TLS answers", "5349");
}

#[test]
fn other_services() {
    let port = fake::http(|_| (404, "no".into()));
    let found = check(&format!("turns:127.0.0.1:{port} --timeout 2"), &[]);
    assert_eq!(found.rows()[2], "TLS handshake fail");
    let found = check(&format!("--ice-url http://127.0.0.1:{port}/nowhere"), &[]);
    found.assert_failed("HTTP", "no such endpoint", "/v1/ice");
    let port = fake::http(|_| {
        (200, r#"{"iceServers":[{"urls":["turn:127.0.0.1:1","stun:h?transport=udp"]}]}"#.into())
    });
    let found = check(&format!("--ice-url http://127.0.0.1:{port}/"), &[]);
    found.assert_failed("URL", "throws", "both with each turn:");
    assert_eq!(found.counts("fail"), 2);
}

#[test]
fn an_open_relay() {
    let Some(coturn) = Coturn::start(&[&["--no-auth"], LOOPBACK]) else { return };
    let found = check(&format!("turn:127.0.0.1:{}", coturn.port), &["--secret", SECRET]);
    found.assert_failed("Allocate, unsigned", "an open relay", "no no-auth");
    assert_eq!(found.counts("fail"), 1);
    assert_eq!(found.step("Round trip")["status"], "ok");
}

#[test]
fn a_server_that_relays_nothing() {
    let Some(coturn) = Coturn::start(&[SHARED_SECRET, LOOPBACK]) else { return };
    let port = fake::firewall((Ipv4Addr::LOCALHOST, coturn.port).into());
    let found = check(&format!("turn:127.0.0.1:{port} --timeout 2"), &["--secret", SECRET]);
    found.assert_failed(
        "Peer to client",
        "a firewall closes the relay ports",
        "open UDP for all relay ports",
    );
    found.assert_failed("Round trip", "a firewall closes the relay ports", "min-port");
    let rows = found.rows();
    let through_two =
        ["Second allocation ok", "CreatePermission ok", "ChannelBind ok", "Round trip fail", "Refresh 0 ok"];
    assert!(rows.windows(5).any(|rows| rows == through_two), "{rows:?}");
}

#[test]
fn a_wrong_external_address() {
    let Some(coturn) = Coturn::start(&[SHARED_SECRET, LOOPBACK, &["--external-ip=127.0.0.9"]]) else {
        return;
    };
    let found = check(&format!("turn:127.0.0.1:{} --timeout 2", coturn.port), &["--secret", SECRET]);
    let cause = "the wrong external address: relayed data comes from 127.0.0.1, not from 127.0.0.9";
    found.assert_failed("Peer to client", cause, "external-ip");
    found.assert_failed("Round trip", cause, "external-ip");
}

#[test]
fn a_peer_policy_that_closes_the_relay_itself() {
    let Some(coturn) = Coturn::start(&[SHARED_SECRET]) else { return };
    let found = check(&format!("turn:127.0.0.1:{}", coturn.port), &["--secret", SECRET]);
    found.assert_failed("CreatePermission", "closes its own relay address", "allow-loopback-peers");
    if has_ipv6() {
        let found = check(&format!("turn:[::1]:{}", coturn.port), &["--secret", SECRET]);
        found.assert_failed("Second allocation", "closes its own relay address", "allowed-peer-ip");
    }
}

#[test]
fn error_codes_in_words() {
    for (code, step, cause) in
        [(486, "Allocate, unsigned", "does not relay"), (300, "Allocate, unsigned", "to another one")]
    {
        let port = fake::udp(move |request, from| match request.method() {
            Method::BINDING => Some(fake::mapped(request, from)),
            _ => Some(fake::error(request, code)),
        });
        check(&format!("turn:127.0.0.1:{port}"), &[]).assert_failed(step, cause, "");
    }
    let port = fake::udp(|request, from| match request.method() {
        Method::BINDING => Some(fake::mapped(request, from)),
        _ if request.find(AttributeType::USERNAME).is_none() => Some(fake::error(request, 401)),
        _ => Some(fake::error(request, 486)),
    });
    let found = check(&format!("turn:127.0.0.1:{port}"), &["--secret", SECRET]);
    found.assert_failed("Allocate", "quota of allocations is used up", "user-quota");
    assert_eq!(found.step("Allocate")["detail"], "486 Allocation Quota Reached");

    // It answers no Binding, and relays.
    let port =
        fake::udp(|request, _| (request.method() != Method::BINDING).then(|| fake::error(request, 401)));
    let found = check(&format!("turn:127.0.0.1:{port} --timeout 1"), &[]);
    assert_eq!((found.code, found.step("Binding")["status"].as_str()), (0, Some("warn")));
}

/// Not the server is bad, but the NAT that it shows: another mapped address at each of the server's addresses.
#[test]
fn a_symmetric_nat() {
    let (port, alternate) = (free_port(), free_port());
    let other = (Ipv4Addr::new(127, 0, 0, 2), alternate).into();
    for (n, at) in
        [((127, 0, 0, 1), port), ((127, 0, 0, 2), port), ((127, 0, 0, 2), alternate)].into_iter().enumerate()
    {
        let (ip, port) = at;
        let ip = Ipv4Addr::new(ip.0, ip.1, ip.2, ip.3);
        fake::udp_on((ip, port).into(), move |request, _| {
            let mapped = (Ipv4Addr::new(127, 0, 0, 9), 1_000 + n as u16).into();
            // A NAT that lets no other address in.
            let changed = request.find(AttributeType::CHANGE_REQUEST).is_some();
            (!changed).then(|| fake::mapped_with_other(request, mapped, other))
        });
    }
    let found = check(&format!("stun:127.0.0.1:{port} --timeout 1"), &[]);
    found.assert_good();
    let data = &found.step("NAT behaviour")["data"];
    assert_eq!(data["mapping"], "address-and-port-dependent");
    assert_eq!(data["filtering"], "address-and-port-dependent");

    // One that offers what it has not.
    let other = (Ipv4Addr::new(127, 0, 0, 3), port).into();
    let port = fake::udp(move |request, from| Some(fake::mapped_with_other(request, from, other)));
    let found = check(&format!("stun:127.0.0.1:{port} --timeout 1"), &[]);
    assert_eq!((found.code, found.step("NAT behaviour")["status"].as_str()), (0, Some("warn")));
}

#[test]
fn wrong_command_lines() {
    for line in ["", "http://a", "turn:a --user u", "turn:a --secret s --password p", "turn:a -4 -6"] {
        assert_eq!(command(line, &[]).output().unwrap().status.code(), Some(2), "{line}");
    }
    let output = command("turn:127.0.0.1:1 --secret-file /nonexistent/secret", &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("cannot read --secret-file /nonexistent/secret")
    );
}
