//! Client SDK for InfinityVM offchain jobs: build, sign, submit, wait for and verify them.
//!
//! An offchain job is a signed request that goes straight to a coprocessor node: the node runs a zkVM program on the
//! request's inputs, signs the result, and relays it to the app's contract. Nodes are careless with jobs, and jobs are
//! money, so this crate signs a nonce once, believes no node, and says of every error whether the request may have run.
//!
//! # What to use when
//!
//! | You want to … | Use |
//! |---|---|
//! | submit jobs and wait for results | [`Client`], [`OffchainJobRequest::builder`], [`JobHandle::wait`] |
//! | sign with a key in this process, or with a key service or hardware wallet | [`LocalSigner`]; `AlloySigner` (feature `alloy-signer`); your own [`JobSigner`] |
//! | sign on one machine and send from another | [`OffchainJobRequest::prepare`], [`SignedJob`] with serde, [`Client::submit_signed`] |
//! | go on after a crash or restart of your service | [`Client::sign`], store the [`SignedJob`], [`Client::submit_signed`]; then [`Client::resume`] |
//! | know that a result is on chain, whatever the node says | [`client::ClientBuilder::chain`], [`Until::Finalized`], [`Verified::finality`] |
//! | find out why a job does not move | [`Client::diagnose`], [`JobHandle::diagnose`] |
//! | post a result that nobody relays | [`Client::relay`], [`JobHandle::relay`], [`chain::Relayer`], `RpcRelayer` (feature `chain`) |
//! | find out before a job is sent whether it will land | [`Client::preflight`], [`ClientBuilder::require_preflight`](client::ClientBuilder::require_preflight) |
//! | read a chain over JSON-RPC | [`chain::Chain::connect`], [`chain::RpcReader`] (feature `chain`); your own [`chain::ChainReader`] |
//! | never send to one chain what was signed for another | [`chain::Binding`] |
//! | check a result that came by another way | [`verify`] |
//! | choose where nonces come from | [`nonce`] |
//! | set TLS, headers, limits of messages | [`transport::GrpcTransport`], [`transport::RestTransport`] |
//! | set deadlines, and what is tried again | [`RetryPolicy`] |
//! | test an app without a node | [`devnode::DevNode`] (feature `devnode`) |
//! | and without a chain: preflight, finality, reorganisations | [`devnode::SimChain`], [`SimChain::to_chain`](devnode::SimChain::to_chain) |
//! | test it with its contracts on a chain | `devnode::RealChain`, `devnode::contracts` (features `devnode` and `chain`) |
//! | carry the bytes some other way | [`transport::Transport`], [`Wire`]; test it with `conformance` (feature `unstable-conformance`) |
//!
//! # A first job
//!
//! ```
//! # #[cfg(all(feature = "devnode", feature = "grpc"))]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), infinityvm_sdk::Error> {
//! use infinityvm_sdk::{Client, LocalSigner, OffchainJobRequest, Revision, Until};
//! use infinityvm_sdk::devnode::{ConsumerRules, DevNode};
//! use infinityvm_sdk::primitives::{Address, SolValue, U256};
//!
//! // In a test: a node in this process. In earnest: your node's address, and the operator your JobManager contract names.
//! let (signer, consumer) = (LocalSigner::random()?, Address::repeat_byte(7));
//! let node = DevNode::builder(Revision::Relay)
//!     .consumer(consumer, ConsumerRules::signed_by(signer.address()))
//!     .start()
//!     .await?;
//! let double = node.register_program(|input| {
//!     let number = U256::from_be_slice(input.onchain);
//!     Ok((number + number).abi_encode())
//! });
//!
//! let client = Client::builder()
//!     .grpc(node.grpc_url())
//!     .revision(Revision::Relay)
//!     .signer(signer)
//!     .operator(node.operator())
//!     .connect()
//!     .await?;
//! let job = OffchainJobRequest::builder(consumer, double)
//!     .max_cycles(1_000_000)
//!     .onchain_input(U256::from(21).abi_encode())
//!     .build()?;
//! let handle = client.submit(job).await?;
//! let result = handle.wait(Until::Relayed).await?;
//! assert_eq!(result.decode::<U256>()?, U256::from(42));
//! # Ok(())
//! # }
//! # #[cfg(not(all(feature = "devnode", feature = "grpc")))]
//! # fn main() {}
//! ```
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `grpc` | yes | the gRPC transport, with TLS by rustls and ring |
//! | `rest` | yes | the REST transport, with the same TLS |
//! | `webpki-roots` | yes | Mozilla's TLS roots, compiled in |
//! | `native-roots` | | the operating system's TLS roots |
//! | `asm-keccak` | yes | keccak-256 in assembly; needs a C compiler, as ring does |
//! | `secp256k1` | | signing and recovery by libsecp256k1; needs a C compiler |
//! | `alloy-signer` | | `AlloySigner`, for any `alloy_signer::Signer`: key services, hardware wallets, keystores |
//! | `chain` | | the chain over JSON-RPC: `RpcReader`, and `RpcRelayer`, an account that posts results; with `devnode`, a node that relays to a real chain |
//! | `blobs` | | posts results whose jobs have an offchain input (Relay revision), with their blobs; brings KZG in C |
//! | `devnode` | | the embedded development node |
//! | `unstable-conformance` | | the suite that every transport must pass; changes in any release |
//! | `client` | with `grpc`, `rest` | the client, for transports of your own |
//!
//! Features only add. Without any there are the values of [`job`], [`error`] and [`primitives`].
//!
//! # Further reading
//!
//! The [architecture] says how the crate is cut and why; the [changelog] what is new.

#![forbid(unsafe_code)]
#![warn(unreachable_pub, unnameable_types, clippy::missing_errors_doc, clippy::print_stdout, clippy::print_stderr)]
// What a peer sends must not be able to panic.
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    not(all(
        feature = "grpc",
        feature = "rest",
        feature = "alloy-signer",
        feature = "blobs",
        feature = "unstable-conformance"
    )),
    allow(rustdoc::broken_intra_doc_links, reason = "the documentation is that of all features")
)]

#[cfg(feature = "client")]
pub mod chain;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "unstable-conformance")]
pub mod conformance;
#[cfg(feature = "devnode")]
pub mod devnode;
pub mod error;
#[cfg(feature = "client")]
mod jitter;
pub mod job;
#[cfg(feature = "client")]
mod node;
#[cfg(feature = "client")]
pub mod nonce;
#[cfg(feature = "client")]
pub mod rpc;
#[cfg(feature = "client")]
mod runtime;
#[cfg(feature = "client")]
mod submit;
#[cfg(feature = "client")]
pub mod transport;
#[cfg(feature = "client")]
mod watch;
#[cfg(feature = "client")]
pub mod wire;

/// The types of alloy that this crate's interface uses.
pub mod primitives {
    pub use alloy_primitives::{Address, B256, Bytes, U256, address, b256, bytes, hex, keccak256};
    pub use alloy_sol_types::{self, SolValue};

    /// Defines Solidity types, as [`alloy_sol_types::sol`] does, without a dependency on that crate.
    ///
    /// ```
    /// use infinityvm_sdk::primitives::{SolValue, sol};
    ///
    /// sol! {
    ///     struct Point { uint64 x; uint64 y; }
    /// }
    /// assert_eq!(Point { x: 1, y: 2 }.abi_encode().len(), 64);
    /// ```
    #[doc(inline)] // or it would be as hidden as the macro at the crate's root
    pub use crate::__sol as sol;
}

#[doc(hidden)]
#[macro_export]
macro_rules! __sol {
    ($($tokens:tt)*) => {
        $crate::primitives::alloy_sol_types::sol! {
            #![sol(alloy_sol_types = $crate::primitives::alloy_sol_types)]
            $($tokens)*
        }
    };
}

#[cfg(doc)]
#[doc = include_str!("../ARCHITECTURE.md")]
pub mod architecture {}

#[cfg(doc)]
#[doc = include_str!("../CHANGELOG.md")]
pub mod changelog {}

/// The README's examples run with the documentation's.
#[cfg(all(doctest, feature = "devnode", feature = "grpc"))]
#[doc = include_str!("../README.md")]
mod readme {}

#[cfg(feature = "client")]
pub use client::{
    Cause, Client, Confidence, DeadlineExceeded, Diagnosis, FindingKind, HealPolicy, JobEvent, JobHandle, PollPolicy,
    PreflightReport, RetryPolicy, Severity, Stage, Until,
};
pub use error::{Error, ErrorKind, Fault, Outcome, Result};
#[cfg(feature = "alloy-signer")]
pub use job::AlloySigner;
pub use job::{
    Finality, JobId, JobRecord, JobSigner, JobStatus, Limits, LocalSigner, OffchainJobRequest, ProgramId,
    RelayStrategy, Revision, SignedJob, UnsignedJob, Verified, VmType, verify,
};
#[cfg(feature = "client")]
pub use wire::{ProgramUpload, Wire};
