//! As much of a kubeconfig as the proxy needs: where the API server is, whom to trust, and what the user shows.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    #[serde(default)]
    current_context: String,
    #[serde(default)]
    clusters: Vec<Named<Cluster>>,
    #[serde(default)]
    users: Vec<Named<User>>,
    #[serde(default)]
    contexts: Vec<Named<Context>>,
}

#[derive(Deserialize)]
struct Named<T> {
    name: String,
    #[serde(alias = "cluster", alias = "user", alias = "context")]
    value: T,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    #[serde(default)]
    insecure_skip_tls_verify: bool,
    tls_server_name: Option<String>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct User {
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    exec: Option<Value>,
    auth_provider: Option<Value>,
    username: Option<String>,
}

#[derive(Clone, Deserialize)]
struct Context {
    cluster: String,
    #[serde(default)]
    user: String,
    namespace: Option<String>,
}

/// What a kubeconfig says of one context.
pub(crate) struct Access {
    /// The API server's URL.
    pub(crate) server: String,
    /// Certificates to trust, PEM; none: trust any.
    pub(crate) authority: Option<String>,
    /// A bearer token.
    pub(crate) token: Option<String>,
    /// A client certificate and its key, PEM.
    pub(crate) identity: Option<wire::pki::Identity>,
    namespace: Option<String>,
}

/// The text of a setting that is a file or stands in the kubeconfig itself.
fn text(folder: &Path, file: Option<&PathBuf>, data: Option<&String>) -> Result<Option<String>> {
    if let Some(data) = data {
        let bytes = base64::engine::general_purpose::STANDARD.decode(data.trim()).context("…-data is not base64")?;
        return Ok(Some(String::from_utf8(bytes).context("…-data is not PEM")?));
    }
    let Some(file) = file else { return Ok(None) };
    let path = folder.join(file);
    Ok(Some(std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?))
}

fn find<T: Clone>(all: &[Named<T>], what: &str, name: &str) -> Result<T> {
    let names = || all.iter().map(|named| named.name.as_str()).collect::<Vec<_>>().join(", ");
    let found = all.iter().find(|named| named.name == name).map(|named| named.value.clone());
    found.with_context(|| format!("there is no {what} {name:?}; there are: {}", names()))
}

impl Access {
    /// To a server without a kubeconfig.
    pub(crate) fn of(server: String, authority: Option<String>, token: Option<String>) -> Self {
        Self { server, authority, token, identity: None, namespace: None }
    }

    /// Reads one context of a file; the current one unless it is named.
    pub(crate) fn load(path: &Path, context: Option<&str>) -> Result<Self> {
        let content = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        Self::read(&content, folder, context).with_context(|| path.display().to_string())
    }

    fn read(content: &str, folder: &Path, context: Option<&str>) -> Result<Self> {
        let mut documents = wire::yaml::manifests(content)?;
        if documents.len() != 1 {
            bail!("this is no kubeconfig");
        }
        let file: File = serde_json::from_value(documents.remove(0)).context("this is no kubeconfig")?;
        let context = find(&file.contexts, "context", context.unwrap_or(&file.current_context))?;
        let cluster = find(&file.clusters, "cluster", &context.cluster)?;
        let user = if context.user.is_empty() { User::default() } else { find(&file.users, "user", &context.user)? };
        if let Some(name) = cluster.tls_server_name {
            bail!("tls-server-name {name:?} is not supported; use a server URL with that name");
        }
        if user.exec.is_some() || user.auth_provider.is_some() || user.username.is_some() {
            bail!(
                "user {:?} gets its credentials from a plugin or a password, which cannot be passed on; give a token or a certificate",
                context.user
            );
        }
        let authority = text(folder, cluster.certificate_authority.as_ref(), cluster.certificate_authority_data.as_ref())?;
        if authority.is_none() && !cluster.insecure_skip_tls_verify {
            bail!("cluster {:?} has no certificate-authority; set it, or insecure-skip-tls-verify", context.cluster);
        }
        let certificate = text(folder, user.client_certificate.as_ref(), user.client_certificate_data.as_ref())?;
        let key = text(folder, user.client_key.as_ref(), user.client_key_data.as_ref())?;
        let identity = match (certificate, key) {
            (Some(certificate_pem), Some(key_pem)) => Some(wire::pki::Identity { certificate_pem, key_pem }),
            (None, None) => None,
            _ => bail!("user {:?} has a client certificate without a key, or a key without a certificate", context.user),
        };
        let from_file = text(folder, user.token_file.as_ref(), None)?.map(|token| token.trim().to_owned());
        Ok(Self {
            server: cluster.server,
            authority: authority.filter(|_| !cluster.insecure_skip_tls_verify),
            token: user.token.or(from_file),
            identity,
            namespace: context.namespace,
        })
    }

    /// A kubeconfig for clients of the proxy. It is JSON, which is YAML.
    pub(crate) fn through_proxy(&self, url: &str, authority: &str, token: &str) -> String {
        let authority = base64::engine::general_purpose::STANDARD.encode(authority);
        let mut context = json!({"cluster": "proxied", "user": "proxied"});
        if let Some(namespace) = &self.namespace {
            context["namespace"] = namespace.as_str().into();
        }
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "proxied", "cluster": {"server": url, "certificate-authority-data": authority}}],
            "users": [{"name": "proxied", "user": {"token": token}}],
            "contexts": [{"name": "proxied", "context": context}],
            "current-context": "proxied",
        });
        format!("{config:#}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(cluster: &str, user: &str, context: Option<&str>) -> Result<Access> {
        let text = format!(
            "current-context: c\nclusters:\n- name: a\n  cluster: {{server: https://h:6443{cluster}}}\nusers:\n- name: u\n  user: \
             {{{user}}}\ncontexts:\n- name: c\n  context: {{cluster: a, user: u, namespace: ns}}\n"
        );
        Access::read(&text, Path::new("/nowhere"), context)
    }

    #[test]
    fn what_cannot_be_used_is_told() {
        let insecure = ", insecure-skip-tls-verify: true";
        for (cluster, user, context, expected) in [
            ("", "token: t", None, "has no certificate-authority"),
            (insecure, "token: t", Some("x"), "there is no context \"x\"; there are: c"),
            (insecure, "exec: {command: x}", None, "from a plugin"),
            (insecure, "client-key-data: aGk=", None, "a key without a certificate"),
            (insecure, "client-certificate-data: '?'", None, "not base64"),
            (insecure, "tokenFile: t", None, "cannot read /nowhere/t"),
            (", tls-server-name: x", "token: t", None, "not supported"),
        ] {
            let error = format!("{:#}", read(cluster, user, context).err().unwrap());
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        let cluster = read(", insecure-skip-tls-verify: true", "token: t", None).unwrap();
        assert_eq!((cluster.server.as_str(), cluster.token.as_deref()), ("https://h:6443", Some("t")));
        let written = cluster.through_proxy("https://127.0.0.1:1", "PEM", "other");
        let again = Access::read(&written, Path::new("."), None).unwrap();
        assert_eq!((again.server.as_str(), again.token.as_deref()), ("https://127.0.0.1:1", Some("other")));
        assert_eq!((again.authority.as_deref(), again.namespace.as_deref()), (Some("PEM"), Some("ns")));
    }
}
