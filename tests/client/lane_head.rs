//! The job at the head of an Ordered lane can never land, or not now: the jobs behind it are told of that at once, by a
//! diagnosis and by a preflight, and what both advise is done here, word for word, until the lane moves on.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use infinityvm_sdk::{
    Cause, Client, Confidence, Diagnosis, FindingKind, LocalSigner, Outcome, PreflightReport, RelayStrategy, Revision,
    Severity, SignedJob, Until,
    chain::{Chain, Question, RevertCause, RpcReader},
    client::Stage,
    devnode::{ConsumerRules, JobState},
    primitives::{Bytes, keccak256},
};
use support::{
    facts,
    json_chain::{self, Rules, refusal},
    tapped::reverting,
};

use crate::{
    diagnosis_chain::{Case, STATEFUL, SUBMIT_RESULT, in_every_cell, in_relay},
    rig::CONSUMER,
};

/// Jobs of the nonces from 1 on that count up from this number, each from where the one before ends.
async fn chained(case: &Case, from: u8, nonces: std::ops::RangeInclusive<u64>) -> Vec<SignedJob> {
    let mut jobs = Vec::new();
    for (count, nonce) in (from..).zip(nonces) {
        jobs.push(case.sign_by(&case.rig.signer, case.count(count, true), nonce).await);
    }
    jobs
}

async fn execute(case: &Case, jobs: &[SignedJob]) {
    for job in jobs {
        case.send(job, JobState::Done).await;
    }
}

/// The same client, and one that has just been started.
async fn clients(case: &Case) -> [Client; 2] {
    [case.client.clone(), case.connect(true, Some(case.rig.node.operator())).await]
}

#[track_caller]
fn behind(diagnosis: &Diagnosis, head: u64, why: RevertCause) {
    let cause = diagnosis.cause();
    assert!(
        matches!(cause, Cause::BehindReverting { nonce, cause, .. } if (*nonce, *cause) == (head, why)),
        "{diagnosis}"
    );
    assert_eq!(diagnosis.confidence(), Confidence::Shown, "{diagnosis}");
    assert!(diagnosis.is_stuck() && diagnosis.advice().contains("Client::post_result"), "{diagnosis}");
    assert!(diagnosis.to_string().contains(&format!("nonce {head}")), "{diagnosis}");
}

#[track_caller]
fn forbidden(report: &PreflightReport, head: u64, why: RevertCause) {
    let told = report.findings().iter().find(
        |it| matches!(it.kind(), FindingKind::BehindReverting { nonce, cause, .. } if (*nonce, *cause) == (head, why)),
    );
    let told = told.unwrap_or_else(|| panic!("{report}"));
    assert_eq!(told.severity(), Severity::Error);
    assert!(!report.will_land() && report.to_string().contains(&format!("nonce {head}")), "{report}");
    assert!(told.remedy().contains("restart") && told.remedy().contains("Client::post_result"), "{report}");
}

/// Three jobs that hand on a state, of which the first does not begin with the consumer's latest.
async fn stale(case: &Case) -> Vec<SignedJob> {
    let jobs = chained(case, 3, 1..=3).await;
    execute(case, &jobs).await;
    let reason = format!("it starts from the state {}, the latest is {}", keccak256([3]), keccak256([0]));
    let next = chained(case, 6, 4..=4).await.remove(0);
    for client in clients(case).await {
        let diagnosis = client.diagnose(&jobs[0]).await.unwrap();
        assert_eq!(*diagnosis.cause(), facts!(StaleState { given: keccak256([3]), latest: keccak256([0]) }));
        assert!(diagnosis.advice().contains("another nonce is not enough"), "{diagnosis}");
        for job in &jobs[1..] {
            let diagnosis = client.diagnose(job).await.unwrap();
            behind(&diagnosis, 1, RevertCause::StaleState);
            let cause = RevertCause::StaleState;
            assert_eq!(*diagnosis.cause(), facts!(BehindReverting { nonce: 1_u64, cause, reason }), "{diagnosis}");
        }
        for job in [&jobs[1], &jobs[2], &next] {
            forbidden(&client.preflight(job).await.unwrap(), 1, RevertCause::StaleState);
        }
    }
    jobs
}

/// Not executed yet, and held all the same.
#[tokio::test]
async fn a_job_that_is_not_executed_yet_is_told_of_a_stale_head_too() {
    in_relay(|case| async move {
        let jobs = chained(&case, 3, 1..=3).await;
        execute(&case, &jobs[..1]).await;
        let gate = case.rig.node.faults().hold_executions();
        for job in &jobs[1..] {
            case.send(job, JobState::Pending).await;
            behind(&case.diagnose(job).await.0, 1, RevertCause::StaleState);
        }
        gate.open();
    })
    .await;
}

/// The first way: the node is restarted, and the nonces are filled from the lowest on.
#[tokio::test]
async fn a_stale_head_is_replaced_under_its_nonce_after_a_restart() {
    in_relay(|case| async move {
        let old = stale(&case).await;
        // What is advised against: another nonce alone.
        let other = chained(&case, 0, 4..=4).await.remove(0);
        case.send(&other, JobState::Done).await;
        behind(&case.diagnose(&other).await.0, 1, RevertCause::StaleState);

        case.rig.node.restart();
        // Still, and the connection is a new one by now.
        let diagnosis = case.diagnose(&old[0]).await.0;
        assert!(matches!(diagnosis.cause(), Cause::StaleState { .. }), "{diagnosis}");
        for job in chained(&case, 0, 1..=3).await {
            // A connection from before the restart may break with the first of them: then it is sent again, as the error
            // says.
            if let Err(error) = case.client.submit_signed(job.clone()).await {
                assert_eq!(error.outcome(), Outcome::Unknown, "{}", error.report());
                case.client.submit_signed(job.clone()).await.unwrap();
            }
            case.rig.reaches(job.id(), JobState::Relayed).await;
        }
        assert_eq!(case.rig.node.chain().latest_state_root(STATEFUL), Some(keccak256([3])));
        // The one above them begins with a state that is past by now.
        let diagnosis = case.diagnose(&other).await.0;
        assert!(matches!(diagnosis.cause(), Cause::StaleState { .. }), "{diagnosis}");
        let diagnosis = case.diagnose(&old[0]).await.0;
        assert!(matches!(diagnosis.cause(), Cause::NonceTakenOnChain { .. }), "{diagnosis}");
    })
    .await;
}

/// A client that requires a preflight refuses what both ways send, and says so.
#[tokio::test]
async fn a_client_that_requires_a_preflight_says_that_it_is_in_the_way() {
    in_relay(|case| async move {
        let jobs = stale(&case).await;
        let builder = case.rig.builder().chain(case.rig.node.chain().to_chain()).require_preflight(Severity::Error);
        let strict = builder.connect().await.unwrap();
        jobs.into_iter().for_each(|job| drop(strict.resume(job).unwrap()));
        let job = chained(&case, 0, 4..=4).await.remove(0);
        let error = strict.submit_signed(job.clone()).await.unwrap_err();
        forbidden(PreflightReport::of(&error).unwrap(), 1, RevertCause::StaleState);
        let report = error.report().to_string();
        assert!(report.contains("A client that requires a preflight refuses jobs behind that one"), "{report}");
        case.client.submit_signed(job).await.unwrap();
    })
    .await;
}

/// The second way: nobody restarts the node; and once somebody does, the lane goes on by itself.
#[tokio::test]
async fn a_stale_head_is_gone_around_with_results_that_are_posted() {
    in_relay(|case| async move {
        stale(&case).await;
        for job in chained(&case, 0, 4..=5).await {
            let handle = case.client.submit_signed(job).await.unwrap();
            let result = handle.wait(Until::Executed).await.unwrap();
            handle.post_result(&result).await.unwrap();
        }
        assert_eq!(case.rig.node.chain().latest_state_root(STATEFUL), Some(keccak256([2])));
        case.rig.node.restart();
        for job in chained(&case, 2, 6..=7).await {
            case.client.submit_signed(job.clone()).await.unwrap();
            case.rig.reaches(job.id(), JobState::Relayed).await;
        }
    })
    .await;
}

/// Without a lane another nonce is right, in both revisions. A State node relays nothing more by then.
#[tokio::test]
async fn a_stale_job_without_a_lane_gets_another_nonce() {
    in_every_cell(|case| async move {
        let stale = case.sign_by(&case.rig.signer, case.count(3, false), 1).await;
        assert_eq!(stale.relay_strategy(), RelayStrategy::Unordered);
        let handle = case.send(&stale, JobState::Done).await;
        let id = stale.id();
        case.rig.node.wait_until(|view| view.stats().relay_attempts(id.into()) > 0).await;
        let diagnosis = case.stalled(&handle).await;
        assert!(matches!(diagnosis.cause(), Cause::StaleState { .. }), "{diagnosis}");
        assert!(diagnosis.advice().contains("under another nonce"), "{diagnosis}");
        assert!(!diagnosis.advice().contains("lane"), "{diagnosis}");
        let again = case.sign_by(&case.rig.signer, case.count(0, false), 2).await;
        if case.rig.revision == Revision::State {
            assert!(diagnosis.advice().contains("Client::post_result"), "{diagnosis}");
            let handle = case.send(&again, JobState::Done).await;
            let result = handle.wait(Until::Executed).await.unwrap();
            handle.post_result(&result).await.unwrap();
        } else {
            case.send(&again, JobState::Relayed).await;
        }
        assert_eq!(case.rig.node.chain().latest_state_root(STATEFUL), Some(keccak256([1])));
    })
    .await;
}

/// A job that the node does not have holds nothing: the payload may have its nonce.
#[tokio::test]
async fn a_stale_job_that_was_never_sent_keeps_its_nonce() {
    in_relay(|case| async move {
        let stale = chained(&case, 3, 1..=1).await.remove(0);
        let diagnosis = case.diagnose(&stale).await.0;
        assert!(matches!(diagnosis.cause(), Cause::StaleState { .. }), "{diagnosis}");
        assert!(diagnosis.advice().contains("under this nonce"), "{diagnosis}");
        let again = chained(&case, 0, 1..=1).await.remove(0);
        case.send(&again, JobState::Relayed).await;
    })
    .await;
}

/// Whatever else the contracts have against the head: its signer, the consumer's own reason, too much gas.
#[tokio::test]
async fn other_reasons_of_the_head_are_told_of_it() {
    type Set = fn(&Case);
    let own: Set = |case| case.chain.reverts(SUBMIT_RESULT, "the shop is closed");
    let gas: Set = |case| out_of_gas(case, Bytes::new());
    let signer: Set = |_| {};
    for (set, why, by_mallory) in [
        (signer, RevertCause::RequestSignature, true),
        (own, RevertCause::Other, false),
        (gas, RevertCause::TooMuchGas, false),
    ] {
        for executed in [true, false] {
            // What is not executed yet has no result to try.
            if !executed && !by_mallory {
                continue;
            }
            in_relay(|case| async move {
                case.rig.node.faults().stall_relays(!by_mallory);
                let by = if by_mallory { LocalSigner::random().unwrap() } else { case.rig.signer.clone() };
                let head = case.sign_by(&by, case.rig.ordered("head"), 1).await;
                let gate = (!executed).then(|| case.rig.node.faults().hold_executions());
                case.send(&head, if executed { JobState::Done } else { JobState::Pending }).await;
                if let Some(gate) = gate {
                    // Only what comes behind it is executed.
                    std::mem::forget(gate);
                    case.rig.node.faults().clear();
                }
                let second = case.ordered(2, "second").await;
                case.send(&second, JobState::Done).await;
                let third = case.ordered(3, "third").await;
                set(&case);
                for client in clients(&case).await {
                    behind(&client.diagnose(&second).await.unwrap(), 1, why);
                    forbidden(&client.preflight(&third).await.unwrap(), 1, why);
                    let of_head = client.diagnose(&head).await.unwrap();
                    match why {
                        RevertCause::RequestSignature => {
                            assert!(matches!(of_head.cause(), Cause::SignerRefused { .. }), "{of_head}");
                            assert!(of_head.advice().contains("another nonce is not enough"), "{of_head}");
                        }
                        why => {
                            assert!(
                                matches!(of_head.cause(), Cause::RelayReverts { cause, .. } if *cause == why),
                                "{of_head}"
                            );
                        }
                    }
                }
                // The second one's own result may be posted where nothing is against that.
                if by_mallory {
                    let diagnosis = case.diagnose(&second).await.0;
                    assert!(diagnosis.advice().contains("would be accepted now"), "{diagnosis}");
                    let handle = case.client.submit_signed(second.clone()).await.unwrap();
                    let result = handle.wait(Until::Executed).await.unwrap();
                    handle.post_result(&result).await.unwrap();
                }
            })
            .await;
        }
    }
}

/// Row 29: what runs out of gas has no reason of its own, and no consumer's either.
#[tokio::test]
async fn a_result_that_needs_more_gas_than_a_block_has_is_told_as_that() {
    in_every_cell(|case| async move {
        case.rig.node.faults().stall_relays(true);
        let job = case.ordered(1, "abc").await;
        let handle = case.send(&job, JobState::Done).await;
        // Without data; and with a reason of the consumer's, whose own call has run out of gas.
        for text in [Bytes::new(), Bytes::from_static(&[0x4e, 0x48, 0x7b, 0x71]), revert("callback failed")] {
            out_of_gas(&case, text);
            let diagnosis = case.stalled(&handle).await;
            assert!(
                matches!(diagnosis.cause(), Cause::RelayReverts { cause: RevertCause::TooMuchGas, .. }),
                "{diagnosis}"
            );
            assert!(diagnosis.to_string().contains("more gas than a block"), "{diagnosis}");
            // A preflight of the job, which the node has by now, finds the same.
            let report = case.client.preflight(&job).await.unwrap();
            let told = report
                .findings()
                .iter()
                .any(|it| matches!(it.kind(), FindingKind::RelayReverts { cause: RevertCause::TooMuchGas, .. }));
            assert!(told && !report.will_land(), "{report}");
            assert!(!diagnosis.advice().contains("a reason of its own"), "{diagnosis}");
        }
        // One that is refused with any gas has that reason, which may pass.
        case.chain.reverts(SUBMIT_RESULT, "the shop is closed");
        let report = case.client.preflight(&job).await.unwrap();
        assert!(report.will_land() && report.to_string().contains("the shop is closed"), "{report}");
        let diagnosis = case.stalled(&handle).await;
        assert!(matches!(diagnosis.cause(), Cause::RelayReverts { cause: RevertCause::Other, .. }), "{diagnosis}");
    })
    .await;
}

/// Row 29, where an RPC allows calls more gas than a block has: the call passes, and the transaction never would.
#[tokio::test]
async fn a_result_for_which_only_a_call_has_the_gas_is_told_as_that() {
    const LIMIT: u64 = 30_000_000;
    in_every_cell(|case| async move {
        case.rig.node.faults().stall_relays(true);
        let job = case.ordered(1, "abc").await;
        let handle = case.send(&job, JobState::Done).await;
        // Out of gas, with the panic of a consumer whose own call was, and with its own text.
        for data in [Bytes::new(), Bytes::from_static(&[0x4e, 0x48, 0x7b, 0x71]), revert("callback failed")] {
            case.chain.rpc().gas_limit = Some(LIMIT);
            within_gas(&case, LIMIT, data.clone(), usize::MAX);
            let diagnosis = case.stalled(&handle).await;
            assert!(
                matches!(diagnosis.cause(), Cause::RelayReverts { cause: RevertCause::TooMuchGas, .. }),
                "{diagnosis}"
            );
            let report = case.client.preflight(&job).await.unwrap();
            assert!(report.to_string().contains("more gas than a block") && !report.will_land(), "{report}");
            // Once is a mistake of the RPC's; and of blocks without a limit nothing is known.
            for (times, limit) in [(1, Some(LIMIT)), (usize::MAX, None)] {
                case.chain.rpc().gas_limit = limit;
                within_gas(&case, LIMIT, data.clone(), times);
                let report = case.client.preflight(&job).await.unwrap();
                assert!(report.will_land() && !speaks_of_the_result(&report), "{report}");
            }
        }
        // What the JobManager has against it is no want of gas: it is there meanwhile, perhaps.
        case.chain.rpc().gas_limit = Some(LIMIT);
        within_gas(&case, LIMIT, revert("JobManager.createJob: job already exists with this nonce"), usize::MAX);
        let report = case.client.preflight(&job).await.unwrap();
        assert!(report.will_land() && !speaks_of_the_result(&report), "{report}");
    })
    .await;
}

/// EIP-7825: a transaction may have less gas than a block. The RPC, which allows calls more, does not say whether this
/// chain has that bound, so it is a warning; to what does not move it is the likely reason.
#[tokio::test]
async fn a_result_that_needs_more_gas_than_a_transaction_may_have_is_told_as_that() {
    const CAP: u64 = 1 << 24;
    in_every_cell(|case| async move {
        case.rig.node.faults().stall_relays(true);
        let job = case.ordered(1, "abc").await;
        let handle = case.send(&job, JobState::Done).await;
        for data in [Bytes::new(), Bytes::from_static(&[0x4e, 0x48, 0x7b, 0x71]), revert("callback failed")] {
            case.chain.rpc().gas_limit = Some(36_000_000);
            within_gas(&case, CAP, data.clone(), usize::MAX);
            let report = case.client.preflight(&job).await.unwrap();
            let warned = report.findings().iter().any(|it| {
                it.severity() == Severity::Warning
                    && matches!(it.kind(), FindingKind::RelayReverts { cause: RevertCause::TooMuchGas, .. })
            });
            assert!(warned && report.will_land() && report.to_string().contains("EIP-7825"), "{report}");
            let diagnosis = case.stalled(&handle).await;
            assert!(
                matches!(diagnosis.cause(), Cause::RelayReverts { cause: RevertCause::TooMuchGas, .. }),
                "{diagnosis}"
            );
            assert!(diagnosis.to_string().contains("16777216 gas"), "{diagnosis}");
            // Once is a mistake of the RPC's. A block that has no more than a transaction bounds it already; and of
            // blocks without a limit nothing is known.
            for (times, limit) in [(1, Some(36_000_000)), (usize::MAX, None), (usize::MAX, Some(CAP - 1))] {
                case.chain.rpc().gas_limit = limit;
                within_gas(&case, CAP, data.clone(), times);
                let report = case.client.preflight(&job).await.unwrap();
                assert!(report.will_land() && !speaks_of_the_result(&report), "{report}");
            }
        }
    })
    .await;
}

/// The same over JSON-RPC, by one that holds estimates to that bound: then it is certain. Whatever else it says of an
/// estimate is no proof of it.
#[tokio::test]
async fn an_rpc_that_holds_estimates_to_what_a_transaction_may_have_makes_it_certain() {
    for (text, certain) in [
        ("gas required exceeds allowance (16777216)", true),
        ("transaction gas limit too high (cap: 16777216, tx: 36000000)", true),
        ("intrinsic gas too high -- tx.gas_limit > env.cfg.tx_gas_limit_cap", true),
        ("gas required exceeds allowance (36000000)", false),
        ("execution reverted", false),
        ("the method eth_estimateGas does not exist", false),
    ] {
        in_relay(|case| async move {
            case.rig.node.faults().stall_relays(true);
            let job = case.ordered(1, "abc").await;
            case.send(&job, JobState::Done).await;
            case.chain.rpc().gas_limit = Some(36_000_000);
            let rules = Rules::none().items(move |request| match request["method"].as_str() {
                Some("eth_call") if request["params"][0]["gas"] == "0x1000000" => {
                    Some(refusal(request, -32000, "out of gas"))
                }
                Some("eth_estimateGas") => Some(refusal(request, -32000, text)),
                _ => None,
            });
            let server = json_chain::serve(case.chain.chain(), rules).await;
            let chain = Chain::new(RpcReader::http(server.url()).unwrap(), case.chain.sim.job_manager());
            let client = case.rig.builder().chain(chain).connect().await.unwrap();
            let report = client.preflight(&job).await.unwrap();
            let told = report
                .findings()
                .iter()
                .find(|it| matches!(it.kind(), FindingKind::RelayReverts { cause: RevertCause::TooMuchGas, .. }));
            let severity = told.unwrap_or_else(|| panic!("{text}: {report}")).severity();
            assert_eq!((severity == Severity::Error, report.will_land()), (certain, !certain), "{text}: {report}");
        })
        .await;
    }
}

fn speaks_of_the_result(report: &PreflightReport) -> bool {
    report.findings().iter().any(|it| matches!(it.kind(), FindingKind::RelayReverts { .. }))
}

/// Calls with so much gas and no more revert with this, so many times.
fn within_gas(case: &Case, limit: u64, data: Bytes, times: usize) {
    let (word, left) = (reverting(SUBMIT_RESULT, data), AtomicUsize::new(times));
    case.chain.say(SUBMIT_RESULT, move |question| match question {
        Question::Call(call, _) if call.gas == Some(limit) => {
            let said = word(question)?;
            left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok().then_some(said)
        }
        _ => None,
    });
}

/// Results revert with this unless a call says how much gas it has.
fn out_of_gas(case: &Case, data: Bytes) {
    let word = reverting(SUBMIT_RESULT, data);
    case.chain.say(SUBMIT_RESULT, move |question| match question {
        Question::Call(call, _) if call.gas.is_none() => word(question),
        _ => None,
    });
}

fn revert(text: &str) -> Bytes {
    use infinityvm_sdk::primitives::alloy_sol_types::{Revert, SolError};
    Revert { reason: text.to_owned() }.abi_encode().into()
}

/// Failed, not sent, not known: the lane waits for each of these, and a preflight says so, too.
#[tokio::test]
async fn a_head_that_failed_or_is_not_at_the_node_is_found_before_anything_is_sent() {
    in_relay(|case| async move {
        let failed = case.ordered(1, "bad").await;
        case.send(&failed, JobState::Failed).await;
        let second = case.ordered(2, "second").await;
        for client in clients(&case).await {
            let report = client.preflight(&second).await.unwrap();
            let kinds: Vec<_> = report.findings().iter().map(infinityvm_sdk::client::Finding::kind).collect();
            let told = kinds.iter().any(|kind| {
                matches!(kind, FindingKind::BehindFailed { nonce: 1, reason: Some(reason), .. } if reason == "execution_error")
            });
            assert!(told && !report.will_land(), "{report}");
        }
        // Replaced, as is advised: nothing is against the second any more.
        let handle = case.client.resume(failed).unwrap();
        case.client.replace(&handle, case.rig.ordered("good")).await.unwrap();
        case.rig.reaches(handle.id(), JobState::Relayed).await;
        assert!(case.client.preflight(&second).await.unwrap().will_land());
    })
    .await;
    in_relay(|case| async move {
        // In quarantine: signed, and never sent.
        let faults = case.rig.node.faults();
        faults.refuse(infinityvm_sdk::rpc::Method::SubmitJob, 9, infinityvm_sdk::rpc::StatusCode::INTERNAL, "not now");
        let first = case.ordered(1, "first").await;
        case.client.submit_signed(first.clone()).await.unwrap_err();
        faults.clear();
        let second = case.ordered(2, "second").await;
        let report = case.client.preflight(&second).await.unwrap();
        let told = |report: &PreflightReport, name: &str| {
            report.findings().iter().any(|it| format!("{:?}", it.kind()).starts_with(name))
        };
        assert!(told(&report, "BehindQuarantined { nonce: 1") && !report.will_land(), "{report}");
        let fresh = case.connect(true, Some(case.rig.node.operator())).await;
        assert!(told(&fresh.preflight(&second).await.unwrap(), "NonceGap { missing: [(1, 1)]"));
        case.send(&first, JobState::Relayed).await;
        assert!(case.client.preflight(&second).await.unwrap().will_land());
    })
    .await;
}

/// Somebody brings the head's result to the chain by hand: the node's lane does not notice, and waits.
#[tokio::test]
async fn a_head_that_was_posted_by_hand_is_no_reason_to_wait_for_ever() {
    in_relay(|case| async move {
        case.rig.node.faults().stall_relays(true);
        let jobs = chained(&case, 0, 1..=3).await;
        execute(&case, &jobs).await;
        let head = case.client.submit_signed(jobs[0].clone()).await.unwrap();
        let result = head.wait(Until::Executed).await.unwrap();
        head.post_result(&result).await.unwrap();
        case.rig.node.faults().stall_relays(false);
        for (job, behind) in [(&jobs[1], 1), (&jobs[2], 1)] {
            let diagnosis = case.diagnose(job).await.0;
            assert_eq!(*diagnosis.cause(), facts!(InLine { behind: behind as u64 }), "{diagnosis}");
        }
        // The advice for the second, and then for the third.
        for job in &jobs[1..] {
            let handle = case.client.submit_signed(job.clone()).await.unwrap();
            for diagnosis in [case.diagnose(job).await.0, case.stalled(&handle).await] {
                assert!(diagnosis.advice().contains("post the result with Client::post_result"), "{diagnosis}");
            }
            let result = handle.wait(Until::Executed).await.unwrap();
            handle.post_result(&result).await.unwrap();
            assert_eq!(*case.diagnose(job).await.0.cause(), Cause::Complete);
        }
    })
    .await;
}

/// One look shows a state that is past, and the next one does not: nothing is stuck.
#[tokio::test]
async fn a_head_that_lands_between_two_looks_holds_nothing() {
    in_relay(|case| async move {
        case.rig.node.faults().stall_relays(true);
        let jobs = chained(&case, 0, 1..=3).await;
        execute(&case, &jobs).await;
        let wrong = || reverting(SUBMIT_RESULT, revert("Invalid state root passed as input"));
        case.chain.mistake(0, wrong());
        let diagnosis = case.diagnose(&jobs[1]).await.0;
        assert_eq!(*diagnosis.cause(), facts!(InLine { behind: 1_u64 }), "{diagnosis}");
        // A preflight asks for the head's result in its second question.
        case.chain.no_mistakes();
        case.chain.mistake(1, wrong());
        let next = chained(&case, 3, 4..=4).await.remove(0);
        let report = case.client.preflight(&next).expecting_state(keccak256([3])).await.unwrap();
        assert!(report.will_land(), "{report}");
        case.chain.no_mistakes();
        // And it does land meanwhile.
        case.rig.node.faults().stall_relays(false);
        case.rig.reaches(jobs[2].id(), JobState::Relayed).await;
        for job in &jobs {
            assert_eq!(*case.diagnose(job).await.0.cause(), Cause::Complete);
        }
        assert!(case.client.preflight(&next).await.unwrap().will_land());
    })
    .await;
}

/// A second consumer's lane is its own; and a head that is well holds nobody, however long the line.
#[tokio::test]
async fn a_lane_that_is_well_is_not_held() {
    in_relay(|case| async move {
        stale(&case).await;
        case.rig.node.faults().stall_relays(true);
        let rules = ConsumerRules::signed_by(case.rig.signer.address());
        case.rig.node.chain().deploy(CONSUMER, rules.with_max_nonce(40));
        let mut jobs = Vec::new();
        for nonce in 41..=50 {
            jobs.push(case.ordered(nonce, "well").await);
        }
        execute(&case, &jobs).await;
        for job in &jobs[1..] {
            assert_eq!(*case.diagnose(job).await.0.cause(), facts!(InLine { behind: 41_u64 }));
            let report = case.client.preflight(job).await.unwrap();
            assert!(report.will_land(), "{report}");
            assert_eq!((report.chain_round_trips(), report.node_round_trips()), (2, 2), "{report}");
        }
        let first = case.diagnose(&jobs[0]).await.0;
        assert_eq!(*first.cause(), facts!(InProgress { stage: Stage::Executed }), "{first}");
        assert_eq!(case.client.preflight(&jobs[0]).await.unwrap().node_round_trips(), 1);
    })
    .await;
}
