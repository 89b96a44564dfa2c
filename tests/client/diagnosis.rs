//! Diagnoses: every cause induced at the node and named, and the advice followed.

use std::{
    future::{Future, IntoFuture},
    time::Duration,
};

use infinityvm_sdk::{
    Cause, Client, Confidence, Diagnosis, ErrorKind, JobHandle, JobStatus, LocalSigner, OffchainJobRequest, ProgramId,
    RelayStrategy, RetryPolicy, Revision, SignedJob, Until, Wire,
    client::{Events, Stage},
    devnode::{ConsumerRules, JobState, Lie, RevertReason},
    nonce::Sequential,
    primitives::{Address, B256, Bytes},
    rpc::{Encoding, Method, StatusCode},
    transport::{GrpcTransport, Transport},
};
use support::facts;

use crate::{
    closed_port::closed_port,
    rig::{CONSUMER, Rig, within},
};

/// A node, and a client of one revision over one transport, which repeats its calls: nodes are restarted here.
pub struct Case {
    pub rig: Rig,
    client: Client,
    pub rest: bool,
}

impl Case {
    pub async fn new(revision: Revision, rest: bool) -> Self {
        Self::of(Rig::new(revision).await, rest).await
    }

    async fn of(rig: Rig, rest: bool) -> Self {
        let builder = rig.builder().retry(RetryPolicy::default());
        let builder = if rest { builder.rest(rig.node.rest_url()) } else { builder };
        let client = builder.connect().await.unwrap();
        Self { rig, client, rest }
    }

    /// Another client with books of its own.
    pub async fn stranger(&self) -> Client {
        let builder = self.rig.builder().retry(RetryPolicy::default());
        let builder = if self.rest { builder.rest(self.rig.node.rest_url()) } else { builder };
        builder.connect().await.unwrap()
    }

    pub fn is_state(&self) -> bool {
        self.rig.revision == Revision::State
    }

    /// Whether the node's list of pending jobs can be had.
    fn has_list(&self) -> bool {
        !self.is_state() && !self.rest
    }

    async fn ordered(&self, nonce: u64, input: &str) -> SignedJob {
        self.rig.sign_ordered(nonce, input).await
    }

    /// Sends a job from elsewhere, and waits until the node has it in this state.
    async fn run(&self, job: &SignedJob, state: JobState) {
        self.stranger().await.submit_signed(job.clone()).await.unwrap();
        self.rig.reaches(job.id(), state).await;
    }

    /// Restarts the node, and ends its faults after that: what they hold up is lost.
    fn restart(&self) {
        self.rig.node.restart();
        self.rig.node.faults().clear();
    }

    /// Sends a job over a new connection: over one that the restart broke, the old record would pass for the answer.
    async fn send_again(&self, job: &SignedJob) -> JobHandle {
        self.stranger().await.submit_signed(job.clone()).await.unwrap()
    }
}

async fn in_every_cell<F: Future<Output = ()>>(test: impl Fn(Case) -> F) {
    for revision in Revision::ALL {
        for rest in [false, true] {
            within(test(Case::new(revision, rest).await)).await;
        }
    }
}

/// Where jobs have a relay strategy.
async fn in_relay<F: Future<Output = ()>>(test: impl Fn(Case) -> F) {
    for rest in [false, true] {
        within(test(Case::new(Revision::Relay, rest).await)).await;
    }
}

/// Where the node's list of pending jobs can be had.
async fn with_list<F: Future<Output = ()>>(test: impl Fn(Case) -> F) {
    within(test(Case::new(Revision::Relay, false).await)).await;
}

#[track_caller]
fn check(diagnosis: &Diagnosis, cause: impl Into<facts::Facts>, confidence: Confidence) {
    assert_eq!(*diagnosis.cause(), cause.into(), "{diagnosis}");
    let cause = diagnosis.cause();
    assert_eq!(diagnosis.confidence(), confidence, "{diagnosis}");
    assert_eq!(diagnosis.is_stuck(), cause.is_stuck());
    assert!(!diagnosis.evidence().is_empty() && !diagnosis.advice().is_empty());
    let text = diagnosis.to_string();
    assert!(text.contains(&cause.to_string()) && text.contains(diagnosis.advice()), "{text}");
    assert!(diagnosis.evidence().iter().all(|line| text.contains(line.as_str()) && !line.contains('\n')), "{text}");
}

#[track_caller]
fn shown(diagnosis: &Diagnosis, cause: impl Into<facts::Facts>) {
    check(diagnosis, cause, Confidence::Shown);
}

#[track_caller]
fn likely(diagnosis: &Diagnosis, cause: impl Into<facts::Facts>) {
    check(diagnosis, cause, Confidence::Likely);
}

async fn until(events: &mut Events, stage: Stage) {
    while events.next().await.unwrap().unwrap().stage() != Some(stage) {}
}

pub fn progress(stage: Stage) -> facts::Facts {
    facts!(InProgress { stage })
}

fn gap(first: u64, last: u64) -> facts::Facts {
    facts!(NonceGap { first, last })
}

#[tokio::test]
async fn a_job_on_its_way_is_in_progress() {
    in_every_cell(|case| async move {
        let faults = case.rig.node.faults();
        let gate = faults.hold_executions();
        faults.stall_relays(true);
        let handle = case.client.submit(case.rig.build("abc")).await.unwrap();
        shown(&handle.diagnose().await.unwrap(), progress(Stage::Accepted));
        gate.open();
        case.rig.reaches(handle.id(), JobState::Done).await;
        shown(&handle.diagnose().await.unwrap(), progress(Stage::Executed));
        faults.stall_relays(false);
        case.rig.reaches(handle.id(), JobState::Relayed).await;
        shown(&handle.diagnose().await.unwrap(), Cause::Relayed);
        shown(&case.client.diagnose(handle.signed_job()).await.unwrap(), Cause::Relayed);
    })
    .await;
}

#[tokio::test]
async fn a_job_that_was_never_sent_is_not_known() {
    in_every_cell(|case| async move {
        let job = case.rig.sign(1, "abc").await;
        let diagnosis = case.client.diagnose(&job).await.unwrap();
        shown(&diagnosis, facts!(NotKnown { seen_before: false }));
        assert!(diagnosis.advice().contains("submit_signed"), "{diagnosis}");
        let handle = case.client.submit_signed(job).await.unwrap();
        handle.wait(Until::Relayed).await.unwrap();

        // The record of a job that was there is gone.
        case.rig.node.faults().refuse(Method::GetResult, 2, StatusCode::NOT_FOUND, "job not found");
        shown(&handle.diagnose().await.unwrap(), facts!(NotKnown { seen_before: true }));
    })
    .await;
}

#[tokio::test]
async fn a_submission_under_way_is_named_and_not_a_gap() {
    in_every_cell(|case| async move {
        let job = case.ordered(1, "abc").await;
        let gate = case.rig.node.faults().hold_request(Method::SubmitJob);
        let sending = tokio::spawn({
            let (client, job) = (case.client.clone(), job.clone());
            async move { client.submit_signed(job).await }
        });
        gate.arrived(1).await;
        let diagnosis = case.client.diagnose(&job).await.unwrap();
        shown(&diagnosis, Cause::UnderWay);
        // A client that shares the nonces knows as much; another one cannot.
        let sharing = case.rig.builder().nonce_manager(case.client.nonces().clone()).connect().await.unwrap();
        shown(&sharing.diagnose(&job).await.unwrap(), Cause::UnderWay);
        shown(&case.stranger().await.diagnose(&job).await.unwrap(), facts!(NotKnown { seen_before: false }));

        if !case.is_state() {
            let next = case.ordered(2, "def").await;
            case.run(&next, JobState::Done).await;
            for client in [&case.client, &sharing] {
                shown(&client.diagnose(&next).await.unwrap(), facts!(InLine { behind: 1 }));
            }
            gate.open();
            case.rig.reaches(next.id(), JobState::Relayed).await;
        }
        gate.open();
        sending.await.unwrap().unwrap().wait(Until::Relayed).await.unwrap();
        shown(&case.client.diagnose(&job).await.unwrap(), Cause::Relayed);
    })
    .await;
}

#[tokio::test]
async fn a_job_lost_in_a_restart_is_named_where_there_is_a_list() {
    for executed in [false, true] {
        in_every_cell(|case| async move {
            let faults = case.rig.node.faults();
            let gate = faults.hold_executions();
            faults.stall_relays(true);
            let handle = case.client.submit(case.rig.build("abc")).await.unwrap();
            gate.arrived(1).await;
            if executed {
                gate.open();
                case.rig.reaches(handle.id(), JobState::Done).await;
            }
            case.rig.node.restart();
            let diagnosis = handle.diagnose().await.unwrap();
            if !case.has_list() {
                // Nothing tells it from a job that is slow.
                let stage = if executed { Stage::Executed } else { Stage::Accepted };
                return shown(&diagnosis, progress(stage));
            }
            shown(&diagnosis, Cause::Lost);
            assert!(diagnosis.advice().contains("submit_signed"), "{diagnosis}");
            faults.clear();
            case.send_again(handle.signed_job()).await.wait(Until::Relayed).await.unwrap();
        })
        .await;
    }
}

#[tokio::test]
async fn a_missing_nonce_is_named_until_it_comes() {
    in_relay(|case| async move {
        let jobs = [case.ordered(1, "1").await, case.ordered(4, "4").await, case.ordered(6, "6").await];
        case.run(&jobs[0], JobState::Relayed).await;
        case.run(&jobs[1], JobState::Done).await;
        case.run(&jobs[2], JobState::Done).await;
        shown(&case.client.diagnose(&jobs[1]).await.unwrap(), gap(2, 3));
        let diagnosis = case.client.diagnose(&jobs[2]).await.unwrap();
        shown(&diagnosis, gap(2, 3));
        assert!(diagnosis.advice().contains("OffchainJobRequestBuilder::nonce"), "{diagnosis}");
        for nonce in [2, 3] {
            case.client
                .submit(case.rig.job("fill").nonce(nonce).relay(RelayStrategy::Ordered).build().unwrap())
                .await
                .unwrap();
        }
        case.rig.reaches(jobs[1].id(), JobState::Relayed).await;
        shown(&case.client.diagnose(&jobs[2]).await.unwrap(), gap(5, 5));
    })
    .await;
}

/// The node has never heard of any lower nonce: only the chain knows where the lane begins.
#[tokio::test]
async fn the_first_nonce_at_a_node_is_no_gap_unless_lower_jobs_are_known() {
    in_relay(|case| async move {
        let rules = ConsumerRules::signed_by(case.rig.signer.address()).with_max_nonce(299);
        case.rig.node.chain().deploy(CONSUMER, rules);
        case.rig.node.faults().stall_relays(true);
        let first = case.ordered(300, "first").await;
        case.run(&first, JobState::Done).await;
        let diagnosis = case.client.diagnose(&first).await.unwrap();
        shown(&diagnosis, progress(Stage::Executed));
        assert!(diagnosis.advice().contains("getNextNonce()"), "{diagnosis}");
        assert!(diagnosis.evidence().iter().any(|line| line.contains("128 lower nonces looked at")), "{diagnosis}");
        case.rig.node.faults().stall_relays(false);
        case.rig.reaches(first.id(), JobState::Relayed).await;

        // Here it is one.
        let other = Address::repeat_byte(0xc9);
        case.rig.node.chain().deploy(other, ConsumerRules::signed_by(case.rig.signer.address()));
        let sign = async |nonce| {
            let job = OffchainJobRequest::builder(other, case.rig.program.clone()).max_cycles(9);
            let job = job.relay(RelayStrategy::Ordered).build().unwrap().prepare(Revision::Relay, nonce).unwrap();
            job.sign(&case.rig.signer).await.unwrap()
        };
        let (missing, job) = (sign(1).await, sign(2).await);
        case.run(&job, JobState::Done).await;
        shown(&case.client.diagnose(&job).await.unwrap(), progress(Stage::Executed));
        let stored = [missing.clone(), job.clone(), first.clone()];
        likely(&case.client.diagnose(&job).knowing(stored).await.unwrap(), gap(1, 1));
        case.run(&missing, JobState::Relayed).await;
        case.rig.reaches(job.id(), JobState::Relayed).await;
    })
    .await;
}

#[tokio::test]
async fn a_nonce_in_quarantine_is_named_by_who_has_it() {
    in_relay(|case| async move {
        case.client.submit(case.rig.ordered("1")).await.unwrap().wait(Until::Relayed).await.unwrap();
        let kept = case.client.sign(case.rig.ordered("2")).await.unwrap();
        let handle = case.client.submit(case.rig.ordered("3")).await.unwrap();
        case.rig.reaches(handle.id(), JobState::Done).await;
        shown(&handle.diagnose().await.unwrap(), facts!(BehindQuarantined { nonce: 2 }));
        shown(&case.stranger().await.diagnose(handle.signed_job()).await.unwrap(), gap(2, 2));
        case.client.submit_signed(kept).await.unwrap();
        handle.wait(Until::Relayed).await.unwrap();

        // And where the way to free it is to give its job up.
        let kept = case.client.sign(case.rig.ordered("4")).await.unwrap();
        let handle = case.client.submit(case.rig.ordered("5")).await.unwrap();
        case.rig.reaches(handle.id(), JobState::Done).await;
        let diagnosis = handle.diagnose().await.unwrap();
        shown(&diagnosis, facts!(BehindQuarantined { nonce: 4 }));
        assert!(diagnosis.advice().contains("NonceManager::resolve"), "{diagnosis}");
        case.client.nonces().resolve(CONSUMER, kept.nonce(), infinityvm_sdk::nonce::Settlement::Release).unwrap();
        shown(&handle.diagnose().await.unwrap(), gap(4, 4));
        case.client.submit(case.rig.job("4").nonce(4).relay(RelayStrategy::Ordered).build().unwrap()).await.unwrap();
        handle.wait(Until::Relayed).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_failed_nonce_holds_the_jobs_behind_it() {
    in_relay(|case| async move {
        let bad = case.client.submit(case.rig.ordered("bad")).await.unwrap();
        case.rig.reaches(bad.id(), JobState::Failed).await;
        let handle = case.client.submit(case.rig.ordered("abc")).await.unwrap();
        case.rig.reaches(handle.id(), JobState::Done).await;
        shown(&bad.diagnose().await.unwrap(), facts!(Failed { reason: Some("execution_error") }));
        let diagnosis = handle.diagnose().await.unwrap();
        shown(&diagnosis, facts!(BehindFailed { nonce: 1, reason: Some("execution_error") }));
        assert!(diagnosis.advice().contains("OffchainJobRequest::prepare"), "{diagnosis}");
        case.client.submit_signed(case.ordered(1, "good").await).await.unwrap();
        handle.wait(Until::Relayed).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_lost_nonce_holds_the_jobs_behind_it() {
    for executed in [false, true] {
        in_relay(|case| async move {
            let faults = case.rig.node.faults();
            faults.stall_relays(true);
            let gate = faults.hold_executions();
            let lost = case.client.submit(case.rig.ordered("1")).await.unwrap();
            gate.arrived(1).await;
            if executed {
                gate.open();
                case.rig.reaches(lost.id(), JobState::Done).await;
            }
            case.restart();
            let handle = case.client.submit(case.rig.ordered("2")).await.unwrap();
            case.rig.reaches(handle.id(), JobState::Done).await;
            let diagnosis = handle.diagnose().await.unwrap();
            match (case.has_list(), executed) {
                (false, _) => shown(&diagnosis, facts!(InLine { behind: 1 })),
                (true, false) => shown(&diagnosis, facts!(BehindLost { nonce: 1 })),
                // It might be on chain.
                (true, true) => likely(&diagnosis, facts!(BehindLost { nonce: 1 })),
            }
            case.send_again(lost.signed_job()).await;
            handle.wait(Until::Relayed).await.unwrap();
        })
        .await;
    }
}

#[tokio::test]
async fn a_line_is_behind_its_lowest_job() {
    in_relay(|case| async move {
        case.rig.node.faults().stall_relays(true);
        let mut handles = Vec::new();
        for number in 1..=12 {
            let handle = case.client.submit(case.rig.ordered(number.to_string())).await.unwrap();
            case.rig.reaches(handle.id(), JobState::Done).await;
            handles.push(handle);
        }
        shown(&handles[0].diagnose().await.unwrap(), progress(Stage::Executed));
        for handle in &handles[1..] {
            shown(&handle.diagnose().await.unwrap(), facts!(InLine { behind: 1 }));
        }
    })
    .await;
}

#[tokio::test]
async fn a_hijacked_nonce_is_named_with_the_field() {
    in_every_cell(|case| async move {
        let mallory = LocalSigner::random().unwrap();
        let gate = case.rig.node.faults().hold_executions();
        let evil = case.rig.build("evil").prepare(case.rig.revision, 1).unwrap().sign(&mallory).await.unwrap();
        case.run(&evil, JobState::Pending).await;
        let job = case.rig.sign(1, "good").await;
        let error = case.client.submit_signed(job.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NonceTaken);
        let field = "onchain_input";
        shown(
            &case.client.diagnose(&job).await.unwrap(),
            facts!(NonceTakenAtNode { field, status: JobStatus::Pending }),
        );
        gate.open();
        // Its relay reverts, and no status says so.
        let id = evil.id();
        case.rig
            .node
            .wait_until(|view| view.stats().last_revert(id.into()) == Some(RevertReason::RequestSignature))
            .await;
        shown(&case.client.diagnose(&job).await.unwrap(), facts!(NonceTakenAtNode { field, status: JobStatus::Done }));

        // The same payload with another signature; and one that failed, whose place can be taken.
        let job = case.rig.sign(2, "bad").await;
        let evil = case.rig.build("bad").prepare(case.rig.revision, 2).unwrap().sign(&mallory).await.unwrap();
        case.run(&evil, JobState::Failed).await;
        let diagnosis = case.client.diagnose(&job).await.unwrap();
        let status = facts!(Failed { reason: Some("execution_error") });
        shown(&diagnosis, facts!(NonceTakenAtNode { field: "request_signature", status }));
        assert_eq!(diagnosis.advice().contains("place can be taken"), !case.is_state(), "{diagnosis}");
    })
    .await;
}

#[tokio::test]
async fn a_failure_is_named_with_its_reason() {
    in_every_cell(|case| async move {
        let handle = case.client.submit(case.rig.build("bad")).await.unwrap();
        case.rig.reaches(handle.id(), JobState::Failed).await;
        let diagnosis = handle.diagnose().await.unwrap();
        shown(&diagnosis, facts!(Failed { reason: Some("execution_error") }));
        assert_eq!(diagnosis.advice().contains("under another nonce"), case.is_state(), "{diagnosis}");
    })
    .await;
}

#[tokio::test]
async fn a_missing_program_is_named_before_and_after_the_failure() {
    in_every_cell(|case| async move {
        let gate = case.rig.node.faults().hold_executions();
        let program = ProgramId::from(B256::repeat_byte(0x77));
        let job = OffchainJobRequest::builder(CONSUMER, program.clone()).max_cycles(9).build().unwrap();
        let handle = case.client.submit(job).await.unwrap();
        let missing = facts!(ProgramMissing { program: program.clone() });
        let diagnosis = handle.diagnose().await.unwrap();
        match case.has_list() {
            true => likely(&diagnosis, missing.clone()),
            // ContainsProgram is where the list is.
            false => shown(&diagnosis, progress(Stage::Accepted)),
        }
        gate.open();
        case.rig.reaches(handle.id(), JobState::Failed).await;
        let diagnosis = handle.diagnose().await.unwrap();
        shown(&diagnosis, missing.clone());
        assert!(diagnosis.advice().contains("submit_program"), "{diagnosis}");
        case.rig.node.register_program_as(program.as_bytes().clone(), |_| Ok(Vec::new()));
        let diagnosis = handle.diagnose().await.unwrap();
        shown(&diagnosis, missing);
        assert_eq!(diagnosis.advice().contains("is there by now"), case.has_list(), "{diagnosis}");
        if !case.is_state() {
            case.client.submit_signed(handle.signed_job().clone()).await.unwrap().wait(Until::Relayed).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_low_nonce_is_perhaps_complete() {
    in_relay(|case| async move {
        case.rig.node.faults().lose_relayed_records(1);
        let job = case.ordered(1, "abc").await;
        case.stranger().await.submit_signed(job.clone()).await.unwrap();
        let id = job.id();
        case.rig.node.wait_until(|view| view.stats().relay_attempts(id.into()) == 1).await;
        case.restart();
        let diagnosis = case.client.diagnose(&job).await.unwrap();
        match case.has_list() {
            true => shown(&diagnosis, Cause::Lost),
            false => shown(&diagnosis, progress(Stage::Executed)),
        }
        case.client.submit_signed(job.clone()).await.unwrap_err();
        case.rig.reaches(id, JobState::Failed).await;
        let diagnosis = case.client.diagnose(&job).await.unwrap();
        shown(&diagnosis, Cause::NonceTooLow);
        assert!(diagnosis.advice().contains("on chain"), "{diagnosis}");
        assert!(case.rig.node.chain().completed(id.into()).is_some());

        // It is in nobody's way.
        case.rig.node.faults().stall_relays(true);
        let next = case.ordered(2, "def").await;
        case.run(&next, JobState::Done).await;
        shown(&case.client.diagnose(&next).await.unwrap(), progress(Stage::Executed));
    })
    .await;
}

#[tokio::test]
async fn a_result_that_proves_nothing_is_named() {
    in_every_cell(|case| async move {
        let handle = case.client.submit(case.rig.build("abc")).await.unwrap();
        case.rig.reaches(handle.id(), JobState::Relayed).await;
        for (lie, words) in [
            (Lie::Operator, "not by the operator"),
            (Lie::JobId, "job id"),
            (Lie::OnchainInputHash, "onchain input hash"),
            (Lie::Truncated, "not a result"),
        ] {
            case.rig.node.faults().lie(lie);
            let diagnosis = handle.diagnose().await.unwrap();
            case.rig.node.faults().clear();
            let Cause::Unproven { reason, .. } = diagnosis.cause() else { panic!("{diagnosis}") };
            assert!(reason.contains(words) && diagnosis.is_stuck(), "{diagnosis}");
        }
        case.rig.node.faults().lie(Lie::Echo);
        let cause = facts!(NonceTakenAtNode { field: "onchain_input", status: JobStatus::Relayed });
        shown(&handle.diagnose().await.unwrap(), cause);
    })
    .await;
}

/// Unordered 1 relayed, then Ordered 2 waits for nonce 1 until the node is restarted.
#[tokio::test]
async fn mixed_strategies_are_named_by_who_knows_them() {
    in_relay(|case| async move {
        let unordered = case.client.submit(case.rig.build("1")).await.unwrap();
        unordered.wait(Until::Relayed).await.unwrap();
        let job = case.ordered(2, "2").await;
        case.run(&job, JobState::Done).await;
        let mixed = facts!(StrategyMixed { nonce: 1 });
        // By this client's nonces; by a job that is given.
        likely(&case.client.diagnose(&job).await.unwrap(), mixed.clone());
        let stranger = case.stranger().await;
        let diagnosis = stranger.diagnose(&job).knowing([unordered.signed_job().clone()]).await.unwrap();
        likely(&diagnosis, mixed);
        // Nodes do not say how a job is relayed.
        shown(&stranger.diagnose(&job).await.unwrap(), progress(Stage::Executed));
        assert!(diagnosis.advice().contains("restarted"), "{diagnosis}");
        case.restart();
        case.send_again(&job).await.wait(Until::Relayed).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_relay_that_was_given_up_is_named_once_a_later_one_went_through() {
    in_relay(|case| async move {
        let mallory = LocalSigner::random().unwrap();
        let bad = case.rig.ordered("bad signer").prepare(Revision::Relay, 1).unwrap().sign(&mallory).await.unwrap();
        case.run(&bad, JobState::Done).await;
        let good = case.ordered(2, "good").await;
        case.run(&good, JobState::Done).await;
        shown(&case.client.diagnose(&bad).await.unwrap(), progress(Stage::Executed));
        assert!(case.rig.node.faults().give_up_relay(bad.id().into()));
        case.rig.reaches(good.id(), JobState::Relayed).await;
        let given_up = facts!(RelayGivenUp { overtaken_by: 2 });
        likely(&case.client.diagnose(&bad).await.unwrap(), given_up.clone());
        shown(&case.client.diagnose(&bad).knowing([good.clone()]).await.unwrap(), given_up);
        shown(&case.client.diagnose(&good).await.unwrap(), Cause::Relayed);
    })
    .await;
}

#[tokio::test]
async fn a_job_stored_but_not_queued_is_named() {
    in_relay(|case| async move {
        case.rig.node.chain().set_reachable(false);
        let client = case.rig.builder().nonces(Sequential::starting_at(1));
        let client = if case.rest { client.rest(case.rig.node.rest_url()) } else { client };
        let client = client.connect().await.unwrap();
        client.submit(case.rig.build("abc")).await.unwrap_err();
        let job = client.unresolved().remove(0);
        let diagnosis = client.diagnose(&job).await.unwrap();
        match case.has_list() {
            true => shown(&diagnosis, Cause::NotQueued),
            false => likely(&diagnosis, Cause::NotQueued),
        }
        case.rig.node.chain().set_reachable(true);
        let handle = client.submit_signed(job).await.unwrap();
        handle.wait(Until::Relayed).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn another_job_of_this_client_has_the_nonce() {
    in_every_cell(|case| async move {
        case.rig.node.faults().refuse(Method::SubmitJob, 1, StatusCode::INVALID_ARGUMENT, "no such luck");
        case.client.submit(case.rig.build("one")).await.unwrap_err();
        let job = case.rig.sign(1, "other").await;
        shown(&case.client.diagnose(&job).await.unwrap(), Cause::NonceHeld);
        let error = case.client.submit_signed(job.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NonceTaken);
        let open = case.client.unresolved().remove(0);
        let diagnosis = case.client.diagnose(&open).await.unwrap();
        shown(&diagnosis, facts!(NotKnown { seen_before: false }));
        assert!(diagnosis.evidence().iter().any(|line| line.contains("Client::unresolved")), "{diagnosis}");
        case.client.submit_signed(open).await.unwrap().wait(Until::Relayed).await.unwrap();
        let status = JobStatus::Relayed;
        shown(&case.client.diagnose(&job).await.unwrap(), facts!(NonceTakenAtNode { field: "onchain_input", status }));
    })
    .await;
}

async fn stalled_lane() -> (Case, Vec<SignedJob>) {
    let rig = Rig::with(Revision::Relay, |builder| builder.max_pending_ordered(2)).await;
    let case = Case::of(rig, false).await;
    case.rig.node.faults().stall_relays(true);
    let mut jobs = Vec::new();
    for nonce in 1..=2 {
        let job = case.ordered(nonce, "abc").await;
        case.run(&job, JobState::Done).await;
        jobs.push(job);
    }
    (case, jobs)
}

#[tokio::test]
async fn a_blocked_consumer_is_named_and_its_list_is_asked_for_once() {
    within(async {
        let (case, jobs) = stalled_lane().await;
        let third = case.ordered(3, "abc").await;
        let sending = tokio::spawn({
            let (client, job) = (case.client.clone(), third.clone());
            async move { client.submit_signed(job).await }
        });
        case.rig.node.wait_until(|view| view.stats().hanging_calls() == 1).await;
        let asked = case.rig.node.stats().calls(Method::GetPendingJobs);
        for job in jobs.iter().chain([&third]) {
            let diagnosis = case.client.diagnose(job).patience(Duration::from_millis(1)).await.unwrap();
            likely(&diagnosis, Cause::ConsumerBlocked);
        }
        // Many at once, one of which goes away.
        let patient = case.client.diagnose(&third).patience(Duration::from_secs(600)).into_future();
        drop(tokio::select! {
            _ = patient => panic!("the list hangs"),
            diagnosis = case.client.diagnose(&jobs[0]).patience(Duration::from_millis(1)) => diagnosis,
        });
        assert_eq!(case.rig.node.stats().calls(Method::GetPendingJobs), asked + 1);
        // Nothing was abandoned, so the task lives on.
        case.rig.node.faults().stall_relays(false);
        sending.await.unwrap().unwrap().wait(Until::Relayed).await.unwrap();
        for job in jobs.iter().chain([&third]) {
            shown(&case.client.diagnose(job).await.unwrap(), Cause::Relayed);
        }
        assert!(case.client.pending_jobs(CONSUMER).await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_dead_consumer_is_named_until_the_node_is_restarted() {
    within(async {
        let (case, _) = stalled_lane().await;
        let third = case.ordered(3, "abc").await;
        let transport = GrpcTransport::builder(case.rig.node.grpc_url()).build().unwrap();
        let body = Wire::new(Revision::Relay, Encoding::Protobuf).submit_job(&third).unwrap();
        {
            let mut call = Box::pin(transport.call(Method::SubmitJob, body));
            tokio::select! {
                _ = &mut call => panic!("the node has room"),
                () = case.rig.node.wait_until(|view| view.stats().hanging_calls() == 1) => {}
            }
        }
        case.rig.node.wait_until(|view| view.stats().hanging_calls() == 0).await;
        let unsent = case.ordered(4, "abc").await;
        for job in [&third, &unsent] {
            // Over gRPC each call breaks off.
            likely(&case.client.diagnose(job).await.unwrap(), Cause::ConsumerDead);
        }
        let died = "h2 protocol error: http2 error";
        case.rig.node.faults().refuse(Method::GetPendingJobs, 2, StatusCode::CANCELLED, died);
        shown(&case.client.diagnose(&third).await.unwrap(), Cause::ConsumerDead);
        case.restart();
        shown(&case.client.diagnose(&third).await.unwrap(), Cause::Lost);
        for nonce in 1..=3 {
            case.send_again(&case.ordered(nonce, "abc").await).await;
        }
        case.rig.reaches(third.id(), JobState::Relayed).await;
    })
    .await;
}

/// A stalled job is one that this client has watched for long enough: here for no time at all.
#[tokio::test]
async fn what_stands_still_under_the_eyes_of_a_wait_is_stalled() {
    in_every_cell(|case| async move {
        let faults = case.rig.node.faults();
        let gate = faults.hold_executions();
        faults.stall_relays(true);
        let handle = case.client.submit(case.rig.build("abc")).await.unwrap();
        let at_once = || handle.diagnose().stalled_after(Duration::ZERO);
        // Who has no handle remembers nothing.
        let stranger = || case.client.diagnose(handle.signed_job()).stalled_after(Duration::ZERO);
        shown(&stranger().await.unwrap(), progress(Stage::Accepted));
        let mut events = handle.events();
        until(&mut events, Stage::Accepted).await;
        let diagnosis = at_once().await.unwrap();
        match case.has_list() {
            true => assert!(matches!(diagnosis.cause(), Cause::ExecutionStalled { .. }), "{diagnosis}"),
            // A node that lost it would look the same.
            false => likely(&diagnosis, Cause::Lost),
        }
        // Not for half a minute yet.
        shown(&handle.diagnose().await.unwrap(), progress(Stage::Accepted));

        gate.open();
        until(&mut events, Stage::Executed).await;
        let diagnosis = at_once().await.unwrap();
        let Cause::RelayStalled { stalled, .. } = diagnosis.cause() else { panic!("{diagnosis}") };
        shown(&diagnosis, facts!(RelayStalled { stalled: *stalled }));
        assert!(diagnosis.advice().contains("on chain"), "{diagnosis}");
        assert!(diagnosis.evidence().iter().any(|line| line.contains("executed for")), "{diagnosis}");
        shown(&handle.diagnose().await.unwrap(), progress(Stage::Executed));
        // The handle remembers it when the wait is over.
        drop(events);
        let Cause::RelayStalled { stalled: longer, .. } = *at_once().await.unwrap().cause() else { panic!() };
        assert!(longer >= *stalled);
        shown(&stranger().await.unwrap(), progress(Stage::Executed));
        faults.stall_relays(false);
        handle.wait(Until::Relayed).await.unwrap();
        shown(&at_once().await.unwrap(), Cause::Relayed);
    })
    .await;
}

#[tokio::test]
async fn a_lane_that_stands_still_is_held_by_its_lowest_job() {
    in_relay(|case| async move {
        case.rig.node.faults().stall_relays(true);
        let first = case.client.submit(case.rig.ordered("1")).await.unwrap();
        let second = case.client.submit(case.rig.ordered("2")).await.unwrap();
        let (mut events, mut later) = (first.events(), second.events());
        for events in [&mut events, &mut later] {
            until(events, Stage::Executed).await;
        }
        let at_once = || second.diagnose().stalled_after(Duration::ZERO);
        // Its own standing still is no proof that the one below does.
        let held = |diagnosis: &Diagnosis| match diagnosis.cause() {
            Cause::BehindStalled { nonce: 1, .. } => diagnosis.confidence(),
            _ => panic!("{diagnosis}"),
        };
        assert_eq!(held(&at_once().await.unwrap()), Confidence::Likely);
        let known = [first.signed_job().clone()];
        assert_eq!(held(&at_once().knowing(known.clone()).await.unwrap()), Confidence::Shown);
        drop(later);
        let stranger = || case.client.diagnose(second.signed_job()).stalled_after(Duration::ZERO);
        shown(&stranger().await.unwrap(), facts!(InLine { behind: 1 }));
        assert_eq!(held(&stranger().knowing(known).await.unwrap()), Confidence::Shown);
    })
    .await;
}

/// Only the chain knows where a lane begins of which this node has seen nothing; when nothing moves, that is the likely cause.
#[tokio::test]
async fn nonces_missing_from_the_first_on_are_named_once_the_job_stands_still() {
    in_relay(|case| async move {
        let job = case.ordered(4, "abc").await;
        case.run(&job, JobState::Done).await;
        let handle = case.client.resume(job).unwrap();
        shown(&handle.diagnose().stalled_after(Duration::ZERO).await.unwrap(), progress(Stage::Executed));
        let mut events = handle.events();
        until(&mut events, Stage::Executed).await;
        likely(&handle.diagnose().stalled_after(Duration::ZERO).await.unwrap(), gap(1, 3));
        shown(&handle.diagnose().await.unwrap(), progress(Stage::Executed));
        for nonce in 1..=3 {
            case.run(&case.ordered(nonce, "fill").await, JobState::Relayed).await;
        }
        until(&mut events, Stage::Relayed).await;
    })
    .await;
}

#[tokio::test]
async fn without_an_operator_all_but_the_proof_is_there() {
    in_every_cell(|case| async move {
        let builder = Client::builder().revision(case.rig.revision);
        let builder =
            if case.rest { builder.rest(case.rig.node.rest_url()) } else { builder.grpc(case.rig.node.grpc_url()) };
        let client = builder.connect().await.unwrap();
        case.rig.node.faults().stall_relays(true);
        let handle = case.client.submit(case.rig.build("abc")).await.unwrap();
        case.rig.reaches(handle.id(), JobState::Done).await;
        shown(&client.diagnose(handle.signed_job()).await.unwrap(), progress(Stage::Executed));
        case.rig.node.faults().stall_relays(false);
        case.rig.reaches(handle.id(), JobState::Relayed).await;
        likely(&client.diagnose(handle.signed_job()).await.unwrap(), Cause::Relayed);
        let job = case.rig.sign(9, "abc").await;
        shown(&client.diagnose(&job).await.unwrap(), facts!(NotKnown { seen_before: false }));
    })
    .await;
}

/// One answer that was wrong, or too early: what says "stuck" has to be said twice.
#[tokio::test]
async fn a_passing_lapse_of_the_node_is_no_cause() {
    in_every_cell(|case| async move {
        let faults = case.rig.node.faults();
        let gate = faults.hold_executions();
        let handle = case.client.submit(case.rig.ordered("abc")).await.unwrap();
        let lapses = if case.has_list() { 2 } else { 1 };
        for lapse in 0..lapses {
            match lapse {
                0 => faults.refuse(Method::GetResult, 1, StatusCode::NOT_FOUND, "job not found"),
                // An empty list.
                _ => faults.replace_reply(Method::GetPendingJobs, Bytes::new()),
            }
            shown(&handle.diagnose().await.unwrap(), progress(Stage::Accepted));
        }
        // Something else each time, and in the end neither, or yet another: it moves, whatever that was.
        for third in [false, true] {
            if case.has_list() {
                faults.refuse(Method::GetResult, 1, StatusCode::NOT_FOUND, "job not found");
                let truth = [8 | 2, 1, handle.signed_job().nonce() as u8];
                faults.replace_reply(Method::GetPendingJobs, Bytes::copy_from_slice(&truth));
                faults.replace_reply(Method::GetPendingJobs, Bytes::new());
                if third {
                    faults.refuse(Method::GetPendingJobs, 1, StatusCode::CANCELLED, "h2 protocol error: http2 error");
                }
                let diagnosis = handle.diagnose().await.unwrap();
                let confidence = if third { Confidence::Likely } else { Confidence::Shown };
                check(&diagnosis, progress(Stage::Accepted), confidence);
            }
        }
        gate.open();
        handle.wait(Until::Relayed).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn older_nodes_and_lists_that_fail_are_said() {
    with_list(|case| async move {
        let handle = case.client.submit(case.rig.build("abc")).await.unwrap();
        handle.wait(Until::Relayed).await.unwrap();
        let faults = case.rig.node.faults();
        // All of them: the watcher may still read the list that it needed for the wait.
        faults.refuse(Method::GetPendingJobs, 1_000, StatusCode::UNAVAILABLE, "too busy for lists");
        let diagnosis = handle.diagnose().await.unwrap();
        assert!(diagnosis.evidence()[0].contains("too busy for lists"), "{diagnosis}");
        shown(&diagnosis, Cause::Relayed);
        faults.clear();
        faults.unimplemented(Method::GetPendingJobs);
        faults.unimplemented(Method::ContainsProgram);
        let gate = faults.hold_executions();
        let handle = case.client.submit(case.rig.build("abc")).await.unwrap();
        let diagnosis = handle.diagnose().await.unwrap();
        shown(&diagnosis, progress(Stage::Accepted));
        assert!(diagnosis.advice().contains("no list of pending jobs"), "{diagnosis}");
        gate.open();
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_asked_is_an_error() {
    in_every_cell(|case| async move {
        let job = case.rig.sign(1, "abc").await;
        let other = if case.is_state() { Revision::Relay } else { Revision::State };
        let url = format!("http://{}", closed_port());
        for (revision, kind) in [(case.rig.revision, ErrorKind::Unavailable), (other, ErrorKind::WrongRevision)] {
            let builder = Client::builder().revision(revision).retry(RetryPolicy::none());
            let client = if case.rest { builder.rest(&url) } else { builder.grpc(&url) }.connect().await.unwrap();
            assert_eq!(client.diagnose(&job).await.unwrap_err().kind(), kind);
        }
        case.run(&job, JobState::Relayed).await;
        case.rig.node.faults().lie(Lie::RecordId);
        assert_eq!(case.client.diagnose(&job).await.unwrap_err().kind(), ErrorKind::BadResponse);
    })
    .await;
}

#[tokio::test]
async fn it_reads_and_changes_nothing() {
    in_relay(|case| async move {
        let kept = case.client.sign(case.rig.ordered("1")).await.unwrap();
        let handle = case.client.submit(case.rig.ordered("2")).await.unwrap();
        case.rig.reaches(handle.id(), JobState::Done).await;
        let submissions = case.rig.node.stats().calls(Method::SubmitJob);
        likely(&handle.diagnose().await.unwrap(), facts!(BehindQuarantined { nonce: 1 }));
        shown(&case.client.diagnose(&kept).await.unwrap(), facts!(NotKnown { seen_before: false }));
        assert_eq!(case.client.nonces().quarantined(CONSUMER), [1]);
        assert!(case.client.unresolved().is_empty());
        assert_eq!(case.rig.node.stats().calls(Method::SubmitJob), submissions);
    })
    .await;
}

#[tokio::test]
async fn it_prints_in_readable_lines() {
    with_list(|case| async move {
        case.run(&case.ordered(1, "1").await, JobState::Relayed).await;
        let job = case.ordered(4, "4").await;
        case.run(&job, JobState::Done).await;
        let diagnosis = case.client.diagnose(&job).await.unwrap();
        let expected = format!(
            "job with nonce 4: held behind the missing nonces 2 to 3\n  \
             seen:      GetPendingJobs: the list of 1 pending jobs of {CONSUMER} has nonce 4\n  \
             seen:      GetResult: DONE, the result is signed by the pinned operator\n  \
             seen:      GetResult of nonce 1: the lane is past it\n  \
             seen:      nonces 2 to 3: GetResult: not known to the node\n  \
             job:       {}\n  \
             what next: look at the consumer's getNextNonce() on chain. If it is not above 2, submit jobs under nonces 2 to 3: ",
            job.id()
        );
        assert!(diagnosis.to_string().starts_with(&expected), "{diagnosis}\n\n{expected}");
        assert_eq!((diagnosis.job_id(), diagnosis.evidence().len()), (job.id(), 4));
    })
    .await;
}
