//! A job that is well, and answers about it that are not all of one block: nobody is told otherwise.

use infinityvm_sdk::{
    Cause, PreflightReport, Revision, Severity, Until,
    chain::{At, Question},
    devnode::{ConsumerRules, Tear},
    primitives::{Address, keccak256},
};
use support::facts;

use crate::{
    fixture::{METADATA, OPERATOR, POST, Rig, SIGNATURE, subsets},
    node::Says,
    rig::CONSUMER,
};

/// Kinds of findings by their names.
fn kinds(report: &PreflightReport) -> Vec<String> {
    let name = |kind: String| kind.split([' ', '{']).next().unwrap_or_default().to_owned();
    report.findings().iter().map(|it| name(format!("{:?}", it.kind()))).collect()
}

/// The job is complete, and of its inputs some are of the block before it, or all: with what the node says of it, and
/// without.
#[tokio::test(start_paused = true)]
async fn a_preflight_of_a_complete_job_does_not_say_that_another_has_its_nonce() {
    for revision in Revision::ALL {
        let rig = Rig::new(revision).await;
        let (job, _) = rig.landed().await;
        for known in [true, false] {
            if !known {
                rig.node.say(&job, Says::NotFound);
            }
            for inputs in subsets(rig.inputs()) {
                let before = rig.sim.torn();
                rig.sim.tear(Tear::calls(inputs.iter().copied()));
                let report = rig.client.preflight(&job).await.unwrap();
                assert_eq!(rig.sim.torn() - before, 1);
                assert!(kinds(&report).contains(&"Complete".to_owned()), "{revision}, {inputs:?}: {report}");
                assert_eq!(report.worst(), Some(Severity::Note), "{revision}, {inputs:?}: {report}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_relay_of_a_complete_job_does_not_say_that_another_has_its_nonce() {
    for revision in Revision::ALL {
        let rig = Rig::new(revision).await;
        let (job, verified) = rig.landed().await;
        for inputs in subsets(rig.inputs()) {
            let before = rig.sim.torn();
            rig.sim.tear(Tear::calls(inputs.iter().copied()));
            let post = rig.client.post_result(&job, &verified).await;
            let post = post.unwrap_or_else(|error| panic!("{revision}, {inputs:?}: {}", error.report()));
            assert!(post.already && post.wasted.is_none());
            assert_eq!(rig.sim.torn() - before, 1);
        }
        // The relay, tried, is of after the block, and nothing else is: or the other way round.
        for torn in [vec![METADATA], vec![POST], [&[METADATA][..], rig.inputs()].concat()] {
            rig.sim.tear(Tear::calls(torn.iter().copied()));
            let post = rig.client.post_result(&job, &verified).await;
            assert!(post.unwrap_or_else(|error| panic!("{torn:?}: {}", error.report())).already);
        }
    }
}

/// Pinned to one block by its hash, and torn all the same.
#[tokio::test(start_paused = true)]
async fn a_wait_for_a_complete_job_does_not_end_with_nonce_taken() {
    for revision in Revision::ALL {
        for inputs in subsets(Rig::new(revision).await.inputs()) {
            let rig = Rig::new(revision).await;
            let (job, _) = rig.landed().await;
            let selectors: Vec<_> = inputs.iter().map(keccak256).collect();
            rig.sim.tear(Tear::questions(move |question| {
                matches!(question, Question::Call(call, At::Hash(_)) if selectors.iter().any(|it| call.data[..4] == it[..4]))
            }));
            let ended = rig.client.resume(job).unwrap().wait(Until::Finalized { confirmations: 1 }).await;
            let result = ended.unwrap_or_else(|error| panic!("{revision}, {inputs:?}: {}", error.report()));
            assert_eq!(result.output()[..], *b"ours output");
            assert_eq!(rig.sim.torn(), 1);
        }
    }
}

/// The node gives the job up although it is complete, as one does that lost its record; and the RPC shows the state of
/// before once.
#[tokio::test(start_paused = true)]
async fn a_wait_for_a_complete_job_does_not_end_with_the_nodes_error() {
    for revision in Revision::ALL {
        let rig = Rig::new(revision).await;
        let (job, _) = rig.landed().await;
        rig.node.say(&job, Says::Failed("low nonce"));
        // The first look may have begun before the node said so: then another one follows.
        rig.sim.tear(Tear::calls([METADATA]).batches(2));
        let ended = rig.client.resume(job).unwrap().wait(Until::Finalized { confirmations: 1 }).await;
        let result = ended.unwrap_or_else(|error| panic!("{revision}: {}", error.report()));
        assert_eq!(result.output()[..], *b"ours output");
        assert_eq!(rig.sim.torn(), 2);
    }
}

/// Torn twice, as what says stuck is looked at twice.
#[tokio::test(start_paused = true)]
async fn a_diagnosis_of_a_complete_job_does_not_say_that_another_has_its_nonce() {
    for revision in Revision::ALL {
        let rig = Rig::new(revision).await;
        let (job, _) = rig.landed().await;
        for (known, batches) in [(true, 1), (true, 2), (false, 2)] {
            if !known {
                rig.node.say(&job, Says::NotFound);
            }
            for inputs in subsets(rig.inputs()) {
                rig.sim.tear(Tear::calls(inputs.iter().copied()).batches(batches));
                let diagnosis = rig.client.diagnose(&job).await.unwrap();
                assert_eq!(*diagnosis.cause(), Cause::Complete, "{revision}, {inputs:?}, {batches}: {diagnosis}");
            }
        }
    }
}

/// The consumer accepts the signer, and the JobManager names the operator, since the last block: not before.
#[tokio::test(start_paused = true)]
async fn what_was_refused_one_block_ago_is_not_refused_now() {
    for revision in Revision::ALL {
        let rig = Rig::new(revision).await;
        let job = rig.sign(1, b"ours").await;
        let (_, verified) = rig.executed(&job);
        rig.node.say(&job, Says::NotFound);
        let fresh = || async { rig.builder().connect().await.unwrap() };
        // Another signer, then ours.
        rig.sim.deploy(CONSUMER, ConsumerRules::signed_by(Address::repeat_byte(1)));
        rig.sim.deploy(CONSUMER, ConsumerRules::signed_by(rig.signer.address()));
        for torn in [&[SIGNATURE][..], &[SIGNATURE, "getOffchainSigner()"]] {
            rig.sim.tear(Tear::calls(torn.iter().copied()));
            let report = fresh().await.preflight(&job).await.unwrap();
            assert!(report.is_clear(), "{report}");
        }
        rig.sim.tear(Tear::calls([SIGNATURE]));
        let diagnosis = rig.client.diagnose(&job).await.unwrap();
        assert_eq!(*diagnosis.cause(), facts!(NotKnown { seen_before: false }), "{diagnosis}");
        // Another operator, then ours.
        rig.sim.set_operator(Address::repeat_byte(2));
        rig.sim.set_operator(crate::answers::operator());
        rig.sim.tear(Tear::calls([OPERATOR]));
        let report = fresh().await.preflight(&job).await.unwrap();
        assert!(report.is_clear(), "{report}");
        // Posting goes on: the operator, the trial.
        for (nonce, torn) in [(1, OPERATOR), (2, POST)] {
            let job = if nonce == 1 { job.clone() } else { rig.sign(nonce, b"ours").await };
            let verified = if nonce == 1 { verified.clone() } else { rig.executed(&job).1 };
            if nonce == 2 {
                rig.sim.set_operator(Address::repeat_byte(2));
                rig.sim.set_operator(crate::answers::operator());
            }
            let before = rig.sim.torn();
            rig.sim.tear(Tear::calls([torn]));
            let post = fresh().await.post_result(&job, &verified).await;
            let post = post.unwrap_or_else(|error| panic!("{revision}, {torn}: {}", error.report()));
            assert!(!post.already && rig.sim.torn() == before + 1);
        }
    }
}

/// A block comes in after each of the questions, in turn: the job's own.
#[tokio::test(start_paused = true)]
async fn a_block_that_comes_in_between_two_answers_does_no_harm() {
    for revision in Revision::ALL {
        let rig = Rig::new(revision).await;
        let (job, verified) = rig.landed().await;
        for count in 1..24 {
            rig.sim.tear(Tear::first(count));
            let report = rig.client.preflight(&job).await.unwrap();
            assert_eq!(report.worst(), Some(Severity::Note), "{count}: {report}");
            rig.sim.tear(Tear::first(count));
            assert!(rig.client.post_result(&job, &verified).await.unwrap().already, "{count}");
            rig.sim.tear(Tear::first(count));
            let diagnosis = rig.client.diagnose(&job).await.unwrap();
            assert_eq!(*diagnosis.cause(), Cause::Complete, "{count}: {diagnosis}");
            let client = rig.builder().connect().await.unwrap();
            rig.sim.tear(Tear::first(count));
            client.resume(job.clone()).unwrap().wait(Until::Finalized { confirmations: 1 }).await.unwrap();
        }
        assert!(rig.sim.torn() > 30, "{}", rig.sim.torn());
    }
}
