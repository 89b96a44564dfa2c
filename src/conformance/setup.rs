//! What every case starts from: a node, a transport to it, and a client that does everything once.

use std::{fmt, sync::Arc, time::Duration};

use alloy_primitives::{Address, Bytes};

use super::failure::{CaseResult, Failure};
use crate::{
    client::{Client, JobHandle, RetryPolicy, Until},
    devnode::{ConsumerRules, DevNode, ProgramOutput},
    error::{Error, Result},
    job::{LocalSigner, OffchainJobRequest, OffchainJobRequestBuilder, ProgramId, Revision, SignedJob, Verified},
    nonce::{Given, NonceManager},
    rpc::Method,
    transport::Transport,
    wire::Wire,
};

pub(super) type Connect = dyn Fn(&DevNode) -> Result<Arc<dyn Transport>> + Send + Sync;

/// How a case gets its node and its transport; made by [`Suite::setup`](super::Suite::setup).
#[derive(Clone)]
pub struct Setup {
    revision: Revision,
    connect: Arc<Connect>,
    patience: Duration,
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup").field("revision", &self.revision).finish_non_exhaustive()
    }
}

impl Setup {
    pub(super) fn new(revision: Revision, connect: Arc<Connect>, patience: Duration) -> Self {
        Self { revision, connect, patience }
    }

    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// The revision under test.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Starts a node of the revision, and connects to it.
    ///
    /// # Errors
    /// If the node does not start or the transport cannot be made.
    pub async fn bench(&self) -> std::result::Result<Bench, Failure> {
        Ok(self.bench_of(self.revision).await?)
    }

    /// Starts a node of any revision; the client still speaks the one under test.
    pub(super) async fn bench_of(&self, node: Revision) -> Result<Bench> {
        let signer = LocalSigner::random()?;
        let consumer = Address::repeat_byte(0xc0);
        let rules = ConsumerRules::signed_by(signer.address());
        let node = DevNode::builder(node).consumer(consumer, rules).start().await?;
        // All three inputs, so that each is seen to have travelled.
        let program = node.register_program(|input| match input.onchain {
            // What fails a job in either revision.
            b"fail" => Ok(ProgramOutput::new(Bytes::new()).with_cycles(u64::MAX)),
            onchain => Ok(ProgramOutput::new([onchain, input.offchain, input.state].concat())),
        });
        let transport = (self.connect)(&node)?;
        let client = Client::builder()
            .transport(Arc::clone(&transport))
            .revision(self.revision)
            .signer(signer.clone())
            .operator(node.operator())
            .nonce_manager(any_nonce())
            .retry(RetryPolicy::none())
            .connect()
            .await?;
        Ok(Bench {
            revision: self.revision,
            node,
            transport,
            client,
            signer,
            consumer,
            program: ProgramId::new(program),
        })
    }
}

impl Setup {
    /// Another client for the same node, which shares no nonces with the first.
    pub(super) async fn bench_on(&self, bench: &Bench) -> Result<Client> {
        let transport = (self.connect)(&bench.node)?;
        let builder = Client::builder().transport(transport).revision(self.revision).signer(bench.signer.clone());
        builder.operator(bench.node.operator()).nonce_manager(any_nonce()).retry(RetryPolicy::none()).connect().await
    }
}

/// A node, a transport to it, and a client over the transport that makes every call once.
#[derive(Debug)]
pub struct Bench {
    /// The revision under test.
    pub revision: Revision,
    /// The node.
    pub node: DevNode,
    /// The transport under test.
    pub transport: Arc<dyn Transport>,
    /// A client over the transport. Jobs bring their own nonces.
    pub client: Client,
    /// Who signs.
    pub signer: LocalSigner,
    /// A contract that the node knows.
    pub consumer: Address,
    /// A program that gives back all of its inputs, one after the other, and fails on the onchain input "fail".
    pub program: ProgramId,
}

impl Bench {
    pub(super) fn wire(&self) -> Wire {
        Wire::new(self.revision, self.transport.encoding())
    }

    /// Whether both the revision and the transport have the call.
    pub(super) fn has(&self, method: Method) -> bool {
        self.wire().has(method) && self.transport.capabilities().contains(method)
    }

    pub(super) fn job(&self, nonce: u64, onchain: impl Into<Bytes>) -> OffchainJobRequestBuilder {
        OffchainJobRequest::builder(self.consumer, self.program.clone())
            .nonce(nonce)
            .max_cycles(1_000_000)
            .onchain_input(onchain.into())
    }

    pub(super) async fn sign(&self, job: OffchainJobRequestBuilder) -> Result<SignedJob> {
        let job = job.build()?;
        job.prepare(self.revision, job.nonce().unwrap_or(1))?.sign(&self.signer).await
    }

    pub(super) async fn submit(&self, job: OffchainJobRequestBuilder) -> Result<JobHandle> {
        self.client.submit(job.build()?).await
    }

    pub(super) async fn finish(&self, job: OffchainJobRequestBuilder) -> Result<(JobHandle, Verified)> {
        let handle = self.submit(job).await?;
        let result = handle.wait(Until::Relayed).await?;
        Ok((handle, result))
    }

    /// How often the node was called, by any method.
    pub(super) fn calls(&self) -> usize {
        let stats = self.node.stats();
        Method::ALL.into_iter().map(|method| stats.calls(method)).sum()
    }
}

/// A source that takes whatever nonce the case wants.
fn any_nonce() -> NonceManager {
    NonceManager::new(Given).with_max_jump(u64::MAX)
}

/// The error of something that should have failed.
pub(super) fn refused<T>(result: Result<T>, what: &str) -> std::result::Result<Error, Failure> {
    match result {
        Ok(_) => Err(Failure::new(format!("{what} succeeded"))),
        Err(error) => Ok(error),
    }
}

pub(super) fn ensure(holds: bool, what: impl FnOnce() -> String) -> CaseResult {
    if holds { Ok(()) } else { Err(Failure::new(what())) }
}

pub(super) fn same<T: PartialEq + fmt::Debug>(what: &str, found: T, wanted: T) -> CaseResult {
    ensure(found == wanted, || {
        let mut texts = [format!("{found:?}"), format!("{wanted:?}")];
        // Inputs can be megabytes.
        for text in &mut texts {
            if text.len() > 300 {
                *text = format!("{} … ({} characters)", text.chars().take(300).collect::<String>(), text.len());
            }
        }
        format!("{what}: {} instead of {}", texts[0], texts[1])
    })
}
