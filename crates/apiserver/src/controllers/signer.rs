//! Signs approved CertificateSigningRequests, as kube-controller-manager does for the signers that it knows
//! (`pkg/controller/certificates/signer`): `kubernetes.io/kubelet-serving` and `kubernetes.io/kube-apiserver-client`.
//! Nothing is approved here; that is a person's or a program's decision.

use std::sync::Arc;

use base64::Engine as _;
use jiff::Timestamp;
use kubeapi::object;
use serde_json::{Value, json};
use wire::pki::{Asked, CertificateAuthority, Purpose};

use super::follow;
use crate::WatchEvent;
use crate::client::{Client, Gr};
use crate::core::timestamp;

const REQUESTS: Gr = Gr::of("certificates.k8s.io", "certificatesigningrequests");
/// How long a certificate is good for unless less is asked, in seconds (`--cluster-signing-duration`, one year).
const LONGEST: i64 = 365 * 24 * 3600;
/// The shortest that may be asked (`minimumExpirationSeconds`).
const SHORTEST: i64 = 600;
const SERVING: &str = "kubernetes.io/kubelet-serving";
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";

fn has_condition(request: &Value, kind: &str) -> bool {
    let conditions = request["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|condition| condition["type"] == kind)
}

/// Why a signer does not sign what is asked (`ValidateKubeletServingCSR`, `validAPIServerClientUsages`).
fn check(signer: &str, asked: &Asked, usages: &[&str]) -> Result<Purpose, &'static str> {
    let has = |usage: &str| usages.contains(&usage);
    let only = |allowed: &[&str]| usages.iter().all(|usage| allowed.contains(usage));
    if signer == SERVING {
        if asked.organisations() != ["system:nodes"] {
            return Err("subject organization is not system:nodes");
        }
        if asked.hosts() == 0 {
            return Err("DNS or IP subjectAltName is required");
        }
        if asked.has_other_names() {
            return Err("Email and URI subjectAltNames are not allowed");
        }
        if !(has("digital signature") && has("server auth") && only(&["digital signature", "key encipherment", "server auth"])) {
            return Err("usages did not match [digital signature key encipherment server auth]");
        }
        if !asked.common_name().starts_with("system:node:") {
            return Err("subject common name does not begin with system:node:");
        }
        return Ok(Purpose::Server);
    }
    if !(has("client auth") && only(&["digital signature", "key encipherment", "client auth"])) {
        return Err("usages did not match [client auth], with digital signature and key encipherment at most");
    }
    if asked.organisations().iter().any(|group| group == "system:masters") {
        return Err("use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed");
    }
    Ok(Purpose::Client)
}

/// What becomes of an approved request: its certificate, or why there is none.
fn decide(authority: &CertificateAuthority, request: &Value) -> Result<String, String> {
    let spec = &request["spec"];
    let pem = base64::engine::general_purpose::STANDARD.decode(spec["request"].as_str().unwrap_or_default());
    let pem = String::from_utf8(pem.map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
    let asked = Asked::read(&pem).map_err(|error| format!("unable to parse csr: {error}"))?;
    let usages: Vec<&str> = spec["usages"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let purpose = check(spec["signerName"].as_str().unwrap_or_default(), &asked, &usages)?;
    let seconds = spec["expirationSeconds"].as_i64().unwrap_or(LONGEST).clamp(SHORTEST, LONGEST);
    authority.answer(&asked, purpose, seconds).map_err(|error| error.to_string())
}

pub(super) async fn run(client: Client, authority: Arc<CertificateAuthority>) {
    follow(&client, REQUESTS, |event| {
        let (WatchEvent::Added(stored) | WatchEvent::Modified(stored)) = event else { return };
        let request = stored.value();
        let signer = request["spec"]["signerName"].as_str().unwrap_or_default();
        let decided = request["status"]["certificate"].is_string() || has_condition(&request, "Failed");
        if decided || ![SERVING, CLIENT].contains(&signer) || !has_condition(&request, "Approved") {
            return;
        }
        let mut answered = request.clone();
        match decide(&authority, &request) {
            Ok(pem) => {
                answered["status"]["certificate"] = base64::engine::general_purpose::STANDARD.encode(pem).into();
            }
            Err(why) => {
                let now = timestamp(Timestamp::now());
                let failed = json!({"type": "Failed", "status": "True", "reason": "SignerValidationFailure",
                    "message": why, "lastTransitionTime": now, "lastUpdateTime": now});
                if let Some(conditions) = answered["status"]["conditions"].as_array_mut() {
                    conditions.push(failed);
                }
            }
        }
        if let Err(status) = client.update_status(REQUESTS, &answered) {
            tracing::debug!(%status, name = object::name(&request), "a signing request could not be answered");
        }
    })
    .await;
}
