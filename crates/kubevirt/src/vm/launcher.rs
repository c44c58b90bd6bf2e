//! What runs in a launcher's pod: nothing. It is there as long as its VMI is.

use std::sync::Arc;

use cluster::{ContainerContext, Exit, Program};
use futures_util::future::BoxFuture;

/// virt-launcher.
pub struct Launcher;

impl Program for Launcher {
    fn run(self: Arc<Self>, context: ContainerContext) -> BoxFuture<'static, Exit> {
        Box::pin(async move {
            context.stop.cancelled().await;
            Exit::code(0)
        })
    }
}
