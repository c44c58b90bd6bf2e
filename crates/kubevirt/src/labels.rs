//! The labels of KubeVirt's client metrics, with their known quirks (facts/kubevirt.md §3.4, §3.5).

/// `resource` and `verb` of a request as KubeVirt's hook derives them from method, path and query.
///
/// A GET is LIST where the path ends with a collection, WATCH where the query asks for it, else GET. A path without a
/// resource is `none` for both.
pub fn resource_and_verb(method: &str, path: &str, query: &str) -> (String, String) {
    let none = || ("none".to_owned(), "none".to_owned());
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let rest = match segments.as_slice() {
        ["api", _, rest @ ..] => rest,
        ["apis", _, _, rest @ ..] => rest,
        _ => return none(),
    };
    let plain = |segment: &str| !segment.contains(['{', '%']);
    let (resource, has_name) = match rest {
        [] => return none(),
        // A template's `{namespace}` is not of the expression's alphabet, so it falls back to "namespaces".
        ["namespaces", namespace, ..] if !plain(namespace) => ("namespaces", true),
        ["namespaces", _, resource] => (*resource, false),
        // An object whose name ends with the resource's name looks like a collection.
        ["namespaces", _, resource, name, ..] => (*resource, !name.ends_with(resource)),
        [resource] => (*resource, false),
        [resource, ..] => (*resource, true),
    };
    let watching = query.split('&').any(|pair| pair == "watch=true") || path.contains("/watch/");
    let verb = match method {
        "GET" if watching => "WATCH",
        "GET" if has_name => "GET",
        "GET" => "LIST",
        "PUT" => "UPDATE",
        "POST" => "CREATE",
        other => other,
    };
    (resource.to_owned(), verb.to_owned())
}

/// The `url` label: names become placeholders, percent-encoded as Go encodes braces.
pub(crate) fn url_template(host: &str, path: &str, query: &str) -> String {
    let mut segments: Vec<String> = path.split('/').filter(|segment| !segment.is_empty()).map(str::to_owned).collect();
    let first = match segments.first().map(String::as_str) {
        Some("api") => 2,
        Some("apis") => 3,
        _ => segments.len(),
    };
    if segments.get(first).is_some_and(|segment| segment == "namespaces") && segments.len() > first + 2 {
        segments[first + 1] = "%7Bnamespace%7D".to_owned();
        if let Some(name) = segments.get_mut(first + 3) {
            *name = "%7Bname%7D".to_owned();
        }
    } else if let Some(name) = segments.get_mut(first + 1) {
        *name = "%7Bname%7D".to_owned();
    }
    let mut url = format!("https://{host}/{}", segments.join("/"));
    let keys: Vec<String> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let key = pair.split('=').next().unwrap_or_default();
            // The time-out is added after the template was made.
            if key == "timeout" { pair.to_owned() } else { format!("{key}=%7Bvalue%7D") }
        })
        .collect();
    if !keys.is_empty() {
        url = format!("{url}?{}", keys.join("&"));
    }
    url
}

/// The `verb` label of latencies, which is derived from the template and so takes a namespaced list for a GET.
pub(crate) fn latency_verb(method: &str, template_path: &str) -> String {
    resource_and_verb(method, template_path, "").1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_as_recorded() {
        for (method, path, query, resource, verb) in [
            ("GET", "/api/v1/namespaces/kubevirt/pods", "", "pods", "LIST"),
            ("GET", "/api/v1/namespaces/kubevirt", "", "namespaces", "GET"),
            ("GET", "/api/v1/pods", "watch=true", "pods", "WATCH"),
            ("GET", "/api/v1/namespaces/%7Bnamespace%7D/pods", "", "namespaces", "GET"),
            ("GET", "/apis/g/v/namespaces/ns/virtualmachines/my-virtualmachines", "", "virtualmachines", "LIST"),
            ("PATCH", "/api/v1/nodes/lab", "", "nodes", "PATCH"),
            ("POST", "/api/v1/namespaces/a/events", "", "events", "CREATE"),
            ("PUT", "/apis/coordination.k8s.io/v1/namespaces/a/leases/b", "", "leases", "UPDATE"),
            ("GET", "/apis", "timeout=32s", "none", "none"),
            ("GET", "/version", "", "none", "none"),
        ] {
            assert_eq!(resource_and_verb(method, path, query), (resource.to_owned(), verb.to_owned()), "{method} {path}");
        }
    }

    #[test]
    fn templates_as_recorded() {
        for (path, query, expected) in [
            (
                "/api/v1/namespaces/kubevirt/configmaps",
                "fieldSelector=x&limit=500&resourceVersion=0",
                "https://h/api/v1/namespaces/%7Bnamespace%7D/configmaps?fieldSelector=%7Bvalue%7D&limit=%7Bvalue%7D&resourceVersion=%7Bvalue%7D",
            ),
            (
                "/apis/coordination.k8s.io/v1/namespaces/a/leases/b",
                "",
                "https://h/apis/coordination.k8s.io/v1/namespaces/%7Bnamespace%7D/leases/%7Bname%7D",
            ),
            ("/api/v1/nodes/lab", "", "https://h/api/v1/nodes/%7Bname%7D"),
            ("/api", "timeout=32s", "https://h/api?timeout=32s"),
            (
                "/apis/kubevirt.io/v1/namespaces/a/kubevirts/k/status",
                "",
                "https://h/apis/kubevirt.io/v1/namespaces/%7Bnamespace%7D/kubevirts/%7Bname%7D/status",
            ),
        ] {
            assert_eq!(url_template("h", path, query), expected);
        }
    }
}
