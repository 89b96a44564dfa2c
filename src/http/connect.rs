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

/// Has TCP connect. The connector's own bound is for that alone, and not for finding the addresses of a name.
async fn reach<T>(mut tcp: T, address: Uri, within: Duration) -> Result<T::Response, Box<dyn StdError + Send + Sync>>
where
    T: Service<Uri>,
    T::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let connect = async {
        std::future::poll_fn(|context| tcp.poll_ready(context)).await?;
        tcp.call(address).await
    };
    let connected = tokio::time::timeout(within, connect).await;
    connected.map_err(|_| late("connecting, with finding the host's address,", within))?.map_err(Into::into)
}

fn late(what: &str, within: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("{what} took longer than {within:?}"))
}

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
    /// there is one, or for the host. TCP, with finding the host's address, and TLS may take `timeout` each.
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
    pub(crate) async fn open(self) -> Result<Box<dyn Stream>, Box<dyn StdError + Send + Sync>> {
        let tcp = reach(self.tcp, self.address, self.timeout).await?.into_inner();
        let Some((config, name)) = self.tls else { return Ok(Box::new(tcp)) };
        // Whoever asks for nothing else needs it.
        let needs_http2 = config.alpn_protocols == [b"h2"];
        let handshake = TlsConnector::from(config).connect(name, tcp);
        let stream = tokio::time::timeout(self.timeout, handshake).await;
        let stream = stream.map_err(|_| late("the TLS handshake", self.timeout))??;
        if needs_http2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err("the server does not speak HTTP/2: it was not chosen in the TLS handshake".into());
        }
        Ok(Box::new(stream))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Pending,
        task::{Context, Poll},
    };

    use super::*;

    /// Finds no address, and does not say so; or is never ready to look for one.
    struct Hanging {
        ready: bool,
    }

    impl Service<Uri> for Hanging {
        type Response = ();
        type Error = io::Error;
        type Future = Pending<Result<(), io::Error>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
            if self.ready { Poll::Ready(Ok(())) } else { Poll::Pending }
        }

        fn call(&mut self, _: Uri) -> Self::Future {
            std::future::pending()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_without_an_answer_is_given_up_in_time() {
        for ready in [true, false] {
            let begun = tokio::time::Instant::now();
            let address = Uri::from_static("http://node.example.org:1");
            let error = reach(Hanging { ready }, address, Duration::from_secs(5)).await.unwrap_err();
            assert_eq!(begun.elapsed().as_secs(), 5);
            let error = error.downcast::<io::Error>().unwrap();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert!(error.to_string().contains("took longer than 5s"), "{error}");
        }
    }
}
