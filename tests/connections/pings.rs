//! Servers that close connections which are pinged too often (GOAWAY with `too_many_pings`): the interval is doubled for the
//! connections that follow, so that a long call is not cut again. Over gRPC, and over REST with HTTP/2.

use std::time::Duration;

use bytes::Bytes;
use infinityvm_sdk::{
    rpc::{CallFailure, Method},
    transport::{GrpcTransport, RestTransport, Transport},
};

use crate::{frames::Counting, rig::within};

const INTERVAL: Duration = Duration::from_millis(100);

fn transports(grpc: &Counting, rest: &Counting) -> [Box<dyn Transport>; 2] {
    let timeout = Duration::from_secs(60);
    let grpc = GrpcTransport::builder(format!("http://{}", grpc.addr)).keep_alive(INTERVAL, timeout).connections(1);
    let rest = RestTransport::builder(format!("http://{}", rest.addr)).keep_alive(INTERVAL, timeout);
    [Box::new(grpc.build().unwrap()), Box::new(rest.http2_prior_knowledge().build().unwrap())]
}

/// The call is cut as often as the server complains, and no more. Each time the next connection is pinged half as often.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_complaint_connections_are_pinged_half_as_often() {
    for complaints in [1, 2] {
        let grpc = Counting::start(complaints, 3, 5, "application/grpc").await;
        let rest = Counting::start(complaints, 3, 5, "application/json").await;
        for (transport, server) in transports(&grpc, &rest).into_iter().zip([&grpc, &rest]) {
            let call = || within(transport.call(Method::GetResult, Bytes::from_static(b"{}").into()));
            for _ in 0..complaints {
                let error = call().await.unwrap_err();
                assert!(matches!(error.failure, CallFailure::Interrupted), "{error:?}");
            }
            call().await.unwrap();
            let pings = server.pings.lock().unwrap().clone();
            assert_eq!(pings.len(), complaints + 1, "{pings:?}");
            let last = &pings[complaints][..5];
            // Four intervals, which may be longer than they should, and not shorter together.
            let took = last[4] - last[0];
            let wanted = INTERVAL * 4 * (1 << complaints);
            assert!(took > wanted * 3 / 4, "{took:?} instead of {wanted:?}");
        }
    }
}

/// Servers that know no gRPC complain in words of their own, or without any.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn complaints_in_other_words_count_as_well() {
    for words in ["", "Too many pings", "PING_FLOOD"] {
        let grpc = Counting::complaining(1, 3, 5, "application/grpc", words).await;
        let rest = Counting::complaining(1, 3, 5, "application/json", words).await;
        for (transport, server) in transports(&grpc, &rest).into_iter().zip([&grpc, &rest]) {
            let call = || within(transport.call(Method::GetResult, Bytes::from_static(b"{}").into()));
            call().await.unwrap_err();
            call().await.unwrap();
            let pings = server.pings.lock().unwrap().clone();
            let took = pings[1][4] - pings[1][0];
            // Four intervals of twice the length. They may come late, and never early.
            assert!(took > INTERVAL * 6, "{words:?}: {took:?}");
        }
    }
}

/// A server that closes a connection for another reason is pinged as before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_interval_stays_where_nobody_complains() {
    let grpc = Counting::start(0, 0, 3, "application/grpc").await;
    let rest = Counting::start(0, 0, 3, "application/json").await;
    for (transport, server) in transports(&grpc, &rest).into_iter().zip([&grpc, &rest]) {
        for _ in 0..2 {
            within(transport.call(Method::GetResult, Bytes::from_static(b"{}").into())).await.unwrap();
        }
        assert_eq!(server.pings.lock().unwrap().len(), 1, "one connection for both calls");
    }
}
