//! What is bad is told, at the second look; and an RPC that is of two minds is told of, and nothing else.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use async_trait::async_trait;
use infinityvm_sdk::{
    Cause, Client, Confidence, Error, ErrorKind, Outcome, PreflightReport, Result, Revision, Severity, SignedJob,
    Until, Verified,
    chain::{Answer, At, Block, Chain, ChainReader, OnchainStatus, Question, Revert, RevertCause},
    devnode::{ConsumerRules, SimChain, Tear},
    primitives::{Address, B256, keccak256},
};
use support::facts;

use crate::{
    fixture::{INPUTS, METADATA, Rig, SIGNATURE},
    node::Says,
    rig::CONSUMER,
};

/// An RPC that counts round trips, and may take no block by its hash.
#[derive(Clone, Debug)]
struct Rpc {
    sim: SimChain,
    asked: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
    refuses_hashes: Arc<AtomicBool>,
}

impl Rpc {
    fn of(rig: &Rig) -> Self {
        let (asked, refused, refuses_hashes) = Default::default();
        Self { sim: rig.sim.clone(), asked, refused, refuses_hashes }
    }

    fn chain(&self) -> Chain {
        Chain::new(self.clone(), self.sim.job_manager())
    }

    /// What it does, and how often that asks.
    async fn count<T>(&self, what: impl Future<Output = T>) -> (T, usize) {
        let before = self.asked.load(SeqCst);
        let done = what.await;
        (done, self.asked.load(SeqCst) - before)
    }
}

#[async_trait]
impl ChainReader for Rpc {
    async fn ask(&self, questions: &[Question]) -> Result<Vec<Result<Answer>>> {
        self.asked.fetch_add(1, SeqCst);
        let mut answers = self.sim.ask(questions).await?;
        if self.refuses_hashes.load(SeqCst) {
            for (question, answer) in questions.iter().zip(&mut answers) {
                if let Question::Call(_, At::Hash(_)) | Question::Code(_, At::Hash(_)) = question {
                    self.refused.fetch_add(1, SeqCst);
                    *answer =
                        Err(Error::new(ErrorKind::Chain, "the RPC answered with error -32602: \"invalid params\""));
                }
            }
        }
        Ok(answers)
    }

    async fn next_head(&self, known: Option<B256>) -> Result<Block> {
        self.sim.next_head(known).await
    }

    fn endpoint(&self) -> &str {
        "counted"
    }
}

/// What has happened to a job, and what is to be told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bad {
    /// Another payload, of the same program and the same bound, is complete under its nonce.
    Another,
    Requested,
    Cancelled,
    Operator,
    Signer,
}

const ALL: [Bad; 5] = [Bad::Another, Bad::Requested, Bad::Cancelled, Bad::Operator, Bad::Signer];

impl Bad {
    /// Brings it about, with a job that it has happened to.
    async fn happen(self, rig: &Rig) -> (SignedJob, Verified) {
        let job = rig.sign(1, b"ours").await;
        let verified = rig.executed(&job).1;
        match self {
            Self::Another => {
                let other = rig.sign(1, b"another").await;
                let (signed, _) = rig.executed(&other);
                rig.land(&other, &signed);
                rig.executed(&job);
            }
            Self::Requested | Self::Cancelled => {
                assert_eq!(rig.sim.take_nonce(CONSUMER), Some(1));
                if self == Self::Cancelled {
                    assert!(rig.sim.cancel(job.id().into()));
                }
            }
            Self::Operator => rig.sim.set_operator(Address::repeat_byte(2)),
            Self::Signer => rig.sim.deploy(CONSUMER, ConsumerRules::signed_by(Address::repeat_byte(1))),
        }
        (job, verified)
    }

    fn finding(self) -> &'static str {
        match self {
            Self::Another => "NonceTakenOnChain { status: Completed",
            Self::Requested => "NonceTakenOnChain { status: Pending",
            Self::Cancelled => "NonceTakenOnChain { status: Cancelled",
            Self::Operator => "OtherOperator",
            Self::Signer => "SignerRefused",
        }
    }

    fn check_relay(self, error: &Error) {
        let kind = match self {
            Self::Operator => ErrorKind::WrongChain,
            Self::Signer => ErrorKind::Reverted,
            _ => ErrorKind::NonceTaken,
        };
        assert_eq!((error.kind(), error.outcome()), (kind, Outcome::NotSent), "{}", error.report());
        if self == Self::Signer {
            assert_eq!(Revert::of(error).map(Revert::cause), Some(RevertCause::RequestSignature));
        }
    }

    fn is_cause(self, cause: &Cause) -> bool {
        match self {
            Self::Another => matches!(cause, Cause::NonceTakenOnChain { status: OnchainStatus::Completed, .. }),
            Self::Requested => matches!(cause, Cause::NonceTakenOnChain { status: OnchainStatus::Pending, .. }),
            Self::Cancelled => matches!(cause, Cause::NonceTakenOnChain { status: OnchainStatus::Cancelled, .. }),
            Self::Operator => matches!(cause, Cause::OtherOperator { .. }),
            Self::Signer => matches!(cause, Cause::SignerRefused { .. }),
        }
    }
}

fn has(report: &PreflightReport, name: &str) -> bool {
    report.findings().iter().any(|it| format!("{:?}", it.kind()).starts_with(name) && it.severity() == Severity::Error)
}

async fn client(rig: &Rig, rpc: &Rpc) -> Client {
    rig.builder().chain(rpc.chain()).connect().await.unwrap()
}

/// Told by a preflight, a relay, a diagnosis and a wait, at two looks where good news takes one.
#[tokio::test(start_paused = true)]
async fn what_is_bad_is_told_at_the_second_look() {
    for revision in Revision::ALL {
        for bad in ALL {
            let rig = Rig::new(revision).await;
            let (job, verified) = bad.happen(&rig).await;
            let rpc = Rpc::of(&rig);
            let client = client(&rig, &rpc).await;
            let (report, looks) = rpc.count(async { client.preflight(&job).await.unwrap() }).await;
            assert!(has(&report, bad.finding()), "{report}");
            assert_eq!((looks, report.chain_round_trips(), report.node_round_trips()), (2, 2, 2), "{bad:?}");
            let (relay, looks) = rpc.count(async { client.post_result(&job, &verified).await }).await;
            bad.check_relay(&relay.unwrap_err());
            assert_eq!(looks, 2, "{bad:?}");
            let (diagnosis, looks) = rpc.count(async { client.diagnose(&job).await.unwrap() }).await;
            assert!(bad.is_cause(diagnosis.cause()), "{diagnosis}");
            assert_eq!((diagnosis.confidence(), looks), (Confidence::Shown, 2), "{bad:?}");
            let kind = match bad {
                Bad::Another => ErrorKind::NonceTaken,
                Bad::Cancelled => ErrorKind::JobFailed,
                _ => continue,
            };
            let wait = client.resume(job).unwrap().wait(Until::Finalized { confirmations: 1 });
            let (ended, looks) = rpc.count(async { wait.await.unwrap_err() }).await;
            assert_eq!(ended.kind(), kind, "{}", ended.report());
            // The operator's name; a screen, the state, the receipt and the block, twice; that both heads are the chain's still.
            assert!(looks <= 1 + 2 * 4 + 1, "{looks}");
        }
    }
}

/// The same, of an RPC that takes no block by its hash: it is asked by number, and remembered as such.
#[tokio::test(start_paused = true)]
async fn an_rpc_that_takes_no_hashes_is_asked_by_number() {
    for revision in Revision::ALL {
        for bad in ALL {
            let rig = Rig::new(revision).await;
            let (job, verified) = bad.happen(&rig).await;
            let rpc = Rpc::of(&rig);
            rpc.refuses_hashes.store(true, SeqCst);
            let client = client(&rig, &rpc).await;
            let (report, looks) = rpc.count(async { client.preflight(&job).await.unwrap() }).await;
            assert!(has(&report, bad.finding()), "{report}");
            assert_eq!(looks, 3, "one of them was refused");
            let refused = rpc.refused.load(SeqCst);
            assert!(refused > 0);
            bad.check_relay(&client.post_result(&job, &verified).await.unwrap_err());
            let diagnosis = client.diagnose(&job).await.unwrap();
            assert!(bad.is_cause(diagnosis.cause()), "{diagnosis}");
            assert_eq!(rpc.refused.load(SeqCst), refused, "nothing is asked by hash any more");
        }
        let rig = Rig::new(revision).await;
        let (job, _) = rig.landed().await;
        let rpc = Rpc::of(&rig);
        rpc.refuses_hashes.store(true, SeqCst);
        let client = client(&rig, &rpc).await;
        let result = client.resume(job).unwrap().wait(Until::Finalized { confirmations: 1 }).await.unwrap();
        assert_eq!(result.output()[..], *b"ours output");
        assert!(rpc.refused.load(SeqCst) > 0);
    }
}

/// Another payload of the same program and the same bound, and an answer of before it: that is nobody's job, and not
/// this one.
#[tokio::test(start_paused = true)]
async fn another_job_is_not_taken_for_this_one() {
    for revision in Revision::ALL {
        let rig = Rig::new(revision).await;
        let (job, verified) = Bad::Another.happen(&rig).await;
        rig.node.say(&job, Says::NotFound);
        for batches in [1, 2] {
            let tear = || Tear::calls(INPUTS).batches(batches);
            rig.sim.tear(tear());
            Bad::Another.check_relay(&rig.client.post_result(&job, &verified).await.unwrap_err());
            rig.sim.tear(tear());
            let report = rig.client.preflight(&job).await.unwrap();
            assert!(has(&report, "NonceTakenOnChain { status: Completed"), "{report}");
            rig.sim.tear(tear());
            let diagnosis = rig.client.diagnose(&job).await.unwrap();
            assert!(Bad::Another.is_cause(diagnosis.cause()), "{diagnosis}");
            rig.sim.tear(tear());
            let wait = rig.builder().connect().await.unwrap().resume(job.clone()).unwrap();
            let error = wait.wait(Until::Finalized { confirmations: 1 }).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NonceTaken, "{}", error.report());
        }
        assert!(rig.sim.torn() >= 8);
    }
}

/// Tears every other answer to calls of this function.
fn every_other(signature: &'static str) -> Tear {
    let (selector, seen) = (keccak256(signature), AtomicUsize::new(0));
    let tear = Tear::questions(move |question| {
        let asked = matches!(question, Question::Call(call, _) if call.data[..4] == selector[..4]);
        asked && seen.fetch_add(1, SeqCst).is_multiple_of(2)
    });
    tear.batches(u64::MAX)
}

/// The consumer's signer changed in the last block, and the RPC says the one thing and then the other, for ever.
#[tokio::test(start_paused = true)]
async fn an_rpc_of_two_minds_is_told_of_as_that() {
    for revision in Revision::ALL {
        let rig = Rig::new(revision).await;
        let job = rig.sign(1, b"ours").await;
        rig.executed(&job);
        rig.node.say(&job, Says::NotFound);
        rig.sim.deploy(CONSUMER, ConsumerRules::signed_by(Address::repeat_byte(1)));
        rig.sim.deploy(CONSUMER, ConsumerRules::signed_by(rig.signer.address()));
        rig.sim.tear(every_other(SIGNATURE));
        let report = rig.client.preflight(&job).await.unwrap();
        let finding = report.findings().first().unwrap();
        assert_eq!(*finding.kind(), facts!(Contradiction { of: "chain's RPC" }), "{report}");
        assert!(finding.evidence().contains("does not accept the signature"), "{report}");
        assert!(!has(&report, "SignerRefused") && !report.will_land(), "{report}");
        assert_eq!(report.chain_round_trips(), 5);
        let client = rig.builder().require_preflight(Severity::Error).connect().await.unwrap();
        rig.sim.tear(every_other(SIGNATURE));
        let refused = client.submit_signed(job.clone()).await.unwrap_err();
        assert_eq!((refused.kind(), refused.outcome()), (ErrorKind::Preflight, Outcome::NotSent));
        assert!(refused.is_retryable() && refused.hint().unwrap().contains("do not sign"), "{}", refused.report());

        // Diagnosed: refused, then not known; nothing of it is told.
        rig.sim.tear(every_other(SIGNATURE));
        let diagnosis = rig.client.diagnose(&job).await.unwrap();
        assert_eq!(*diagnosis.cause(), facts!(Contradiction { of: "chain's RPC" }), "{diagnosis}");
        assert!(!diagnosis.is_stuck() && diagnosis.advice().contains("do not submit the payload under another nonce"));
    }
}

/// Under way or cancelled, in turn: no relay is made, and none is given up for good.
#[tokio::test(start_paused = true)]
async fn a_relay_on_an_rpc_of_two_minds_is_an_error_to_be_retried() {
    for revision in Revision::ALL {
        let rig = Rig::new(revision).await;
        let (job, verified) = Bad::Cancelled.happen(&rig).await;
        rig.sim.tear(every_other(METADATA));
        let error = rig.client.post_result(&job, &verified).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Chain, Outcome::NotSent), "{}", error.report());
        assert!(error.is_retryable() && error.to_string().contains("contradicts itself"), "{}", error.report());
        assert!(error.hint().unwrap().contains("do not sign the payload anew"), "{}", error.report());
        let client = rig.builder().connect().await.unwrap();
        rig.sim.tear(every_other(METADATA));
        let wait = client.resume(job.clone()).unwrap().wait(Until::Finalized { confirmations: 1 }).await;
        let error = wait.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{}", error.report());
        // Once it is of one mind.
        rig.sim.tear(None);
        Bad::Cancelled.check_relay(&rig.client.post_result(&job, &verified).await.unwrap_err());
        let error = client.resume(job).unwrap().wait(Until::Finalized { confirmations: 1 }).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::JobFailed, "{}", error.report());
    }
}
