//! The image of kube-state-metrics: the page about objects at `--port`, the page about itself at `--telemetry-port`.

use std::sync::{Arc, Mutex};

use apiserver::Client;
use cluster::{ContainerContext, Exit, Program};
use futures_util::future::BoxFuture;
use metrics::Kind;

use super::{flag, port, until_stopped};
use crate::allow_list::AllowList;
use crate::page::{head, sample};
use crate::serve::{page, serve};
use crate::state::StatePage;

/// kube-state-metrics. It looks at the objects in the API server's process: no request of its is in a ledger, and RBAC does not
/// concern it.
pub struct StateMetrics {
    client: Client,
}

impl StateMetrics {
    /// About the objects that this client sees.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    fn start(&self, context: &ContainerContext) -> Result<(), String> {
        let arguments = context.arguments();
        let allowed = flag(&arguments, "metric-labels-allowlist").unwrap_or_default();
        let allowed = AllowList::parse(allowed, &StatePage::resources()).map_err(|error| error.to_string())?;
        let state = Arc::new(Mutex::new(StatePage::new(&self.client, allowed)));
        let at = |name: &str, default: &str| {
            port(flag(&arguments, name).unwrap_or(default)).map(|port| (context.address, port).into())
        };
        let about = state.clone();
        serve(at("port", "8080")?, false, context.stop.clone(), move |request| {
            let state = about.clone();
            async move {
                match request.uri().path() {
                    "/metrics" => Some(page(state.lock().ok()?.text())),
                    "/healthz" | "/livez" | "/readyz" => Some(wire::text(http::StatusCode::OK, "OK".to_owned())),
                    _ => None,
                }
            }
        })?;
        serve(at("telemetry-port", "8081")?, false, context.stop.clone(), move |request| {
            let state = state.clone();
            async move {
                let known = request.uri().path() == "/metrics";
                if known { Some(page(own(state.lock().ok()?.counts()))) } else { None }
            }
        })?;
        context.logs.line("kube-state-metrics (simulated) has started");
        Ok(())
    }
}

/// The page about itself (`pkg/watch/watch.go`): of each resource its Go type, its objects, its lists.
fn own(counts: impl Iterator<Item = (&'static str, usize, u64)>) -> String {
    let mut rows: Vec<_> = counts.collect();
    rows.sort_unstable();
    let mut out = String::new();
    head(
        &mut out,
        "kube_state_metrics_build_info",
        Kind::Gauge,
        "What this is: part of a lab, shaped like the version it names.",
    );
    let build = [("branch", ""), ("goversion", ""), ("revision", "simulated"), ("version", "v2.19.1")];
    sample(&mut out, "kube_state_metrics_build_info", build.into_iter(), 1.0);
    let families: [(&str, Kind, &str); 3] = [
        ("kube_state_metrics_list_objects", Kind::Gauge, "How many objects of a resource there are."),
        ("kube_state_metrics_list_total", Kind::Counter, "How often a resource was listed."),
        ("kube_state_metrics_watch_total", Kind::Counter, "How often a resource's watch was begun."),
    ];
    for (name, kind, help) in families {
        head(&mut out, name, kind, help);
        for (resource, objects, lists) in &rows {
            if kind == Kind::Gauge {
                sample(&mut out, name, [("resource", *resource)].into_iter(), *objects as f64);
            } else {
                sample(&mut out, name, [("resource", *resource), ("result", "success")].into_iter(), *lists as f64);
            }
        }
    }
    out
}

impl Program for StateMetrics {
    fn run(self: Arc<Self>, context: ContainerContext) -> BoxFuture<'static, Exit> {
        Box::pin(async move {
            let started = self.start(&context);
            until_stopped(&context, started).await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_of_its_watches() {
        let text = own([("*v1.Pod", 3, 1), ("*v1.Node", 1, 2)].into_iter());
        for line in [
            r#"kube_state_metrics_list_objects{resource="*v1.Pod"} 3"#,
            r#"kube_state_metrics_list_total{resource="*v1.Node",result="success"} 2"#,
            r#"kube_state_metrics_watch_total{resource="*v1.Pod",result="success"} 1"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
