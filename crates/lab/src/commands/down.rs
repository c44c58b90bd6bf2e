//! `lab down`.

use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Which;
use crate::control::Control;
use crate::exit::Exit;
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
    if ran {
        let record = dir.record();
        if let Some(record) = &record {
            // A supervisor that does not answer is ended by force below.
            let _ = Control::of(record)?.stop().await;
        }
        let deadline = Instant::now() + PATIENCE;
        while dir.is_running() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if dir.is_running()
            && let Some(record) = record
        {
            let _ = kill(Pid::from_raw(record.pid.cast_signed()), Signal::SIGKILL);
            let deadline = Instant::now() + PATIENCE;
            while dir.is_running() && Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
    cluster::kill_leftovers(&dir.pids());
    dir.remove()?;
    Ok(ran)
}
