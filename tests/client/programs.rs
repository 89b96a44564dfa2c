//! Programs: what is uploaded, what is there already, and files that a node's handler dies of.

use std::sync::{Arc, Mutex};

use infinityvm_sdk::{
    Client, ErrorKind, Outcome, ProgramId, ProgramUpload, RetryPolicy, Revision,
    devnode::Loss,
    primitives::{Address, B256, Bytes, hex, keccak256},
    rpc::{CallError, CallFailure, Method, StatusCode},
};
use support::scripted::{Scripted, at_once, status};

use crate::rig::{Rig, both, within};

const OPERATOR: Address = Address::repeat_byte(1);

/// A program for the virtual machine of the revision's nodes.
fn upload(revision: Revision, elf: impl Into<Bytes>) -> ProgramUpload {
    match revision {
        Revision::State => ProgramUpload::risc0(elf),
        _ => ProgramUpload::sp1(elf),
    }
}

/// Clients of both transports with the default policy: what is repeated, is repeated.
async fn clients(rig: &Rig) -> [Client; 2] {
    let builder = || rig.builder().retry(RetryPolicy::default());
    [builder().connect().await.unwrap(), builder().rest(rig.node.rest_url()).connect().await.unwrap()]
}

/// RISC Zero's combined form of a program and its kernel is no ELF, and a program all the same: for RISC Zero only.
#[tokio::test]
async fn the_combined_form_of_risc_zero_is_taken_for_that_and_for_nothing_else() {
    both(|rig| async move {
        let file = b"R0BF\x01\0\0\0 and so on".to_vec();
        for client in clients(&rig).await {
            let error = client.submit_program(ProgramUpload::sp1(file.clone()).with_id(B256::ZERO)).await.unwrap_err();
            let what = (error.kind(), error.outcome());
            assert_eq!(what, (ErrorKind::InvalidInput, Outcome::NotSent), "{}", error.report());
            assert!(error.report().to_string().contains("ProgramUpload::risc0"), "{}", error.report());
            assert_eq!(rig.node.stats().calls(Method::SubmitProgram), 0);
        }
        if rig.revision == Revision::State {
            for client in clients(&rig).await {
                let program = ProgramUpload::risc0(file.clone()).with_id(keccak256(&file));
                let uploaded = client.submit_program(program).await;
                let id = uploaded.unwrap_or_else(|error| panic!("{}", error.report()));
                assert_eq!(id.as_bytes(), keccak256(&file).as_slice());
            }
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_no_elf_is_refused_before_anything_is_sent() {
    both(|rig| async move {
        let elf = rig.node.add_elf(|_| Ok(vec![])).to_vec();
        let files: Vec<Vec<u8>> = vec![
            b"target/guest.elf".to_vec(),
            hex::encode(&elf).into_bytes(),
            hex::encode_prefixed(&elf).into_bytes(),
            b"PK\x03\x04".to_vec(),
            b"\x1f\x8b\x08".to_vec(),
            b"#!/bin/sh\n".to_vec(),
            b"\x7f".to_vec(),
            b"\x7fEL".to_vec(),
            b"\x7fELf".to_vec(),
            b"FLE\x7f".to_vec(),
            b"R0B".to_vec(),
            b"r0bf".to_vec(),
            [b" ".as_slice(), &elf].concat(),
            [b"\xef\xbb\xbf".as_slice(), &elf].concat(),
            elf[1..].to_vec(),
            vec![0; 1 << 20],
        ];
        for client in clients(&rig).await {
            for file in &files {
                let program = upload(rig.revision, file.clone()).with_id(keccak256(file));
                let error = client.submit_program(program).await.unwrap_err();
                let what = (error.kind(), error.outcome(), error.is_retryable());
                assert_eq!(what, (ErrorKind::InvalidInput, Outcome::NotSent, false), "{}", error.report());
                assert!(error.to_string().contains("not an ELF file"), "{error}");
            }
        }
        assert_eq!(rig.node.stats().calls(Method::SubmitProgram), 0);
    })
    .await;
}

#[tokio::test]
async fn a_program_that_is_there_already_is_a_success_where_the_ids_agree() {
    both(|rig| async move {
        let elf = rig.node.add_elf(|_| Ok(vec![]));
        let id = ProgramId::from(keccak256(&elf));
        for client in clients(&rig).await {
            for _ in 0..2 {
                let program = upload(rig.revision, elf.clone()).with_id(id.clone());
                assert_eq!(client.submit_program(program).await.unwrap(), id);
            }
        }
        assert_eq!(rig.node.stats().calls(Method::SubmitProgram), 4);
    })
    .await;
}

/// The node says of this very file that it has it, under an id that is not the caller's.
#[tokio::test]
async fn a_state_node_that_has_the_file_under_another_id_is_no_success() {
    let rig = Rig::new(Revision::State).await;
    let elf = rig.node.add_elf(|_| Ok(vec![]));
    let id = keccak256(&elf);
    let [client, rest] = clients(&rig).await;
    client.submit_program(ProgramUpload::risc0(elf.clone())).await.unwrap();
    for (client, sent) in [(&client, 2), (&rest, 3)] {
        // Also one that is the beginning of the right one, and one that the right one is the beginning of.
        for wrong in [B256::repeat_byte(3).to_vec(), id[..31].to_vec(), [id.as_slice(), &[0]].concat(), vec![7]] {
            let program = ProgramUpload::risc0(elf.clone()).with_id(ProgramId::new(wrong));
            let error = within(client.submit_program(program)).await.unwrap_err();
            let what = (error.kind(), error.outcome(), error.is_retryable());
            assert_eq!(what, (ErrorKind::Verification, Outcome::Accepted, false), "{}", error.report());
            assert!(error.to_string().contains(&hex::encode(id)), "{error}");
        }
        assert_eq!(rig.node.stats().calls(Method::SubmitProgram), 4 * (sent - 1) + 1);
    }
    // Without an id there is nothing to compare, and nothing is said to agree.
    let error = client.submit_program(ProgramUpload::risc0(elf)).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Rejected, Outcome::Rejected), "{}", error.report());
    let report = error.report().to_string();
    assert!(report.contains("with_id") && report.contains(&hex::encode(id)), "{report}");
}

/// Success only where the text names the program, whole, as one that is there.
#[tokio::test]
async fn every_form_of_the_refusal_that_names_the_program_is_a_success_and_no_other() {
    const ID: &str = "42ce00000000000000000000000000000000000000000000000000000000ab07";
    let upper = ID.to_uppercase();
    let named = [
        format!("elf with program ID {ID} already exists"),
        format!("elf with program ID {upper} already exists"),
        format!("elf with program ID 0x{ID} already exists"),
        format!("elf with verifying key {ID} already exists"),
        format!("elf with verifying key \"{ID}\" already exists"),
        format!("elf with verifying key elf with verifying key \"{ID}\" already exists already exists"),
        format!("elf with verifying key elf with verifying key {upper} already exists already exists"),
    ];
    let other = format!("{}08", &ID[..62]);
    let unclear = [
        "elf already exists".to_owned(),
        "elf with program ID already exists".to_owned(),
        "elf with verifying key \"\" already exists".to_owned(),
        format!("elf with program ID {other} already exists"),
        format!("elf with program ID {ID}00 already exists"),
        format!("elf with program ID {} already exists", &ID[..62]),
        format!("elf with program ID {ID} does not exist, {other} already exists"),
        format!("elf with program ID {ID} was deleted: its file already exists"),
        format!("elf with program ID {ID}"),
        format!("program {ID} already exists"),
        format!("elf with program ID {ID} ALREADY EXISTS"),
        ID.to_owned(),
    ];
    let program = || ProgramUpload::sp1(b"\x7fELF".to_vec()).with_id(ProgramId::new(hex::decode(ID).unwrap()));
    let answer = async |code: StatusCode, text: &str| {
        let text = format!("failed to submit ELF: {text}");
        let node = Scripted::new(true, move |_, _| at_once(Err(status(code, &text))));
        let client = node.client(Revision::Relay, OPERATOR).connect().await.unwrap();
        let answer = client.submit_program(program()).await;
        assert_eq!(node.count(Method::SubmitProgram), 1);
        answer
    };
    for text in &named {
        let id = answer(StatusCode::INTERNAL, text).await.unwrap();
        assert_eq!(hex::encode(id.as_bytes()), ID, "{text}");
        for code in [StatusCode::UNKNOWN, StatusCode::NOT_FOUND, StatusCode::ALREADY_EXISTS, StatusCode(99)] {
            let error = answer(code, text).await.unwrap_err();
            assert_eq!((error.kind(), error.outcome()), (ErrorKind::Rejected, Outcome::Unknown), "{code}: {text}");
        }
    }
    for text in &unclear {
        let error = answer(StatusCode::INTERNAL, text).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Rejected, "{text}: {}", error.report());
    }
}

/// State: a program of another virtual machine. The file would kill every handler that reads it.
#[tokio::test]
async fn a_file_that_the_nodes_handler_dies_of_is_sent_once() {
    let rig = Rig::new(Revision::State).await;
    let elf = rig.node.add_elf(|_| Ok(vec![]));
    for (sent, client) in (1..).zip(clients(&rig).await) {
        for (with_id, sent) in [(false, 2 * sent - 1), (true, 2 * sent)] {
            let mut program = ProgramUpload::sp1(elf.clone());
            if with_id {
                program = program.with_id(keccak256(&elf));
            }
            let error = within(client.submit_program(program)).await.unwrap_err();
            let what = (error.kind(), error.outcome(), error.is_retryable(), error.attempts());
            assert_eq!(what, (ErrorKind::Rejected, Outcome::Unknown, false, 1), "{}", error.report());
            assert!(error.report().to_string().contains("another virtual machine"), "{}", error.report());
            assert_eq!(rig.node.stats().calls(Method::SubmitProgram), sent);
        }
    }
}

/// In every form in which a handler's end is told, and whatever can be found out about the program.
#[tokio::test(start_paused = true)]
async fn after_the_end_of_the_handler_the_program_is_looked_up_and_not_sent_again() {
    let passed_on = |code, text| move || status(code, text);
    let http = |code, text| move || CallError::new(CallFailure::Http(code), text);
    const ENVOY: &str = "upstream connect error or disconnect/reset before headers. reset reason: remote reset";
    let ends: Vec<Arc<dyn Fn() -> CallError + Send + Sync>> = vec![
        Arc::new(|| CallError::new(CallFailure::Reset, "the call ended without an answer")),
        Arc::new(passed_on(StatusCode::CANCELLED, "h2 protocol error: http2 error")),
        Arc::new(passed_on(StatusCode::CANCELLED, "operation was canceled")),
        Arc::new(passed_on(StatusCode::CANCELLED, "")),
        // By gateways and proxies: gRPC in Go, Java and C, Envoy, tonic.
        Arc::new(passed_on(StatusCode::CANCELLED, "stream terminated by RST_STREAM with error code: CANCEL")),
        Arc::new(passed_on(StatusCode::INTERNAL, "stream terminated by RST_STREAM with error code: INTERNAL_ERROR")),
        Arc::new(passed_on(StatusCode::INTERNAL, "RST_STREAM closed stream. HTTP/2 error code: INTERNAL_ERROR")),
        Arc::new(passed_on(StatusCode::INTERNAL, "Received RST_STREAM with error code 2")),
        Arc::new(passed_on(StatusCode::UNKNOWN, "Received RST_STREAM with error code 8")),
        Arc::new(passed_on(StatusCode::UNAVAILABLE, ENVOY)),
        Arc::new(passed_on(
            StatusCode::INTERNAL,
            "h2 protocol error: stream error received: unexpected internal error encountered",
        )),
        Arc::new(http(503, ENVOY)),
        Arc::new(http(502, "stream terminated by RST_STREAM with error code: CANCEL")),
    ];
    // ContainsProgram as protobuf: nothing is false.
    let has: [(&[u8], bool); 2] = [(b"\x08\x01", true), (b"", false)];
    for end in ends {
        for (contains, success) in has {
            let ended = Arc::clone(&end);
            let node = Scripted::new(true, move |method, _| match method {
                Method::SubmitProgram => at_once(Err(ended())),
                _ => at_once(Ok(contains.into())),
            });
            let client = node.client(Revision::Relay, OPERATOR).connect().await.unwrap();
            let program = ProgramUpload::sp1(b"\x7fELF".to_vec()).with_id(B256::ZERO);
            let answer = client.submit_program(program).await;
            assert_eq!(answer.is_ok(), success, "{:?}", end());
            assert_eq!((node.count(Method::SubmitProgram), node.count(Method::ContainsProgram)), (1, 1));
            if let Err(error) = answer {
                let what = (error.kind(), error.outcome(), error.attempts());
                assert_eq!(what, (ErrorKind::Rejected, Outcome::Unknown, 1), "{}", error.report());
            }
        }
    }
}

/// A connection that broke behind a gateway or a proxy, or a node that had no room, says nothing of the file.
#[tokio::test(start_paused = true)]
async fn what_a_proxy_says_of_its_connection_is_no_end_of_a_handler() {
    let broken = [
        status(StatusCode::UNKNOWN, "transport error"),
        status(StatusCode::UNKNOWN, "h2 protocol error: error reading a body from connection"),
        status(StatusCode::INTERNAL, "h2 protocol error: http2 error"),
        status(StatusCode::UNKNOWN, "error reading a body from connection: end of file before message length reached"),
        status(
            StatusCode::UNAVAILABLE,
            "upstream connect error or disconnect/reset before headers. reset reason: connection termination",
        ),
        status(
            StatusCode::UNAVAILABLE,
            "upstream connect error or disconnect/reset before headers. reset reason: remote refused stream reset",
        ),
        status(StatusCode::UNAVAILABLE, "stream terminated by RST_STREAM with error code: REFUSED_STREAM"),
        status(StatusCode::UNAVAILABLE, "Received RST_STREAM with error code 7"),
        CallError::new(CallFailure::Http(503), "upstream connect error. reset reason: connection failure"),
    ];
    for end in broken {
        let said = end.to_string();
        let ends = Mutex::new(Some(end));
        let node = Scripted::new(true, move |method, _| match method {
            Method::SubmitProgram => at_once(
                ends.lock().unwrap().take().map_or_else(|| Ok([b"\x0a\x20".as_slice(), &[0; 32]].concat().into()), Err),
            ),
            _ => at_once(Ok(b"".as_slice().into())),
        });
        let client = node.client(Revision::Relay, OPERATOR).connect().await.unwrap();
        let answer = client.submit_program(ProgramUpload::sp1(b"\x7fELF".to_vec()).with_id(B256::ZERO)).await;
        answer.unwrap_or_else(|error| panic!("{said}: {}", error.report()));
        assert_eq!((node.count(Method::SubmitProgram), node.count(Method::ContainsProgram)), (2, 0), "{said}");
    }
}

/// Only the answer was lost, with its stream: the node has the program.
#[tokio::test]
async fn an_upload_whose_answer_is_lost_is_a_success_where_the_node_can_be_asked() {
    let rig = Rig::new(Revision::Relay).await;
    let [client, _] = clients(&rig).await;
    for (sent, loss) in [(1, Loss::ResetStream), (3, Loss::CloseConnection)] {
        let elf = rig.node.add_elf(|_| Ok(vec![]));
        let id = ProgramId::from(keccak256(&elf));
        rig.node.faults().drop_replies(Method::SubmitProgram, 1, loss);
        assert_eq!(client.submit_program(ProgramUpload::sp1(elf).with_id(id.clone())).await.unwrap(), id);
        // A connection that broke says nothing of the file, so that is sent again.
        assert_eq!(rig.node.stats().calls(Method::SubmitProgram), sent);
    }
}
