//! Who sends requests, as far as requests and connections tell it.
//!
//! Nothing is verified here: that is the API server's business. Secrets never get in: a bearer token is known by its claims, or
//! else by the first bytes of its SHA-256.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, header};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use wire::ConnectionInfo;

use crate::proxy::PodDirectory;

/// The longest name of a user or pod that is believed, in bytes.
const MAX_NAME: usize = 512;

/// Who sent a request, as far as it tells itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Client {
    /// User name, `system:anonymous`, or `token:HASH`.
    pub user: String,
    /// `NAMESPACE/NAME`, if the user is a ServiceAccount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    /// Groups, as far as a certificate or the name of a ServiceAccount tells them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// The pod, by the token's binding or by its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The `User-Agent` header.
    pub user_agent: String,
    /// Address and port of the connection.
    pub address: String,
}

/// What was found out about a connection by its first request; later ones mostly say the same.
struct Known {
    authorization: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    client: Arc<Client>,
}

impl Client {
    /// Reads a client from an `Authorization` header.
    pub fn from_authorization(authorization: Option<&str>) -> Self {
        let anonymous = || Self { user: "system:anonymous".to_owned(), ..Self::default() };
        let Some(token) = authorization.and_then(|header| header.strip_prefix("Bearer ")) else { return anonymous() };
        let Some(claims) = kubeapi::claims(token) else {
            let hash: String = Sha256::digest(token).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
            return Self { user: format!("token:{hash}"), ..Self::default() };
        };
        // Nobody has verified it: a name of any length would be kept.
        let Some(user) = claims["sub"].as_str().filter(|user| user.len() <= MAX_NAME) else { return anonymous() };
        let account = user.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
        let known = account.map(|(namespace, name)| Self::service_account(namespace, name)).unwrap_or_default();
        Self {
            pod: claims["kubernetes.io"]["pod"]["name"].as_str().filter(|name| name.len() <= MAX_NAME).map(str::to_owned),
            user: user.to_owned(),
            ..known
        }
    }

    /// A ServiceAccount, with the groups that every one is in.
    pub(crate) fn service_account(namespace: &str, name: &str) -> Self {
        Self {
            user: format!("system:serviceaccount:{namespace}:{name}"),
            service_account: Some(format!("{namespace}/{name}")),
            groups: vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")],
            ..Self::default()
        }
    }

    /// Who sent a request with these headers.
    pub(crate) fn of_request(headers: &HeaderMap, connection: &ConnectionInfo, pods: &dyn PodDirectory) -> Arc<Self> {
        let authorization = headers.get(header::AUTHORIZATION);
        let user_agent = headers.get(header::USER_AGENT);
        let noted = connection.notes().get().and_then(|notes| notes.downcast_ref::<Known>());
        if let Some(known) = noted
            && known.authorization.as_ref() == authorization
            && known.user_agent.as_ref() == user_agent
        {
            return known.client.clone();
        }
        let text = |value: Option<&HeaderValue>| value.and_then(|value| value.to_str().ok()).map(str::to_owned);
        let mut client = match &connection.client {
            // A certificate counts before a token, as it does at the API server.
            Some(subject) => Self { user: subject.common_name.clone(), groups: subject.organisations.clone(), ..Self::default() },
            None => Self::from_authorization(text(authorization).as_deref()),
        };
        client.user_agent = text(user_agent).unwrap_or_default();
        client.address = connection.peer.to_string();
        if client.pod.is_none()
            && let Some(pod) = pods.find(connection.peer.ip())
        {
            client.pod = Some(pod.name);
        }
        let client = Arc::new(client);
        let known = Known { authorization: authorization.cloned(), user_agent: user_agent.cloned(), client: client.clone() };
        // Another identity on the same connection is found out each time.
        let _ = connection.notes().set(Arc::new(known));
        client
    }

    /// The name under which totals are kept: the pod, else the user.
    pub fn key(&self) -> &str {
        self.pod.as_deref().unwrap_or(&self.user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_known_by_their_claims_or_by_a_hash_and_never_kept() {
        use base64::Engine as _;
        let claims = r#"{"sub":"system:serviceaccount:a:b","kubernetes.io":{"pod":{"name":"p"}}}"#;
        let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims);
        let client = Client::from_authorization(Some(&format!("Bearer x.{payload}.y")));
        assert_eq!((client.service_account.as_deref(), client.key()), (Some("a/b"), "p"));
        assert_eq!(client.groups, ["system:serviceaccounts", "system:serviceaccounts:a"]);
        let opaque = Client::from_authorization(Some("Bearer hunter2"));
        assert!(opaque.user.starts_with("token:") && !format!("{opaque:?}").contains("hunter2"));
        assert_eq!(Client::from_authorization(None).user, "system:anonymous");
    }

    #[test]
    fn what_a_connection_said_first_does_not_stick_to_another_identity() {
        let connection = ConnectionInfo::in_process();
        let of = |token: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
            Client::of_request(&headers, &connection, &())
        };
        let first = of("a");
        assert!(Arc::ptr_eq(&first, &of("a")));
        assert_ne!(first.user, of("b").user);
        assert_eq!(first.user, of("a").user);
    }
}
