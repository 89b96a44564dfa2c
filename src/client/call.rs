//! One call to the node: capability, transport, error.

use std::{result, sync::Arc};

use bytes::Bytes;

use super::Inner;
use crate::{
    error::{Error, ErrorKind, Outcome, Result},
    job::{JobId, JobRecord},
    rpc::{CallError, Method, RequestBody},
    wire::refusal,
};

impl Inner {
    /// Calls the node. The outer error is about the call itself, the inner one is the node's or the network's.
    pub(super) async fn raw_call(&self, method: Method, body: RequestBody) -> Result<result::Result<Bytes, CallError>> {
        if !self.transport.capabilities().contains(method) {
            return Err(Error::new(ErrorKind::Unsupported, format!("this transport has no {method}"))
                .with_endpoint(self.transport.endpoint())
                .with_hint("use the gRPC transport"));
        }
        self.at_endpoint(self.node.require(method))?;
        if !method.must_run_to_end() {
            return Ok(self.transport.call(method, body).await);
        }
        self.at_endpoint(super::require_runtime())?;
        // Abandoning these calls can kill the node's task for the consumer, so they outlive their caller.
        let transport = Arc::clone(&self.transport);
        tokio::spawn(async move { transport.call(method, body).await }).await.map_err(|source| {
            Error::new(ErrorKind::Closed, format!("{method} was cut off"))
                .with_outcome(Outcome::Unknown)
                .with_endpoint(self.transport.endpoint())
                .with_source(source)
                .with_hint("the Tokio runtime shut down during the call, or the transport panicked")
        })
    }

    pub(super) async fn call(&self, method: Method, body: RequestBody) -> Result<Bytes> {
        self.raw_call(method, body).await?.map_err(|failure| self.error(method, failure))
    }

    pub(super) async fn get_result(&self, id: JobId) -> Result<JobRecord> {
        let get = async {
            let response = self.call(Method::GetResult, self.wire.get_result(id)).await?;
            let record = self.at_endpoint(self.wire.get_result_response(&response))?;
            if record.id() != id {
                return Err(Error::new(ErrorKind::BadResponse, format!("the node answers with job {}", record.id()))
                    .with_outcome(Outcome::Unknown)
                    .with_endpoint(self.transport.endpoint())
                    .with_hint("this is the record of another job than was asked for: do not trust this node"));
            }
            Ok(record)
        };
        get.await.map_err(|error: Error| error.with_job(id))
    }

    pub(super) fn error(&self, method: Method, failure: CallError) -> Error {
        refusal::error(method, failure, self.transport.endpoint())
    }

    pub(super) fn at_endpoint<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| error.with_endpoint(self.transport.endpoint()))
    }
}
