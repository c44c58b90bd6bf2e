//! Who sends a request: bearer tokens (static ones and signed ServiceAccount tokens), or nobody.
//!
//! ServiceAccount tokens are JSON web tokens signed with HMAC-SHA256 by a key that lives as long as the server. Clients
//! treat a token as opaque; the claims are those of a bound token, so that a proxy can tell whose it is.

use std::collections::HashMap;
use std::sync::RwLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use kubeapi::{Identity, Status};
use ring::hmac;
use serde_json::{Value, json};

/// The issuer in tokens, as kubeadm sets it.
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

pub(crate) struct Tokens {
    fixed: RwLock<HashMap<String, Identity>>,
    key: hmac::Key,
}

/// A token to be made.
pub(crate) struct Claims<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) account: &'a str,
    pub(crate) account_uid: &'a str,
    pub(crate) pod: Option<(&'a str, &'a str)>,
    pub(crate) audiences: Vec<String>,
    pub(crate) expires: Timestamp,
}

impl Tokens {
    pub(crate) fn new(key: &[u8]) -> Self {
        Self { fixed: RwLock::default(), key: hmac::Key::new(hmac::HMAC_SHA256, key) }
    }

    pub(crate) fn add(&self, token: String, identity: Identity) {
        self.fixed.write().expect("no panic while held").insert(token, identity);
    }

    pub(crate) fn sign(&self, now: Timestamp, claims: &Claims<'_>) -> String {
        let mut kubernetes = json!({
            "namespace": claims.namespace,
            "serviceaccount": {"name": claims.account, "uid": claims.account_uid},
        });
        if let Some((name, uid)) = claims.pod {
            kubernetes["pod"] = json!({"name": name, "uid": uid});
        }
        let payload = json!({
            "aud": claims.audiences,
            "exp": claims.expires.as_second(),
            "iat": now.as_second(),
            "nbf": now.as_second(),
            "iss": ISSUER,
            "kubernetes.io": kubernetes,
            "sub": format!("system:serviceaccount:{}:{}", claims.namespace, claims.account),
        });
        let head = URL_SAFE_NO_PAD.encode(br#"{"alg":"HS256","typ":"JWT"}"#);
        let body = URL_SAFE_NO_PAD.encode(payload.to_string());
        let signature = hmac::sign(&self.key, format!("{head}.{body}").as_bytes());
        format!("{head}.{body}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// The user of a token, if it is good now for `audience` (the API server's own unless given).
    pub(crate) fn verify(&self, now: Timestamp, token: &str, audience: Option<&str>) -> Option<Identity> {
        if let Some(identity) = self.fixed.read().expect("no panic while held").get(token) {
            return Some(identity.clone());
        }
        let (signed, signature) = token.rsplit_once('.')?;
        hmac::verify(&self.key, signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).ok()?).ok()?;
        let claims = kubeapi::claims(token)?;
        if claims["exp"].as_i64()? <= now.as_second() {
            return None;
        }
        let audience = audience.unwrap_or(ISSUER);
        if !claims["aud"].as_array()?.iter().any(|of| of == audience) {
            return None;
        }
        let bound = &claims["kubernetes.io"];
        let mut identity = Identity::service_account(bound["namespace"].as_str()?, bound["serviceaccount"]["name"].as_str()?);
        bound["serviceaccount"]["uid"].as_str()?.clone_into(&mut identity.uid);
        if let (Some(name), Some(uid)) = (bound["pod"]["name"].as_str(), bound["pod"]["uid"].as_str()) {
            identity.extra = vec![
                ("authentication.kubernetes.io/pod-name".to_owned(), vec![name.to_owned()]),
                ("authentication.kubernetes.io/pod-uid".to_owned(), vec![uid.to_owned()]),
            ];
        }
        Some(identity)
    }

    /// The user of a request with this `Authorization` header.
    pub(crate) fn authenticate(&self, now: Timestamp, authorization: Option<&str>) -> Result<Identity, Status> {
        let Some(header) = authorization else { return Ok(Identity::anonymous()) };
        let unauthorized = || Status::new(401, "Unauthorized");
        let (scheme, token) = header.split_once(' ').ok_or_else(unauthorized)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(unauthorized());
        }
        self.verify(now, token.trim(), None).ok_or_else(unauthorized)
    }
}

/// The audience that the API server itself has.
pub(crate) fn default_audiences() -> Vec<String> {
    vec![ISSUER.to_owned()]
}

/// The `status` of a TokenReview for an identity.
pub(crate) fn user_info(identity: &Identity) -> Value {
    let mut user = json!({"username": identity.name, "groups": identity.groups});
    if !identity.uid.is_empty() {
        user["uid"] = identity.uid.as_str().into();
    }
    if !identity.extra.is_empty() {
        user["extra"] = identity.extra.iter().map(|(key, values)| (key.clone(), json!(values))).collect();
    }
    user
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_until_it_expires_and_only_unchanged() {
        let tokens = Tokens::new(b"key");
        let now = Timestamp::from_second(1_000).unwrap();
        let claims = Claims {
            namespace: "kubevirt",
            account: "kubevirt-handler",
            account_uid: "u",
            pod: Some(("p", "v")),
            audiences: default_audiences(),
            expires: Timestamp::from_second(2_000).unwrap(),
        };
        let token = tokens.sign(now, &claims);
        let identity = tokens.verify(now, &token, None).unwrap();
        assert_eq!(identity.as_service_account(), Some(("kubevirt", "kubevirt-handler")));
        assert!(tokens.verify(Timestamp::from_second(2_000).unwrap(), &token, None).is_none());
        assert!(tokens.verify(now, &token, Some("else")).is_none());
        let (signed, _) = token.rsplit_once('.').unwrap();
        assert!(tokens.verify(now, &format!("{signed}.AAAA"), None).is_none());
        assert!(Tokens::new(b"other").verify(now, &token, None).is_none());
    }

    #[test]
    fn no_header_is_anonymous_and_a_bad_one_is_nobody() {
        let tokens = Tokens::new(b"key");
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(tokens.authenticate(now, None).unwrap(), Identity::anonymous());
        for header in ["Bearer nonsense", "Basic eDp5", "Bearer"] {
            assert_eq!(tokens.authenticate(now, Some(header)).unwrap_err().code, 401, "{header}");
        }
    }
}
