//! JSON-RPC over HTTP: one POST for a packet, and an answer of bounded length.

use std::{
    borrow::Cow,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use alloy_json_rpc::{RequestPacket, ResponsePacket};
use alloy_transport::{TransportError, TransportErrorKind, TransportFut, TransportResult};
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt;
use reqwest::{Response, Url};
use tower_service::Service;

use super::{
    fault, packet,
    secrets::{Credentials, Secrets},
};
use crate::{
    error::Error,
    http::{
        body::{self, Unread},
        client::Clients,
        probe::{Probe, Struck},
        retry_after::{self, RefusedFor},
    },
};

/// A transport as alloy defines one. alloy's own reads answers of any length.
#[derive(Clone)]
pub(super) struct Http(Arc<Inner>);

struct Inner {
    clients: Clients,
    url: Url,
    credentials: Credentials,
    max_response: usize,
    probe: Probe,
}

impl Http {
    pub(super) fn new(
        clients: Clients,
        url: Url,
        mut credentials: Credentials,
        max_response: usize,
        probe: Probe,
    ) -> Self {
        let headers = &mut credentials.headers;
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        Self(Arc::new(Inner { clients, url, credentials, max_response, probe }))
    }
}

/// The status, the pause that is asked for, the body, and what is not to be quoted of it.
type Posted<'a> = (StatusCode, Option<Duration>, Bytes, Cow<'a, Secrets>);

impl Inner {
    async fn exchange(&self, packet: RequestPacket) -> TransportResult<ResponsePacket> {
        let body = packet.serialize().map_err(TransportError::ser_err)?;
        let body = Bytes::from(Box::<str>::from(body).into_string());
        let (mut status, mut pause, mut said, mut secrets) = self.post(&body, false).await?;
        let mut packet = packet::read(&said);
        // Not asked by then, so it may be asked again.
        if self.credentials.may_differ(status.as_u16())
            || packet.as_ref().is_some_and(|it| self.credentials.may_differ_from(it))
        {
            (status, pause, said, secrets) = self.post(&body, true).await?;
            packet = packet::read(&said);
        }
        // Servers of TLS may answer plain text in plain text.
        if packet.is_none() && status == StatusCode::BAD_REQUEST {
            self.explained(Struck::Calling, None).await?;
        }
        self.probe.heard();
        // Some nodes tell errors by the status, and what they are in the body all the same. Where the way to the node is what
        // fails, the status says it better.
        let node = status.is_success() || matches!(status.as_u16(), 400 | 404..=406 | 409..=422 | 500);
        match &mut packet {
            Some(ResponsePacket::Single(answer)) => secrets.hide_in(answer),
            Some(ResponsePacket::Batch(answers)) => answers.iter_mut().for_each(|answer| secrets.hide_in(answer)),
            None => {}
        }
        match packet {
            Some(packet) if node => Ok(packet),
            packet if !status.is_success() => {
                let text = fault::quoted(&secrets.hide(&said));
                // The header counts. Some name the pause in the error only.
                let pause = pause.or_else(|| packet.as_ref()?.iter_errors().find_map(fault::asked_pause));
                Err(TransportErrorKind::http_error_with_retry_after(status.as_u16(), text, pause))
            }
            _ => Err(ours(fault::not_json(&secrets.hide(&said)))),
        }
    }

    /// One request, and what came back; with what is not to be quoted of it.
    async fn post(&self, body: &Bytes, refused: bool) -> TransportResult<Posted<'_>> {
        let (headers, secrets) = self.credentials.now(refused).await.map_err(ours)?;
        let mut request = reqwest::Request::new(Method::POST, self.url.clone());
        *request.headers_mut() = headers;
        *request.body_mut() = Some(body.clone().into());
        let (client, _) = self.clients.here().map_err(ours)?;
        let response = match client.execute(request).await {
            Ok(response) => response,
            Err(error) => {
                let (connecting, late, error) = (error.is_connect(), error.is_timeout(), error.without_url());
                let struck = match (connecting, late) {
                    (true, true) => Struck::ConnectingTooLong,
                    (true, false) => Struck::Connecting,
                    (false, _) => Struck::Calling,
                };
                self.explained(struck, Some(&error)).await?;
                return Err(ours(if connecting { fault::unreachable(error) } else { fault::broken(error) }));
            }
        };
        let status = response.status();
        let pause = retry_after::pause(response.headers(), RefusedFor::of_status(status.as_u16()));
        Ok((status, pause, self.read(response).await.map_err(ours)?, secrets))
    }

    /// Fails if another protocol explains an error, or an answer that is none.
    async fn explained(&self, struck: Struck, error: Option<&reqwest::Error>) -> TransportResult<()> {
        let wanted = error.map_or_else(|| self.probe.is_open(), |error| self.probe.is_wanted(struck, error));
        match if wanted { self.probe.look().await } else { None } {
            Some(spoken) => Err(ours(fault::misspoken(spoken, self.probe.is_encrypted(), false))),
            None => Ok(()),
        }
    }

    async fn read(&self, response: Response) -> Result<Bytes, Error> {
        if body::is_encoded(response.headers()) {
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
