//! The trait of an app, and what its methods are given.

use alloc::vec::Vec;

use crate::{Batch, Codec, ProgramError, RestoreError};

/// What the whole state is proven by: the root of a tree, or a hash. The app's contract keeps the latest one.
pub type Root = [u8; 32];

/// The state of an app server, and what each request does to it.
///
/// Everything here is deterministic: the same state and the same request give the same answer and the same root, on
/// every machine and in the guest. Whatever is not in the state is in the request or the [`Context`]. No clock, no
/// random numbers, no order of a hash map.
///
/// The type of the server holds the whole state. A guest that is given only a root and proofs has another type;
/// [`inputs`](Self::inputs) and [`program`](Self::program) are the bridge.
pub trait StateTransition: Sized + Send + Sync + 'static {
    /// What a user asks for, or what a log of the chain brings.
    type Request: Codec + Send + Sync + 'static;
    /// The answer to a request that was carried out.
    type Response: Codec + Send + Sync + 'static;
    /// The answer to a request that was not.
    type Rejection: Codec + Send + Sync + 'static;

    /// Carries out one request.
    ///
    /// It must not panic. The server refuses a request that makes it panic, and builds the state anew.
    ///
    /// # Errors
    ///
    /// A rejection, which is an answer like another, and takes its place in the order. It leaves the root as it is; the
    /// server checks that.
    fn apply(&mut self, request: &Self::Request, context: &Context) -> Result<Self::Response, Self::Rejection>;

    /// The root of the state. The server asks for it after every request.
    fn root(&self) -> Root;

    /// What the program is given for a batch. `self` is the state before the batch.
    fn inputs(&self, batch: &Batch<Self::Request>) -> Inputs;

    /// The program: the guest's `main` calls it, and the server runs it over the exact bytes of a job before it sends
    /// them.
    ///
    /// # Errors
    ///
    /// That the inputs are not what [`inputs`](Self::inputs) makes. A guest panics with it, so that its job fails.
    fn program(inputs: &Inputs) -> Result<Vec<u8>, ProgramError>;

    /// The root after the batch, as an output of the program claims it. `None` if these bytes are no such output.
    fn output_root(output: &[u8]) -> Option<Root>;

    /// What a request adds to a batch, at most. `self` is the state before the request.
    fn cost(&self, request: &Self::Request) -> Cost;

    /// What a batch costs before its first request: headers of the encoding, and cycles to start the program.
    fn overhead(&self) -> Cost {
        Cost { offchain: Batch::<Self::Request>::HEADER, ..Cost::ZERO }
    }

    /// The whole state, as bytes.
    fn snapshot(&self) -> Vec<u8>;

    /// The state of a [`snapshot`](Self::snapshot), with the same root.
    ///
    /// # Errors
    ///
    /// That these bytes are no snapshot.
    fn restore(bytes: &[u8]) -> Result<Self, RestoreError>;
}

/// Carries out the requests of a batch, and returns the root after them. Answers and rejections are dropped.
pub fn replay<S: StateTransition>(state: &mut S, batch: &Batch<S::Request>) -> Root {
    for (context, request) in &batch.entries {
        let _ = state.apply(request, context);
    }
    state.root()
}

/// Where a request stands, when it was taken, and where it is from. From the server's journal, so that it is the same
/// when the request is carried out again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Context {
    /// The place of the request in the order of all requests, counted from 1. A request that was refused because it
    /// made the app panic has a place, too, and is in no batch.
    pub place: u64,
    /// Milliseconds since 1970, UTC, by the server's clock. It never goes back from one place to the next.
    pub time: u64,
    /// Where the request is from.
    pub source: Source,
}

impl Context {
    /// A user's request.
    #[must_use]
    pub const fn request(place: u64, time: u64) -> Self {
        Self { place, time, source: Source::Request }
    }

    /// A request that a log of the chain brought.
    #[must_use]
    pub const fn chain(place: u64, time: u64, block: u64, log_index: u64) -> Self {
        Self { place, time, source: Source::Chain { block, log_index } }
    }
}

/// Where a request is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// A user sent it to the server.
    Request,
    /// A log of the chain brought it.
    Chain {
        /// The number of the log's block.
        block: u64,
        /// The index of the log in its block.
        log_index: u64,
    },
}

/// What a job gives its program.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Inputs {
    /// The onchain input: the app's contract sees it with the result.
    pub onchain: Vec<u8>,
    /// The offchain input: in the Relay revision its hash is signed, and its bytes go to a blob.
    pub offchain: Vec<u8>,
    /// The state that is sent along. Jobs of the State revision have one, and no others.
    pub state: Option<Vec<u8>>,
}

/// What a request adds to a batch: bytes of each input, cycles, and gas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Cost {
    /// Bytes of the onchain input.
    pub onchain: usize,
    /// Bytes of the offchain input.
    pub offchain: usize,
    /// Bytes of the state.
    pub state: usize,
    /// Cycles of the zkVM.
    pub cycles: u64,
    /// Gas of the transaction that brings the result: what the app's contract spends on it. An app whose results are
    /// of a fixed size leaves it at 0.
    pub gas: u64,
}

impl Cost {
    /// Nothing.
    pub const ZERO: Self = Self { onchain: 0, offchain: 0, state: 0, cycles: 0, gas: 0 };

    /// The sum of two. What would overflow stays at the largest number.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            onchain: self.onchain.saturating_add(other.onchain),
            offchain: self.offchain.saturating_add(other.offchain),
            state: self.state.saturating_add(other.state),
            cycles: self.cycles.saturating_add(other.cycles),
            gas: self.gas.saturating_add(other.gas),
        }
    }
}
