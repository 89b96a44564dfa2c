//! Opens a websocket: the connection, and the handshake.

use std::time::Duration;

use alloy_transport::TransportErrorKind;
use http::Uri;
use tokio::time::timeout;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{self, client::IntoClientRequest, protocol::WebSocketConfig},
};

use super::super::{fault, secrets::Credentials};
use crate::{
    error::{Error, Result},
    http::connect::{Connector, Stream},
};

pub(super) type Socket = WebSocketStream<Box<dyn Stream>>;

/// Where to connect to, and how.
pub(in crate::chain::rpc) struct Way {
    pub(in crate::chain::rpc) connector: Connector,
    pub(in crate::chain::rpc) uri: Uri,
    pub(in crate::chain::rpc) credentials: Credentials,
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
        match self.open_once(false).await? {
            Err(refused) if self.credentials.may_differ(refused.status) => self.open_once(true).await?,
            opened => opened,
        }
        .map_err(|refused| refused.error)
    }

    /// The inner error is the server's answer in place of a websocket.
    async fn open_once(&self, refused: bool) -> Result<Result<Socket, Refused>> {
        let (headers, secrets) = self.credentials.now(refused).await?;
        let stream = self.connector.clone().open().await.map_err(fault::unreachable)?;
        // Errors about the address are not quoted, as they may hold it.
        let mut request =
            self.uri.clone().into_client_request().map_err(|_| fault::chain("the address is none for a websocket"))?;
        request.headers_mut().extend(headers);
        let limits =
            WebSocketConfig::default().max_message_size(Some(self.max_message)).max_frame_size(Some(self.max_message));
        match client_async_with_config(request, stream, Some(limits)).await {
            Ok((socket, _)) => Ok(Ok(socket)),
            Err(tungstenite::Error::Http(answer)) => {
                let body = secrets.hide(answer.body().as_deref().unwrap_or_default());
                let status = answer.status().as_u16();
                let error = fault::of(TransportErrorKind::http_error(status, fault::quoted(&body)));
                Ok(Err(Refused { status, error }))
            }
            Err(error) => Err(fault::unreachable(error)),
        }
    }
}

/// The answer of a server that does not open a websocket.
struct Refused {
    status: u16,
    error: Error,
}
