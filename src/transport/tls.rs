//! TLS for REST and for the chain's RPC: rustls with ring, whatever the process has installed, if anything.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use zeroize::Zeroizing;

use super::settings::invalid;
use crate::error::Result;

/// What the user gave.
#[derive(Clone, Default)]
pub(crate) struct Settings {
    /// PEM texts of one or more certificates each.
    pub(crate) authorities: Vec<Vec<u8>>,
    /// Certificate chain and key, in PEM.
    pub(crate) identity: Option<(Vec<u8>, Zeroizing<Vec<u8>>)>,
}

impl Settings {
    pub(crate) fn is_default(&self) -> bool {
        self.authorities.is_empty() && self.identity.is_none()
    }
}

/// The configuration, with these protocols to negotiate. `used` is false if no TLS connection will ever be made.
pub(crate) fn config(settings: &Settings, protocols: &[&str], used: bool) -> Result<ClientConfig> {
    let roots = match (used, settings.authorities.is_empty()) {
        (false, _) => RootCertStore::empty(),
        (true, true) => default_roots()?,
        (true, false) => given_roots(&settings.authorities)?,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| invalid("TLS cannot be set up", "this is a fault of the build").with_source(error))?
        .with_root_certificates(roots);
    let mut config = match &settings.identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let hint = "client_identity() takes a certificate chain and its private key, both in PEM";
            let chain = certificates(chain, "the client certificate", hint)?;
            // The error may quote its input, so it is not kept.
            let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| invalid("the client key is not one", hint))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| invalid("the client certificate and key do not work", hint).with_source(error))?
        }
    };
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Ok(config)
}

fn certificates(pem: &[u8], what: &str, hint: &str) -> Result<Vec<CertificateDer<'static>>> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| invalid(format!("{what} is not one in PEM"), hint).with_source(error))?;
    if certificates.is_empty() {
        return Err(invalid(format!("{what} is missing from the PEM text"), hint));
    }
    Ok(certificates)
}

fn given_roots(authorities: &[Vec<u8>]) -> Result<RootCertStore> {
    let hint = "ca_certificate() takes certificates in PEM";
    let mut roots = RootCertStore::empty();
    for pem in authorities {
        for certificate in certificates(pem, "the CA certificate", hint)? {
            roots
                .add(certificate)
                .map_err(|error| invalid("the CA certificate cannot be used as a root", hint).with_source(error))?;
        }
    }
    Ok(roots)
}

/// The roots of the enabled features.
fn default_roots() -> Result<RootCertStore> {
    #[allow(unused_mut, reason = "neither feature may be enabled")]
    let mut roots = RootCertStore::empty();
    #[cfg(feature = "webpki-roots")]
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    // Some of the system's certificates are commonly of no use. If all are, the store stays empty.
    #[cfg(feature = "native-roots")]
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        let hint = "enable the feature webpki-roots or native-roots, or give ca_certificate() the CA of the server";
        return Err(invalid("no TLS roots to check the server with", hint));
    }
    Ok(roots)
}
