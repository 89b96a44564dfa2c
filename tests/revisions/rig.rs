//! A transport whose answers about itself are a test's own, and descriptors to make such answers of.

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use infinityvm_sdk::{
    Client, LocalSigner, OffchainJobRequest, ProgramId, Result, Revision,
    client::ClientBuilder,
    devnode::{ConsumerRules, DevNode, DevNodeBuilder},
    nonce::Sequential,
    primitives::Address,
    rpc::{CallError, CallFailure, Capabilities, Encoding, Method, Reflection, RequestBody, StatusCode},
    transport::{GrpcTransport, Transport},
};
use prost::Message;
pub use protox::prost_reflect::prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};
use tokio::sync::Semaphore;

pub const CONSUMER: Address = Address::repeat_byte(7);
pub const SERVICE: &str = "coprocessor_node.v1.CoprocessorNode";
pub const MESSAGE: &str = "coprocessor_node.v1.SubmitJobRequest";

pub fn other(revision: Revision) -> Revision {
    if revision == Revision::State { Revision::Relay } else { Revision::State }
}

pub fn signer() -> LocalSigner {
    LocalSigner::from_slice(&[1; 32]).unwrap()
}

/// A node and the id of a program that it knows.
pub async fn node(revision: Revision, setup: impl FnOnce(DevNodeBuilder) -> DevNodeBuilder) -> (DevNode, ProgramId) {
    let rules = ConsumerRules::signed_by(signer().address());
    let node = setup(DevNode::builder(revision).consumer(CONSUMER, rules)).start().await.unwrap();
    let program = ProgramId::new(node.register_program(|input| Ok(input.onchain.to_vec())));
    (node, program)
}

pub fn builder() -> ClientBuilder {
    Client::builder().signer(signer()).nonces(Sequential::starting_at(1))
}

pub fn job(program: &ProgramId) -> OffchainJobRequest {
    OffchainJobRequest::builder(CONSUMER, program.clone()).max_cycles(1000).onchain_input(vec![1, 2]).build().unwrap()
}

/// What comes of asking the double what it serves.
pub enum Answer {
    /// What the node behind it says.
    Node,
    Says(Bytes),
    Fails(CallFailure),
    Never,
    /// As the node says, once the test lets it.
    Held(Arc<Semaphore>),
}

pub fn status(code: StatusCode) -> Answer {
    Answer::Fails(CallFailure::Status(code))
}

type Script = Box<dyn Fn(usize, Reflection) -> Answer + Send + Sync>;

/// Answers questions as a script says, by their number from 0. Calls go to the node, or nowhere.
#[derive(Clone)]
pub struct Double(Arc<Inner>);

struct Inner {
    node: Option<GrpcTransport>,
    script: Script,
    asked: Mutex<Vec<(Reflection, Bytes)>>,
    asking: AtomicUsize,
    most_at_once: AtomicUsize,
    calls: Mutex<Vec<Method>>,
    /// Calls that are still to go nowhere.
    lose: AtomicUsize,
    /// Calls are refused, and do not go nowhere.
    refuses: AtomicBool,
}

impl Double {
    pub fn of(node: Option<&DevNode>, script: impl Fn(usize, Reflection) -> Answer + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner {
            node: node.map(|node| GrpcTransport::builder(node.grpc_url()).build().unwrap()),
            script: Box::new(script),
            asked: Mutex::default(),
            asking: AtomicUsize::new(0),
            most_at_once: AtomicUsize::new(0),
            calls: Mutex::default(),
            lose: AtomicUsize::new(0),
            refuses: AtomicBool::new(false),
        }))
    }

    /// Gives these answers in turn, and then knows no symbol any more.
    pub fn saying(answers: Vec<Bytes>) -> Self {
        Self::of(None, move |at, _| {
            answers.get(at).map_or_else(|| status(StatusCode::NOT_FOUND), |answer| Answer::Says(answer.clone()))
        })
    }

    /// Sends so many calls nowhere before the node gets any.
    pub fn losing(self, calls: usize) -> Self {
        self.0.lose.store(calls, SeqCst);
        self
    }

    /// Refuses the calls that would go nowhere.
    pub fn refusing(self) -> Self {
        self.0.refuses.store(true, SeqCst);
        self
    }

    /// The questions so far.
    pub fn asked(&self) -> Vec<(Reflection, Bytes)> {
        self.0.asked.lock().unwrap().clone()
    }

    pub fn protocols(&self) -> Vec<Reflection> {
        self.asked().into_iter().map(|(protocol, _)| protocol).collect()
    }

    /// The symbols asked for.
    pub fn symbols(&self) -> Vec<String> {
        self.asked()
            .into_iter()
            .map(|(_, question)| Question::decode(question).unwrap().file_containing_symbol)
            .collect()
    }

    pub fn most_at_once(&self) -> usize {
        self.0.most_at_once.load(SeqCst)
    }

    pub fn calls(&self) -> Vec<Method> {
        self.0.calls.lock().unwrap().clone()
    }
}

impl fmt::Debug for Double {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Double")
    }
}

struct Asking<'a>(&'a AtomicUsize);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

#[async_trait]
impl Transport for Double {
    fn encoding(&self) -> Encoding {
        Encoding::Protobuf
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::ALL
    }

    fn endpoint(&self) -> &str {
        "double"
    }

    async fn call(&self, method: Method, body: RequestBody) -> Result<Bytes, CallError> {
        self.0.calls.lock().unwrap().push(method);
        let lost = self.0.lose.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
        match &self.0.node {
            Some(node) if !lost => node.call(method, body).await,
            _ if self.0.refuses.load(SeqCst) => {
                Err(CallError::new(CallFailure::Status(StatusCode::INVALID_ARGUMENT), "no"))
            }
            _ => Err(CallError::new(CallFailure::NotSent, "there is no node")),
        }
    }

    async fn reflect(&self, protocol: Reflection, request: RequestBody) -> Result<Bytes, CallError> {
        let question: Vec<u8> = request.clone().into_chunks().flatten().collect();
        let at = {
            let mut asked = self.0.asked.lock().unwrap();
            asked.push((protocol, question.into()));
            asked.len() - 1
        };
        self.0.most_at_once.fetch_max(self.0.asking.fetch_add(1, SeqCst) + 1, SeqCst);
        let _asking = Asking(&self.0.asking);
        let node = || self.0.node.as_ref().expect("a node to ask");
        match (self.0.script)(at, protocol) {
            Answer::Node => node().reflect(protocol, request).await,
            Answer::Says(answer) => Ok(answer),
            Answer::Fails(failure) => Err(CallError::new(failure, "so says the script")),
            Answer::Never => std::future::pending().await,
            Answer::Held(gate) => {
                gate.acquire().await.unwrap().forget();
                node().reflect(protocol, request).await
            }
        }
    }
}

#[derive(Clone, PartialEq, Message)]
struct Question {
    #[prost(string, tag = "4")]
    file_containing_symbol: String,
}

#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(string, tag = "1")]
    valid_host: String,
    #[prost(message, optional, tag = "4")]
    files: Option<Files>,
    #[prost(message, optional, tag = "7")]
    error: Option<Refusal>,
}

#[derive(Clone, PartialEq, Message)]
struct Files {
    #[prost(bytes = "vec", repeated, tag = "1")]
    files: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct Refusal {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

/// The answer with these files.
pub fn answer(files: &[FileDescriptorProto]) -> Bytes {
    answer_raw(files.iter().map(Message::encode_to_vec).collect())
}

pub fn answer_raw(files: Vec<Vec<u8>>) -> Bytes {
    Response { valid_host: "host".into(), files: Some(Files { files }), error: None }.encode_to_vec().into()
}

/// The answer of a server that refuses within the stream.
pub fn refusal(code: i32, message: &str) -> Bytes {
    let error = Some(Refusal { code, message: message.into() });
    Response { valid_host: String::new(), files: None, error }.encode_to_vec().into()
}

/// The file that nodes of the revision have.
pub fn file(revision: Revision) -> FileDescriptorProto {
    let set: &[u8] = match revision {
        Revision::State => include_bytes!("../../src/wire/generated/state.bin"),
        _ => include_bytes!("../../src/wire/generated/relay.bin"),
    };
    let [file] = &FileDescriptorSet::decode(set).unwrap().file[..] else { panic!("more than one file") };
    file.clone()
}

pub fn message<'a>(file: &'a mut FileDescriptorProto, name: &str) -> &'a mut DescriptorProto {
    file.message_type.iter_mut().find(|message| message.name() == name).unwrap()
}

/// Field 4 of SubmitJobRequest.
pub fn field_4(file: &mut FileDescriptorProto) -> &mut FieldDescriptorProto {
    message(file, "SubmitJobRequest").field.iter_mut().find(|field| field.number() == 4).unwrap()
}

pub fn without_calls(file: &mut FileDescriptorProto, calls: &[&str]) {
    file.service[0].method.retain(|method| !calls.contains(&method.name()));
}

/// Connects without a revision to a node that gives these answers.
pub async fn connect(answers: Vec<Bytes>) -> Result<Client> {
    builder().transport(Double::saying(answers)).connect().await
}
