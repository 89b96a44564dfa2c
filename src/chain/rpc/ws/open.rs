//! Opens a websocket: the connection, and the handshake.

use std::time::Duration;

use alloy_transport::TransportErrorKind;
use http::{HeaderMap, Uri};
use tokio::time::timeout;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{self, client::IntoClientRequest, protocol::WebSocketConfig},
};

use super::super::{fault, secrets::Secrets};
use crate::{
    error::Result,
    http::connect::{Connector, Stream},
};

pub(super) type Socket = WebSocketStream<Box<dyn Stream>>;

/// Where to connect to, and how.
pub(in crate::chain::rpc) struct Way {
    pub(in crate::chain::rpc) connector: Connector,
    pub(in crate::chain::rpc) uri: Uri,
    pub(in crate::chain::rpc) headers: HeaderMap,
    pub(in crate::chain::rpc) secrets: Secrets,
    pub(in crate::chain::rpc) max_message: usize,
    pub(in crate::chain::rpc) timeout: Duration,
}

impl Way {
    pub(super) async fn open(&self) -> Result<Socket> {
        match timeout(self.timeout, self.try_open()).await {
            Ok(opened) => opened,
            Err(_) => Err(fault::unreachable(format!("not within {:?}", self.timeout))),
        }
    }

    async fn try_open(&self) -> Result<Socket> {
        let stream = self.connector.clone().open().await.map_err(fault::unreachable)?;
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
