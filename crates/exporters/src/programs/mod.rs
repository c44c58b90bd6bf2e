//! The programs that serve the pages, as containers of a lab or beside its node.

mod auth_proxy;
mod kubelet;
mod node_exporter;
mod stand_in;
mod state_metrics;

pub use auth_proxy::AuthProxy;
pub use kubelet::Kubelet;
pub use node_exporter::NodeExporter;
pub use stand_in::StandIn;
pub use state_metrics::StateMetrics;

use cluster::{ContainerContext, Exit};

/// Waits for the end of a container whose listeners are up, or ends it with what kept them from it.
async fn until_stopped(context: &ContainerContext, started: Result<(), String>) -> Exit {
    match started {
        Ok(()) => {
            context.stop.cancelled().await;
            Exit::code(0)
        }
        Err(why) => {
            context.logs.line(&why);
            Exit::code(1)
        }
    }
}

/// The value of `--NAME=VALUE` among a container's arguments; the last one counts.
fn flag<'a>(arguments: &'a [String], name: &str) -> Option<&'a str> {
    arguments.iter().rev().find_map(|argument| argument.strip_prefix("--")?.strip_prefix(name)?.strip_prefix('='))
}

/// The port of `HOST:PORT`, `:PORT` or `PORT`.
fn port(text: &str) -> Result<u16, String> {
    let digits = text.rsplit(':').next().unwrap_or(text);
    digits.parse().map_err(|_| format!("{text:?} names no port"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read() {
        let arguments = ["--port=8081", "--port=8082", "--listen=:9100", "--other"].map(str::to_owned);
        assert_eq!(flag(&arguments, "port"), Some("8082"));
        assert_eq!(flag(&arguments, "por"), None);
        assert_eq!(flag(&arguments, "other"), None);
        for (text, expected) in
            [("8081", Ok(8081)), (":9100", Ok(9100)), ("127.0.0.1:1", Ok(1)), ("[$(IP)]:9100", Ok(9100)), ("x", Err(()))]
        {
            assert_eq!(port(text).map_err(|_| ()), expected, "{text}");
        }
    }
}
