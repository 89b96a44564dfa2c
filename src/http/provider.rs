//! Headers that change, such as tokens that expire: whoever knows them is asked within each call.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use http::HeaderMap;

use super::settings;
use crate::error::Result;

/// What a [`HeaderProvider`] is asked for.
#[derive(Clone, Copy, Debug)]
pub struct HeaderRequest<'a> {
    endpoint: &'a str,
    refused: bool,
}

impl HeaderRequest<'_> {
    /// Whom the headers are for: scheme, host and port, or what the transport calls its peer.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        self.endpoint
    }

    /// Whether the server has just answered that it wants other credentials (HTTP 401, 403 or 407, gRPC UNAUTHENTICATED
    /// or PERMISSION_DENIED). Then a token that was kept is of no use any more, most likely. The call is made once
    /// more, with what is provided now.
    #[must_use]
    pub fn was_refused(&self) -> bool {
        self.refused
    }
}

/// Whoever knows headers that change: tokens that expire, signatures of gateways, identifiers of traces.
///
/// It is asked within every call, in the caller's task and before anything is sent, on every transport and for the RPC
/// of the chain (`header_provider` of their builders). Over a websocket it is asked when the connection is opened.
/// After a 401 (UNAUTHENTICATED), or a proxy's 407, it is asked once more, and the call is repeated; no such call has
/// run. What only reads, and what an RPC is asked, is repeated after a 403 (PERMISSION_DENIED), too, as which some
/// gateways refuse credentials that have expired, and after an RPC's answer that says so.
///
/// A function is one. For what has to wait, implement the trait, with `#[async_trait]` of the crate `async-trait`. Its
/// time is part of the call's, and at most that of a call that reads (`call_timeout`), also where the call may take
/// longer. What it provides takes the place of headers of the same name, is marked as sensitive,
/// and must not be headers of the protocol.
///
/// ```
/// use infinityvm_sdk::transport::{HeaderRequest, RestTransport};
///
/// # fn current_token() -> String { "123".to_owned() }
/// let transport = RestTransport::builder("https://node.example.org")
///     .header_provider(|_: HeaderRequest<'_>| {
///         Ok(vec![("authorization".to_owned(), format!("Bearer {}", current_token()))])
///     })
///     .build()?;
/// # drop(transport);
/// # Ok::<(), infinityvm_sdk::error::Error>(())
/// ```
#[async_trait]
pub trait HeaderProvider: Send + Sync + 'static {
    /// Names and values of headers, for the call that is about to be made.
    ///
    /// # Errors
    ///
    /// The call fails with it as the cause, and nothing is sent. If the error is
    /// [retryable](crate::Error::is_retryable), the call is made again until its deadline, and no sooner than the error
    /// asks for ([`Error::retry_after`](crate::Error::retry_after)). It says nothing of the node.
    async fn headers(&self, request: HeaderRequest<'_>) -> Result<Vec<(String, String)>>;
}

#[async_trait]
impl<F> HeaderProvider for F
where
    F: Fn(HeaderRequest<'_>) -> Result<Vec<(String, String)>> + Send + Sync + 'static,
{
    async fn headers(&self, request: HeaderRequest<'_>) -> Result<Vec<(String, String)>> {
        self(request)
    }
}

/// A provider as a builder keeps it.
#[derive(Clone)]
pub(crate) struct Provided(Arc<dyn HeaderProvider>);

impl Provided {
    pub(crate) fn by(provider: impl HeaderProvider) -> Self {
        Self(Arc::new(provider))
    }

    /// Asks, and puts what it gets in the place of headers of the same name. `reserved` are names that only this
    /// transport sets. Returns what it got.
    pub(crate) async fn add_to(
        &self,
        headers: &mut HeaderMap,
        reserved: &[&str],
        endpoint: &str,
        refused: bool,
    ) -> Result<Vec<(String, String)>> {
        let provided = self.0.headers(HeaderRequest { endpoint, refused }).await?;
        // Replaces the values of a name, and keeps several of one.
        headers.extend(settings::headers(&provided, reserved)?);
        Ok(provided)
    }
}

impl fmt::Debug for Provided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a HeaderProvider")
    }
}

/// The setting of all builders, as a method of the builder. It has the field `provider`.
macro_rules! provider_setting {
    () => {
        /// Whoever knows headers that change, such as a token that expires: asked within every call, and once more
        /// after a 401 (UNAUTHENTICATED) and its like, upon which the call is repeated. See
        /// [`HeaderProvider`](crate::transport::HeaderProvider).
        #[must_use]
        pub fn header_provider(mut self, provider: impl crate::transport::HeaderProvider) -> Self {
            self.provider = Some(crate::http::provider::Provided::by(provider));
            self
        }
    };
}
pub(crate) use provider_setting;
