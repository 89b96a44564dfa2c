//! A node, an outbox, and an app server on it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
};

use infinityvm_sdk::{
    Client, LocalSigner, PollPolicy, ProgramId, Revision,
    app::{
        self, AppServer, AppServerBuilder, AppState, AppStop, BatchPolicy,
        stf::{Batch, Context, Inputs, Reader, StateTransition, decode_stateful, encode_stateful},
    },
    client::ClientBuilder,
    devnode::{ConsumerRules, DevNode, ProgramError, ProgramInput, ProgramOutput},
    nonce::Given,
    outbox::{LaneConfig, MemoryStore, Outbox, OutboxStore},
    primitives::{Address, B256},
};
use tokio::time::{Duration, timeout};

use crate::ledger::{CYCLES, Ledger, Order};

pub const CONSUMER: Address = Address::repeat_byte(7);

/// Long enough for whatever comes, on a machine that is busy.
pub const LONG: Duration = Duration::from_secs(60);

/// How the node runs the ledger's program.
#[derive(Default)]
pub struct Conduct {
    /// Cycles for each request, beside those that the ledger estimates.
    pub extra_cycles: AtomicU64,
    /// The outputs have another root.
    pub lies: AtomicBool,
    /// Adds one more than it was asked for.
    pub adds: AtomicBool,
}

pub struct Rig {
    pub node: DevNode,
    pub signer: LocalSigner,
    pub conduct: Arc<Conduct>,
    pub program: ProgramId,
}

impl Rig {
    pub async fn new<const RELAY: bool>() -> Self {
        let signer = LocalSigner::random().unwrap();
        let root = B256::from(Ledger::<RELAY>::default().root());
        let rules = ConsumerRules::signed_by(signer.address()).with_state(root);
        let revision = if RELAY { Revision::Relay } else { Revision::State };
        let node = DevNode::builder(revision).consumer(CONSUMER, rules).start().await.unwrap();
        let conduct = Arc::<Conduct>::default();
        let program = node.register_program(program::<RELAY>(Arc::clone(&conduct)));
        Self { node, signer, conduct, program: ProgramId::new(program) }
    }

    pub fn client(&self) -> ClientBuilder {
        Client::builder()
            .grpc(self.node.grpc_url())
            .revision(self.node.revision())
            .signer(self.signer.clone())
            .chain(self.node.chain().to_chain())
            .nonces(Given)
            .polling(often())
    }

    /// The simulated chain makes a block for each relay only.
    pub fn lane(&self) -> LaneConfig {
        app::lane(CONSUMER, self.node.revision()).with_finality(1)
    }

    pub async fn outbox(&self) -> Outbox {
        self.outbox_on(MemoryStore::new(), self.lane()).await
    }

    pub async fn outbox_on(&self, store: impl OutboxStore, lane: LaneConfig) -> Outbox {
        let client = self.client().connect().await.unwrap();
        Outbox::builder(client, store).lane(lane).start().await.unwrap()
    }

    pub fn server<const RELAY: bool>(&self, outbox: &Outbox) -> AppServerBuilder<Ledger<RELAY>> {
        AppServer::builder(outbox.clone(), CONSUMER, self.program.clone()).initial(Ledger::default()).batches(quick())
    }

    /// The root that the contract has.
    pub fn root(&self) -> B256 {
        self.node.chain().latest_state_root(CONSUMER).unwrap()
    }

    /// How many results have landed.
    pub fn landed(&self) -> usize {
        self.node.chain().all_completed().len()
    }
}

/// Looks at jobs that come soon.
pub fn often() -> PollPolicy {
    PollPolicy::default().with_tick(Duration::from_millis(10)).with_most(Duration::from_millis(100))
}

/// Batches that are cut at once.
pub fn quick() -> BatchPolicy {
    BatchPolicy::default().with_delay(Duration::from_millis(20))
}

/// What is in no batch in any time that counts.
pub fn never() -> BatchPolicy {
    BatchPolicy::default().with_delay(Duration::from_secs(3_600))
}

/// The ledger's program, as a node runs it.
pub fn program<const RELAY: bool>(
    conduct: Arc<Conduct>,
) -> impl Fn(ProgramInput<'_>) -> Result<ProgramOutput, ProgramError> + Send + Sync + 'static {
    move |input| {
        let inputs = Inputs {
            onchain: input.onchain.to_vec(),
            offchain: input.offchain.to_vec(),
            state: (!RELAY).then(|| input.state.to_vec()),
        };
        let run = if conduct.adds.load(SeqCst) { generous::<RELAY> } else { Ledger::<RELAY>::program };
        let mut output = run(&inputs).map_err(|error| ProgramError::halted(error.to_string()))?;
        if conduct.lies.load(SeqCst) {
            output[40] ^= 1;
        }
        let orders = orders::<RELAY>(&inputs).len() as u64;
        let cycles = (orders + 1) * CYCLES + orders * conduct.extra_cycles.load(SeqCst);
        Ok(ProgramOutput::new(output).with_cycles(cycles))
    }
}

/// The ledger's program, but for one that is added to whatever is added.
fn generous<const RELAY: bool>(inputs: &Inputs) -> Result<Vec<u8>, app::stf::ProgramError> {
    let mut reader = Reader::new(&inputs.offchain);
    let state = if RELAY { reader.bytes()? } else { inputs.state.as_deref().unwrap_or_default() };
    let mut ledger = Ledger::<RELAY>::restore(state).map_err(|error| error.to_string())?;
    for (context, order) in orders::<RELAY>(inputs) {
        let order = match order {
            Order::Add { account, amount } => Order::Add { account, amount: amount + 1 },
            other => other,
        };
        // As the ledger says.
        _ = ledger.apply(&order, &context);
    }
    let output = Ledger::<RELAY>::program(inputs)?;
    Ok(encode_stateful(&ledger.root(), decode_stateful(&output)?.1))
}

/// The orders in the inputs of a batch.
pub fn orders<const RELAY: bool>(inputs: &Inputs) -> Vec<(Context, Order)> {
    let mut reader = Reader::new(&inputs.offchain);
    let batch = if RELAY { reader.bytes().and_then(|_| reader.bytes()).unwrap() } else { &inputs.onchain };
    Batch::decode(batch).unwrap().entries
}

/// Waits until the server has stopped, and says why.
pub async fn stop<S: StateTransition>(server: &AppServer<S>) -> AppStop {
    let mut states = server.states();
    let state = timeout(LONG, states.wait_for(|state| matches!(state, AppState::Stopped(_)))).await;
    match state.expect("it stops").unwrap().clone() {
        AppState::Stopped(stop) => stop,
        state => panic!("{state:?}"),
    }
}

/// Waits until the server answers.
pub async fn answers<S: StateTransition>(server: &AppServer<S>) {
    let mut states = server.states();
    timeout(LONG, states.wait_for(|state| *state == AppState::Answering)).await.expect("it answers").unwrap();
}

/// Polls until something is so.
pub async fn eventually(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let looking = async {
        while !is().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, looking).await.unwrap_or_else(|_| panic!("never: {what}"));
}
