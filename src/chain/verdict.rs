//! A verdict, and all that is read for it: of one RPC from beginning to end, also where a chain has several.
//!
//! What is as of one block (`snapshot.rs`) can be asked of [`OneRpc`] only, and the only way to one is a verdict. If
//! the RPC fails in between, the verdict is made anew, by another one.

use std::{future::Future, ops::Deref, sync::Arc};

use super::{Chain, fallback::Session};
use crate::{
    error::{Error, ErrorKind, Result},
    retry::Deadline,
};

/// A chain as one RPC shows it.
#[derive(Clone, Debug)]
pub(crate) struct OneRpc(Chain);

impl OneRpc {
    /// Whether it failed, so that what it was asked is to be asked of another one, all of it.
    pub(crate) fn has_failed(&self) -> bool {
        self.0.session.as_ref().is_some_and(|session| session.has_failed())
    }

    /// It failed at something else than a question: it is left for a while, and another one is asked.
    #[cfg(feature = "chain")]
    pub(crate) fn fails(&self, error: Error) -> Error {
        match &self.0.session {
            Some(session) => session.lost(error),
            None => error,
        }
    }
}

impl Deref for OneRpc {
    type Target = Chain;

    fn deref(&self) -> &Chain {
        &self.0
    }
}

impl Chain {
    /// Makes a verdict, by one RPC. Where there are several and one fails, all of it is made again by the next.
    pub(crate) async fn verdict<T, Made>(&self, make: impl Fn(OneRpc) -> Made) -> Result<T>
    where
        Made: Future<Output = Result<T>>,
    {
        self.verdict_unless(|_| None, make).await
    }

    /// The same. A verdict that lacks something, for this reason, is kept only if no other RPC has a better one.
    pub(crate) async fn verdict_unless<T, Made>(
        &self,
        lacks: impl Fn(&T) -> Option<Error>,
        make: impl Fn(OneRpc) -> Made,
    ) -> Result<T>
    where
        Made: Future<Output = Result<T>>,
    {
        if !self.is_chosen_from() {
            return make(OneRpc(self.clone())).await;
        }
        let whole = self.retries(0).map_or(Deadline::NONE, |retries| retries.read_deadline());
        let mut passes = 0;
        loop {
            let (mut tried, mut failures, mut kept) = (Vec::new(), Vec::new(), None);
            while let Some(index) = self.rpcs.choose(&tried) {
                tried.push(index);
                let error = match whole.bound(self.made_by(index, &make)).await {
                    Some(Ok((made, session))) => match lacks(&made) {
                        None => {
                            session.served();
                            if let Some(retries) = self.retries(index) {
                                retries.succeeded();
                            }
                            return Ok(made);
                        }
                        Some(error) => {
                            session.disappoints(&error);
                            kept.get_or_insert(made);
                            error
                        }
                    },
                    Some(Err(Failure { error, passes_on: true })) => error,
                    Some(Err(Failure { error, .. })) => return Err(error),
                    None => return Err(late()),
                };
                failures.push((index, error));
            }
            if let Some(kept) = kept {
                return Ok(kept);
            }
            passes += 1;
            // Those on another chain stay there. Of the others, one that is only a little behind will have caught up soon.
            let soonest = failures.into_iter().min_by_key(|(index, error)| {
                (!error.is_retryable(), self.rpcs.left(*index).is_some(), error.retry_after())
            });
            let Some((index, error)) = soonest else { return Err(late()) };
            let Some(retries) = self.retries(index).filter(|_| error.is_retryable()) else { return Err(error) };
            let mut attempts = retries.attempts(whole);
            for _ in 0..passes {
                attempts.fail();
            }
            if !attempts.again(&error).await {
                return Err(error.with_attempts(passes));
            }
        }
    }

    async fn made_by<T, Made>(&self, index: usize, make: &impl Fn(OneRpc) -> Made) -> Result<(T, Arc<Session>), Failure>
    where
        Made: Future<Output = Result<T>>,
    {
        let session = self.rpcs.session(index).await;
        let session = Arc::new(session.map_err(|error| Failure { error, passes_on: true })?);
        let chain = Self { session: Some(Arc::clone(&session)), ..self.clone() };
        match make(OneRpc(chain)).await {
            Ok(made) => Ok((made, session)),
            Err(error) => {
                // What one RPC refuses, another may answer.
                let passes_on = error.is_retryable() || session.has_failed() || is_refusal(&error);
                if passes_on {
                    session.disappoints(&error);
                }
                Err(Failure { error, passes_on })
            }
        }
    }
}

/// Whether an RPC refused a question, so that no contract was asked.
fn is_refusal(error: &Error) -> bool {
    #[cfg(feature = "chain")]
    return super::rpc::is_of_the_rpc(error);
    #[cfg(not(feature = "chain"))]
    return error.is_retryable();
}

/// Why there is no verdict.
struct Failure {
    error: Error,
    /// Whether another RPC may have one.
    passes_on: bool,
}

fn late() -> Error {
    Error::new(ErrorKind::Chain, "the chain was not read within the deadline")
        .with_retryable(true)
        .with_hint("check the chain's RPCs, or set a longer RetryPolicy::with_deadline")
}
