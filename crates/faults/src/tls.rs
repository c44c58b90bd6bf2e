//! Servers that no client should believe: their certificates, for connections that are to fail in the handshake.

use std::net::IpAddr;
use std::sync::Arc;

use wire::pki::{CertificateAuthority, PkiError};

use crate::rule::TlsEffect;

/// The protocols that the real server offers; a wrong one differs in its certificate alone.
const ALPN: [&str; 2] = ["h2", "http/1.1"];

/// TLS configurations with certificates that are wrong in one way each.
pub struct WrongIdentities {
    expired: Arc<rustls::ServerConfig>,
    wrong_name: Arc<rustls::ServerConfig>,
    unknown_authority: Arc<rustls::ServerConfig>,
}

impl WrongIdentities {
    /// Certificates of the authority that clients know (and of one that they do not), for a server at `address`.
    ///
    /// # Errors
    /// When a key cannot be generated.
    pub fn new(authority: &CertificateAuthority, address: IpAddr) -> Result<Self, PkiError> {
        let names = ["kubernetes", "localhost"];
        let stranger = CertificateAuthority::new("kubernetes")?;
        Ok(Self {
            expired: authority.expired_server("kube-apiserver", &names, &[address])?.server_config(&ALPN)?,
            wrong_name: authority.server("elsewhere", &["elsewhere.example"], &[])?.server_config(&ALPN)?,
            unknown_authority: stranger.server("kube-apiserver", &names, &[address])?.server_config(&ALPN)?,
        })
    }

    /// The configuration of an effect that has one.
    pub(crate) fn config(&self, effect: TlsEffect) -> Option<Arc<rustls::ServerConfig>> {
        match effect {
            TlsEffect::Expired => Some(self.expired.clone()),
            TlsEffect::WrongName => Some(self.wrong_name.clone()),
            TlsEffect::UnknownAuthority => Some(self.unknown_authority.clone()),
            TlsEffect::Abort | TlsEffect::PlainHttp => None,
        }
    }
}
