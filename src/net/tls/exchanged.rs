//! A certificate that is exchanged while its listeners run, and the certificates that answer challenges.
//!
//! ```text
//! ClientHello ─┬─ ALPN has acme-tls/1 ─► the challenge's certificate for this name, or none (RFC 8737)
//!              └─ else ────────────────► the current certificate
//! ```

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::TlsError;

/// The protocol that proves control over a name, and carries nothing (RFC 8737 section 6.2).
pub const ACME_TLS_1: &[u8] = b"acme-tls/1";

/// What the listeners show: exchanged here, shown from the next handshake on.
pub struct Certificates {
    current: ArcSwap<CertifiedKey>,
    /// By name, in lower case.
    challenges: ArcSwap<HashMap<String, Arc<CertifiedKey>>>,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").finish_non_exhaustive()
    }
}

impl Certificates {
    /// Shows this certificate.
    pub fn new(first: Arc<CertifiedKey>) -> Arc<Self> {
        Arc::new(Self { current: ArcSwap::new(first), challenges: ArcSwap::default() })
    }

    /// Shows this one from now on.
    pub fn exchange(&self, next: Arc<CertifiedKey>) {
        self.current.store(next);
    }

    /// Answers these challenges, and no others.
    pub fn answer(&self, challenges: HashMap<String, Arc<CertifiedKey>>) {
        self.challenges.store(Arc::new(challenges));
    }

    /// The configuration of listeners that show what is current.
    ///
    /// # Errors
    /// TLS can't be set up.
    pub fn configuration(self: &Arc<Self>) -> Result<Arc<ServerConfig>, rustls::Error> {
        let mut config = super::builder()?.with_cert_resolver(self.clone());
        // First: who offers it gets it, and no other protocol with a challenge's certificate.
        config.alpn_protocols =
            [ACME_TLS_1].into_iter().chain(super::PROTOCOLS).map(<[u8]>::to_vec).collect();
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let challenged = hello.alpn().is_some_and(|mut offered| offered.any(|name| name == ACME_TLS_1));
        match challenged {
            true => self.challenges.load().get(&hello.server_name()?.to_ascii_lowercase()).cloned(),
            false => Some(self.current.load_full()),
        }
    }
}

/// A certificate chain, leaf first, and its private key, all in PEM: usable, and issued together.
///
/// # Errors
/// What is wrong, for people.
pub fn pair_from_pem(chain: &[u8], key: &[u8]) -> Result<Arc<CertifiedKey>, String> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("not a certificate in PEM: {error}"))?;
    let key =
        PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("no private key in PEM: {error}"))?;
    if chain.is_empty() {
        return Err("there is no certificate in it".into());
    }
    CertifiedKey::from_der(chain, key, &default_provider())
        .map(Arc::new)
        .map_err(|error| super::refusal(&error))
}

/// The certificate that answers a TLS-ALPN-01 challenge (RFC 8737 section 3): self-signed, for this name alone, with the
/// SHA-256 digest of the proof.
///
/// # Errors
/// The name is not one.
pub fn challenge(name: &str, digest: &[u8]) -> Result<Arc<CertifiedKey>, TlsError> {
    let key = KeyPair::generate()?;
    let mut parameters = CertificateParams::new([name.to_owned()])?;
    parameters.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let certificate = parameters.self_signed(&key)?;
    let key = PrivateKeyDer::try_from(key.serialize_der())
        .map_err(|reason| rustls::Error::General(reason.into()))?;
    // Not compared with the certificate: its critical extension is one that rustls does not know.
    let key = default_provider().key_provider.load_private_key(key)?;
    Ok(Arc::new(CertifiedKey::new(vec![certificate.der().clone()], key)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConnection};

    fn made(name: &str) -> (Arc<CertifiedKey>, CertificateDer<'static>) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        (pair_from_pem(chain.as_bytes(), key.as_bytes()).unwrap(), made.cert.der().clone())
    }

    /// A handshake in memory, trusting `root` only: the protocol agreed on.
    fn shake(
        server: &Arc<ServerConfig>,
        name: &str,
        root: &CertificateDer<'static>,
        offers: &[&[u8]],
    ) -> Result<Option<Vec<u8>>, rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(root.clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = offers.iter().map(|name| name.to_vec()).collect();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut server = ServerConnection::new(server.clone()).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets()?;
            wire.clear();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut wire.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        Ok(server.alpn_protocol().map(<[u8]>::to_vec))
    }

    #[test]
    fn only_who_asks_for_a_challenge_sees_its_certificate() {
        let (name, other) = ("turn.example.org", "other.example.org");
        let ((first, first_der), (second, second_der), (challenge, challenge_der)) =
            (made(name), made(name), made(name));
        let certificates = Certificates::new(first);
        let server = certificates.configuration().unwrap();
        let https: &[&[u8]] = &[b"h2", b"http/1.1"];

        assert_eq!(shake(&server, name, &first_der, https).unwrap().unwrap(), b"h2");
        assert_eq!(shake(&server, name, &first_der, &[]).unwrap(), None, "a TURN client");
        shake(&server, name, &challenge_der, &[ACME_TLS_1]).expect_err("no challenge is on");

        certificates.answer([(name.to_owned(), challenge)].into());
        assert_eq!(shake(&server, name, &challenge_der, &[ACME_TLS_1]).unwrap().unwrap(), ACME_TLS_1);
        let both = shake(&server, name, &challenge_der, &[b"h2", ACME_TLS_1]).unwrap();
        assert_eq!(both.unwrap(), ACME_TLS_1, "never HTTP with a challenge's certificate");
        assert_eq!(shake(&server, name, &first_der, https).unwrap().unwrap(), b"h2");
        shake(&server, other, &challenge_der, &[ACME_TLS_1]).expect_err("the challenge of another name");

        certificates.exchange(second);
        certificates.answer(HashMap::new());
        assert_eq!(shake(&server, name, &second_der, https).unwrap().unwrap(), b"h2");
        shake(&server, name, &first_der, https).expect_err("the first is gone");
        shake(&server, name, &challenge_der, &[ACME_TLS_1]).expect_err("the challenge is over");
    }

    #[test]
    fn a_challenges_certificate_is_for_one_name_with_the_digest_in_a_critical_extension() {
        let shown = challenge("turn.example.org", &[7; 32]).unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(&shown.cert[0]).unwrap();
        let names = parsed.subject_alternative_name().unwrap().unwrap();
        assert_eq!(names.value.general_names.len(), 1);
        let identifier = parsed.extensions().iter().find(|e| e.oid.to_id_string() == "1.3.6.1.5.5.7.1.31");
        let identifier = identifier.unwrap();
        assert!(identifier.critical);
        // An OCTET STRING of 32 bytes.
        assert_eq!(identifier.value, [&[4, 32][..], &[7; 32]].concat());
    }

    #[test]
    fn pairs_fit_or_say_what_is_wrong() {
        let made = || rcgen::generate_simple_self_signed(["turn.example.org".to_owned()]).unwrap();
        let (one, other) = (made(), made());
        let (chain, key) = (one.cert.pem(), one.signing_key.serialize_pem());
        for (chain, key, reason) in [
            (chain.as_str(), other.signing_key.serialize_pem().as_str(), "not issued together"),
            (&chain, &chain, "no private key"),
            (&key, &key, "no certificate"),
        ] {
            let error = pair_from_pem(chain.as_bytes(), key.as_bytes()).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }
}
