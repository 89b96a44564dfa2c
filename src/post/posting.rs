//! Posting a result: a task of its own, which a caller joins.

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

#[cfg(feature = "outbox")]
use alloy_primitives::Address;
use alloy_primitives::B256;
use tokio::time::Instant;
use tracing::Instrument;

use super::{
    look::Lookout,
    open::{OpenPosts, Posted},
    run::{Run, late},
};
#[cfg(feature = "outbox")]
use crate::chain::{PostKeeper, SignedPost};
use crate::{
    chain::{Binding, Chain, Poster},
    error::{Error, ErrorKind, Outcome, Result},
    job::{JobId, Revision, SignedJob, Verified, echo_difference},
    observe,
    runtime::{Joint, require_runtime},
};

/// How long a post may take, unless set: some blocks, and time to spare.
const TIMEOUT: Duration = Duration::from_secs(180);

/// The task ends by itself at the deadline; this is for one that was begun with a longer one.
const GRACE: Duration = Duration::from_secs(1);

/// What results are posted with, and what became of those that were.
#[derive(Clone)]
pub(crate) struct Posts {
    revision: Revision,
    chain: Option<Chain>,
    /// What is posted must be for this chain.
    binding: Option<Binding>,
    poster: Option<Arc<dyn Poster>>,
    open: OpenPosts,
}

impl Posts {
    pub(crate) fn new(
        revision: Revision,
        chain: Option<Chain>,
        binding: Option<Binding>,
        poster: Option<Arc<dyn Poster>>,
    ) -> Self {
        Self { revision, chain, binding, poster, open: OpenPosts::default() }
    }

    /// A post to be made.
    pub(crate) fn post(&self, job: &SignedJob, verified: &Verified) -> Posting {
        Posting { posts: self.clone(), job: job.clone(), verified: verified.clone(), timeout: TIMEOUT }
    }

    /// Posts of a job, whose transactions the keeper keeps before they are sent, and of which it has kept these.
    /// Nothing if there is no poster, or none that hands out what it signs.
    #[cfg(feature = "outbox")]
    pub(crate) fn kept_by(&self, id: JobId, keeper: Arc<dyn PostKeeper>, kept: &[SignedPost]) -> Option<Self> {
        let poster = self.poster.as_ref()?.kept_by(keeper, kept)?;
        self.open.recall(id, kept);
        Some(Self { poster: Some(poster), ..self.clone() })
    }

    /// Who pays; nothing if there is no poster, or none that hands out what it signs.
    #[cfg(feature = "outbox")]
    pub(crate) fn keeping_account(&self) -> Option<Address> {
        let poster = self.poster.as_ref()?;
        poster.kept_by(Arc::new(NoKeeper), &[]).map(|_| poster.address())
    }

    /// The transactions that were signed and perhaps sent, and of which no end was seen.
    pub(crate) fn open(&self) -> Vec<(JobId, B256)> {
        self.open.open()
    }

    pub(crate) fn forget(&self, id: JobId) -> Option<B256> {
        self.open.forget(id)
    }

    /// What can be said before anything is asked.
    fn ready(&self, job: &SignedJob, verified: &Verified) -> Result<(Chain, Arc<dyn Poster>)> {
        require_runtime()?;
        job.check_revision(self.revision)?;
        self.binding.as_ref().map_or(Ok(()), |binding| binding.check_job(job))?;
        let missing =
            |what: &'static str, hint: &'static str| Error::new(ErrorKind::InvalidConfig, what).with_hint(hint);
        let chain =
            self.chain.clone().ok_or_else(|| missing("the client has no chain", "set it with ClientBuilder::chain"))?;
        let poster = self
            .poster
            .clone()
            .ok_or_else(|| missing("the client has no poster", "set it with ClientBuilder::poster"))?;
        if verified.id() != job.id() || echo_difference(job, verified.record()).is_some() {
            return Err(Error::new(ErrorKind::InvalidInput, "the result belongs to another job")
                .with_hint("give the result that a wait for this very job has verified"));
        }
        Ok((chain, poster))
    }

    /// Starts a post, or joins the one that runs.
    fn start(
        &self,
        job: SignedJob,
        verified: Verified,
        chain: Chain,
        poster: Arc<dyn Poster>,
        deadline: Instant,
    ) -> Joint<Result<Posted>> {
        let (teller, landing) = Joint::new();
        let place = match self.open.begin(job.id(), landing.clone()) {
            Ok(place) => place,
            Err((running, span)) => {
                observe::follow(&span);
                return running;
            }
        };
        let (open, binding) = (self.open.clone(), self.binding);
        let post = async move {
            let lookout = Lookout { job: &job, verified: &verified, chain, binding, from: poster.address(), deadline };
            let landed = Run { lookout, poster, open: &open }.run().await;
            // First out of the books, then the answer: who has it begins the next one.
            drop(place);
            teller.tell(landed);
        };
        tokio::spawn(post.in_current_span());
        landing
    }

    fn cut_off(&self, id: JobId) -> Error {
        let posted = self.open.posted(id);
        let error = Error::new(ErrorKind::Closed, "the post was cut off").with_job(id).with_hint(
            "the Tokio runtime shut down, or the poster panicked; post it again: the chain is looked at first",
        );
        match posted {
            Some(hash) => error.with_outcome(Outcome::Unknown).with_tx_hash(hash),
            None => error,
        }
    }
}

/// Finds out whether a poster hands out what it signs.
#[cfg(feature = "outbox")]
struct NoKeeper;

#[cfg(feature = "outbox")]
#[async_trait::async_trait]
impl PostKeeper for NoKeeper {
    async fn keep(&self, _: &SignedPost) -> Result<()> {
        Err(Error::new(ErrorKind::InvalidConfig, "nobody keeps the transaction"))
    }
}

/// A post to be made: `.await` it. Made by [`Client::post_result`](crate::Client::post_result) and
/// [`JobHandle::post_result`](crate::JobHandle::post_result).
///
/// Cancel safety: before it is polled nothing has happened. After that it runs to its end by itself, in a task of its
/// own, whether it is waited for or not; another post of the same job joins it. Transactions whose fate is open are in
/// [`Client::open_posts`](crate::Client::open_posts).
#[must_use = "nothing is posted until it is awaited"]
pub struct Posting {
    posts: Posts,
    job: SignedJob,
    verified: Verified,
    timeout: Duration,
}

impl Posting {
    /// How long it may take. Default: 3 minutes. If a post of the job runs already, it is waited for that long.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    async fn run(self) -> Result<Posted> {
        let span = observe::post(&self.job);
        let done = self.post().instrument(span.clone()).await;
        observe::end(&span, done)
    }

    async fn post(self) -> Result<Posted> {
        let Self { posts, job, verified, timeout } = self;
        let id = job.id();
        let (chain, poster) = posts.ready(&job, &verified).map_err(|error| error.with_job(id))?;
        // A century is for ever.
        let deadline = Instant::now() + timeout.min(Duration::from_secs(100 * 365 * 86_400));
        let landing = posts.start(job, verified, chain, poster, deadline);
        match tokio::time::timeout_at(deadline + GRACE, landing.outcome()).await {
            Ok(landed) => landed.unwrap_or_else(|| Err(posts.cut_off(id))),
            Err(_) => Err(late(id, posts.open.posted(id), "the post under way goes on by itself")),
        }
    }
}

impl IntoFuture for Posting {
    type Output = Result<Posted>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl fmt::Debug for Posting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Posting").field("job", &self.job.id()).field("timeout", &self.timeout).finish_non_exhaustive()
    }
}
