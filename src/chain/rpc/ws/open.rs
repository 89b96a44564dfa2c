//! Opens a connection for a websocket: TCP, TLS with our own roots and provider, and the handshake.

use std::{sync::Arc, time::Duration};

use alloy_transport::TransportErrorKind;
use http::{HeaderMap, Uri};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{self, client::IntoClientRequest, protocol::WebSocketConfig},
};

use super::super::{fault, secrets::Secrets};
use crate::error::Result;

/// Bytes both ways, encrypted or not.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

pub(super) type Socket = WebSocketStream<Box<dyn Stream>>;

/// Where to connect to, and how.
pub(in crate::chain::rpc) struct Connector {
    pub(in crate::chain::rpc) uri: Uri,
    pub(in crate::chain::rpc) headers: HeaderMap,
    /// None for plain text.
    pub(in crate::chain::rpc) tls: Option<Arc<ClientConfig>>,
    pub(in crate::chain::rpc) secrets: Secrets,
    pub(in crate::chain::rpc) max_message: usize,
    pub(in crate::chain::rpc) timeout: Duration,
    /// After how long without a block the latest one is looked at.
    pub(in crate::chain::rpc) quiet: Duration,
}

impl Connector {
    pub(super) async fn open(&self) -> Result<Socket> {
        match timeout(self.timeout, self.try_open()).await {
            Ok(opened) => opened,
            Err(_) => Err(fault::unreachable(format!("not within {:?}", self.timeout))),
        }
    }

    async fn try_open(&self) -> Result<Socket> {
        let host = self.uri.host().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = self.uri.port_u16().unwrap_or(if self.tls.is_some() { 443 } else { 80 });
        let tcp = TcpStream::connect((host, port)).await.map_err(fault::unreachable)?;
        // Questions are small and wait for their answers.
        tcp.set_nodelay(true).map_err(fault::unreachable)?;
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(tcp),
            Some(config) => {
                let name = ServerName::try_from(host.to_owned()).map_err(fault::unreachable)?;
                let tls = TlsConnector::from(Arc::clone(config));
                Box::new(tls.connect(name, tcp).await.map_err(fault::unreachable)?)
            }
        };
        // Errors about the address are not quoted, as they may hold it.
        let mut request =
            self.uri.clone().into_client_request().map_err(|_| fault::chain("the address is none for a websocket"))?;
        request.headers_mut().extend(self.headers.clone());
        let limits =
            WebSocketConfig::default().max_message_size(Some(self.max_message)).max_frame_size(Some(self.max_message));
        match client_async_with_config(request, stream, Some(limits)).await {
            Ok((socket, _)) => Ok(socket),
            Err(tungstenite::Error::Http(answer)) => {
                let body = self.secrets.hide(answer.body().as_deref().unwrap_or_default());
                Err(fault::of(TransportErrorKind::http_error(answer.status().as_u16(), fault::quoted(&body))))
            }
            Err(error) => Err(fault::unreachable(error)),
        }
    }
}
