//! The context of a trace goes out with each call: whoever provides headers is asked in the call's span.

use std::sync::{Arc, Mutex};

use infinityvm_sdk::{
    Until,
    transport::{GrpcTransport, HeaderRequest, RestTransport},
};
use tracing::{Instrument, Span, info_span};

use crate::{
    rig::devnode,
    traces::{TEST, Traces},
};

/// Hands out the id of the current span as a `traceparent`, as a propagator would.
fn propagate(
    seen: &Arc<Mutex<Vec<u64>>>,
) -> impl Fn(HeaderRequest<'_>) -> infinityvm_sdk::Result<Vec<(String, String)>> + use<> {
    let seen = Arc::clone(seen);
    move |_| {
        let id = Span::current().id().map_or(0, |id| id.into_u64());
        seen.lock().unwrap().push(id);
        Ok(vec![("traceparent".to_owned(), format!("00-{:032x}-{id:016x}-01", 1))])
    }
}

#[tokio::test]
async fn headers_are_provided_within_the_span_of_their_call() {
    for rest in [false, true] {
        let (traces, _guard) = Traces::here();
        let ((node, builder, job), seen) = (devnode().await, Arc::default());
        let builder = match rest {
            true => builder
                .transport(RestTransport::builder(node.rest_url()).header_provider(propagate(&seen)).build().unwrap()),
            false => builder
                .transport(GrpcTransport::builder(node.grpc_url()).header_provider(propagate(&seen)).build().unwrap()),
        };
        let client = builder.operator(node.operator()).connect().await.unwrap();
        let job = job.onchain_input(vec![1]).build().unwrap();
        async {
            let handle = client.submit(job).await.unwrap();
            handle.wait(Until::Executed).await.unwrap();
        }
        .instrument(info_span!(target: TEST, "order"))
        .await;
        let (seen, spans) = (seen.lock().unwrap().clone(), traces.spans());
        // Before the first submission the node is asked who it is, which over REST it cannot be.
        let calls: Vec<_> = spans.iter().filter(|span| span.fields.get("otel.kind") == Some("client")).collect();
        assert!(calls.len() >= 3, "{calls:?}");
        let asked = calls.iter().filter(|call| call.name.starts_with("grpc.reflection.v1")).count();
        assert_eq!(asked > 0, !rest, "a gateway cannot be asked what it serves");
        for call in &calls {
            assert!(seen.contains(&call.id), "{} sent no context of its own", call.name);
        }
        let order = traces.named("order")[0].id;
        for call in calls {
            let mut at = call.id;
            while let Some(parent) = spans[at as usize - 1].parent {
                at = parent;
            }
            assert_eq!(at, order, "{} is part of the caller's trace", call.name);
        }
    }
}
