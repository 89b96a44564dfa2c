//! Setting up a client.

use std::{sync::Arc, time::Duration};

use alloy_primitives::Address;

use super::{connection::Client, parts::Parts};
use crate::{
    chain::{Binding, Chain, OPERATOR_TTL, Poster, TrustedOperator},
    error::{Error, ErrorKind, Result},
    inspect::{Severity, Sources},
    job::{JobSigner, Limits, RelayStrategy, Revision},
    node::{Node, PendingLists},
    nonce::{NonceManager, NonceSource, UnixMillis},
    observe::{Observer, Observers},
    post::Posts,
    retry::RetryPolicy,
    runtime::require_runtime,
    submit::{Places, Submissions, lane_of},
    transport::Transport,
    watch::{Backend, HealPolicy, PollPolicy, Watchers},
};

/// Builds a [`Client`]; made by [`Client::builder`].
///
/// Reads no environment and starts nothing. Connects only when the first call is made, which is
/// [`connect`](Self::connect)'s own if the [`revision`](Self::revision) is left out.
#[must_use = "a builder does nothing until `connect` is called"]
pub struct ClientBuilder {
    transport: Option<Result<Arc<dyn Transport>>>,
    revision: Option<Revision>,
    signer: Option<Arc<dyn JobSigner>>,
    operator: Option<Address>,
    operator_ttl: Duration,
    chain: Option<Chain>,
    binding: Option<Binding>,
    preflight: Option<Severity>,
    limits: Option<Limits>,
    poster: Option<Arc<dyn Poster>>,
    nonces: Option<NonceManager>,
    refuse_when_full: bool,
    poll: PollPolicy,
    heal: HealPolicy,
    retry: RetryPolicy,
    lanes: Vec<(Address, RelayStrategy)>,
    observers: Vec<Box<dyn Observer>>,
}

impl ClientBuilder {
    pub(super) fn new() -> Self {
        Self {
            transport: None,
            revision: None,
            signer: None,
            operator: None,
            operator_ttl: OPERATOR_TTL,
            chain: None,
            binding: None,
            preflight: None,
            limits: None,
            poster: None,
            nonces: None,
            refuse_when_full: false,
            poll: PollPolicy::default(),
            heal: HealPolicy::default(),
            retry: RetryPolicy::default(),
            lanes: Vec::new(),
            observers: Vec::new(),
        }
    }

    /// Talks gRPC to the node at this URL, with the defaults of [`GrpcTransport`](crate::transport::GrpcTransport). The
    /// nodes' default port is 50051. Plain `http` is allowed to this machine only; for other settings, give a transport
    /// of your own to [`transport`](Self::transport).
    #[cfg(feature = "grpc")]
    pub fn grpc(mut self, url: impl AsRef<str>) -> Self {
        let transport = crate::transport::GrpcTransport::builder(url.as_ref()).build();
        self.transport = Some(transport.map(|transport| Arc::new(transport) as Arc<dyn Transport>));
        self
    }

    /// Talks JSON to the node's REST gateway at this URL, with the defaults of
    /// [`RestTransport`](crate::transport::RestTransport). The gateways' default port is 8080. Plain `http` is allowed
    /// to this machine only; for other settings, give a transport of your own to [`transport`](Self::transport).
    #[cfg(feature = "rest")]
    pub fn rest(mut self, url: impl AsRef<str>) -> Self {
        let transport = crate::transport::RestTransport::builder(url.as_ref()).build();
        self.transport = Some(transport.map(|transport| Arc::new(transport) as Arc<dyn Transport>));
        self
    }

    /// Talks to the node over this transport. Of several calls of this, [`grpc`](Self::grpc) and [`rest`](Self::rest)
    /// the last counts.
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.transport = Some(Ok(Arc::new(transport)));
        self
    }

    /// The revision the node speaks. If it is left out, [`connect`](Self::connect) asks the node, by gRPC server
    /// reflection.
    ///
    /// If it is given, `connect` needs no node. The node is then asked before the first job or program is submitted, in
    /// at most 5 seconds: if it says that it speaks another revision, nothing is sent ([`ErrorKind::WrongRevision`]),
    /// as a job of one revision can run on a node of the other and never be relayed. A node that does not say is taken
    /// for what is given here; one that cannot be asked at the moment is asked again before the next submission. What
    /// it says is remembered as long as the client lives.
    pub fn revision(mut self, revision: Revision) -> Self {
        self.revision = Some(revision);
        self
    }

    /// Who signs jobs. Needed for [`Client::submit`] and [`Client::sign`] only. The consumer's contract must accept
    /// this account: no node checks it, and a job signed by another is executed and then never relayed.
    pub fn signer(mut self, signer: impl JobSigner + 'static) -> Self {
        self.signer = Some(Arc::new(signer));
        self
    }

    /// The operator whose results are believed: the one your JobManager contract names. Needed to wait for jobs, unless
    /// there is a [`chain`](Self::chain) to read it from; jobs can be submitted without it, and resumed by a client
    /// that has it. Never take it from the node.
    pub fn operator(mut self, operator: Address) -> Self {
        self.operator = Some(operator);
        self
    }

    /// How long the operator that was read from the [`chain`](Self::chain) counts before it is read again. Default: 5
    /// minutes.
    ///
    /// All who need it share one reading. While the chain cannot be read, the one from before counts for up to an hour
    /// (or this long, if that is longer). A result that another account has signed has the operator read at once, at
    /// most once a second, before it counts as unproven: the JobManager may have named a new one.
    pub fn operator_ttl(mut self, ttl: Duration) -> Self {
        self.operator_ttl = ttl;
        self
    }

    /// The chain that results are posted on, and its JobManager. With it the client knows the operator by itself, and
    /// the chain has the last word on what the node says. An [`operator`](Self::operator) that is pinned as well must
    /// be the one that the JobManager names: waits fail with [`ErrorKind::InvalidConfig`] if it is another. It counts
    /// while the chain cannot be read.
    pub fn chain(mut self, chain: Chain) -> Self {
        self.chain = Some(chain);
        self
    }

    /// Binds the client to one chain, one JobManager, one consumer and one signer. Signed bytes hold no chain id, so
    /// nothing else keeps a job that was signed for a test chain from running on another.
    ///
    /// Then [`connect`](Self::connect) fails unless this is the chain, and every call that signs, submits or resumes
    /// fails for other consumers and signers, each with [`ErrorKind::WrongChain`] before anything is sent. Whether it
    /// is still the chain is looked at again with every [preflight](Client::preflight), and whenever the operator is
    /// read. Needs a [`chain`](Self::chain).
    pub fn bind(mut self, binding: Binding) -> Self {
        self.binding = Some(binding);
        self
    }

    /// Has [`Client::submit`] and [`Client::submit_signed`] make a [preflight](Client::preflight) first, and refuse
    /// what has a finding of at least this severity: [`ErrorKind::Preflight`], with the
    /// [`PreflightReport`](super::PreflightReport) in it. Nothing is sent then, and a nonce that was leased for the job
    /// is free again.
    ///
    /// [`Severity::Error`] refuses what will not land, and also if the chain or the node cannot be asked;
    /// [`Severity::Warning`] what may not. [`Client::sign`] makes none, and neither does a wait that sends a lost job
    /// again. Needs a [`chain`](Self::chain).
    pub fn require_preflight(mut self, severity: Severity) -> Self {
        self.preflight = Some(severity);
        self
    }

    /// What the node takes and what a job may cost, for [preflights](Client::preflight). Unless set, a job is measured
    /// by its own limits; one that was read from a store, by the nodes' defaults.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = Some(limits);
        self
    }

    /// Who posts results with [`Client::post_result`], and pays for it. Needed for that only; it is asked for nothing
    /// else.
    pub fn poster(mut self, poster: impl Poster) -> Self {
        self.poster = Some(Arc::new(poster));
        self
    }

    /// Where nonces come from; [`UnixMillis`] unless set, which suits Unordered jobs only. See [`nonce`](crate::nonce).
    pub fn nonces(mut self, source: impl NonceSource + 'static) -> Self {
        self.nonces = Some(NonceManager::new(source));
        self
    }

    /// Shares the nonces of another client, or sets up the manager's own limits.
    pub fn nonce_manager(mut self, manager: NonceManager) -> Self {
        self.nonces = Some(manager);
        self
    }

    /// Whether an Ordered job is refused at once, with [`ErrorKind::LaneFull`], where the window of its lane is full.
    /// Unless set, a submission [waits](Client::submit) for a place. How many jobs the window has room for is set with
    /// [`NonceManager::with_window`].
    pub fn refuse_when_full(mut self, refuse: bool) -> Self {
        self.refuse_when_full = refuse;
        self
    }

    /// Declares how a consumer's jobs are relayed, so that a source of nonces that does not fit is refused by
    /// [`connect`](Self::connect) and not by the first job.
    pub fn lane(mut self, consumer: Address, strategy: RelayStrategy) -> Self {
        self.lanes.push((consumer, strategy));
        self
    }

    /// How waiting jobs are looked up.
    pub fn polling(mut self, policy: PollPolicy) -> Self {
        self.poll = policy;
        self
    }

    /// Whether and when jobs that the node has lost are sent again while they are waited for.
    pub fn healing(mut self, policy: HealPolicy) -> Self {
        self.heal = policy;
        self
    }

    /// How failed calls are repeated, and how long calls may take.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Tells this observer what the client does; several calls add several. See [`observe`](crate::observe).
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.observers.push(Box::new(observer));
        self
    }

    /// Makes the client. Talks to the chain only if the client is [bound](Self::bind), and to the node only if the
    /// [`revision`](Self::revision) was left out, as often as the [retry policy](Self::retry) allows for a read.
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidConfig`] if the transport is missing or cannot be set up, if the operator is zero, if a
    ///   deadline of the retry policy is zero, or outside of a Tokio runtime; [`ErrorKind::Nonce`] if a
    ///   [`lane`](Self::lane) does not fit the source of nonces,
    /// - [`ErrorKind::WrongChain`] if the client is [bound](Self::bind) to another chain, JobManager or signer;
    ///   [`ErrorKind::Chain`], which may pass, if it is bound and the chain cannot be read,
    /// - without a revision: [`ErrorKind::InvalidConfig`] if the node or the transport has no server reflection,
    ///   [`ErrorKind::WrongRevision`] if the node describes a revision that this release does not know,
    ///   [`ErrorKind::Unavailable`] and [`ErrorKind::CallTimeout`], which may pass, if the node cannot be asked.
    pub async fn connect(self) -> Result<Client> {
        let missing =
            |what: &'static str, hint: &'static str| Error::new(ErrorKind::InvalidConfig, what).with_hint(hint);
        let transport = self.transport.ok_or_else(|| {
            missing(
                "no node was given",
                "set one with ClientBuilder::grpc, ClientBuilder::rest or ClientBuilder::transport",
            )
        })??;
        if self.operator.is_some_and(|operator| operator.is_zero()) {
            return Err(missing("the operator is the zero address", "set the address your JobManager names"));
        }
        self.retry.check()?;
        require_runtime()?;
        if self.preflight.is_some() && self.chain.is_none() {
            return Err(missing("a preflight is required, and there is no chain", "set one with ClientBuilder::chain"));
        }
        let chain = self.chain.map(|chain| chain.repeated(&self.retry).bound_to(self.binding));
        if let Some(binding) = &self.binding {
            let chain = chain.as_ref();
            let chain = chain
                .ok_or_else(|| missing("the client is bound and has no chain", "set one with ClientBuilder::chain"))?;
            binding.check_job_manager(chain.job_manager())?;
            if let Some(signer) = &self.signer {
                binding.check_signer(signer.address())?;
            }
            binding.check_identity(chain.identity().await?)?;
        }
        let nonces = self.nonces.unwrap_or_else(|| NonceManager::new(UnixMillis::new()));
        for (consumer, strategy) in self.lanes {
            nonces.check_lane(consumer, lane_of(strategy))?;
        }
        let observers = Observers::new(self.observers);
        nonces.observe(&observers);
        let node = Arc::new(Node::connect(transport, self.revision, self.retry, observers.clone()).await?);
        let submissions = Arc::new(Submissions::new(Arc::clone(&node), nonces.clone()));
        let operator =
            TrustedOperator::new(self.operator, chain.clone(), self.binding, self.operator_ttl, observers.clone());
        let watchers = Arc::new(Watchers::new(self.poll, self.heal, observers));
        let backend = Backend {
            node: Arc::clone(&node),
            submissions: Arc::clone(&submissions),
            operator: operator.clone(),
            chain: chain.clone().map(Chain::unrepeated),
        };
        let pending = PendingLists::new(Arc::clone(&node));
        let places = Places {
            node: Arc::clone(&node),
            pending: pending.clone(),
            nonces: nonces.clone(),
            submissions: Arc::clone(&submissions),
            refuse_when_full: self.refuse_when_full,
        };
        let sources = Sources {
            node: Arc::clone(&node),
            pending,
            chain: chain.clone(),
            binding: self.binding,
            operator: operator.clone(),
            limits: self.limits,
            nonces: nonces.clone(),
            submissions: Arc::clone(&submissions),
            watchers: Arc::clone(&watchers),
        };
        let posts = Posts::new(node.revision(), chain.clone(), self.binding, self.poster);
        Ok(Client::of(Parts {
            node,
            signer: self.signer,
            operator,
            chain,
            binding: self.binding,
            preflight: self.preflight,
            nonces,
            places,
            submissions,
            watchers,
            backend: Arc::new(backend),
            sources,
            posts,
        }))
    }
}

impl std::fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("revision", &self.revision)
            .field("operator", &self.operator)
            .finish_non_exhaustive()
    }
}
