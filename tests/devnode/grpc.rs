//! What only the gRPC server has: reflection, deadlines sent along, and replies replaced by other protobuf messages.

use infinityvm_sdk::{Revision, devnode::JobState, rpc::Method};
use tokio_stream::StreamExt;
use tonic::Code;
use tonic_reflection::pb::{v1, v1alpha};

use crate::rig::*;

type Rig = crate::rig::Rig<Grpc>;

#[tokio::test]
async fn replaced_replies_are_protobuf_messages() {
    let rig = Rig::relay().await;
    let faults = rig.node.faults();
    rig.run(&rig.job(1), JobState::Relayed).await;
    faults.replace_reply(Method::GetResult, vec![0x0a, 0xff]);
    let (code, _) = rig.client.get(rig.job(1).id().to_vec()).await.unwrap_err();
    assert_eq!(code, Code::Internal, "the client cannot decode it");
    faults.replace_reply(Method::ContainsProgram, vec![0x08, 0x01]);
    assert_eq!(rig.client.contains(&[1]).await, Ok(true));
}

#[tokio::test]
async fn messages_over_4_mib_are_out_of_range() {
    for revision in Revision::ALL {
        let rig = Rig::start(revision, |builder| builder).await;
        let job = rig.job(1).with(|job| job.offchain = vec![0; 4 << 20]);
        let (code, text) = rig.send(&job).await.unwrap_err();
        assert_eq!(code, Code::OutOfRange);
        let (start, end) = ("Error, decoded message length too large: found ", " bytes, the limit is: 4194304 bytes");
        assert!(text.starts_with(start) && text.ends_with(end), "{text}");
        let job = rig.job(1).with(|job| job.offchain = vec![0; (4 << 20) - 4096]);
        rig.run(&job, JobState::Relayed).await;
    }
}

#[tokio::test]
async fn a_deadline_of_the_client_kills_the_consumers_task_too() {
    let rig = Rig::start(Revision::Relay, |builder| builder.max_pending_ordered(1)).await;
    rig.node.faults().stall_relays(true);
    rig.run(&rig.ordered(1), JobState::Done).await;
    let job = rig.ordered(2);
    let mut client = rig.client.relay();
    let mut request = tonic::Request::new(crate::plain_client::relay::SubmitJobRequest {
        request: job.abi(),
        signature: rig.sign(&job.abi()),
        offchain_input: vec![],
        relay_strategy: ORDERED,
    });
    request.set_timeout(std::time::Duration::from_secs(10));
    // Once it hangs, there is nothing to do but to wait for the deadline.
    let hangs = async {
        rig.node.wait_until(|view| view.stats().hanging_calls() == 1).await;
        tokio::time::pause();
    };
    within(async { tokio::join!(client.submit_job(request), hangs).0 }).await.unwrap_err();
    tokio::time::resume();
    within(rig.node.wait_until(|view| view.stats().hanging_calls() == 0)).await;
    assert_eq!(rig.send(&rig.ordered(3)).await, Err(died()));
}

/// Sends one message on a connection of HTTP/2 and returns the gRPC status, or how the stream ended.
async fn on_connection(
    connection: &mut h2::client::SendRequest<bytes::Bytes>,
    method: Method,
    message: &impl prost::Message,
) -> Result<String, h2::Error> {
    let request = http::Request::post(format!("http://node{}", method.grpc_path()))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let length = u32::try_from(message.encoded_len()).unwrap();
    let frame = [&[0][..], &length.to_be_bytes(), &message.encode_to_vec()].concat();
    let (response, mut body) = connection.send_request(request, false)?;
    body.send_data(frame.into(), true)?;
    let response = response.await?;
    let (head, mut body) = response.into_parts();
    while let Some(data) = body.data().await {
        data?;
    }
    let trailers = body.trailers().await?;
    let status = head.headers.get("grpc-status").or_else(|| trailers.as_ref()?.get("grpc-status")).unwrap();
    Ok(status.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_handler_that_dies_resets_its_stream_and_the_connection_lives() {
    use crate::plain_client::{relay, state};

    for revision in Revision::ALL {
        let rig = Rig::start(revision, |builder| builder).await;
        let socket = tokio::net::TcpStream::connect(crate::http::address(&rig.node.grpc_url())).await.unwrap();
        let (mut connection, driver) = h2::client::handshake(socket).await.unwrap();
        let driver = tokio::spawn(driver);
        let unknown = state::GetResultRequest { job_id: vec![1; 32] };
        for _ in 0..2 {
            // SP1 in the State revision; what is no ELF in the Relay revision.
            let ended = if revision == Revision::State {
                let upload = state::SubmitProgramRequest { program_elf: b"\x7fELF".to_vec(), vm_type: 1 };
                within(on_connection(&mut connection, Method::SubmitProgram, &upload)).await
            } else {
                let upload =
                    relay::SubmitProgramRequest { program_elf: b"no".to_vec(), program_id: vec![1], vm_type: 0 };
                within(on_connection(&mut connection, Method::SubmitProgram, &upload)).await
            };
            let error = ended.unwrap_err();
            assert!(error.is_reset() && error.is_remote(), "{error:?}");
            assert_eq!(error.reason(), Some(h2::Reason::CANCEL));
            let answer = within(on_connection(&mut connection, Method::GetResult, &unknown)).await;
            assert_eq!(answer.unwrap(), "5", "the same connection serves on");
        }
        assert!(!driver.is_finished());
    }
}

#[tokio::test]
async fn reflection_tells_the_revision_in_both_of_its_versions() {
    macro_rules! field_4 {
        ($pb:ident, $channel:expr) => {{
            use $pb::{
                server_reflection_client::ServerReflectionClient, server_reflection_request::MessageRequest,
                server_reflection_response::MessageResponse,
            };
            let mut client = ServerReflectionClient::new($channel);
            let request = $pb::ServerReflectionRequest {
                host: String::new(),
                message_request: Some(MessageRequest::FileContainingSymbol(
                    "coprocessor_node.v1.SubmitJobRequest".to_owned(),
                )),
            };
            let stream = client.server_reflection_info(tokio_stream::iter([request])).await.unwrap();
            let answer = stream.into_inner().next().await.unwrap().unwrap();
            let Some(MessageResponse::FileDescriptorResponse(files)) = answer.message_response else {
                panic!("no file descriptor");
            };
            let mut pool = protox::prost_reflect::DescriptorPool::new();
            for file in &files.file_descriptor_proto {
                pool.decode_file_descriptor_proto(file.as_slice()).unwrap();
            }
            let message = pool.get_message_by_name("coprocessor_node.v1.SubmitJobRequest").unwrap();
            message.get_field(4).unwrap().name().to_owned()
        }};
    }
    for (revision, field) in [(Revision::Relay, "relay_strategy"), (Revision::State, "state")] {
        let rig = Rig::start(revision, |builder| builder).await;
        assert_eq!(field_4!(v1, channel(&rig.node).await), field);
        assert_eq!(field_4!(v1alpha, channel(&rig.node).await), field);
    }
}

#[tokio::test]
async fn reflection_can_be_left_out() {
    let rig = Rig::start(Revision::Relay, |builder| builder.reflection(false)).await;
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel(&rig.node).await);
    let request = v1::ServerReflectionRequest::default();
    let status = client.server_reflection_info(tokio_stream::iter([request])).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    rig.run(&rig.job(1), JobState::Relayed).await;
}
