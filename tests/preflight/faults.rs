//! Each fault by name: exactly what is expected is found, nothing else, in one round trip to each side, and in two
//! where somebody else's word forbids the job; and a client that requires a preflight sends nothing.

use infinityvm_sdk::{
    Client, ErrorKind, FindingKind, Limits, LocalSigner, Outcome, PreflightReport, ProgramId, RelayStrategy, Revision,
    Severity, SignedJob,
    chain::{Answer, Binding, Question},
    client::ClientBuilder,
    devnode::{ConsumerRules, JobState},
    nonce::Lane,
    primitives::{Address, B256, Bytes, SolValue, hex},
    rpc::{Method, StatusCode},
};
use support::facts;

use crate::rig::{CONSUMER, IS_VALID_SIGNATURE, Rig, STATEFUL, looks, names, root, within};

use Severity::{Error, Note, Warning};

/// A fault that was induced.
struct Induced {
    job: SignedJob,
    /// How the client is set up for it.
    setup: Box<dyn Fn(ClientBuilder) -> ClientBuilder + Send>,
    expected: Vec<(&'static str, Severity)>,
    /// What a submission that requires a preflight fails with.
    error: ErrorKind,
}

impl Induced {
    fn new(job: SignedJob, kind: &'static str, severity: Severity) -> Self {
        Self { job, setup: Box::new(|it| it), expected: vec![(kind, severity)], error: ErrorKind::Preflight }
    }

    fn with(mut self, setup: impl Fn(ClientBuilder) -> ClientBuilder + Send + 'static) -> Self {
        self.setup = Box::new(setup);
        self
    }

    fn refused_as(mut self, error: ErrorKind) -> Self {
        self.error = error;
        self
    }
}

const FAULTS: [&str; 38] = [
    "no consumer",
    "no JobManager",
    "signed by a stranger",
    "not on the list of signers",
    "paused",
    "no signer",
    "no signer, unreadable signature",
    "another job complete",
    "requested on chain",
    "cancelled on chain",
    "unclear on chain",
    "ordered, too low",
    "ordered, a gap",
    "ordered, two gaps",
    "too far above",
    "the largest nonce",
    "taken at the node",
    "held by another job of the client",
    "failed at a State node",
    "stale state",
    "no state",
    "no operator",
    "another operator",
    "another JobManager",
    "no program",
    "input over the DA limit",
    "message over the limit",
    "too many cycles",
    "too many ordered",
    "job of another revision",
    "node of another revision",
    "another chain",
    "bound to another signer",
    "bound to another consumer",
    "chain down",
    "one question fails",
    "node down",
    "two at once",
];

/// Brings a fault about; nothing where the revision or the transport has none of the kind.
async fn induce(rig: &Rig, name: &str) -> Option<Induced> {
    let relay = rig.revision == Revision::Relay;
    let ordered = |input: &str| {
        let job = rig.job(input);
        if relay { job.relay(RelayStrategy::Ordered) } else { job }
    };
    let plain = rig.sign(1, rig.job("plain")).await;
    let stranger = LocalSigner::random().unwrap();
    let stateful = |job: infinityvm_sdk::job::OffchainJobRequestBuilder, state: &str| match rig.revision {
        Revision::State => job.state(state.as_bytes().to_vec()),
        _ => job.stateful_onchain_input(root(state), b"input".to_vec()),
    };
    let on_stateful = || infinityvm_sdk::OffchainJobRequest::builder(STATEFUL, rig.stateful.clone()).max_cycles(1000);
    let signed_by = |signer: LocalSigner| async move {
        rig.job("plain").build().unwrap().prepare(rig.revision, 1).unwrap().sign(&signer).await.unwrap()
    };
    Some(match name {
        "no consumer" => {
            let nowhere = Address::repeat_byte(0xee);
            let job = infinityvm_sdk::OffchainJobRequest::builder(nowhere, rig.program.clone()).max_cycles(1);
            Induced::new(rig.sign(1, job).await, "NoConsumer", Error)
        }
        "no JobManager" => {
            let manager = rig.chain.sim.job_manager();
            rig.chain.say("no JobManager", move |question| match question {
                Question::Code(address, _) if *address == manager => Some(Ok(Answer::Code(Bytes::new()))),
                Question::Call(call, _) if call.to == manager => Some(Ok(Answer::Returned(Bytes::new()))),
                _ => None,
            });
            Induced::new(plain, "NoJobManager", Error)
        }
        "signed by a stranger" => Induced::new(signed_by(stranger).await, "SignerRefused", Error),
        "not on the list of signers" => {
            rig.chain.reverts("getOffchainSigner()", "");
            rig.chain.returns(IS_VALID_SIGNATURE, B256::repeat_byte(0xff).to_vec());
            Induced::new(plain, "SignerRefused", Error)
        }
        "paused" => {
            rig.chain.reverts(IS_VALID_SIGNATURE, "Pausable: paused");
            Induced::new(plain, "SignatureCheckReverted", Error)
        }
        "no signer" => {
            rig.chain.sim.deploy(CONSUMER, ConsumerRules::signed_by(Address::ZERO));
            Induced::new(plain, "NoSigner", Error)
        }
        "no signer, unreadable signature" => {
            rig.chain.sim.deploy(CONSUMER, ConsumerRules::signed_by(Address::ZERO));
            let unsigned = rig.job("plain").build().unwrap().prepare(rig.revision, 1).unwrap();
            Induced::new(unsigned.with_signature(Bytes::from_static(&[1])).unwrap(), "NoSigner", Warning)
        }
        "another job complete" => {
            rig.chain.land(&rig.sign(1, rig.job("another")).await, b"out");
            Induced::new(plain, "NonceTakenOnChain: Completed", Error)
        }
        "requested on chain" => {
            rig.chain.sim.take_nonce(CONSUMER);
            Induced::new(plain, "NonceTakenOnChain: Pending", Error)
        }
        "cancelled on chain" => {
            rig.chain.sim.take_nonce(CONSUMER);
            assert!(rig.chain.sim.cancel(plain.id().into()));
            Induced::new(plain, "NonceTakenOnChain: Cancelled", Error)
        }
        "unclear on chain" => {
            let unclear = (Bytes::from_static(b"another program"), 7_u64, CONSUMER, 9_u32);
            rig.chain.returns("getJobMetadata(bytes32)", unclear.abi_encode());
            Induced::new(plain, "NonceTakenOnChain: Unrecognized(9)", Error)
        }
        "ordered, too low" if relay => {
            rig.chain.sim.deploy(CONSUMER, rig.rules().with_max_nonce(5));
            Induced::new(rig.sign(3, ordered("low")).await, "NonceTooLow", Error)
        }
        "ordered, a gap" | "ordered, two gaps" if relay => {
            Induced::new(rig.sign(5, ordered("high")).await, "NonceGap", Error)
        }
        "too far above" => Induced::new(rig.sign(1 << 40, rig.job("far")).await, "NonceTooFar", Error),
        "the largest nonce" => Induced::new(rig.sign(u64::MAX, rig.job("largest")).await, "NonceLargest", Error),
        "taken at the node" => {
            let gate = rig.node.faults().hold_executions();
            let other = rig.sign(1, rig.job("other")).await;
            rig.client().await.submit_signed(other).await.unwrap();
            std::mem::forget(gate);
            Induced::new(plain, "NonceTakenAtNode", Error)
        }
        "held by another job of the client" => Induced::new(plain, "NonceHeld", Error),
        "failed at a State node" if !relay => {
            let bad = rig.sign(1, rig.job("bad")).await;
            rig.client().await.submit_signed(bad.clone()).await.unwrap();
            rig.node.wait_until(|view| view.job_state(bad.id().into()) == Some(JobState::Failed)).await;
            Induced::new(bad, "Failed", Error)
        }
        "stale state" => Induced::new(rig.sign(1, stateful(on_stateful(), "old")).await, "StaleState", Error),
        "no state" => Induced::new(rig.sign(1, on_stateful()).await, "StateMissing", Error),
        "no operator" => {
            rig.chain.sim.set_operator(Address::ZERO);
            Induced::new(plain, "NoOperator", Error)
        }
        "another operator" => {
            Induced::new(plain, "OtherOperator", Error).with(|it| it.operator(Address::repeat_byte(9)))
        }
        "another JobManager" => {
            rig.chain.returns("getJobManager()", Address::repeat_byte(9).abi_encode());
            Induced::new(plain, "OtherJobManager", Error)
        }
        "no program" if !rig.has_note() => {
            let job = infinityvm_sdk::OffchainJobRequest::builder(CONSUMER, ProgramId::new(vec![9; 32])).max_cycles(1);
            Induced::new(rig.sign(1, job).await, "ProgramMissing", Error)
        }
        "input over the DA limit" if relay => {
            let mut word = 1u64;
            let noise = std::iter::repeat_with(|| {
                word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (word >> 56) as u8
            });
            let job = rig.job("big").offchain_input(noise.take(800_000).collect::<Vec<u8>>());
            let job = job.limits(Limits::default().with_max_da(usize::MAX));
            Induced::new(rig.sign(1, job).await, "InputTooLarge", Error).with(|it| it.limits(Limits::default()))
        }
        "message over the limit" => {
            Induced::new(plain, "MessageTooLarge", Error).with(|it| it.limits(Limits::default().with_max_message(100)))
        }
        "too many cycles" => {
            Induced::new(plain, "TooManyCycles", Error).with(|it| it.limits(Limits::default().with_max_cycles(999)))
        }
        "too many ordered" if relay => {
            Induced::new(rig.sign(129, ordered("one too many")).await, "TooManyOrdered", Warning)
        }
        "job of another revision" => {
            let other = if relay { Revision::State } else { Revision::Relay };
            let job = rig.job("other").build().unwrap().prepare(other, 1).unwrap().sign(&rig.signer).await.unwrap();
            Induced::new(job, "WrongRevision", Error).refused_as(ErrorKind::WrongRevision)
        }
        "node of another revision" if !rig.rest => {
            let other = if relay { Revision::State } else { Revision::Relay };
            let job = rig.job("other").build().unwrap().prepare(other, 1).unwrap().sign(&rig.signer).await.unwrap();
            Induced::new(job, "WrongRevision", Error).with(move |it| it.revision(other))
        }
        "another chain" => {
            let binding = Binding::read(&rig.chain.chain(), CONSUMER, rig.signer.address()).await.unwrap();
            Induced::new(plain, "WrongChain", Error).with(move |it| it.bind(binding)).refused_as(ErrorKind::WrongChain)
        }
        "bound to another signer" => {
            let ours = rig.signer.address();
            rig.chain.reverts("getOffchainSigner()", "");
            rig.chain.returns(IS_VALID_SIGNATURE, [&hex!("1626ba7e")[..], &[0; 28]].concat());
            let binding = Binding::read(&rig.chain.chain(), CONSUMER, ours).await.unwrap();
            Induced::new(signed_by(stranger).await, "NotBound", Error)
                .with(move |it| it.bind(binding))
                .refused_as(ErrorKind::WrongChain)
        }
        "bound to another consumer" => {
            let binding = Binding::read(&rig.chain.chain(), STATEFUL, rig.signer.address()).await.unwrap();
            Induced::new(plain, "NotBound", Error).with(move |it| it.bind(binding)).refused_as(ErrorKind::WrongChain)
        }
        "chain down" => {
            rig.chain.rpc().down = true;
            Induced::new(plain, "ChainNotRead", Warning)
        }
        "one question fails" => {
            rig.chain.fails(IS_VALID_SIGNATURE);
            Induced::new(plain, "ChainNotRead", Warning)
        }
        "node down" => {
            rig.node.faults().refuse(Method::GetResult, 9, StatusCode::UNAVAILABLE, "down");
            Induced::new(plain, "NodeNotRead", Warning)
        }
        "two at once" => {
            rig.chain.sim.take_nonce(CONSUMER);
            rig.chain.reverts(IS_VALID_SIGNATURE, "paused");
            let mut both = Induced::new(plain, "SignatureCheckReverted", Error);
            both.expected.push(("NonceTakenOnChain: Pending", Error));
            both
        }
        _ => return None,
    })
}

/// What a client has to have done before.
async fn prepare(rig: &Rig, client: &Client, name: &str) {
    match name {
        "too many ordered" => {
            let ordered = rig.job("at the head").relay(RelayStrategy::Ordered);
            client.submit_signed(rig.sign(1, ordered).await).await.unwrap();
            for nonce in 2..=128 {
                client.nonces().lease_exact(CONSUMER, Lane::Ordered, nonce).await.unwrap().commit();
            }
        }
        "ordered, two gaps" => {
            let mut lease = client.nonces().lease_exact(CONSUMER, Lane::Ordered, 3).await.unwrap();
            lease.mark_signed();
            lease.quarantine();
        }
        "held by another job of the client" => {
            rig.node.faults().refuse(Method::SubmitJob, 1, StatusCode::INTERNAL, "not now");
            let other = rig.sign(1, rig.job("other")).await;
            // A client that requires a preflight makes one of this job, too, which is well.
            client.submit_signed(other).await.unwrap_err();
            assert_eq!(client.unresolved().len(), 1);
        }
        "another chain" => rig.chain.begin_anew(B256::repeat_byte(0x61)),
        _ => {}
    }
}

async fn check(rig: &Rig, name: &str) -> bool {
    let Some(induced) = induce(rig, name).await else { return false };
    let what = format!("{name}, {}, REST {}", rig.revision, rig.rest);
    let Induced { job, setup, mut expected, error } = induced;
    let client = setup(rig.builder()).connect().await.unwrap();
    prepare(rig, &client, name).await;
    let (asked, before) = (rig.chain.rpc().asked, rig.node.stats());
    let report = client.preflight(&job).await.unwrap();
    let node_asked = !matches!(name, "job of another revision");
    if rig.has_note() && node_asked && name != "node of another revision" {
        expected.push(("ProgramNotChecked", Note));
    }
    let expected: Vec<_> = expected.into_iter().map(|(name, severity)| (name.to_owned(), severity)).collect();
    assert_eq!(names(&report), expected, "{what}\n{report}");
    let looks = looks(&expected);
    // Behind others in an Ordered lane, the first of those is looked at, too; and on chain, if the node has it.
    let (behind, at_node) = (name.starts_with("ordered, ") && name.contains("gap"), name == "too many ordered");
    let chain_looks = if at_node { looks * 2 } else { looks };
    assert_eq!(rig.chain.rpc().asked - asked, chain_looks, "{what}");
    let after = rig.node.stats();
    let calls = |method| after.calls(method) - before.calls(method);
    let node_looks = match () {
        () if !node_asked => 0,
        () if behind || at_node => looks * 2,
        () => looks,
    };
    assert_eq!(calls(Method::GetResult), node_looks, "{what}");
    assert!(calls(Method::ContainsProgram) <= looks, "{what}");
    let trips = (report.chain_round_trips() as usize, report.node_round_trips() as usize);
    assert_eq!(trips, (chain_looks, node_looks), "{what}");
    let worst = report.worst().unwrap();
    assert_eq!((report.will_land(), report.is_clear()), (worst < Error, worst < Warning), "{what}");
    for finding in report.findings() {
        assert!(!finding.evidence().is_empty() && !finding.remedy().is_empty(), "{what}");
        assert!(report.to_string().contains(finding.evidence()), "{report}");
    }
    details(name, &report);

    // The same, required.
    rig.chain.truth("genesis");
    let client = setup(rig.builder()).require_preflight(worst).connect().await.unwrap();
    prepare(rig, &client, name).await;
    let submissions = rig.submissions();
    let refused = client.submit_signed(job.clone()).await.unwrap_err();
    assert_eq!((refused.kind(), refused.outcome()), (error, Outcome::NotSent), "{what}: {}", refused.report());
    assert_eq!(rig.submissions(), submissions, "{what}: something was sent");
    let early = matches!(name, "job of another revision" | "bound to another signer" | "bound to another consumer");
    assert_eq!(PreflightReport::of(&refused).is_none(), early, "{what}");
    if let Some(report) = PreflightReport::of(&refused) {
        let unread = |name: &str| name.ends_with("NotRead");
        let required = expected.into_iter().map(|(name, severity)| {
            let severity = if unread(&name) { Error } else { severity };
            (name, severity)
        });
        assert_eq!(names(report), required.collect::<Vec<_>>(), "{what}");
        assert_eq!(refused.hint(), Some(report.findings()[0].remedy()), "{what}");
        assert_eq!(refused.job_id(), Some(job.id().into()), "{what}");
        assert_eq!(refused.is_retryable(), names(report).iter().any(|(name, _)| unread(name)), "{what}");
    }
    true
}

/// What else the findings say.
fn details(name: &str, report: &PreflightReport) {
    let finding = &report.findings()[0];
    match (name, finding.kind()) {
        ("signed by a stranger", FindingKind::SignerRefused { recovered, named, .. }) => {
            assert!(recovered.is_some() && named.is_some() && recovered != named);
            assert!(finding.evidence().contains(&recovered.unwrap().to_string()));
            assert!(finding.evidence().contains(&named.unwrap().to_string()));
        }
        ("not on the list of signers", FindingKind::SignerRefused { named, .. }) => assert_eq!(*named, None),
        ("paused", _) => assert!(finding.evidence().contains("Pausable: paused")),
        ("ordered, too low", kind) => assert_eq!(*kind, facts!(NonceTooLow { next: 6 })),
        ("ordered, a gap", kind) => assert_eq!(*kind, facts!(NonceGap { missing: vec![(1, 4)] })),
        ("ordered, two gaps", kind) => {
            assert_eq!(*kind, facts!(NonceGap { missing: vec![(1, 2), (4, 4)] }));
            assert!(report.to_string().contains("missing nonces: 1 to 2, 4"), "{report}");
        }
        ("taken at the node", kind) => {
            let (field, status) = ("onchain_input", infinityvm_sdk::JobStatus::Pending);
            assert_eq!(*kind, facts!(NonceTakenAtNode { field, status }));
        }
        ("too many ordered", kind) => assert_eq!(*kind, facts!(TooManyOrdered { unrelayed: 128 })),
        ("chain down", kind) => assert_eq!(*kind, facts!(ChainNotRead { call: "all" })),
        ("one question fails", kind) => assert_eq!(*kind, facts!(ChainNotRead { call: "isValidSignature" })),
        ("stale state", kind) => {
            assert_eq!(*kind, facts!(StaleState { latest: root("start"), given: root("old") }));
        }
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_is_named_before_anything_is_sent() {
    let mut seen = std::collections::BTreeSet::new();
    for revision in Revision::ALL {
        for rest in [false, true] {
            for name in FAULTS {
                let rig = Rig::new(revision, rest).await;
                if within(check(&rig, name)).await {
                    seen.insert(name);
                }
            }
        }
    }
    assert_eq!(seen.len(), FAULTS.len(), "{seen:?}");
}

#[tokio::test]
async fn without_a_chain_that_is_said_and_nothing_can_be_required() {
    let rig = Rig::new(Revision::Relay, false).await;
    let builder = || Client::builder().grpc(rig.node.grpc_url()).revision(rig.revision);
    let client = builder().connect().await.unwrap();
    let report = client.preflight(&rig.sign(1, rig.job("plain")).await).await.unwrap();
    assert_eq!(names(&report), [("NoChain".to_owned(), Warning)]);
    assert_eq!((report.chain_round_trips(), report.node_round_trips()), (0, 1));
    let error = builder().require_preflight(Error).connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
}
