//! Servers that are good.

use std::fs;
use std::net::Ipv4Addr;

use crate::fake;
use crate::run::{Coturn, SECRET, SHARED_SECRET, TempDir, Ternd, check, command, free_port, has_ipv6};

const LOOPBACK: &[&str] = &["--allow-loopback-peers"];

const RELAYED: [&str; 7] = [
    "Allocate, unsigned ok",
    "Allocate ok",
    "CreatePermission ok",
    "ChannelBind ok",
    "Peer to client ok",
    "Round trip ok",
    "Refresh 0 ok",
];

#[test]
fn coturn_over_udp_tcp_and_tls() {
    let Some(coturn) = Coturn::start(&[SHARED_SECRET, LOOPBACK]) else { return };
    let (port, tls, ca) = (coturn.port, coturn.tls_port, coturn.ca());
    let secret = ["--secret", SECRET];

    let udp = check(&format!("turn:127.0.0.1:{port}"), &secret);
    udp.assert_good();
    assert_eq!(udp.rows()[..9], [&["DNS ok", "Binding ok"][..], &RELAYED].concat());
    let relayed = udp.step("Allocate")["data"]["relayed"].as_str().unwrap();
    assert!(relayed.starts_with("127.0.0.1:4"), "{relayed}");
    assert!(udp.step("Binding")["data"]["software"].as_str().unwrap().contains("oturn"));
    assert!(udp.step("Round trip")["data"]["rtt_ms"].as_f64().unwrap() > 0.0);

    let tcp = check(&format!("turn:127.0.0.1:{port}?transport=tcp"), &secret);
    tcp.assert_good();
    assert_eq!(tcp.rows(), [&["DNS ok", "TCP connect ok", "Binding ok"][..], &RELAYED].concat());

    let tls = check(&format!("-4 turns:localhost:{tls} --ca {ca}"), &secret);
    tls.assert_good();
    let connected = ["DNS ok", "TCP connect ok", "TLS handshake ok", "Certificate ok", "Binding ok"];
    assert_eq!(tls.rows(), [&connected[..], &RELAYED].concat());
    assert_eq!(tls.step("Certificate")["data"]["names"][0], "localhost");
    assert_eq!(tls.step("Certificate")["data"]["issuer"], "Test Authority");

    if has_ipv6() {
        let v6 = check(&format!("turn:[::1]:{port}"), &secret);
        v6.assert_good();
        assert!(v6.step("Allocate")["data"]["relayed"].as_str().unwrap().starts_with("[::1]:"));
    }

    // Without credentials only what strangers may see is seen.
    let stranger = check(&format!("turn:127.0.0.1:{port}"), &[]);
    assert_eq!((stranger.code, stranger.counts("fail"), stranger.counts("skip")), (0, 0, 1));
    assert_eq!(stranger.rows()[..4], ["DNS ok", "Binding ok", "Allocate, unsigned ok", "Allocate skip"]);
}

#[test]
fn static_users_and_files_with_secrets() {
    let Some(coturn) = Coturn::start(&[&["--lt-cred-mech", "--user=ann:her password"], LOOPBACK]) else {
        return;
    };
    let dir = TempDir::new();
    fs::write(dir.file("password"), "her password\n").unwrap();
    let line = format!("turn:127.0.0.1:{} --user ann --password-file {}", coturn.port, dir.file("password"));
    check(&line, &[]).assert_good();
}

#[test]
fn nat_behaviour_where_the_server_offers_it() {
    let Some(coturn) = Coturn::start(&[SHARED_SECRET, &["--listening-ip=127.0.0.2"]]) else { return };
    let found = check(&format!("stun:127.0.0.1:{}", coturn.port), &[]);
    found.assert_good();
    assert_eq!(found.rows(), ["DNS ok", "Binding ok", "NAT behaviour ok"]);
    let data = &found.step("NAT behaviour")["data"];
    assert_eq!(
        (data["mapping"].as_str(), data["filtering"].as_str()),
        (Some("none"), Some("endpoint-independent"))
    );
}

/// The address of the second socket is closed: two allocations, the second one by `turn::client`.
#[test]
fn two_allocations_where_the_peer_policy_closes_this_machine() {
    let on = ["--listening-ip=127.0.0.2", "--relay-ip=127.0.0.2", "--denied-peer-ip=127.0.0.1"];
    let Some(coturn) = Coturn::start_on("127.0.0.2", &[&on, SHARED_SECRET, LOOPBACK]) else { return };
    for (url, port) in [("turn:127.0.0.2", coturn.port), ("turns:127.0.0.2", coturn.tls_port)] {
        let found = check(&format!("{url}:{port} --insecure"), &["--secret", SECRET]);
        assert_eq!((found.code, found.counts("fail")), (0, 0));
        let rows = found.rows();
        let relayed = [
            "Second allocation ok",
            "CreatePermission ok",
            "ChannelBind ok",
            "Round trip ok",
            "Refresh 0 ok",
        ];
        assert!(rows.windows(relayed.len()).any(|w| w == relayed), "{rows:?}");
        assert!(
            found.step("CreatePermission")["detail"].as_str().unwrap().contains("is closed to peers (403)")
        );
    }
}

/// The relay sees the second socket at another port than the server told it: that of a symmetric NAT.
#[test]
fn a_peer_behind_a_symmetric_nat() {
    let Some(coturn) = Coturn::start(&[SHARED_SECRET, LOOPBACK]) else { return };
    let port = fake::nat((Ipv4Addr::LOCALHOST, coturn.port).into());
    let found = check(&format!("turn:127.0.0.1:{port}"), &["--secret", SECRET]);
    found.assert_good();
    assert_eq!(found.rows()[1..9], [&["Binding ok"][..], &RELAYED].concat());
    let bound = found.step("ChannelBind")["detail"].as_str().unwrap();
    let seen = found.step("Peer to client")["detail"].as_str().unwrap();
    let bound = bound.rsplit(' ').next().unwrap();
    assert!(bound.starts_with("127.0.0.1:") && !seen.contains(bound), "{bound}, {seen}");
}

/// On its own machine ternd lets peers in only at the relay ports of live allocations.
#[test]
fn ternd_itself() {
    let dir = TempDir::new();
    let [port, tls, http] = [(); 3].map(|()| free_port());
    let config = format!(
        "[listen]\nudp = ['127.0.0.1:{port}']\ntcp = ['127.0.0.1:{port}']\ntls = ['127.0.0.1:{tls}']\n\
         http = ['127.0.0.1:{http}']\n[auth]\nsecret = '{SECRET}'\n[relay]\naddresses = ['127.0.0.1']\n\
         [ice]\napi-keys = ['a key of sixteen and more']\n"
    );
    fs::write(dir.file("ternd.toml"), config).unwrap();
    let _ternd = Ternd::start(&dir.file("ternd.toml"), &[port, tls, http]);
    let relayed =
        ["Second allocation ok", "CreatePermission ok", "ChannelBind ok", "Round trip ok", "Refresh 0 ok"];
    for uri in [
        format!("turn:127.0.0.1:{port}"),
        format!("turn:127.0.0.1:{port}?transport=tcp"),
        format!("turns:127.0.0.1:{tls}"),
    ] {
        let found = check(&format!("{uri} --insecure"), &["--secret", SECRET]);
        assert_eq!((found.code, found.counts("fail")), (0, 0), "{:?}", found.rows());
        assert!(found.rows().ends_with(&relayed.map(str::to_owned)), "{:?}", found.rows());
        assert!(
            found.step("CreatePermission")["detail"].as_str().unwrap().contains("the server's own address")
        );
    }
    let line = format!("--ice-url http://127.0.0.1:{http}/v1/ice --insecure --ice-key");
    let found = check(&line, &["a key of sixteen and more"]);
    assert_eq!((found.code, found.counts("fail")), (0, 0), "{:?}", found.rows());
    assert_eq!(found.rows().iter().filter(|row| *row == "Round trip ok").count(), 3, "{:?}", found.rows());
}

/// The same where nobody signs, so that both allocations are made with our own requests.
#[test]
fn two_allocations_of_an_open_relay() {
    let on = ["--listening-ip=127.0.0.2", "--relay-ip=127.0.0.2", "--denied-peer-ip=127.0.0.1", "--no-auth"];
    let Some(coturn) = Coturn::start_on("127.0.0.2", &[&on, LOOPBACK]) else { return };
    let found = check(&format!("turn:127.0.0.2:{}?transport=tcp", coturn.port), &[]);
    assert_eq!(found.counts("fail"), 1);
    found.assert_failed("Allocate, unsigned", "open relay", "use-auth-secret");
    assert_eq!(found.step("Round trip")["status"], "ok");
    assert_eq!(found.step("Second allocation")["status"], "ok");
}

#[test]
fn servers_that_an_endpoint_names() {
    let Some(coturn) = Coturn::start(&[&["--lt-cred-mech", "--user=ann:pw-of-ann"], LOOPBACK]) else {
        return;
    };
    let port = coturn.port;
    let body = format!(
        r#"{{"iceServers":[{{"urls":["stun:127.0.0.1:{port}"]}},
            {{"urls":["turn:127.0.0.1:{port}?transport=udp","turn:127.0.0.1:{port}?transport=tcp"],
              "username":"ann","credential":"pw-of-ann"}}],"ttl":600}}"#
    );
    // Only who shows the key, and only who posts.
    let endpoint = fake::http(move |request| {
        let key = request.to_ascii_lowercase().contains("authorization: bearer the-key");
        match request.starts_with("POST /v1/ice?x=1 ") {
            _ if !key => (401, "{}".into()),
            false => (405, "{}".into()),
            true => (200, body.clone()),
        }
    });
    let url = format!("http://127.0.0.1:{endpoint}/v1/ice?x=1");
    let found = check(&format!("--ice-url {url} --ice-key the-key"), &[]);
    assert_eq!((found.code, found.counts("fail"), found.counts("warn")), (0, 0, 0));
    assert_eq!(found.rows()[..4], ["DNS ok", "TCP connect ok", "HTTP ok", "iceServers ok"]);
    assert_eq!(found.rows().iter().filter(|row| *row == "Round trip ok").count(), 2);

    let found = check(&format!("--ice-url {url}"), &[]);
    found.assert_failed("HTTP", "who asks", "--ice-key");
}

#[test]
fn the_table_is_aligned_plain_and_without_secrets() {
    let Some(coturn) = Coturn::start(&[SHARED_SECRET, LOOPBACK]) else { return };
    let output = command(&format!("turn:127.0.0.1:{}", coturn.port), &["--secret", SECRET]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(
        text.starts_with(&format!("turn:127.0.0.1:{}?transport=udp\n    ok    DNS ", coturn.port)),
        "{text}"
    );
    assert!(text.contains(&format!("\n  over UDP to 127.0.0.1:{}\n", coturn.port)), "{text}");
    assert!(text.contains(" 0 failed, "), "{text}");
    assert!(!text.contains('\x1b') && !text.contains(SECRET), "{text}");
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("    ok  ")).collect();
    assert!(rows.len() >= 9, "{text}");
    for row in rows {
        assert!(
            row[28..].trim_start().contains(" ") && row.is_char_boundary(39) && &row[37..39] == "  ",
            "{row:?}"
        );
    }
}
