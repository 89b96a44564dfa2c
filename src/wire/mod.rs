//! Everything that differs by protocol revision: values to request bytes, response bytes to values. No I/O.
//!
//! A [`Wire`] is made for one revision and one encoding; a transport does not know which. Decoding is strict about what
//! has a meaning: ids and hashes have 32 bytes, addresses 20, and a record has a status. It is tolerant of what may
//! grow: unknown fields and enum values. So a message of one revision that is read as the other fails, and does not
//! mislead.

mod fields;
pub(crate) mod generated;
mod json;
mod proto;
pub(crate) mod reflection;
pub(crate) mod refusal;
mod relay;
mod state;
mod writer;

use alloy_primitives::{Address, hex};
use bytes::Bytes;

use self::{
    fields::{bad, hash},
    json::BytesForm,
    writer::Writer,
};
use crate::{
    error::{Error, ErrorKind},
    job::{JobId, JobRecord, ProgramId, Revision, SignedJob, VmType},
    rpc::{Encoding, Method, RequestBody},
};

/// How an ELF begins.
const ELF_MAGIC: &[u8] = b"\x7fELF";

/// How RISC Zero's combined form begins: the ELF of a program and that of its kernel, as its toolchain writes them
/// since version 2.
const COMBINED_MAGIC: &[u8] = b"R0BF";

/// A program to upload.
#[derive(Clone, Debug)]
pub struct ProgramUpload {
    elf: alloy_primitives::Bytes,
    vm: VmType,
    id: Option<ProgramId>,
}

impl ProgramUpload {
    /// A program for SP1. In the Relay revision it needs its id, which its verifying key gives:
    /// [`with_id`](Self::with_id). In the State revision the node derives the id, and the client compares it with the
    /// one you give.
    #[must_use]
    pub fn sp1(elf: impl Into<alloy_primitives::Bytes>) -> Self {
        Self { elf: elf.into(), vm: VmType::Sp1, id: None }
    }

    /// A program for RISC Zero (State revision only): an ELF, or RISC Zero's combined form of one, which begins with
    /// `R0BF`.
    #[must_use]
    pub fn risc0(elf: impl Into<alloy_primitives::Bytes>) -> Self {
        Self { elf: elf.into(), vm: VmType::Risc0, id: None }
    }

    /// The id that the program must have. Required in the Relay revision.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<ProgramId>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Refuses a file that does not begin as an ELF does, nor as RISC Zero's own form of one if it is for that.
    pub(crate) fn check_magic(&self) -> Result<(), Error> {
        let refused = |what: String, hint| Err(Error::new(ErrorKind::InvalidInput, what).with_hint(hint));
        match (self.elf.starts_with(ELF_MAGIC), self.elf.starts_with(COMBINED_MAGIC), self.vm) {
            (true, ..) | (_, true, VmType::Risc0) => Ok(()),
            (_, true, _) => refused(
                "the program is for RISC Zero: it begins as its combined form does, with R0BF".to_owned(),
                "upload it by ProgramUpload::risc0, to a node of the State revision",
            ),
            (false, false, _) => {
                let start = &self.elf[..self.elf.len().min(ELF_MAGIC.len())];
                refused(
                    format!("the program is not an ELF file: it begins with 0x{}", hex::encode(start)),
                    "give the bytes of the guest's ELF, which begin with 0x7f454c46 (RISC Zero's may with R0BF): not a path, an \
                     archive or hex",
                )
            }
        }
    }

    /// The id the program must have, if it was told.
    #[must_use]
    pub fn id(&self) -> Option<&ProgramId> {
        self.id.as_ref()
    }
}

/// Encodes requests and decodes responses of one revision, in one encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wire {
    revision: Revision,
    encoding: Encoding,
}

impl Wire {
    /// The codec for a revision over transports of an encoding.
    #[must_use]
    pub fn new(revision: Revision, encoding: Encoding) -> Self {
        Self { revision, encoding }
    }

    /// The revision.
    #[must_use]
    pub fn revision(self) -> Revision {
        self.revision
    }

    /// The encoding.
    #[must_use]
    pub fn encoding(self) -> Encoding {
        self.encoding
    }

    /// Whether the revision and the encoding have the call. REST gateways, which take JSON, have no route for
    /// GetPendingJobs and ContainsProgram. A node may still be too old for a call.
    #[must_use]
    pub fn has(self, method: Method) -> bool {
        match method {
            Method::GetPendingJobs | Method::ContainsProgram => {
                self.revision == Revision::Relay && self.encoding == Encoding::Protobuf
            }
            Method::SubmitJob | Method::GetResult | Method::SubmitProgram => true,
        }
    }

    /// Encodes SubmitJob. Large inputs are not copied.
    ///
    /// # Errors
    /// [`ErrorKind::WrongRevision`] if the job was signed for another revision.
    pub fn submit_job(self, job: &SignedJob) -> Result<RequestBody, Error> {
        job.check_revision(self.revision)?;
        let mut message = Writer::new(self.encoding, BytesForm::Numbers);
        message.bytes(1, "request", &job.request().0);
        message.bytes(2, "signature", &job.signature().0);
        message.bytes(3, "offchainInput", &job.offchain_input().0);
        match self.revision {
            Revision::State => message.bytes(4, "state", &job.state().0),
            Revision::Relay => message.enumeration(4, "relayStrategy", job.relay_strategy().as_i32()),
        }
        Ok(message.finish())
    }

    /// Decodes the response of SubmitJob.
    ///
    /// # Errors
    /// [`ErrorKind::BadResponse`] unless it holds an id of 32 bytes.
    pub fn submit_job_response(self, response: &Bytes) -> Result<JobId, Error> {
        const M: Method = Method::SubmitJob;
        let message: generated::state::SubmitJobResponse = match self.encoding {
            Encoding::Protobuf => proto::decode(M, response)?,
            Encoding::Json => json::submit_job_response(response)?,
        };
        Ok(hash(M, "job_id", &message.job_id)?.into())
    }

    /// Encodes GetResult.
    #[must_use]
    pub fn get_result(self, id: JobId) -> RequestBody {
        let mut message = Writer::new(self.encoding, BytesForm::Numbers);
        message.bytes(1, "jobId", &Bytes::copy_from_slice(id.as_bytes()));
        message.finish()
    }

    /// Decodes the response of GetResult.
    ///
    /// # Errors
    /// [`ErrorKind::BadResponse`] if a field is missing or has the wrong length, as it is when the node speaks the
    /// other revision.
    pub fn get_result_response(self, response: &Bytes) -> Result<JobRecord, Error> {
        const M: Method = Method::GetResult;
        let record = match (self.revision, self.encoding) {
            (Revision::State, Encoding::Protobuf) => state::record(proto::decode(M, response)?),
            (Revision::State, Encoding::Json) => state::record(json::state_result(response)?),
            (Revision::Relay, Encoding::Protobuf) => relay::record(proto::decode(M, response)?),
            (Revision::Relay, Encoding::Json) => relay::record(json::relay_result(response)?),
        };
        record.map_err(|error| error.with_hint(self.hint_revision()))
    }

    /// Encodes SubmitProgram.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for an empty ELF or a missing id; [`ErrorKind::Unsupported`] for a virtual machine
    /// that the revision lacks.
    pub fn submit_program(self, program: &ProgramUpload) -> Result<RequestBody, Error> {
        if program.elf.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "the program's ELF is empty")
                .with_hint("pass the bytes of the compiled guest program"));
        }
        if program.id.as_ref().is_some_and(|id| id.as_bytes().is_empty()) {
            return Err(Error::new(ErrorKind::InvalidInput, "the program's id is empty")
                .with_hint("pass the id to `with_id`, or leave it out in the State revision"));
        }
        let mut message = Writer::new(self.encoding, BytesForm::Hex);
        message.bytes(1, "programElf", &program.elf.0);
        match self.revision {
            Revision::State => message.enumeration(2, "vmType", state::vm_type(program.vm).into()),
            Revision::Relay => {
                let (id, vm_type) = relay::program(program.vm, program.id.as_ref())?;
                message.bytes(2, "programId", &id.as_bytes().0);
                message.enumeration(3, "vmType", vm_type.into());
            }
        }
        Ok(message.finish())
    }

    /// Decodes the response of SubmitProgram.
    ///
    /// # Errors
    /// [`ErrorKind::BadResponse`] if the id is empty.
    pub fn submit_program_response(self, response: &Bytes) -> Result<ProgramId, Error> {
        const M: Method = Method::SubmitProgram;
        let message: generated::state::SubmitProgramResponse = match self.encoding {
            Encoding::Protobuf => proto::decode(M, response)?,
            Encoding::Json => json::submit_program_response(response)?,
        };
        if message.program_id.is_empty() {
            return Err(bad(M, "program_id is empty"));
        }
        Ok(ProgramId::new(message.program_id))
    }

    /// Encodes GetPendingJobs.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] in the State revision, and in JSON.
    pub fn get_pending_jobs(self, consumer: Address) -> Result<RequestBody, Error> {
        self.require(Method::GetPendingJobs)?;
        Ok(proto::encode(&generated::relay::GetPendingJobsRequest {
            consumer_address: Bytes::copy_from_slice(consumer.as_slice()),
        }))
    }

    /// Decodes the response of GetPendingJobs: nonces, in no particular order.
    ///
    /// # Errors
    /// [`ErrorKind::BadResponse`] if it is not such a message; [`ErrorKind::TooLarge`] if it lists more than 65,536
    /// jobs; [`ErrorKind::Unsupported`] as for the request.
    pub fn get_pending_jobs_response(self, response: &Bytes) -> Result<Vec<u64>, Error> {
        self.require(Method::GetPendingJobs)?;
        proto::pending_jobs(response)
    }

    /// Encodes ContainsProgram.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] in the State revision, and in JSON.
    pub fn contains_program(self, id: &ProgramId) -> Result<RequestBody, Error> {
        self.require(Method::ContainsProgram)?;
        Ok(proto::encode(&generated::relay::ContainsProgramRequest { program_id: id.as_bytes().0.clone() }))
    }

    /// Decodes the response of ContainsProgram.
    ///
    /// # Errors
    /// [`ErrorKind::BadResponse`] if it is not such a message; [`ErrorKind::Unsupported`] as for the request.
    pub fn contains_program_response(self, response: &Bytes) -> Result<bool, Error> {
        self.require(Method::ContainsProgram)?;
        let message: generated::relay::ContainsProgramResponse = proto::decode(Method::ContainsProgram, response)?;
        Ok(message.contains)
    }

    fn require(self, method: Method) -> Result<(), Error> {
        if self.has(method) {
            return Ok(());
        }
        let (text, hint) = match self.revision {
            Revision::State => (
                format!("the {} revision has no {method}", self.revision),
                "only nodes of the Relay revision have this call",
            ),
            Revision::Relay => (
                format!("the nodes' REST gateway has no route for {method}"),
                "make this call over gRPC; submitting jobs and waiting for them does without it",
            ),
        };
        Err(Error::new(ErrorKind::Unsupported, text).with_hint(hint))
    }

    fn hint_revision(self) -> String {
        format!("the client was told the node speaks the {} revision; check that", self.revision)
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::{error::Outcome, job::JobStatus};

    fn record() -> generated::relay::JobResult {
        generated::relay::JobResult {
            id: vec![1; 32].into(),
            consumer_address: vec![2; 20].into(),
            offchain_input_hash: vec![3; 32].into(),
            status: Some(generated::relay::JobStatus { status: 1, failure_reason: None, retries: 0 }),
            ..Default::default()
        }
    }

    fn read(record: generated::relay::JobResult) -> Result<JobRecord, Error> {
        let message = generated::relay::GetResultResponse { job_result: Some(record) };
        Wire::new(Revision::Relay, Encoding::Protobuf).get_result_response(&message.encode_to_vec().into())
    }

    #[test]
    fn lengths_are_strict() {
        assert!(read(record()).is_ok());
        type Change = fn(&mut generated::relay::JobResult);
        let changes: [(&str, Change); 8] = [
            ("id has 31", |record| record.id.truncate(31)),
            ("id has 0", |record| record.id.clear()),
            ("consumer_address has 0", |record| record.consumer_address.clear()),
            ("consumer_address has 32", |record| record.consumer_address = vec![0; 32].into()),
            ("offchain_input_hash has 65", |record| record.offchain_input_hash = vec![0; 65].into()),
            ("offchain_input_hash has 0", |record| record.offchain_input_hash.clear()),
            ("relay_tx_hash has 2", |record| record.relay_tx_hash = vec![8, 1].into()),
            ("no status", |record| record.status = None),
        ];
        for (reason, change) in changes {
            let mut record = record();
            change(&mut record);
            let error = read(record).expect_err(reason);
            assert_eq!(error.kind(), ErrorKind::BadResponse);
            assert!(error.to_string().contains(reason), "{error}");
        }
    }

    #[test]
    fn what_may_grow_is_tolerated() {
        let message = generated::relay::GetResultResponse { job_result: Some(record()) };
        let mut bytes = message.encode_to_vec();
        // Field 99 of every wire type: varint, 64 bits, bytes, 32 bits.
        bytes.extend([0x98, 0x06, 7, 0x99, 0x06, 1, 2, 3, 4, 5, 6, 7, 8, 0x9a, 0x06, 1, 9, 0x9d, 0x06, 1, 2, 3, 4]);
        let wire = Wire::new(Revision::Relay, Encoding::Protobuf);
        assert_eq!(*wire.get_result_response(&bytes.into()).expect("reads").status(), JobStatus::Pending);

        for number in [0, 5, 42, -1] {
            let mut unknown = record();
            unknown.status = Some(generated::relay::JobStatus { status: number, failure_reason: None, retries: 0 });
            assert_eq!(*read(unknown).expect("reads").status(), JobStatus::Unrecognized(number));
        }
    }

    #[test]
    fn what_a_revision_or_an_encoding_lacks_is_refused_before_any_io() {
        let cells = [
            (Revision::State, Encoding::Protobuf, "the state revision has no"),
            (Revision::State, Encoding::Json, "the state revision has no"),
            (Revision::Relay, Encoding::Json, "REST gateway has no route for"),
        ];
        for (revision, encoding, text) in cells {
            let wire = Wire::new(revision, encoding);
            let errors = [
                (Method::GetPendingJobs, wire.get_pending_jobs(Address::ZERO).err()),
                (Method::GetPendingJobs, wire.get_pending_jobs_response(&Bytes::new()).err()),
                (Method::ContainsProgram, wire.contains_program(&ProgramId::new(vec![1])).err()),
                (Method::ContainsProgram, wire.contains_program_response(&Bytes::new()).err()),
            ];
            for (method, error) in errors {
                assert!(!wire.has(method));
                let error = error.expect("refused");
                assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unsupported, Outcome::NotSent));
                assert!(error.to_string().contains(text) && error.to_string().contains(method.name()), "{error}");
            }
        }
        assert!(Method::ALL.iter().all(|method| Wire::new(Revision::Relay, Encoding::Protobuf).has(*method)));
    }
}
