//! A small certificate authority: one self-signed root, server certificates with names and addresses, client
//! certificates whose organisations are Kubernetes groups.
//!
//! Everything is made in memory; who writes a key to disk decides on its permissions.

mod request;

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub use request::{Asked, NewRequest, Purpose};

/// A certificate could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// rcgen refused the parameters.
    #[error("cannot make certificate {name}")]
    Generate {
        /// The common name asked for.
        name: String,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// rustls refused the certificate or key.
    #[error("cannot use certificate")]
    Tls(#[from] rustls::Error),
    /// The PEM text is not PEM.
    #[error("cannot read PEM")]
    Pem(#[from] rustls::pki_types::pem::Error),
}

/// A certificate chain with its key, both PEM.
#[derive(Clone)]
pub struct Identity {
    /// The certificate, followed by nothing: the authority is handed out apart.
    pub certificate_pem: String,
    /// The private key. Secret.
    pub key_pem: String,
}

/// A root that signs server and client certificates.
pub struct CertificateAuthority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl CertificateAuthority {
    /// A new self-signed root.
    ///
    /// # Errors
    /// When the key cannot be generated.
    pub fn new(common_name: &str) -> Result<Self, PkiError> {
        let error = |source| PkiError::Generate { name: common_name.to_owned(), source };
        let mut params = CertificateParams::default();
        params.distinguished_name = named(common_name, None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().map_err(error)?;
        Ok(Self { issuer: CertifiedIssuer::self_signed(params, key).map_err(error)? })
    }

    /// The root certificate, to be trusted by clients.
    pub fn certificate_pem(&self) -> String {
        self.issuer.pem()
    }

    /// A serving certificate for DNS names and IP addresses.
    ///
    /// # Errors
    /// When a name is not a DNS name.
    pub fn server(&self, common_name: &str, names: &[&str], addresses: &[IpAddr]) -> Result<Identity, PkiError> {
        self.sign(server_params(common_name, names, addresses)?, common_name)
    }

    /// The same, but its time ended years ago: for clients that must not believe it.
    ///
    /// # Errors
    /// When a name is not a DNS name.
    pub fn expired_server(&self, common_name: &str, names: &[&str], addresses: &[IpAddr]) -> Result<Identity, PkiError> {
        let mut params = server_params(common_name, names, addresses)?;
        params.not_before = rcgen::date_time_ymd(2019, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        self.sign(params, common_name)
    }

    /// A client certificate: `common_name` is the user, `organisation` the group.
    ///
    /// # Errors
    /// When the key cannot be generated.
    pub fn client(&self, common_name: &str, organisation: Option<&str>) -> Result<Identity, PkiError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = named(common_name, organisation);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params, common_name)
    }

    fn sign(&self, params: CertificateParams, name: &str) -> Result<Identity, PkiError> {
        let error = |source| PkiError::Generate { name: name.to_owned(), source };
        let key = KeyPair::generate().map_err(error)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(error)?;
        Ok(Identity { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }
}

fn server_params(common_name: &str, names: &[&str], addresses: &[IpAddr]) -> Result<CertificateParams, PkiError> {
    let error = |source| PkiError::Generate { name: common_name.to_owned(), source };
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).map_err(error)?;
    params.subject_alt_names.extend(addresses.iter().map(|address| SanType::IpAddress(*address)));
    params.distinguished_name = named(common_name, None);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

fn named(common_name: &str, organisation: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    if let Some(organisation) = organisation {
        name.push(DnType::OrganizationName, organisation);
    }
    name.push(DnType::CommonName, common_name);
    name
}

impl Identity {
    fn chain(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), PkiError> {
        let chain = CertificateDer::pem_slice_iter(self.certificate_pem.as_bytes()).collect::<Result<Vec<_>, _>>()?;
        Ok((chain, PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes())?))
    }

    /// A TLS server configuration that offers `alpn`, most wanted first, and asks for no client certificate.
    ///
    /// # Errors
    /// When certificate and key do not fit together.
    pub fn server_config(&self, alpn: &[&str]) -> Result<Arc<rustls::ServerConfig>, PkiError> {
        let (chain, key) = self.chain()?;
        let mut config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Arc::new(config))
    }
}

impl Identity {
    /// The same as [`Identity::server_config`], but clients may show a certificate of `authority`; another one ends the
    /// handshake.
    ///
    /// # Errors
    /// When certificate and key do not fit together.
    pub fn server_config_with_clients(
        &self,
        alpn: &[&str],
        authority: &CertificateAuthority,
    ) -> Result<Arc<rustls::ServerConfig>, PkiError> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority.issuer.der().clone())?;
        let verifier = rustls::server::WebPkiClientVerifier::builder(Arc::new(roots))
            .allow_unauthenticated()
            .build()
            .map_err(|error| PkiError::Tls(rustls::Error::General(error.to_string())))?;
        let (chain, key) = self.chain()?;
        let mut config = rustls::ServerConfig::builder().with_client_cert_verifier(verifier).with_single_cert(chain, key)?;
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Arc::new(config))
    }

    /// A TLS client configuration that shows this certificate and trusts `authority_pem`, or any server without it.
    ///
    /// # Errors
    /// When a PEM cannot be used.
    pub fn client_config(&self, authority_pem: Option<&str>, alpn: &[&str]) -> Result<Arc<rustls::ClientConfig>, PkiError> {
        let (chain, key) = self.chain()?;
        let builder = rustls::ClientConfig::builder();
        let mut config = match authority_pem {
            Some(pem) => builder.with_root_certificates(roots(pem)?).with_client_auth_cert(chain, key)?,
            None => {
                let any = AnyCertificate(rustls::crypto::ring::default_provider());
                builder.dangerous().with_custom_certificate_verifier(Arc::new(any)).with_client_auth_cert(chain, key)?
            }
        };
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Arc::new(config))
    }
}

/// A serving certificate that can be replaced while connections are served; new ones get the new one.
#[derive(Debug)]
pub struct RotatingIdentity {
    current: RwLock<Arc<rustls::sign::CertifiedKey>>,
}

impl RotatingIdentity {
    /// Begins with this certificate.
    ///
    /// # Errors
    /// When certificate and key do not fit together.
    pub fn new(identity: &Identity) -> Result<Self, PkiError> {
        Ok(Self { current: RwLock::new(Self::certified(identity)?) })
    }

    fn certified(identity: &Identity) -> Result<Arc<rustls::sign::CertifiedKey>, PkiError> {
        let (chain, key) = identity.chain()?;
        let provider = rustls::crypto::ring::default_provider();
        Ok(Arc::new(rustls::sign::CertifiedKey::from_der(chain, key, &provider)?))
    }

    /// From now on this certificate.
    ///
    /// # Errors
    /// When certificate and key do not fit together; the old one stays.
    pub fn replace(&self, identity: &Identity) -> Result<(), PkiError> {
        let certified = Self::certified(identity)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = certified;
        Ok(())
    }

    /// A TLS server configuration that offers `alpn`, most wanted first; clients may show a certificate of an authority in
    /// `clients_pem`, if one is given.
    ///
    /// # Errors
    /// When the PEM holds no usable certificate.
    pub fn server_config(
        self: Arc<Self>,
        alpn: &[&str],
        clients_pem: Option<&str>,
    ) -> Result<Arc<rustls::ServerConfig>, PkiError> {
        let builder = rustls::ServerConfig::builder();
        let builder = match clients_pem {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let verifier = rustls::server::WebPkiClientVerifier::builder(Arc::new(roots(pem)?))
                    .allow_unauthenticated()
                    .build()
                    .map_err(|error| PkiError::Tls(rustls::Error::General(error.to_string())))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_cert_resolver(self);
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Arc::new(config))
    }
}

impl rustls::server::ResolvesServerCert for RotatingIdentity {
    fn resolve(&self, _hello: rustls::server::ClientHello<'_>) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(self.current.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

fn roots(pem: &str) -> Result<rustls::RootCertStore, PkiError> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate?)?;
    }
    Ok(roots)
}

/// Whom a certificate names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// The common name: the user.
    pub common_name: String,
    /// The organisations: the groups.
    pub organisations: Vec<String>,
}

impl Subject {
    /// Reads the subject of a certificate that was verified already; nothing if it is none.
    pub fn of(certificate: &[u8]) -> Option<Self> {
        use x509_cert::der::Decode as _;
        use x509_cert::der::asn1::{PrintableStringRef, Utf8StringRef};
        const COMMON_NAME: &str = "2.5.4.3";
        const ORGANISATION: &str = "2.5.4.10";
        let certificate = x509_cert::Certificate::from_der(certificate).ok()?;
        let mut subject = Self::default();
        for attribute in certificate.tbs_certificate.subject.0.iter().flat_map(|set| set.0.iter()) {
            let utf8 = attribute.value.decode_as::<Utf8StringRef<'_>>().map(|text| text.as_str().to_owned());
            let text =
                utf8.or_else(|_| attribute.value.decode_as::<PrintableStringRef<'_>>().map(|text| text.as_str().to_owned()));
            match (attribute.oid.to_string().as_str(), text) {
                (COMMON_NAME, Ok(text)) => subject.common_name = text,
                (ORGANISATION, Ok(text)) => subject.organisations.push(text),
                _ => {}
            }
        }
        Some(subject)
    }
}

/// A TLS client configuration that trusts `authority_pem` alone and offers `alpn`.
///
/// # Errors
/// When the PEM holds no usable certificate.
pub fn client_config(authority_pem: &str, alpn: &[&str]) -> Result<Arc<rustls::ClientConfig>, PkiError> {
    let mut config = rustls::ClientConfig::builder().with_root_certificates(roots(authority_pem)?).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(Arc::new(config))
}

/// A TLS client configuration that accepts any certificate, as a kubelet's probes do.
pub fn unverified_client_config() -> Arc<rustls::ClientConfig> {
    Arc::new(
        rustls::ClientConfig::builder()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(rustls::crypto::ring::default_provider())))
            .with_no_client_auth(),
    )
}

#[derive(Debug)]
struct AnyCertificate(rustls::crypto::CryptoProvider);

impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &rustls::pki_types::ServerName<'_>,
        _ocsp_response: &[u8],
        _now: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Whether a PEM text begins with a certificate, in the words of Go's `crypto/x509`.
///
/// # Errors
/// What is wrong with it.
pub fn check_certificate(pem: &str) -> Result<(), String> {
    use x509_cert::der::Decode as _;
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| "failed to decode PEM block".to_owned())?;
    x509_cert::Certificate::from_der(&certificate)
        .map(drop)
        .map_err(|error| format!("failed to parse certificate: x509: {error}"))
}

/// Whether a certificate and a key, both PEM, belong together, in the words of Go's `tls.X509KeyPair`.
///
/// # Errors
/// What is wrong with them.
pub fn check_pair(certificate_pem: &str, key_pem: &str) -> Result<(), String> {
    let missing = |what: &str| format!("tls: failed to find any PEM data in {what} input");
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(certificate_pem.as_bytes()).filter_map(Result::ok).collect();
    if chain.is_empty() {
        return Err(missing("certificate"));
    }
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|_| missing("key"))?;
    let key = rustls::crypto::ring::sign::any_supported_type(&key).map_err(|_| "tls: failed to parse private key".to_owned())?;
    match rustls::sign::CertifiedKey::new(chain, key).keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(()),
        Err(_) => Err("tls: private key does not match public key".to_owned()),
    }
}
