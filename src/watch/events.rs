//! What happens to a job, one event after the other.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::{FusedStream, Stream};

use super::{
    mailbox::What,
    stage::{Stage, Until},
    wait::{JobNews, Subject},
    waiter::Interest,
};
use crate::{error::Result, job::Verified};

/// A step of a job. Steps come in this order, each once, whatever the node says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JobEvent {
    /// The node has shown the job back, equal in every field.
    Accepted,
    /// The node had lost the job, and the identical bytes were sent again. Not a step: it can come at any time and
    /// more than once.
    SentAgain,
    /// The operator has signed a result, and it verifies.
    Executed(Box<Verified>),
    /// The node says that the transaction with this result was included; or, where the client has a chain, that shows
    /// it.
    Relayed(Box<Verified>),
    /// The chain shows the job completed with this result, as deep as was asked for. After a reorganisation it can be
    /// another than those before.
    Finalized(Box<Verified>),
}

impl JobEvent {
    /// The stage the job has come to; nothing for [`SentAgain`](Self::SentAgain).
    #[must_use]
    pub fn stage(&self) -> Option<Stage> {
        match self {
            Self::Accepted => Some(Stage::Accepted),
            Self::SentAgain => None,
            Self::Executed(_) => Some(Stage::Executed),
            Self::Relayed(_) => Some(Stage::Relayed),
            Self::Finalized(_) => Some(Stage::Finalized),
        }
    }

    /// The verified result, once there is one.
    #[must_use]
    pub fn result(&self) -> Option<&Verified> {
        match self {
            Self::Accepted | Self::SentAgain => None,
            Self::Executed(result) | Self::Relayed(result) | Self::Finalized(result) => Some(result),
        }
    }
}

/// The events of a job; made by [`JobHandle::events`](crate::JobHandle::events) and
/// [`events_until`](crate::JobHandle::events_until).
///
/// A [`Stream`] that ends after the step it was made for, [`JobEvent::Relayed`] if it was made by `events`, or after
/// an error, those of [`Wait`](super::Wait). It begins with the first step, however far the job has come.
///
/// Cancel safety: no event is lost when [`next`](Self::next) is dropped.
#[derive(Debug)]
#[must_use = "events do nothing until they are polled"]
pub struct Events {
    /// Nothing once they have ended.
    news: Option<JobNews>,
}

impl Events {
    pub(crate) fn new(subject: Subject, until: Until) -> Self {
        Self { news: Some(JobNews::new(subject, until, Interest::Every)) }
    }

    /// How long to watch, from the first poll on; by default what the client's [`PollPolicy`](crate::PollPolicy)
    /// says, 5 minutes. `Duration::MAX` is for ever.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { news: self.news.map(|news| news.with_timeout(timeout)) }
    }

    /// The next event; nothing after the last.
    pub async fn next(&mut self) -> Option<Result<JobEvent>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for Events {
    type Item = Result<JobEvent>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let Some(news) = &mut self.news else { return Poll::Ready(None) };
            let event = match ready!(news.poll(cx)) {
                Ok(What::SentAgain) => JobEvent::SentAgain,
                Ok(What::Stage(Stage::Accepted, _)) => JobEvent::Accepted,
                Ok(What::Stage(Stage::Executed, Some(result))) => JobEvent::Executed(result),
                Ok(What::Stage(Stage::Relayed, Some(result))) => JobEvent::Relayed(result),
                Ok(What::Stage(Stage::Finalized, Some(result))) => JobEvent::Finalized(result),
                Ok(What::Stage(..)) => continue,
                Ok(What::End(verdict)) => {
                    self.news = None;
                    return Poll::Ready(verdict.err().map(Err));
                }
                Err(error) => {
                    self.news = None;
                    return Poll::Ready(Some(Err(error)));
                }
            };
            return Poll::Ready(Some(Ok(event)));
        }
    }
}

impl FusedStream for Events {
    fn is_terminated(&self) -> bool {
        self.news.is_none()
    }
}
