//! Connections that no HTTP client opens: those of gRPC and of websockets.

use std::{error::Error as StdError, io, sync::Arc, time::Duration};

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tower_service::Service;

use super::settings::{bounded, invalid};
use crate::error::Result;

/// Bytes both ways, encrypted or not.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Opens connections to one host: TCP, and TLS where there is a configuration for it.
#[derive(Clone)]
pub(crate) struct Connector {
    tcp: HttpConnector,
    address: Uri,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    timeout: Duration,
}

impl Connector {
    /// To the host of this address, at its port or else 443 or 80. The server's certificate must be for `name`, if
    /// there is one, or for the host. TCP and TLS may take `timeout` each.
    pub(crate) fn new(address: &Uri, name: Option<&str>, tls: Option<ClientConfig>, timeout: Duration) -> Result<Self> {
        let fail = |what| invalid(what, "check the address and server_name()");
        let host = address.host().unwrap_or_default();
        let port = address.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
        let address = Uri::builder().scheme("http").authority(format!("{host}:{port}")).path_and_query("/").build();
        let address = address.map_err(|error| fail("the address has no host to connect to").with_source(error))?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let named = |config| match ServerName::try_from(name.unwrap_or(bare).to_owned()) {
            Ok(name) => Ok((Arc::new(config), name)),
            Err(error) => Err(fail("no certificate can be for the server's name").with_source(error)),
        };
        let tls = tls.map(named).transpose()?;
        let timeout = bounded(timeout);
        let mut tcp = HttpConnector::new();
        // Off, it costs 25 times the rate of small calls.
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(Duration::from_secs(60)));
        tcp.set_connect_timeout(Some(timeout));
        Ok(Self { tcp, address, tls, timeout })
    }

    /// What is connected to, as `http://host:port` whatever is spoken there.
    #[cfg(feature = "grpc")]
    pub(crate) fn address(&self) -> &Uri {
        &self.address
    }

    /// Opens a connection. Needs a runtime.
    pub(crate) async fn open(mut self) -> Result<Box<dyn Stream>, Box<dyn StdError + Send + Sync>> {
        std::future::poll_fn(|context| self.tcp.poll_ready(context)).await?;
        let tcp = self.tcp.call(self.address).await?.into_inner();
        let Some((config, name)) = self.tls else { return Ok(Box::new(tcp)) };
        // Whoever asks for nothing else needs it.
        let needs_http2 = config.alpn_protocols == [b"h2"];
        let handshake = TlsConnector::from(config).connect(name, tcp);
        let stream = tokio::time::timeout(self.timeout, handshake).await.map_err(|_| {
            io::Error::new(io::ErrorKind::TimedOut, format!("the TLS handshake took longer than {:?}", self.timeout))
        })??;
        if needs_http2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err("the server does not speak HTTP/2: it was not chosen in the TLS handshake".into());
        }
        Ok(Box::new(stream))
    }
}
