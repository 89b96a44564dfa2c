//! The node's gRPC server, with server reflection.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{body::Body, extract::Request, middleware::from_fn_with_state, response::Response};
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use http_body::Frame;
use tokio::net::TcpListener;
use tonic::{Status, service::Routes, transport::Server};

use super::{
    grpc_relay, grpc_state,
    node::NodeCore,
    server::{Dialect, Incoming, twisted},
};
use crate::{
    error::{Error, ErrorKind, Result},
    job::Revision,
    rpc::Method,
    wire::generated::{self, relay, state},
};

struct Grpc;

impl Dialect for Grpc {
    fn method(request: &Request) -> Option<Method> {
        Method::ALL.into_iter().find(|method| method.grpc_path() == request.uri().path())
    }

    fn refusal(status: Status) -> Response {
        status.into_http()
    }

    fn reply(message: Bytes) -> Response {
        let mut frame = BytesMut::with_capacity(5 + message.len());
        frame.put_u8(0);
        frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
        frame.put_slice(&message);
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        let mut response =
            Response::new(Body::new(Reply([Some(Frame::trailers(trailers)), Some(Frame::data(frame.freeze()))])));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        response
    }
}

/// The frames that are left, the last one first.
struct Reply([Option<Frame<Bytes>>; 2]);

impl http_body::Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let [last, first] = &mut self.0;
        Poll::Ready(first.take().or_else(|| last.take()).map(Ok))
    }
}

/// Serves the node until the future is dropped.
pub(super) fn serve(
    shared: &Arc<NodeCore>,
    listener: TcpListener,
    reflection: bool,
) -> Result<impl Future<Output = ()> + Send + 'static> {
    let mut routes = Routes::builder();
    let descriptors = match shared.revision {
        Revision::State => {
            let service = grpc_state::StateService(Arc::clone(shared));
            routes.add_service(state::coprocessor_node_server::CoprocessorNodeServer::new(service));
            generated::STATE_DESCRIPTORS
        }
        _ => {
            let service = grpc_relay::RelayService(Arc::clone(shared));
            routes.add_service(relay::coprocessor_node_server::CoprocessorNodeServer::new(service));
            generated::RELAY_DESCRIPTORS
        }
    };
    if reflection {
        let broken = |error: tonic_reflection::server::Error| {
            Error::new(ErrorKind::InvalidConfig, "the reflection service did not start").with_source(error)
        };
        let builder =
            || tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(descriptors);
        routes.add_service(builder().build_v1().map_err(broken)?);
        routes.add_service(builder().build_v1alpha().map_err(broken)?);
    }
    let layer = from_fn_with_state(Arc::clone(shared), twisted::<Grpc>);
    let router = routes.routes().into_axum_router().layer(layer);
    let incoming = Incoming::new(listener, shared);
    Ok(async move {
        // It ends when it is aborted; errors of single connections end those alone.
        let _ = Server::builder().add_routes(router.into()).serve_with_incoming(incoming).await;
    })
}
