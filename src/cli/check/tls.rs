//! The TLS handshake, with a verifier that reports what is wrong instead of only refusing.
//!
//! What a browser checks is checked: the chain up to a root that this machine trusts, the names, the dates. The
//! signature that proves the key is always required.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Days before its end at which a certificate should have been renewed.
const SOON: i64 = 14;

/// The roots that certificates are held against.
pub(super) struct Trust {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl Trust {
    /// What this machine trusts, and the certificates in `ca` (PEM).
    ///
    /// # Errors
    /// `ca` can't be read, or holds none.
    pub(super) fn load(ca: Option<&Path>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(path) = ca {
            let shown = path.display();
            let certificates = CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|error| format!("cannot read --ca {shown}: {error}"))?;
            if roots.add_parsable_certificates(certificates).0 == 0 {
                return Err(format!("--ca {shown} holds no certificate in PEM form"));
            }
        }
        Ok(Self { roots: Arc::new(roots), provider: Arc::new(aws_lc_rs::default_provider()) })
    }
}

/// What is wrong with a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// Not for this host.
    Name,
    /// Ended some days ago.
    Expired { days: i64 },
    /// Begins in some days.
    NotYet { days: i64 },
    /// No chain to a trusted root.
    Untrusted(Untrusted),
    /// In the words of the verifier.
    Other(String),
}

/// Why there is no chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Untrusted {
    /// It signed itself.
    SelfSigned,
    /// It came alone, signed by somebody else.
    Alone,
    /// It came with others, which lead to no trusted root.
    UnknownRoot,
    /// This machine trusts nobody.
    NoRoots,
}

/// A certificate as the server shows it.
#[derive(Clone, Debug)]
pub(super) struct Certificate {
    pub(super) names: Vec<String>,
    pub(super) issuer: String,
    /// Seconds since the Unix epoch.
    pub(super) not_after: i64,
    pub(super) days_left: i64,
    /// Certificates that came, its own included.
    pub(super) chain: usize,
    pub(super) flaws: Vec<Flaw>,
}

impl Certificate {
    pub(super) const fn ends_soon(&self) -> bool {
        self.days_left < SOON
    }
}

/// A handshake that was made.
pub(super) struct Secured {
    pub(super) stream: TlsStream<TcpStream>,
    pub(super) version: String,
    pub(super) suite: String,
    pub(super) certificate: Certificate,
}

/// Shakes hands with `host`, whatever its certificate.
pub(super) async fn handshake(tcp: TcpStream, host: &str, trust: &Trust) -> io::Result<Secured> {
    let other = |error: &dyn fmt::Display| io::Error::other(error.to_string());
    let name = ServerName::try_from(host.to_owned()).map_err(|error| other(&error))?;
    let witness = Arc::new(Witness {
        roots: Arc::clone(&trust.roots),
        provider: Arc::clone(&trust.provider),
        seen: Mutex::default(),
    });
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&trust.provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| other(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&witness) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    config.enable_sni = host.parse::<IpAddr>().is_err();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;

    let session = stream.get_ref().1;
    let version = match session.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLS 1.3".into(),
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2".into(),
        other => format!("{other:?}"),
    };
    let suite = session.negotiated_cipher_suite().map_or_else(String::new, |s| format!("{:?}", s.suite()));
    let seen = witness.seen.lock().unwrap_or_else(PoisonError::into_inner).take();
    let certificate = seen.ok_or_else(|| io::Error::other("the server showed no certificate"))?;
    Ok(Secured { stream, version, suite, certificate })
}

/// A connection to the same place, without a look at the certificate.
pub(super) async fn again(
    address: SocketAddr,
    host: &str,
    trust: &Trust,
) -> io::Result<TlsStream<TcpStream>> {
    Ok(handshake(TcpStream::connect(address).await?, host, trust).await?.stream)
}

/// Looks at the certificate and lets it pass.
struct Witness {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    seen: Mutex<Option<Certificate>>,
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Witness")
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = self.judge(end_entity, intermediates, name, now);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(certificate);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl Witness {
    fn judge(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Certificate {
        let unix = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let mut seen = Certificate {
            names: Vec::new(),
            issuer: String::new(),
            not_after: 0,
            days_left: 0,
            chain: 1 + intermediates.len(),
            flaws: Vec::new(),
        };
        let (x509, parsed) =
            match (X509Certificate::from_der(end_entity), ParsedCertificate::try_from(end_entity)) {
                (Ok((_, x509)), Ok(parsed)) => (x509, parsed),
                (Err(error), _) => {
                    seen.flaws.push(Flaw::Other(error.to_string()));
                    return seen;
                }
                (_, Err(error)) => {
                    seen.flaws.push(Flaw::Other(error.to_string()));
                    return seen;
                }
            };
        let days = |seconds: i64| seconds.div_euclid(86_400);
        let validity = x509.validity();
        seen.names = names(&x509);
        seen.issuer = common_name(x509.issuer());
        seen.not_after = validity.not_after.timestamp();
        seen.days_left = days(seen.not_after - unix);
        if seen.not_after < unix {
            seen.flaws.push(Flaw::Expired { days: days(unix - seen.not_after) });
        } else if validity.not_before.timestamp() > unix {
            seen.flaws.push(Flaw::NotYet { days: 1 + days(validity.not_before.timestamp() - unix) });
        }
        if verify_server_name(&parsed, name).is_err() {
            seen.flaws.push(Flaw::Name);
        }
        let algorithms = self.provider.signature_verification_algorithms.all;
        let chain =
            verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms);
        let dated = !seen.flaws.iter().all(|flaw| *flaw == Flaw::Name);
        match chain {
            Ok(()) => {}
            // Its dates are told already; the verifier stops at the first thing it finds.
            Err(_) if dated => {}
            Err(_) if self.roots.is_empty() => seen.flaws.push(Flaw::Untrusted(Untrusted::NoRoots)),
            Err(_) if x509.issuer() == x509.subject() => {
                seen.flaws.push(Flaw::Untrusted(Untrusted::SelfSigned));
            }
            Err(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)) => {
                let why = if intermediates.is_empty() { Untrusted::Alone } else { Untrusted::UnknownRoot };
                seen.flaws.push(Flaw::Untrusted(why));
            }
            Err(error) => seen.flaws.push(Flaw::Other(error.to_string())),
        }
        seen
    }
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let shown = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match (<[u8; 4]>::try_from(*bytes), <[u8; 16]>::try_from(*bytes)) {
            (Ok(v4), _) => Some(IpAddr::from(v4).to_string()),
            (_, Ok(v6)) => Some(IpAddr::from(v6).to_string()),
            _ => None,
        },
        _ => None,
    };
    extension.value.general_names.iter().filter_map(shown).collect()
}

fn common_name(name: &x509_parser::x509::X509Name<'_>) -> String {
    let common = name.iter_common_name().next().and_then(|cn| cn.as_str().ok());
    common.map_or_else(|| name.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};

    use super::*;

    type Ca = CertifiedIssuer<'static, KeyPair>;

    fn authority(name: &str, signed_by: Option<&Ca>) -> Ca {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        match signed_by {
            None => CertifiedIssuer::self_signed(params, key).unwrap(),
            Some(ca) => CertifiedIssuer::signed_by(params, key, ca).unwrap(),
        }
    }

    /// A certificate of 2026.
    fn params(names: &[&str]) -> CertificateParams {
        let mut params =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2026, 1, 1), date_time_ymd(2026, 12, 31));
        params
    }

    fn judged(
        roots: &[&Ca],
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &str,
        at: (i32, u8, u8),
    ) -> Certificate {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(roots.iter().map(|ca| ca.der().clone()));
        let provider = Arc::new(aws_lc_rs::default_provider());
        let witness = Witness { roots: Arc::new(store), provider, seen: Mutex::default() };
        let unix = date_time_ymd(at.0, at.1, at.2).unix_timestamp();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(unix as u64));
        witness.judge(end_entity, intermediates, &ServerName::try_from(host).unwrap(), now)
    }

    #[test]
    fn flaws_are_told_apart() {
        let root = authority("Root", None);
        let middle = authority("Middle", Some(&root));
        let key = KeyPair::generate().unwrap();
        let leaf = params(&["turn.example.org", "192.0.2.1"]).signed_by(&key, &middle).unwrap();
        let chain = [middle.der().clone()];
        let summer = (2026, 7, 1);
        let flaws = |certificate: Certificate| certificate.flaws;

        let good = judged(&[&root], leaf.der(), &chain, "turn.example.org", summer);
        assert_eq!(good.names, ["turn.example.org", "192.0.2.1"]);
        assert_eq!((good.issuer.as_str(), good.days_left, good.chain), ("Middle", 183, 2));
        assert!(good.flaws.is_empty() && !good.ends_soon());
        assert!(judged(&[&root], leaf.der(), &chain, "192.0.2.1", (2026, 12, 25)).ends_soon());

        let judge = |host: &str, at| flaws(judged(&[&root], leaf.der(), &chain, host, at));
        assert_eq!(judge("example.org", summer), [Flaw::Name]);
        assert_eq!(judge("192.0.2.2", summer), [Flaw::Name]);
        assert_eq!(judge("turn.example.org", (2027, 1, 10)), [Flaw::Expired { days: 10 }]);
        assert_eq!(judge("turn.example.org", (2025, 12, 30)), [Flaw::NotYet { days: 3 }]);

        let alone = judged(&[&root], leaf.der(), &[], "turn.example.org", summer);
        assert_eq!(flaws(alone), [Flaw::Untrusted(Untrusted::Alone)]);
        let other = authority("Other", None);
        let unknown = judged(&[&other], leaf.der(), &chain, "turn.example.org", summer);
        assert_eq!(flaws(unknown), [Flaw::Untrusted(Untrusted::UnknownRoot)]);
        let nobody = judged(&[], leaf.der(), &chain, "turn.example.org", summer);
        assert_eq!(flaws(nobody), [Flaw::Untrusted(Untrusted::NoRoots)]);

        let own = params(&["turn.example.org"]).self_signed(&key).unwrap();
        let own = judged(&[&root], own.der(), &[], "turn.example.org", summer);
        assert_eq!(flaws(own), [Flaw::Untrusted(Untrusted::SelfSigned)]);
        let broken = judged(&[&root], &CertificateDer::from(vec![0x30, 0]), &[], "turn.example.org", summer);
        assert!(matches!(flaws(broken)[..], [Flaw::Other(_)]));
    }
}
