//! From method, path and query to the attributes that RBAC, fault rules and ledgers speak about.

use std::fmt;

/// The Kubernetes verb of a request (`rbac.authorization.k8s.io` words; `connect` for proxied streams as in admission).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// Read one object.
    Get,
    /// Read many.
    List,
    /// Follow changes.
    Watch,
    /// POST.
    Create,
    /// PUT.
    Update,
    /// PATCH.
    Patch,
    /// DELETE one.
    Delete,
    /// DELETE many.
    DeleteCollection,
    /// Open a stream through the API server: exec, attach, port-forward, proxy.
    Connect,
}

impl Verb {
    /// All verbs, in the order in which people list them.
    pub const ALL: [Self; 9] = [
        Self::Get,
        Self::List,
        Self::Watch,
        Self::Create,
        Self::Update,
        Self::Patch,
        Self::Delete,
        Self::DeleteCollection,
        Self::Connect,
    ];

    /// The lower-case word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
            Self::Connect => "connect",
        }
    }

    /// The verb of that word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.as_str() == word)
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A decoded query string. Order is kept; a key may come more than once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes `a=b&c=d`; what is not percent-encoding is taken literally.
    pub fn parse(query: &str) -> Self {
        Self(
            query
                .split('&')
                .filter(|pair| !pair.is_empty())
                .map(|pair| {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (percent_decode(&key.replace('+', " ")), percent_decode(&value.replace('+', " ")))
                })
                .collect(),
        )
    }

    /// The first value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// All values of a key.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Whether a boolean parameter is set: `true`, `1` or present without a value, as in Kubernetes' conversion.
    pub fn flag(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| !matches!(value, "false" | "0"))
    }

    /// All pairs.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.0
    }
}

/// Decodes `%41`; malformed sequences stay as they are, invalid UTF-8 becomes U+FFFD.
pub fn percent_decode(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |offset: usize| bytes.get(at + offset).and_then(|byte| (*byte as char).to_digit(16));
        if bytes[at] == b'%'
            && let (Some(high), Some(low)) = (hex(1), hex(2))
        {
            out.push((high * 16 + low) as u8);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// What a request asks for. The rules are those of k8s.io/apiserver `pkg/endpoints/request/requestinfo.go`.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestInfo {
    /// The verb; for non-resource paths the one that the HTTP method stands for.
    pub verb: Verb,
    /// Whether the path names a resource of the API (`/api/...`, `/apis/...` with a resource).
    pub is_resource: bool,
    /// API group; empty for the core group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Plural resource name.
    pub resource: String,
    /// Subresource, such as `status` or `log`; empty for none.
    pub subresource: String,
    /// Namespace; empty for cluster scope and for lists over all namespaces.
    pub namespace: String,
    /// Object name; empty for collections.
    pub name: String,
    /// What follows the subresource (`proxy` paths), joined by `/`.
    pub rest: String,
    /// The path as it was sent.
    pub path: String,
    /// The decoded query.
    pub query: Query,
}

impl RequestInfo {
    /// Reads method and target. Never fails: what is no resource path is a non-resource request.
    pub fn parse(method: &str, path: &str, query: Option<&str>) -> Self {
        let query = Query::parse(query.unwrap_or_default());
        let mut info = Self {
            verb: match method {
                "POST" => Verb::Create,
                "PUT" => Verb::Update,
                "PATCH" => Verb::Patch,
                "DELETE" => Verb::Delete,
                _ => Verb::Get,
            },
            is_resource: false,
            group: String::new(),
            version: String::new(),
            resource: String::new(),
            subresource: String::new(),
            namespace: String::new(),
            name: String::new(),
            rest: String::new(),
            path: path.to_owned(),
            query,
        };
        // Decoded first, as Go's `URL.Path` is: an encoded slash is a slash.
        let decoded = percent_decode(path);
        let mut parts = decoded.split('/').filter(|segment| !segment.is_empty());
        match parts.next() {
            Some("api") => {}
            Some("apis") => match parts.next() {
                Some(group) => group.clone_into(&mut info.group),
                None => return info,
            },
            _ => return info,
        }
        match parts.next() {
            Some(version) => version.clone_into(&mut info.version),
            None => return info,
        }
        let mut parts: Vec<&str> = parts.collect();
        let mut deprecated_watch = false;
        if parts.first() == Some(&"watch") && parts.len() > 1 {
            deprecated_watch = true;
            parts.remove(0);
        }
        if parts.is_empty() {
            return info;
        }
        info.is_resource = true;
        // `/namespaces/NAME` and its own subresources are about the namespace itself; anything else lies in it.
        if parts[0] == "namespaces" && info.group.is_empty() && parts.len() >= 2 {
            parts[1].clone_into(&mut info.namespace);
            if parts.len() > 2 && !matches!(parts[2], "status" | "finalize") {
                parts.drain(..2);
            }
        } else if parts[0] == "namespaces" && parts.len() > 2 {
            parts[1].clone_into(&mut info.namespace);
            parts.drain(..2);
        }
        parts[0].clone_into(&mut info.resource);
        if let Some(name) = parts.get(1) {
            (*name).clone_into(&mut info.name);
        }
        if let Some(subresource) = parts.get(2) {
            (*subresource).clone_into(&mut info.subresource);
        }
        if parts.len() > 3 {
            info.rest = parts[3..].join("/");
        }
        if info.name.is_empty() {
            match info.verb {
                Verb::Get if deprecated_watch || info.query.flag("watch") => info.verb = Verb::Watch,
                Verb::Get => info.verb = Verb::List,
                Verb::Delete => info.verb = Verb::DeleteCollection,
                Verb::List | Verb::Watch | Verb::Create | Verb::Update | Verb::Patch | Verb::DeleteCollection | Verb::Connect => {
                }
            }
        } else if info.verb == Verb::Get && deprecated_watch {
            info.verb = Verb::Watch;
        }
        if matches!(info.subresource.as_str(), "exec" | "attach" | "portforward" | "proxy") {
            info.verb = Verb::Connect;
        }
        info
    }

    /// The name that the field selector of a list or watch asks for, if it asks for exactly one.
    pub fn selected_name(&self) -> Option<&str> {
        if !self.name.is_empty() || !matches!(self.verb, Verb::List | Verb::Watch) {
            return None;
        }
        let selector = self.query.get("fieldSelector")?;
        let name = selector.split(',').find_map(|term| term.trim().strip_prefix("metadata.name="))?;
        let name = name.strip_prefix('=').unwrap_or(name);
        (!name.is_empty() && !name.contains('\\')).then_some(name)
    }

    /// `GROUP/VERSION`, or the version alone for the core group.
    pub fn group_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The resource as RBAC writes it: `pods`, `pods/log`.
    pub fn resource_path(&self) -> String {
        if self.subresource.is_empty() { self.resource.clone() } else { format!("{}/{}", self.resource, self.subresource) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(method: &str, target: &str) -> String {
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let info = RequestInfo::parse(method, path, query);
        format!(
            "{} {} {} {} ns={} name={} rest={}",
            info.verb,
            if info.is_resource { "resource" } else { "path" },
            info.group_version(),
            info.resource_path(),
            info.namespace,
            info.name,
            info.rest
        )
    }

    #[test]
    fn reads_what_requestinfo_reads() {
        for (method, target, expected) in [
            ("GET", "/api/v1/pods", "list resource v1 pods ns= name= rest="),
            ("GET", "/api/v1/pods?watch=true", "watch resource v1 pods ns= name= rest="),
            ("GET", "/api/v1/watch/pods", "watch resource v1 pods ns= name= rest="),
            ("GET", "/api/v1/pods?watch=false", "list resource v1 pods ns= name= rest="),
            ("GET", "/api/v1/namespaces", "list resource v1 namespaces ns= name= rest="),
            ("GET", "/api/v1/namespaces/a", "get resource v1 namespaces ns=a name=a rest="),
            ("PUT", "/api/v1/namespaces/a/finalize", "update resource v1 namespaces/finalize ns=a name=a rest="),
            ("POST", "/api/v1/namespaces/a/pods", "create resource v1 pods ns=a name= rest="),
            ("DELETE", "/api/v1/namespaces/a/pods", "deletecollection resource v1 pods ns=a name= rest="),
            ("GET", "/api/v1/namespaces/a/pods/p/log?follow=true", "get resource v1 pods/log ns=a name=p rest="),
            ("POST", "/api/v1/namespaces/a/pods/p/exec", "connect resource v1 pods/exec ns=a name=p rest="),
            (
                "GET",
                "/api/v1/namespaces/m/pods/p:9090/proxy/api/v1/query",
                "connect resource v1 pods/proxy ns=m name=p:9090 rest=api/v1/query",
            ),
            (
                "PATCH",
                "/apis/apps/v1/namespaces/a/deployments/d/status",
                "patch resource apps/v1 deployments/status ns=a name=d rest=",
            ),
            ("GET", "/apis/apps/v1", "get path apps/v1  ns= name= rest="),
            ("GET", "/version", "get path   ns= name= rest="),
            ("GET", "/api/v1/namespaces/a/pods/a%2Fb", "get resource v1 pods/b ns=a name=a rest="),
        ] {
            assert_eq!(line(method, target), expected, "{method} {target}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(method in "[A-Z]{0,6}", path in ".{0,60}", query in proptest::option::of(".{0,40}")) {
            let _ = RequestInfo::parse(&method, &path, query.as_deref());
        }
    }
}
