//! JSON Web Tokens (RFC 7519, RFC 7515) for the rooms, by the keys of the configuration.
//!
//! ```text
//! hello {"token": "eyJ..."} ─► header: alg, kid ─► the keys that fit both ─► signature ─► claims ─► signal
//! ```
//! The keys are those of the configuration, and those that jwks.rs has fetched.
//!
//! Which algorithm a key is for is said by the key, never by the token: a public key is no shared secret.
//! The time of the claims is looked at by the rooms, which have the clock.

use std::fmt;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode, decode_header};

use serde::Deserialize;

use super::jwks::JwksSource;
use crate::signal::{BadToken, Claims};

/// What a key is for. Others are not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// HMAC with SHA-256, by a shared secret.
    Hs256,
    /// RSA with SHA-256, by a public key in PEM.
    Rs256,
    /// ECDSA on P-256, by a public key in PEM.
    Es256,
    /// Ed25519, by a public key in PEM.
    EdDsa,
}

impl From<TokenKind> for Algorithm {
    fn from(kind: TokenKind) -> Self {
        match kind {
            TokenKind::Hs256 => Self::HS256,
            TokenKind::Rs256 => Self::RS256,
            TokenKind::Es256 => Self::ES256,
            TokenKind::EdDsa => Self::EdDSA,
        }
    }
}

/// The keys that tokens may be signed with, and what their claims must say.
#[derive(Clone, Default)]
pub struct Tokens {
    keys: Keys,
    source: Option<JwksSource>,
    audience: Option<String>,
    issuer: Option<String>,
}

/// Keys of one origin.
#[derive(Clone, Default)]
pub(super) struct Keys(Vec<Key>);

#[derive(Clone)]
struct Key {
    /// Tokens that name a key (`kid`) are looked at with that one only.
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({} keys, redacted)", self.keys.len())
    }
}

/// A key that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadKey(pub(super) String);

impl Keys {
    /// The keys of a JWKS (RFC 7517) that are of use: for signatures, and of an algorithm of [`TokenKind`].
    ///
    /// # Errors
    /// [`BadKey`] if it is no JWKS, or has no such key.
    pub(super) fn of_jwks(json: &[u8]) -> Result<Self, BadKey> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<serde_json::Value>,
        }
        let set: Set = serde_json::from_slice(json).map_err(|e| BadKey(format!("not a JWKS: {e}")))?;
        // One that is not understood is no reason to refuse the others (section 5).
        let keys = set.keys.into_iter().filter_map(|key| {
            let jwk: Jwk = serde_json::from_value(key).ok()?;
            let (algorithm, key) = (algorithm_of(&jwk)?, DecodingKey::from_jwk(&jwk).ok()?);
            Some(Key { id: jwk.common.key_id, algorithm, key })
        });
        let keys: Vec<_> = keys.collect();
        match keys.is_empty() {
            true => Err(BadKey("there is no key for HS256, RS256, ES256 or EdDSA in it".into())),
            false => Ok(Self(keys)),
        }
    }

    /// Without shared secrets: whoever can read them could sign with them.
    pub(super) fn public(mut self) -> Result<Self, BadKey> {
        self.0.retain(|key| key.algorithm != Algorithm::HS256);
        match self.0.is_empty() {
            true => Err(BadKey("there is no public key for RS256, ES256 or EdDSA in it".into())),
            false => Ok(self),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Those that a token with this header can have been signed with.
    fn fitting(&self, header: &Header) -> impl Iterator<Item = &Key> {
        self.0.iter().filter(|key| {
            key.algorithm == header.alg && (key.id.is_none() || header.kid.is_none() || key.id == header.kid)
        })
    }

    /// Is the key there that this header names? One without an id may be any.
    pub(super) fn has_named(&self, header: &Header) -> bool {
        header.kid.is_some() && self.fitting(header).any(|key| key.id == header.kid)
    }
}

impl Tokens {
    /// Tokens must have this `aud`, and this `iss`, if they are given.
    #[must_use]
    pub fn new(audience: Option<String>, issuer: Option<String>) -> Self {
        Self { audience, issuer, ..Self::default() }
    }

    /// Adds a key: the shared secret, or a public key in PEM.
    ///
    /// # Errors
    /// [`BadKey`].
    pub fn add(&mut self, id: Option<String>, kind: TokenKind, key: &[u8]) -> Result<(), BadKey> {
        let decoded = match kind {
            TokenKind::Hs256 => Ok(DecodingKey::from_secret(key)),
            TokenKind::Rs256 => DecodingKey::from_rsa_pem(key),
            TokenKind::Es256 => DecodingKey::from_ec_pem(key),
            TokenKind::EdDsa => DecodingKey::from_ed_pem(key),
        };
        let key = decoded.map_err(|e| BadKey(format!("not a public key for {kind:?} in PEM: {e}")))?;
        self.keys.0.push(Key { id, algorithm: kind.into(), key });
        Ok(())
    }

    /// Adds the keys of a JWKS (RFC 7517) that are of use; how many these are.
    ///
    /// # Errors
    /// [`BadKey`] if it is no JWKS, or has no such key.
    pub fn add_jwks(&mut self, json: &[u8]) -> Result<usize, BadKey> {
        let keys = Keys::of_jwks(json)?;
        self.keys.0.extend(keys.0.iter().cloned());
        Ok(keys.len())
    }

    /// More keys are published there: the server fetches them while it runs.
    pub fn fetch_from(&mut self, source: JwksSource) {
        self.source = Some(source);
    }

    /// Where more keys are published.
    pub(super) fn source(&self) -> Option<&JwksSource> {
        self.source.as_ref()
    }

    /// The keys of the configuration.
    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// What a token says, if one of these keys, or of those that were fetched, has signed it.
    pub(super) fn verify(&self, token: &str, fetched: &Keys) -> Result<Claims, BadToken> {
        let invalid = |why: String| BadToken::Invalid(why);
        if self.keys.0.is_empty() && self.source.is_none() {
            return Err(invalid("This server takes no tokens but its own invites".into()));
        }
        let header = decode_header(token).map_err(|e| invalid(format!("The token is no JWT: {e}")))?;
        let mut why = format!("This server has no key for the token ({:?})", header.alg);
        for key in self.keys.fitting(&header).chain(fetched.fitting(&header)) {
            match decode::<Claims>(token, &key.key, &self.validation(key.algorithm)) {
                Ok(data) => return Ok(data.claims),
                Err(error) => why = format!("The token is not valid: {error}"),
            }
        }
        Err(invalid(why))
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        // The rooms look at the time: they have the clock, and a token ends for them without grace.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.set_required_spec_claims(&["exp"]);
        match &self.audience {
            Some(audience) => {
                validation.set_audience(&[audience]);
                validation.set_required_spec_claims(&["exp", "aud"]);
            }
            None => validation.validate_aud = false,
        }
        if let Some(issuer) = &self.issuer {
            validation.set_issuer(&[issuer]);
            let _ = validation.required_spec_claims.insert("iss".into());
        }
        validation
    }
}

/// What a key of a set is for; `None`: nothing here.
fn algorithm_of(jwk: &Jwk) -> Option<Algorithm> {
    let common = &jwk.common;
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Some(Algorithm::RS256),
        AlgorithmParameters::OctetKey(_) => Some(Algorithm::HS256),
        AlgorithmParameters::EllipticCurve(ec) => {
            (ec.curve == EllipticCurve::P256).then_some(Algorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(pair) => {
            (pair.curve == EllipticCurve::Ed25519).then_some(Algorithm::EdDSA)
        }
        _ => None,
    }?;
    let signs = common.public_key_use.as_ref().is_none_or(|used| *used == PublicKeyUse::Signature);
    let agrees = match common.key_algorithm {
        // `Ed25519` (RFC 9864) among them, which the crate does not know.
        None | Some(KeyAlgorithm::UNKNOWN_ALGORITHM) => true,
        Some(said) => Algorithm::try_from(said).is_ok_and(|said| said == algorithm),
    };
    (signs && agrees).then_some(algorithm)
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::json;

    use super::*;

    impl Tokens {
        /// By the keys of the configuration alone.
        fn check(&self, token: &str) -> Result<Claims, BadToken> {
            self.verify(token, &Keys::default())
        }
    }

    fn claims() -> serde_json::Value {
        json!({"exp": 2_000_000_000_u64, "room": "demo", "role": "moderator", "may-relay": true, "aud": "ternd", "iss": "app"})
    }

    fn signed(algorithm: Algorithm, kid: Option<&str>, key: &EncodingKey) -> String {
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
        encode(&header, &claims(), key).unwrap()
    }

    #[test]
    fn each_algorithm_by_its_own_key_and_no_other() {
        let secret = b"0123456789abcdef0123456789abcdef";
        let ec = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let ed = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let rsa =
            rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
        let kinds = [TokenKind::Hs256, TokenKind::Es256, TokenKind::EdDsa, TokenKind::Rs256];
        let public: [Vec<u8>; 4] = [
            secret.to_vec(),
            ec.public_key_pem().into_bytes(),
            ed.public_key_pem().into_bytes(),
            rsa.public_key_pem().into_bytes(),
        ];
        let private = [
            EncodingKey::from_secret(secret),
            EncodingKey::from_ec_pem(ec.serialize_pem().as_bytes()).unwrap(),
            EncodingKey::from_ed_pem(ed.serialize_pem().as_bytes()).unwrap(),
            EncodingKey::from_rsa_pem(rsa.serialize_pem().as_bytes()).unwrap(),
        ];
        for (n, kind) in kinds.into_iter().enumerate() {
            let mut tokens = Tokens::default();
            tokens.add(None, kind, &public[n]).unwrap();
            for (m, other) in kinds.into_iter().enumerate() {
                let token = signed(other.into(), None, &private[m]);
                assert_eq!(tokens.check(&token).is_ok(), n == m, "{kind:?} by {other:?}");
            }
            // The old trick: the public key as if it were a shared secret.
            let forged = signed(Algorithm::HS256, None, &EncodingKey::from_secret(&public[n]));
            assert_eq!(tokens.check(&forged).is_ok(), kind == TokenKind::Hs256);
        }
        assert!(Tokens::default().add(None, TokenKind::Es256, b"no key").is_err());
    }

    #[test]
    fn a_named_key_is_used_and_audience_and_issuer_must_fit() {
        let key = |n: u8| [n; 32];
        let mut tokens = Tokens::new(Some("ternd".into()), Some("app".into()));
        tokens.add(Some("a".into()), TokenKind::Hs256, &key(1)).unwrap();
        tokens.add(Some("b".into()), TokenKind::Hs256, &key(2)).unwrap();
        let by = |kid, n| signed(Algorithm::HS256, kid, &EncodingKey::from_secret(&key(n)));
        assert_eq!(tokens.check(&by(Some("b"), 2)).unwrap().may_relay, Some(true));
        assert!(tokens.check(&by(None, 2)).is_ok());
        assert!(tokens.check(&by(Some("a"), 2)).is_err());
        assert!(tokens.check(&by(Some("c"), 2)).is_err());
        assert!(tokens.check(&by(None, 3)).is_err());
        for (audience, issuer) in [("other", "app"), ("ternd", "other")] {
            let mut strict = Tokens::new(Some(audience.into()), Some(issuer.into()));
            strict.add(None, TokenKind::Hs256, &key(1)).unwrap();
            assert!(strict.check(&by(None, 1)).is_err());
        }
        for bad in ["", "a.b.c", "eyJhbGciOiJub25lIn0.e30."] {
            assert!(matches!(tokens.check(bad), Err(BadToken::Invalid(_))), "{bad}");
        }
        assert!(Tokens::default().check(&by(None, 1)).is_err());
    }

    /// The symmetric key of RFC 7517 appendix A.3, and an elliptic one of another curve, which is of no use.
    #[test]
    fn keys_of_a_jwks() {
        let jwks = r#"{"keys":[{"kty":"oct","alg":"HS256","kid":"one","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}]}"#;
        let mut tokens = Tokens::default();
        assert_eq!(tokens.add_jwks(jwks.as_bytes()), Ok(1));
        let secret = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
        let key = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, secret).unwrap();
        let token = signed(Algorithm::HS256, Some("one"), &EncodingKey::from_secret(&key));
        assert!(tokens.check(&token).is_ok());
        assert!(Keys::of_jwks(jwks.as_bytes()).unwrap().public().is_err(), "whoever reads it could sign");
        assert!(tokens.add_jwks(br#"{"keys":[]}"#).is_err());
        assert!(tokens.add_jwks(b"[]").is_err());
    }
    /// The keys of RFC 7517 appendix A.1 and RFC 8037 appendix A.2, among others that are of no use here.
    #[test]
    fn of_a_set_only_what_signs_is_taken() {
        let ec = json!({"kty": "EC", "crv": "P-256", "kid": "1",
            "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"});
        let ed = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
        let with = |key: &serde_json::Value, name: &str, value: &str| {
            let mut key = key.clone();
            key[name] = value.into();
            key
        };
        let taken = |keys: &[serde_json::Value]| {
            Keys::of_jwks(json!({ "keys": keys }).to_string().as_bytes()).map_or(0, |keys| keys.len())
        };
        assert_eq!(taken(&[ec.clone(), ed.clone()]), 2);
        assert_eq!(
            taken(&[with(&ec, "use", "sig"), with(&ec, "alg", "ES256"), with(&ed, "alg", "Ed25519")]),
            3
        );
        assert_eq!(
            taken(&[with(&ec, "use", "enc"), with(&ec, "alg", "ES384"), with(&ed, "alg", "ES256")]),
            0
        );
        let strange = [json!({"kty": "QUANTUM"}), json!({"kty": "EC", "crv": "P-256"}), json!(7), ed];
        assert_eq!(taken(&strange), 1, "the others are left out");
    }
}
