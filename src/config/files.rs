//! The files a configuration names.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Nothing that belongs in a configuration is bigger.
const BIGGEST: u64 = 1024 * 1024;

/// What reading a configuration needs to know of the file system. Tests bring their own.
pub trait Files {
    /// Where a path as written is found; `None` for a credential of systemd's outside of the service that gets it.
    fn locate(&self, written: &str) -> Option<PathBuf>;

    /// The whole file.
    ///
    /// # Errors
    /// Those of the operating system, and for more than 1 MiB.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// May every user of this machine read it?
    fn is_public(&self, path: &Path) -> bool;

    /// Is it a directory?
    fn is_directory(&self, path: &Path) -> bool;
}

/// The real file system.
#[derive(Clone, Debug)]
pub struct Disk {
    base: PathBuf,
    credentials: Option<OsString>,
    outside: bool,
}

impl Disk {
    /// Relative paths are taken from the directory of the configuration file `config`, `credential:NAME` from the
    /// directory that systemd hands to a service (`LoadCredential=NAME:...`).
    pub fn beside(config: &Path) -> Self {
        let base = config.parent().unwrap_or(Path::new("")).to_owned();
        Self { base, credentials: env::var_os("CREDENTIALS_DIRECTORY"), outside: false }
    }

    /// For a look at a configuration from outside of its service: it is no error that credentials are not there.
    pub fn from_outside(self) -> Self {
        Self { outside: true, ..self }
    }
}

impl Files for Disk {
    fn locate(&self, written: &str) -> Option<PathBuf> {
        match (written.strip_prefix("credential:"), &self.credentials) {
            (None, _) => Some(self.base.join(written)),
            (Some(name), Some(directory)) => Some(Path::new(directory).join(name)),
            (Some(_), None) if self.outside => None,
            // A path that can't be read: the error then names what is missing.
            (Some(name), None) => Some(Path::new("$CREDENTIALS_DIRECTORY").join(name)),
        }
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        // One byte over the bound tells a file that is too big from one that just fits.
        File::open(path)?.take(BIGGEST + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > BIGGEST {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "bigger than 1 MiB"));
        }
        Ok(bytes)
    }

    fn is_public(&self, path: &Path) -> bool {
        path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o004 != 0)
    }

    fn is_directory(&self, path: &Path) -> bool {
        path.is_dir()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_relative_to_the_file_or_credentials() {
        let mut disk = Disk { base: "/etc/ternd".into(), credentials: Some("/run/c".into()), outside: false };
        let located = |disk: &Disk, name| disk.locate(name).map(|path| path.display().to_string());
        assert_eq!(located(&disk, "key.pem").as_deref(), Some("/etc/ternd/key.pem"));
        assert_eq!(located(&disk, "/srv/key.pem").as_deref(), Some("/srv/key.pem"));
        assert_eq!(located(&disk, "credential:key").as_deref(), Some("/run/c/key"));
        disk.credentials = None;
        assert_eq!(located(&disk, "credential:key").as_deref(), Some("$CREDENTIALS_DIRECTORY/key"));
        assert_eq!(located(&disk.from_outside(), "credential:key"), None);
    }
}
