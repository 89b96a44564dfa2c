//! What only the gRPC server has: reflection, and replies replaced by other protobuf messages.

use infinityvm_sdk::{Revision, devnode::JobState, rpc::Method};
use tokio_stream::StreamExt;
use tonic::Code;
use tonic_reflection::pb::{v1, v1alpha};

use crate::{over_grpc::Rig, rig::*};

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
