//! The program before a real API server, over real sockets and TLS.

mod bench;
mod kubeconfigs;
mod life;
mod passing;
