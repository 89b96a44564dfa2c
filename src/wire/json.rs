//! JSON, as the nodes' REST gateways speak it.
//!
//! Written is exactly what they take: every field, also empty ones, and bytes in the [`BytesForm`] of the message. Read
//! is what any of them may answer, in any form of [`forms`], into the messages of protobuf: so one place checks their
//! content. The form is read leniently: hex with or without 0x, arrays of numbers, integers as strings, snake case. The
//! content is read strictly: fields that come twice, doubles, and a `stateHash` in the Relay revision are errors.

mod forms;

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, de::DeserializeOwned};

use self::forms::{Binary, Object};
use super::{
    fields::bad,
    generated::{relay, state},
};
use crate::{
    error::Error,
    rpc::{Method, RequestBody},
    text::{shorten, without_mark},
};

/// How a message's bytes are written.
#[derive(Clone, Copy)]
pub(super) enum BytesForm {
    /// An array of numbers.
    Numbers,
    /// Lower-case hex without 0x.
    Hex,
}

/// Writes the fields of one object; bytes are encoded when the body is read.
pub(super) struct JsonWriter {
    form: BytesForm,
    body: RequestBody,
    small: BytesMut,
}

impl JsonWriter {
    pub(super) fn new(form: BytesForm) -> Self {
        Self { form, body: RequestBody::new(), small: BytesMut::from("{") }
    }

    /// The names are those of the protocol: nothing in them needs escaping.
    fn key(&mut self, name: &str) {
        if self.small != "{" {
            self.small.extend_from_slice(b",");
        }
        for part in ["\"", name, "\":"] {
            self.small.extend_from_slice(part.as_bytes());
        }
    }

    pub(super) fn bytes(&mut self, name: &str, value: &Bytes) {
        self.key(name);
        let (open, close) = match self.form {
            BytesForm::Numbers => ("[", "]"),
            BytesForm::Hex => ("\"", "\""),
        };
        self.small.extend_from_slice(open.as_bytes());
        self.body.push(self.small.split().freeze());
        match self.form {
            BytesForm::Numbers => self.body.push_numbers(value.clone()),
            BytesForm::Hex => self.body.push_hex(value.clone()),
        }
        self.small.extend_from_slice(close.as_bytes());
    }

    pub(super) fn enumeration(&mut self, name: &str, value: i32) {
        self.key(name);
        self.small.extend_from_slice(value.to_string().as_bytes());
    }

    pub(super) fn finish(mut self) -> RequestBody {
        self.small.extend_from_slice(b"}");
        self.body.push(self.small.freeze());
        self.body
    }
}

pub(super) fn submit_job_response(response: &[u8]) -> Result<state::SubmitJobResponse, Error> {
    let answer: JobIdAnswer = read(Method::SubmitJob, response)?;
    Ok(state::SubmitJobResponse { job_id: answer.job_id.0 })
}

pub(super) fn submit_program_response(response: &[u8]) -> Result<state::SubmitProgramResponse, Error> {
    let answer: ProgramIdAnswer = read(Method::SubmitProgram, response)?;
    Ok(state::SubmitProgramResponse { program_id: answer.program_id.0 })
}

/// The record as a revision's own message: the same fields in both, and those that only this revision has.
macro_rules! job_result {
    ($revision:ident, $job:ident $(, $field:ident: $value:expr)?) => {
        $revision::JobResult {
            id: $job.id.0,
            nonce: $job.nonce,
            max_cycles: $job.max_cycles,
            consumer_address: $job.consumer_address.0,
            program_id: $job.program_id.0,
            onchain_input: $job.onchain_input.0,
            offchain_input_hash: $job.offchain_input_hash.0,
            $($field: $value,)?
            request_signature: $job.request_signature.0,
            result_with_metadata: $job.result_with_metadata.0,
            zkvm_operator_signature: $job.zkvm_operator_signature.0,
            status: $job.status.map(|Object(status)| $revision::JobStatus {
                status: status.status,
                failure_reason: status.failure_reason,
                retries: status.retries,
            }),
            relay_tx_hash: $job.relay_tx_hash.0,
        }
    };
}

pub(super) fn state_result(response: &[u8]) -> Result<state::GetResultResponse, Error> {
    let answer: ResultAnswer = read(Method::GetResult, response)?;
    let job_result =
        answer.job_result.map(|Object(job)| job_result!(state, job, state_hash: job.state_hash.unwrap_or_default().0));
    Ok(state::GetResultResponse { job_result })
}

/// Names make visible what numbers hide: a record of the State revision holds a field that this one lacks.
pub(super) fn relay_result(response: &[u8]) -> Result<relay::GetResultResponse, Error> {
    let answer: ResultAnswer = read(Method::GetResult, response)?;
    if answer.job_result.as_ref().is_some_and(|Object(job)| job.state_hash.is_some()) {
        return Err(bad(Method::GetResult, "the record holds a state_hash, which only the State revision has"));
    }
    let job_result = answer.job_result.map(|Object(job)| job_result!(relay, job));
    Ok(relay::GetResultResponse { job_result })
}

/// Reads the one object that a response is. What serde says of a value may repeat the value, so it is cut short.
fn read<T: DeserializeOwned>(method: Method, response: &[u8]) -> Result<T, Error> {
    let bad = |source: String| bad(method, "not a JSON message of this call").with_source(shorten(&source).to_owned());
    let text = std::str::from_utf8(without_mark(response)).map_err(|error| bad(error.to_string()))?;
    let Object(answer) = serde_json::from_str(text).map_err(|error| bad(error.to_string()))?;
    Ok(answer)
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct JobIdAnswer {
    #[serde(alias = "job_id")]
    job_id: Binary,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ProgramIdAnswer {
    #[serde(alias = "program_id")]
    program_id: Binary,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ResultAnswer {
    #[serde(alias = "job_result")]
    job_result: Option<Object<Record>>,
}

/// `JobResult` of either revision.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Record {
    id: Binary,
    #[serde(deserialize_with = "forms::integer")]
    nonce: u64,
    #[serde(alias = "max_cycles", deserialize_with = "forms::integer")]
    max_cycles: u64,
    #[serde(alias = "consumer_address")]
    consumer_address: Binary,
    #[serde(alias = "program_id")]
    program_id: Binary,
    #[serde(alias = "onchain_input")]
    onchain_input: Binary,
    #[serde(alias = "offchain_input_hash")]
    offchain_input_hash: Binary,
    #[serde(alias = "state_hash")]
    state_hash: Option<Binary>,
    #[serde(alias = "request_signature")]
    request_signature: Binary,
    #[serde(alias = "result_with_metadata")]
    result_with_metadata: Binary,
    #[serde(alias = "zkvm_operator_signature")]
    zkvm_operator_signature: Binary,
    status: Option<Object<Status>>,
    #[serde(alias = "relay_tx_hash")]
    relay_tx_hash: Binary,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    #[serde(deserialize_with = "forms::job_status_type")]
    status: i32,
    #[serde(alias = "failure_reason")]
    failure_reason: Option<String>,
    #[serde(deserialize_with = "forms::integer")]
    retries: u32,
}
