//! Where the daemon itself is the client: whom it trusts.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// Trusts the certificates in `ca` (PEM); without it, those that this machine trusts.
///
/// # Errors
/// There is none, for people.
pub fn trusting(ca: Option<&[u8]>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    let trusted = match ca {
        Some(pem) => CertificateDer::pem_slice_iter(pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| format!("not certificates in PEM: {error}"))?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    if roots.add_parsable_certificates(trusted).0 == 0 && ca.is_some() {
        return Err("there is no certificate in it".into());
    }
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_those_named() {
        let made = rcgen::generate_simple_self_signed(["ca.example".to_owned()]).unwrap();
        assert!(trusting(Some(made.cert.pem().as_bytes())).is_ok());
        assert!(trusting(None).is_ok());
        for wrong in ["", "nothing", "-----BEGIN CERTIFICATE-----\nMIIB!!\n-----END CERTIFICATE-----\n"] {
            assert!(trusting(Some(wrong.as_bytes())).is_err(), "{wrong:?}");
        }
    }
}
