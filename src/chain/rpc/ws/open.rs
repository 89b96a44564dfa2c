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
    http::{
        connect::{Connector, Stream},
        probe::{Probe, Struck},
    },
};

pub(super) type Socket = WebSocketStream<Box<dyn Stream>>;

/// Where to connect to, and how.
pub(in crate::chain::rpc) struct Way {
    pub(in crate::chain::rpc) connector: Connector,
    pub(in crate::chain::rpc) uri: Uri,
    pub(in crate::chain::rpc) probe: Probe,
    pub(in crate::chain::rpc) credentials: Credentials,
    pub(in crate::chain::rpc) max_message: usize,
    pub(in crate::chain::rpc) timeout: Duration,
}

impl Way {
    pub(super) async fn open(&self) -> Result<Socket> {
        match timeout(self.timeout, self.try_open()).await {
            Ok(opened) => opened,
            Err(_) => {
                let late = fault::unreachable(format!("not within {:?}", self.timeout));
                // A server of plain text may wait for the end of a line.
                if self.probe.is_wanted(Struck::ConnectingTooLong, &late) {
                    self.look().await?;
                }
                Err(late)
            }
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
        let stream = match self.connector.clone().open().await {
            Ok(stream) => stream,
            Err(error) => {
                if self.probe.is_wanted(Struck::Connecting, &*error) {
                    self.look().await?;
                }
                return Err(fault::unreachable(error));
            }
        };
        // Errors about the address are not quoted, as they may hold it.
        let mut request =
            self.uri.clone().into_client_request().map_err(|_| fault::chain("the address is none for a websocket"))?;
        request.headers_mut().extend(headers);
        let limits =
            WebSocketConfig::default().max_message_size(Some(self.max_message)).max_frame_size(Some(self.max_message));
        match client_async_with_config(request, stream, Some(limits)).await {
            Ok((socket, _)) => {
                self.probe.heard();
                Ok(Ok(socket))
            }
            Err(tungstenite::Error::Http(answer)) => {
                let body = secrets.hide(answer.body().as_deref().unwrap_or_default());
                let status = answer.status().as_u16();
                // Servers of TLS may answer plain text in plain text.
                if status == 400 && self.probe.is_open() {
                    self.look().await?;
                }
                let error = fault::of(TransportErrorKind::http_error(status, fault::quoted(&body)));
                Ok(Err(Refused { status, error }))
            }
            Err(error) => {
                if self.probe.is_wanted(Struck::Calling, &error) {
                    self.look().await?;
                }
                Err(fault::unreachable(error))
            }
        }
    }

    /// Fails if what answers speaks another protocol.
    async fn look(&self) -> Result<()> {
        match self.probe.look().await {
            Some(spoken) => Err(fault::misspoken(spoken, self.probe.is_encrypted(), true)),
            None => Ok(()),
        }
    }
}

/// The answer of a server that does not open a websocket.
struct Refused {
    status: u16,
    error: Error,
}
