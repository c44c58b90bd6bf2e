//! The image of kube-rbac-proxy: TLS and a bearer's rights in front of a page that another container of the pod serves.

use std::sync::Arc;

use apiserver::Client;
use cluster::{ContainerContext, Exit, Program};
use futures_util::future::BoxFuture;
use http::{Request, Response, StatusCode};
use wire::{Body, Connection, Dial};

use super::{flag, port, until_stopped};
use crate::auth::{self, Access};
use crate::serve::{MAX_PAGE, serve};

/// kube-rbac-proxy. Loopback in a pod is the pod's own address here: there is one network namespace for all.
pub struct AuthProxy {
    client: Client,
}

impl AuthProxy {
    /// One that reviews tokens and access with this client.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    fn start(&self, context: &ContainerContext) -> Result<(), String> {
        let arguments = context.arguments();
        let listen = port(flag(&arguments, "secure-listen-address").ok_or("--secure-listen-address is missing")?)?;
        let upstream = flag(&arguments, "upstream").ok_or("--upstream is missing")?;
        let upstream = port(upstream.trim_end_matches('/'))?;
        let dial = Arc::new(Dial { address: (context.address, upstream).into(), source: None, tls: None, server_name: None });
        let client = self.client.clone();
        serve((context.address, listen).into(), true, context.stop.clone(), move |request| {
            let (client, dial) = (client.clone(), dial.clone());
            async move {
                let path = request.uri().path().to_owned();
                if let Some(refusal) = auth::refused(&client, Access::Path, "", &path, request.headers()) {
                    return Some(refusal);
                }
                let gone = |why: String| wire::text(StatusCode::BAD_GATEWAY, format!("{why}\n"));
                Some(forward(&dial, &path).await.unwrap_or_else(gone))
            }
        })
    }
}

/// Asks what is behind for a path.
async fn forward(dial: &Dial, path: &str) -> Result<Response<Body>, String> {
    let connection = Connection::open(dial).await.map_err(|error| error.to_string())?;
    let request =
        Request::get(path).header("host", dial.address.to_string()).body(wire::empty()).map_err(|error| error.to_string())?;
    let (mut head, body) = connection.send(request).await.map_err(|error| error.to_string())?.into_parts();
    let bytes = wire::collect(wire::incoming(body), MAX_PAGE).await.map_err(|error| error.to_string())?;
    head.headers.remove(http::header::TRANSFER_ENCODING);
    head.headers.remove(http::header::CONNECTION);
    Ok(Response::from_parts(head, wire::full(bytes)))
}

impl Program for AuthProxy {
    fn run(self: Arc<Self>, context: ContainerContext) -> BoxFuture<'static, Exit> {
        Box::pin(async move {
            let started = self.start(&context);
            until_stopped(&context, started).await
        })
    }
}
