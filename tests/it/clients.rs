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
        trial("a kube-rs controller settles", controller),
        trial("Prometheus discovers in every role", discovery),
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
        let mut deadline = wire::patience::Deadline::after(std::time::Duration::from_secs(20));
        while namespaces.get_opt("gone").await?.is_some() {
            ensure!(!deadline.is_over(), "the namespace stays");
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

/// A controller of kube-rs: it copies a value of each ConfigMap into an annotation, and comes to rest.
fn controller() -> Result<()> {
    use kube::runtime::controller::{Action, Controller};
    block_on(async {
        let server = server().await?;
        let client = client(&server, server.admin_token()).await?;
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
        for number in 0..20 {
            maps.create(&PostParams::default(), &map(&format!("m-{number}"), &number.to_string())?).await?;
        }
        let writer = maps.clone();
        let reconcile = move |object: Arc<ConfigMap>, _: Arc<()>| {
            let writer = writer.clone();
            async move {
                let name = object.metadata.name.clone().unwrap_or_default();
                let value = object.data.as_ref().and_then(|data| data.get("x")).cloned();
                let apply =
                    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "annotations": {"seen": value}}});
                writer.patch(&name, &PatchParams::apply("copier").force(), &Patch::Apply(apply)).await?;
                Ok::<Action, kube::Error>(Action::await_change())
            }
        };
        let running = Controller::new(maps.clone(), watcher::Config::default().streaming_lists()).run(
            reconcile,
            |_, _, _| Action::await_change(),
            Arc::new(()),
        );
        let running = tokio::spawn(running.for_each(|_| std::future::ready(())));
        let mut deadline = wire::patience::Deadline::after(std::time::Duration::from_secs(30));
        let seen = |object: &ConfigMap| {
            let annotations = object.metadata.annotations.as_ref();
            annotations.and_then(|annotations| annotations.get("seen")) == object.data.as_ref().and_then(|data| data.get("x"))
        };
        while !maps.list(&ListParams::default().labels("k")).await?.items.iter().all(seen) {
            ensure!(!deadline.is_over(), "the controller does not get on");
            tokio::task::yield_now().await;
        }
        // An apply that changes nothing is no write, so what the controller did does not wake it for ever. Rest is nothing but
        // the absence of writes over a while.
        let version = || async { Ok::<_, kube::Error>(maps.list(&ListParams::default()).await?.metadata.resource_version) };
        let mut last = version().await?;
        for _ in 0..200 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            let now = version().await?;
            if now == last {
                running.abort();
                return Ok(());
            }
            last = now;
        }
        anyhow::bail!("the controller never comes to rest")
    })
}

/// The real discovery of Prometheus, as `promtool check service-discovery` runs it, in each of its roles.
fn discovery() -> Result<()> {
    let prometheus = crate::bench::prometheus()?;
    block_on(async {
        let server = server().await?;
        let client = client(&server, server.admin_token()).await?;
        let create = async |path: &str, object: Value| {
            let request = http::Request::post(path).body(serde_json::to_vec(&object)?)?;
            client.request::<Value>(request).await.with_context(|| path.to_owned())
        };
        let namespaced = |group: &str, plural: &str| format!("{group}/namespaces/default/{plural}");
        create("/api/v1/nodes", json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": "n"}})).await?;
        let address = json!({"status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}}}});
        let status = |path: &str, patch: &Value| {
            let request = http::Request::patch(format!("{path}/status")).header("content-type", "application/merge-patch+json");
            Ok::<_, anyhow::Error>(client.request::<Value>(request.body(serde_json::to_vec(patch)?)?))
        };
        status("/api/v1/nodes/n", &address)?.await?;
        let port = json!([{"name": "http", "port": 80}]);
        let service = json!({"kind": "Service", "apiVersion": "v1", "metadata": {"name": "s"}, "spec": {"ports": port}});
        create(&namespaced("/api/v1", "services"), service).await?;
        let pod = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers":
            [{"name": "c", "image": "i", "ports": [{"name": "http", "containerPort": 80}]}]}});
        create(&namespaced("/api/v1", "pods"), pod).await?;
        let ip = json!({"status": {"phase": "Running", "podIP": "10.0.0.2"}});
        status(&format!("{}/p", namespaced("/api/v1", "pods")), &ip)?.await?;
        let target = json!({"kind": "Pod", "namespace": "default", "name": "p"});
        let endpoints = json!({"kind": "Endpoints", "apiVersion": "v1", "metadata": {"name": "s"}, "subsets":
            [{"addresses": [{"ip": "10.0.0.2", "targetRef": target}], "ports": port}]});
        create(&namespaced("/api/v1", "endpoints"), endpoints).await?;
        let slice = json!({"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "addressType": "IPv4", "ports": port,
            "metadata": {"name": "s-1", "labels": {"kubernetes.io/service-name": "s"}},
            "endpoints": [{"addresses": ["10.0.0.2"], "conditions": {"ready": true}, "targetRef": target}]});
        create(&namespaced("/apis/discovery.k8s.io/v1", "endpointslices"), slice).await?;
        let ingress = json!({"kind": "Ingress", "apiVersion": "networking.k8s.io/v1", "metadata": {"name": "i"}, "spec":
            {"rules": [{"host": "web.example", "http": {"paths": [{"path": "/", "pathType": "Prefix",
                "backend": {"service": {"name": "s", "port": {"number": 80}}}}]}}]}});
        create(&namespaced("/apis/networking.k8s.io/v1", "ingresses"), ingress).await?;

        let folder = tempfile::tempdir()?;
        let kubeconfig = folder.path().join("kubeconfig");
        std::fs::write(&kubeconfig, server.kubeconfig("test"))?;
        let file = folder.path().join("prometheus.yml");
        let roles = ["node", "service", "pod", "endpoints", "endpointslice", "ingress"];
        let jobs: Vec<Value> = roles
            .iter()
            .map(|role| json!({"job_name": role, "kubernetes_sd_configs": [{"role": role, "kubeconfig_file": kubeconfig}]}))
            .collect();
        std::fs::write(&file, json!({"scrape_configs": jobs}).to_string())?;
        let found = futures_util::future::join_all(roles.iter().map(|role| {
            let mut promtool = tokio::process::Command::new(&prometheus.promtool);
            promtool.args(["check", "service-discovery", "--timeout", "4s"]).arg(&file).arg(role);
            async move { anyhow::Ok((*role, promtool.output().await?)) }
        }));
        for found in found.await {
            let (role, output) = found?;
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            let targets: Value = serde_json::from_str(&said).with_context(|| format!("{role}: {said} {:?}", output.stderr))?;
            let addresses: Vec<&str> = targets
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|target| target["discoveredLabels"]["__address__"].as_str())
                .collect();
            let expected = match role {
                "node" => "10.0.0.1:10250",
                "service" => "s.default.svc:80",
                "ingress" => "web.example",
                _ => "10.0.0.2:80",
            };
            ensure!(addresses.contains(&expected), "{role}: {targets:#}");
        }
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
