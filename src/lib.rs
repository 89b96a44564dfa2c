//! Client SDK for InfinityVM offchain jobs: build, sign, submit, wait for and verify them.
//!
//! An offchain job is a signed request that goes straight to a coprocessor node: the node runs a zkVM program on the
//! request's inputs, signs the result, and relays it to the app's contract. Nodes lose jobs, drop them, and report what
//! did not happen, and every job costs money. So this crate signs each job once, and a retry sends the same bytes
//! again. It trusts no node: it returns a result only after checking the operator's signature. Every error says whether
//! the request may have run.
//!
//! # What to use when
//!
//! | You want to … | Use | Guide |
//! |---|---|---|
//! | submit a job and wait for it | [`Client::run`], [`OffchainJobRequest`] | [`submit_and_wait`] |
//! | submit a job now, and wait for it later | [`Client::submit`], [`JobHandle::wait`] | [`submit_and_wait`] |
//! | watch many jobs and their progress | [`Client::watch_many`], [`Client::wait_all`] | [`submit_and_wait`] |
//! | upload a program to the node | [`Client::submit_program`], [`ProgramUpload`] | [`programs`] |
//! | run a stateful app | [`Verified::stateful`], [`stateful_onchain_input`] | [`ordered_and_stateful`] |
//! | keep the results of jobs in order | [`RelayStrategy`] | [`ordered_and_stateful`] |
//! | know before a job is sent whether it will land | [`Client::preflight`], [`PreflightReport`] | [`will_it_land`] |
//! | know that a result is on chain | [`Until::Finalized`], [`Verified::finality`] | [`did_it_land`] |
//! | find out why a job does not move | [`Client::diagnose`], [`Cause`] | [`stuck_jobs`] |
//! | replace a job that failed | [`Client::replace`], [`Client::replace_signed`] | [`stuck_jobs`] |
//! | end a process | [`Client::close`] | [`surviving_a_crash`] |
//! | post a result that the node does not relay | [`Client::post_result`], [`chain::RpcPoster`] | [`posting_results`] |
//! | sign with a key, a keystore or a key service | [`LocalSigner`], [`AlloySigner`], [`JobSigner`] | [`signers`] |
//! | sign on one machine, and send from another | [`SignedJob`], [`Client::submit_signed`] | [`signers`] |
//! | choose where nonces come from | [`nonce`], [`chain::ChainNonces`] | [`nonces`] |
//! | run several processes for one consumer | [`nonce::Given`] | [`nonces`] |
//! | lose no job in a crash, and run none twice | [`outbox::Outbox`] | [`surviving_a_crash`] |
//! | the same with a database of your own | [`Client::sign`], [`Client::resume`] | [`surviving_a_crash`] |
//! | answer users at once, and prove the answers in batches | [`app::AppServer`] | [`app_servers`] |
//! | set TLS, proxies, headers and limits | [`transport`], [`tls`] | [`transports`] |
//! | trace and measure what the client does | [`observe`], [`observe::Metrics`] | [`seeing_what_happens`] |
//! | handle errors; set deadlines and retries | [`Error`], [`Outcome`], [`RetryPolicy`] | [`errors`] |
//! | bind a client to the one chain that you sign for | [`chain::Binding`] | [`will_it_land`] |
//! | read the contracts on a chain | [`chain::Chain`], [`chain::RpcReader`], [`chain::ChainReader`] | [`did_it_land`] |
//! | store a result, or verify one that came another way | [`Proof`], [`verify`] | [`submit_and_wait`], [`wasm`] |
//! | sign in WebAssembly | [`job`] | [`wasm`] |
//! | test your app without a real node or a real chain | [`devnode::DevNode`], [`devnode::SimChain`] | [`testing`] |
//! | test your app with its contracts on a real chain | [`devnode::RealChain`], [`devnode::contracts`] | [`testing`] |
//! | work without writing Rust | the command line `ivm` | [`command_line`] |
//! | write a transport of your own | [`transport::Transport`], [`Wire`], [`conformance`] | [`transports`] |
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
//! // This test starts a node in this process. A service uses its node's URL, and the operator its JobManager names.
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
//! let result = client.run(job, Until::Relayed).await?;
//! assert_eq!(result.decode::<U256>()?, U256::from(42));
//! # Ok(())
//! # }
//! # #[cfg(not(all(feature = "devnode", feature = "grpc")))]
//! # fn main() {}
//! ```
//!
//! # Features
//!
//! The [README](readme#features) has a table of the features. A feature only adds to the crate. Without any feature
//! (`default-features = false`) the crate consists of the modules [`job`], [`error`] and [`primitives`]. [`tls`] says
//! how this crate affects other users of `reqwest` and `rustls` in the same program.
//!
//! # Further reading
//!
//! The [`guide`] has a page for each task. The [`architecture`] describes the modules, defines the words, and records
//! the design decisions. The [`changelog`] lists what is new.
//!
//! [`app_servers`]: guide::app_servers
//! [`command_line`]: guide::command_line
//! [`did_it_land`]: guide::did_it_land
//! [`errors`]: guide::errors
//! [`nonces`]: guide::nonces
//! [`ordered_and_stateful`]: guide::ordered_and_stateful
//! [`posting_results`]: guide::posting_results
//! [`programs`]: guide::programs
//! [`seeing_what_happens`]: guide::seeing_what_happens
//! [`signers`]: guide::signers
//! [`stateful_onchain_input`]: job::OffchainJobRequestBuilder::stateful_onchain_input
//! [`stuck_jobs`]: guide::stuck_jobs
//! [`submit_and_wait`]: guide::submit_and_wait
//! [`surviving_a_crash`]: guide::surviving_a_crash
//! [`testing`]: guide::testing
//! [`transports`]: guide::transports
//! [`wasm`]: guide::wasm
//! [`will_it_land`]: guide::will_it_land

#![forbid(unsafe_code)]
#![warn(unreachable_pub, unnameable_types, clippy::missing_errors_doc, clippy::print_stdout, clippy::print_stderr)]
// What a peer sends must not be able to panic.
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    not(all(
        feature = "grpc",
        feature = "rest",
        feature = "tonic",
        feature = "alloy-signer",
        feature = "blobs",
        feature = "unstable-conformance"
    )),
    allow(rustdoc::broken_intra_doc_links, reason = "the documentation is that of all features")
)]

#[cfg(feature = "app")]
pub mod app;
#[cfg(feature = "client")]
mod backoff;
#[cfg(feature = "client")]
pub mod chain;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "unstable-conformance")]
pub mod conformance;
#[cfg(feature = "devnode")]
pub mod devnode;
pub mod error;
#[cfg(any(feature = "grpc", feature = "rest", feature = "chain"))]
mod http;
#[cfg(feature = "client")]
mod inspect;
pub mod job;
#[cfg(feature = "client")]
mod node;
#[cfg(feature = "client")]
pub mod nonce;
#[cfg(feature = "client")]
pub mod observe;
#[cfg(feature = "outbox")]
pub mod outbox;
#[cfg(feature = "client")]
mod post;
#[cfg(feature = "client")]
mod retry;
#[cfg(feature = "client")]
pub mod rpc;
#[cfg(feature = "client")]
mod runtime;
#[cfg(feature = "client")]
mod submit;
#[cfg(feature = "client")]
mod sync;
mod text;
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

#[cfg(any(doc, doctest))]
pub mod guide;

#[cfg(doc)]
#[doc = include_str!("../ARCHITECTURE.md")]
pub mod architecture {}

#[cfg(doc)]
#[doc = include_str!("../CHANGELOG.md")]
pub mod changelog {}

// The README is a page of the documentation as well, and its examples run. Of two definitions of a link the first counts, so
// these lead to the documentation's own pages, or nowhere else, where the README's lead to files.
#[cfg(any(doc, all(doctest, feature = "devnode", feature = "grpc")))]
#[doc = "[ARCHITECTURE.md]: crate::architecture"]
#[doc = "[CHANGELOG.md]: crate::changelog"]
#[doc = "[guide]: crate::guide"]
#[doc = "[benches/README.md]: #read-on"]
#[doc = "[contracts/README.md]: #read-on"]
#[doc = "[proto/README.md]: #read-on"]
#[doc = "[Apache License 2.0]: #read-on"]
#[doc = "[MIT]: #read-on\n"]
#[doc = include_str!("../README.md")]
pub mod readme {}

#[cfg(any(feature = "grpc", feature = "rest", feature = "chain"))]
pub use crate::http::tls;
#[cfg(feature = "client")]
pub use client::{
    Cause, Client, Confidence, DeadlineExceeded, Diagnosis, FindingKind, HealPolicy, JobEvent, JobHandle, PollPolicy,
    PreflightReport, RetryPolicy, Severity, Stage, Until,
};
pub use error::{Error, ErrorKind, Fault, Outcome, Result};
#[cfg(feature = "alloy-signer")]
pub use job::AlloySigner;
pub use job::{
    Finality, JobId, JobRecord, JobSigner, JobStatus, Limits, LocalSigner, OffchainJobRequest, ProgramId, Proof,
    RelayStrategy, Revision, SignedJob, UnsignedJob, Verified, VmType, verify,
};
#[cfg(feature = "client")]
pub use wire::{ProgramUpload, Wire};
