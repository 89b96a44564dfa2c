//! The node's REST gateway. A real node's is an axum server in the same process that forwards every request over gRPC;
//! this one is an axum server, too, so its own refusals have the same words, and it calls the intake itself. What the
//! way over gRPC adds is kept: the limit of a message, what becomes of a handler that dies, and that a client that goes
//! away takes its call with it.

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequest, Request, State, rejection::JsonRejection},
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::post,
};
use http::{StatusCode, header::CONTENT_TYPE, request::Parts};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use prost::Message;
use serde::{
    Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use tokio::net::TcpListener;
use tonic::{Code, Status, codegen::tokio_stream::StreamExt};

use super::{
    grpc_relay, grpc_state,
    intake::{IntakeRefusal, RawSubmission},
    node::NodeCore,
    rest_json::{self as json, SubmitJobResponse, SubmitProgramResponse},
    server::{Dialect, Incoming, twisted},
    upload::RawProgram,
};
use crate::{
    job::Revision,
    rpc::Method,
    wire::generated::{relay, state},
};

const SUBMIT_JOB: &str = "/v1/coprocessor_node/submit_job";
const GET_RESULT: &str = "/v1/coprocessor_node/get_result";
const SUBMIT_PROGRAM: &str = "/v1/coprocessor_node/submit_program";

/// What tonic takes and gives, in bytes, unless told otherwise. The gateway is a client of the node, so it counts both
/// ways.
const MESSAGE_LIMIT: usize = 4 << 20;

struct Rest;

impl Dialect for Rest {
    fn method(request: &Request) -> Option<Method> {
        match request.uri().path() {
            _ if request.method() != http::Method::POST => None,
            SUBMIT_JOB => Some(Method::SubmitJob),
            GET_RESULT => Some(Method::GetResult),
            SUBMIT_PROGRAM => Some(Method::SubmitProgram),
            _ => None,
        }
    }

    fn refusal(status: Status) -> Response {
        Failure(status).into_response()
    }

    fn reply(message: Bytes) -> Response {
        ([(CONTENT_TYPE, "application/json")], message).into_response()
    }
}

/// An error of the node, as the gateway passes it on.
struct Failure(Status);

impl From<IntakeRefusal> for Failure {
    fn from(refusal: IntakeRefusal) -> Self {
        match refusal {
            IntakeRefusal::Status(status) => Self(status),
            // What a client of gRPC, which a gateway is, makes of a stream that is reset.
            IntakeRefusal::Die => Self(Status::cancelled("h2 protocol error: http2 error")),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Body<'a> {
            message: &'a str,
            grpc_code: i32,
        }
        let status = match self.0.code() {
            Code::Internal => StatusCode::BAD_REQUEST,
            Code::Unauthenticated => StatusCode::UNAUTHORIZED,
            Code::PermissionDenied => StatusCode::FORBIDDEN,
            Code::Unimplemented => StatusCode::NOT_FOUND,
            Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Code::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::CONFLICT,
        };
        (status, Json(Body { message: self.0.message(), grpc_code: self.0.code() as i32 })).into_response()
    }
}

/// Refuses a message that tonic would refuse, in its words.
fn fits<M: Message>(message: M) -> Result<M, Failure> {
    let length = message.encoded_len();
    if length > MESSAGE_LIMIT {
        let text = format!(
            "Error, decoded message length too large: found {length} bytes, the limit is: {MESSAGE_LIMIT} bytes"
        );
        return Err(Failure(Status::out_of_range(text)));
    }
    Ok(message)
}

async fn submit_job<J, M>(
    State(shared): State<Arc<NodeCore>>,
    First(body): First<J>,
) -> Result<Json<SubmitJobResponse>, Failure>
where
    J: Into<M>,
    M: Message + Into<RawSubmission>,
{
    let id = shared.submit_job(fits(body.into())?.into()).await?;
    Ok(Json(SubmitJobResponse::from(id)))
}

async fn get_result(
    State(shared): State<Arc<NodeCore>>,
    First(body): First<json::GetResultRequest>,
) -> Result<Json<json::GetResultResponse>, Failure> {
    // This message is the same in both revisions.
    let message = fits(state::GetResultRequest { job_id: body.job_id.into() })?;
    let record = shared.get_result(&message.job_id)?;
    match shared.revision {
        Revision::State => drop(fits(grpc_state::result_response(record.clone()))?),
        _ => drop(fits(grpc_relay::result_response(record.clone()))?),
    }
    Ok(Json(json::GetResultResponse::new(shared.revision, record)))
}

async fn submit_program<J, M>(
    State(shared): State<Arc<NodeCore>>,
    First(body): First<J>,
) -> Result<Json<SubmitProgramResponse>, Failure>
where
    J: Into<M>,
    M: Message + Into<RawProgram>,
{
    let id = shared.submit_program(&fits(body.into())?.into())?;
    Ok(Json(SubmitProgramResponse::from(id)))
}

/// The JSON value that a body begins with. What follows it is not looked at: the reader of the real gateways stops
/// where the value ends, and axum's has looked further since then. All refusals are axum's own.
struct First<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for First<T> {
    type Rejection = JsonRejection;

    async fn from_request(request: Request, state: &S) -> Result<Self, JsonRejection> {
        let (parts, body) = request.into_parts();
        let bytes = Bytes::from_request(Request::from_parts(parts.clone(), body), state).await?;
        let request = Request::from_parts(parts, bytes.clone().into());
        let refused = match Json::from_request(request, state).await {
            Ok(Json(value)) => return Ok(Self(value)),
            Err(refused) => refused,
        };
        let mut values = serde_json::Deserializer::from_slice(&bytes).into_iter::<IgnoredAny>();
        match (&refused, values.next()) {
            (JsonRejection::JsonSyntaxError(_), Some(Ok(_))) => {
                Json::from_bytes(&bytes[..values.byte_offset()]).map(|Json(value)| Self(value))
            }
            _ => Err(refused),
        }
    }
}

/// Reads the body to its end before anything is done with the request, as a gateway does before it forwards it. A
/// server of HTTP/1.1 does not notice that its client goes away while there is body left to read.
async fn whole(parts: Parts, body: Bytes, next: Next) -> Response {
    next.run(Request::from_parts(parts, body.into())).await
}

fn router<Job, JobMessage, Program, ProgramMessage>(shared: &Arc<NodeCore>) -> Router
where
    Job: DeserializeOwned + Into<JobMessage> + Send + 'static,
    JobMessage: Message + Into<RawSubmission> + 'static,
    Program: DeserializeOwned + Into<ProgramMessage> + Send + 'static,
    ProgramMessage: Message + Into<RawProgram> + 'static,
{
    Router::new()
        .route(SUBMIT_JOB, post(submit_job::<Job, JobMessage>))
        .route(GET_RESULT, post(get_result))
        .route(SUBMIT_PROGRAM, post(submit_program::<Program, ProgramMessage>))
        .layer(from_fn_with_state(Arc::clone(shared), twisted::<Rest>))
        .layer(from_fn(whole))
        .layer(DefaultBodyLimit::disable())
        .with_state(Arc::clone(shared))
}

/// Serves the gateway, by HTTP/1.1 and by HTTP/2 without an upgrade, until the future is dropped.
pub(super) fn serve(shared: &Arc<NodeCore>, listener: TcpListener) -> impl Future<Output = ()> + Send + 'static {
    let router = match shared.revision {
        Revision::State => {
            router::<json::StateJob, state::SubmitJobRequest, json::StateProgram, state::SubmitProgramRequest>(shared)
        }
        _ => router::<json::RelayJob, relay::SubmitJobRequest, json::RelayProgram, relay::SubmitProgramRequest>(shared),
    };
    let mut incoming = Incoming::new(listener, shared);
    async move {
        while let Some(accepted) = incoming.next().await {
            let Ok(socket) = accepted else { continue };
            let router = router.clone().layer(Extension(Arc::clone(&socket.connection)));
            tokio::spawn(async move {
                // Errors end their connection alone.
                let _ = auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(socket), TowerToHyperService::new(router))
                    .await;
            });
        }
    }
}
