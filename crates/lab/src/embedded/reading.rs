//! Readings of a lab's counters and its ledger, to be held against each other.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result};
use apiserver::Gr;
use jiff::Timestamp;
use kubeapi::object;
use kubevirt::Release;
use scenario::reconcile::{Counter, Hookless, Reading, Reconciliation, explain};
use scenario::{PageAnswer, PodPage};
use serde_json::Value;
use wire::{Connection, Dial};

use super::Lab;

/// The largest page of metrics that is read.
const MAX_PAGE: usize = 64 * 1024 * 1024;

/// The clients of a release that are not counted: all of a component, or those for some resources.
pub fn hookless(release: &Release) -> Vec<Hookless> {
    let of = |(name, component): (&String, &kubevirt::ComponentSpec)| {
        let pod = format!("{name}-");
        let whole = (!component.counted).then(|| Hookless { pod: pod.clone(), resource: None });
        let named = component.uncounted.iter().map(|resource| Hookless { pod: pod.clone(), resource: Some(resource.clone()) });
        whole.into_iter().chain(named).collect::<Vec<_>>()
    };
    release.components.iter().flat_map(of).collect()
}

/// What a pod answers at /metrics: the status code, the media type, the text.
async fn answer(pod: &Value, port: u16, tls: bool) -> Result<(u16, String, String)> {
    let name = object::name(pod);
    let address: IpAddr = pod["status"]["podIP"]
        .as_str()
        .and_then(|text| text.parse().ok())
        .with_context(|| format!("{name} has no address yet"))?;
    let tls = tls.then(wire::pki::unverified_client_config);
    let dial = Dial { address: SocketAddr::new(address, port), source: None, tls, server_name: None };
    let connection = Connection::open(&dial).await?;
    let request = http::Request::get("/metrics").header("host", dial.address.to_string()).body(wire::empty())?;
    let response = connection.send(request).await?;
    let code = response.status().as_u16();
    let media = response.headers().get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = media.to_owned();
    let bytes = wire::collect(wire::incoming(response.into_body()), MAX_PAGE).await.map_err(|error| anyhow::anyhow!(error))?;
    Ok((code, media, String::from_utf8_lossy(&bytes).into_owned()))
}

/// A pod's page of metrics.
async fn page(pod: &Value, port: u16, tls: bool) -> Result<PodPage> {
    let name = object::name(pod).to_owned();
    let (_, _, text) = answer(pod, port, tls).await?;
    let page = metrics::parse(&text).map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
    Ok(PodPage { pod: name, page })
}

impl Lab {
    /// The pods of KubeVirt that have metrics.
    pub fn scraped(&self) -> Vec<Value> {
        let pods = self.client().list(Gr::core("pods"), &self.release().namespace);
        let labelled = |pod: &Value| object::label(pod, "prometheus.kubevirt.io").is_some();
        pods.into_iter().filter(|pod| !object::is_deleting(pod) && labelled(pod)).collect()
    }

    /// Reads the pages of all components. One that does not answer has none in it.
    pub async fn reading(&self) -> Reading {
        self.read(&self.scraped(), 8443, true).await
    }

    /// What the pods of KubeVirt with names that begin so answer at /metrics, each asked so often at once.
    pub async fn pages(&self, prefix: &str, at_once: usize) -> Vec<PageAnswer> {
        let pods = self.scraped().into_iter().filter(|pod| object::name(pod).starts_with(prefix));
        let asked: Vec<Value> = pods.flat_map(|pod| std::iter::repeat_n(pod, at_once)).collect();
        let answers = asked.iter().map(|pod| async move {
            let found = answer(pod, 8443, true).await;
            let (answer, content_type) = match found {
                Ok((code, media, text)) => (Ok((code, text)), media),
                Err(error) => (Err(format!("{error:#}")), String::new()),
            };
            PageAnswer { pod: object::name(pod).to_owned(), answer, content_type }
        });
        futures_util::future::join_all(answers).await
    }

    /// Reads Prometheus' own page.
    pub async fn discovery_reading(&self) -> Reading {
        let prometheus = self.client().get(Gr::core("pods"), "monitoring", "prometheus-k8s-0");
        self.read(&prometheus.into_iter().collect::<Vec<_>>(), 9090, false).await
    }

    async fn read(&self, pods: &[Value], port: u16, tls: bool) -> Reading {
        let ledger = self.proxy().ledger();
        let (began, before) = (Timestamp::now(), ledger.snapshot());
        let mut pages = Vec::new();
        for pod in pods {
            match page(pod, port, tls).await {
                Ok(page) => pages.push(page),
                Err(error) => tracing::warn!("{error:#}"),
            }
        }
        Reading { began, ledger: [before, ledger.snapshot()], ended: Timestamp::now(), pages }
    }

    /// Holds what the counters of all components rose by in this time against the ledger, and what Prometheus counted of its own
    /// discovery.
    pub async fn reconcile(&self, during: Duration) -> [Reconciliation; 2] {
        let before = [self.reading().await, self.discovery_reading().await];
        let names = |reading: &Reading| reading.pages.iter().map(|page| page.pod.clone()).collect::<Vec<_>>();
        let expected = before.each_ref().map(names);
        tokio::time::sleep(during).await;
        let after = [self.reading().await, self.discovery_reading().await];
        let entries = self.proxy().ledger().entries(0, usize::MAX);
        let metric = &self.release().client.requests;
        let counters = [Counter::of_component(metric), Counter::of_discovery()];
        let hookless = [hookless(self.release()), Vec::new()];
        [0, 1].map(|of| explain(counters[of], &expected[of], &hookless[of], (Some(&before[of]), &after[of]), &entries))
    }
}
