//! JSON-RPC over HTTP: one POST for a packet, and an answer of bounded length.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use alloy_json_rpc::{RequestPacket, ResponsePacket};
use alloy_transport::{TransportError, TransportErrorKind, TransportFut, TransportResult};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use http_body_util::BodyExt;
use reqwest::{Response, Url};
use tower_service::Service;

use super::{fault, packet, secrets::Secrets};
use crate::{
    error::Error,
    http::{
        body::{self, Unread},
        client::Clients,
    },
};

/// A transport as alloy defines one. alloy's own reads answers of any length.
#[derive(Clone)]
pub(super) struct Http(Arc<Inner>);

struct Inner {
    clients: Clients,
    url: Url,
    headers: HeaderMap,
    secrets: Secrets,
    max_response: usize,
}

impl Http {
    pub(super) fn new(
        clients: Clients,
        url: Url,
        mut headers: HeaderMap,
        secrets: Secrets,
        max_response: usize,
    ) -> Self {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        Self(Arc::new(Inner { clients, url, headers, secrets, max_response }))
    }
}

impl Inner {
    async fn exchange(&self, packet: RequestPacket) -> TransportResult<ResponsePacket> {
        let body = packet.serialize().map_err(TransportError::ser_err)?;
        let mut request = reqwest::Request::new(Method::POST, self.url.clone());
        *request.headers_mut() = self.headers.clone();
        *request.body_mut() = Some(Box::<str>::from(body).into_string().into());
        let (client, _) = self.clients.here().map_err(ours)?;
        let response = client.execute(request).await.map_err(|error| {
            let (connecting, error) = (error.is_connect(), error.without_url());
            ours(if connecting { fault::unreachable(error) } else { fault::broken(error) })
        })?;
        let status = response.status();
        let body = self.read(response).await.map_err(ours)?;
        let body = self.secrets.hide(&body);
        // Some nodes tell errors by the status, and what they are in the body all the same. Where the way to the node is what
        // fails, the status says it better.
        let node = status.is_success() || matches!(status.as_u16(), 400 | 404..=406 | 409..=422 | 500);
        match packet::read(&body) {
            Some(packet) if node => Ok(packet),
            _ if !status.is_success() => Err(TransportErrorKind::http_error(status.as_u16(), fault::quoted(&body))),
            _ => Err(ours(fault::not_json(&body))),
        }
    }

    async fn read(&self, response: Response) -> Result<Bytes, Error> {
        if response.headers().get_all(header::CONTENT_ENCODING).iter().any(|value| value != "identity") {
            return Err(fault::nonsense("the RPC's answer is compressed, which was not asked for"));
        }
        let announced = response.content_length().unwrap_or(0);
        if usize::try_from(announced).map_or(true, |announced| announced > self.max_response) {
            return Err(fault::too_large(self.max_response));
        }
        let body = reqwest::Body::from(response).map_err(reqwest::Error::without_url);
        match body::read(body, self.max_response).await {
            (whole, Ok(())) => Ok(whole),
            (_, Err(Unread::TooLong)) => Err(fault::too_large(self.max_response)),
            (_, Err(Unread::Broken(error))) => Err(fault::broken(error)),
        }
    }
}

fn ours(error: Error) -> TransportError {
    TransportErrorKind::custom(error)
}

impl Service<RequestPacket> for Http {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, packet: RequestPacket) -> Self::Future {
        let inner = Arc::clone(&self.0);
        Box::pin(async move { inner.exchange(packet).await })
    }
}
