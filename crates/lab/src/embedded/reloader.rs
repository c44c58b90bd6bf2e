//! The config-reloader of a Prometheus or Alertmanager pod: it unpacks the configuration, fills in the pod's name and shard, and tells
//! the program beside it to reload. It also makes the configuration fit a pod without a mount namespace: paths become those of this
//! machine, and in-cluster discovery gets the address and the ServiceAccount that a container would find by itself.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use cluster::{ContainerContext, Exit, Program};
use flate2::read::GzDecoder;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The web configuration as the program beside it is to read it; it lies beside the main one.
pub(super) const WEB_CONFIG: &str = "web-config.yaml";

/// The reloader; with `--watch-interval=0` it writes the configuration once and ends, as an init container does.
pub(crate) struct Reloader;

impl Program for Reloader {
    fn run(self: Arc<Self>, context: ContainerContext) -> BoxFuture<'static, Exit> {
        Box::pin(async move {
            tokio::select! {
                () = context.stop.cancelled() => Exit::code(0),
                result = work(&context) => match result {
                    Ok(()) => Exit::code(0),
                    Err(error) => {
                        context.logs.line(&format!("level=error msg=\"{error:#}\""));
                        Exit::code(1)
                    }
                },
            }
        })
    }
}

async fn work(context: &ContainerContext) -> Result<()> {
    let arguments = context.arguments();
    let argument = |name: &str| arguments.iter().find_map(|argument| argument.strip_prefix(name)?.strip_prefix('='));
    let path = |name: &str| -> Result<PathBuf> {
        let path = argument(name).with_context(|| format!("{name} is missing"))?;
        context.host_path(path).with_context(|| format!("{path} lies in no volume"))
    };
    let (from, to) = (path("--config-file")?, path("--config-envsubst-file")?);
    let once = argument("--watch-interval") == Some("0");
    // Its own pod's address stands for the container's localhost. Who is asked to send a signal asks over HTTP all the same.
    let target = argument("--reload-url").or_else(|| argument("--runtimeinfo-url"));
    let place = reload_place(target.unwrap_or("http://localhost:9090/-/reload"));
    let web = argument("--web-config-file").and_then(|file| context.host_path(file));
    let mut changes = context.volumes.clone();
    let mut reload = Reload::new(context, &place)?;
    loop {
        changes.borrow_and_update();
        let text = render(context, &from).await?;
        write_changed(&to, &text).await?;
        if let Some(web) = &web {
            let text = tokio::fs::read_to_string(web).await.with_context(|| format!("cannot read {}", web.display()))?;
            write_changed(&to.with_file_name(WEB_CONFIG), &context.localise_for_pod(&text)).await?;
        }
        if once {
            return Ok(());
        }
        let again = reload.ask().await;
        // A configuration that is refused stays so until it is another one: what came meanwhile is read before the next attempt.
        let changed = match again {
            None => changes.changed().await,
            Some(after) => tokio::time::timeout(after, changes.changed()).await.unwrap_or(Ok(())),
        };
        if changed.is_err() {
            return std::future::pending().await;
        }
    }
}

/// Writes a file, unless it holds the text already.
async fn write_changed(path: &Path, text: &str) -> Result<()> {
    let old = tokio::fs::read_to_string(path).await.unwrap_or_default();
    if old != text {
        tokio::fs::write(path, text).await.with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Scheme, and port and path of a reload, from the URL of it or of something else of the same server.
fn reload_place(url: &str) -> (String, String) {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let place = rest.find(':').map_or(":9090/-/reload", |colon| &rest[colon..]);
    (scheme.to_owned(), place.replace("/api/v1/status/runtimeinfo", "/-/reload"))
}

/// The configuration as this pod's Prometheus is to read it.
async fn render(context: &ContainerContext, from: &PathBuf) -> Result<String> {
    let packed = tokio::fs::read(from).await.with_context(|| format!("cannot read {}", from.display()))?;
    let mut text = String::new();
    GzDecoder::new(packed.as_slice()).read_to_string(&mut text).context("the configuration is not gzipped text")?;
    for (name, value) in &context.env {
        text = text.replace(&format!("$({name})"), value);
    }
    let mut config: Value = wire::yaml::strict(&text).map_err(|error| anyhow::anyhow!("{error}"))?;
    localise(context, &mut config, false);
    discover_as_pod(context, &mut config);
    wire::yaml::to_string(&config).map_err(|error| anyhow::anyhow!("{error}"))
}

/// Whether the program beside it reads the file that a field names.
fn names_files(key: &str) -> bool {
    key.ends_with("_file") || key.ends_with("files") || key == "templates"
}

/// Mounted paths in any string become those of this machine. Files are those that the program beside it has mounted; elsewhere a path
/// may be one of a URL, and only the reloader's own folders are meant.
fn localise(context: &ContainerContext, value: &mut Value, is_file: bool) {
    match value {
        Value::String(text) if text.starts_with('/') && is_file => *text = context.localise_for_pod(text),
        Value::String(text) if text.starts_with('/') => *text = context.localise(text),
        Value::Array(items) => items.iter_mut().for_each(|item| localise(context, item, is_file)),
        Value::Object(fields) => fields.iter_mut().for_each(|(key, field)| localise(context, field, names_files(key))),
        _ => {}
    }
}

/// Gives in-cluster discovery what it would find in a container.
fn discover_as_pod(context: &ContainerContext, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields.iter_mut() {
                if key == "kubernetes_sd_configs" {
                    for discovery in field.as_array_mut().into_iter().flatten() {
                        if discovery["api_server"].is_null() {
                            discovery["api_server"] = format!("https://{}", context.api).into();
                            let file = |name: &str| context.host_path(&format!("{ACCOUNT}/{name}"));
                            if let Some(token) = file("token") {
                                discovery["authorization"] = json!({"credentials_file": token});
                            }
                            if let Some(authority) = file("ca.crt") {
                                discovery["tls_config"] = json!({"ca_file": authority});
                            }
                        }
                    }
                } else {
                    discover_as_pod(context, field);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| discover_as_pod(context, item)),
        _ => {}
    }
}

/// Asks the program beside it to reload.
struct Reload<'a> {
    context: &'a ContainerContext,
    client: reqwest::Client,
    url: String,
    /// What it answered last, so that each refusal is logged once.
    refused: String,
}

impl<'a> Reload<'a> {
    fn new(context: &'a ContainerContext, (scheme, place): &(String, String)) -> Result<Self> {
        // Whose certificate it is nobody asks: it is the pod's own localhost that is meant, as with the real reloader.
        let client = reqwest::Client::builder().no_proxy().tls_danger_accept_invalid_certs(true).timeout(Duration::from_secs(5));
        let url = format!("{scheme}://{}{place}", context.address);
        Ok(Self { context, client: client.build().context("cannot make an HTTP client")?, url, refused: String::new() })
    }

    /// After which time to ask again; nothing where the program has reloaded.
    async fn ask(&mut self) -> Option<Duration> {
        match self.client.post(&self.url).send().await {
            Ok(response) if response.status().is_success() => {
                self.context.logs.line("level=info msg=\"Reload triggered\"");
                self.refused.clear();
                None
            }
            Ok(response) => {
                let text = response.text().await.unwrap_or_default();
                if text != self.refused {
                    self.context.logs.line(&format!("level=error msg=\"Failed to trigger reload\" err={text:?}"));
                    self.refused = text;
                }
                Some(Duration::from_secs(1))
            }
            // It is not listening yet.
            Err(_) => Some(Duration::from_millis(50)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_reload_is_asked_for() {
        for (url, expected) in [
            ("http://localhost:9090/-/reload", ":9090/-/reload"),
            ("https://localhost:9093/am/-/reload", ":9093/am/-/reload"),
            ("http://localhost:9090/p/api/v1/status/runtimeinfo", ":9090/p/-/reload"),
        ] {
            let (scheme, place) = reload_place(url);
            assert_eq!(place, expected);
            assert!(url.starts_with(&format!("{scheme}://")), "{url}");
        }
    }

    #[test]
    fn files_are_told_from_paths() {
        for (key, expected) in [
            ("ca_file", true),
            ("rule_files", true),
            ("templates", true),
            ("files", true),
            ("metrics_path", false),
            ("regex", false),
        ] {
            assert_eq!(names_files(key), expected, "{key}");
        }
    }
}
