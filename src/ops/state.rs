//! What is made at the first start and kept: the secrets that sign credentials and invites where the configuration has
//! none.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::StartError;
use crate::auth::Secret;
use crate::config::without_line_end;

/// A secret of this daemon's own making.
#[derive(Clone)]
pub(super) struct OwnSecret {
    pub secret: Secret,
    /// The file that keeps it; `None`: it lives as long as the process.
    pub kept: Option<PathBuf>,
}

impl OwnSecret {
    /// The one in the directory that systemd keeps for the service (`StateDirectory=`), made if it is not there. Without
    /// such a directory: one for this run.
    pub(super) fn find_or_make() -> Result<Self, StartError> {
        match directory() {
            Some(directory) => Self::in_directory(&directory, "secret", "auth.secret-file"),
            None => Ok(Self { secret: Secret::new("made for this run", *random()?), kept: None }),
        }
    }

    /// The one that signs invites, which is kept in the same directory. Without such a directory the rooms make one of
    /// their own.
    pub(super) fn for_invites() -> Result<Option<Secret>, StartError> {
        let kept =
            |directory: PathBuf| Self::in_directory(&directory, "invite-secret", "rooms.invite-secret-file");
        Ok(directory().map(kept).transpose()?.map(|own| own.secret))
    }

    /// `key`: what of the configuration goes before it.
    fn in_directory(directory: &Path, name: &str, key: &str) -> Result<Self, StartError> {
        let path = directory.join(name);
        let told = |error: io::Error| {
            let text = format!("{}: {error}; remove it, or set {key}", path.display());
            StartError::System(io::Error::new(error.kind(), text))
        };
        let bytes = match fs::read(&path) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let made = Zeroizing::new(STANDARD.encode(*random()?));
                write_whole(&path, format!("{}\n", &*made).as_bytes()).map_err(told)?;
                Zeroizing::new(made.as_bytes().to_vec())
            }
            Err(error) => return Err(told(error)),
        };
        let secret = without_line_end(&bytes);
        if secret.len() < 16 {
            return Err(told(io::Error::new(io::ErrorKind::InvalidData, "it is too short for a secret")));
        }
        Ok(Self { secret: Secret::new("made at the first start", secret), kept: Some(path) })
    }
}

/// The directory that systemd keeps for the service (`StateDirectory=`).
pub(super) fn directory() -> Option<PathBuf> {
    std::env::var_os("STATE_DIRECTORY").filter(|directory| !directory.is_empty()).map(PathBuf::from)
}

/// Makes or replaces a file that only its owner can read. It is written whole under another name first: a crash leaves
/// the old one, or the new one.
pub(super) fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(content).and_then(|()| file.sync_all())?;
    fs::rename(&new, path)
}

fn random() -> Result<Zeroizing<[u8; 32]>, StartError> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_secret_is_made_once_and_kept_for_nobody_else_to_read() {
        let directory = tempfile::tempdir().unwrap();
        let of = |name| OwnSecret::in_directory(directory.path(), name, "auth.secret-file");
        let first = of("secret").unwrap();
        let path = first.kept.clone().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_to_string(&path).unwrap().trim_end().as_bytes(), &first.secret.bytes[..]);
        assert_eq!(first.secret.bytes.len(), 44);
        let second = of("secret").unwrap();
        assert_eq!(first.secret.bytes, second.secret.bytes);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        assert_ne!(of("invite-secret").unwrap().secret.bytes, first.secret.bytes, "one for each purpose");

        fs::write(&path, "short\n").unwrap();
        let error = of("secret").err().unwrap().to_string();
        assert!(error.contains("too short") && error.contains("auth.secret-file"), "{error}");
    }
}
