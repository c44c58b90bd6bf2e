//! The proxy over real sockets and TLS, with both protocols.

mod bench;
mod matrix;
mod particular;
