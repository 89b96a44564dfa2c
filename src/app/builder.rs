//! Setting up an app server.

use std::{fmt, sync::Arc, time::Duration};

use alloy_primitives::{Address, B256};
use infinityvm_stf::{Inputs, StateTransition};
use tokio::sync::{mpsc, watch};

use super::{
    core::{Core, Phase, Rechain, RunElf},
    inputs::ChainInputs,
    machine::guarded,
    open,
    policy::BatchPolicy,
    run::run,
    server::AppServer,
    stop::AppState,
};
use crate::{
    error::{Error, ErrorKind, Result},
    job::{ProgramId, RelayStrategy, Revision},
    outbox::{AfterFailure, LaneConfig, Outbox, Points},
    runtime::require_runtime,
    sync::Lock,
    watch::Until,
    wire::ProgramUpload,
};

/// Requests on their way, unless set.
const QUEUE: usize = 1_024;
/// How long a journal that cannot be written is tried, unless set.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest name.
const LONGEST_NAME: usize = 64;

/// The lane that an app's consumer has in the [`Outbox`]: Ordered in the Relay revision, where batches are sent one
/// behind the other, and Unordered in the State revision, where each is sent once the one before is on chain. A failed
/// job waits for the app server. What is not about that can be set on it.
///
/// ```
/// use infinityvm_sdk::{Revision, app};
/// # use infinityvm_sdk::primitives::Address;
/// # let consumer = Address::ZERO;
/// let lane = app::lane(consumer, Revision::Relay).with_finality(64);
/// ```
#[must_use]
pub fn lane(consumer: Address, revision: Revision) -> LaneConfig {
    let strategy = if revision == Revision::Relay { RelayStrategy::Ordered } else { RelayStrategy::Unordered };
    LaneConfig::new(consumer, strategy).with_after_failure(AfterFailure::Hold)
}

/// Builds an [`AppServer`]; made by [`AppServer::builder`].
#[must_use = "a builder does nothing until `start` is called"]
pub struct AppServerBuilder<S: StateTransition> {
    outbox: Outbox,
    consumer: Address,
    program: ProgramId,
    name: String,
    initial: Option<S>,
    policy: BatchPolicy,
    queue: usize,
    elf: Option<ProgramUpload>,
    executor: Option<RunElf>,
    inputs: Option<ChainInputs<S>>,
    patience: Duration,
    rechain: Option<(S, String)>,
    rechain_logs: Option<u64>,
    points: Points,
}

impl<S: StateTransition> AppServer<S> {
    /// Begins a server over an outbox, whose lane for this consumer is made with [`lane`]. The program is what
    /// [`StateTransition::program`] is compiled to, and the node is to have it.
    pub fn builder(outbox: Outbox, consumer: Address, program: impl Into<ProgramId>) -> AppServerBuilder<S> {
        AppServerBuilder {
            outbox,
            consumer,
            program: program.into(),
            name: "app".to_owned(),
            initial: None,
            policy: BatchPolicy::default(),
            queue: QUEUE,
            elf: None,
            executor: None,
            inputs: None,
            patience: PATIENCE,
            rechain: None,
            rechain_logs: None,
            points: Points::default(),
        }
    }
}

impl<S: StateTransition> AppServerBuilder<S> {
    /// Names the app, in up to 64 bytes; `app` unless set. The journal keeps the name, and another app is refused. It
    /// is in the idempotency keys of the batches' jobs: `app/`, the name, and the batch's number.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the state before the first request. Its root is the one that the contract begins with. It is to be given at
    /// every start; how far the app is by now, the journal knows.
    pub fn initial(mut self, state: S) -> Self {
        self.initial = Some(state);
        self
    }

    /// Sets when batches are cut, and how large they become.
    pub fn batches(mut self, policy: BatchPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets how many requests may be on their way before callers wait; 1,024 unless set, and at least one.
    pub fn queue(mut self, requests: usize) -> Self {
        self.queue = requests.max(1);
        self
    }

    /// Gives the program itself, so that it is uploaded again to a node that has lost it. It must have the id that the
    /// server was made with.
    pub fn upload(mut self, program: ProgramUpload) -> Self {
        self.elf = Some(program.with_id(self.program.clone()));
        self
    }

    /// Gives a way to run the compiled program on this machine, without a proof. It is used only if the operator has
    /// signed another root than the server's: the server stops at once ([`AppStop::RootDiffers`]), and then runs the
    /// program over shorter and shorter parts of the batch, until it has found the first request that the program
    /// carries out otherwise ([`ElfFinding`]). That takes one run, and one more for each halving of the batch.
    ///
    /// `run` is given the inputs of a job and the cycles that it allows, and returns the program's output, or why there
    /// is none. A [program that is a command](crate::devnode::external::ProgramCommand::execute) is such a way.
    ///
    /// ```
    /// # use infinityvm_sdk::app::{AppServerBuilder, StateTransition};
    /// # fn with<S: StateTransition>(server: AppServerBuilder<S>) -> AppServerBuilder<S> {
    /// // Without a zkVM, what the program is compiled from.
    /// server.executor(|inputs, _max_cycles| async move { S::program(&inputs).map_err(|error| error.to_string()) })
    /// # }
    /// ```
    ///
    /// [`AppStop::RootDiffers`]: super::AppStop::RootDiffers
    /// [`ElfFinding`]: super::ElfFinding
    pub fn executor<F>(mut self, run: impl Fn(Inputs, u64) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = std::result::Result<Vec<u8>, String>> + Send + 'static,
    {
        self.executor = Some(Box::new(move |inputs, max_cycles| Box::pin(run(inputs, max_cycles))));
        self
    }

    /// Has logs of the chain become requests: deposits, withdrawals, calls of an admin. They are read by the client's
    /// chain while the server answers, and each is carried out once, in the one order of all requests: the journal
    /// keeps with the requests of some logs how far the logs were read. [`AppStatus::chain_inputs`] shows that.
    ///
    /// A chain that cannot be read stops nobody; its logs wait. A block that is replaced although its logs are in the
    /// journal stops the server ([`AppStop::Reorganised`]).
    ///
    /// [`AppStatus::chain_inputs`]: super::AppStatus::chain_inputs
    /// [`AppStop::Reorganised`]: super::AppStop::Reorganised
    pub fn chain_inputs(mut self, inputs: ChainInputs<S>) -> Self {
        self.inputs = Some(inputs);
        self
    }

    /// Sets how long a journal that cannot be written for a while, such as that of a database which is starting again,
    /// is tried before the server stops; 30 seconds unless set. Requests wait meanwhile, and none is answered.
    pub fn journal_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Goes on from the state that the contract has, and gives up what was answered and is not proven: a person's
    /// command to a server that has stopped as its root is not the contract's. The reason is kept in the lane's log. If
    /// the client has a chain, the contract must have this state's root. Nothing is done if the journal ends with it
    /// already, nor if that was done before for the same root and the same reason: what is left in the code gives up
    /// nothing at later starts. To go on from the same root once more, give another reason.
    ///
    /// Logs of the chain whose requests are given up so are read again, from the first of them on. Those of a batch
    /// that the node's program ended with just this root ([`AppStop::RootDiffers`]) are in the state, and are not.
    /// For requests that were given up, [`AppServer::settled`] is an error.
    ///
    /// [`AppStop::RootDiffers`]: super::AppStop::RootDiffers
    pub fn rechain(mut self, state: S, reason: impl Into<String>) -> Self {
        self.rechain = Some((state, reason.into()));
        self
    }

    /// With [`rechain`](Self::rechain): has the chain's logs read again from this block on, because the state has
    /// exactly what came before. For a server that has stopped after a [reorganisation], whose journal has logs that
    /// did not happen. Nothing is done unless the state is another than the journal's, or the journal's last block is
    /// not on the chain any more.
    ///
    /// [reorganisation]: super::AppStop::Reorganised
    pub fn rechain_logs(mut self, since: u64) -> Self {
        self.rechain_logs = Some(since);
        self
    }

    /// Calls this at named points between two steps of the server, for tests that crash there. Changes in any release.
    #[doc(hidden)]
    pub fn at_points(mut self, call: impl Fn(&'static str) + Send + Sync + 'static) -> Self {
        self.points = Points::calling(call);
        self
    }

    /// Starts the server. It reads its journal, carries out again what no snapshot has, and goes on with the batches
    /// that are under way. Requests may be made at once, and wait for that. Where another instance has the consumer's
    /// lane, the server [stands by](AppState::Standby).
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidConfig`] if there is no initial state, if the outbox has no lane for the consumer, or one
    ///   that was not made with [`lane`]; if the journal is another app's; if logs are to be followed, and the client
    ///   has no chain; or outside of a Tokio runtime,
    /// - [`ErrorKind::Store`] if the journal cannot be read.
    ///
    /// What is found later, [`AppServer::state`] says.
    pub async fn start(self) -> Result<AppServer<S>> {
        require_runtime()?;
        let invalid =
            |what: &'static str, hint: &'static str| Error::new(ErrorKind::InvalidConfig, what).with_hint(hint);
        if self.name.is_empty() || self.name.len() > LONGEST_NAME || self.name.contains(['\0', '/']) {
            return Err(invalid("an app's name has 1 to 64 bytes, without `/` and NUL", "take another name"));
        }
        let initial = self.initial.ok_or_else(|| {
            invalid("the app has no initial state", "give the state before the first request, with `initial`")
        })?;
        let lane = self.outbox.app_lane(self.consumer)?;
        if !lane.is_shared() && lane.fence().is_none() {
            return Err(invalid(
                "the outbox has no worker",
                "give the server an outbox that OutboxBuilder::start made",
            ));
        }
        let config = lane.config();
        let ordered = lane.client().revision() == Revision::Relay;
        if (config.strategy() == RelayStrategy::Ordered) != ordered
            || config.until() != Until::Relayed
            || config.after() != AfterFailure::Hold
        {
            return Err(invalid(
                "the consumer's lane is not an app's",
                "make it with `app::lane`: Ordered in the Relay revision, until Relayed, Hold after failures",
            ));
        }
        if self.inputs.is_some() && lane.client().chain().is_none() {
            return Err(invalid(
                "logs of the chain are to be followed, and the client reads no chain",
                "give the outbox a client with ClientBuilder::chain",
            ));
        }
        let taken = |state: &S| {
            guarded(|| (state.snapshot(), B256::from(state.root()))).map_err(|panic| {
                Error::new(ErrorKind::InvalidConfig, format!("the app panicked over its state: {panic}"))
            })
        };
        let (snapshot, initial_root) = taken(&initial)?;
        let rechain = match &self.rechain {
            Some((state, reason)) => {
                let (snapshot, root) = taken(state)?;
                Some(Rechain { snapshot: snapshot.into(), root, reason: reason.clone(), logs_since: self.rechain_logs })
            }
            None => None,
        };
        let core = Arc::new(Core {
            lane,
            name: self.name,
            program: self.program,
            elf: self.elf,
            executor: self.executor,
            policy: self.policy,
            inputs: self.inputs.map(Arc::new),
            patience: self.patience,
            initial: snapshot.into(),
            initial_root,
            rechain: Lock::from(rechain),
            points: self.points,
            state: watch::Sender::new(AppState::Starting),
            alarm: Lock::default(),
            followed: Lock::default(),
            tick: watch::Sender::new(0),
            session: Lock::default(),
        });
        open::app(&core).await?;
        let (commands, commanded) = mpsc::channel(self.queue);
        let (phase, phases) = watch::channel(Phase::Running);
        tokio::spawn(run(Arc::clone(&core), commanded, commands.downgrade(), phases));
        Ok(AppServer::of(core, commands, phase))
    }
}

impl<S: StateTransition> fmt::Debug for AppServerBuilder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppServerBuilder")
            .field("name", &self.name)
            .field("consumer", &self.consumer)
            .field("program", &self.program)
            .finish_non_exhaustive()
    }
}
