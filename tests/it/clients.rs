//! Stock clients against the embedded API server.

use anyhow::{Context as _, Result, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use libtest_mimic::Trial;
use serde_json::json;

use crate::bench::{block_on, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("kube-rs reads, writes and watches", kube_rs),
        trial("kube-rs streams initial lists", streaming_lists),
        trial("RBAC holds for a ServiceAccount's token", service_account),
    ]
}

async fn client(server: &apiserver::ApiServer, token: &str) -> Result<kube::Client> {
    let text = server.kubeconfig("test").replace(server.admin_token(), token);
    let config = kube::config::Kubeconfig::from_yaml(&text)?;
    let mut config = kube::Config::from_custom_kubeconfig(config, &kube::config::KubeConfigOptions::default()).await?;
    config.proxy_url = None;
    config.default_retry = false;
    Ok(kube::Client::try_from(config)?)
}

async fn server() -> Result<apiserver::ApiServer> {
    Ok(apiserver::ApiServer::builder().seed(1).start("127.0.0.1:0".parse()?).await?)
}

fn map(name: &str, value: &str) -> Result<ConfigMap> {
    Ok(serde_json::from_value(json!({"metadata": {"name": name, "labels": {"k": value}}, "data": {"x": value}}))?)
}

fn kube_rs() -> Result<()> {
    block_on(async {
        let server = server().await?;
        let client = client(&server, server.admin_token()).await?;
        let version = client.apiserver_version().await?;
        ensure!(version.git_version == "v1.36.2");
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
        let mut events = watcher(maps.clone(), watcher::Config::default().labels("k=1")).touched_objects().boxed();
        let created = maps.create(&PostParams::default(), &map("a", "1")?).await?;
        ensure!(created.metadata.uid.is_some());
        let seen = events.try_next().await?.context("the watch ended")?;
        ensure!(seen.metadata.name.as_deref() == Some("a"));
        let conflict = maps.create(&PostParams::default(), &map("a", "1")?).await;
        ensure!(matches!(conflict, Err(kube::Error::Api(status)) if status.code == 409));
        // The label changes: to this watcher the object is gone.
        maps.patch("a", &PatchParams::default(), &Patch::Merge(json!({"metadata": {"labels": {"k": "2"}}}))).await?;
        let seen = events.try_next().await?.context("the watch ended")?;
        ensure!(seen.metadata.name.as_deref() == Some("a"));
        ensure!(maps.list(&ListParams::default().labels("k=1")).await?.items.is_empty());
        maps.delete("a", &DeleteParams::default()).await?;
        ensure!(maps.get_opt("a").await?.is_none());
        let namespaces: Api<Namespace> = Api::all(client.clone());
        namespaces.create(&PostParams::default(), &serde_json::from_value(json!({"metadata": {"name": "gone"}}))?).await?;
        let inside: Api<ConfigMap> = Api::namespaced(client.clone(), "gone");
        inside.create(&PostParams::default(), &map("b", "1")?).await?;
        namespaces.delete("gone", &DeleteParams::default()).await?;
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
        while namespaces.get_opt("gone").await?.is_some() {
            ensure!(tokio::time::Instant::now() < deadline, "the namespace stays");
            tokio::task::yield_now().await;
        }
        ensure!(inside.get_opt("b").await?.is_none());
        Ok(())
    })
}

fn streaming_lists() -> Result<()> {
    block_on(async {
        let server = server().await?;
        let client = client(&server, server.admin_token()).await?;
        let maps: Api<ConfigMap> = Api::namespaced(client, "default");
        for name in ["a", "b", "c"] {
            maps.create(&PostParams::default(), &map(name, "1")?).await?;
        }
        let config = watcher::Config::default().labels("k").streaming_lists();
        let mut events = watcher(maps, config).boxed();
        let mut names = Vec::new();
        loop {
            match events.try_next().await?.context("the watch ended")? {
                watcher::Event::InitApply(map) => names.extend(map.metadata.name),
                watcher::Event::InitDone => break,
                _ => {}
            }
        }
        ensure!(names == ["a", "b", "c"], "{names:?}");
        Ok(())
    })
}

fn service_account() -> Result<()> {
    block_on(async {
        let server = server().await?;
        let inside = server.client();
        for manifest in [
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "reader", "namespace": "default"}}),
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
                "metadata": {"name": "reader", "namespace": "default"},
                "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]}),
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
                "metadata": {"name": "reader", "namespace": "default"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
                "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": "default"}]}),
        ] {
            inside.apply(&manifest)?;
        }
        let token = inside.token("default", "reader", None, 3600)?;
        let client = client(&server, &token).await?;
        let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
        pods.list(&ListParams::default()).await?;
        let elsewhere: Api<Pod> = Api::namespaced(client, "kube-system");
        let denied = elsewhere.list(&ListParams::default()).await;
        let expected = "pods is forbidden: User \"system:serviceaccount:default:reader\" cannot list resource \"pods\" in API group \
                        \"\" in the namespace \"kube-system\"";
        match denied {
            Err(kube::Error::Api(status)) => ensure!(status.code == 403 && status.message == expected, "{status:?}"),
            other => anyhow::bail!("not denied: {other:?}"),
        }
        Ok(())
    })
}
