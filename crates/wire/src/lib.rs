//! What every layer speaks: certificates, TLS listeners, HTTP bodies, client connections, YAML, and numbers with their nouns.
//!
//! This crate knows neither Kubernetes nor Prometheus. It exists so that the API server, the fault proxy and the
//! simulated components accept and open connections in one way, and so that exactly one TLS provider is installed.

mod body;
mod connect;
mod listen;
pub mod mux;
mod one_key;
pub mod patience;
pub mod pki;
mod plural;
mod token;
pub mod yaml;

pub use body::{Body, BodyError, collect, collect_from, drain, empty, full, incoming, json, stream, stream_channel, text};
pub use connect::{ConnectError, Connection, Dial, Dialling, Protocol, never_begun, stream_code};
pub use listen::{
    Abort, Admission, Answer, ConnectionInfo, Gate, Handler, IncomingConnection, PeerStream, accept_tls, bind, serve,
    serve_on_threads,
};
pub use one_key::{OneKey, one_key};
pub use plural::{counted, counted_as};
pub use token::random_token;

/// Installs ring as the process-wide TLS provider. Every binary and every test that opens TLS calls it; calling it
/// again does nothing.
pub fn install_crypto_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}
