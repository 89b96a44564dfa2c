//! Handlers of a node that die: a consumer's task that is dead, and calls that end alone on a connection that lives.

use std::time::Duration;

use infinityvm_sdk::{
    Client, ErrorKind, JobId, LocalSigner, Outcome, RelayStrategy, RetryPolicy, Revision, SignedJob, Until,
    devnode::{ConsumerRules, JobState},
    primitives::Address,
    rpc::{CallError, CallFailure, Method, StatusCode},
    transport::{GrpcTransport, Transport},
    wire::Wire,
};
use support::scripted::{Scripted, at_once, not_found, status};

use crate::{
    retries::record,
    rig::{CONSUMER, Rig, within},
};

const OTHER: Address = Address::repeat_byte(0xc9);

/// A consumer whose task in the node is dead: its lane was full, and a client gave up a call.
async fn with_dead_consumer() -> Rig {
    let rules = ConsumerRules::signed_by(LocalSigner::random().unwrap().address());
    let rig = Rig::with(Revision::Relay, |node| node.max_pending_ordered(1).consumer(OTHER, rules)).await;
    rig.node.faults().stall_relays(true);
    let first = rig.client.submit(rig.ordered("first")).await.unwrap();
    rig.reaches(first.id(), JobState::Done).await;
    let transport = GrpcTransport::builder(rig.node.grpc_url()).build().unwrap();
    let job = rig.sign_ordered(2, "second").await;
    let body = Wire::new(Revision::Relay, transport.encoding()).submit_job(&job).unwrap();
    let mut call = Box::pin(transport.call(Method::SubmitJob, body));
    tokio::select! {
        _ = &mut call => panic!("the lane has room"),
        () = rig.node.wait_until(|view| view.stats().hanging_calls() == 1) => {}
    }
    drop(call);
    rig.node.wait_until(|view| view.stats().hanging_calls() == 0).await;
    rig
}

#[tokio::test]
async fn a_submission_to_a_dead_consumer_is_an_error_that_says_so_after_one_attempt() {
    within(async {
        for rest in [false, true] {
            for strategy in [RelayStrategy::Ordered, RelayStrategy::Unordered] {
                let rig = with_dead_consumer().await;
                let builder = rig.builder().retry(RetryPolicy::default());
                let builder = if rest { builder.rest(rig.node.rest_url()) } else { builder };
                let client = builder.connect().await.unwrap();
                let before = rig.node.stats().calls(Method::SubmitJob);
                let job = rig.job("third").relay(strategy).nonce(3).build().unwrap();
                let error = client.submit(job).await.unwrap_err();
                let what = (error.kind(), error.outcome(), error.is_retryable(), error.attempts());
                assert_eq!(what, (ErrorKind::Unavailable, Outcome::Unknown, true, 1), "{}", error.report());
                let report = error.report().to_string();
                assert!(report.contains("task for this consumer has died"), "{report}");
                assert!(report.contains("restart of the node") && report.contains("submit_signed"), "{report}");
                assert_eq!(rig.node.stats().calls(Method::SubmitJob) - before, 1);

                // The trap: there is a record, and the job is in no queue.
                let id = JobId::derive(3, CONSUMER);
                rig.reaches(id, JobState::Pending).await;
                assert_eq!(rig.executions(id), 0);
                let [open] = &client.unresolved()[..] else { panic!("{:?}", client.unresolved()) };
                assert_eq!(open.id(), id);
                let again = client.submit_signed(open.clone()).await.unwrap_err();
                assert_eq!((again.kind(), again.attempts()), (ErrorKind::Unavailable, 1), "{}", again.report());
                assert_eq!(rig.node.stats().calls(Method::SubmitJob) - before, 2);

                // What the error says helps. Over REST there is no list, so a wait would take its time to send it again.
                if rest {
                    continue;
                }
                rig.node.restart();
                rig.node.faults().stall_relays(false);
                if strategy == RelayStrategy::Ordered {
                    for (nonce, input) in [(1, "first"), (2, "second")] {
                        let job = rig.ordered(input).prepare(Revision::Relay, nonce).unwrap();
                        let handle = client.submit_signed(job.sign(&rig.signer).await.unwrap()).await.unwrap();
                        handle.wait(Until::Relayed).await.unwrap();
                    }
                }
                let handle = client.submit_signed(open.clone()).await.unwrap();
                handle.wait(Until::Relayed).await.unwrap();
                assert_eq!(rig.executions(id), 1);
            }
        }
    })
    .await;
}

/// What the node says of a job's record and of the list once the handler of its submission has died.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Record {
    Unknown,
    Unreadable,
    Foreign,
    Has(i32),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum List {
    Has,
    Lacks,
    Reset,
    Cancelled,
    Unimplemented,
    Hangs,
    NotThere,
}

const RECORDS: [Record; 8] = [
    Record::Unknown,
    Record::Unreadable,
    Record::Foreign,
    Record::Has(1),
    Record::Has(2),
    Record::Has(3),
    Record::Has(4),
    Record::Has(9),
];

const LISTS: [List; 7] =
    [List::Has, List::Lacks, List::Reset, List::Cancelled, List::Unimplemented, List::Hangs, List::NotThere];

fn ended() -> CallError {
    CallError::new(CallFailure::Reset, "the server ended the call without an answer")
}

fn cancelled() -> CallError {
    status(StatusCode::CANCELLED, "h2 protocol error: http2 error")
}

/// A client of a node whose handlers of SubmitJob die, with a job under nonce 1.
async fn scene(end: fn() -> CallError, record_is: Record, list: List) -> (Scripted, Client, SignedJob) {
    let signer = LocalSigner::random().unwrap();
    let job = crate::retries::request().prepare(Revision::Relay, 1).unwrap().sign(&signer).await.unwrap();
    let other = crate::retries::request().prepare(Revision::Relay, 1).unwrap();
    let other = other.sign(&LocalSigner::random().unwrap()).await.unwrap();
    let same = job.clone();
    let node = Scripted::new(list != List::NotThere, move |method, _| match method {
        Method::SubmitJob => at_once(Err(end())),
        Method::GetResult => at_once(match record_is {
            Record::Unknown => Err(not_found()),
            Record::Unreadable => Err(status(StatusCode::INTERNAL, "database is gone")),
            Record::Foreign => Ok(record(&other, 1)),
            Record::Has(status) => Ok(record(&same, status)),
        }),
        _ => match list {
            // Packed nonces.
            List::Has => at_once(Ok(b"\x0a\x02\x01\x07".as_slice().into())),
            List::Lacks => at_once(Ok(b"\x0a\x01\x07".as_slice().into())),
            List::Reset => at_once(Err(ended())),
            List::Cancelled => at_once(Err(cancelled())),
            List::Hangs => (Duration::from_secs(3600), Err(not_found())),
            List::Unimplemented | List::NotThere => at_once(Err(status(StatusCode::UNIMPLEMENTED, ""))),
        },
    });
    let builder = node.client(Revision::Relay, Address::repeat_byte(1)).signer(signer);
    let client = builder.nonces(infinityvm_sdk::nonce::Sequential::starting_at(1)).connect().await.unwrap();
    (node, client, job)
}

/// Accepted is what the node provably has in hand: executed, or in its queue. Never by a record that is PENDING alone.
#[tokio::test(start_paused = true)]
async fn after_the_end_of_a_handler_a_job_is_accepted_only_by_what_proves_it() {
    for end in [ended, cancelled] {
        for record_is in RECORDS {
            for list in LISTS {
                // Signed before: a record of it may be from before a restart.
                for signed in [false, true] {
                    let (node, client, job) = scene(end, record_is, list).await;
                    let answer = if signed {
                        client.submit_signed(job).await
                    } else {
                        client.submit(crate::retries::request()).await
                    };
                    let accepted = match record_is {
                        Record::Unknown | Record::Unreadable | Record::Foreign => false,
                        Record::Has(4) => true,
                        Record::Has(2 | 3) if !signed => true,
                        Record::Has(_) => list == List::Has,
                    };
                    let what = format!("{:?}, {record_is:?}, {list:?}, signed {signed}", end().failure);
                    assert_eq!(answer.is_ok(), accepted, "{what}");
                    assert_eq!(node.count(Method::SubmitJob), 1, "{what}");
                    if let Err(error) = answer {
                        let said = (error.kind(), error.outcome(), error.attempts());
                        assert_eq!(said, (ErrorKind::Unavailable, Outcome::Unknown, 1), "{what}: {}", error.report());
                        assert_eq!(client.unresolved().len(), 1, "{what}");
                    }
                }
            }
        }
    }
}

/// In the State revision no consumer has a task: the record says whose job the node has.
#[tokio::test]
async fn state_a_lost_answer_is_found_by_the_record() {
    let rig = Rig::new(Revision::State).await;
    let client = rig.builder().retry(RetryPolicy::default()).connect().await.unwrap();
    let gate = rig.node.faults().hold_executions();
    rig.node.faults().drop_replies(Method::SubmitJob, 1, infinityvm_sdk::devnode::Loss::ResetStream);
    let handle = within(client.submit(rig.build("abc"))).await.unwrap();
    gate.open();
    within(handle.wait(Until::Relayed).into_future()).await.unwrap();
    assert_eq!(rig.node.stats().calls(Method::SubmitJob), 1);
}
