//! The proxy's serving certificate, through the API for certificates: signed by the cluster's own authority, so that every pod believes
//! it by the `ca.crt` that it has.
//!
//! The signer is `kubernetes.io/kubelet-serving`, the only one of Kubernetes' own that signs serving certificates. It wants the
//! subject of a node; it does not ask who asks (`ValidateKubeletServingCSR`), but approving needs an administrator.

use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use wire::pki::NewRequest;

use super::objects::{NAME, NAMESPACE, SERVING_SECRET, secret};
use crate::api::Api;
use crate::run::{InstallError, Installer, Progress};

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const PERIOD: Duration = Duration::from_millis(250);
/// A certificate that is older is replaced when the proxy is installed again; clusters sign for a year.
const RENEWED_AFTER: SignedDuration = SignedDuration::from_hours(30 * 24);
/// The address that a certificate is for, and when it was made.
const OF: &str = "lab.local/address";
const AT: &str = "lab.local/issued";
const STAGE: &str = "fault proxy: certificate";

/// Whether the certificate in a Secret is for this address and not old.
fn is_good(secret: &Value, address: IpAddr, now: Timestamp) -> bool {
    let annotation = |name: &str| secret["metadata"]["annotations"][name].as_str().unwrap_or_default().to_owned();
    let issued = annotation(AT).parse::<Timestamp>();
    annotation(OF) == address.to_string() && issued.is_ok_and(|issued| now.duration_since(issued) < RENEWED_AFTER)
}

/// The Secret with a certificate for this address; `None` where a good one is there.
pub(super) async fn ensure(installer: &Installer<'_>, address: IpAddr) -> Result<Option<Value>, InstallError> {
    let api = installer.api;
    let path = format!("/api/v1/namespaces/{NAMESPACE}/secrets/{SERVING_SECRET}");
    if api.get(&path).await?.is_some_and(|found| is_good(&found, address, Timestamp::now())) {
        return Ok(None);
    }
    (installer.told)(Progress::Doing(&format!("{STAGE}: asking for it")));
    let names = [format!("{NAME}.{NAMESPACE}.svc"), format!("{NAME}.{NAMESPACE}")];
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let own = NewRequest::server(&format!("system:node:{NAME}"), "system:nodes", &names, &[address])
        .map_err(|error| InstallError::Certificate(error.to_string()))?;
    let certificate = signed(installer, &own).await;
    // Of a request that was answered or refused nothing is needed any more.
    let _ = api.delete(&format!("{REQUESTS}/{NAME}")).await;
    let data = json!({"tls.crt": certificate?, "tls.key": own.key_pem});
    let annotations = json!({OF: address.to_string(), AT: Timestamp::now().to_string()});
    Ok(Some(secret(SERVING_SECRET, "kubernetes.io/tls", data, annotations)))
}

async fn signed(installer: &Installer<'_>, own: &NewRequest) -> Result<String, InstallError> {
    let api = installer.api;
    let refused =
        |source| InstallError::Refused { stage: STAGE.to_owned(), what: format!("CertificateSigningRequest {NAME}"), source };
    // One that an interrupted installation left has another key.
    api.delete(&format!("{REQUESTS}/{NAME}")).await.map_err(refused)?;
    let base64 = base64::engine::general_purpose::STANDARD;
    let request = json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": {"name": NAME, "labels": {crate::INSTALLED_BY: installer.lab}},
        "spec": {
            "request": base64.encode(&own.request_pem),
            "signerName": "kubernetes.io/kubelet-serving",
            "usages": ["digital signature", "key encipherment", "server auth"],
        },
    });
    let mut made = api.create(REQUESTS, &request).await.map_err(refused)?;
    made["status"]["conditions"] = json!([{
        "type": "Approved", "status": "True", "reason": "LabFaultProxy",
        "message": format!("approved by lab {:?} for its fault proxy", installer.lab),
    }]);
    api.replace(&format!("{REQUESTS}/{NAME}/approval"), &made).await.map_err(refused)?;
    let mut deadline = wire::patience::Deadline::after(installer.patience);
    loop {
        let found = answered(api).await?;
        if let Some(certificate) = found["status"]["certificate"].as_str() {
            let bytes = base64.decode(certificate).unwrap_or_default();
            return String::from_utf8(bytes).map_err(|error| InstallError::Certificate(error.to_string()));
        }
        let refusal = found["status"]["conditions"].as_array().into_iter().flatten();
        if let Some(refusal) =
            refusal.into_iter().find(|condition| condition["type"] == "Failed" || condition["type"] == "Denied")
        {
            return Err(InstallError::Certificate(refusal["message"].as_str().unwrap_or("it does not say why").to_owned()));
        }
        if deadline.is_over() {
            let seconds = installer.patience.as_secs();
            return Err(InstallError::Certificate(format!("nobody has signed it after {seconds} s")));
        }
        tokio::time::sleep(PERIOD).await;
    }
}

async fn answered(api: &Api) -> Result<Value, InstallError> {
    let found = api.get(&format!("{REQUESTS}/{NAME}")).await?;
    found.ok_or_else(|| InstallError::Certificate("somebody has deleted the request".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_good_for_its_address_and_a_month() {
        let now: Timestamp = "2026-01-31T00:00:00Z".parse().unwrap();
        let secret = |of: &str, at: &str| json!({"metadata": {"annotations": {OF: of, AT: at}}});
        for (of, at, good) in [
            ("10.0.0.7", "2026-01-30T00:00:00Z", true),
            ("10.0.0.8", "2026-01-30T00:00:00Z", false),
            ("10.0.0.7", "2025-12-31T00:00:00Z", false),
            ("10.0.0.7", "", false),
        ] {
            assert_eq!(is_good(&secret(of, at), [10, 0, 0, 7].into(), now), good, "{of} {at}");
        }
        assert!(!is_good(&json!({}), [10, 0, 0, 7].into(), now));
    }
}
