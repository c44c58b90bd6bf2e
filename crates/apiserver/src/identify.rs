//! Who sends a request: certificate, token, or nobody; and whom he may speak for.

use http::{HeaderMap, header};
use jiff::Timestamp;
use kubeapi::{Identity, Status};
use wire::pki::Subject;

use crate::core::Core;
use crate::rbac;

/// The headers of impersonation (`k8s.io/api/authentication/v1`).
const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";

/// The user that a request counts as.
///
/// # Errors
/// 401 for a token that is not good, 403 for impersonation that is not allowed.
pub(crate) fn identify(
    core: &Core,
    now: Timestamp,
    headers: &HeaderMap,
    certificate: Option<&Subject>,
) -> Result<Identity, Status> {
    let who = match certificate {
        // A certificate counts before a token, as in the real server's chain of authenticators.
        Some(subject) if !subject.common_name.is_empty() => Identity {
            name: subject.common_name.clone(),
            groups: subject.organisations.iter().cloned().chain(["system:authenticated".to_owned()]).collect(),
            ..Identity::default()
        },
        _ => {
            let authorization = headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap_or_default());
            let who = core.tokens.authenticate(now, authorization)?;
            if !core.is_there(&who) {
                return Err(Status::new(401, "Unauthorized"));
            }
            who
        }
    };
    if headers.keys().all(|name| !name.as_str().starts_with("impersonate-")) { Ok(who) } else { impersonate(core, &who, headers) }
}

/// What a request asks to count as, if its sender may say so.
fn impersonate(core: &Core, who: &Identity, headers: &HeaderMap) -> Result<Identity, Status> {
    let text = |value: &http::HeaderValue| {
        let text = std::str::from_utf8(value.as_bytes()).map(str::to_owned);
        text.map_err(|_| Status::bad_request("an impersonation header is not UTF-8"))
    };
    let all = |name: &str| headers.get_all(name).iter().map(text).collect::<Result<Vec<String>, Status>>();
    let (users, groups, uids) = (all(USER)?, all(GROUP)?, all(UID)?);
    let mut extra: Vec<(String, Vec<String>)> = Vec::new();
    for name in headers.keys() {
        if let Some(key) = name.as_str().strip_prefix(EXTRA) {
            extra.push((kubeapi::percent_decode(key), all(name.as_str())?));
        }
    }
    let Some(user) = users.into_iter().next().filter(|user| !user.is_empty()) else {
        return Err(Status::new(500, "Internal error occurred: requested to impersonate without impersonating a user"));
    };
    let mut other = Identity { name: user, groups, uid: uids.into_iter().next().unwrap_or_default(), extra };
    let account = other.as_service_account().map(|(namespace, name)| (namespace.to_owned(), name.to_owned()));
    let check = |group: &str, resource: &str, namespace: &str, name: &str| {
        let wanted = rbac::Attributes { verb: "impersonate", group, resource: resource.to_owned(), namespace, name, path: "" };
        core.demand(who, &wanted)
    };
    match &account {
        Some((namespace, name)) => check("", "serviceaccounts", namespace, name)?,
        None => check("", "users", "", &other.name)?,
    }
    for group in &other.groups {
        check("", "groups", "", group)?;
    }
    if !other.uid.is_empty() {
        check("authentication.k8s.io", "uids", "", &other.uid)?;
    }
    for (key, values) in &other.extra {
        for value in values {
            check("authentication.k8s.io", &format!("userextras/{key}"), "", value)?;
        }
    }
    if let Some((namespace, name)) = &account
        && other.groups.is_empty()
    {
        other.groups = Identity::service_account(namespace, name).groups;
    } else if other.name == "system:anonymous" {
        if !other.is_in("system:unauthenticated") {
            other.groups.push("system:unauthenticated".to_owned());
        }
    } else if !other.is_in("system:authenticated") {
        other.groups.push("system:authenticated".to_owned());
    }
    Ok(other)
}
