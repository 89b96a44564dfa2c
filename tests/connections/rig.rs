//! A node on a runtime of its own, and clients that reach it in every way there is.

use infinityvm_sdk::{
    Client, LocalSigner, OffchainJobRequest, ProgramId, RetryPolicy, Revision,
    client::ClientBuilder,
    devnode::{ConsumerRules, DevNode, ProgramOutput},
    primitives::Address,
    transport::{GrpcTransport, RestTransport},
};
pub use support::harness::within;
use tokio::runtime::{Builder, Runtime};

pub const CONSUMER: Address = Address::repeat_byte(0xc0);

/// The ways to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Grpc,
    Rest,
    /// REST over HTTP/2.
    RestH2,
}

impl Way {
    pub const ALL: [Self; 3] = [Self::Grpc, Self::Rest, Self::RestH2];
}

pub fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// A runtime whose clock stands still while it has work to do, and jumps on when it has none.
pub fn paused() -> Runtime {
    Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

pub fn multi_thread() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// A node on a runtime of its own, which outlives those of the tests.
pub struct Home {
    pub node: DevNode,
    pub signer: LocalSigner,
    pub program: ProgramId,
    _runtime: Runtime,
}

impl Home {
    pub fn new() -> Self {
        let runtime = multi_thread();
        let signer = LocalSigner::random().unwrap();
        let rules = ConsumerRules::signed_by(signer.address());
        let node = DevNode::builder(Revision::Relay).consumer(CONSUMER, rules);
        let node = runtime.block_on(node.start()).unwrap();
        let program = ProgramId::new(node.register_program(|input| Ok(ProgramOutput::new(input.onchain.to_vec()))));
        Self { node, signer, program, _runtime: runtime }
    }

    pub fn client(&self, way: Way) -> ClientBuilder {
        let builder = Client::builder().revision(Revision::Relay).retry(RetryPolicy::none());
        let builder = builder.signer(self.signer.clone()).operator(self.node.operator());
        let rest = || RestTransport::builder(self.node.rest_url());
        match way {
            Way::Grpc => builder.transport(GrpcTransport::builder(self.node.grpc_url()).build().unwrap()),
            Way::Rest => builder.transport(rest().build().unwrap()),
            Way::RestH2 => builder.transport(rest().http2_prior_knowledge().build().unwrap()),
        }
    }

    pub fn job(&self) -> OffchainJobRequest {
        OffchainJobRequest::builder(CONSUMER, self.program.clone())
            .max_cycles(1000)
            .onchain_input(b"x")
            .build()
            .unwrap()
    }
}
