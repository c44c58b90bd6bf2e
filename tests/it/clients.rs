//! Stock clients against the embedded API server.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{Api, AttachParams, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::bench::{block_on, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("kube-rs reads, writes and watches", kube_rs),
        trial("kube-rs streams initial lists", streaming_lists),
        trial("kube-rs execs and forwards ports", streams),
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

/// Pods without a node: a program echoes its input, a port greets whoever connects.
struct Echo(std::net::SocketAddr);

impl apiserver::PodBackend for Echo {
    fn logs<'a>(
        &'a self,
        _pod: &'a Value,
        container: &'a str,
        _query: &'a kubeapi::Query,
    ) -> BoxFuture<'a, Result<http::Response<wire::Body>, kubeapi::Status>> {
        Box::pin(async move { Ok(wire::text(http::StatusCode::OK, format!("log of {container}"))) })
    }

    fn dial<'a>(&'a self, _pod: &'a Value, port: u16) -> BoxFuture<'a, std::io::Result<TcpStream>> {
        Box::pin(async move {
            if port == 1 { Err(std::io::Error::other("nobody listens")) } else { TcpStream::connect(self.0).await }
        })
    }

    fn exec<'a>(
        &'a self,
        _pod: &'a Value,
        _container: &'a str,
        command: &'a [String],
    ) -> BoxFuture<'a, Result<apiserver::Execution, apiserver::ExecError>> {
        Box::pin(async move {
            let code = command.get(1).and_then(|code| code.parse().ok()).unwrap_or(0);
            if command[0] != "echo" {
                return Err(apiserver::ExecError::Start(format!("{}: not found", command[0])));
            }
            let (reader, writer) = tokio::io::simplex(64);
            Ok(apiserver::Execution {
                stdin: Box::pin(writer),
                stdout: Box::pin(reader),
                stderr: Box::pin(&b"a complaint"[..]),
                exit: Box::pin(std::future::ready(code)),
            })
        })
    }

    fn attach<'a>(
        &'a self,
        _pod: &'a Value,
        container: &'a str,
    ) -> BoxFuture<'a, Result<apiserver::Execution, apiserver::ExecError>> {
        Box::pin(async move { Err(apiserver::ExecError::NoContainer(container.to_owned())) })
    }
}

fn streams() -> Result<()> {
    block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let pods = Echo(listener.local_addr()?);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut name = [0; 5];
                let _ = stream.read_exact(&mut name).await;
                let _ = stream.write_all(&[b"hello ", &name[..]].concat()).await;
            }
        });
        let server = apiserver::ApiServer::builder().pods(Arc::new(pods)).start("127.0.0.1:0".parse()?).await?;
        let client = client(&server, server.admin_token()).await?;
        let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
        let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i:1"}]}});
        pods.create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
        ensure!(pods.logs("p", &kube::api::LogParams::default()).await? == "log of c");

        // What goes in comes out, the error output apart from it, and the exit code at the end.
        for (command, expected) in [(vec!["echo"], "Success"), (vec!["echo", "3"], "Failure"), (vec!["nothing"], "Failure")] {
            let found = command[0] == "echo";
            let mut running = pods.exec("p", command.clone(), &AttachParams::default().stdin(true)).await?;
            let (mut out, mut complaint) = (String::new(), String::new());
            let mut stdin = running.stdin().context("no stdin")?;
            stdin.write_all("x".repeat(1000).as_bytes()).await?;
            stdin.shutdown().await?;
            let status = running.take_status().context("no status")?;
            running.stdout().context("no stdout")?.read_to_string(&mut out).await?;
            running.stderr().context("no stderr")?.read_to_string(&mut complaint).await?;
            let status = status.await.context("the program's end was not told")?;
            ensure!(status.status.as_deref() == Some(expected), "{command:?}: {status:?}");
            ensure!(!found || (out.len(), complaint.as_str()) == (1000, "a complaint"), "{command:?}: {out} {complaint}");
        }

        let mut forwarder = pods.portforward("p", &[80, 1]).await?;
        let mut stream = forwarder.take_stream(80).context("no stream")?;
        stream.write_all(b"world").await?;
        let mut greeting = [0; 11];
        stream.read_exact(&mut greeting).await?;
        ensure!(&greeting == b"hello world");
        let error = forwarder.take_error(1).context("no errors")?.await.context("no error")?;
        ensure!(error.contains("error forwarding port 1 to pod p") && error.contains("nobody listens"), "{error}");

        let attached = pods.attach("p", &AttachParams::default()).await;
        ensure!(attached.is_err(), "a container that does not run cannot be attached to");
        let refused =
            client.request_text(http::Request::post("/api/v1/namespaces/default/pods/p/portforward").body(vec![])?).await;
        ensure!(refused.is_err_and(|error| error.to_string().contains("Upgrade request required")));
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
