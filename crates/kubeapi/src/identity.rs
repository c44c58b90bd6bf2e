//! Who sends a request, as far as the request itself tells.

use base64::Engine as _;
use serde_json::Value;

/// A user as authentication sees him.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Identity {
    /// The user name; a ServiceAccount is `system:serviceaccount:NAMESPACE:NAME`.
    pub name: String,
    /// The groups, `system:authenticated` among them.
    pub groups: Vec<String>,
    /// The stable id, if the authenticator knows one.
    pub uid: String,
    /// Further attributes, such as the pod that a token is bound to.
    pub extra: Vec<(String, Vec<String>)>,
}

impl Identity {
    /// Nobody in particular.
    pub fn anonymous() -> Self {
        Self { name: "system:anonymous".to_owned(), groups: vec!["system:unauthenticated".to_owned()], ..Self::default() }
    }

    /// A user of `system:masters`, who may do everything.
    pub fn admin(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            groups: vec!["system:masters".to_owned(), "system:authenticated".to_owned()],
            ..Self::default()
        }
    }

    /// A ServiceAccount with the groups that every ServiceAccount has.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        Self {
            name: format!("system:serviceaccount:{namespace}:{name}"),
            groups: vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".to_owned(),
            ],
            ..Self::default()
        }
    }

    /// Namespace and name, if it is a ServiceAccount.
    pub fn as_service_account(&self) -> Option<(&str, &str)> {
        self.name.strip_prefix("system:serviceaccount:")?.split_once(':')
    }

    /// Whether the user is in a group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|member| member == group)
    }
}

/// The claims of a JSON web token, **not verified**: enough to tell clients apart, never to let one in.
pub fn claims(token: &str) -> Option<Value> {
    let payload = token.split('.').nth(1)?;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&bytes).ok()
}
