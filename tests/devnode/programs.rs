//! Programs: uploads and their errors, and the ways in which a job fails.

use std::sync::{Arc, Mutex};

use alloy_primitives::{hex, keccak256};
use alloy_sol_types::SolValue;
use infinityvm_sdk::{Revision, devnode::JobState};
use tonic::Code;

use crate::rig::*;

async fn an_unknown_program_is_accepted_and_fails_later<O: Over>() {
    for (revision, reason) in [(Revision::Relay, "missing_program"), (Revision::State, "missing_elf")] {
        let rig = Rig::<O>::start(revision, |builder| builder).await;
        let job = rig.job(1).with(|job| job.program_id = vec![9; 32].into());
        let record = rig.run(&job, JobState::Failed).await;
        assert_eq!(record.failure.as_deref(), Some(reason));
        assert_eq!((record.status, record.result, record.tx), (FAILED, vec![], vec![]));
    }
}

async fn the_cycle_limit_and_a_nonzero_exit_are_execution_errors<O: Over>() {
    for revision in Revision::ALL {
        let rig = Rig::<O>::start(revision, |builder| builder).await;
        let run = |nonce, onchain: &[u8], max_cycles| {
            rig.job(nonce).with(|job| (job.onchain, job.max_cycles) = (onchain.to_vec(), max_cycles))
        };
        for job in [run(1, b"fail", 100), run(2, b"1000 cycles", 999)] {
            let record = rig.run(&job, JobState::Failed).await;
            assert_eq!(record.failure.as_deref(), Some("execution_error"));
        }
        rig.run(&run(3, b"1000 cycles", 1000), JobState::Relayed).await;
    }
}

async fn a_program_reads_the_state_and_its_own_input_in_either_revision<O: Over>() {
    for revision in Revision::ALL {
        let rig = Rig::<O>::start(revision, |builder| builder).await;
        let said = Arc::new(Mutex::new(String::new()));
        let heard = Arc::clone(&said);
        let program = rig.node.register_program(move |input| match input.stateful() {
            Ok((root, own)) => Ok([root.as_slice(), &own].concat()),
            Err(error) => {
                *heard.lock().unwrap() = error.to_string();
                Err(error)
            }
        });
        let job = |nonce, onchain: Vec<u8>, state: &[u8]| {
            let job = rig.job(nonce);
            job.with(|job| (job.program_id, job.onchain, job.state) = (program.clone(), onchain, state.to_vec()))
        };
        if revision == Revision::State {
            for (nonce, state) in [(1, b"".as_slice()), (2, b"a state")] {
                let record = rig.run(&job(nonce, b"own".to_vec(), state), JobState::Relayed).await;
                assert_eq!(rig.output(&record), [keccak256(state).as_slice(), b"own"].concat());
            }
            continue;
        }
        for (nonce, own) in [(1, b"".as_slice()), (2, b"own")] {
            let onchain = relay_abi::Stateful { root: ROOT, rest: own.to_vec().into() }.abi_encode();
            let record = rig.run(&job(nonce, onchain, b""), JobState::Relayed).await;
            assert_eq!(rig.output(&record), [ROOT.as_slice(), own].concat());
        }
        for (nonce, onchain) in [(3, vec![]), (4, b"own".to_vec()), (5, vec![0xff; 96])] {
            let record = rig.run(&job(nonce, onchain, b""), JobState::Failed).await;
            assert_eq!(record.failure.as_deref(), Some("execution_error"));
            let said = std::mem::take(&mut *said.lock().unwrap());
            assert!(said.starts_with("the onchain input is no StatefulAppOnchainInput"), "{said}");
        }
    }
}

async fn relay_a_panicking_program_strands_its_job_until_a_restart<O: Over>() {
    let rig = Rig::<O>::relay().await;
    let job = rig.job(1).with(|job| job.onchain = b"panic".to_vec());
    rig.send(&job).await.unwrap();
    let id = job.id();
    within(rig.node.wait_until(|view| view.stats().executions(id) == 1)).await;
    // The node lives on, and nothing is ever said of the job.
    rig.run(&rig.job(2), JobState::Relayed).await;
    assert_eq!(rig.record(&job).await.status, PENDING);
    assert_eq!(rig.pending().await, [1]);
    assert_eq!(rig.send(&rig.job(1)).await, Ok(id), "ignored");
    assert_eq!(rig.executions(&job), 1);
    rig.node.restart();
    let rig = Rig { client: Rig::<O>::connect(&rig.node).await, ..rig };
    rig.run(&rig.job(1), JobState::Relayed).await;
}

async fn relay_submit_program<O: Over>() {
    let rig = Rig::<O>::relay().await;
    let elf = rig.node.add_elf(|_| Ok(b"uploaded".to_vec()));
    let id = keccak256(&elf);
    let submit = |elf: &[u8], id: &[u8], vm| {
        let (client, elf, id) = (rig.client.clone(), elf.to_vec(), id.to_vec());
        within(async move { client.submit_program(&elf, &id, vm).await })
    };
    assert_eq!(rig.client.contains(id.as_slice()).await, Ok(false));
    assert_eq!(submit(&[], id.as_slice(), 0).await, Err(invalid("program elf must not be empty")));
    assert_eq!(submit(&elf, id.as_slice(), 1).await, Err(internal("failed to submit ELF: invalid VM type")));
    let text = format!(
        "failed to submit ELF: given program ID does not match derived program ID: given: 0102, derived: {}",
        hex::encode(id)
    );
    assert_eq!(submit(&elf, &[1, 2], 0).await, Err(internal(&text)));
    assert_eq!(submit(b"no elf", id.as_slice(), 0).await, Err(died()));
    assert_eq!(submit(&elf, id.as_slice(), 0).await, Ok(id.to_vec()));
    assert_eq!(rig.client.contains(id.as_slice()).await, Ok(true));
    let text = format!("failed to submit ELF: elf with program ID {} already exists", hex::encode(id));
    assert_eq!(submit(&elf, id.as_slice(), 0).await, Err(internal(&text)));
    let job = rig.job(1).with(|job| job.program_id = id.to_vec().into());
    let record = rig.run(&job, JobState::Relayed).await;
    assert_eq!(rig.output(&record), b"uploaded");
}

async fn state_submit_program<O: Over>() {
    let rig = Rig::<O>::state().await;
    let elf = rig.node.add_elf(|_| Ok(b"uploaded".to_vec()));
    let id = keccak256(&elf);
    assert_eq!(rig.client.submit_program(&[], &[], 1).await, Err(invalid("program elf must not be empty")));
    assert_eq!(rig.client.submit_program(&elf, &[], 2).await, Err(internal("failed to submit ELF: invalid VM type")));
    assert_eq!(rig.client.submit_program(b"no elf", &[], 1).await, Err(died()));
    for (vm, known) in [(0, false), (1, true)] {
        let text = format!("failed to submit ELF: elf with program ID {} already exists", hex::encode(id));
        let expected = if known { Err(internal(&text)) } else { Ok(id.to_vec()) };
        assert_eq!(rig.client.submit_program(&elf, &[], vm).await, expected);
    }
}

async fn an_elf_without_a_function_is_accepted_and_cannot_be_executed<O: Over>() {
    let rig = Rig::<O>::relay().await;
    let elf = b"\x7fELF of somebody";
    let id = keccak256(elf);
    assert_eq!(rig.client.submit_program(elf, id.as_slice(), 0).await, Ok(id.to_vec()));
    let job = rig.job(1).with(|job| job.program_id = id.to_vec().into());
    assert_eq!(rig.run(&job, JobState::Failed).await.failure.as_deref(), Some("execution_error"));
}

async fn a_state_node_has_no_calls_of_the_relay_revision<O: Over>() {
    let rig = Rig::<O>::state().await;
    let client =
        crate::plain_client::relay::coprocessor_node_client::CoprocessorNodeClient::new(channel(&rig.node).await);
    let client = Client::Relay(client);
    assert_eq!(client.pending(CONSUMER.as_slice()).await.unwrap_err().0, Code::Unimplemented);
    assert_eq!(client.contains(&[1; 32]).await.unwrap_err().0, Code::Unimplemented);
}

over_both! {
    an_unknown_program_is_accepted_and_fails_later,
    the_cycle_limit_and_a_nonzero_exit_are_execution_errors,
    a_program_reads_the_state_and_its_own_input_in_either_revision,
    relay_a_panicking_program_strands_its_job_until_a_restart,
    relay_submit_program,
    state_submit_program,
    an_elf_without_a_function_is_accepted_and_cannot_be_executed,
    a_state_node_has_no_calls_of_the_relay_revision,
}
