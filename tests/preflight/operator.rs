//! Whose results are believed: read from the chain, remembered, read again.

use std::time::Duration;

use infinityvm_sdk::{
    ErrorKind, JobHandle, Revision, Until,
    chain::Binding,
    devnode::{ConsumerRules, DevNode},
    primitives::{Address, B256},
};

use crate::rig::{CONSUMER, Rig, within};

async fn submit(client: &infinityvm_sdk::Client, rig: &Rig, count: usize) -> Vec<JobHandle> {
    let mut handles = Vec::new();
    for number in 0..count {
        handles.push(client.submit(rig.job(number.to_string()).build().unwrap()).await.unwrap());
    }
    handles
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_reading_for_many_waiters() {
    within(async {
        let rig = Rig::new(Revision::Relay, false).await;
        rig.chain.rpc().pause = Duration::from_millis(50);
        let client = rig.client().await;
        let handles = submit(&client, &rig, 50).await;
        for result in client.wait_all(handles, Until::Executed).await {
            assert_eq!(result.unwrap().operator(), rig.node.operator());
        }
        assert_eq!(rig.chain.rpc().operator_asked, 1);
    })
    .await;
}

#[tokio::test]
async fn it_is_read_again_once_it_is_too_old_and_kept_while_the_chain_is_down() {
    within(async {
        let rig = Rig::new(Revision::Relay, false).await;
        let client = rig.builder().operator_ttl(Duration::from_millis(100)).connect().await.unwrap();
        let handles = submit(&client, &rig, 3).await;
        handles[0].wait(Until::Executed).await.unwrap();
        assert_eq!(rig.chain.rpc().operator_asked, 1);
        tokio::time::sleep(Duration::from_millis(150)).await;
        handles[1].wait(Until::Executed).await.unwrap();
        assert_eq!(rig.chain.rpc().operator_asked, 2);
        tokio::time::sleep(Duration::from_millis(150)).await;
        rig.chain.rpc().down = true;
        handles[2].wait(Until::Executed).await.unwrap();
        // Without anything from before, the wait goes on until the chain answers.
        let another = rig.client().await;
        let resumed = another.resume(handles[2].signed_job().clone()).unwrap();
        let late = resumed.wait(Until::Executed).timeout(Duration::from_millis(300)).await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::DeadlineExceeded);
        rig.chain.rpc().down = false;
        resumed.wait(Until::Executed).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_zero_operator_and_a_wrong_pin_are_errors() {
    within(async {
        let rig = Rig::new(Revision::Relay, false).await;
        let handle = submit(&rig.client().await, &rig, 1).await.remove(0);
        let job = handle.signed_job().clone();
        rig.chain.sim.set_operator(Address::ZERO);
        let error = handle.wait(Until::Executed).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Chain, "{}", error.report());

        rig.chain.sim.set_operator(Address::repeat_byte(3));
        let pinned = rig.builder().operator(rig.node.operator()).connect().await.unwrap();
        let error = pinned.resume(job.clone()).unwrap().wait(Until::Executed).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{}", error.report());
        // As long as the chain has said nothing, the pinned one counts.
        rig.chain.rpc().down = true;
        let pinned = rig.builder().operator(rig.node.operator()).connect().await.unwrap();
        pinned.resume(job.clone()).unwrap().wait(Until::Executed).await.unwrap();
        // And the right one.
        rig.chain.rpc().down = false;
        rig.chain.sim.set_operator(rig.node.operator());
        let pinned = rig.builder().operator(rig.node.operator()).connect().await.unwrap();
        pinned.resume(job).unwrap().wait(Until::Executed).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_new_operator_is_found_out_and_a_stranger_is_still_a_stranger() {
    within(async {
        let rig = Rig::new(Revision::Relay, false).await;
        let client = rig.client().await;
        let handles = submit(&client, &rig, 1).await;
        handles[0].wait(Until::Executed).await.unwrap();
        // Another node, with another operator, which the JobManager names from now on.
        let rules = ConsumerRules::signed_by(rig.signer.address());
        let next =
            DevNode::builder(Revision::Relay).operator_key([7; 32]).consumer(CONSUMER, rules).start().await.unwrap();
        let program = next.register_program(|input| Ok(input.onchain.to_vec()));
        let there = rig.builder().grpc(next.grpc_url()).connect().await.unwrap();
        let request = || {
            let job =
                infinityvm_sdk::OffchainJobRequest::builder(CONSUMER, infinityvm_sdk::ProgramId::new(program.clone()));
            job.max_cycles(10).build().unwrap()
        };
        let job = there.submit(request()).await.unwrap();
        let error = job.wait(Until::Executed).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Verification, "{}", error.report());
        assert_eq!(
            rig.chain.rpc().operator_asked,
            4,
            "the first client's, this one's, and once more for each of the two looks at what the stranger signed"
        );
        rig.chain.sim.set_operator(next.operator());
        let result = there.submit(request()).await.unwrap().wait(Until::Executed).await.unwrap();
        assert_eq!(result.operator(), next.operator());
        assert_eq!(rig.chain.rpc().operator_asked, 5);
    })
    .await;
}

#[tokio::test]
async fn a_bound_client_looks_at_the_chain_with_every_reading() {
    within(async {
        let rig = Rig::new(Revision::Relay, false).await;
        let binding = Binding::read(&rig.chain.chain(), CONSUMER, rig.signer.address()).await.unwrap();
        let client = rig.builder().bind(binding).operator_ttl(Duration::ZERO).connect().await.unwrap();
        let handle = submit(&client, &rig, 1).await.remove(0);
        handle.wait(Until::Executed).await.unwrap();
        rig.chain.begin_anew(B256::repeat_byte(0x77));
        let again = client.resume(handle.signed_job().clone()).unwrap();
        let error = again.wait(Until::Executed).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongChain, "{}", error.report());
    })
    .await;
}
