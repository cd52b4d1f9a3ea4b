//! Certificates, and the TLS configuration that all listeners share.

mod exchanged;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WantsServerCert;
use rustls::sign::CertifiedKey;

pub use exchanged::{ACME_TLS_1, Certificates, challenge, pair_from_pem};

/// A certificate or key that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read, or is not what it should be.
    #[error("{what} {}: {reason}", .path.display())]
    File {
        /// `certificate` or `private key`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong, and the way out.
        reason: String,
    },
    /// Certificate and key do not fit each other, or TLS refuses them.
    #[error("certificate {} and private key {}: {}", .certificate.display(), .key.display(), refusal(.source))]
    Refused {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// TLS itself can't be set up.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// No self-signed certificate could be made.
    #[error("self-signed certificate: {0}")]
    SelfSigned(#[from] rcgen::Error),
}

fn refusal(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            "they were not issued together; name the two files of one certificate".into()
        }
        other => other.to_string(),
    }
}

/// A configuration from PEM files: the certificate chain, leaf first, and its private key.
///
/// # Errors
/// [`TlsError`] names the file and the way out.
pub fn from_files(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
    let chain = match chain {
        Ok(chain) if chain.is_empty() => Err(pem::Error::NoItemsFound),
        other => other,
    };
    let chain = chain.map_err(|error| unusable("certificate", certificate, &error))?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable("private key", key, &error))?;
    configuration(chain, secret).map_err(|source| TlsError::Refused {
        certificate: certificate.into(),
        key: key.into(),
        source,
    })
}

fn unusable(what: &'static str, path: &Path, error: &pem::Error) -> TlsError {
    let reason = match error {
        pem::Error::Io(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            format!("{error}; let the user that runs ternd read it")
        }
        pem::Error::Io(error) => error.to_string(),
        pem::Error::NoItemsFound => {
            format!("there is no {what} in it; a PEM file is needed, its key not encrypted")
        }
        other => format!("not a PEM file: {other}"),
    };
    TlsError::File { what, path: path.into(), reason }
}

/// A configuration with a certificate made here and now, for `names` (DNS names or addresses). No browser trusts it
/// unasked.
///
/// # Errors
/// A name is not one.
pub fn self_signed(names: Vec<String>) -> Result<Arc<ServerConfig>, TlsError> {
    let (chain, key) = made(names)?;
    Ok(configuration(chain, key)?)
}

/// The certificate of [`self_signed`] by itself, to be exchanged for a better one.
///
/// # Errors
/// A name is not one.
pub fn self_signed_pair(names: Vec<String>) -> Result<Arc<CertifiedKey>, TlsError> {
    let (chain, key) = made(names)?;
    Ok(Arc::new(CertifiedKey::from_der(chain, key, &default_provider())?))
}

fn made(names: Vec<String>) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let made = rcgen::generate_simple_self_signed(names)?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())
        .map_err(|reason| rustls::Error::General(reason.into()))?;
    Ok((vec![made.cert.der().clone()], key))
}

/// TURN clients offer none of these, or RFC 7443's two names; what speaks then shows in the first bytes.
const PROTOCOLS: [&[u8]; 4] = [b"h2", b"http/1.1", b"stun.turn", b"stun.nat-discovery"];

fn configuration(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = builder()?.with_single_cert(chain, key)?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
    Ok(Arc::new(config))
}

//= 8489-6.2.3-1 8489-6.2.3-2 8489-6.2.3-3 8489-6.2.3-4 8656-3.1-1
fn builder() -> Result<rustls::ConfigBuilder<ServerConfig, WantsServerCert>, rustls::Error> {
    Ok(ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_file_and_the_way_out() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let made = || rcgen::generate_simple_self_signed(["turn.example.org".to_owned()]).unwrap();
        let (one, other) = (made(), made());
        let certificate = file("fullchain.pem", &one.cert.pem());
        let key = file("privkey.pem", &one.signing_key.serialize_pem());
        let other_key = file("other.pem", &other.signing_key.serialize_pem());
        let empty = file("empty.pem", "");
        let torn = file("torn.pem", "-----BEGIN CERTIFICATE-----\nMIIB!!\n-----END CERTIFICATE-----\n");
        let missing = dir.path().join("missing.pem");

        assert!(from_files(&certificate, &key).is_ok());
        for (certificate, key, named, reason) in [
            (&missing, &key, &missing, "No such file"),
            (&certificate, &missing, &missing, "No such file"),
            (&empty, &key, &empty, "there is no certificate in it"),
            (&torn, &key, &torn, "not a PEM file"),
            (&certificate, &empty, &empty, "there is no private key in it"),
            (&certificate, &certificate, &certificate, "there is no private key in it"),
            (&certificate, &other_key, &other_key, "not issued together"),
        ] {
            let error = from_files(certificate, key).unwrap_err().to_string();
            assert!(error.contains(&named.display().to_string()) && error.contains(reason), "{error}");
        }
    }

    //= 8489-6.2.3-1 8489-6.2.3-2 8489-6.2.3-3 8489-6.2.3-4 8656-3.1-1
    #[test]
    fn each_cipher_suite_has_forward_secrecy() {
        let config = self_signed(vec!["localhost".into()]).unwrap();
        for suite in &config.crypto_provider().cipher_suites {
            let name = format!("{:?}", suite.suite());
            assert!(name.starts_with("TLS13_") || name.starts_with("TLS_ECDHE_"), "{name}");
            assert!(name.contains("_GCM_") || name.contains("CHACHA20_POLY1305"), "{name}");
        }
        let has = |known| config.crypto_provider().cipher_suites.iter().any(|suite| suite.suite() == known);
        assert!(has(rustls::CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256));
    }

    #[test]
    fn a_self_signed_configuration_offers_what_is_spoken_here() {
        let config = self_signed(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
        assert_eq!(config.alpn_protocols, [&b"h2"[..], b"http/1.1", b"stun.turn", b"stun.nat-discovery"]);
        assert!(self_signed(vec!["no\u{e9}".into()]).is_err());
    }
}
