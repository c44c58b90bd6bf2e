//! The fault proxy on a cluster: a Deployment between KubeVirt's components and the API server, and the way back.
//!
//! Nobody else goes through it. While it is there, a component's API server is the proxy's Service; its certificate is signed by the
//! cluster. Taking it off puts everything back as it was.

mod certificate;
mod objects;
mod point;

use std::net::IpAddr;
use std::time::Instant;

use base64::Engine as _;
use serde_json::{Value, json};

pub use objects::{CONTROL_PORT, LABELS as PROXY_LABELS, NAMESPACE as PROXY_NAMESPACE};
use objects::{CONTROL_SECRET, NAME, NAMESPACE};
use point::{KubeVirt, Who};

use crate::api::{Api, ApiError};
use crate::explain;
use crate::plan::{Plan, Stage, Wait};
use crate::run::{InstallError, Installer, PERIOD, Progress};

/// The image of the proxy.
#[derive(Clone, Copy, Debug)]
pub struct ProxyImage<'a> {
    /// Its name.
    pub name: &'a str,
    /// What tells builds of that name apart.
    pub build: &'a str,
}

const STAGE: &str = "fault proxy";

fn stage(name: &str, objects: Vec<Value>, waits: Vec<Wait>) -> Plan {
    Plan { stages: vec![Stage { name: name.to_owned(), objects, waits }], ..Plan::default() }
}

/// Whether a lab's proxy is on a cluster, and whose.
///
/// # Errors
/// When the server does not answer or refuses.
pub async fn proxy_of(api: &Api) -> Result<Option<String>, ApiError> {
    let found = api.get(&format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{NAME}")).await?;
    Ok(found.map(|found| found["metadata"]["labels"][crate::INSTALLED_BY].as_str().unwrap_or_default().to_owned()))
}

/// The token of the proxy's control port, if there is a proxy. Secret.
///
/// # Errors
/// When the server does not answer or refuses.
pub async fn proxy_token(api: &Api) -> Result<Option<String>, ApiError> {
    let secret = api.get(&format!("/api/v1/namespaces/{NAMESPACE}/secrets/{CONTROL_SECRET}")).await?;
    let text = secret.as_ref().and_then(|secret| secret["data"]["token"].as_str());
    let bytes = text.and_then(|text| base64::engine::general_purpose::STANDARD.decode(text).ok());
    Ok(bytes.and_then(|bytes| String::from_utf8(bytes).ok()))
}

impl Installer<'_> {
    /// Puts the proxy on the cluster and leads KubeVirt through it; `token` is that of its control port unless it has one.
    ///
    /// # Errors
    /// When an object is refused, the certificate is not signed, or a state is not reached; what was done until then stays.
    pub async fn install_proxy(&self, image: ProxyImage<'_>, token: &str) -> Result<(), InstallError> {
        let Some(kubevirt) = KubeVirt::of(self.api).await? else { return Err(InstallError::NoKubeVirt) };
        self.run(&stage("fault proxy: Service", objects::foundation(kubevirt.namespace()), Vec::new())).await?;
        let address = self.proxy_address().await?;
        let mut secrets = Vec::new();
        if proxy_token(self.api).await?.is_none() {
            secrets.push(objects::secret(CONTROL_SECRET, "Opaque", json!({"token": token}), json!({})));
        }
        secrets.extend(certificate::ensure(self, address).await?);
        if !secrets.is_empty() {
            self.run(&stage("fault proxy: certificate", secrets, Vec::new())).await?;
        }
        let waits = vec![Wait::Workloads { namespace: NAMESPACE.to_owned(), expected: vec![format!("deployments/{NAME}")] }];
        self.run(&stage(STAGE, vec![objects::deployment(image.name, image.build, kubevirt.namespace())], waits)).await?;
        self.lead(&kubevirt, Some(&address.to_string())).await
    }

    /// Leads KubeVirt back to the API server and takes the proxy off; whether there was one of this lab.
    ///
    /// # Errors
    /// When the server refuses, or KubeVirt is not led back in time. The proxy stays then, for components may still need it.
    pub async fn remove_proxy(&self) -> Result<bool, InstallError> {
        match proxy_of(self.api).await? {
            Some(lab) if lab == self.lab => {}
            Some(lab) => return Err(InstallError::OtherLab { what: format!("Deployment {NAMESPACE}/{NAME}"), lab }),
            // A namespace without the proxy is what an interruption left.
            None if self.api.get(&format!("/api/v1/namespaces/{NAMESPACE}")).await?.is_none() => return Ok(false),
            None => {}
        }
        if let Some(kubevirt) = KubeVirt::of(self.api).await? {
            self.lead(&kubevirt, None).await?;
            for object in objects::rights(kubevirt.namespace()) {
                self.api.delete(&self.api.path_of(&object).await?).await?;
            }
        }
        let path = format!("/api/v1/namespaces/{NAMESPACE}");
        self.api.delete(&path).await?;
        let mut deadline = wire::patience::Deadline::after(self.patience);
        while self.api.get(&path).await?.is_some() {
            if deadline.is_over() {
                return Err(self.late(&format!("namespace {NAMESPACE} is not gone"), Vec::new()));
            }
            (self.told)(Progress::Doing("fault proxy: waiting until it is gone"));
            tokio::time::sleep(PERIOD).await;
        }
        (self.told)(Progress::Done("fault proxy: gone"));
        Ok(true)
    }

    /// The address of the proxy's Service.
    async fn proxy_address(&self) -> Result<IpAddr, InstallError> {
        let service = self.api.get(&format!("/api/v1/namespaces/{NAMESPACE}/services/{NAME}")).await?.unwrap_or_default();
        let address = service["spec"]["clusterIP"].as_str().and_then(|text| text.parse().ok());
        address.ok_or_else(|| self.late(&format!("Service {NAMESPACE}/{NAME} has no address"), Vec::new()))
    }

    async fn lead(&self, kubevirt: &KubeVirt<'_>, address: Option<&str>) -> Result<(), InstallError> {
        let stage = if address.is_some() { "KubeVirt goes through the fault proxy" } else { "KubeVirt goes to the API server" };
        let started = Instant::now();
        (self.told)(Progress::Doing(stage));
        let refused = |source| InstallError::Refused { stage: STAGE.to_owned(), what: "KubeVirt".to_owned(), source };
        for who in [Who::Components, Who::Operator] {
            kubevirt.point(who, address).await.map_err(refused)?;
            loop {
                let missing = kubevirt.missing(who, address).await?;
                let Some(first) = missing.first() else { break };
                if started.elapsed() >= self.patience {
                    let why = explain::unready(self.api, &[NAMESPACE, crate::KUBEVIRT]).await;
                    return Err(self.late(&missing.join(", "), why));
                }
                (self.told)(Progress::Doing(&format!("{stage}: {first}")));
                tokio::time::sleep(PERIOD).await;
            }
        }
        (self.told)(Progress::Done(&format!("{stage} ({:.1} s)", started.elapsed().as_secs_f64())));
        Ok(())
    }

    fn late(&self, missing: &str, why: Vec<String>) -> InstallError {
        let missing = vec![missing.to_owned()];
        InstallError::Late { stage: STAGE.to_owned(), seconds: self.patience.as_secs(), missing, why }
    }
}
