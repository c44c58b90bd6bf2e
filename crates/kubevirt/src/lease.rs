//! Leader election with a Lease (15 s, 10 s, 2 s as in KubeVirt), or with an Endpoints object as releases before 2020 did.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::client::{Client, Failure};
use crate::component::World;

const RETRY: Duration = Duration::from_secs(2);
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
const DURATION_SECONDS: i64 = 15;

/// What is locked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lock {
    Lease,
    Endpoints,
}

pub(crate) struct Election {
    pub(crate) client: Arc<Client>,
    pub(crate) world: Arc<World>,
    pub(crate) lock: Lock,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) identity: String,
}

fn micro(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// The annotation that an Endpoints lock keeps its record in.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";

impl Election {
    fn collection(&self) -> String {
        match self.lock {
            Lock::Lease => format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases", self.namespace),
            Lock::Endpoints => format!("/api/v1/namespaces/{}/endpoints", self.namespace),
        }
    }

    fn path(&self) -> String {
        format!("{}/{}", self.collection(), self.name)
    }

    /// How long a request may take, if this client ends one.
    fn deadline(&self, left: Duration) -> Option<Duration> {
        self.client.election().deadlines.then_some(left)
    }

    /// Holder and last renewal of what was read.
    fn holder(&self, object: &Value) -> (String, Option<Timestamp>) {
        let record = match self.lock {
            Lock::Lease => object["spec"].clone(),
            Lock::Endpoints => object["metadata"]["annotations"][LEADER]
                .as_str()
                .and_then(|text| serde_json::from_str(text).ok())
                .unwrap_or_default(),
        };
        (
            record["holderIdentity"].as_str().unwrap_or_default().to_owned(),
            record["renewTime"].as_str().and_then(|text| text.parse().ok()),
        )
    }

    /// Writes us as the holder into an object, new or read.
    fn claim(&self, object: &mut Value, now: Timestamp) {
        let (holder, _) = self.holder(object);
        let taken = holder != self.identity;
        let record = match self.lock {
            Lock::Lease => &mut object["spec"],
            Lock::Endpoints => &mut Value::Null,
        };
        match self.lock {
            Lock::Lease => {
                let transitions = record["leaseTransitions"].as_i64().unwrap_or(-1) + i64::from(taken);
                record["holderIdentity"] = self.identity.as_str().into();
                record["leaseDurationSeconds"] = DURATION_SECONDS.into();
                record["renewTime"] = micro(now).into();
                record["leaseTransitions"] = transitions.max(0).into();
                if taken {
                    record["acquireTime"] = micro(now).into();
                }
            }
            Lock::Endpoints => {
                let time = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
                let record = json!({
                    "holderIdentity": self.identity, "leaseDurationSeconds": DURATION_SECONDS,
                    "acquireTime": time, "renewTime": time, "leaderTransitions": 0,
                });
                object["metadata"]["annotations"][LEADER] = record.to_string().into();
            }
        }
    }

    /// One try to become or to stay leader, with this time for each request if there is a limit; the object as the server has it then.
    async fn try_acquire(&self, deadline: Option<Duration>) -> Option<Value> {
        let path = self.path();
        let now = Timestamp::now();
        match self.client.request(Method::GET, &path, "", None, deadline).await {
            Ok((_, mut object)) => {
                let (holder, renewed) = self.holder(&object);
                let expired = renewed.is_none_or(|time| now.duration_since(time).as_secs() >= DURATION_SECONDS);
                if !holder.is_empty() && holder != self.identity && !expired {
                    return None;
                }
                self.claim(&mut object, now);
                let done = self.client.request(Method::PUT, &path, "application/json", Some(&object), deadline).await;
                done.ok().map(|(_, object)| object)
            }
            Err(Failure::Status(404, _)) => {
                let (api_version, kind) = match self.lock {
                    Lock::Lease => ("coordination.k8s.io/v1", "Lease"),
                    Lock::Endpoints => ("v1", "Endpoints"),
                };
                let mut object = json!({
                    "apiVersion": api_version, "kind": kind,
                    "metadata": {"name": self.name, "namespace": self.namespace},
                });
                self.claim(&mut object, now);
                let created =
                    self.client.request(Method::POST, &self.collection(), "application/json", Some(&object), deadline).await;
                created.ok().map(|(_, object)| object)
            }
            Err(_) => None,
        }
    }

    /// Waits until we lead.
    pub(crate) async fn acquire(&self) -> Value {
        loop {
            // Whoever tries first is served whole before the next one: which requests replicas make together then does not
            // depend on the moment, and a snapshot of them is the same every time.
            let acquired = {
                let turn = self.world.election.lock().await;
                // Whoever waits for a lease waits as long as it takes: only a renewal has a deadline (client-go `leaderelection.go`
                // `acquire`). Others do not wait with it.
                let mut attempt = pin!(self.try_acquire(None));
                match tokio::time::timeout(RETRY, &mut attempt).await {
                    Ok(acquired) => acquired,
                    Err(_) => {
                        drop(turn);
                        attempt.await
                    }
                }
            };
            if let Some(object) = acquired {
                return object;
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// One renewal; the object as the server has it then. A leader that knows its object writes at once; when that fails, it reads its
    /// lock and writes again in the same try (client-go `leaderelection.go` `tryAcquireOrRenew`).
    async fn renew(&self, known: &Value, since_success: Duration) -> Option<Value> {
        let left = self.deadline(RENEW_DEADLINE.saturating_sub(since_success));
        if !self.client.election().reads_first {
            let mut claimed = known.clone();
            self.claim(&mut claimed, Timestamp::now());
            if let Ok((_, renewed)) =
                self.client.request(Method::PUT, &self.path(), "application/json", Some(&claimed), left).await
            {
                return Some(renewed);
            }
        }
        self.try_acquire(left).await
    }

    /// Renews until that fails for longer than the deadline; then leadership is lost.
    pub(crate) async fn hold(&self, mut object: Value) {
        let mut last_success = tokio::time::Instant::now();
        loop {
            tokio::time::sleep(RETRY).await;
            if let Some(renewed) = self.renew(&object, last_success.elapsed()).await {
                object = renewed;
                last_success = tokio::time::Instant::now();
            }
            if last_success.elapsed() >= RENEW_DEADLINE {
                return;
            }
        }
    }
}
