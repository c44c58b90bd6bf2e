//! The image of node-exporter: a few values of this machine at `--web.listen-address`.

use std::sync::Arc;

use cluster::{ContainerContext, Exit, Program};
use futures_util::future::BoxFuture;

use super::{flag, port, until_stopped};
use crate::machine::{self, Texts};
use crate::serve::{page, serve};

/// node-exporter.
pub struct NodeExporter;

impl NodeExporter {
    fn start(context: &ContainerContext) -> Result<(), String> {
        let arguments = context.arguments();
        let listen = port(flag(&arguments, "web.listen-address").unwrap_or(":9100"))?;
        serve((context.address, listen).into(), false, context.stop.clone(), |request| async move {
            if request.uri().path() != "/metrics" {
                return None;
            }
            let now = jiff::Timestamp::now().as_millisecond() as f64 / 1000.0;
            Some(page(machine::page(&read().await, now)))
        })
    }
}

/// The texts below /proc; what this system does not have stays empty.
async fn read() -> Texts {
    let file = async |path: &str| tokio::fs::read_to_string(path).await.unwrap_or_default();
    Texts {
        stat: file("/proc/stat").await,
        meminfo: file("/proc/meminfo").await,
        loadavg: file("/proc/loadavg").await,
        net_dev: file("/proc/net/dev").await,
        hostname: file("/proc/sys/kernel/hostname").await,
        release: file("/proc/sys/kernel/osrelease").await,
        version: file("/proc/sys/kernel/version").await,
    }
}

impl Program for NodeExporter {
    fn run(self: Arc<Self>, context: ContainerContext) -> BoxFuture<'static, Exit> {
        Box::pin(async move {
            let started = Self::start(&context);
            until_stopped(&context, started).await
        })
    }
}
