//! `lab down`.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Which;
use crate::control::Control;
use crate::exit::{Exit, Failure};
use crate::state::{LabDir, StateRoot};

/// How long the supervisor has to stop by itself.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Args)]
pub(super) struct Down {
    #[command(flatten)]
    which: Which,
    /// Take down every lab of this folder.
    #[arg(long)]
    all: bool,
}

impl Down {
    pub(super) async fn run(self) -> Result<Exit> {
        if !self.all {
            let dir = self.which.dir()?;
            let what = if stop(&dir).await? { "is down" } else { "was not running; nothing is left of it" };
            say!("lab {:?} {what}", dir.name());
            return Ok(Exit::Success);
        }
        let root = StateRoot::from_env();
        for name in root.names() {
            stop(&root.lab(&name)?).await?;
            say!("lab {name:?} is down");
        }
        Ok(Exit::Success)
    }
}

/// Stops a lab and removes what it left; whether it ran.
async fn stop(dir: &LabDir) -> Result<bool> {
    let ran = dir.is_running();
    let mut asked = false;
    let deadline = Instant::now() + PATIENCE;
    while dir.is_running() && Instant::now() < deadline {
        // A lab that is coming up has no record yet; it is asked as soon as it can be.
        if let Some(record) = dir.record().filter(|_| !asked) {
            asked = Control::of(&record)?.stop().await.is_ok();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    if dir.is_running()
        && let Some(pid) = dir.holder()
    {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        let deadline = Instant::now() + PATIENCE;
        while dir.is_running() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    if dir.is_running() {
        bail!(Failure::new(Exit::LabFailed, format!("lab {:?} does not stop", dir.name())));
    }
    dir.remove()?;
    Ok(ran)
}
