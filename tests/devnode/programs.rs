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

async fn the_cycle_limit_fails_a_job_in_either_revision<O: Over>() {
    for revision in Revision::ALL {
        let rig = Rig::<O>::start(revision, |builder| builder).await;
        let job = |nonce, max_cycles| {
            rig.job(nonce).with(|job| (job.onchain, job.max_cycles) = (b"1000 cycles".to_vec(), max_cycles))
        };
        let record = rig.run(&job(1, 999), JobState::Failed).await;
        assert_eq!(record.failure.as_deref(), Some("execution_error"));
        rig.run(&job(2, 1000), JobState::Relayed).await;
    }
}

async fn relay_a_nonzero_exit_is_an_execution_error<O: Over>() {
    let rig = Rig::<O>::relay().await;
    let record = rig.run(&rig.job(1).with(|job| job.onchain = b"fail".to_vec()), JobState::Failed).await;
    assert_eq!(record.failure.as_deref(), Some("execution_error"));
    assert_eq!((record.result, record.operator_signature), (vec![], vec![]));
}

async fn state_a_nonzero_exit_is_a_result_of_0_bytes_done_and_relayed<O: Over>() {
    let rig = Rig::<O>::state().await;
    rig.node.faults().stall_relays(true);
    let job = rig.job(1).with(|job| job.onchain = b"fail".to_vec());
    let record = rig.run(&job, JobState::Done).await;
    assert_eq!((record.status, record.failure.as_deref()), (DONE, None));
    assert_eq!(rig.output(&record), b"");
    rig.node.faults().stall_relays(false);
    rig.until(&job, JobState::Relayed).await;
    assert_eq!(rig.node.chain().completed(job.id()).unwrap().result.len(), 0);
}

async fn state_a_panic_is_an_execution_error<O: Over>() {
    let rig = Rig::<O>::state().await;
    let record = rig.run(&rig.job(1).with(|job| job.onchain = b"panic".to_vec()), JobState::Failed).await;
    assert_eq!(record.failure.as_deref(), Some("execution_error"));
    rig.run(&rig.job(2), JobState::Relayed).await;
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
    for no_elf in [b"no elf".as_slice(), b"\x7fEL", b"\x7fELf, of more than sixteen bytes"] {
        assert_eq!(submit(no_elf, id.as_slice(), 0).await, Err(died()));
    }
    assert_eq!(submit(&elf, id.as_slice(), 0).await, Ok(id.to_vec()));
    assert_eq!(rig.client.contains(id.as_slice()).await, Ok(true));
    let text = format!("failed to submit ELF: elf with program ID {} already exists", hex::encode(id));
    // The id is looked up first: what the file holds, the node does not find out.
    let other = rig.node.add_elf(|_| Ok(vec![]));
    for file in [&elf[..], &other[..], b"no elf"] {
        assert_eq!(submit(file, id.as_slice(), 0).await, Err(internal(&text)));
    }
    let job = rig.job(1).with(|job| job.program_id = id.to_vec().into());
    let record = rig.run(&job, JobState::Relayed).await;
    assert_eq!(rig.output(&record), b"uploaded");
}

async fn state_submit_program<O: Over>() {
    let rig = Rig::<O>::state().await;
    let elf = rig.node.add_elf(|_| Ok(b"uploaded".to_vec()));
    let id = keccak256(&elf);
    let submit = |elf: &[u8], vm| {
        let (client, elf) = (rig.client.clone(), elf.to_vec());
        within(async move { client.submit_program(&elf, &[], vm).await })
    };
    assert_eq!(submit(&[], 0).await, Err(invalid("program elf must not be empty")));
    assert_eq!(submit(&elf, 2).await, Err(internal("failed to submit ELF: invalid VM type")));
    assert_eq!(submit(&elf, 0).await, Ok(id.to_vec()));
    let id = hex::encode(id);
    let once = format!("elf with verifying key \"{id}\" already exists");
    let text = format!("failed to submit ELF: elf with verifying key {once} already exists");
    assert_eq!(submit(&elf, 0).await, Err(internal(&text)));
    let job = rig.job(1).with(|job| job.program_id = keccak256(&elf).to_vec().into());
    assert_eq!(rig.output(&rig.run(&job, JobState::Relayed).await), b"uploaded");
}

async fn state_what_is_no_elf_is_internal_and_the_handler_lives<O: Over>() {
    let rig = Rig::<O>::state().await;
    let short = "Could not read bytes in range [0x0, 0x10)";
    for (file, fault) in [
        (b"no elf".as_slice(), short),
        (b"\x7fEL", short),
        (b"#!/bin/sh\necho no", "Invalid Magic Bytes: [23, 21, 2F, 62]"),
        (b"\x7fELf, of more than sixteen bytes", "Invalid Magic Bytes: [7F, 45, 4C, 66]"),
    ] {
        let text =
            "failed to submit ELF: failed to create ELF in zkvm executor: failed to derive verifying key Risc0 error: ";
        let text = format!("{text}Elf parse error: {fault}");
        assert_eq!(rig.client.submit_program(file, &[], 0).await, Err(internal(&text)));
    }
}

async fn state_a_program_of_another_virtual_machine_kills_the_handler_whatever_it_is<O: Over>() {
    let rig = Rig::<O>::state().await;
    let elf = rig.node.add_elf(|_| Ok(vec![]));
    for file in [&elf[..], b"no elf"] {
        assert_eq!(within(rig.client.submit_program(file, &[], 1)).await, Err(died()));
    }
    // The node lives, and has kept nothing.
    assert_eq!(rig.client.submit_program(&elf, &[], 0).await, Ok(keccak256(&elf).to_vec()));
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
    the_cycle_limit_fails_a_job_in_either_revision,
    relay_a_nonzero_exit_is_an_execution_error,
    state_a_nonzero_exit_is_a_result_of_0_bytes_done_and_relayed,
    state_a_panic_is_an_execution_error,
    a_program_reads_the_state_and_its_own_input_in_either_revision,
    relay_a_panicking_program_strands_its_job_until_a_restart,
    relay_submit_program,
    state_submit_program,
    state_what_is_no_elf_is_internal_and_the_handler_lives,
    state_a_program_of_another_virtual_machine_kills_the_handler_whatever_it_is,
    an_elf_without_a_function_is_accepted_and_cannot_be_executed,
    a_state_node_has_no_calls_of_the_relay_revision,
}
