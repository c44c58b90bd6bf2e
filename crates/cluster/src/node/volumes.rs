//! Volumes: folders that hold what Secrets, ConfigMaps and the ServiceAccount hold, kept current without delay.

use std::collections::BTreeMap;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use apiserver::Gr;
use base64::Engine as _;
use kubeapi::object;
use serde_json::Value;
use tokio::sync::watch;

use super::Shared;
use crate::events;
use crate::informer::News;
use crate::program::Mount;

const SECRETS: Gr = Gr::core("secrets");
const CONFIG_MAPS: Gr = Gr::core("configmaps");
const CLAIMS: Gr = Gr::core("persistentvolumeclaims");
/// Where a ServiceAccount is mounted in every pod.
pub const ACCOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Lifetime of a pod's token, in seconds: longer than any lab.
const TOKEN_SECONDS: i64 = 365 * 24 * 3600;

/// The folders of one pod.
pub(crate) struct Volumes {
    folders: BTreeMap<String, PathBuf>,
    account: Option<PathBuf>,
    token: Arc<str>,
    changes: watch::Sender<u64>,
}

/// A file name from an object's key; nothing that could leave the folder.
fn is_safe(key: &str) -> bool {
    !key.is_empty() && key != "." && key != ".." && !key.contains(['/', '\0'])
}

fn make_folder(path: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn write_secretly(path: &Path, content: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    let temporary = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(content)?;
    std::fs::rename(temporary, path)
}

/// Keys and bytes of a Secret or ConfigMap.
fn content(object: &Value) -> BTreeMap<String, Vec<u8>> {
    let is_secret = object["kind"] == "Secret";
    let mut files = BTreeMap::new();
    for (key, value) in object["data"].as_object().into_iter().flatten() {
        let text = value.as_str().unwrap_or_default();
        let bytes = if is_secret {
            base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default()
        } else {
            text.as_bytes().to_vec()
        };
        files.insert(key.clone(), bytes);
    }
    for (key, value) in object["binaryData"].as_object().into_iter().flatten() {
        let bytes = base64::engine::general_purpose::STANDARD.decode(value.as_str().unwrap_or_default());
        files.insert(key.clone(), bytes.unwrap_or_default());
    }
    files
}

/// Makes a folder hold exactly these files; whether anything changed.
fn fill(folder: &Path, files: &BTreeMap<String, Vec<u8>>) -> std::io::Result<bool> {
    make_folder(folder)?;
    let mut changed = false;
    for (name, bytes) in files.iter().filter(|(name, _)| is_safe(name)) {
        let path = folder.join(name);
        if std::fs::read(&path).ok().as_deref() != Some(bytes) {
            write_secretly(&path, bytes)?;
            changed = true;
        }
    }
    for entry in std::fs::read_dir(folder)?.flatten() {
        if entry.file_name().to_str().is_none_or(|name| !files.contains_key(name)) {
            std::fs::remove_file(entry.path())?;
            changed = true;
        }
    }
    Ok(changed)
}

/// What a volume's content comes from.
fn sources(volume: &Value) -> Vec<(Gr, String, bool, &Value)> {
    let name = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let optional = |value: &Value| value["optional"] == true;
    if let Some(secret) = volume.get("secret") {
        return vec![(SECRETS, name(&secret["secretName"]), optional(secret), &secret["items"])];
    }
    if let Some(map) = volume.get("configMap") {
        return vec![(CONFIG_MAPS, name(&map["name"]), optional(map), &map["items"])];
    }
    let mut found = Vec::new();
    for source in volume["projected"]["sources"].as_array().into_iter().flatten() {
        if let Some(secret) = source.get("secret") {
            found.push((SECRETS, name(&secret["name"]), optional(secret), &secret["items"]));
        }
        if let Some(map) = source.get("configMap") {
            found.push((CONFIG_MAPS, name(&map["name"]), optional(map), &map["items"]));
        }
    }
    found
}

/// The files of a volume, or what is missing.
fn gather(shared: &Shared, namespace: &str, volume: &Value) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let mut files = BTreeMap::new();
    for (gr, name, optional, items) in sources(volume) {
        let object = shared.client.find(gr, namespace, &name).map_err(|status| status.to_string())?;
        let Some(object) = object else {
            if optional {
                continue;
            }
            let kind = if gr == SECRETS { "secret" } else { "configmap" };
            return Err(format!("{kind} \"{name}\" not found"));
        };
        let all = content(&object);
        match items.as_array() {
            None => files.extend(all),
            Some(items) => {
                for item in items {
                    let (key, path) = (item["key"].as_str().unwrap_or_default(), item["path"].as_str().unwrap_or_default());
                    if let Some(bytes) = all.get(key) {
                        files.insert(path.to_owned(), bytes.clone());
                    }
                }
            }
        }
    }
    Ok(files)
}

/// The folder of a claim, which outlives its pods; the claim is told that it has one.
fn bind(shared: &Shared, namespace: &str, claim: &str) -> PathBuf {
    if let Ok(Some(found)) = shared.client.find(CLAIMS, namespace, claim)
        && found["status"]["phase"] != "Bound"
    {
        let spec = &found["spec"];
        let status = serde_json::json!({"status": {
            "phase": "Bound", "accessModes": spec["accessModes"], "capacity": spec["resources"]["requests"],
        }});
        if let Err(error) = shared.client.merge(CLAIMS, namespace, claim, "status", &status) {
            tracing::debug!(%error, claim, "cannot bind a claim");
        }
    }
    shared.config.folder.join("claims").join(namespace).join(claim)
}

impl Volumes {
    pub(crate) fn folder(shared: &Shared, pod: &Value) -> PathBuf {
        shared.config.folder.join(object::uid(pod))
    }

    /// Makes all folders; waits for objects that are not there yet, as a kubelet does.
    pub(crate) async fn prepare(shared: &Shared, pod: &Value) -> Self {
        let root = Self::folder(shared, pod);
        let namespace = object::namespace(pod);
        let mut folders = BTreeMap::new();
        for volume in pod["spec"]["volumes"].as_array().into_iter().flatten() {
            let name = volume["name"].as_str().unwrap_or_default();
            if !is_safe(name) {
                continue;
            }
            let folder = match volume["persistentVolumeClaim"]["claimName"].as_str().filter(|claim| is_safe(claim)) {
                Some(claim) => bind(shared, namespace, claim),
                None => root.join("volumes").join(name),
            };
            let mut told = String::new();
            loop {
                let files = gather(shared, namespace, volume);
                let result = files.and_then(|files| {
                    // An emptyDir belongs to its containers; only its folder is ours.
                    if sources(volume).is_empty() { make_folder(&folder).map(|()| false) } else { fill(&folder, &files) }
                        .map_err(|error| error.to_string())
                });
                let Err(message) = result else { break };
                if told != message {
                    let text = format!("MountVolume.SetUp failed for volume \"{name}\" : {message}");
                    events::record(&shared.client, pod, "node-agent", "Warning", "FailedMount", &text);
                    told = message;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            folders.insert(name.to_owned(), folder);
        }
        let account = pod["spec"]["serviceAccountName"].as_str().unwrap_or("default");
        let bound = Some((object::name(pod), object::uid(pod)));
        let mut token = String::new();
        if pod["spec"]["automountServiceAccountToken"] != false {
            // The account may be created a moment after the pod.
            for _ in 0..100 {
                match shared.client.token(namespace, account, bound, TOKEN_SECONDS) {
                    Ok(signed) => {
                        token = signed;
                        break;
                    }
                    Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
                }
            }
            if token.is_empty() {
                let message = format!("serviceaccount \"{account}\" not found");
                events::record(&shared.client, pod, "node-agent", "Warning", "FailedMount", &message);
            }
        }
        let mut mounted = None;
        if !token.is_empty() {
            let folder = root.join("service-account");
            let files = [
                ("token", token.as_bytes()),
                ("ca.crt", shared.config.authority_pem.as_bytes()),
                ("namespace", namespace.as_bytes()),
            ];
            let files = files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).collect();
            match fill(&folder, &files) {
                Ok(_) => mounted = Some(folder),
                Err(error) => tracing::warn!(%error, "cannot write a ServiceAccount's files"),
            }
        }
        Self { folders, account: mounted, token: token.into(), changes: watch::Sender::new(0) }
    }

    /// Brings the folders up to date with their objects, for ever.
    pub(crate) async fn follow(&self, shared: &Shared, pod: &Value) {
        let volumes: Vec<&Value> =
            pod["spec"]["volumes"].as_array().into_iter().flatten().filter(|volume| !sources(volume).is_empty()).collect();
        if volumes.is_empty() {
            return std::future::pending().await;
        }
        // Each pod waits by itself: a copy of all Secrets and ConfigMaps for each would be most of a lab's memory.
        let mut secrets = News::new(&shared.client, SECRETS);
        let mut maps = News::new(&shared.client, CONFIG_MAPS);
        loop {
            let mut changed = false;
            for volume in &volumes {
                let Some(folder) = self.folders.get(volume["name"].as_str().unwrap_or_default()) else { continue };
                if let Ok(files) = gather(shared, object::namespace(pod), volume) {
                    changed |= fill(folder, &files).unwrap_or(false);
                }
            }
            if changed {
                self.changes.send_modify(|count| *count += 1);
            }
            tokio::select! { () = secrets.wait() => {}, () = maps.wait() => {} }
        }
    }

    pub(crate) fn token(&self) -> Arc<str> {
        self.token.clone()
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The folders as the containers of the pod have them mounted; where two mount something at one path, the first one's counts.
    pub(crate) fn mounts_of_pod(&self, pod: &Value) -> Arc<[Mount]> {
        let mut all: Vec<Mount> = Vec::new();
        for container in pod["spec"]["containers"].as_array().into_iter().flatten() {
            for mount in self.mounts(container).iter() {
                if !all.iter().any(|known| known.path == mount.path) {
                    all.push(mount.clone());
                }
            }
        }
        all.into()
    }

    /// The folders as one container has them mounted.
    pub(crate) fn mounts(&self, container: &Value) -> Arc<[Mount]> {
        let mut mounts: Vec<Mount> = container["volumeMounts"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|mount| {
                let folder = self.folders.get(mount["name"].as_str()?)?;
                let folder = match mount["subPath"].as_str() {
                    Some(path) if path.split('/').all(is_safe) => {
                        let folder = folder.join(path);
                        let _ = make_folder(&folder);
                        folder
                    }
                    _ => folder.clone(),
                };
                Some(Mount { path: mount["mountPath"].as_str()?.to_owned(), folder })
            })
            .collect();
        if let Some(folder) = &self.account {
            mounts.push(Mount { path: ACCOUNT_PATH.to_owned(), folder: folder.clone() });
        }
        mounts.into()
    }
}
