//! The way from the watcher to those who wait.

use std::{
    collections::VecDeque,
    task::{Context, Poll, Waker},
};

use super::stage::Stage;
use crate::{error::Result, job::Verified, sync::Lock};

/// Something that happened to the job that has this number with its waiter.
#[derive(Debug)]
pub(crate) struct News {
    pub number: u32,
    pub what: What,
}

#[derive(Debug)]
pub(crate) enum What {
    /// It has come to this stage; with the result where there is one.
    Stage(Stage, Option<Box<Verified>>),
    /// The node had lost it, and has it again.
    SentAgain,
    /// The wait is over; nothing follows.
    End(Box<Result<Verified>>),
}

/// News of one waiter's jobs.
#[derive(Debug, Default)]
pub(crate) struct Mailbox(Lock<Inside>);

#[derive(Debug, Default)]
struct Inside {
    news: VecDeque<News>,
    waker: Option<Waker>,
}

impl Mailbox {
    /// Puts something in. The waker, if there is one, is to be woken by the caller, once it holds no lock.
    #[must_use]
    pub(super) fn put(&self, news: News) -> Option<Waker> {
        let mut inside = self.0.lock();
        inside.news.push_back(news);
        inside.waker.take()
    }

    /// The waiter's waker, to have it look at its watcher again.
    pub(super) fn waker(&self) -> Option<Waker> {
        self.0.lock().waker.take()
    }

    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<News> {
        let mut inside = self.0.lock();
        match inside.news.pop_front() {
            Some(news) => Poll::Ready(news),
            None => {
                // A waker that is replaced may run anything when it is dropped.
                let old = inside.waker.replace(cx.waker().clone());
                drop(inside);
                drop(old);
                Poll::Pending
            }
        }
    }
}
