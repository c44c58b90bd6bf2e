//! Images of programs that a lab does without: they answer, and say that they are simulated.

use std::sync::Arc;

use cluster::{ContainerContext, Exit, Program};
use futures_util::future::BoxFuture;
use http::StatusCode;
use metrics::Kind;

use super::until_stopped;
use crate::page::{head, sample};
use crate::serve::{page, serve};

/// A program that is there and does nothing but say so, at one port.
pub struct StandIn {
    name: &'static str,
    port: u16,
    tls: bool,
}

impl StandIn {
    /// A stand-in for the program of that name.
    pub fn new(name: &'static str, port: u16, tls: bool) -> Self {
        Self { name, port, tls }
    }

    fn start(&self, context: &ContainerContext) -> Result<(), String> {
        let name = self.name;
        serve((context.address, self.port).into(), self.tls, context.stop.clone(), move |request| {
            let path = request.uri().path().to_owned();
            async move {
                Some(match path.as_str() {
                    "/metrics" => page(about(name)),
                    path if path.contains("health") || path.ends_with("z") => wire::text(StatusCode::OK, "ok\n".to_owned()),
                    _ => wire::text(StatusCode::OK, format!("This {name} is simulated: it is there and does nothing.\n")),
                })
            }
        })?;
        context.logs.line(&format!("this {name} is simulated: it is there and does nothing"));
        Ok(())
    }
}

fn about(name: &str) -> String {
    let mut out = String::new();
    head(&mut out, "lab_simulated_info", Kind::Gauge, "A program that a lab does without; nothing else is on this page.");
    sample(&mut out, "lab_simulated_info", [("program", name)].into_iter(), 1.0);
    out
}

impl Program for StandIn {
    fn run(self: Arc<Self>, context: ContainerContext) -> BoxFuture<'static, Exit> {
        Box::pin(async move {
            let started = self.start(&context);
            until_stopped(&context, started).await
        })
    }
}
