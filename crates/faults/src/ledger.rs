//! The record of every decision: the last entries in full, and exact totals of all.
//!
//! Secrets never get in: a bearer token is known by its claims, or else by the first bytes of its SHA-256.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use jiff::Timestamp;
use kubeapi::RequestInfo;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// Entries that are kept in full.
const KEEP: usize = 65_536;

/// Who sent a request, as far as it tells itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
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

impl Client {
    /// Reads a client from an `Authorization` header.
    pub fn from_authorization(authorization: Option<&str>) -> Self {
        let anonymous = || Self { user: "system:anonymous".to_owned(), ..Self::default() };
        let Some(token) = authorization.and_then(|header| header.strip_prefix("Bearer ")) else { return anonymous() };
        let Some(claims) = kubeapi::claims(token) else {
            let hash: String = Sha256::digest(token).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
            return Self { user: format!("token:{hash}"), ..Self::default() };
        };
        let user = claims["sub"].as_str().unwrap_or("system:anonymous");
        let account = user.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
        let known = account.map(|(namespace, name)| Self::service_account(namespace, name)).unwrap_or_default();
        Self { pod: claims["kubernetes.io"]["pod"]["name"].as_str().map(str::to_owned), user: user.to_owned(), ..known }
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

    /// The name under which totals are kept: the pod, else the user.
    pub fn key(&self) -> &str {
        self.pod.as_deref().unwrap_or(&self.user)
    }
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Outcome {
    /// It was handed on and answered.
    Passed {
        /// The status code.
        status: u16,
    },
    /// The proxy answered.
    Answered {
        /// The status code.
        status: u16,
    },
    /// It was handed on and answered, and the client got the head of the answer but not its body as it was.
    Damaged {
        /// The status code.
        status: u16,
    },
    /// It was handed on and answered, and the client was told nothing of it.
    Lost {
        /// The status code that the API server answered.
        status: u16,
    },
    /// The client got no answer.
    Failed,
    /// The client gave up first.
    Cancelled,
}

impl Outcome {
    /// The `code` that client-go counts for it.
    pub fn code(&self) -> String {
        match self {
            // client-go counts when the head is there; what becomes of the body it does not count.
            Self::Passed { status } | Self::Answered { status } | Self::Damaged { status } => status.to_string(),
            Self::Lost { .. } | Self::Failed | Self::Cancelled => "<error>".to_owned(),
        }
    }
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Counts entries from 1.
    pub number: u64,
    /// When the request came, RFC 3339.
    pub time: String,
    /// The connection's number; 0 for a dial that was refused.
    pub connection: u64,
    /// Who asked.
    pub client: Client,
    /// HTTP method; `CONNECT` for a dial.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Kubernetes verb; `dial` for a connection.
    pub verb: String,
    /// `RESOURCE` or `RESOURCE/SUBRESOURCE`; empty where the path names none.
    pub resource: String,
    /// The deciding rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// `pass` or the effect.
    pub verdict: &'static str,
    /// What became of it; none while it is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// The `code` that client-go counts, once there is an outcome.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// What a total counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct LedgerKey {
    /// Pod or user.
    pub client: String,
    /// HTTP method.
    pub method: String,
    /// Kubernetes verb.
    pub verb: String,
    /// Plural resource name, without subresource.
    pub resource: String,
    /// The `code` that client-go counts.
    pub code: String,
}

/// A consistent reading of the ledger.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Snapshot {
    /// Number of the last entry.
    pub last: u64,
    /// Requests that have no outcome yet, by client.
    pub under_way: BTreeMap<String, u64>,
    /// Finished requests.
    pub totals: Vec<(LedgerKey, u64)>,
    /// Injected failures by rule.
    pub by_rule: BTreeMap<String, u64>,
}

#[derive(Default)]
struct State {
    entries: VecDeque<Entry>,
    last: u64,
    totals: BTreeMap<LedgerKey, u64>,
    under_way: BTreeMap<String, u64>,
    by_rule: BTreeMap<String, u64>,
}

/// All decisions of one proxy.
#[derive(Default)]
pub struct Ledger {
    state: Mutex<State>,
}

/// What is known when a request comes in.
pub(crate) struct Opening<'a> {
    pub(crate) now: Timestamp,
    pub(crate) connection: u64,
    pub(crate) client: &'a Client,
    pub(crate) method: &'a str,
    pub(crate) target: String,
    pub(crate) info: Option<&'a RequestInfo>,
    pub(crate) rule: Option<String>,
    pub(crate) verdict: &'static str,
}

impl Ledger {
    pub(crate) fn open(&self, opening: Opening<'_>) -> u64 {
        let mut state = self.state.lock().expect("no panic while held");
        state.last += 1;
        let number = state.last;
        *state.under_way.entry(opening.client.key().to_owned()).or_default() += 1;
        if let Some(rule) = &opening.rule {
            *state.by_rule.entry(rule.clone()).or_default() += 1;
        }
        let entry = Entry {
            number,
            time: opening.now.to_string(),
            connection: opening.connection,
            client: opening.client.clone(),
            method: opening.method.to_owned(),
            target: opening.target,
            verb: opening.info.map_or("dial", |info| info.verb.as_str()).to_owned(),
            resource: opening.info.map(|info| info.resource_path()).unwrap_or_default(),
            rule: opening.rule,
            verdict: opening.verdict,
            outcome: None,
            code: None,
        };
        if state.entries.len() == KEEP {
            state.entries.pop_front();
        }
        state.entries.push_back(entry);
        number
    }

    /// Notes what became of an entry, once.
    pub(crate) fn close(&self, number: u64, key: LedgerKey, outcome: Outcome) {
        let mut state = self.state.lock().expect("no panic while held");
        if let Some(left) = state.under_way.get_mut(&key.client) {
            *left -= 1;
            if *left == 0 {
                state.under_way.remove(&key.client);
            }
        }
        let code = key.code.clone();
        *state.totals.entry(key).or_default() += 1;
        let first = state.entries.front().map_or(0, |entry| entry.number);
        let index = number.checked_sub(first).and_then(|index| usize::try_from(index).ok());
        if let Some(entry) = index.and_then(|index| state.entries.get_mut(index)) {
            entry.outcome = Some(outcome);
            entry.code = Some(code);
        }
    }

    /// Totals and what is under way, of one moment.
    pub fn snapshot(&self) -> Snapshot {
        let state = self.state.lock().expect("no panic while held");
        Snapshot {
            last: state.last,
            under_way: state.under_way.clone(),
            totals: state.totals.iter().map(|(key, count)| (key.clone(), *count)).collect(),
            by_rule: state.by_rule.clone(),
        }
    }

    /// The entries after a number, oldest first, as far as they are kept; `limit` of them at most, the newest ones.
    pub fn entries(&self, after: u64, limit: usize) -> Vec<Entry> {
        let state = self.state.lock().expect("no panic while held");
        let matching = state.entries.iter().filter(|entry| entry.number > after).count();
        state.entries.iter().filter(|entry| entry.number > after).skip(matching.saturating_sub(limit)).cloned().collect()
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
}
