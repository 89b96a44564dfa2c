//! TLS: rustls, with one provider of cryptography that is given to each connection and installed for nobody.
//!
//! The feature `tls-ring` (default) brings ring, `tls-aws-lc` brings aws-lc-rs. With both, ring is used, as in tonic.
//! With neither, TLS needs a provider that the process has installed, or a prepared configuration (feature `rustls`).
//!
//! # What this crate does to other crates of your program
//!
//! Cargo builds each package once, with all features that anybody asks for. Two things follow.
//!
//! **Your own `reqwest` with `default-features = false`.** The features `rest` and `chain` enable reqwest's
//! `rustls-no-provider`. With it reqwest sets up TLS in every client, also in one for plain `http://`, and looks for a
//! provider. If it finds none, `reqwest::get`, `Client::new` and `ClientBuilder::build` panic:
//!
//! ```text
//! No rustls crypto provider is configured. When using the `rustls-no-provider` feature you must install a crypto
//! provider before building a Client.
//! ```
//!
//! Call [`install_default`] first thing in `main`. Nothing panics with reqwest's default features, or with `tls-aws-lc`
//! here: reqwest then brings aws-lc-rs itself.
//!
//! **Your own rustls with another provider.** `rustls::ClientConfig::builder()` takes the provider that the process has
//! installed, or else the only one that is built in. With aws-lc-rs (rustls's default) beside ring it panics:
//!
//! ```text
//! Could not automatically determine the process-level CryptoProvider from Rustls crate features.
//! Call CryptoProvider::install_default() before this point to select a provider manually, or make sure exactly one of
//! the 'aws-lc-rs' and 'ring' features is enabled.
//! ```
//!
//! Build this crate with your provider, so that there is one: `default-features = false`, and the
//! [default features](crate#features) with `tls-aws-lc` in place of `tls-ring`. Or install one in `main`.

use std::sync::Arc;

#[cfg(feature = "rustls")]
pub use rustls;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use zeroize::Zeroizing;

use super::settings::invalid;
use crate::error::Result;

/// Makes this crate's provider (ring, or aws-lc-rs with `tls-aws-lc` alone) that of the process, if it has none yet.
///
/// It is for programs whose other crates need one. This crate needs none and never calls it.
///
/// ```
/// infinityvm_sdk::tls::install_default();
/// ```
#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc"))]
pub fn install_default() {
    // That somebody was faster is as good.
    _ = built_in().install_default();
}

#[cfg(feature = "tls-ring")]
fn built_in() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}

#[cfg(all(feature = "tls-aws-lc", not(feature = "tls-ring")))]
fn built_in() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

/// The built-in provider, whatever the process has installed.
#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc"))]
fn provider() -> Result<Arc<CryptoProvider>> {
    Ok(Arc::new(built_in()))
}

#[cfg(not(any(feature = "tls-ring", feature = "tls-aws-lc")))]
fn provider() -> Result<Arc<CryptoProvider>> {
    CryptoProvider::get_default().cloned().ok_or_else(|| {
        let hint =
            "enable the feature tls-ring or tls-aws-lc, or install one with rustls's CryptoProvider::install_default";
        invalid("no TLS provider is built in", hint)
    })
}

/// What a user has set.
#[derive(Clone, Default)]
pub(crate) struct Settings {
    /// PEM texts of one or more certificates each.
    pub(crate) authorities: Vec<Vec<u8>>,
    /// Certificate chain and key, in PEM.
    pub(crate) identity: Option<(Vec<u8>, Zeroizing<Vec<u8>>)>,
    /// In place of all of this.
    pub(crate) prepared: Option<ClientConfig>,
}

impl Settings {
    /// Refuses settings that have no use.
    pub(crate) fn check(&self, encrypted: bool) -> Result<()> {
        let parts = !self.authorities.is_empty() || self.identity.is_some();
        if !encrypted && (parts || self.prepared.is_some()) {
            let hint = "use https:// or wss://, or leave ca_certificate(), client_identity() and tls_config() out";
            return Err(invalid("TLS settings for plain text", hint));
        }
        if parts && self.prepared.is_some() {
            let hint = "put certificates and keys into the configuration that tls_config() is given";
            return Err(invalid("a prepared TLS configuration beside other TLS settings", hint));
        }
        Ok(())
    }
}

/// The configuration, with these protocols to negotiate. `used` is false if no TLS connection will ever be made.
pub(crate) fn config(settings: &Settings, protocols: &[&str], used: bool) -> Result<ClientConfig> {
    let mut config = match &settings.prepared {
        Some(prepared) => prepared.clone(),
        None => build(settings, used)?,
    };
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Ok(config)
}

fn build(settings: &Settings, used: bool) -> Result<ClientConfig> {
    let roots = match (used, settings.authorities.is_empty()) {
        (false, _) => RootCertStore::empty(),
        (true, true) => default_roots()?,
        (true, false) => given_roots(&settings.authorities)?,
    };
    let builder = ClientConfig::builder_with_provider(provider()?)
        .with_safe_default_protocol_versions()
        .map_err(|error| invalid("TLS cannot be set up", "this is a fault of the build").with_source(error))?
        .with_root_certificates(roots);
    let Some((chain, key)) = &settings.identity else { return Ok(builder.with_no_client_auth()) };
    let hint = "client_identity() takes a certificate chain and its private key, both in PEM";
    let chain = certificates(chain, "the client certificate", hint)?;
    // The error may quote its input, so it is not kept.
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| invalid("the client key is not one", hint))?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|error| invalid("the client certificate and key do not work", hint).with_source(error))
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

/// The TLS settings that all builders have, as methods of the builder. It has the field `tls`.
macro_rules! tls_settings {
    () => {
        /// Trusts servers whose certificates these CAs signed, in place of the roots of the features `webpki-roots`
        /// and `native-roots`. One or more certificates in PEM; may be called more than once.
        #[must_use]
        pub fn ca_certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
            self.tls.authorities.push(pem.into());
            self
        }

        /// Shows the server this certificate: its chain, the client's own first, and its private key (PKCS #8, PKCS #1
        /// or SEC 1), both in PEM. The key is kept out of debug output.
        #[must_use]
        pub fn client_identity(mut self, certificates_pem: impl Into<Vec<u8>>, key_pem: impl Into<Vec<u8>>) -> Self {
            self.tls.identity = Some((certificates_pem.into(), zeroize::Zeroizing::new(key_pem.into())));
            self
        }

        /// Takes a prepared configuration, with its own provider, roots and certificates, in place of all other TLS
        /// settings. Only the protocols that it negotiates (ALPN) are replaced.
        #[cfg(feature = "rustls")]
        #[must_use]
        pub fn tls_config(mut self, config: rustls::ClientConfig) -> Self {
            self.tls.prepared = Some(config);
            self
        }
    };
}
pub(crate) use tls_settings;
