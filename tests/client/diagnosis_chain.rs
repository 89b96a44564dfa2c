//! Diagnoses with a chain: every cause that only it shows, induced and named; and jobs that are well on a chain that lags.

use std::{future::Future, time::Duration};

use infinityvm_sdk::{
    Cause, Client, Confidence, Diagnosis, FindingKind, JobHandle, LocalSigner, OffchainJobRequest, ProgramId,
    RelayStrategy, RetryPolicy, Revision, SignedJob, Until,
    chain::{Answer, OnchainStatus, Question, RevertCause},
    client::Stage,
    devnode::{ConsumerRules, JobState, Lie, ProgramOutput},
    job::abi::relay::StatefulAppOnchainInput,
    nonce::Sequential,
    primitives::{Address, Bytes, SolValue, keccak256},
    rpc::{Method, StatusCode},
};
use support::facts;

use support::tapped::Tapped;

use crate::rig::{CONSUMER, Rig, within};

pub const SUBMIT_RESULT: &str = "submitResultForOffchainJob(bytes,bytes,bytes,bytes)";
/// A consumer with a state.
pub const STATEFUL: Address = Address::repeat_byte(0xcf);

/// A node, its chain as an RPC shows it, and a client that has both.
pub struct Case {
    pub rig: Rig,
    pub chain: Tapped,
    rest: bool,
    pub client: Client,
    /// Its state is a number, which it counts up.
    counting: ProgramId,
}

impl Case {
    async fn new(revision: Revision, rest: bool) -> Self {
        let rig = Rig::new(revision).await;
        let rules = ConsumerRules::signed_by(rig.signer.address()).with_state(keccak256([0]));
        rig.node.chain().deploy(STATEFUL, rules);
        let chain = Tapped::new(rig.node.chain());
        let counting = rig.node.register_program(move |input| {
            let count = match revision {
                Revision::State => input.state[0],
                _ => StatefulAppOnchainInput::abi_decode(input.onchain).unwrap().onchainInput[0],
            };
            Ok(ProgramOutput::stateful(keccak256([count + 1]), vec![count + 1]))
        });
        let mut case = Self { client: rig.client.clone(), rig, chain, rest, counting: ProgramId::new(counting) };
        case.client = case.connect(true, Some(case.rig.node.operator())).await;
        case
    }

    /// A client with books of its own.
    pub async fn connect(&self, chain: bool, operator: Option<Address>) -> Client {
        let builder = Client::builder().revision(self.rig.revision).retry(RetryPolicy::default());
        let builder = builder.signer(self.rig.signer.clone()).nonces(Sequential::starting_at(1));
        let builder =
            if self.rest { builder.rest(self.rig.node.rest_url()) } else { builder.grpc(self.rig.node.grpc_url()) };
        let builder = match operator {
            Some(operator) => builder.operator(operator),
            None => builder,
        };
        let builder = match chain {
            true => builder.chain(self.chain.chain()).poster(self.chain.sim.account(Address::repeat_byte(0x77))),
            false => builder,
        };
        builder.connect().await.unwrap()
    }

    fn is_state(&self) -> bool {
        self.rig.revision == Revision::State
    }

    fn has_list(&self) -> bool {
        !self.is_state() && !self.rest
    }

    pub async fn sign_by(&self, signer: &LocalSigner, job: OffchainJobRequest, nonce: u64) -> SignedJob {
        job.prepare(self.rig.revision, nonce).unwrap().sign(signer).await.unwrap()
    }

    pub async fn ordered(&self, nonce: u64, input: &str) -> SignedJob {
        self.rig.sign_ordered(nonce, input).await
    }

    /// Counts from this number to the next.
    pub fn count(&self, from: u8, ordered: bool) -> OffchainJobRequest {
        let job = OffchainJobRequest::builder(STATEFUL, self.counting.clone()).max_cycles(1000);
        let input =
            StatefulAppOnchainInput { inputStateRoot: keccak256([from]), onchainInput: Bytes::from(vec![from]) };
        let job = match self.rig.revision {
            Revision::State => job.state(vec![from]),
            _ => job.onchain_input(input.abi_encode()),
        };
        let job = if ordered && !self.is_state() { job.relay(RelayStrategy::Ordered) } else { job };
        job.build().unwrap()
    }

    pub async fn send(&self, job: &SignedJob, state: JobState) -> JobHandle {
        let handle = self.client.submit_signed(job.clone()).await.unwrap();
        self.rig.reaches(job.id(), state).await;
        handle
    }

    /// A diagnosis, and how often it asked the chain.
    pub async fn diagnose(&self, job: &SignedJob) -> (Diagnosis, usize) {
        let before = self.chain.rpc().asked;
        let diagnosis = self.client.diagnose(job).await.unwrap();
        (diagnosis, self.chain.rpc().asked - before)
    }

    /// Whatever stands at the node counts as standing still.
    pub async fn stalled(&self, handle: &JobHandle) -> Diagnosis {
        let mut events = handle.events();
        while events.next().await.unwrap().unwrap().stage() != Some(Stage::Executed) {}
        handle.diagnose().stalled_after(Duration::ZERO).await.unwrap()
    }
}

pub async fn in_every_cell<F: Future<Output = ()>>(test: impl Fn(Case) -> F) {
    for revision in Revision::ALL {
        for rest in [false, true] {
            within(test(Case::new(revision, rest).await)).await;
        }
    }
}

pub async fn in_relay<F: Future<Output = ()>>(test: impl Fn(Case) -> F) {
    for rest in [false, true] {
        within(test(Case::new(Revision::Relay, rest).await)).await;
    }
}

#[track_caller]
fn check(diagnosis: &Diagnosis, cause: impl Into<facts::Facts>, confidence: Confidence) {
    assert_eq!(*diagnosis.cause(), cause.into(), "{diagnosis}");
    let cause = diagnosis.cause();
    assert_eq!(diagnosis.confidence(), confidence, "{diagnosis}");
    let text = diagnosis.to_string();
    assert!(text.contains(&cause.to_string()) && text.contains(diagnosis.advice()), "{text}");
    assert!(diagnosis.evidence().iter().any(|line| line.starts_with("chain: ")), "{text}");
    assert!(diagnosis.evidence().iter().all(|line| !line.contains('\n')), "{text}");
}

#[track_caller]
fn shown(diagnosis: &Diagnosis, cause: impl Into<facts::Facts>) {
    check(diagnosis, cause, Confidence::Shown);
}

fn progress(stage: Stage) -> facts::Facts {
    facts!(InProgress { stage })
}

#[tokio::test]
async fn complete_on_chain_is_complete_whatever_the_node_says() {
    in_every_cell(|case| async move {
        let job = case.ordered(1, "abc").await;
        let faults = case.rig.node.faults();
        // The node loses the record of it in a crash.
        faults.lose_relayed_records(1);
        case.client.submit_signed(job.clone()).await.unwrap();
        let id = job.id();
        case.rig.node.wait_until(|view| view.stats().relay_attempts(id.into()) == 1).await;
        case.rig.node.restart();
        faults.clear();
        shown(&case.diagnose(&job).await.0, Cause::Complete);
        // Who the operator is was learnt in the first one.
        let (diagnosis, round_trips) = case.diagnose(&job).await;
        assert_eq!(round_trips, 1);
        assert!(!diagnosis.is_stuck() && diagnosis.advice().starts_with("nothing"), "{diagnosis}");
        for lie in [Lie::Status(JobState::Pending), Lie::Status(JobState::Failed), Lie::Operator, Lie::Echo] {
            faults.lie(lie);
            shown(&case.diagnose(&job).await.0, Cause::Complete);
            faults.clear();
        }
        faults.refuse(Method::GetResult, 1, StatusCode::NOT_FOUND, "job not found");
        shown(&case.diagnose(&job).await.0, Cause::Complete);
        if !case.is_state() {
            // It comes back as a low nonce.
            let other = case.connect(false, None).await;
            other.submit_signed(job.clone()).await.unwrap_err();
            case.rig.reaches(id, JobState::Failed).await;
            shown(&case.diagnose(&job).await.0, Cause::Complete);
        }
    })
    .await;
}

#[tokio::test]
async fn a_signer_that_the_consumer_refuses_is_named() {
    in_every_cell(|case| async move {
        let mallory = LocalSigner::random().unwrap();
        let job = case.sign_by(&mallory, case.rig.ordered("abc"), 1).await;
        let cause =
            facts!(SignerRefused { recovered: Some(mallory.address()), named: Some(case.rig.signer.address()) });
        // Before it is sent, while it waits, and when it is executed.
        let (diagnosis, round_trips) = case.diagnose(&job).await;
        shown(&diagnosis, cause.clone());
        assert_eq!(round_trips, 2, "what says stuck is said twice");
        let gate = case.rig.node.faults().hold_executions();
        case.send(&job, JobState::Pending).await;
        shown(&case.diagnose(&job).await.0, cause.clone());
        gate.open();
        case.rig.reaches(job.id(), JobState::Done).await;
        let diagnosis = case.diagnose(&job).await.0;
        shown(&diagnosis, cause);
        let words = diagnosis.evidence().join("\n");
        assert!(words.contains("reverts: JobManager.submitResultForOffchainJob: Invalid signature"), "{words}");
        assert!(diagnosis.advice().contains(&case.rig.signer.address().to_string()), "{diagnosis}");
    })
    .await;
}

#[tokio::test]
async fn a_state_that_is_not_the_latest_is_named() {
    in_every_cell(|case| async move {
        let first = case.sign_by(&case.rig.signer, case.count(0, true), 1).await;
        case.send(&first, JobState::Relayed).await;
        shown(&case.diagnose(&first).await.0, Cause::Complete);
        // Built from the state before.
        let stale = case.sign_by(&case.rig.signer, case.count(0, true), 2).await;
        let cause = facts!(StaleState { given: keccak256([0]), latest: keccak256([1]) });
        let gate = case.rig.node.faults().hold_executions();
        let handle = case.send(&stale, JobState::Pending).await;
        let pending = case.diagnose(&stale).await.0;
        match case.is_state() {
            // It may be ahead of its time: nothing says which jobs come before it.
            true => shown(&pending, progress(Stage::Accepted)),
            false => shown(&pending, cause.clone()),
        }
        gate.open();
        case.rig.reaches(stale.id(), JobState::Done).await;
        let diagnosis = case.diagnose(&stale).await.0;
        match case.is_state() {
            true => {
                shown(&diagnosis, progress(Stage::Executed));
                check(&case.stalled(&handle).await, cause, Confidence::Likely);
            }
            false => shown(&diagnosis, cause),
        }
    })
    .await;
}

/// Chained states, relayed in order: the later ones start from states that are not there yet.
#[tokio::test]
async fn jobs_ahead_of_the_state_are_not_stale() {
    in_relay(|case| async move {
        let faults = case.rig.node.faults();
        faults.stall_relays(true);
        let mut jobs = Vec::new();
        for number in 0..4 {
            let job = case.sign_by(&case.rig.signer, case.count(number, true), u64::from(number) + 1).await;
            case.send(&job, JobState::Done).await;
            jobs.push(job);
        }
        shown(&case.diagnose(&jobs[0]).await.0, progress(Stage::Executed));
        for job in &jobs[1..] {
            shown(&case.diagnose(job).await.0, facts!(InLine { behind: 1 }));
        }
        // The RPC lags behind while they are relayed.
        case.diagnose(&jobs[0]).await;
        case.chain.lag(0);
        faults.stall_relays(false);
        case.rig.reaches(jobs[3].id(), JobState::Relayed).await;
        for job in &jobs {
            shown(&case.diagnose(job).await.0, Cause::Relayed);
        }
        faults.stall_relays(true);
        let next = case.sign_by(&case.rig.signer, case.count(4, true), 5).await;
        case.send(&next, JobState::Done).await;
        shown(&case.diagnose(&next).await.0, progress(Stage::Executed));
        case.chain.catch_up();
        shown(&case.diagnose(&next).await.0, progress(Stage::Executed));
        shown(&case.diagnose(&jobs[3]).await.0, Cause::Complete);
    })
    .await;
}

#[tokio::test]
async fn another_operator_is_named_and_who_is_wrong() {
    in_every_cell(|case| async move {
        let (sim, node) = (case.rig.node.chain(), case.rig.node.operator());
        let job = case.ordered(1, "abc").await;
        case.rig.node.faults().stall_relays(true);
        case.send(&job, JobState::Done).await;
        shown(&case.diagnose(&job).await.0, progress(Stage::Executed));
        // Pinned to another than the JobManager's, which the node signs for.
        let other = Address::repeat_byte(0xab);
        let pinned_wrong = case.connect(true, Some(other)).await;
        let diagnosis = pinned_wrong.diagnose(&job).await.unwrap();
        shown(&diagnosis, facts!(OtherOperator { signed_by: node, pinned: Some(other), named: node }));
        assert!(diagnosis.advice().contains("ClientBuilder::operator"), "{diagnosis}");
        // Replaced in the JobManager.
        sim.set_operator(other);
        let cause = |pinned| facts!(OtherOperator { signed_by: node, pinned, named: other });
        let diagnosis = case.diagnose(&job).await.0;
        shown(&diagnosis, cause(Some(node)));
        assert!(diagnosis.evidence().join("\n").contains("Invalid signature on result"), "{diagnosis}");
        // Read from the chain, with some round trips more.
        let reading = case.connect(true, None).await;
        let before = case.chain.rpc().asked;
        shown(&reading.diagnose(&job).await.unwrap(), cause(None));
        assert!(case.chain.rpc().asked - before <= 9);
        sim.set_operator(node);
        shown(&reading.diagnose(&job).await.unwrap(), progress(Stage::Executed));
    })
    .await;
}

#[tokio::test]
async fn a_nonce_that_is_taken_on_chain_is_named() {
    in_every_cell(|case| async move {
        case.rig.node.faults().stall_relays(true);
        let job = case.ordered(1, "abc").await;
        case.send(&job, JobState::Done).await;
        let sim = case.rig.node.chain();
        assert_eq!(sim.take_nonce(CONSUMER), Some(1));
        let taken = |status| facts!(NonceTakenOnChain { status });
        shown(&case.diagnose(&job).await.0, taken(OnchainStatus::Pending));
        assert!(sim.cancel(job.id().into()));
        shown(&case.diagnose(&job).await.0, taken(OnchainStatus::Cancelled));
        // Another payload landed under it.
        let (mine, theirs) = (case.ordered(2, "mine").await, case.ordered(2, "theirs").await);
        case.chain.land(&theirs, b"theirs");
        let diagnosis = case.diagnose(&mine).await.0;
        shown(&diagnosis, taken(OnchainStatus::Completed));
        assert!(diagnosis.advice().contains("under another nonce"), "{diagnosis}");
        shown(&case.diagnose(&theirs).await.0, Cause::Complete);
    })
    .await;
}

#[tokio::test]
async fn a_relay_that_reverts_is_named_with_the_reason() {
    in_every_cell(|case| async move {
        case.rig.node.faults().stall_relays(true);
        let job = case.ordered(1, "abc").await;
        let handle = case.send(&job, JobState::Done).await;
        let set = |text: Option<&str>| match text {
            Some(text) => case.chain.reverts(SUBMIT_RESULT, text),
            None => case.chain.truth(SUBMIT_RESULT),
        };
        let cause = |cause, text: &str| facts!(RelayReverts { cause, reason: text });
        set(Some("the shop is closed"));
        let closed = cause(RevertCause::Other, "the shop is closed");
        if case.is_state() {
            // It may open again by itself, or by a job that comes before.
            shown(&case.diagnose(&job).await.0, progress(Stage::Executed));
            check(&case.stalled(&handle).await, closed, Confidence::Likely);
        } else {
            let diagnosis = case.diagnose(&job).await.0;
            shown(&diagnosis, closed.clone());
            assert!(diagnosis.advice().contains("Client::post_result"), "{diagnosis}");
            shown(&case.stalled(&handle).await, closed);
        }
        // This never passes.
        let text =
            "JobManager.submitResult: max cycles signed by coprocessor doesn't match max cycles submitted with job";
        set(Some(text));
        shown(&case.diagnose(&job).await.0, cause(RevertCause::Mismatch, text));
        set(None);
        shown(&case.diagnose(&job).await.0, progress(Stage::Executed));
    })
    .await;
}

/// Nobody relays it, and it would land: then post it oneself.
#[tokio::test]
async fn a_relay_that_stalls_without_reason_is_advised_to_be_made() {
    in_every_cell(|case| async move {
        case.rig.node.faults().stall_relays(true);
        let job = case.ordered(1, "abc").await;
        let handle = case.send(&job, JobState::Done).await;
        let diagnosis = case.stalled(&handle).await;
        assert!(matches!(diagnosis.cause(), Cause::RelayStalled { .. }), "{diagnosis}");
        // A State node may be about to try.
        let begins = if case.is_state() { "wait for two minutes" } else { "post the result with Client::post_result" };
        assert!(diagnosis.advice().starts_with(begins), "{diagnosis}");
        assert!(diagnosis.advice().contains("post the result with Client::post_result"), "{diagnosis}");
        assert_eq!(diagnosis.advice().contains("gap"), case.is_state(), "{diagnosis}");
        let result = handle.wait(Until::Executed).await.unwrap();
        let post = handle.post_result(&result).await.unwrap();
        let landed = case.chain.sim.completed(job.id().into()).map(|it| it.tx_hash);
        assert_eq!((post.already, post.tx_hash), (false, landed));
        shown(&case.diagnose(&job).await.0, Cause::Complete);
        // What the advice warns of.
        case.rig.node.faults().stall_relays(false);
        let id = job.id();
        case.rig.node.wait_until(|view| view.stats().relay_attempts(id.into()) > 0).await;
        assert_eq!(case.rig.node.stats().relayer_gap(), case.is_state());
    })
    .await;
}

#[tokio::test]
async fn what_the_node_gave_up_or_refused_is_decided_by_the_chain() {
    in_relay(|case| async move {
        let mallory = LocalSigner::random().unwrap();
        let bad = case.sign_by(&mallory, case.rig.ordered("bad signer"), 1).await;
        case.send(&bad, JobState::Done).await;
        let good = case.ordered(2, "good").await;
        case.send(&good, JobState::Done).await;
        assert!(case.rig.node.faults().give_up_relay(bad.id().into()));
        case.rig.reaches(good.id(), JobState::Relayed).await;
        let without = case.connect(false, Some(case.rig.node.operator())).await;
        let blind = without.diagnose(&bad).await.unwrap();
        assert_eq!(*blind.cause(), facts!(RelayGivenUp { overtaken_by: 2 }), "{blind}");
        let diagnosis = case.diagnose(&bad).await.0;
        assert!(matches!(diagnosis.cause(), Cause::SignerRefused { .. }), "{diagnosis}");

        // A low nonce that is on chain by another job's doing, and not this one's.
        let low = case.ordered(1, "too late").await;
        case.client.submit_signed(low.clone()).await.unwrap_err();
        let other = case.sign_by(&case.rig.signer, case.rig.ordered("x"), 1).await;
        case.chain.land(&other, b"x");
        let diagnosis = case.diagnose(&low).await.0;
        shown(&diagnosis, facts!(NonceTakenOnChain { status: OnchainStatus::Completed }));
    })
    .await;
}

#[tokio::test]
async fn a_low_nonce_that_is_not_on_chain_is_shown() {
    in_relay(|case| async move {
        let rules = ConsumerRules::signed_by(case.rig.signer.address()).with_max_nonce(9);
        case.rig.node.chain().deploy(CONSUMER, rules);
        let job = case.ordered(4, "abc").await;
        case.client.submit_signed(job.clone()).await.unwrap_err();
        case.rig.reaches(job.id(), JobState::Failed).await;
        let diagnosis = case.diagnose(&job).await.0;
        shown(&diagnosis, Cause::NonceTooLow);
        assert!(diagnosis.advice().contains("not complete on chain"), "{diagnosis}");
    })
    .await;
}

/// Only the chain knows where a lane begins.
#[tokio::test]
async fn a_lane_begins_where_the_chain_is() {
    in_relay(|case| async move {
        let job = case.ordered(4, "abc").await;
        let handle = case.send(&job, JobState::Done).await;
        shown(&case.stalled(&handle).await, facts!(NonceGap { first: 1, last: 3 }));
        // Those before it landed elsewhere; this node does not know.
        case.chain.returns("maxNonce()", 3_u64.abi_encode());
        case.chain.returns("getNextNonce()", 4_u64.abi_encode());
        let diagnosis = case.stalled(&handle).await;
        assert!(matches!(diagnosis.cause(), Cause::RelayStalled { .. }), "{diagnosis}");
    })
    .await;
}

/// A client that has just started, and has watched nothing: what is missing below a lane is named for every job of it.
#[tokio::test]
async fn a_gap_below_a_lane_is_named_at_once_for_every_job_behind_it() {
    type Form = (u64, (u64, u64), &'static [u64], Option<u64>);
    // What is relayed before, what is missing, what comes behind it, and which of that fails.
    let forms: [Form; 6] = [
        (0, (1, 1), &[2, 3], None),
        (0, (1, 1), &[2], None),
        (0, (1, 4), &[5, 6, 7], None),
        (2, (3, 3), &[4, 5], None),
        (0, (1, 2), &[3, 4, 5], Some(4)),
        (1, (2, 2), &[3, 4], Some(3)),
    ];
    for (relayed, (first, last), behind, failing) in forms {
        in_relay(|case| async move {
            for nonce in 1..=relayed {
                let job = case.ordered(nonce, "before").await;
                case.send(&job, JobState::Relayed).await;
            }
            let mut jobs = Vec::new();
            for &nonce in behind {
                let fails = failing == Some(nonce);
                let job = case.ordered(nonce, if fails { "bad" } else { "abc" }).await;
                case.send(&job, if fails { JobState::Failed } else { JobState::Done }).await;
                jobs.push((job, fails));
            }
            let fresh = case.connect(true, Some(case.rig.node.operator())).await;
            let gap = facts!(NonceGap { first, last });
            for (job, fails) in &jobs {
                let diagnosis = fresh.diagnose(job).await.unwrap();
                match fails {
                    true => assert!(matches!(diagnosis.cause(), Cause::Failed { .. }), "{diagnosis}"),
                    false => shown(&diagnosis, gap.clone()),
                }
            }
            // The preflight of one that comes behind them agrees, and what both say helps.
            let next = case.ordered(behind[behind.len() - 1] + 1, "next").await;
            let report = fresh.preflight(&next).await.unwrap();
            let finding = report.findings().iter().find(|it| matches!(it.kind(), FindingKind::NonceGap { .. }));
            assert!(finding.is_some(), "{report}");
            for nonce in first..=last {
                fresh.submit_signed(case.ordered(nonce, "late").await).await.unwrap();
            }
            let up_to = failing.unwrap_or(u64::MAX);
            for (job, _) in jobs.iter().filter(|(job, _)| job.nonce() < up_to) {
                case.rig.reaches(job.id(), JobState::Relayed).await;
            }
            for (job, _) in jobs.iter().filter(|(job, _)| job.nonce() > up_to) {
                let cause = fresh.diagnose(job).await.unwrap().cause().clone();
                assert!(matches!(cause, Cause::BehindFailed { nonce, .. } if nonce == up_to), "{cause}");
            }
        })
        .await;
    }
}

/// The node takes an included transaction for a success.
#[tokio::test]
async fn a_relay_whose_transaction_reverted_is_named() {
    in_every_cell(|case| async move {
        let job = case.ordered(1, "abc").await;
        let handle = case.send(&job, JobState::Relayed).await;
        let hash = handle.record().await.unwrap().relay_tx_hash().unwrap();
        case.chain.lag(1);
        // Not seen yet.
        shown(&case.diagnose(&job).await.0, Cause::Relayed);
        let head = case.chain.sim.head();
        case.chain.say("failed", move |question| {
            let receipt = || infinityvm_sdk::chain::Receipt::new(hash, head.number - 1, head.parent, false, Vec::new());
            (*question == Question::Receipt(hash)).then(|| Ok(Answer::Receipt(Some(receipt()))))
        });
        case.chain.reverts(SUBMIT_RESULT, "closed");
        let cause = facts!(RelayReverts { cause: RevertCause::Other, reason: "closed" });
        shown(&case.diagnose(&job).await.0, cause);
    })
    .await;
}

#[tokio::test]
async fn a_chain_that_cannot_be_read_changes_nothing() {
    in_every_cell(|case| async move {
        let without = case.connect(false, Some(case.rig.node.operator())).await;
        let faults = case.rig.node.faults();
        let gate = faults.hold_executions();
        faults.stall_relays(true);
        case.chain.rpc().down = true;
        let job = case.ordered(1, "abc").await;
        let unsent = case.ordered(2, "abc").await;
        case.send(&job, JobState::Pending).await;
        for state in [JobState::Pending, JobState::Done, JobState::Relayed] {
            match state {
                JobState::Done => gate.open(),
                JobState::Relayed => faults.stall_relays(false),
                _ => {}
            }
            case.rig.reaches(job.id(), state).await;
            for job in [&job, &unsent] {
                let (with, blind) = (case.diagnose(job).await.0, without.diagnose(job).await.unwrap());
                check(&with, blind.cause().clone(), blind.confidence());
                assert!(with.evidence().iter().any(|line| line.contains("chain: not read: ") && line.contains("down")));
                assert_eq!(with.advice(), blind.advice());
                let look = |diagnosis: &Diagnosis| {
                    diagnosis.evidence().iter().find(|line| line.starts_with("GetResult:")).cloned()
                };
                assert_eq!(look(&with), look(&blind));
            }
        }
    })
    .await;
}

/// 200 jobs of each cell, Ordered and not, with and without a state that each hands on to the next; looked at while they are
/// pending, executed and relayed, by a chain that is up to date and by one that lags.
#[tokio::test]
async fn healthy_jobs_get_no_wrong_label() {
    let (mut jobs, mut diagnoses) = (0, 0);
    for revision in Revision::ALL {
        for rest in [false, true] {
            let case = Case::new(revision, rest).await;
            let (new_jobs, new_diagnoses) = within(healthy(&case)).await;
            jobs += new_jobs;
            diagnoses += new_diagnoses;
        }
    }
    println!("{jobs} jobs, {diagnoses} diagnoses, 0 wrong");
    assert_eq!(jobs, 400);
}

async fn healthy(case: &Case) -> (usize, usize) {
    let faults = case.rig.node.faults();
    let (mut diagnoses, mut extra) = (0, 0);
    let mut total = 0;
    for batch in 0..5_u8 {
        let gate = faults.hold_executions();
        faults.stall_relays(true);
        let mut jobs = Vec::new();
        for number in 0..10_u8 {
            let nonce = u64::from(batch) * 10 + u64::from(number) + 1;
            jobs.push(case.ordered(nonce, &format!("job {nonce}")).await);
            // In the State revision nothing orders relays: there a service waits for each before it builds the next.
            let count = if case.is_state() { case.count(batch, true) } else { case.count(batch * 10 + number, true) };
            if !case.is_state() || number == 0 {
                jobs.push(case.sign_by(&case.rig.signer, count, nonce).await);
            } else {
                let plain = case.rig.build(format!("plain {nonce}"));
                jobs.push(case.sign_by(&case.rig.signer, plain, nonce + 1000).await);
            }
        }
        total += jobs.len();
        for job in &jobs {
            case.client.submit_signed(job.clone()).await.unwrap();
        }
        for state in [JobState::Pending, JobState::Done, JobState::Relayed] {
            match state {
                JobState::Done => gate.open(),
                JobState::Relayed => {
                    // From here on the RPC shows what was before.
                    case.diagnose(&jobs[0]).await;
                    case.chain.lag(0);
                    faults.stall_relays(false);
                }
                _ => {}
            }
            for job in &jobs {
                case.rig.reaches(job.id(), state).await;
            }
            for lags in [true, false] {
                if !lags {
                    case.chain.catch_up();
                }
                for job in &jobs {
                    let (diagnosis, round_trips) = case.diagnose(job).await;
                    let well = match (state, diagnosis.cause()) {
                        (JobState::Pending, cause) => *cause == progress(Stage::Accepted),
                        (JobState::Done, Cause::InLine { behind, .. }) => *behind < job.nonce(),
                        (JobState::Done, cause) => *cause == progress(Stage::Executed),
                        (_, cause) => *cause == if lags { Cause::Relayed } else { Cause::Complete },
                    };
                    assert!(well && diagnosis.confidence() == Confidence::Shown, "{diagnosis}");
                    extra += round_trips - 1;
                    diagnoses += 1;
                }
            }
        }
    }
    assert!(extra <= 1, "the operator is asked for once");
    (total, diagnoses)
}

/// Unordered jobs that hand on a state: the node's relays of the later ones fail until the first has landed.
#[tokio::test]
async fn unordered_jobs_ahead_of_their_state_are_at_most_likely() {
    within(async {
        let case = Case::new(Revision::Relay, false).await;
        assert!(case.has_list());
        case.rig.node.faults().stall_relays(true);
        let first = case.sign_by(&case.rig.signer, case.count(0, false), 1).await;
        let second = case.sign_by(&case.rig.signer, case.count(1, false), 2).await;
        case.send(&first, JobState::Done).await;
        let handle = case.send(&second, JobState::Done).await;
        shown(&case.diagnose(&second).await.0, progress(Stage::Executed));
        let cause = facts!(StaleState { given: keccak256([1]), latest: keccak256([0]) });
        check(&case.stalled(&handle).await, cause, Confidence::Likely);
    })
    .await;
}
