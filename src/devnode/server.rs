//! What both front ends have in common: connections that a test can break, and calls that can be lost, held, refused
//! and replaced.

use std::{
    future::pending,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use bytes::Bytes;
use tokio::net::TcpListener;
use tonic::{Code, Status, codegen::tokio_stream::Stream};

use super::{
    connection::{AcceptedStream, Connection},
    node::{NodeCore, die},
    script::{Loss, Twist},
};
use crate::rpc::Method;

/// The connections that come in, as a test breaks them.
pub(super) struct Incoming {
    listener: TcpListener,
    shared: Arc<NodeCore>,
}

impl Incoming {
    pub(super) fn new(listener: TcpListener, shared: &Arc<NodeCore>) -> Self {
        Self { listener, shared: Arc::clone(shared) }
    }
}

impl Stream for Incoming {
    type Item = io::Result<AcceptedStream>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let accepted = ready!(self.listener.poll_accept(cx)).map(|(stream, _)| {
            // Some systems refuse it where the peer has gone already; an error here would end tonic's server.
            let _ = stream.set_nodelay(true);
            let socket = AcceptedStream::new(stream);
            self.shared.opened(&socket.connection);
            socket
        });
        Poll::Ready(Some(accepted))
    }
}

/// How a front end reads and says what a fault is about.
pub(super) trait Dialect: 'static {
    /// The method that is called; none if the request is for something else.
    fn method(request: &Request) -> Option<Method>;
    /// The answer that carries this status.
    fn refusal(status: Status) -> Response;
    /// The answer of success with these bytes as its message.
    fn reply(message: Bytes) -> Response;
}

/// The layer in which calls are counted, and go wrong where the test wants it.
pub(super) async fn twisted<D: Dialect>(State(shared): State<Arc<NodeCore>>, request: Request, next: Next) -> Response {
    let Some(method) = D::method(&request) else {
        return next.run(request).await;
    };
    let (life, unimplemented, twist) = shared.update(|world| {
        *world.stats.calls.entry(method).or_default() += 1;
        (world.life, world.faults.is_unimplemented(method), world.faults.next(method))
    });
    if unimplemented {
        return D::refusal(Status::unimplemented(""));
    }
    let connection = request.extensions().get::<Arc<Connection>>().cloned();
    match &twist {
        Some(Twist::Refuse(code, message)) => {
            let code = Code::from_i32(i32::try_from(code.0).unwrap_or(Code::Unknown as i32));
            return D::refusal(Status::new(code, message.clone()));
        }
        Some(Twist::HoldRequest(gate)) => {
            gate.pass().await;
            if shared.lock().life != life {
                die();
            }
        }
        _ => {}
    }
    let response = next.run(request).await;
    match twist {
        Some(Twist::HoldReply(gate)) => gate.pass().await,
        Some(Twist::Replace(message)) => return D::reply(message.0),
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
