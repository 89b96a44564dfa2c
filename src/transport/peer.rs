//! What both transports do around an attempt: they ask for headers that change, and look what answers where it seems to
//! speak another protocol.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tokio::time::Instant;

use crate::{
    error::Error,
    http::{
        probe::{Probe, Speaks, Struck},
        provider::Provided,
    },
    rpc::{CallError, CallFailure, Leaving, Pushback, StatusCode},
    transport::settings::CallLimits,
};

/// What a transport knows of its peer, beside how it connects.
pub(super) struct Peer {
    /// Its name, for messages.
    pub(super) name: String,
    /// Sent with every call.
    pub(super) headers: HeaderMap,
    pub(super) provider: Option<Provided>,
    /// Headers that are this transport's own.
    pub(super) reserved: &'static [&'static str],
    /// None where something else makes the connections.
    pub(super) probe: Option<Probe>,
}

/// One attempt of a call.
#[derive(Clone, Copy)]
pub(super) struct CallAttempt {
    /// How long it may take.
    pub(super) deadline: Duration,
    /// The one before it was refused for want of credentials.
    pub(super) refused: bool,
}

impl Peer {
    /// A peer of which nothing else is set.
    #[cfg(feature = "tonic")]
    pub(super) fn to(name: String) -> Self {
        Self { name, headers: HeaderMap::new(), provider: None, reserved: &[], probe: None }
    }

    /// The headers of an attempt, from whose time the provider takes. Nothing of the call has begun before they are
    /// there, so a provider that fails or hangs says nothing of the way to the peer.
    pub(super) async fn headers(
        &self,
        attempt: &mut CallAttempt,
        limits: &CallLimits,
        leaving: Option<&Leaving>,
    ) -> Result<HeaderMap, CallError> {
        let mut headers = self.headers.clone();
        if let Some(provider) = &self.provider {
            let begun = Instant::now();
            leaving.inspect(|leaving| leaving.prepare());
            // Even if the call itself must not be given up: this can be.
            let patience = attempt.deadline.min(limits.call_timeout);
            let provided = provider.add_to(&mut headers, self.reserved, &self.name, attempt.refused);
            match tokio::time::timeout(patience, provided).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(unprovided(error)),
                Err(_) => {
                    let message = format!("the header provider gave no headers within {patience:?}");
                    return Err(CallError::unprepared(message));
                }
            }
            attempt.deadline = attempt.deadline.saturating_sub(begun.elapsed());
        }
        leaving.inspect(|leaving| leaving.expect());
        Ok(headers)
    }

    /// Makes a call within its deadline: once more if it was refused for want of credentials and there may be others.
    /// Some gateways refuse credentials that have expired as if they gave no right. That may be said of an answer, too,
    /// so then a call is made again only if it `reads`.
    pub(super) async fn call<A>(
        &self,
        deadline: Duration,
        reads: bool,
        attempt: impl Fn(CallAttempt) -> A,
    ) -> Result<Bytes, CallError>
    where
        A: Future<Output = Result<Bytes, CallError>>,
    {
        let begun = Instant::now();
        let answer = attempt(CallAttempt { deadline, refused: false }).await;
        let refused = answer.as_ref().is_err_and(|error| match error.failure {
            CallFailure::Http(401 | 407) | CallFailure::Status(StatusCode::UNAUTHENTICATED) => true,
            CallFailure::Http(403) | CallFailure::Status(StatusCode::PERMISSION_DENIED) => reads,
            _ => false,
        });
        let left = deadline.saturating_sub(begun.elapsed());
        match refused && self.provider.is_some() && !left.is_zero() {
            true => attempt(CallAttempt { deadline: left, refused: true }).await,
            false => answer,
        }
    }

    /// The answer, or what explains it better: that something else is spoken at the address. `struck` tells when an
    /// error of the network did.
    ///
    /// The explanation takes the place of the failure only if nothing depends on what became of the request: it was not
    /// sent, or it only `reads`. What is found at the address afterwards does not show who had read a request before.
    pub(super) async fn explained(
        &self,
        answer: Result<Bytes, CallError>,
        reads: bool,
        struck: impl FnOnce(&CallError) -> Option<Struck>,
    ) -> Result<Bytes, CallError> {
        let Some(probe) = &self.probe else { return answer };
        let error = match answer {
            Err(error) => error,
            answer => {
                probe.heard();
                return answer;
            }
        };
        use CallFailure as F;
        let wanted = match (&error.failure, &error.source) {
            (F::NotSent | F::Interrupted | F::BadResponse, Some(source)) => {
                struck(&error).is_some_and(|struck| probe.is_wanted(struck, &**source))
            }
            // Servers of TLS may answer plain text in plain text.
            (F::Http(400), _) => probe.is_wanted(Struck::Calling, &error),
            (F::Status(_) | F::Http(_) | F::Reset, _) => {
                probe.heard();
                false
            }
            _ => false,
        };
        let spoken = if wanted { probe.look().await } else { None };
        let what = match spoken {
            Some(Speaks::Tls) => "the server speaks TLS: use https://",
            Some(_) if probe.is_encrypted() => "the server speaks plain text: use http://",
            Some(Speaks::Http2) => {
                "what answers speaks HTTP/2 only, as a node's gRPC server does (usually port 50051): its REST gateway is another \
                 address (usually port 8080)"
            }
            Some(Speaks::Http1 | Speaks::Refusal) => {
                "what answers speaks HTTP/1.1 only, as a node's REST gateway may (usually port 8080): its gRPC server is another \
                 address (usually port 50051)"
            }
            None => return Err(error),
        };
        match reads || matches!(error.failure, F::NotSent) {
            true => Err(CallError::new(F::Misconfigured, what).with_source(error)),
            false => Err(error.with_hint(what)),
        }
    }
}

/// The failure of a call for which there are no headers.
fn unprovided(error: Error) -> CallError {
    let message = format!("the header provider failed: {error}");
    let failed = match error.is_retryable() {
        true => CallError::unprepared(message),
        false => CallError::new(CallFailure::Misconfigured, message),
    };
    failed.with_pushback(error.retry_after().map_or(Pushback::Unsaid, Pushback::After)).with_source(error)
}
