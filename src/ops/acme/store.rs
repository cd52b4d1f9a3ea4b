//! What is kept between starts: for each ACME server a directory with the account and the certificate.
//!
//! ```text
//! /var/lib/ternd/acme/acme-v02.api.letsencrypt.org_directory/   0700
//!     account.json       0600   the account's key and URL
//!     certificate.pem    0600   private key and chain
//! ```
//! So a staging server and the real one do not mix, and each file is replaced whole.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::certificate::Certificate;
use crate::ops::state::write_whole;

/// An account at one ACME server.
#[derive(Debug, PartialEq, Deserialize, Serialize)]
pub(super) struct Account<C> {
    /// Whom the server was told to write to.
    pub email: Option<String>,
    /// The key identifier of the external account that it is bound to.
    #[serde(default)]
    pub external: Option<String>,
    pub credentials: C,
}

/// The directory of one ACME server.
pub(super) struct Store {
    directory: PathBuf,
    /// The newest certificate, if it could not be written: what the file has is older.
    unwritten: Mutex<Option<Certificate>>,
}

impl Store {
    /// Makes the directory if it is not there.
    pub(super) fn open(root: &Path, server: &str) -> io::Result<Self> {
        let directory = root.join(name_of(server));
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        Ok(Self::at(directory))
    }

    fn at(directory: PathBuf) -> Self {
        Self { directory, unwritten: Mutex::default() }
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.directory == other.directory
    }

    pub(super) fn account_path(&self) -> PathBuf {
        self.directory.join("account.json")
    }

    pub(super) fn certificate_path(&self) -> PathBuf {
        self.directory.join("certificate.pem")
    }

    /// The account, if one is kept. One that is broken is made anew; one that can't be read is an error, or there would
    /// be another at the server for each attempt.
    pub(super) fn account<C: DeserializeOwned>(&self) -> io::Result<Option<Account<C>>> {
        let Some(text) = read(&self.account_path())? else { return Ok(None) };
        let account = serde_json::from_str(&text);
        Ok(account
            .inspect_err(|error| {
                log::warn!("{}: {error}; a new account is made", self.account_path().display())
            })
            .ok())
    }

    /// Can something new be kept?
    pub(super) fn probe(&self) -> io::Result<()> {
        let path = self.directory.join("probe");
        // As large as an account, for a disk that is full.
        write_whole(&path, &[b'\n'; 4096])?;
        fs::remove_file(path)
    }

    pub(super) fn keep_account<C: Serialize>(&self, account: &Account<C>) -> io::Result<()> {
        let text = Zeroizing::new(serde_json::to_string_pretty(account)?);
        write_whole(&self.account_path(), text.as_bytes())
    }

    /// The server knows it no more.
    pub(super) fn forget_account(&self) -> io::Result<()> {
        fs::remove_file(self.account_path())
    }

    /// The certificate, if one is kept. An error says why it can't be used.
    pub(super) fn certificate(&self) -> Result<Option<Certificate>, String> {
        if let Some(newer) = self.unwritten() {
            return Ok(Some(newer));
        }
        let path = self.certificate_path();
        let told = |error: String| format!("{}: {error}", path.display());
        let text = read(&path).map_err(|error| told(error.to_string()))?;
        text.map(Certificate::from_pem).transpose().map_err(told)
    }

    /// After an error it is kept in memory.
    pub(super) fn keep_certificate(&self, certificate: &Certificate) -> io::Result<()> {
        let written = write_whole(&self.certificate_path(), certificate.pem.as_bytes());
        let unwritten = written.is_err().then(|| certificate.clone());
        *self.unwritten.lock().unwrap_or_else(PoisonError::into_inner) = unwritten;
        written
    }

    /// Writes what could not be written, if there is something.
    pub(super) fn write_again(&self) -> io::Result<()> {
        self.unwritten().map_or(Ok(()), |unwritten| self.keep_certificate(&unwritten))
    }

    fn unwritten(&self) -> Option<Certificate> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The usable certificates of other ACME servers, each with its file.
    pub(super) fn of_others(&self) -> impl Iterator<Item = (PathBuf, Certificate)> {
        let all = self.directory.parent().and_then(|root| fs::read_dir(root).ok()).into_iter().flatten();
        let others = all.flatten().map(|entry| Self::at(entry.path())).filter(|store| !self.is_same(store));
        others.filter_map(|store| Some((store.certificate_path(), store.certificate().ok()??)))
    }
}

/// `None`: there is none.
fn read(path: &Path) -> io::Result<Option<Zeroizing<String>>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A URL as the name of a directory: without its scheme, and nothing in it that leads elsewhere.
fn name_of(server: &str) -> String {
    let bare = server.strip_prefix("https://").unwrap_or(server);
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '.') { c } else { '_' };
    // A name of a file has 255 bytes.
    let name: String = bare.trim_matches('.').chars().map(plain).take(200).collect();
    name
}

#[cfg(test)]
mod tests {
    use super::super::certificate::tests::made;
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn names_of_servers_stay_within_the_directory() {
        for (server, name) in [
            ("https://acme-v02.api.letsencrypt.org/directory", "acme-v02.api.letsencrypt.org_directory"),
            ("https://ca.example:14000/../dir?x=/", "ca.example_14000_.._dir_x__"),
            ("https://..", ""),
        ] {
            assert_eq!(name_of(server), name);
        }
        assert_eq!(name_of(&"x".repeat(300)).len(), 200);
    }

    #[test]
    fn what_is_kept_comes_back_and_is_for_nobody_else_to_read() {
        let root = tempfile::tempdir().unwrap();
        let acme = root.path().join("acme");
        let store = Store::open(&acme, "https://ca.example/dir").unwrap();
        assert!(store.certificate().unwrap().is_none());
        assert!(store.account::<String>().unwrap().is_none());

        let email = Some("admin@example.org".to_owned());
        store.probe().unwrap();
        let external = Some("kid-1".to_owned());
        let account = Account { email, external, credentials: "key".to_owned() };
        store.keep_account(&account).unwrap();
        let certificate = Certificate::from_pem(made(&["turn.example.org"])).unwrap();
        store.keep_certificate(&certificate).unwrap();
        store.keep_certificate(&certificate).unwrap();

        let again = Store::open(&acme, "https://ca.example/dir").unwrap();
        assert_eq!(again.account::<String>().unwrap().unwrap(), account);
        assert_eq!(*again.certificate().unwrap().unwrap().pem, *certificate.pem);
        assert_eq!([mode(&acme), mode(&again.directory)], [0o700; 2]);
        assert_eq!([mode(&again.account_path()), mode(&again.certificate_path())], [0o600; 2]);
        assert_eq!(fs::read_dir(&again.directory).unwrap().count(), 2, "nothing half-written is left");

        let other = Store::open(&acme, "https://staging.example/dir").unwrap();
        assert!(other.certificate().unwrap().is_none() && other.account::<String>().unwrap().is_none());
    }

    #[test]
    fn what_is_broken_is_told_and_made_again() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path(), "https://ca.example/dir").unwrap();
        fs::write(store.certificate_path(), "torn").unwrap();
        let error = store.certificate().err().unwrap();
        assert!(error.contains("certificate.pem") && error.contains("no private key"), "{error}");
        fs::write(store.account_path(), "{").unwrap();
        assert!(store.account::<String>().unwrap().is_none());
        store.forget_account().unwrap();
        assert!(!store.account_path().exists());
    }

    #[test]
    fn an_account_that_cant_be_read_is_not_taken_for_none() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path(), "https://ca.example/dir").unwrap();
        // Whoever runs the tests may be allowed to read everything.
        fs::create_dir(store.account_path()).unwrap();
        assert!(store.account::<String>().is_err());
        fs::remove_dir_all(&store.directory).unwrap();
        assert!(store.account::<String>().unwrap().is_none());
        assert!(store.probe().is_err(), "there is no place for a new one");
    }
}
