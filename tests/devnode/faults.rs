//! The faults do what they say, and only that.

use std::sync::Arc;

use alloy_primitives::{Bytes, Signature};
use infinityvm_sdk::{
    Revision,
    devnode::{JobState, Lie, Loss},
    rpc::{Method, StatusCode},
};
use tonic::Code;

use crate::{http::address, rig::*};

async fn lost_replies_are_of_calls_that_were_processed<O: Over>() {
    for revision in Revision::ALL {
        let rig = Rig::<O>::start(revision, |builder| builder).await;
        let faults = rig.node.faults();
        faults.drop_replies(Method::SubmitJob, 1, Loss::ResetStream);
        let job = rig.job(1);
        assert_eq!(rig.send(&job).await, Err(Rig::<O>::reset()));
        rig.until(&job, JobState::Relayed).await;

        faults.drop_replies(Method::SubmitJob, 1, Loss::CloseConnection);
        let job = rig.job(2);
        let (code, text) = rig.send(&job).await.unwrap_err();
        assert!(matches!(code, Code::Unknown | Code::Unavailable | Code::Internal | Code::Cancelled), "{code}: {text}");
        rig.until(&job, JobState::Relayed).await;

        faults.drop_replies(Method::SubmitJob, 1, Loss::Never);
        let rig = Arc::new(rig);
        let job = rig.job(3);
        let call = rig.spawn(&job);
        rig.until(&job, JobState::Relayed).await;
        assert!(!call.is_finished());
        call.abort();
        assert_eq!(rig.node.stats().calls(Method::SubmitJob), 3);
    }
}

async fn held_requests_wait_before_and_held_replies_after<O: Over>() {
    let rig = Arc::new(Rig::<O>::relay().await);
    let gate = rig.node.faults().hold_request(Method::SubmitJob);
    let job = rig.job(1);
    let call = rig.spawn(&job);
    within(gate.arrived(1)).await;
    assert_eq!(rig.client.get(job.id().to_vec()).await.unwrap_err().0, Code::NotFound);
    gate.open();
    assert_eq!(call.await.unwrap(), Ok(job.id()));

    let gate = rig.node.faults().hold_reply(Method::SubmitJob);
    let job = rig.job(2);
    let call = rig.spawn(&job);
    within(gate.arrived(1)).await;
    rig.until(&job, JobState::Relayed).await;
    assert!(!call.is_finished());
    gate.open();
    assert_eq!(call.await.unwrap(), Ok(job.id()));
}

async fn refusals_and_older_nodes<O: Over>() {
    let rig = Rig::<O>::relay().await;
    let faults = rig.node.faults();
    faults.refuse(Method::SubmitJob, 2, StatusCode::UNAVAILABLE, "busy");
    for _ in 0..2 {
        assert_eq!(rig.send(&rig.job(1)).await, Err((Code::Unavailable, "busy".into())));
    }
    assert_eq!(rig.executions(&rig.job(1)), 0);
    rig.run(&rig.job(1), JobState::Relayed).await;

    faults.unimplemented(Method::GetPendingJobs);
    assert_eq!(rig.client.pending(CONSUMER.as_slice()).await.unwrap_err().0, Code::Unimplemented);
    faults.clear();
    assert_eq!(rig.pending().await, [0; 0]);
}

async fn lies_alter_the_answers_and_not_the_chain<O: Over>() {
    for revision in Revision::ALL {
        let rig = Rig::<O>::start(revision, |builder| builder).await;
        let job = rig.job(1);
        let truth = rig.run(&job, JobState::Relayed).await;
        let signer = |record: &Rec| {
            let signature = Signature::from_raw(&record.operator_signature).ok()?;
            signature.recover_address_from_msg(&record.result).ok()
        };
        let operator = Some(rig.node.operator());
        let rows = [
            (Lie::SignedOutput(Bytes::from_static(b"x")), true, true),
            (Lie::UnsignedOutput(Bytes::from_static(b"x")), true, false),
            (Lie::Operator, false, false),
            (Lie::JobId, true, true),
            (Lie::MaxCycles, true, true),
            (Lie::ProgramId, true, true),
            (Lie::OnchainInputHash, true, true),
            (Lie::OffchainInputHash, true, true),
            (Lie::StateHash, revision == Revision::State, true),
            (Lie::Truncated, true, true),
            (Lie::Garbage(Bytes::from_static(b"garbage")), true, true),
        ];
        for (lie, changes_result, operator_signed) in rows {
            rig.node.faults().lie(lie.clone());
            let record = rig.record(&job).await;
            assert_eq!(record.result != truth.result, changes_result, "{lie:?}");
            assert_eq!(signer(&record) == operator, operator_signed, "{lie:?}");
            rig.node.faults().clear();
            assert_eq!(rig.record(&job).await, truth);
        }
        rig.node.faults().lie(Lie::OperatorSignature(Bytes::from_static(&[1])));
        rig.node.faults().lie(Lie::Echo);
        rig.node.faults().lie(Lie::RecordId);
        let record = rig.record(&job).await;
        assert_eq!(record.operator_signature, [1]);
        assert_ne!((&record.onchain, &record.id), (&truth.onchain, &truth.id));
        rig.node.faults().clear();

        rig.node.faults().stall_relays(true);
        rig.run(&rig.job(2), JobState::Done).await;
        rig.node.faults().lie(Lie::Status(JobState::Relayed));
        let record = rig.record(&rig.job(2)).await;
        assert_eq!((record.status, record.tx.len()), (RELAYED, 32));
        assert_eq!(rig.node.chain().job_status(rig.job(2).id()), None);
    }
}

async fn some_answers_are_false_or_of_before_and_those_after_are_not<O: Over>() {
    for revision in Revision::ALL {
        let rig = Rig::<O>::start(revision, |builder| builder).await;
        let faults = rig.node.faults();
        faults.lag(2);
        let (job, other) = (rig.job(1), rig.job(2));
        assert_eq!(rig.send(&job).await, Ok(job.id()));
        rig.node.wait_until(|view| view.job_state(job.id()) == Some(JobState::Relayed)).await;
        // The replica has not heard of the job, whichever is asked for.
        for asked in [&job, &other] {
            assert_eq!(rig.client.get(asked.id().to_vec()).await.unwrap_err().0, Code::NotFound);
        }
        let truth = rig.record(&job).await;
        faults.lie_once(2, Lie::Echo);
        faults.lie_once(1, Lie::RecordId);
        for _ in 0..2 {
            assert_ne!(rig.record(&job).await.onchain, truth.onchain);
        }
        assert_ne!(rig.record(&job).await.id, truth.id);
        assert_eq!(rig.record(&job).await, truth);
    }
}

async fn a_dropped_node_closes_its_connections_and_its_ports<O: Over>() {
    let Rig { node, client, .. } = Rig::<O>::relay().await;
    let urls = [node.grpc_url(), node.rest_url()];
    drop(node);
    within(client.get(vec![1; 32])).await.unwrap_err();
    // The task that listens is gone as soon as the runtime has come around to it.
    within(async {
        for url in urls {
            while tokio::net::TcpStream::connect(address(&url)).await.is_ok() {
                tokio::task::yield_now().await;
            }
        }
    })
    .await;
}

over_both! {
    lost_replies_are_of_calls_that_were_processed,
    held_requests_wait_before_and_held_replies_after,
    refusals_and_older_nodes,
    lies_alter_the_answers_and_not_the_chain,
    some_answers_are_false_or_of_before_and_those_after_are_not,
    a_dropped_node_closes_its_connections_and_its_ports,
}
