//! Listening for scrapes: one handler for pages, plain or over TLS, answered in HTTP/1.1 as Go's exporters are mostly asked.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;
use wire::pki::CertificateAuthority;
use wire::{Answer, Body};

/// The largest page that is passed on.
pub(crate) const MAX_PAGE: usize = 64 * 1024 * 1024;

/// A page in the text format.
pub(crate) fn page(text: String) -> Response<Body> {
    let mut response = wire::text(StatusCode::OK, text);
    let kind = http::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Listens at an address and answers what is asked with GET until `stop`; other methods and whatever `answer` has no answer to are
/// refused as Go's mux does.
///
/// # Errors
/// In words, when it cannot listen or has no certificate.
pub(crate) fn serve<F, Fut>(address: SocketAddr, tls: bool, stop: CancellationToken, answer: F) -> Result<(), String>
where
    F: Fn(Request<Incoming>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Option<Response<Body>>> + Send + 'static,
{
    let listener = wire::bind(address).map_err(|error| format!("cannot listen on {address}: {error}"))?;
    let identity = if tls {
        // Self-signed, as kube-rbac-proxy and a kubelet make their own.
        let authority = CertificateAuthority::new("self-signed").map_err(|error| error.to_string())?;
        let identity = authority.server("exporter", &["localhost"], &[address.ip()]).map_err(|error| error.to_string())?;
        Some(identity.server_config(&["http/1.1"]).map_err(|error| error.to_string())?)
    } else {
        None
    };
    let answer = Arc::new(answer);
    let handler = move |request: Request<Incoming>| {
        let answer = answer.clone();
        async move {
            if request.method() != Method::GET {
                return Answer::Ok(wire::text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n".to_owned()));
            }
            let none = || wire::text(StatusCode::NOT_FOUND, "404 page not found\n".to_owned());
            Ok(answer(request).await.unwrap_or_else(none))
        }
    };
    tokio::spawn(wire::serve(listener, identity, Arc::new(handler), Arc::new(()), stop));
    Ok(())
}
