//! `lab up` on a real cluster: the cluster, kube-prometheus, KubeVirt, and the wait for their targets.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use install::{Api, Installer, Plan, Profile, Progress, Releases, Survey, Triple, Wanted};
use serde_json::{Value, json};

use super::{Stages, Up};
use crate::commands::status;
use crate::exit::{Exit, Failure};
use crate::provider::bundle::Bundle;
use crate::provider::record::ClusterRecord;
use crate::provider::source::{self, Manifest};
use crate::provider::{self, Kind, Making, Minikube, NodeState, Provider, Size};
use crate::reach;
use crate::state::{LabDir, write_secret};
use crate::why;

/// How long a state of an installation is waited for, unless it is said.
const PATIENCE: u64 = 900;
/// A clock that differs by more than this makes certificates and alerts lie.
const SKEW: i64 = 30;

/// Flags that only real clusters have.
#[derive(Args)]
pub(crate) struct ClusterFlags {
    /// The context of the kubeconfig, for --provider existing. It must be named: nothing is installed on whatever happens to be current.
    #[arg(long, value_name = "CONTEXT", help_heading = "Real clusters")]
    context: Option<String>,
    /// The kubeconfig with that context; without it the user's own.
    #[arg(long, value_name = "FILE", requires = "context", help_heading = "Real clusters")]
    kubeconfig: Option<PathBuf>,
    /// The version of Kubernetes, such as 1.36 or v1.36.1.
    #[arg(long, value_name = "VERSION", help_heading = "Real clusters")]
    kubernetes: Option<String>,
    /// The release of kube-prometheus.
    #[arg(long, value_name = "RELEASE", help_heading = "Real clusters")]
    kube_prometheus: Option<String>,
    /// Install releases that are not known to fit together.
    #[arg(long, help_heading = "Real clusters")]
    any_release: bool,
    /// kube-prometheus from a folder or .tar.gz of a release.
    #[arg(long, value_name = "PATH", help_heading = "Real clusters")]
    kube_prometheus_manifests: Option<PathBuf>,
    /// KubeVirt from a folder with its operator and object.
    #[arg(long, value_name = "DIR", help_heading = "Real clusters")]
    kubevirt_manifests: Option<PathBuf>,
    /// Install from this bundle alone (`lab bundle`); on kind and minikube its images are loaded into the node.
    #[arg(long, value_name = "FILE.tar", help_heading = "Real clusters",
        conflicts_with_all = ["kube_prometheus_manifests", "kubevirt_manifests", "kubernetes", "kube_prometheus", "kubevirt"])]
    bundle: Option<PathBuf>,
    /// The checksum that the bundle must have.
    #[arg(long, value_name = "SHA256", requires = "bundle", help_heading = "Real clusters")]
    bundle_sha256: Option<String>,
    /// A registry that the cluster pulls from: the bundle's images are pushed there, and named so in what is installed.
    #[arg(long, value_name = "HOST/PATH", requires = "bundle", help_heading = "Real clusters")]
    registry: Option<String>,
    /// What kind or minikube runs nodes in: docker, podman, or (minikube) kvm2.
    #[arg(long, value_name = "DRIVER", help_heading = "Real clusters")]
    driver: Option<String>,
    /// Processors of the node (minikube).
    #[arg(long, value_name = "N", help_heading = "Real clusters")]
    cpus: Option<u32>,
    /// Memory of the node in MB (minikube).
    #[arg(long, value_name = "MB", help_heading = "Real clusters")]
    memory: Option<u32>,
    /// Disk of the node in GB (minikube).
    #[arg(long, value_name = "GB", help_heading = "Real clusters")]
    disk: Option<u32>,
    /// A feature gate of Kubernetes: NAME=true.
    #[arg(long = "feature-gate", value_name = "GATE", help_heading = "Real clusters")]
    feature_gates: Vec<String>,
    /// A folder of this machine in the node: HOST:NODE.
    #[arg(long = "mount", value_name = "HOST:NODE", value_parser = mount, help_heading = "Real clusters")]
    mounts: Vec<(PathBuf, String)>,
    /// Keep kube-prometheus' NetworkPolicies, which admit only its own pods.
    #[arg(long, help_heading = "Real clusters")]
    network_policies: bool,
    /// Keep the node of a cluster that could not be made, to look into it (kind).
    #[arg(long, help_heading = "Real clusters")]
    retain: bool,
    /// Emulate virtual machines even though this machine has /dev/kvm.
    #[arg(long, help_heading = "Real clusters")]
    emulation: bool,
}

fn mount(text: &str) -> Result<(PathBuf, String), String> {
    match text.rsplit_once(':') {
        Some((host, node)) if !host.is_empty() && node.starts_with('/') => Ok((host.into(), node.to_owned())),
        _ => Err("write HOST:NODE, with an absolute path in the node".to_owned()),
    }
}

/// A cluster that is reached, and what is to be installed on it.
struct Reached {
    api: Api,
    triple: Option<Triple>,
    bundle: Option<Bundle>,
}

impl Up {
    /// Brings a lab up on a real cluster.
    pub(super) async fn run_on_cluster(self) -> Result<Exit> {
        self.refuse_flags()?;
        let dir = self.which.dir()?;
        if dir.is_running() {
            bail!(
                Failure::new(Exit::LabFailed, format!("lab {:?} is an embedded one, and runs", dir.name()))
                    .hint("take it down first, or give another --name")
            );
        }
        let stages = Stages::new(self.output == crate::commands::Output::Json);
        let result = tokio::select! {
            result = self.bring_up(&dir, &stages) => Some(result),
            _ = tokio::signal::ctrl_c() => None,
        };
        stages.finish();
        match result {
            Some(result) => result,
            None => {
                eprintln!("interrupted; run the same command again to go on, or `lab down{}`", name_flag(dir.name()));
                Ok(Exit::Interrupted)
            }
        }
    }

    /// Flags of the embedded lab that mean nothing here.
    fn refuse_flags(&self) -> Result<()> {
        let set = [
            (self.prometheus.is_some(), "--prometheus"),
            (self.prometheus_operator.is_some(), "--prometheus-operator"),
            (self.small, "--small"),
            (self.bare, "--bare"),
            (self.fast_alerts, "--fast-alerts"),
        ];
        if let Some((_, flag)) = set.into_iter().find(|(set, _)| *set) {
            bail!(Failure::new(Exit::Usage, format!("{flag} is for the embedded lab alone")).hint("leave it out"));
        }
        match (self.provider, &self.cluster.context) {
            (Provider::Existing, None) => bail!(
                Failure::new(Exit::Usage, "an existing cluster needs --context")
                    .hint("`kubectl config get-contexts` lists them; nothing is installed on one that is not named")
            ),
            (Provider::Kind | Provider::Minikube, Some(_)) => {
                bail!(
                    Failure::new(Exit::Usage, "--context is for --provider existing")
                        .hint("leave it out: the lab makes a cluster of its own")
                )
            }
            (Provider::Existing, Some(_)) | (Provider::Kind | Provider::Minikube | Provider::Embedded, None) => Ok(()),
            (Provider::Embedded, Some(_)) => {
                bail!(Failure::new(Exit::Usage, "--context is for --provider existing").hint("leave it out"))
            }
        }
    }

    fn wanted(&self) -> Wanted {
        Wanted {
            kubernetes: self.cluster.kubernetes.clone(),
            kube_prometheus: self.cluster.kube_prometheus.clone(),
            kubevirt: self.kubevirt.clone(),
        }
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(self.timeout.unwrap_or(PATIENCE))
    }

    async fn bring_up(&self, dir: &LabDir, stages: &Stages) -> Result<Exit> {
        let earlier = ClusterRecord::of(dir);
        if let Some(record) = earlier.as_ref().filter(|record| record.provider != self.provider) {
            bail!(
                Failure::new(Exit::LabFailed, format!("lab {:?} is on {}", dir.name(), record.provider.name()))
                    .hint("take it down first, or give another --name")
            );
        }
        let bundle = self.open_bundle(dir, stages)?;
        let reached = match self.provider {
            Provider::Existing => self.reach_existing(dir, bundle, stages).await?,
            Provider::Kind | Provider::Minikube => self.make(dir, bundle, stages).await?,
            Provider::Embedded => bail!("the embedded lab is no cluster"),
        };
        warn_of_skew(&reached.api).await;
        let survey = install::survey(&reached.api, dir.name())
            .await
            .map_err(|error| Failure::new(Exit::EnvironmentMissing, format!("cannot look at the cluster: {error}")))?;
        refuse_others(&survey)?;
        let mut record = ClusterRecord {
            name: dir.name().to_owned(),
            provider: self.provider,
            driver: self.cluster.driver.clone(),
            context: self.cluster.context.clone(),
            kubernetes: survey.kubernetes.clone(),
            kube_prometheus: None,
            kubevirt: None,
            prometheus: survey.prometheus.clone().unwrap_or_else(|| "monitoring/k8s".to_owned()),
            made: true,
            keeps_network: ClusterRecord::of(dir).is_none_or(|record| record.keeps_network),
            complete: false,
        };
        let mut plan = self.plan(&survey, &reached, &mut record, stages).await?;
        if let Some(registry) = self.cluster.registry.as_ref().filter(|_| self.provider == Provider::Existing) {
            plan.mirror(registry);
        }
        record.write(dir)?;
        for trap in &plan.traps {
            stages.done(trap.told());
        }
        let told = |progress: Progress<'_>| stages.tell(progress);
        let in_bundle = |image: &str| reached.bundle.as_ref().is_some_and(|bundle| bundle.has(image));
        // From a registry the cluster pulls under other names.
        let offline = reached.bundle.is_some() && self.provider != Provider::Existing;
        let brought = offline.then_some(&in_bundle as &(dyn Fn(&str) -> bool + Send + Sync));
        let installer = Installer { api: &reached.api, lab: dir.name(), patience: self.patience(), brought, told: &told };
        let counts = installer.run(&plan).await.map_err(|error| failure(&error))?;
        stages.done(&counts.to_string());
        let targets = self.wait_for_targets(&reached.api, &record, stages).await?;
        record.complete = true;
        record.write(dir)?;
        self.show_cluster(dir, &record, &targets)
    }

    /// The bundle, unpacked beside the lab's record.
    fn open_bundle(&self, dir: &LabDir, stages: &Stages) -> Result<Option<Bundle>> {
        let Some(file) = &self.cluster.bundle else { return Ok(None) };
        stages.doing("checking the bundle");
        let fresh = !dir.exists();
        dir.create()?;
        let bundle = Bundle::open(file, &dir.path().join("bundle"), self.cluster.bundle_sha256.as_deref());
        if bundle.is_err() && fresh {
            dir.remove()?;
        }
        let bundle = bundle?;
        stages.done(&format!("bundle: {} with {} images", bundle.triple(), bundle.index.images.len()));
        Ok(Some(bundle))
    }

    /// The context that is named, its kubeconfig kept in the lab's folder.
    async fn reach_existing(&self, dir: &LabDir, bundle: Option<Bundle>, stages: &Stages) -> Result<Reached> {
        let context = self.cluster.context.as_deref().unwrap_or_default();
        let config = provider::one_context(self.cluster.kubeconfig.as_deref(), context)?;
        stages.doing(&format!("asking {context}"));
        let api =
            Api::new(why::client(config.clone(), Some(context)).await.map_err(|error| {
                Failure::new(Exit::EnvironmentMissing, format!("context {context:?} cannot be used: {error:#}"))
            })?);
        let version = api.version().await.map_err(|error| {
            Failure::new(Exit::EnvironmentMissing, format!("the cluster of context {context:?} cannot be reached: {error}"))
                .hint("`kubectl --context CONTEXT version` must work")
        })?;
        stages.done(&format!("{context}: Kubernetes {version}"));
        let triple = match &bundle {
            Some(bundle) => Some(bundle.triple()),
            None => self.triple_for(&version)?,
        };
        match (&bundle, &self.cluster.registry) {
            (Some(bundle), Some(registry)) => {
                bundle.push(registry, self.cluster.driver.as_deref().unwrap_or("docker"), &|what| stages.doing(what)).await?;
                stages.done(&format!("the bundle's images are in {registry}"));
            }
            (Some(_), None) => {
                stages.done("the bundle's images are not loaded: name a --registry, or the cluster must have them")
            }
            (None, _) => {}
        }
        dir.create()?;
        let text = wire::yaml::to_string(&config).map_err(|error| anyhow::anyhow!("{error}"))?;
        write_secret(&dir.kubeconfig(), text.as_bytes())?;
        Ok(Reached { api, triple, bundle })
    }

    /// The releases for a cluster that is there; none where the user waives the check.
    fn triple_for(&self, kubernetes: &str) -> Result<Option<Triple>> {
        // Manifests that are given have no release to look up.
        let given = self.cluster.kube_prometheus_manifests.is_some() && self.cluster.kubevirt_manifests.is_some();
        if self.cluster.any_release || given {
            return Ok(None);
        }
        if let (Some(wanted), Some(found)) = (&self.cluster.kubernetes, install::Minor::of(kubernetes))
            && install::Minor::of(wanted) != Some(found)
        {
            bail!(
                Failure::new(Exit::Usage, format!("the cluster runs Kubernetes {kubernetes}, not {wanted}"))
                    .hint("leave --kubernetes out")
            );
        }
        Ok(Some(Releases::known().check(kubernetes, &self.wanted()).map_err(|misfit| misfit_failure(&misfit))?))
    }

    /// A cluster of the lab's own: the one that is there, or a new one.
    async fn make(&self, dir: &LabDir, bundle: Option<Bundle>, stages: &Stages) -> Result<Reached> {
        let triple = match &bundle {
            Some(bundle) => bundle.triple(),
            None => self.triple()?,
        };
        stages.done(&triple.to_string());
        let size = Size {
            cpus: self.cluster.cpus,
            memory: self.cluster.memory,
            disk: self.cluster.disk,
            feature_gates: self.cluster.feature_gates.clone(),
            mounts: self.cluster.mounts.clone(),
            api_port: self.api_port,
            driver: self.cluster.driver.clone(),
        };
        let (name, kubeconfig) = (dir.name(), dir.kubeconfig());
        let begin = |stage: &str| stages.doing(&format!("{}: {stage}", self.provider.name()));
        let started = Instant::now();
        // The folder first: an interrupted creation is then known, and `down` can take it away.
        let there = match self.provider {
            Provider::Kind => {
                let kind = Kind::find(size.driver.as_deref(), self.offline, &begin).await?;
                let there = self.kind_cluster(dir, &kind, &triple, &size, bundle.as_ref(), stages).await?;
                if let Some(bundle) = &bundle {
                    begin("loading images");
                    kind.load(name, &bundle.images()).await?;
                }
                there
            }
            Provider::Existing | Provider::Embedded => bail!("{} makes no clusters", self.provider.name()),
            Provider::Minikube => {
                let minikube = Minikube::find(size.driver.as_deref(), &kubeconfig).await?;
                let there = minikube.exists(name).await?;
                dir.create()?;
                if !there {
                    self.unfinished(&triple, true).write(dir)?;
                }
                // Starting one that runs, or was stopped, brings it back with its kubeconfig.
                minikube.create(name, &triple.kubernetes, &size, &begin).await?;
                if let Some(bundle) = &bundle {
                    begin("loading images");
                    minikube.load(name, &bundle.images()).await?;
                }
                there
            }
        };
        if let Some(bundle) = &bundle {
            bundle.forget_images()?;
        }
        restrict(&kubeconfig)?;
        let client = reach::kube_client(&kubeconfig, None).await?;
        let api = Api::new(client);
        if there {
            provider::refuse_foreign(&api, self.provider, name, dir.name()).await?;
            stages.done(&format!("{} cluster {name:?} is there already", self.provider.name()));
        } else {
            provider::mark(&api, dir.name(), self.provider).await?;
            if let Some(record) = ClusterRecord::of(dir) {
                ClusterRecord { made: true, ..record }.write(dir)?;
            }
            stages.done(&format!("{} cluster {name:?} ({:.1} s)", self.provider.name(), started.elapsed().as_secs_f64()));
        }
        Ok(Reached { api, triple: Some(triple), bundle })
    }

    /// The lab's cluster of kind: the one that is there, or a new one; whether it was there. One that an interruption left half made is
    /// made anew.
    async fn kind_cluster(
        &self,
        dir: &LabDir,
        kind: &Kind,
        triple: &Triple,
        size: &Size,
        bundle: Option<&Bundle>,
        stages: &Stages,
    ) -> Result<bool> {
        let (name, kubeconfig, mark) = (dir.name(), dir.kubeconfig(), dir.path().join("mark"));
        let begin = |stage: &str| stages.doing(&format!("kind: {stage}"));
        let earlier = ClusterRecord::of(dir);
        if kind.exists(name).await? {
            let half_made = match (&earlier, mark.canonicalize()) {
                (Some(record), Ok(mark)) if !record.made => kind.is_marked(name, &mark).await?,
                (Some(_) | None, _) => false,
            };
            if !half_made {
                dir.create()?;
                match kind.state(name).await? {
                    NodeState::Running => {}
                    NodeState::Paused => drop(kind.restore(name).await?),
                    NodeState::Stopped => {
                        begin("starting the node, which had ended");
                        kind.start(name).await?;
                    }
                }
                write_secret(&kubeconfig, kind.kubeconfig(name).await?.as_bytes())?;
                return Ok(true);
            }
            begin("deleting what an interrupted run left");
            kind.delete(name, &kubeconfig).await?;
            stages.done("kind: deleted a cluster that an interrupted run had left half made");
        }
        dir.create()?;
        std::fs::create_dir_all(&mark)?;
        let mark = mark.canonicalize()?;
        let keeps_network = match &earlier {
            Some(record) if !record.made => record.keeps_network,
            Some(_) | None => kind.has_network().await?,
        };
        let record = self.unfinished(triple, keeps_network);
        record.write(dir)?;
        if let Some(node) = bundle.and_then(Bundle::node) {
            begin("loading the node image");
            kind.load_node(&node).await?;
        }
        let log = dir.path().join("kind.log");
        let making = Making {
            name,
            kubernetes: &triple.kubernetes,
            size,
            kubeconfig: &kubeconfig,
            mark: &mark,
            log: &log,
            retain: self.cluster.retain,
        };
        kind.create(&making, &begin).await?;
        Ok(false)
    }

    /// The record of a cluster that is being made: with it, `up` and `down` know what an interruption leaves.
    fn unfinished(&self, triple: &Triple, keeps_network: bool) -> ClusterRecord {
        ClusterRecord {
            name: self.which.name.clone(),
            provider: self.provider,
            driver: self.cluster.driver.clone(),
            context: None,
            kubernetes: triple.kubernetes.clone(),
            kube_prometheus: None,
            kubevirt: None,
            prometheus: "monitoring/k8s".to_owned(),
            made: false,
            keeps_network,
            complete: false,
        }
    }

    fn triple(&self) -> Result<Triple> {
        let wanted = self.wanted();
        match Releases::known().choose(&wanted) {
            Ok(triple) => Ok(triple),
            Err(misfit) if self.cluster.any_release => {
                let newest = Releases::known().choose(&Wanted::default()).map_err(|_| misfit_failure(&misfit))?;
                Ok(Triple {
                    kubernetes: wanted.kubernetes.unwrap_or(newest.kubernetes),
                    kube_prometheus: wanted.kube_prometheus.unwrap_or(newest.kube_prometheus),
                    kubevirt: wanted.kubevirt.unwrap_or(newest.kubevirt),
                })
            }
            Err(misfit) => Err(misfit_failure(&misfit).into()),
        }
    }

    /// What is to be installed, and what the record says of it.
    async fn plan(&self, survey: &Survey, reached: &Reached, record: &mut ClusterRecord, stages: &Stages) -> Result<Plan> {
        let triple = reached.triple.as_ref();
        let told = |what: &str| stages.doing(what);
        let profile = Profile {
            monitor: survey.monitor.clone(),
            full: self.full,
            network_policies: self.cluster.network_policies,
            resource_metrics: survey.resource_metrics,
            emulation: self.cluster.emulation || !provider::has_kvm(),
            dashboards: crate::manifests::dashboards(),
        };
        let newest = || Releases::known().choose(&Wanted::default()).map_err(|misfit| misfit_failure(&misfit));
        let release = |of: fn(&Triple) -> &String, wanted: Option<&String>| -> Result<String> {
            match (triple, wanted) {
                (Some(triple), _) => Ok(of(triple).clone()),
                (None, Some(wanted)) => Ok(wanted.clone()),
                (None, None) => Ok(of(&newest()?).clone()),
            }
        };
        let mut plan = Plan::default();
        if let Some(prometheus) = &survey.prometheus {
            stages.done(&format!("the cluster has a monitoring stack already: Prometheus {prometheus}"));
        } else {
            let wanted = self.cluster.kube_prometheus.as_ref();
            let files = match (&reached.bundle, &self.cluster.kube_prometheus_manifests) {
                (Some(bundle), _) => bundle.stack()?,
                (None, Some(path)) => source::given_stack(path)?,
                (None, None) => {
                    let release = release(|triple| &triple.kube_prometheus, wanted)?;
                    source::released_stack(&release, self.offline, &told).await?
                }
            };
            let objects = source::objects(&files)?;
            record.kube_prometheus = Some(match &self.cluster.kube_prometheus_manifests {
                Some(path) => path.display().to_string(),
                None => release(|triple| &triple.kube_prometheus, self.cluster.kube_prometheus.as_ref())?,
            });
            record.prometheus = prometheus_of(&objects, &files)?;
            plan.monitoring(objects, &profile);
        }
        if let Some(kubevirt) = &survey.kubevirt {
            stages.done(&format!("the cluster has KubeVirt already: {kubevirt}"));
            return Ok(plan);
        }
        let (files, name) = match (&reached.bundle, &self.cluster.kubevirt_manifests) {
            (Some(bundle), _) => (bundle.kubevirt()?, bundle.index.kubevirt.clone()),
            (None, Some(path)) => (source::given_folder(path)?, path.display().to_string()),
            (None, None) => {
                let release = release(|triple| &triple.kubevirt, self.kubevirt.as_ref())?;
                (source::released_kubevirt(&release, self.offline, &told).await?, release)
            }
        };
        record.kubevirt = Some(name);
        plan.kubevirt(source::objects(&files)?, &profile);
        Ok(plan)
    }

    /// Waits until Prometheus scrapes every pod of KubeVirt that has metrics.
    async fn wait_for_targets(&self, api: &Api, record: &ClusterRecord, stages: &Stages) -> Result<Vec<metrics::Target>> {
        let cluster = why::Cluster::new(api.client().clone());
        let object = cluster.prometheus_object(Some(&record.prometheus)).await?;
        let prometheus = cluster.prometheus(&object);
        let mut deadline = wire::patience::Deadline::after(self.patience());
        loop {
            let expected = api.list("/api/v1/pods?labelSelector=prometheus.kubevirt.io%3Dtrue").await.unwrap_or_default().len();
            let (targets, error) = match prometheus.targets().await {
                Ok(targets) => (reach::kubevirt_targets(targets.active_targets), None),
                Err(error) => (Vec::new(), Some(error.to_string())),
            };
            let up = targets.iter().filter(|target| target.health == "up").count();
            if expected > 0 && up >= expected && up == targets.len() {
                stages.done(&format!("{up} KubeVirt targets up"));
                return Ok(targets);
            }
            if deadline.is_over() {
                let seen = error.unwrap_or_else(|| format!("{up} of {} targets up, {expected} pods have metrics", targets.len()));
                bail!(
                    Failure::new(
                        Exit::LabFailed,
                        format!("Prometheus does not scrape KubeVirt after {} s: {seen}", self.patience().as_secs())
                    )
                    .hint(format!("ask why: lab why{} kubevirt_info", name_flag(&record.name)))
                );
            }
            stages.doing(&format!("waiting for Prometheus: {up} of {} targets up, {expected} pods", targets.len()));
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    fn show_cluster(&self, dir: &LabDir, record: &ClusterRecord, targets: &[metrics::Target]) -> Result<Exit> {
        let kubeconfig = dir.kubeconfig();
        let document = json!({
            "name": record.name, "provider": record.provider, "kubernetes": record.kubernetes, "kubevirt": record.kubevirt,
            "kubePrometheus": record.kube_prometheus, "kubeconfig": kubeconfig, "prometheus": record.prometheus, "targets": targets,
        });
        if self.output.json(&document) {
            return Ok(Exit::Success);
        }
        say!("\nLab {:?} on {}: targets of Prometheus {}\n", record.name, record.provider.name(), record.prometheus);
        say_text!(status::targets_table(targets));
        let name = name_flag(&record.name);
        say!("\nNext:");
        say!("  export KUBECONFIG={}", kubeconfig.display());
        say!("  kubectl get pods -A");
        say!("  cargo xtask lab open{name} prometheus");
        say!("  cargo xtask lab query{name} 'up'");
        say!("  cargo xtask lab down{name}");
        Ok(Exit::Success)
    }
}

/// The flag that names a lab, where it is needed.
pub(crate) fn name_flag(name: &str) -> String {
    if name == "lab" { String::new() } else { format!(" --name {name}") }
}

fn misfit_failure(misfit: &install::Misfit) -> Failure {
    Failure::new(Exit::Usage, misfit.message.clone()).hint(misfit.hint.clone())
}

/// An installation that stopped, with all that the cluster tells of it.
pub(crate) fn failure(error: &install::InstallError) -> anyhow::Error {
    let mut message = error.to_string();
    if let install::InstallError::Late { why, .. } = error {
        for line in why {
            message.push_str("\n  ");
            message.push_str(line);
        }
    }
    let mut failure = Failure::new(Exit::LabFailed, message);
    failure.hint = error.hint();
    failure.into()
}

/// Refuses a cluster on which somebody else has begun.
fn refuse_others(survey: &Survey) -> Result<()> {
    if let Some(other) = survey.other_labs.first() {
        bail!(
            Failure::new(Exit::LabFailed, format!("lab {other:?} is on this cluster"))
                .hint(format!("a cluster has one lab at a time: `lab down --name {other}` first"))
        );
    }
    if survey.prometheus.is_none() && !survey.parts.is_empty() {
        bail!(
            Failure::new(
                Exit::LabFailed,
                format!("the cluster has parts of a monitoring stack that no lab installed: {}", survey.parts.join(", "))
            )
            .hint(
                "finish or remove it; a lab uses a whole one (a prometheus-operator and a Prometheus object) or installs its own"
            )
        );
    }
    Ok(())
}

/// The Prometheus object of a stack.
fn prometheus_of(objects: &[Value], files: &[Manifest]) -> Result<String> {
    let unpacked = install::unpack(objects.to_vec());
    let found = unpacked.iter().find(|found| found["kind"] == "Prometheus").map(kubeapi::object::key);
    found.ok_or_else(|| {
        let place = files.first().map_or("", |file| file.path.as_str());
        Failure::new(Exit::Usage, format!("there is no Prometheus object among these {} files ({place} …)", files.len()))
            .hint("give the folder of a release of kube-prometheus, or its .tar.gz")
            .into()
    })
}

/// A kubeconfig is a secret, whoever wrote it.
fn restrict(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    if path.exists() {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    }
    Ok(())
}

/// Says so where the cluster's clock is not this machine's.
async fn warn_of_skew(api: &Api) {
    if let Some(skew) = api.clock_skew().await.filter(|skew| skew.abs() > SKEW) {
        eprintln!(
            "warning: the cluster's clock is {} s {} this machine's: times of alerts and certificates will be wrong",
            skew.abs(),
            if skew > 0 { "ahead of" } else { "behind" }
        );
    }
}
