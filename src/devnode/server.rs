//! The node's gRPC server: calls that can be lost, held, refused and replaced.

use std::{
    convert::Infallible,
    future::pending,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{BufMut, Bytes, BytesMut};
use http_body::Frame;
use tokio::net::TcpListener;
use tonic::{
    Code, Status,
    body::Body,
    codegen::{
        BoxFuture, Service,
        http::{HeaderMap, HeaderValue, Request, Response, header::CONTENT_TYPE},
        tokio_stream::Stream,
    },
    server::NamedService,
    transport::Server,
};

use super::{
    connection::{Connection, Socket},
    grpc_relay, grpc_state,
    node::{Shared, die},
    script::{Loss, Twist},
};
use crate::{
    error::{Error, ErrorKind, Result},
    job::Revision,
    rpc::Method,
    wire::generated::{self, relay, state},
};

struct Incoming {
    listener: TcpListener,
    shared: Arc<Shared>,
}

impl Stream for Incoming {
    type Item = io::Result<Socket>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let accepted = ready!(self.listener.poll_accept(cx)).and_then(|(stream, _)| {
            stream.set_nodelay(true)?;
            let socket = Socket::new(stream);
            self.shared.opened(&socket.connection);
            Ok(socket)
        });
        Poll::Ready(Some(accepted))
    }
}

/// A service whose calls are counted, and go wrong where the test wants it.
#[derive(Clone)]
struct Faulty<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S: NamedService> NamedService for Faulty<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Faulty<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The service that was polled ready must be the one that is called.
        let ready = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, ready);
        Box::pin(handle(Arc::clone(&self.shared), inner, request))
    }
}

async fn handle<S>(shared: Arc<Shared>, mut inner: S, request: Request<Body>) -> Result<Response<Body>, Infallible>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let Some(method) = Method::ALL.into_iter().find(|method| method.grpc_path() == request.uri().path()) else {
        return inner.call(request).await;
    };
    let (life, unimplemented, twist) = shared.update(|world| {
        *world.stats.calls.entry(method).or_default() += 1;
        (world.life, world.faults.is_unimplemented(method), world.faults.next(method))
    });
    if unimplemented {
        return Ok(Status::unimplemented("").into_http());
    }
    let connection = request.extensions().get::<Arc<Connection>>().cloned();
    match &twist {
        Some(Twist::Refuse(code, message)) => {
            let code = Code::from_i32(i32::try_from(code.0).unwrap_or(Code::Unknown as i32));
            return Ok(Status::new(code, message.clone()).into_http());
        }
        Some(Twist::HoldRequest(gate)) => {
            gate.pass().await;
            if shared.lock().life != life {
                die();
            }
        }
        _ => {}
    }
    let response = inner.call(request).await;
    match twist {
        Some(Twist::HoldReply(gate)) => gate.pass().await,
        Some(Twist::Replace(message)) => return Ok(reply(&message)),
        Some(Twist::Lose(Loss::ResetStream)) => die(),
        Some(Twist::Lose(Loss::Never)) => pending().await,
        Some(Twist::Lose(Loss::CloseConnection)) => {
            if let Some(connection) = connection {
                connection.close();
            }
            pending().await
        }
        _ => {}
    }
    response
}

/// A successful gRPC response with these bytes as its message.
fn reply(message: &[u8]) -> Response<Body> {
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let mut response =
        Response::new(Body::new(Reply([Some(Frame::trailers(trailers)), Some(Frame::data(frame.freeze()))])));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
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
    shared: &Arc<Shared>,
    listener: TcpListener,
    reflection: bool,
) -> Result<impl Future<Output = ()> + Send + 'static> {
    let descriptors = match shared.revision {
        Revision::State => generated::STATE_DESCRIPTORS,
        _ => generated::RELAY_DESCRIPTORS,
    };
    let broken = |error: tonic_reflection::server::Error| {
        Error::new(ErrorKind::InvalidConfig, "the reflection service did not start").with_source(error)
    };
    let builder = || tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(descriptors);
    let v1 = reflection.then(|| builder().build_v1()).transpose().map_err(broken)?;
    let v1alpha = reflection.then(|| builder().build_v1alpha()).transpose().map_err(broken)?;
    let mut server = Server::builder();
    let router = server.add_optional_service(v1).add_optional_service(v1alpha);
    let router = match shared.revision {
        Revision::State => {
            let service = grpc_state::Service(Arc::clone(shared));
            let inner = state::coprocessor_node_server::CoprocessorNodeServer::new(service);
            router.add_service(Faulty { inner, shared: Arc::clone(shared) })
        }
        _ => {
            let service = grpc_relay::Service(Arc::clone(shared));
            let inner = relay::coprocessor_node_server::CoprocessorNodeServer::new(service);
            router.add_service(Faulty { inner, shared: Arc::clone(shared) })
        }
    };
    let incoming = Incoming { listener, shared: Arc::clone(shared) };
    Ok(async move {
        // It ends when it is aborted; errors of single connections end those alone.
        let _ = router.serve_with_incoming(incoming).await;
    })
}
