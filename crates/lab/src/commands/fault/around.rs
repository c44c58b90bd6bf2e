//! Faults without a proxy: rights that are gone, a client that is throttled, a node that hangs. What they change is noted before it is
//! changed, and `lab fault restore` puts it back, whatever became of the command.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use install::{Api, ApiError, FIELD_MANAGER};
use serde_json::{Value, json};

use crate::commands::Which;
use crate::commands::up::name_flag;
use crate::exit::{Exit, Failure};
use crate::provider::record::ClusterRecord;
use crate::provider::undo::Changes;
use crate::provider::{Kind, Provider};
use crate::reach;
use crate::state::LabDir;

/// How long it lasts.
#[derive(Args)]
struct Lasting {
    /// How long, such as 30s; until `lab fault restore` without it.
    #[arg(long = "for", value_name = "TIME")]
    time: Option<String>,
}

impl Lasting {
    fn time(&self) -> Result<Option<Duration>> {
        let Some(text) = &self.time else { return Ok(None) };
        let time = scenario::duration(text);
        let bad = || Failure::new(Exit::Usage, format!("--for {text}: use a time such as 30s"));
        Ok(Some(time.ok_or_else(bad)?))
    }
}

/// Waits for the time to pass, or Ctrl-C; whether it is over and things are to be put back.
async fn is_over(time: Option<Duration>, name: &str) -> bool {
    let Some(time) = time else {
        say!("put it back with: cargo xtask fault restore{}", name_flag(name));
        return false;
    };
    tokio::select! {
        () = tokio::time::sleep(time) => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    true
}

/// A lab's folder and API, whatever it runs on.
async fn reached(which: &Which) -> Result<(LabDir, Api)> {
    let dir = which.dir()?;
    crate::commands::reachable(&dir)?;
    let api = Api::new(reach::kube_client(&dir.kubeconfig(), None).await?);
    Ok((dir, api))
}

fn refused(what: &str, error: &ApiError) -> anyhow::Error {
    Failure::new(Exit::LabFailed, format!("{what}: {error}")).into()
}

#[derive(Args)]
pub(crate) struct Rights {
    #[command(flatten)]
    which: Which,
    /// clusterrole/NAME, clusterrolebinding/NAME, role/NAMESPACE/NAME or rolebinding/NAMESPACE/NAME.
    what: String,
    #[command(flatten)]
    lasting: Lasting,
}

impl Rights {
    /// The collection's path, and the name.
    fn path(&self) -> Result<(String, String)> {
        let base = "/apis/rbac.authorization.k8s.io/v1";
        let parts: Vec<&str> = self.what.split('/').collect();
        let is_name = |name: &str| !name.is_empty() && !name.contains(['?', '#', '%']);
        match parts[..] {
            [kind @ ("clusterrole" | "clusterrolebinding"), name] if is_name(name) => {
                Ok((format!("{base}/{kind}s"), name.to_owned()))
            }
            [kind @ ("role" | "rolebinding"), namespace, name] if is_name(namespace) && is_name(name) => {
                Ok((format!("{base}/namespaces/{namespace}/{kind}s"), name.to_owned()))
            }
            _ => bail!(
                Failure::new(Exit::Usage, format!("{:?} names no role or binding", self.what))
                    .hint("write clusterrolebinding/NAME or rolebinding/NAMESPACE/NAME, or the same with clusterrole and role")
            ),
        }
    }

    pub(super) async fn run(self) -> Result<Exit> {
        let ((collection, name), time) = (self.path()?, self.lasting.time()?);
        let (dir, api) = reached(&self.which).await?;
        let path = format!("{collection}/{name}");
        let found = api.get(&path).await.map_err(|error| refused(&self.what, &error))?;
        let Some(found) = found else {
            bail!(
                Failure::new(Exit::Usage, format!("there is no {}", self.what))
                    .hint("`kubectl get clusterrolebindings,rolebindings -A` lists them")
            );
        };
        let changes = Changes::separate(&dir.path())?;
        changes.deleting(&collection, &found).await?;
        api.delete(&path).await.map_err(|error| refused(&self.what, &error))?;
        say!("{} is gone", self.what);
        if is_over(time, dir.name()).await {
            changes.put_back(&api).await?;
            say!("{} is there again", self.what);
        }
        Ok(Exit::Success)
    }
}

#[derive(Args)]
pub(crate) struct Throttle {
    #[command(flatten)]
    which: Which,
    /// NAMESPACE/NAME of the ServiceAccount.
    account: String,
    #[command(flatten)]
    lasting: Lasting,
}

/// A priority level without a share of the server, and the FlowSchema that gives it all requests of an account. Each account has a level
/// of its own, so that the end of one throttle leaves others.
fn jail(namespace: &str, name: &str) -> [Value; 2] {
    let level_name = format!("kubevirt-lab-throttle-{namespace}-{name}");
    let version = "flowcontrol.apiserver.k8s.io/v1";
    let level = json!({
        "apiVersion": version, "kind": "PriorityLevelConfiguration", "metadata": {"name": level_name},
        "spec": {"type": "Limited", "limited": {
            "nominalConcurrencyShares": 0, "lendablePercent": 0, "borrowingLimitPercent": 0, "limitResponse": {"type": "Reject"},
        }},
    });
    let schema = json!({
        "apiVersion": version, "kind": "FlowSchema", "metadata": {"name": level_name},
        "spec": {
            "priorityLevelConfiguration": {"name": level_name},
            // Before all that Kubernetes brings, but for `exempt`, which has 1.
            "matchingPrecedence": 50,
            "rules": [{
                "subjects": [{"kind": "ServiceAccount", "serviceAccount": {"namespace": namespace, "name": name}}],
                "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"]}],
                "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
            }],
        },
    });
    [level, schema]
}

impl Throttle {
    pub(super) async fn run(self) -> Result<Exit> {
        let time = self.lasting.time()?;
        let Some((namespace, name)) =
            self.account.split_once('/').filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty())
        else {
            bail!(
                Failure::new(Exit::Usage, format!("{:?} names no ServiceAccount", self.account))
                    .hint("write NAMESPACE/NAME, such as kubevirt/kubevirt-handler")
            );
        };
        let (dir, api) = reached(&self.which).await?;
        let account = api.get(&format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}")).await;
        if account.map_err(|error| refused(&self.account, &error))?.is_none() {
            bail!(
                Failure::new(Exit::Usage, format!("there is no ServiceAccount {}", self.account))
                    .hint("`kubectl get serviceaccounts -A` lists them")
            );
        }
        let changes = Changes::separate(&dir.path())?;
        for object in jail(namespace, name) {
            let path = api.path_of(&object).await.map_err(|error| refused("API Priority and Fairness", &error))?;
            let before = api.get(&path).await.map_err(|error| refused(&path, &error))?;
            changes.applying(&path, before.as_ref()).await?;
            api.take(&object, FIELD_MANAGER).await.map_err(|error| refused(&path, &error))?;
        }
        say!(
            "API Priority and Fairness has no seat for requests of {}: those that come while one is under way are answered 429",
            self.account
        );
        say!("one at a time still passes, and watches that are open go on; to have each request answered 429:");
        say!("  cargo xtask fault add{} --service-account {name} --status 429", name_flag(dir.name()));
        if is_over(time, dir.name()).await {
            changes.put_back(&api).await?;
            say!("requests of {} pass again", self.account);
        }
        Ok(Exit::Success)
    }
}

/// What becomes of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Doing {
    /// Every process of it stops: API server, kubelet, and all pods.
    Pause,
    /// What comes for the API server is dropped, from pods and from this machine.
    Drop,
}

#[derive(Args)]
pub(crate) struct Node {
    #[command(flatten)]
    which: Which,
    /// What becomes of it.
    what: Doing,
    #[command(flatten)]
    lasting: Lasting,
}

/// kind, for a lab that runs on it.
async fn kind_of(dir: &LabDir) -> Result<Kind> {
    let record = match ClusterRecord::of(dir) {
        Some(record) if record.provider == Provider::Kind => record,
        found => {
            let on = found.map_or("embedded", |record| record.provider.name());
            bail!(
                Failure::new(Exit::Usage, format!("lab {:?} is on {on}: only a node of kind can be stopped", dir.name()))
                    .hint("a fault on the API that goes with it: cargo xtask fault add --hang, or --drop")
            );
        }
    };
    Kind::find(record.driver.as_deref(), true, &|_| {}).await
}

impl Node {
    pub(super) async fn run(self) -> Result<Exit> {
        let time = self.lasting.time()?;
        let dir = self.which.dir()?;
        let kind = kind_of(&dir).await?;
        match self.what {
            Doing::Pause => kind.pause(dir.name()).await?,
            Doing::Drop => kind.drop_packets(dir.name()).await?,
        }
        say!("{}", if self.what == Doing::Pause { "the node is paused" } else { "the node drops packets for the API server" });
        if is_over(time, dir.name()).await {
            kind.restore(dir.name()).await?;
            say!("the node is as before");
        }
        Ok(Exit::Success)
    }
}

#[derive(Args)]
pub(crate) struct Restore {
    #[command(flatten)]
    which: Which,
}

impl Restore {
    pub(super) async fn run(self) -> Result<Exit> {
        let (dir, api) = reached(&self.which).await?;
        let mut restored = false;
        if ClusterRecord::of(&dir).is_some_and(|record| record.provider == Provider::Kind) {
            restored = kind_of(&dir).await?.restore(dir.name()).await?;
        }
        // A node that was paused is up by now, so that the API can be asked.
        for changes in Changes::all(&dir.path()) {
            restored |= changes.put_back(&api).await? > 0;
        }
        say!("{}", if restored { "everything is as before" } else { "there was nothing to put back" });
        Ok(Exit::Success)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_and_bindings_are_named() {
        let rights = |what: &str| Rights {
            which: Which { name: "lab".to_owned() },
            what: what.to_owned(),
            lasting: Lasting { time: None },
        };
        let base = "/apis/rbac.authorization.k8s.io/v1";
        for (what, expected) in [
            ("clusterrolebinding/a", Some((format!("{base}/clusterrolebindings"), "a".to_owned()))),
            ("role/n/a", Some((format!("{base}/namespaces/n/roles"), "a".to_owned()))),
            ("role/a", None),
            ("clusterrole/n/a", None),
            ("secret/n/a", None),
            ("role//a", None),
            ("clusterrole/a?x=y", None),
            ("", None),
        ] {
            assert_eq!(rights(what).path().ok(), expected, "{what}");
        }
    }
}
