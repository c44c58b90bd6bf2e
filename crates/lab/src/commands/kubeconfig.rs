//! `lab kubeconfig` and `lab token`.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::Value;

use super::Which;
use crate::exit::{Exit, Failure};
use crate::state::write_secret;

#[derive(Args)]
pub(super) struct Kubeconfig {
    #[command(flatten)]
    which: Which,
    /// Also put the lab's context into your own kubeconfig ($KUBECONFIG or ~/.kube/config); its current context stays.
    #[arg(long)]
    merge: bool,
}

impl Kubeconfig {
    pub(super) fn run(self) -> Result<Exit> {
        let dir = self.which.dir()?;
        super::reachable(&dir)?;
        let path = dir.kubeconfig();
        if self.merge {
            let target = own_kubeconfig()?;
            merge(&std::fs::read_to_string(&path)?, &target)?;
            eprintln!("context {:?} is in {}", dir.name(), target.display());
        }
        say!("{}", path.display());
        Ok(Exit::Success)
    }
}

fn own_kubeconfig() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("KUBECONFIG").filter(|path| !path.is_empty()) {
        let paths: Vec<PathBuf> = std::env::split_paths(&path).collect();
        return Ok(paths[0].clone());
    }
    let home = std::env::var_os("HOME").context("neither KUBECONFIG nor HOME is set")?;
    Ok(PathBuf::from(home).join(".kube/config"))
}

/// Puts cluster, user and context of the lab into a kubeconfig, in place of older ones of the same name.
fn merge(lab: &str, target: &PathBuf) -> Result<()> {
    let read = |text: &str| -> Result<Value> {
        let mut documents = wire::yaml::manifests(text).map_err(|error| anyhow::anyhow!("{error}"))?;
        Ok(if documents.is_empty() { Value::Null } else { documents.remove(0) })
    };
    let lab = read(lab)?;
    let mut own = match std::fs::read_to_string(target) {
        Ok(text) => read(&text).map_err(|error| {
            Failure::new(Exit::Usage, format!("{} cannot be read: {error}", target.display())).hint("nothing was changed")
        })?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Value::Null,
        Err(error) => bail!("cannot read {}: {error}", target.display()),
    };
    if own.is_null() {
        own = serde_json::json!({"apiVersion": "v1", "kind": "Config", "current-context": lab["current-context"]});
    }
    for list in ["clusters", "users", "contexts"] {
        let entry = lab[list][0].clone();
        if !own[list].is_array() {
            own[list] = Value::Array(Vec::new());
        }
        if let Some(entries) = own[list].as_array_mut() {
            entries.retain(|old| old["name"] != entry["name"]);
            entries.push(entry);
        }
    }
    if let Some(folder) = target.parent() {
        std::fs::create_dir_all(folder)?;
    }
    write_secret(target, wire::yaml::to_string(&own)?.as_bytes())
}

#[derive(Args)]
pub(super) struct Token {
    #[command(flatten)]
    which: Which,
}

impl Token {
    pub(super) fn run(self) -> Result<Exit> {
        say!("{}", self.which.dir()?.running()?.token);
        Ok(Exit::Success)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_keeps_what_is_there_and_replaces_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("sub/config");
        let lab = |server: &str| {
            format!(
                "{{clusters: [{{name: lab, cluster: {{server: '{server}'}}}}], users: [{{name: lab}}], contexts: [{{name: lab}}], current-context: lab}}"
            )
        };
        merge(&lab("https://a"), &target).unwrap();
        let mine = "{current-context: mine, clusters: [{name: mine}, {name: lab}], users: [], contexts: []}";
        std::fs::write(&target, mine).unwrap();
        merge(&lab("https://b"), &target).unwrap();
        let merged = wire::yaml::manifests(&std::fs::read_to_string(&target).unwrap()).unwrap().remove(0);
        assert_eq!(merged["current-context"], "mine");
        assert_eq!(merged["clusters"].as_array().unwrap().len(), 2);
        assert_eq!(merged["clusters"][1]["cluster"]["server"], "https://b");
    }
}
