//! Carries out a plan: applies, waits, tells. A second run finds what the first one left and goes on.

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

/// What an installer tells while it works.
#[derive(Clone, Copy, Debug)]
pub enum Progress<'a> {
    /// What it does or waits for at the moment.
    Doing(&'a str),
    /// A stage is done.
    Done(&'a str),
}

/// How many objects of a plan were ours, and how many were there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Created, or brought up to date.
    pub applied: usize,
    /// Somebody else's, and left as they are.
    pub kept: usize,
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
            Self::Late { .. } => Some("what has been installed stays; run the same command again to go on".to_owned()),
            _ => None,
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
                if self.ensure(stage, object).await? {
                    counts.applied += 1;
                } else {
                    counts.kept += 1;
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

    /// Applies an object that is ours or not there; whether it did.
    async fn ensure(&self, stage: &Stage, object: &Value) -> Result<bool, InstallError> {
        let what = || format!("{} {}", object::kind(object), object::key(object));
        let refused = |source| InstallError::Refused { stage: stage.name.clone(), what: what(), source };
        if let Some(found) = self.api.find(object).await.map_err(refused)? {
            match found["metadata"]["labels"][INSTALLED_BY].as_str() {
                Some(lab) if lab == self.lab => {}
                Some(lab) => return Err(InstallError::OtherLab { what: what(), lab: lab.to_owned() }),
                None => return Ok(false),
            }
        }
        let mut ours = object.clone();
        if !ours["metadata"]["labels"].is_object() {
            ours["metadata"]["labels"] = json!({});
        }
        ours["metadata"]["labels"][INSTALLED_BY] = self.lab.into();
        self.api.apply(&ours).await.map_err(refused)?;
        Ok(true)
    }

    async fn wait_for(&self, stage: &Stage, wait: &Wait) -> Result<(), InstallError> {
        let mut deadline = wire::patience::Deadline::after(self.patience);
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
            (self.told)(Progress::Doing(&format!("{}: waiting: {first}", stage.name)));
            tokio::time::sleep(PERIOD).await;
        }
    }
}
