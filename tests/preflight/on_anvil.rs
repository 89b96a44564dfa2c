//! Preflight against the real contracts on a real chain: each fault is induced there, named before anything is submitted, and the
//! contracts do refuse what it names.
#![cfg(all(feature = "devnode", feature = "grpc", feature = "chain"))]

use support::{anvil, contracts};

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use alloy_sol_types::SolValue;
use async_trait::async_trait;
use infinityvm_sdk::{
    Client, ErrorKind, LocalSigner, OffchainJobRequest, Outcome, PreflightReport, ProgramId, RelayStrategy, Result,
    RetryPolicy, Revision, Severity, SignedJob,
    chain::{Answer, Binding, Block, Chain, ChainNonces, ChainReader, OnchainStatus, Question, RpcReader},
    client::ClientBuilder,
    devnode::{ConsumerRules, DevNode},
    job::OffchainJobRequestBuilder,
    nonce::{NonceSource, Sequential},
    primitives::{Address, B256, Bytes, U256, hex, keccak256},
    rpc::Method,
};
use serde_json::json;

use contracts::{Consumer, JobManager, World, deploy};

use crate::rig::names;

use Severity::{Error, Note, Warning};

/// The crate's own reader; it counts, and can be turned to another chain.
#[derive(Clone, Debug)]
struct Turning {
    reader: Arc<Mutex<RpcReader>>,
    asked: Arc<AtomicUsize>,
}

impl Turning {
    fn new(url: &str) -> Self {
        Self { reader: Arc::new(Mutex::new(RpcReader::http(url).unwrap())), asked: Arc::default() }
    }

    fn turn_to(&self, url: &str) {
        *self.reader.lock().unwrap() = RpcReader::http(url).unwrap();
    }
}

#[async_trait]
impl ChainReader for Turning {
    async fn ask(&self, questions: &[Question]) -> Result<Vec<Result<Answer>>> {
        self.asked.fetch_add(1, SeqCst);
        let reader = self.reader.lock().unwrap().clone();
        reader.ask(questions).await
    }

    async fn next_head(&self, known: Option<B256>) -> Result<Block> {
        let reader = self.reader.lock().unwrap().clone();
        reader.next_head(known).await
    }

    fn endpoint(&self) -> &str {
        "anvil"
    }
}

struct Rig {
    world: World,
    reader: Turning,
    node: DevNode,
    program: ProgramId,
}

impl Rig {
    async fn new(revision: Revision) -> Self {
        let world = World::start(revision).await;
        let mut node = DevNode::builder(revision);
        for consumer in [world.square_root, world.stateful_sum, world.allow_list, world.reverting] {
            node = node.consumer(consumer, ConsumerRules::signed_by(world.signer.address()));
        }
        let node = node.start().await.unwrap();
        let program = ProgramId::new(node.register_program(|input| Ok(input.onchain.to_vec())));
        Self { reader: Turning::new(&world.anvil.http_url()), world, node, program }
    }

    fn chain(&self) -> Chain {
        Chain::new(self.reader.clone(), self.world.job_manager)
    }

    fn builder(&self) -> ClientBuilder {
        Client::builder()
            .grpc(self.node.grpc_url())
            .revision(self.world.revision)
            .retry(RetryPolicy::none())
            .signer(self.world.signer.clone())
            .chain(self.chain())
            .nonces(Sequential::starting_at(1))
    }

    fn job(&self, consumer: Address) -> OffchainJobRequestBuilder {
        let input = (U256::from(9), U256::from(3)).abi_encode();
        OffchainJobRequest::builder(consumer, self.program.clone()).max_cycles(1000).onchain_input(input)
    }

    fn sign(&self, nonce: u64, job: OffchainJobRequestBuilder) -> SignedJob {
        self.world.sign(&job.build().unwrap(), nonce)
    }

    fn plain(&self) -> SignedJob {
        self.sign(1, self.job(self.world.square_root))
    }

    fn ordered(&self, nonce: u64) -> SignedJob {
        self.sign(nonce, self.job(self.world.square_root).relay(RelayStrategy::Ordered))
    }

    fn stateful(&self, state: Option<&[u8]>) -> SignedJob {
        let job = self.job(self.world.stateful_sum);
        self.sign(
            1,
            match (state, self.world.revision) {
                (None, _) => job,
                (Some(state), Revision::State) => job.state(state.to_vec()),
                (Some(state), _) => job.stateful_onchain_input(keccak256(state), vec![1]),
            },
        )
    }

    async fn transact<C: alloy_sol_types::SolCall>(&self, to: Address, call: &C) {
        self.world.rpc.transact(self.world.owner, to, call).await.unwrap();
    }

    async fn set_signer(&self, next: Address) {
        self.transact(self.world.square_root, &Consumer::setOffchainSignerCall { next }).await;
    }

    async fn set_code(&self, address: Address, code: &[u8]) {
        self.world.rpc.call("anvil_setCode", json!([address, hex::encode_prefixed(code)])).await;
    }

    async fn request_on_chain(&self) -> B256 {
        let call = Consumer::requestSquareRootCall {
            programID: Bytes::from_static(b"program"),
            number: U256::from(4),
            maxCycles: 7,
        };
        self.transact(self.world.square_root, &call).await;
        infinityvm_sdk::JobId::derive(1, self.world.square_root).into()
    }

    /// Whether the contracts take the job's result.
    async fn lands(&self, job: &SignedJob) -> bool {
        let output = if job.consumer() == self.world.stateful_sum {
            (B256::repeat_byte(5), Bytes::from_static(b"sum")).abi_encode_params()
        } else {
            (U256::from(9), U256::from(3)).abi_encode_params()
        };
        let output = if job.consumer() == self.world.stateful_sum {
            // A struct, as the contract decodes it: one dynamic tuple.
            [U256::from(32).abi_encode(), output].concat()
        } else {
            output
        };
        self.world.settle(job, &output).await.is_ok()
    }
}

/// All calls but the check of signatures go to the consumer; that one reverts.
fn paused(consumer: Address) -> Vec<u8> {
    let before = hex::decode("5f3560e01c631626ba7e14603e57365f5f375f5f365f73").unwrap();
    let after = hex::decode("5af43d5f5f3e603a573d5ffd5b3d5ff35b5f5ffd").unwrap();
    let mut code = [before, consumer.to_vec(), after].concat();
    // The jumps' destinations: the last two JUMPDESTs.
    let destinations: Vec<_> = (43..code.len()).filter(|at| code[*at] == 0x5b).collect();
    let [ok, revert] = destinations[..] else { panic!("two destinations") };
    let jumps: Vec<_> = (1..code.len()).filter(|at| code[*at] == 0x57 && (*at < 20 || *at > 43)).collect();
    code[jumps[0] - 1] = u8::try_from(revert).unwrap();
    code[jumps[1] - 1] = u8::try_from(ok).unwrap();
    code
}

/// A fault that was induced: the job, what is found, how the client is set up, and whether the contracts take the result all the
/// same, where they can be asked.
struct Induced {
    job: SignedJob,
    expected: Vec<(&'static str, Severity)>,
    setup: Box<dyn Fn(ClientBuilder) -> ClientBuilder + Send>,
    lands: Option<bool>,
}

fn induced(job: SignedJob, kind: &'static str, severity: Severity) -> Induced {
    Induced { job, expected: vec![(kind, severity)], setup: Box::new(|it| it), lands: Some(severity < Error) }
}

const FAULTS: [&str; 22] = [
    "no consumer",
    "no JobManager",
    "signed by a stranger",
    "struck from the list",
    "paused",
    "no signer",
    "no signer, unreadable signature",
    "another job complete",
    "requested on chain",
    "cancelled on chain",
    "ordered, too low",
    "ordered, a gap",
    "too far above",
    "the largest nonce",
    "the largest nonce was used",
    "stale state",
    "no state",
    "no operator",
    "another operator",
    "another JobManager",
    "another chain",
    "chain down",
];

async fn induce(rig: &Rig, name: &str) -> Option<Induced> {
    let world = &rig.world;
    let relay = world.revision == Revision::Relay;
    let stranger = LocalSigner::random().unwrap();
    let unsigned = |consumer| rig.job(consumer).build().unwrap().prepare(world.revision, 1).unwrap();
    Some(match name {
        "no consumer" => induced(rig.sign(1, rig.job(Address::repeat_byte(0xee))), "NoConsumer", Error),
        "no JobManager" => {
            rig.set_code(world.job_manager, &[]).await;
            Induced { lands: None, ..induced(rig.plain(), "NoJobManager", Error) }
        }
        "signed by a stranger" => {
            induced(unsigned(world.square_root).sign(&stranger).await.unwrap(), "SignerRefused", Error)
        }
        "struck from the list" => {
            let call = Consumer::allowCall { signer: world.signer.address(), allowed: false };
            rig.transact(world.allow_list, &call).await;
            induced(rig.sign(1, rig.job(world.allow_list)), "SignerRefused", Error)
        }
        "paused" => {
            let copy = world.consumer("SquareRootConsumer", world.signer.address(), 0).await;
            rig.set_code(world.square_root, &paused(copy)).await;
            induced(rig.plain(), "SignatureCheckReverted", Error)
        }
        "no signer" => {
            rig.set_signer(Address::ZERO).await;
            induced(rig.plain(), "NoSigner", Error)
        }
        "no signer, unreadable signature" => {
            rig.set_signer(Address::ZERO).await;
            let job = unsigned(world.square_root).with_signature(Bytes::from_static(&[1])).unwrap();
            induced(job, "NoSigner", Warning)
        }
        "another job complete" => {
            let other = rig.sign(1, rig.job(world.square_root).max_cycles(5));
            assert!(rig.lands(&other).await);
            induced(rig.plain(), "NonceTakenOnChain: Completed", Error)
        }
        "requested on chain" => {
            rig.request_on_chain().await;
            induced(rig.plain(), "NonceTakenOnChain: Pending", Error)
        }
        "cancelled on chain" => {
            let job_id = rig.request_on_chain().await;
            rig.transact(world.square_root, &Consumer::cancelCall { jobID: job_id }).await;
            induced(rig.plain(), "NonceTakenOnChain: Cancelled", Error)
        }
        "ordered, too low" if relay => {
            let consumer = world.consumer("SquareRootConsumer", world.signer.address(), 5).await;
            let job = rig.sign(3, rig.job(consumer).relay(RelayStrategy::Ordered));
            // The node refuses it, not the contracts.
            Induced { lands: None, ..induced(job, "NonceTooLow", Error) }
        }
        "ordered, a gap" if relay => Induced { lands: None, ..induced(rig.ordered(4), "NonceGap", Error) },
        "too far above" => {
            let job = rig.sign(1 << 40, rig.job(world.square_root));
            // The contracts take it, and the consumer counts on from there.
            Induced { lands: None, ..induced(job, "NonceTooFar", Error) }
        }
        "the largest nonce" => {
            Induced { lands: None, ..induced(rig.sign(u64::MAX, rig.job(world.square_root)), "NonceLargest", Error) }
        }
        "the largest nonce was used" => {
            let consumer = world.consumer("SquareRootConsumer", world.signer.address(), u64::MAX).await;
            // A node could not read the next nonce, either.
            Induced { lands: None, ..induced(rig.sign(1, rig.job(consumer)), "ChainNotRead", Warning) }
        }
        "stale state" => induced(rig.stateful(Some(b"not the latest")), "StaleState", Error),
        // In the State revision no state is the one that the consumer begins with.
        "no state" => {
            let lands = if relay { Some(false) } else { None };
            Induced { lands, ..induced(rig.stateful(None), "StateMissing", Error) }
        }
        "no operator" => {
            rig.transact(world.job_manager, &JobManager::setCoprocessorOperatorCall { next: Address::ZERO }).await;
            induced(rig.plain(), "NoOperator", Error)
        }
        "another operator" => {
            let setup = Box::new(|it: ClientBuilder| it.operator(Address::repeat_byte(9)));
            Induced { setup, lands: None, ..induced(rig.plain(), "OtherOperator", Error) }
        }
        "another JobManager" => {
            let path = format!("{}/JobManager", world.revision);
            let other = deploy(&world.rpc, world.owner, &path, &world.operator.address().abi_encode()).await;
            let chain = Chain::new(rig.reader.clone(), other);
            let setup = Box::new(move |it: ClientBuilder| it.chain(chain.clone()));
            Induced { setup, lands: None, ..induced(rig.plain(), "OtherJobManager", Error) }
        }
        "another chain" => {
            let binding = Binding::read(&rig.chain(), world.square_root, world.signer.address()).await.unwrap();
            let setup = Box::new(move |it: ClientBuilder| it.bind(binding));
            Induced { setup, lands: None, ..induced(rig.plain(), "WrongChain", Error) }
        }
        "chain down" => {
            // Nobody listens there.
            rig.reader.turn_to("http://127.0.0.1:1");
            Induced { lands: None, ..induced(rig.plain(), "ChainNotRead", Warning) }
        }
        _ => return None,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn every_fault_is_named_and_is_one() {
    let mut seen = std::collections::BTreeSet::new();
    for revision in Revision::ALL {
        for name in FAULTS {
            let rig = Rig::new(revision).await;
            let Some(Induced { job, expected, setup, lands }) = induce(&rig, name).await else { continue };
            let what = format!("{name}, {revision}");
            seen.insert(name);
            let client = setup(rig.builder()).require_preflight(expected[0].1).connect().await.unwrap();
            // Kept until the end of this fault.
            let _anew = (name == "another chain").then(|| begin_anew(&rig));
            let kind = if name == "another chain" { ErrorKind::WrongChain } else { ErrorKind::Preflight };
            let asked = rig.reader.asked.load(SeqCst);
            let report = client.preflight(&job).await.unwrap();
            assert_eq!(rig.reader.asked.load(SeqCst) - asked, crate::rig::looks(&names(&report)), "{what}");
            let mut expected: Vec<_> =
                expected.into_iter().map(|(kind, severity)| (kind.to_owned(), severity)).collect();
            if revision == Revision::State {
                expected.push(("ProgramNotChecked".to_owned(), Note));
            }
            assert_eq!(names(&report), expected, "{what}\n{report}");
            let refused = client.submit_signed(job.clone()).await.unwrap_err();
            assert_eq!((refused.kind(), refused.outcome()), (kind, Outcome::NotSent), "{what}");
            assert!(PreflightReport::of(&refused).is_some(), "{what}");
            assert_eq!(refused.is_retryable(), name == "chain down", "{what}");
            assert_eq!(rig.node.stats().calls(Method::SubmitJob), 0, "{what}: something was sent");
            if let Some(lands) = lands {
                assert_eq!(rig.lands(&job).await, lands, "{what}: what the contracts say");
            }
        }
    }
    assert_eq!(seen.len(), FAULTS.len(), "{seen:?}");
}

/// A development chain that is begun anew: the same id, and another first block, as it is made at another time.
fn begin_anew(rig: &Rig) -> anvil::Anvil {
    let anew = anvil::Anvil::builder().arg("--timestamp").arg("1700000000").start();
    rig.reader.turn_to(&anew.http_url());
    anew
}

#[tokio::test]
#[ignore = "needs anvil: tests/run installs it"]
async fn a_client_that_is_bound_does_not_connect_to_a_chain_begun_anew() {
    let rig = Rig::new(Revision::Relay).await;
    let binding = Binding::read(&rig.chain(), rig.world.square_root, rig.world.signer.address()).await.unwrap();
    rig.builder().bind(binding).connect().await.unwrap();
    let _anew = begin_anew(&rig);
    assert_eq!(rig.chain().identity().await.unwrap().chain_id, binding.chain_id);
    let error = rig.builder().bind(binding).connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongChain, "{}", error.report());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn what_is_clear_lands() {
    for revision in Revision::ALL {
        let rig = Rig::new(revision).await;
        let world = &rig.world;
        let client = rig.builder().require_preflight(Warning).connect().await.unwrap();
        let jobs = [
            rig.plain(),
            rig.sign(1, rig.job(world.allow_list)),
            rig.sign(7, rig.job(world.square_root)),
            match revision {
                // The consumer begins with the hash of what is empty, which no job of this revision can carry as a state.
                Revision::State => rig.sign(8, rig.job(world.square_root).state(b"not asked for".to_vec())),
                _ => rig.stateful(Some(b"")),
            },
        ];
        for job in jobs {
            let report = client.preflight(&job).await.unwrap();
            assert!(report.is_clear(), "{revision}\n{report}");
            assert_eq!(report.findings().len(), usize::from(revision == Revision::State), "{report}");
            client.submit_signed(job.clone()).await.unwrap();
            assert!(rig.lands(&job).await, "{revision}: {report}");
            // On chain now, and it is this one: no reason to refuse it.
            let report = client.preflight(&job).await.unwrap();
            assert!(report.is_clear(), "{report}");
            assert!(names(&report).contains(&("Complete".to_owned(), Note)), "{report}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn nonces_from_the_real_contracts() {
    let rig = Rig::new(Revision::Relay).await;
    let consumer = rig.world.square_root;
    let source = ChainNonces::new(rig.chain()).with_max_age(std::time::Duration::ZERO);
    assert_eq!([source.reserve(consumer).await.unwrap(), source.reserve(consumer).await.unwrap()], [1, 2]);
    // An on-chain request takes 1; the first job is relayed under 2.
    rig.request_on_chain().await;
    let second = rig.sign(2, rig.job(consumer));
    assert!(rig.lands(&second).await);
    let found = source.reconcile(consumer, std::slice::from_ref(&second)).await.unwrap();
    assert_eq!(found.taken, [(1, OnchainStatus::Pending)]);
    assert_eq!((found.relayed, found.next_on_chain, found.next), (vec![2], 3, 3));
    assert_eq!(source.reserve(consumer).await.unwrap(), 3);
    // The next request takes 3, which is handed out.
    rig.transact(
        consumer,
        &Consumer::requestSquareRootCall {
            programID: Bytes::from_static(b"program"),
            number: U256::from(4),
            maxCycles: 7,
        },
    )
    .await;
    assert_eq!(source.reserve(consumer).await.unwrap(), 4);
    assert_eq!(
        source.reconcile(consumer, &[]).await.unwrap().taken,
        [(1, OnchainStatus::Pending), (3, OnchainStatus::Pending)]
    );
}
