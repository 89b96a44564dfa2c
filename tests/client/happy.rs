//! Everything goes well.

use infinityvm_sdk::{
    ErrorKind, JobStatus, OffchainJobRequest, Outcome, ProgramId, ProgramUpload, RelayStrategy, Revision, Until,
    devnode::{ConsumerRules, JobState},
    primitives::{Address, B256, Bytes, SolValue, U256, keccak256, sol},
    rpc::Method,
};

use crate::rig::{CONSUMER, Rig, both, within};

sol! {
    struct StatefulOut { bytes32 next; bytes result; }
    struct StatefulIn { bytes32 root; bytes input; }
}

#[tokio::test]
async fn stateless_jobs_are_executed_relayed_and_verified() {
    both(|rig| async move {
        for (nonce, strategy) in [(1, None), (2, Some(RelayStrategy::Unordered))] {
            let job = rig.job(U256::from(7).abi_encode());
            let job = match strategy.filter(|_| rig.revision == Revision::Relay) {
                Some(strategy) => job.relay(strategy),
                None => job,
            };
            let handle = rig.client.submit(job.build().unwrap()).await.unwrap();
            assert_eq!(handle.signed_job().nonce(), nonce);
            assert_eq!(handle.signed_job().recover().unwrap(), rig.signer.address());
            let executed = handle.wait(Until::Executed).await.unwrap();
            assert_eq!(executed.decode::<U256>().unwrap(), U256::from(7) << 248);
            let relayed = handle.wait(Until::Relayed).await.unwrap();
            assert_eq!(relayed.output(), executed.output());
            assert_eq!(relayed.id(), handle.id());
            assert_eq!(*relayed.record().status(), JobStatus::Relayed);
            let on_chain = rig.node.chain().completed(handle.id().into()).unwrap();
            assert_eq!(relayed.record().relay_tx_hash(), Some(on_chain.tx_hash));
            assert_eq!(on_chain.result, *relayed.output());
            assert!(relayed.blob_hashes().is_empty());
            assert_eq!(rig.executions(handle.id()), 1);
        }
        assert!(rig.client.unresolved().is_empty());
        rig.never_two_in_flight();
    })
    .await;
}

#[tokio::test]
async fn executed_is_enough_while_relays_are_stalled() {
    both(|rig| async move {
        rig.node.faults().stall_relays(true);
        let handle = rig.client.submit(rig.build("abc")).await.unwrap();
        let executed = handle.wait(Until::Executed).await.unwrap();
        assert_eq!(*executed.record().status(), JobStatus::Done);
        assert_eq!(*executed.output(), Bytes::from_static(b"cba"));
        rig.node.faults().clear();
        assert_eq!(*handle.wait(Until::Relayed).await.unwrap().record().status(), JobStatus::Relayed);
    })
    .await;
}

#[tokio::test]
async fn offchain_input_has_blob_hashes_in_the_relay_revision() {
    both(|rig| async move {
        let length = ProgramId::new(rig.node.register_program(|input| Ok(input.offchain.len().abi_encode_usize())));
        let job = OffchainJobRequest::builder(CONSUMER, length).max_cycles(9).offchain_input(vec![7; 5000]);
        let handle = rig.client.submit(job.build().unwrap()).await.unwrap();
        let result = handle.wait(Until::Relayed).await.unwrap();
        assert_eq!(result.decode::<U256>().unwrap(), U256::from(5000));
        assert_eq!(result.blob_hashes().len(), usize::from(rig.revision == Revision::Relay));
    })
    .await;
}

trait AbiUsize {
    fn abi_encode_usize(self) -> Vec<u8>;
}

impl AbiUsize for usize {
    fn abi_encode_usize(self) -> Vec<u8> {
        U256::from(self).abi_encode()
    }
}

/// A counter: its state is a number, its input what to add.
#[tokio::test]
async fn stateful_jobs_chain_their_states() {
    both(|rig| async move {
        let consumer = Address::repeat_byte(0x5f);
        let hash = |number: u64| keccak256(U256::from(number).abi_encode());
        let rules = ConsumerRules::signed_by(rig.signer.address()).with_state(hash(0));
        rig.node.chain().deploy(consumer, rules);
        let add = rig.node.register_program(move |input| {
            // In the Relay revision the state's preimage travels in the offchain input.
            let (state, addend) = if input.state.is_empty() {
                let onchain = StatefulIn::abi_decode(input.onchain).expect("stateful input");
                assert_eq!(onchain.root, keccak256(input.offchain));
                (input.offchain, onchain.input.to_vec())
            } else {
                (input.state, input.onchain.to_vec())
            };
            let sum = U256::from_be_slice(state) + U256::from(addend[0]);
            let out = StatefulOut { next: keccak256(sum.abi_encode()), result: sum.abi_encode().into() };
            Ok(out.abi_encode())
        });
        let mut total = 0;
        for addend in 1..=4_u8 {
            let state = U256::from(total).abi_encode();
            let job = OffchainJobRequest::builder(consumer, ProgramId::new(add.clone())).max_cycles(9);
            let job = match rig.revision {
                Revision::State => job.state(state).onchain_input(vec![addend]),
                Revision::Relay => job
                    .stateful_onchain_input(hash(total), vec![addend])
                    .offchain_input(state)
                    .relay(RelayStrategy::Ordered),
                other => unreachable!("{other}"),
            };
            let handle = rig.client.submit(job.build().unwrap()).await.unwrap();
            if rig.revision == Revision::State {
                assert_eq!(handle.signed_job().state_hash(), hash(total));
            }
            total += u64::from(addend);
            let output = handle.wait(Until::Relayed).await.unwrap().stateful().unwrap();
            assert_eq!(output.next_state, hash(total));
            assert_eq!(U256::abi_decode(&output.result).unwrap(), U256::from(total));
            assert_eq!(rig.node.chain().latest_state_root(consumer), Some(hash(total)));
        }
    })
    .await;
}

#[tokio::test]
async fn programs_are_uploaded_once() {
    both(|rig| async move {
        let elf = rig.node.add_elf(|input| Ok(input.onchain.to_vec()));
        let id = ProgramId::new(keccak256(&elf).to_vec());
        let upload = |elf| match rig.revision {
            Revision::Relay => ProgramUpload::sp1(elf),
            _ => ProgramUpload::risc0(elf),
        };
        for _ in 0..2 {
            assert_eq!(rig.client.submit_program(upload(elf.clone()).with_id(id.clone())).await.unwrap(), id);
        }

        let job = OffchainJobRequest::builder(CONSUMER, id).max_cycles(9).onchain_input(vec![1]).build().unwrap();
        let result = rig.client.submit(job).await.unwrap().wait(Until::Executed).await.unwrap();
        assert_eq!(*result.output(), Bytes::from(vec![1]));

        let wrong = upload(rig.node.add_elf(|input| Ok(input.onchain.to_vec()))).with_id(B256::repeat_byte(3));
        let error = rig.client.submit_program(wrong).await.unwrap_err();
        match rig.revision {
            Revision::Relay => assert_eq!((error.kind(), error.outcome()), (ErrorKind::Rejected, Outcome::Rejected)),
            _ => assert_eq!((error.kind(), error.outcome()), (ErrorKind::Verification, Outcome::Accepted)),
        }

        // An id of any length, in an answer of the message's only field.
        let answer = [&[0x0a, 0x80, 0x80, 0x40][..], &vec![7; 1 << 20]].concat();
        rig.node.faults().replace_reply(Method::SubmitProgram, answer);
        let wrong = upload(rig.node.add_elf(|_| Ok(vec![]))).with_id(B256::repeat_byte(3));
        let error = rig.client.submit_program(wrong).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Verification, Outcome::Accepted));
        assert!(error.to_string().len() < 1000, "a peer's answer is repeated in full");
    })
    .await;
}

#[tokio::test]
async fn the_calls_of_the_relay_revision() {
    both(|rig| async move {
        if rig.revision == Revision::State {
            for error in [
                rig.client.pending_jobs(CONSUMER).await.unwrap_err(),
                rig.client.contains_program(&rig.program).await.unwrap_err(),
            ] {
                assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unsupported, Outcome::NotSent));
            }
            return;
        }
        assert!(rig.client.contains_program(&rig.program).await.unwrap());
        assert!(!rig.client.contains_program(&B256::ZERO.into()).await.unwrap());
        assert_eq!(rig.client.pending_jobs(CONSUMER).await.unwrap(), Vec::<u64>::new());
        let gate = rig.node.faults().hold_executions();
        let first = rig.client.submit(rig.build("a")).await.unwrap();
        let second = rig.client.submit(rig.build("b")).await.unwrap();
        assert_eq!(rig.client.pending_jobs(CONSUMER).await.unwrap(), [1, 2]);
        gate.open();
        rig.reaches(first.id(), JobState::Relayed).await;
        rig.reaches(second.id(), JobState::Relayed).await;
        assert_eq!(rig.client.pending_jobs(CONSUMER).await.unwrap(), Vec::<u64>::new());
    })
    .await;
}

#[test]
fn connect_wants_a_runtime() {
    let builder = infinityvm_sdk::Client::builder().grpc("http://127.0.0.1:1").revision(Revision::State);
    let mut connect = Box::pin(builder.connect());
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(Err(error)) = connect.as_mut().poll(&mut cx) else { panic!("it connected") };
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
}

#[tokio::test]
async fn types_are_what_tasks_need() {
    fn shared<T: Send + Sync + Clone + 'static>(_: &T) {}
    fn send<T: Send>(value: T) -> T {
        value
    }
    let rig = Rig::new(Revision::Relay).await;
    shared(&rig.client);
    let handle = within(send(rig.client.submit(rig.build("x")))).await.unwrap();
    shared(&handle);
    within(send(handle.wait(Until::Executed).into_future())).await.unwrap();
    within(send(rig.client.submit_signed(handle.signed_job().clone()))).await.unwrap();
    drop(send(rig.client.submit_program(ProgramUpload::sp1(vec![1]))));
    drop(send(rig.client.pending_jobs(CONSUMER)));
}
