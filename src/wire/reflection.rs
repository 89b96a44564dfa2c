//! Which revision a node speaks: its answer to gRPC server reflection, read. No I/O.
//!
//! Both revisions have the same package and names; what tells them apart is field 4 of `SubmitJobRequest`: bytes named
//! `state`, or an enum named `relay_strategy`. Type and name must both be known, and the service's calls must agree.
//! The answer comes from an untrusted peer: it is bounded, and whatever it is, it gives a description or an error.

use bytes::Bytes;
use prost::Message;

use crate::{
    error::{Error, ErrorKind},
    job::Revision,
    rpc::{CallError, CallFailure, Capabilities, Method, RequestBody, StatusCode},
    text::{one_line, shorten},
};

/// The longest answer that is read, in bytes. A node's has some 2 KB; a message of empty parts takes some 30 times its
/// length in memory.
const MAX_ANSWER: usize = 256 << 10;

const PACKAGE: &str = "coprocessor_node.v1";
const SERVICE: &str = "CoprocessorNode";
const SUBMIT_JOB_REQUEST: &str = "SubmitJobRequest";

/// The number of the field that tells the revisions apart.
const FIELD: i32 = 4;

/// What a node says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeDescription {
    pub(crate) revision: Revision,
    /// The calls it has: older nodes of the Relay revision lack some.
    pub(crate) methods: Capabilities,
}

/// What a node can be asked for. It answers with the file that holds it, and may add files which that one needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Symbol {
    /// The service. Its file is the only one that most nodes have.
    Service,
    /// The message that decides, for servers whose first answer left it out.
    SubmitJobRequest,
}

/// Encodes the question for the file of a symbol. Both versions of the protocol have it in this form.
pub(crate) fn ask(symbol: Symbol) -> RequestBody {
    let name = match symbol {
        Symbol::Service => SERVICE,
        Symbol::SubmitJobRequest => SUBMIT_JOB_REQUEST,
    };
    super::proto::encode(&pb::ServerReflectionRequest { file_containing_symbol: Some(format!("{PACKAGE}.{name}")) })
}

/// What the answers of one node hold so far.
#[derive(Debug, Default)]
pub(crate) struct Descriptors {
    service: Option<pb::ServiceDescriptorProto>,
    request: Option<pb::DescriptorProto>,
}

impl Descriptors {
    /// Reads one answer.
    ///
    /// # Errors
    /// The server's own refusal, as a status; [`CallFailure::BadResponse`] for what is not an answer of this protocol.
    pub(crate) fn read(&mut self, answer: &Bytes) -> Result<(), CallError> {
        if answer.len() > MAX_ANSWER {
            return Err(bad(format!("the answer has {} bytes, more than {MAX_ANSWER}", answer.len())));
        }
        let answer = pb::ServerReflectionResponse::decode(answer.clone()).map_err(undecodable)?;
        if let Some(refusal) = answer.error_response {
            return Err(match u32::try_from(refusal.error_code) {
                Ok(code) if code != 0 => {
                    CallError::new(CallFailure::Status(StatusCode(code)), one_line(&refusal.error_message))
                }
                _ => bad(format!("an error with the status {}", refusal.error_code)),
            });
        }
        let Some(files) = answer.file_descriptor_response else { return Err(bad("the answer holds no files")) };
        for file in files.file_descriptor_proto {
            let file = pb::FileDescriptorProto::decode(file).map_err(undecodable)?;
            // Only what stands directly in the package: a message within another has another name.
            if file.package != PACKAGE {
                continue;
            }
            file.service
                .into_iter()
                .filter(|service| service.name == SERVICE)
                .try_for_each(|service| keep(&mut self.service, service, SERVICE))?;
            file.message_type
                .into_iter()
                .filter(|message| message.name == SUBMIT_JOB_REQUEST)
                .try_for_each(|message| keep(&mut self.request, message, SUBMIT_JOB_REQUEST))?;
        }
        Ok(())
    }

    /// What the answers say; `None` while the service or the message is missing.
    ///
    /// # Errors
    /// [`ErrorKind::WrongRevision`] if they describe neither revision.
    pub(crate) fn decide(&self) -> Result<Option<NodeDescription>, Error> {
        let (Some(service), Some(request)) = (&self.service, &self.request) else { return Ok(None) };
        let mut methods = Capabilities::NONE;
        for method in Method::ALL {
            if service.method.iter().any(|known| known.name == method.name()) {
                methods = methods.with(method);
            }
        }
        // Every revision has these; without GetResult nothing that is submitted could be checked.
        for method in [Method::SubmitJob, Method::GetResult, Method::SubmitProgram] {
            if !methods.contains(method) {
                return Err(neither(format!("there is no {method}")));
            }
        }
        // Otherwise the message would decide about another call.
        let takes = service.method.iter().filter(|method| method.name == Method::SubmitJob.name());
        for other in takes.map(|method| method.input_type.trim_start_matches('.')) {
            if other.strip_prefix(PACKAGE).and_then(|rest| rest.strip_prefix('.')) != Some(SUBMIT_JOB_REQUEST) {
                return Err(neither(format!("SubmitJob takes a {:?}", shorten(other))));
            }
        }
        let mut fields = request.field.iter().filter(|field| field.number == FIELD);
        let revision = match (fields.next(), fields.next()) {
            (None, _) => return Err(neither("SubmitJobRequest has no field 4")),
            (Some(field), None) => field.revision()?,
            (Some(_), Some(_)) => return Err(neither("SubmitJobRequest has more than one field 4")),
        };
        let of_relay = [Method::GetPendingJobs, Method::ContainsProgram].into_iter().find(|it| methods.contains(*it));
        match (revision, of_relay) {
            (Revision::State, Some(method)) => {
                Err(neither(format!("SubmitJobRequest has a state, as in State, but there is {method}, as in Relay")))
            }
            _ => Ok(Some(NodeDescription { revision, methods })),
        }
    }
}

impl pb::FieldDescriptorProto {
    fn revision(&self) -> Result<Revision, Error> {
        match (self.kind, self.name.as_str()) {
            _ if self.label == pb::LABEL_REPEATED => {}
            (pb::TYPE_BYTES, "state") => return Ok(Revision::State),
            (pb::TYPE_ENUM, "relay_strategy") => return Ok(Revision::Relay),
            _ => {}
        }
        let repeated = if self.label == pb::LABEL_REPEATED { "repeated " } else { "" };
        let at = usize::try_from(self.kind).unwrap_or_default();
        let kind = pb::TYPES.get(at).map_or_else(|| format!("type {}", self.kind), |name| (*name).to_owned());
        Err(neither(format!("field 4 of SubmitJobRequest is {repeated}{kind} {:?}", shorten(&self.name))))
    }
}

/// Files may come twice, but must agree.
fn keep<T: PartialEq>(slot: &mut Option<T>, new: T, name: &str) -> Result<(), CallError> {
    match slot {
        Some(old) if *old != new => Err(bad(format!("{name} is described in two ways"))),
        _ => {
            *slot = Some(new);
            Ok(())
        }
    }
}

fn neither(what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::WrongRevision, format!("the node speaks no revision that this release knows: {what}"))
        .with_hint("check that a coprocessor node answers at this endpoint; if it is a newer one, update this crate")
}

fn bad(message: impl Into<String>) -> CallError {
    CallError::new(CallFailure::BadResponse, message)
}

fn undecodable(error: prost::DecodeError) -> CallError {
    bad("not an answer of server reflection").with_source(error)
}

/// What is read of `grpc/reflection/v1/reflection.proto` and `google/protobuf/descriptor.proto`, with their field
/// numbers. Written by hand: prost-types would be one more package for nine small messages.
mod pb {
    use bytes::Bytes;
    use prost::Message;

    /// `FieldDescriptorProto.Label`.
    pub(super) const LABEL_REPEATED: i32 = 3;
    /// `FieldDescriptorProto.Type`.
    pub(super) const TYPE_BYTES: i32 = 12;
    pub(super) const TYPE_ENUM: i32 = 14;
    /// The names of the types, by their numbers.
    pub(super) const TYPES: [&str; 19] = [
        "untyped", "double", "float", "int64", "uint64", "int32", "fixed64", "fixed32", "bool", "string", "group",
        "message", "bytes", "uint32", "enum", "sfixed32", "sfixed64", "sint32", "sint64",
    ];

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct ServerReflectionRequest {
        /// One of several questions, so it is written even if empty.
        #[prost(string, optional, tag = "4")]
        pub(super) file_containing_symbol: Option<String>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct ServerReflectionResponse {
        #[prost(message, optional, tag = "4")]
        pub(super) file_descriptor_response: Option<FileDescriptorResponse>,
        #[prost(message, optional, tag = "7")]
        pub(super) error_response: Option<ErrorResponse>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct FileDescriptorResponse {
        /// Each an encoded [`FileDescriptorProto`].
        #[prost(bytes = "bytes", repeated, tag = "1")]
        pub(super) file_descriptor_proto: Vec<Bytes>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct ErrorResponse {
        /// A status code of gRPC.
        #[prost(int32, tag = "1")]
        pub(super) error_code: i32,
        #[prost(string, tag = "2")]
        pub(super) error_message: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct FileDescriptorProto {
        #[prost(string, tag = "2")]
        pub(super) package: String,
        #[prost(message, repeated, tag = "4")]
        pub(super) message_type: Vec<DescriptorProto>,
        #[prost(message, repeated, tag = "6")]
        pub(super) service: Vec<ServiceDescriptorProto>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct DescriptorProto {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(message, repeated, tag = "2")]
        pub(super) field: Vec<FieldDescriptorProto>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct FieldDescriptorProto {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(int32, tag = "3")]
        pub(super) number: i32,
        #[prost(int32, tag = "4")]
        pub(super) label: i32,
        #[prost(int32, tag = "5")]
        pub(super) kind: i32,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct ServiceDescriptorProto {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(message, repeated, tag = "2")]
        pub(super) method: Vec<MethodDescriptorProto>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct MethodDescriptorProto {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(string, tag = "2")]
        pub(super) input_type: String,
    }
}
