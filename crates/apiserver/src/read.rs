//! Reading: get, list, selectors, pages.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kubeapi::{FieldSelector, LabelSelector, Query, Status};

use crate::core::{Core, List};
use crate::resource::Resource;
use crate::store::{Key, Stored};

/// Which objects of a resource are wanted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) labels: LabelSelector,
    pub(crate) fields: FieldSelector,
    name: Option<String>,
}

impl Filter {
    pub(crate) fn from_query(resource: &Resource, query: &Query) -> Result<Self, Status> {
        let bad = |error: kubeapi::SelectorError| Status::bad_request(error.to_string());
        let labels = LabelSelector::parse(query.get("labelSelector").unwrap_or_default()).map_err(bad)?;
        let fields = FieldSelector::parse(query.get("fieldSelector").unwrap_or_default()).map_err(bad)?;
        for field in fields.fields() {
            if !supports_field(resource, field) {
                return Err(Status::bad_request(if has_own_fields(resource) {
                    format!("field label not supported: {field}")
                } else {
                    format!("\"{field}\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
                }));
            }
        }
        Ok(Self { labels, fields, name: None })
    }

    /// Wants no object but the one of this name, whatever the selectors say.
    pub(crate) fn only(&mut self, name: &str) {
        self.name = Some(name.to_owned());
    }

    pub(crate) fn matches(&self, stored: &Stored) -> bool {
        if self.name.as_ref().is_some_and(|name| **name != *stored.name) {
            return false;
        }
        self.labels.matches_with(|key| stored.label(key)) && (self.fields.is_empty() || self.matches_fields(stored))
    }

    fn matches_fields(&self, stored: &Stored) -> bool {
        if let Some(name) = self.fields.required("metadata.name")
            && *stored.name != *name
        {
            return false;
        }
        self.fields.matches(&stored.value())
    }
}

/// Whether a kind has a conversion of field labels of its own, which words its refusals otherwise.
fn has_own_fields(resource: &Resource) -> bool {
    resource.custom.is_some()
        || matches!(
            resource.plural.as_str(),
            "pods"
                | "events"
                | "secrets"
                | "namespaces"
                | "nodes"
                | "services"
                | "replicationcontrollers"
                | "replicasets"
                | "jobs"
                | "certificatesigningrequests"
                | "customresourcedefinitions"
        )
}

/// The field labels of each kind (`pkg/apis/*/v1/conversion.go`, and `selectableFields` of definitions).
fn supports_field(resource: &Resource, field: &str) -> bool {
    if matches!(field, "metadata.name" | "metadata.namespace") {
        return true;
    }
    if let Some(version) = &resource.custom {
        let wanted = format!(".{field}");
        return version["selectableFields"]
            .as_array()
            .is_some_and(|fields| fields.iter().any(|entry| entry["jsonPath"] == wanted));
    }
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => matches!(
            field,
            "spec.nodeName"
                | "spec.restartPolicy"
                | "spec.schedulerName"
                | "spec.serviceAccountName"
                | "spec.hostNetwork"
                | "status.phase"
                | "status.podIP"
                | "status.podIPs"
                | "status.nominatedNodeName"
        ),
        ("" | "events.k8s.io", "events") => {
            field.starts_with("involvedObject.")
                || field.starts_with("regarding.")
                || matches!(field, "reason" | "reportingComponent" | "source" | "type")
        }
        ("", "secrets") => field == "type",
        ("", "namespaces") => field == "status.phase",
        ("", "nodes") => field == "spec.unschedulable",
        ("", "services") => matches!(field, "spec.clusterIP" | "spec.type"),
        ("", "replicationcontrollers") | ("apps", "replicasets") => field == "status.replicas",
        ("batch", "jobs") => field == "status.successful",
        ("certificates.k8s.io", _) => field == "spec.signerName",
        _ => false,
    }
}

/// Where a page ends: the revision of the first page and the last key.
fn token(revision: u64, stored: &Stored) -> String {
    URL_SAFE_NO_PAD.encode(format!("{revision}/{}/{}", stored.namespace, stored.name))
}

fn read_token(token: &str) -> Option<(u64, Key)> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
    let mut parts = text.splitn(3, '/');
    let revision = parts.next()?.parse().ok()?;
    Some((revision, (parts.next()?.into(), parts.next()?.into())))
}

impl Core {
    pub(crate) fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Result<Arc<Stored>, Status> {
        self.read()
            .store
            .get(&resource.storage(), namespace, name)
            .ok_or_else(|| Status::not_found(&resource.group, &resource.plural, name))
    }

    pub(crate) fn list(&self, resource: &Resource, namespace: &str, query: &Query) -> Result<List, Status> {
        crate::options::check_list(query, false)?;
        let filter = Filter::from_query(resource, query)?;
        let state = self.read();
        let current = state.store.revision();
        if let Some(wanted) = query.get("resourceVersion").filter(|version| !version.is_empty()) {
            let wanted: u64 = wanted.parse().map_err(|_| {
                Status::bad_request(format!(
                    "resourceVersion: Invalid value: \"{wanted}\": strconv.ParseUint: parsing \"{wanted}\": invalid syntax"
                ))
            })?;
            too_large(wanted, current)?;
        }
        let (mut revision, after) = match query.get("continue").filter(|token| !token.is_empty()) {
            None => (current, None),
            Some(token) => {
                let (revision, key) =
                    read_token(token).ok_or_else(|| Status::bad_request("continue key is not valid: illegal base64 data"))?;
                (revision, Some(key))
            }
        };
        if query.get("resourceVersionMatch") == Some("Exact")
            && let Some(wanted) = query.get("resourceVersion").and_then(|version| version.parse().ok())
        {
            revision = wanted;
        }
        let limit: usize = query.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(0);
        let storage = resource.storage();
        let past;
        let all: Box<dyn Iterator<Item = &Arc<Stored>>> = if revision == current {
            Box::new(state.store.list(&storage, namespace, after))
        } else {
            // A page goes on in the list as it was, whatever changed since.
            past = state.store.list_at(&storage, namespace, after, revision).map_err(|_| expired())?;
            Box::new(past.iter())
        };
        let mut matching = all.filter(|stored| filter.matches(stored));
        let mut items = Vec::new();
        let mut next = None;
        let mut remaining = None;
        if limit == 0 {
            items.extend(matching.cloned());
        } else {
            items.extend(matching.by_ref().take(limit).cloned());
            // The real server counts what is left only where no selector hides part of it.
            let counts = filter.labels.is_empty() && filter.fields.is_empty();
            let left = if counts { matching.count() } else { usize::from(matching.next().is_some()) };
            if left > 0
                && let Some(last) = items.last()
            {
                next = Some(token(revision, last));
                remaining = counts.then_some(left);
            }
        }
        Ok(List { items, revision, next, remaining })
    }
}

/// 410 for a page of a list that is forgotten.
fn expired() -> Status {
    Status::new(
        410,
        "The provided continue parameter is too old to display a consistent list result. You can start a new list without the \
         continue parameter, or use the continue token in this response to retrieve the remainder of the results.",
    )
}

/// 504 for a revision that is still to come (apiserver `NewTooLargeResourceVersionError`).
pub(crate) fn too_large(wanted: u64, current: u64) -> Result<(), Status> {
    if wanted <= current {
        return Ok(());
    }
    Err(Status::new(504, format!("Too large resource version: {wanted}, current: {current}")).with_details(serde_json::json!({
        "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
        "retryAfterSeconds": 1,
    })))
}
