//! The command line of `ternd check`.

use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    args: CheckArgs,
}

fn parse(line: &str) -> Result<CheckArgs, clap::Error> {
    Line::try_parse_from(std::iter::once("check").chain(line.split_whitespace())).map(|line| line.args)
}

#[test]
fn lines_that_are_good() {
    let args = parse("turn:a turns:b:443 --secret geheim --user ann --timeout 2s -4").unwrap();
    assert_eq!(args.uris.len(), 2);
    assert_eq!((args.timeout, args.ipv4, args.ipv6), (Duration::from_secs(2), true, false));
    assert_eq!(parse("stun:a").unwrap().timeout, Duration::from_secs(5));
    assert!(parse("--ice-url https://h/v1/ice?key=geheim --ice-key geheim").is_ok());
    assert!(parse("--ice-url https://h/v1/ice stun:a").is_ok());
    for line in [
        "turn:a --secret geheim",
        "turn:a --user u --password geheim",
        "--ice-url https://h/?key=geheim --ice-key geheim",
    ] {
        assert!(!format!("{:?}", parse(line).unwrap()).contains("geheim"), "{line}");
    }
}

#[test]
fn lines_that_are_wrong() {
    for line in [
        "",
        "http://a",
        "turn://a",
        "turns:a?transport=udp",
        "turn:a --user u",
        "turn:a --password p",
        "turn:a --secret s --password p --user u",
        "turn:a --secret s --secret-file f",
        "turn:a --ice-key k",
        "--ice-url https://h/ --secret s",
        "--ice-url ftp://h/",
        "turn:a -4 -6",
        "turn:a --timeout 0",
        "turn:a --timeout 2m",
    ] {
        assert_eq!(parse(line).expect_err(line).exit_code(), 2, "{line}");
    }
}
