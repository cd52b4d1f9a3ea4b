//! One order, from the account to the certificate (RFC 8555 section 7.4).
//!
//! ```text
//! account ─► newOrder ─► challenges: answer laid out, then "ready" ─► order ready ─► CSR ─► certificate
//!                              │
//!                  TLS-ALPN-01 │ HTTP-01
//!         net::tls::Certificates │ http::Challenges
//! ```
//! What enters: the configuration and what is kept. What leaves: a certificate that fits it, or why there is none.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use instant_acme::{
    AccountCredentials, AuthorizationStatus, ChallengeHandle, ChallengeType, Error, ExternalAccountKey,
    Identifier, NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use super::Plan;
use super::certificate::Certificate;
use super::client::Https;
use super::store::Account;
use super::way_out;
use crate::config::{Challenge, ExternalAccount};
use crate::net::tls;

/// How often the CA is asked whether it is done, and until when.
const POLLS: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_secs(1)).backoff(1.5).timeout(Duration::from_secs(120));

/// Why there is no certificate, for people.
pub(super) type Why = String;

/// Gets a certificate for all names of the plan.
pub(super) async fn order(plan: &Plan) -> Result<Certificate, Why> {
    let client = Https::trusting(plan.settings.ca.as_deref())?;
    match attempt(plan, &client).await {
        // A CA that has lost it, or was set up anew under the same URL.
        Err(Error::Api(problem)) if is(&problem, "accountDoesNotExist") => {
            log::warn!("the ACME server does not know the account that is kept: a new one is made");
            plan.store.forget_account().map_err(|error| format!("the account that is kept: {error}"))?;
            attempt(plan, &client).await
        }
        other => other,
    }
    .map_err(|error| told(&error))
}

fn is(problem: &instant_acme::Problem, kind: &str) -> bool {
    problem.r#type.as_deref().is_some_and(|found| found.rsplit(':').next() == Some(kind))
}

/// In the words of the CA, with a way out for what is known to need one.
fn told(error: &Error) -> Why {
    let way_out = match error {
        Error::Api(problem) if is(problem, "rateLimited") => "; it takes no more for now",
        Error::Api(problem) if is(problem, "externalAccountRequired") => {
            "; set acme.external-account as the CA's account page says"
        }
        Error::Api(problem) if is(problem, "invalidContact") || is(problem, "unsupportedContact") => {
            "; correct acme.email"
        }
        Error::Api(problem) if is(problem, "rejectedIdentifier") => "; correct acme.domains",
        _ => "",
    };
    format!("{error}{way_out}")
}

async fn attempt(plan: &Plan, client: &Https) -> Result<Certificate, Error> {
    let account = account(plan, client).await?;
    let names: Vec<_> = plan.settings.domains.iter().cloned().map(Identifier::Dns).collect();
    let mut order = account.new_order(&NewOrder::new(&names)).await?;
    let mut answers = Answers::new(plan);
    prove(plan.settings.challenge, &mut order, &mut answers).await?;
    let refusal = match order.poll_ready(&POLLS).await {
        Ok(OrderStatus::Ready) => None,
        Ok(status) => Some(other(format!("the order is {status:?}"))),
        Err(error @ Error::Api(_)) => Some(error),
        Err(error) => return Err(error),
    };
    if let Some(refusal) = refusal {
        // Those of its challenges tell more.
        return Err(refused_challenges(plan.settings.challenge, &mut order).await.unwrap_or(refusal));
    }
    let (key, request) = request(&plan.settings.domains).map_err(other)?;
    order.finalize_csr(&request).await?;
    let chain = order.poll_certificate(&POLLS).await?;
    let certificate = Certificate::from_pem(Zeroizing::new(key.to_string() + &chain)).map_err(other)?;
    if !certificate.covers(&plan.settings.domains) {
        return Err(other(format!("the CA's certificate is for {}", certificate.names.join(", "))));
    }
    Ok(certificate)
}

fn other(why: impl ToString) -> Error {
    Error::Other(why.to_string().into())
}

/// The account that is kept, or a new one.
async fn account(plan: &Plan, client: &Https) -> Result<instant_acme::Account, Error> {
    let settings = &plan.settings;
    let unkept = |what: &str, error: io::Error| {
        other(format!("{}: {what}: {error}; {}", plan.store.account_path().display(), way_out(&error)))
    };
    let builder = instant_acme::Account::builder_with_http(Box::new(client.clone()));
    let contact = settings.email.as_ref().map(|email| format!("mailto:{email}"));
    let contact: Vec<&str> = contact.as_deref().into_iter().collect();
    let external = settings.external_account.as_ref();
    let kept = plan.store.account::<AccountCredentials>();
    let kept = kept.map_err(|error| unkept("the account that is kept can't be read", error))?;
    let (account, keep) = match kept.filter(|kept| is_bound(kept, external)) {
        Some(mut kept) => {
            // They have no clone.
            let copy = serde_json::from_value(serde_json::to_value(&kept.credentials)?)?;
            let account = builder.from_credentials(copy).await?;
            if kept.email == settings.email {
                return Ok(account);
            }
            account.update_contacts(&contact).await?;
            kept.email.clone_from(&settings.email);
            (account, kept)
        }
        None => {
            plan.store.probe().map_err(|error| unkept("no account could be kept, so none is made", error))?;
            let new =
                NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
            let key = external.map(|bound| ExternalAccountKey::new(bound.id.clone(), &bound.key));
            let (account, credentials) =
                builder.create(&new, settings.directory.clone(), key.as_ref()).await?;
            let external = external.map(|bound| bound.id.clone());
            (account, Account { email: settings.email.clone(), external, credentials })
        }
    };
    plan.store.keep_account(&keep).map_err(|error| unkept("the account can't be kept", error))?;
    Ok(account)
}

/// To the external account of the configuration? Without one there, whatever it was bound to: a key that may be used
/// once only need not stay in the configuration.
fn is_bound<C>(account: &Account<C>, external: Option<&ExternalAccount>) -> bool {
    external.is_none_or(|external| account.external.as_ref() == Some(&external.id))
}

/// Lays out the answer of each challenge, and says so to the CA.
async fn prove(kind: Challenge, order: &mut Order, answers: &mut Answers<'_>) -> Result<(), Error> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        // What was proved lately counts again.
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let (wanted, name) = (challenge_type(kind), authorization.identifier().to_string());
        let offered: Vec<_> = authorization.challenges.iter().map(|c| format!("{:?}", c.r#type)).collect();
        let mut challenge = authorization.challenge(wanted).ok_or_else(|| {
            other(format!("{name}: the CA offers {} only; set acme.challenge", offered.join(", ")))
        })?;
        answers.add(kind, &name, &challenge).map_err(other)?;
        challenge.set_ready().await?;
    }
    Ok(())
}

fn challenge_type(kind: Challenge) -> ChallengeType {
    match kind {
        Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
        Challenge::Http01 => ChallengeType::Http01,
    }
}

/// What the CA found wrong, of each name.
async fn refused_challenges(kind: Challenge, order: &mut Order) -> Option<Error> {
    let port = match kind {
        Challenge::TlsAlpn01 => 443,
        Challenge::Http01 => 80,
    };
    let mut found = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let _ = authorization.refresh().await;
        let name = authorization.identifier().to_string();
        let problems = authorization.challenges.iter().filter_map(|challenge| challenge.error.as_ref());
        found.extend(problems.map(|problem| format!("{name}: {problem}")));
    }
    let way_out = format!("does the name lead to this server, and is its TCP port {port} open to the CA?");
    (!found.is_empty()).then(|| other(format!("{}; {way_out}", found.join("; "))))
}

/// The key of a new certificate in PEM, and the request for it (DER).
fn request(domains: &[String]) -> Result<(Zeroizing<String>, Vec<u8>), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut parameters = CertificateParams::new(domains)?;
    parameters.distinguished_name = DistinguishedName::new();
    let request = parameters.serialize_request(&key)?;
    Ok((Zeroizing::new(key.serialize_pem()), request.der().to_vec()))
}

/// The answers that are laid out; when it is dropped, none is.
struct Answers<'a> {
    plan: &'a Plan,
    tls: HashMap<String, Arc<CertifiedKey>>,
    http: HashMap<String, String>,
}

impl<'a> Answers<'a> {
    fn new(plan: &'a Plan) -> Self {
        Self { plan, tls: HashMap::new(), http: HashMap::new() }
    }

    fn add(&mut self, kind: Challenge, name: &str, challenge: &ChallengeHandle<'_>) -> Result<(), Why> {
        let proof = challenge.key_authorization();
        match kind {
            Challenge::TlsAlpn01 => {
                let shown =
                    tls::challenge(name, proof.digest().as_ref()).map_err(|error| error.to_string())?;
                self.tls.insert(name.to_ascii_lowercase(), shown);
                self.plan.shown.listeners.answer(self.tls.clone());
            }
            Challenge::Http01 => {
                self.http.insert(challenge.token.clone(), proof.as_str().to_owned());
                self.plan.challenges.answer(self.http.clone());
            }
        }
        Ok(())
    }
}

impl Drop for Answers<'_> {
    fn drop(&mut self) {
        self.plan.shown.listeners.answer(HashMap::new());
        self.plan.challenges.answer(HashMap::new());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use x509_parser::prelude::{FromDer, X509CertificationRequest};

    #[test]
    fn each_request_has_a_key_of_its_own_and_all_names() {
        let domains = ["turn.example.org", "other.example.org"].map(String::from);
        let [(one, csr), (two, _)] = [request(&domains).unwrap(), request(&domains).unwrap()];
        assert_ne!(*one, *two);
        let (_, parsed) = X509CertificationRequest::from_der(&csr).unwrap();
        let extensions = format!("{:?}", parsed.requested_extensions().unwrap().collect::<Vec<_>>());
        assert!(domains.iter().all(|name| extensions.contains(name.as_str())), "{extensions}");
    }

    #[test]
    fn an_account_is_good_for_the_external_account_it_is_bound_to() {
        let of = |id: &str| ExternalAccount { id: id.into(), key: b"key".to_vec().into() };
        let bound = Account { email: None, external: Some("kid-1".into()), credentials: () };
        assert!(is_bound(&bound, Some(&of("kid-1"))) && is_bound(&bound, None));
        assert!(!is_bound(&bound, Some(&of("kid-2"))));
        assert!(!is_bound(&Account { external: None, ..bound }, Some(&of("kid-1"))));
    }

    #[test]
    fn the_words_of_the_ca_get_a_way_out() {
        let problem = |kind: &str| {
            let text = format!(r#"{{"type": "urn:ietf:params:acme:error:{kind}", "detail": "no"}}"#);
            told(&Error::Api(serde_json::from_str(&text).unwrap()))
        };
        assert!(
            problem("externalAccountRequired")
                .ends_with("; set acme.external-account as the CA's account page says")
        );
        assert!(problem("invalidContact").ends_with("; correct acme.email"));
        assert_eq!(problem("serverInternal"), "API error: no (urn:ietf:params:acme:error:serverInternal)");
    }
}
