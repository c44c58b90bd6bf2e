//! Certificate signing requests (RFC 2986): making one, reading one, answering one.

use std::net::IpAddr;

use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    SanType,
};

use super::{CertificateAuthority, PkiError, named, server_params};

/// How far a clock may be behind before it refuses a new certificate.
const BACKDATED: time::Duration = time::Duration::minutes(5);

/// A new key, and the request for its certificate; both PEM.
#[derive(Clone)]
pub struct NewRequest {
    /// The request.
    pub request_pem: String,
    /// The private key. Secret.
    pub key_pem: String,
}

impl NewRequest {
    /// A request for a serving certificate.
    ///
    /// # Errors
    /// When a name is not a DNS name.
    pub fn server(common_name: &str, organisation: &str, names: &[&str], addresses: &[IpAddr]) -> Result<Self, PkiError> {
        let mut params = server_params(common_name, names, addresses)?;
        params.distinguished_name = named(common_name, Some(organisation));
        let error = |source| PkiError::Generate { name: common_name.to_owned(), source };
        let key = KeyPair::generate().map_err(error)?;
        let request_pem = params.serialize_request(&key).and_then(|request| request.pem()).map_err(error)?;
        Ok(Self { request_pem, key_pem: key.serialize_pem() })
    }
}

/// What a certificate may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A server shows it.
    Server,
    /// A client shows it.
    Client,
}

/// A request that somebody else made. Its signature was checked: whoever made it has the key.
pub struct Asked {
    params: CertificateSigningRequestParams,
}

impl Asked {
    /// Reads a request.
    ///
    /// # Errors
    /// When it is none, its signature is wrong, or it has extensions that are not understood.
    pub fn read(pem: &str) -> Result<Self, PkiError> {
        let error = |source| PkiError::Generate { name: "of a signing request".to_owned(), source };
        Ok(Self { params: CertificateSigningRequestParams::from_pem(pem).map_err(error)? })
    }

    fn subject(&self, wanted: &DnType) -> Vec<String> {
        let text = |value: &DnValue| match value {
            DnValue::Utf8String(text) => text.clone(),
            DnValue::PrintableString(text) => text.as_str().to_owned(),
            other => format!("{other:?}"),
        };
        let all = self.params.params.distinguished_name.iter();
        all.filter(|(kind, _)| *kind == wanted).map(|(_, value)| text(value)).collect()
    }

    /// The common name; empty without one.
    pub fn common_name(&self) -> String {
        self.subject(&DnType::CommonName).pop().unwrap_or_default()
    }

    /// The organisations.
    pub fn organisations(&self) -> Vec<String> {
        self.subject(&DnType::OrganizationName)
    }

    /// How many names and addresses of hosts it asks for.
    pub fn hosts(&self) -> usize {
        let is_host = |name: &&SanType| matches!(name, SanType::DnsName(_) | SanType::IpAddress(_));
        self.params.params.subject_alt_names.iter().filter(is_host).count()
    }

    /// Whether it asks for names that are no hosts: of mail, of URIs, of directories.
    pub fn has_other_names(&self) -> bool {
        self.hosts() < self.params.params.subject_alt_names.len()
    }
}

impl CertificateAuthority {
    /// Signs what was asked, for a purpose and so many seconds; the certificate as PEM. It never makes an authority of the asker.
    ///
    /// # Errors
    /// When a certificate cannot be made of it.
    pub fn answer(&self, asked: &Asked, purpose: Purpose, seconds: i64) -> Result<String, PkiError> {
        let mut answer = asked.params.clone();
        let params: &mut CertificateParams = &mut answer.params;
        params.is_ca = IsCa::NoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![match purpose {
            Purpose::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Purpose::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        let now = time::OffsetDateTime::now_utc();
        params.not_before = now - BACKDATED;
        params.not_after = now + time::Duration::seconds(seconds);
        let error = |source| PkiError::Generate { name: asked.common_name(), source };
        Ok(answer.signed_by(&self.issuer).map_err(error)?.pem())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::{Identity, Subject, client_config};

    #[test]
    fn a_request_is_answered_with_what_it_asked() {
        crate::install_crypto_provider();
        let authority = CertificateAuthority::new("test").unwrap();
        let address: IpAddr = [127, 0, 0, 1].into();
        let own = NewRequest::server("system:node:proxy", "system:nodes", &["proxy.lab.svc"], &[address]).unwrap();
        let asked = Asked::read(&own.request_pem).unwrap();
        assert_eq!((asked.common_name().as_str(), asked.organisations()), ("system:node:proxy", vec!["system:nodes".to_owned()]));
        assert_eq!((asked.hosts(), asked.has_other_names()), (2, false));
        let certificate_pem = authority.answer(&asked, Purpose::Server, 3600).unwrap();
        super::super::check_pair(&certificate_pem, &own.key_pem).unwrap();
        let identity = Identity { certificate_pem, key_pem: own.key_pem };
        let (chain, _) = identity.chain().unwrap();
        let subject = Subject::of(&chain[0]).unwrap();
        assert_eq!((subject.common_name.as_str(), subject.organisations), ("system:node:proxy", vec!["system:nodes".to_owned()]));
        identity.server_config(&["h2"]).unwrap();
        client_config(&authority.certificate_pem(), &[]).unwrap();
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let own = NewRequest::server("a", "b", &["c"], &[]).unwrap();
        let mut lines: Vec<&str> = own.request_pem.lines().collect();
        // A request whose signature is of something else.
        let broken = lines[1].replacen(&lines[1][40..44], "AAAA", 1);
        lines[1] = &broken;
        for text in ["", "hello", &lines.join("\n"), &own.key_pem] {
            assert!(Asked::read(text).is_err(), "{text}");
        }
    }
}
