//! A certificate as it is kept: one text, with its private key first and then the chain, all in PEM.

use std::sync::Arc;

use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;
use zeroize::Zeroizing;

use super::schedule::Validity;
use crate::net::tls;

/// Usable: certificate and key were issued together.
#[derive(Clone)]
pub(super) struct Certificate {
    pub pem: Zeroizing<String>,
    pub shown: Arc<CertifiedKey>,
    /// DNS names, in lower case.
    pub names: Vec<String>,
    pub validity: Validity,
}

impl Certificate {
    /// From the text that is kept.
    pub(super) fn from_pem(pem: Zeroizing<String>) -> Result<Self, String> {
        let shown = tls::pair_from_pem(pem.as_bytes(), pem.as_bytes())?;
        let leaf = shown.cert.first().ok_or("there is no certificate in it")?;
        let (_, parsed) =
            parse_x509_certificate(leaf).map_err(|error| format!("not a certificate: {error}"))?;
        let unix = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
        let validity = Validity {
            not_before: unix(parsed.validity().not_before),
            not_after: unix(parsed.validity().not_after),
        };
        let alternatives = parsed.subject_alternative_name().ok().flatten();
        let names = alternatives.iter().flat_map(|names| &names.value.general_names);
        let names = names
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
                _ => None,
            })
            .collect();
        Ok(Self { pem, names, validity, shown: shown.clone() })
    }

    /// Is it for all of these?
    pub(super) fn covers(&self, domains: &[String]) -> bool {
        domains.iter().all(|domain| self.names.contains(domain))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// As an order leaves it.
    pub(in crate::ops::acme) fn made(names: &[&str]) -> Zeroizing<String> {
        made_until(2027, names)
    }

    /// Until the 30th of January of that year.
    pub(in crate::ops::acme) fn made_until(year: i32, names: &[&str]) -> Zeroizing<String> {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut parameters = rcgen::CertificateParams::new(names).unwrap();
        parameters.not_before = rcgen::date_time_ymd(2026, 11, 1);
        parameters.not_after = rcgen::date_time_ymd(year, 1, 30);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        (key.serialize_pem() + &certificate.pem()).into()
    }

    #[test]
    fn names_and_dates_are_read() {
        let read = Certificate::from_pem(made(&["turn.example.org", "Other.example.org"])).unwrap();
        assert_eq!(read.names, ["turn.example.org", "other.example.org"]);
        assert_eq!(read.validity, Validity { not_before: 1_793_491_200, not_after: 1_801_267_200 });
        let covers = |names: &[&str]| read.covers(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
        assert!(covers(&["other.example.org"]) && covers(&["other.example.org", "turn.example.org"]));
        assert!(!covers(&["turn.example.org", "new.example.org"]));
    }

    #[test]
    fn what_is_torn_is_refused() {
        let whole = made(&["turn.example.org"]);
        for torn in [&whole[..whole.len() / 2], &whole[whole.len() / 2..], ""] {
            assert!(Certificate::from_pem(torn.to_owned().into()).is_err(), "{torn}");
        }
    }
}
