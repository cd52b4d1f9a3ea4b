//! Certificates, and the TLS configuration that all listeners share.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

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
    #[error("certificate and private key: {0}")]
    Refused(#[from] rustls::Error),
    /// No self-signed certificate could be made.
    #[error("self-signed certificate: {0}")]
    SelfSigned(#[from] rcgen::Error),
}

/// A configuration from PEM files: the certificate chain, leaf first, and its private key.
///
/// # Errors
/// [`TlsError`] names the file.
pub fn from_files(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let fail = |what, path: &Path, reason: String| TlsError::File { what, path: path.into(), reason };
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| fail("certificate", certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(fail(
            "certificate",
            certificate,
            "there is no certificate in it; a PEM file is needed".into(),
        ));
    }
    let key =
        PrivateKeyDer::from_pem_file(key).map_err(|error| fail("private key", key, error.to_string()))?;
    configuration(chain, key)
}

/// A configuration with a certificate made here and now, for `names` (DNS names or addresses). No browser trusts it
/// unasked.
///
/// # Errors
/// A name is not one.
pub fn self_signed(names: Vec<String>) -> Result<Arc<ServerConfig>, TlsError> {
    let made = rcgen::generate_simple_self_signed(names)?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())
        .map_err(|reason| TlsError::Refused(rustls::Error::General(reason.into())))?;
    configuration(vec![made.cert.der().clone()], key)
}

fn configuration(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    // TURN clients offer none of these, or `stun.turn`; what speaks then shows in the first bytes.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec(), b"stun.turn".to_vec()];
    Ok(Arc::new(config))
}
