//! Carries out a plan: applies, waits, tells. A second run finds what the first one left and goes on.

use std::fmt;
use std::time::{Duration, Instant};

use kubeapi::object;
use serde_json::{Value, json};

use crate::INSTALLED_BY;
use crate::api::{Api, ApiError};
use crate::explain;
use crate::plan::{Plan, Stage, Wait};
use crate::profile::{KUBEVIRT, MONITORING};
use crate::wait;

/// How often a state is looked at.
pub(crate) const PERIOD: Duration = Duration::from_millis(250);
/// How often pods and events are looked at for what they say about a wait.
const EXPLAIN: Duration = Duration::from_secs(2);

/// What an installer tells while it works.
#[derive(Clone, Copy, Debug)]
pub enum Progress<'a> {
    /// What it does or waits for at the moment.
    Doing(&'a str),
    /// A stage is done.
    Done(&'a str),
}

/// How many objects of a plan were new, how many the lab had installed before, and how many are others'.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Created.
    pub created: usize,
    /// The lab's from an earlier run, and applied again.
    pub again: usize,
    /// Somebody else's, and left as they are.
    pub kept: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{} installed", wire::counted(self.created, "object"))?;
        if self.again > 0 {
            write!(to, ", {} of an earlier run applied again", self.again)?;
        }
        if self.kept > 0 {
            write!(to, ", {} of others left alone", self.kept)?;
        }
        Ok(())
    }
}

/// What became of an object of a plan.
enum Ensured {
    Created,
    Again,
    Kept,
}

/// An installation stopped.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// An object was refused.
    #[error("{stage}: {what}: {source}")]
    Refused {
        /// The stage.
        stage: String,
        /// The object.
        what: String,
        /// What the server says.
        source: ApiError,
    },
    /// An object belongs to another lab.
    #[error("{what} was installed by lab {lab:?}")]
    OtherLab {
        /// The object.
        what: String,
        /// That lab.
        lab: String,
    },
    /// A state was not reached in time.
    #[error("{stage}: not there after {seconds} s: {}", missing.join(", "))]
    Late {
        /// The stage.
        stage: String,
        /// How long was waited.
        seconds: u64,
        /// What is missing.
        missing: Vec<String>,
        /// Why, as far as the cluster tells: lines for people.
        why: Vec<String>,
    },
    /// Pods want images that cannot be pulled, and that nobody has brought.
    #[error("{stage}: {} not in the bundle, and cannot be pulled: {}", if images.len() == 1 { "an image is" } else { "images are" }, images.join(", "))]
    Images {
        /// The stage.
        stage: String,
        /// The images.
        images: Vec<String>,
    },
    /// The fault proxy has no certificate.
    #[error("the certificate of the fault proxy was not signed: {0}")]
    Certificate(String),
    /// There is nothing that the fault proxy could stand before.
    #[error("the cluster has no KubeVirt")]
    NoKubeVirt,
    /// The server did not answer a question.
    #[error(transparent)]
    Api(#[from] ApiError),
}

impl InstallError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Refused { source: ApiError::Refused { code: 409, .. }, .. } => {
                Some("somebody else has changed what the lab installed: undo that, or take the lab down and up again".to_owned())
            }
            Self::Refused { source: ApiError::Refused { code: 403, .. }, .. } => {
                Some("the lab needs the rights of a cluster administrator; `kubectl auth can-i '*' '*'` must say yes".to_owned())
            }
            Self::Refused { source: ApiError::UnknownKind { .. }, .. } => {
                Some("its definition is missing: give the release whole, with manifests/setup".to_owned())
            }
            Self::OtherLab { lab, .. } => {
                Some(format!("a cluster has one lab at a time: take that one down first (`--name {lab}`)"))
            }
            Self::Certificate(_) => Some(
                "the cluster's controller manager must sign for kubernetes.io/kubelet-serving (its flags --cluster-signing-…)"
                    .to_owned(),
            ),
            Self::NoKubeVirt => Some("`lab up` installs it".to_owned()),
            Self::Images { .. } => Some(
                "load them into the node (`kind load docker-image IMAGE --name LAB`) and run the same command again, or make the bundle \
                 anew with this program"
                    .to_owned(),
            ),
            Self::Late { .. } => Some("what has been installed stays; run the same command again to go on".to_owned()),
            Self::Refused { .. } | Self::Api(_) => None,
        }
    }
}

/// Installs for a lab.
pub struct Installer<'a> {
    /// The cluster.
    pub api: &'a Api,
    /// The lab's name.
    pub lab: &'a str,
    /// How long each state is waited for.
    pub patience: Duration,
    /// Which images were brought to the nodes, where they are to be all that is needed.
    pub brought: Option<&'a (dyn Fn(&str) -> bool + Send + Sync)>,
    /// Who is told.
    pub told: &'a (dyn Fn(Progress<'_>) + Send + Sync),
}

impl Installer<'_> {
    /// Carries out a plan.
    ///
    /// # Errors
    /// When an object is refused or a state is not reached; what was applied until then stays.
    pub async fn run(&self, plan: &Plan) -> Result<Counts, InstallError> {
        let mut counts = Counts::default();
        for stage in &plan.stages {
            let started = Instant::now();
            for (index, object) in stage.objects.iter().enumerate() {
                (self.told)(Progress::Doing(&format!("{}: {} of {} objects", stage.name, index, stage.objects.len())));
                match self.ensure(stage, object).await? {
                    Ensured::Created => counts.created += 1,
                    Ensured::Again => counts.again += 1,
                    Ensured::Kept => counts.kept += 1,
                }
            }
            for wait in &stage.waits {
                self.wait_for(stage, wait).await?;
                if matches!(wait, Wait::Established(_)) {
                    self.api.forget_kinds();
                }
            }
            (self.told)(Progress::Done(&format!("{} ({:.1} s)", stage.name, started.elapsed().as_secs_f64())));
        }
        Ok(counts)
    }

    /// Applies an object that is ours or not there.
    async fn ensure(&self, stage: &Stage, object: &Value) -> Result<Ensured, InstallError> {
        let what = || format!("{} {}", object::kind(object), object::key(object));
        let refused = |source| InstallError::Refused { stage: stage.name.clone(), what: what(), source };
        let mut ensured = Ensured::Created;
        if let Some(found) = self.api.find(object).await.map_err(refused)? {
            match found["metadata"]["labels"][INSTALLED_BY].as_str() {
                Some(lab) if lab == self.lab => ensured = Ensured::Again,
                Some(lab) => return Err(InstallError::OtherLab { what: what(), lab: lab.to_owned() }),
                None => return Ok(Ensured::Kept),
            }
        }
        let mut ours = object.clone();
        if !ours["metadata"]["labels"].is_object() {
            ours["metadata"]["labels"] = json!({});
        }
        ours["metadata"]["labels"][INSTALLED_BY] = self.lab.into();
        self.api.apply(&ours).await.map_err(refused)?;
        Ok(ensured)
    }

    async fn wait_for(&self, stage: &Stage, wait: &Wait) -> Result<(), InstallError> {
        let mut deadline = wire::patience::Deadline::after(self.patience);
        let (mut explained, mut latest, mut about) = (Instant::now(), String::new(), String::new());
        loop {
            let missing = wait::missing(self.api, wait).await?;
            let Some(first) = missing.first() else { return Ok(()) };
            if deadline.is_over() {
                let mut namespaces = vec![MONITORING, KUBEVIRT];
                if let Wait::Workloads { namespace, .. } = wait
                    && !namespaces.contains(&namespace.as_str())
                {
                    namespaces.insert(0, namespace);
                }
                let mut why = explain::unready(self.api, &namespaces).await;
                if let Wait::Exists { otherwise, .. } = wait {
                    why.push(otherwise.clone());
                }
                return Err(InstallError::Late { stage: stage.name.clone(), seconds: self.patience.as_secs(), missing, why });
            }
            if *first != about {
                // What was found out is about something else.
                latest.clear();
                about.clone_from(first);
            }
            if explained.elapsed() >= EXPLAIN {
                latest = explain::latest(self.api, first).await.map_or_else(String::new, |latest| format!(" ({latest})"));
                explained = Instant::now();
                self.refuse_missing_images(stage).await?;
            }
            (self.told)(Progress::Doing(&format!("{}: waiting: {first}{latest}", stage.name)));
            tokio::time::sleep(PERIOD).await;
        }
    }

    /// Fails at once where an image is missing that nobody will bring: waiting would not help.
    async fn refuse_missing_images(&self, stage: &Stage) -> Result<(), InstallError> {
        if let Some(brought) = self.brought {
            let mut images = explain::not_pulled(self.api, &[MONITORING, KUBEVIRT]).await;
            images.retain(|image| !brought(image));
            if !images.is_empty() {
                return Err(InstallError::Images { stage: stage.name.clone(), images: images.into_iter().collect() });
            }
        }
        Ok(())
    }
}
