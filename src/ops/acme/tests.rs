//! Which certificate is shown, at a start and after a reload.

use std::fs;
use std::path::Path;

use super::certificate::Certificate;
use super::certificate::tests::made_until;
use super::*;

/// The last day of 2026.
const NOW: u64 = 1_798_675_200;
const NAME: &str = "turn.example.org";

fn plan(root: &Path, server: &str, before: Option<&Plan>) -> Plan {
    let settings = config::Acme {
        domains: vec![NAME.into()],
        directory: format!("https://{server}/dir"),
        state_dir: Some(root.into()),
        ..config::Acme::default()
    };
    Plan::new(&settings, before, &Challenges::default(), vec![NAME.into()]).unwrap().unwrap()
}

fn certificate(year: i32, name: &str) -> Certificate {
    Certificate::from_pem(made_until(year, &[name])).unwrap()
}

fn is_shown(plan: &Plan, certificate: &Certificate) -> bool {
    plan.shown.current().is_some_and(|current| current.pem == certificate.pem)
}

#[test]
fn a_ca_that_has_given_nothing_yet_leaves_the_newest_of_another() {
    let root = tempfile::tempdir().unwrap();
    let [old, newest, other, past] = [(2027, NAME), (2028, NAME), (2029, "other.example.org"), (2026, NAME)]
        .map(|(y, n)| certificate(y, n));
    for (server, kept) in
        [("a.example", &old), ("b.example", &newest), ("c.example", &other), ("d.example", &past)]
    {
        plan(root.path(), server, None).store.keep_certificate(kept).unwrap();
    }
    let start = plan(root.path(), "new.example", None);
    assert!(start.shown.current().is_none());
    assert!(start.take_up(NOW).is_none(), "this CA's is still to be ordered");
    assert!(is_shown(&start, &newest));

    let reloaded = plan(root.path(), "newer.example", Some(&start));
    assert!(reloaded.take_up(NOW).is_none() && is_shown(&reloaded, &newest));
    let back = plan(root.path(), "a.example", Some(&reloaded));
    assert!(back.take_up(NOW).is_some() && is_shown(&back, &old), "the CA of the configuration goes first");
    let ended = plan(root.path(), "d.example", Some(&back));
    assert!(ended.take_up(NOW).is_none() && is_shown(&ended, &old), "what is still good stays");
    let alone = tempfile::tempdir().unwrap();
    let alone = plan(alone.path(), "d.example", None);
    alone.store.keep_certificate(&past).unwrap();
    assert!(alone.take_up(NOW).is_none() && is_shown(&alone, &past), "better than a self-signed one");
}

#[test]
fn what_could_not_be_written_outlives_a_reload_and_is_written_then() {
    let root = tempfile::tempdir().unwrap();
    let start = plan(root.path(), "a.example", None);
    let [old, new] = [2027, 2028].map(|year| certificate(year, NAME));
    start.store.keep_certificate(&old).unwrap();
    assert!(start.take_up(NOW).is_some());

    // A directory where the new file is to be: nobody can write there.
    let obstacle = start.path().with_extension("pem.new");
    fs::create_dir(&obstacle).unwrap();
    assert!(start.store.keep_certificate(&new).is_err());
    let reloaded = plan(root.path(), "a.example", Some(&start));
    assert!(reloaded.take_up(NOW).is_some_and(|held| held.pem == new.pem) && is_shown(&reloaded, &new));
    assert_eq!(fs::read_to_string(start.path()).unwrap(), *old.pem);

    fs::remove_dir(obstacle).unwrap();
    let reloaded = plan(root.path(), "a.example", Some(&reloaded));
    assert!(reloaded.take_up(NOW).is_some() && is_shown(&reloaded, &new));
    assert_eq!(fs::read_to_string(start.path()).unwrap(), *new.pem);

    fs::remove_file(start.path()).unwrap();
    let removed = plan(root.path(), "a.example", Some(&reloaded));
    assert!(
        removed.take_up(NOW).is_none() && is_shown(&removed, &new),
        "a new one is ordered, this one stays"
    );
}

#[tokio::test]
async fn reports_tell_of_what_is_shown_whoever_gave_it() {
    let root = tempfile::tempdir().unwrap();
    let shown = certificate(2099, NAME);
    plan(root.path(), "a.example", None).store.keep_certificate(&shown).unwrap();
    // Nobody is there.
    let keeper = Keeper::new(Clock::start(), Some(plan(root.path(), "127.0.0.1:1", None)));
    let told = async {
        loop {
            sleep(Duration::from_millis(5)).await;
            let standing = keeper.standing().unwrap();
            if standing.failure.is_some() {
                return standing;
            }
        }
    };
    let standing = tokio::select! {
        standing = timeout(Duration::from_secs(20), told) => standing.expect("the order fails"),
        () = keeper.run() => unreachable!("it works for ever"),
    };
    assert_eq!(standing.names, [NAME]);
    assert_eq!(standing.expires, Some(shown.validity.not_after));
}
