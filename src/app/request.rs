//! A request on its way.

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
};

use alloy_primitives::keccak256;
use infinityvm_stf::StateTransition;
use tokio::sync::oneshot;

use super::{
    answer::{AppAnswer, Asked},
    machine::encoded,
    server::AppServer,
};
use crate::{
    error::{Error, ErrorKind, Outcome, Result},
    outbox::store::journal::EntryKey,
};

/// The longest key, in bytes.
const LONGEST_KEY: usize = 512;

impl<S: StateTransition> AppServer<S> {
    /// Asks for something; `.await` the returned value. It is carried out, written to the journal, and answered once
    /// that is durable, in the order of all answers.
    ///
    /// Where many requests wait, the call waits, too: at most as many as
    /// [`AppServerBuilder::queue`](super::AppServerBuilder::queue) says are on their way.
    ///
    /// # Errors
    /// Of the future:
    /// - [`ErrorKind::Stopped`] if the server does not answer: it has [stopped](super::AppStop), or another instance
    ///   answers,
    /// - [`ErrorKind::TooLarge`] if the request fits no batch,
    /// - [`ErrorKind::InvalidInput`] if another request has the key; or, with [`Outcome::Rejected`], if the app
    ///   panicked over the request: it is refused, and changed nothing,
    /// - [`ErrorKind::Store`] if the journal cannot be written. With [`Outcome::Unknown`] the request may be in it: ask
    ///   again under the same key,
    /// - [`ErrorKind::Closed`] if the server ends.
    pub fn request(&self, request: S::Request) -> AppRequest<S> {
        AppRequest::new(self.clone(), request)
    }
}

/// A request on its way to an [`AppServer`]: `.await` it. Made by [`AppServer::request`].
///
/// Cancel safety: if the future is dropped once it was polled, the request may or may not be carried out. Asked again
/// with the same [key](Self::key), it is carried out once, and gets the first answer.
#[must_use = "nothing is asked until it is awaited"]
pub struct AppRequest<S: StateTransition> {
    server: AppServer<S>,
    request: S::Request,
    key: Option<String>,
}

impl<S: StateTransition> AppRequest<S> {
    pub(super) fn new(server: AppServer<S>, request: S::Request) -> Self {
        Self { server, request, key: None }
    }

    /// What this request is known by, of up to 512 bytes and without NUL: the number of an order, or what a client
    /// chose at random. Whoever asks again under the same key gets the first answer; another request under it is
    /// refused. Keys are kept as long as [`BatchPolicy::with_keys`](super::BatchPolicy::with_keys) says.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    async fn run(self) -> Result<AppAnswer<S>> {
        let invalid = |what: String| Error::new(ErrorKind::InvalidInput, what).with_outcome(Outcome::NotSent);
        if self.key.as_ref().is_some_and(|key| key.is_empty() || key.len() > LONGEST_KEY || key.contains('\0')) {
            return Err(invalid("a key has 1 to 512 bytes, and no NUL".to_owned()));
        }
        let (bytes, request) = encoded::<S>(&self.request).map_err(invalid)?;
        let key = self.key.map(|key| EntryKey { key, digest: keccak256(&bytes) });
        let (reply, answer) = oneshot::channel();
        self.server.ask(Asked { request, bytes: bytes.into(), key, reply }).await?;
        let answer = answer.await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Closed, "the server has ended, and the request may be in its journal")
                .with_outcome(Outcome::Unknown)
                .with_hint("ask again under the same key once the server runs"))
        });
        answer?.read()
    }
}

impl<S: StateTransition> IntoFuture for AppRequest<S> {
    type Output = Result<AppAnswer<S>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl<S: StateTransition> fmt::Debug for AppRequest<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppRequest").field("key", &self.key).finish_non_exhaustive()
    }
}
