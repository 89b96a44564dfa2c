//! What the program of an app server and the server itself share.
//!
//! An app server answers its users at once, and proves its answers later: it groups the requests into batches, and runs
//! each batch as a job of InfinityVM. The job's program carries out the same requests again, inside a zkVM. So the code
//! that carries them out is in both, and this crate is what that code is written against: [`StateTransition`], the one
//! trait of an app, [`Batch`], the requests of one job, and [`Codec`], exact encodings of both. The server is
//! `infinityvm_sdk::app::AppServer`.
//!
//! The crate is `no_std` with `alloc`, has no dependencies, and decodes any bytes without a panic.
//!
//! # An app whose whole state goes into the program
//!
//! A sum of numbers, which never exceeds 100. Its root is the sum itself.
//!
//! ```
//! use infinityvm_stf::{
//!     Batch, Codec, Context, Cost, Inputs, ProgramError, RestoreError, Root, StateTransition, replay,
//! };
//!
//! #[derive(Debug)]
//! struct Sum(u64);
//!
//! impl StateTransition for Sum {
//!     type Request = u64;
//!     type Response = u64;
//!     type Rejection = String;
//!
//!     fn apply(&mut self, request: &u64, _: &Context) -> Result<u64, String> {
//!         let sum = self.0.checked_add(*request).filter(|sum| *sum <= 100);
//!         self.0 = sum.ok_or_else(|| format!("{} and {request} are too much", self.0))?;
//!         Ok(self.0)
//!     }
//!     fn root(&self) -> Root {
//!         let mut root = [0; 32];
//!         root[24..].copy_from_slice(&self.0.to_be_bytes());
//!         root
//!     }
//!     fn inputs(&self, batch: &Batch<u64>) -> Inputs {
//!         Inputs { onchain: Vec::new(), offchain: batch.encode(), state: Some(self.snapshot()) }
//!     }
//!     fn program(inputs: &Inputs) -> Result<Vec<u8>, ProgramError> {
//!         let state = inputs.state.as_deref().ok_or("no state")?;
//!         let mut sum = Sum::restore(state).map_err(|error| error.to_string())?;
//!         let batch = Batch::decode(&inputs.offchain)?;
//!         if sum.root() != batch.before {
//!             return Err("the batch begins with another state".into());
//!         }
//!         replay(&mut sum, &batch);
//!         Ok(sum.root().to_vec())
//!     }
//!     fn output_root(output: &[u8]) -> Option<Root> {
//!         output.try_into().ok()
//!     }
//!     fn cost(&self, request: &u64) -> Cost {
//!         Cost { offchain: Batch::<u64>::entry_size(request.encoded().len()), cycles: 1_000, ..Cost::ZERO }
//!     }
//!     fn snapshot(&self) -> Vec<u8> {
//!         self.0.encoded()
//!     }
//!     fn restore(bytes: &[u8]) -> Result<Self, RestoreError> {
//!         Ok(Sum(u64::decode(bytes)?))
//!     }
//! }
//!
//! let mut sum = Sum(1);
//! let before = sum.root();
//! let batch = Batch { number: 1, before, entries: vec![(Context::request(1, 0), 41), (Context::request(2, 5), 99)] };
//! let output = Sum::program(&sum.inputs(&batch)).unwrap();
//! replay(&mut sum, &batch); // as the server does; the second request is rejected
//! assert_eq!(sum.0, 42);
//! assert_eq!(Sum::output_root(&output), Some(sum.root()));
//! ```
//!
//! An app with much state gives its program a root and proofs of what the batch touches, in place of the state.

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

extern crate alloc;

mod batch;
pub mod check;
mod codec;
mod failure;
mod stateful;
mod transition;

pub use self::{
    batch::Batch,
    codec::{Codec, DecodeError, Reader, put_bytes, put_varint},
    failure::{ProgramError, RestoreError},
    stateful::{decode_stateful, encode_stateful},
    transition::{Context, Cost, Inputs, Root, Source, StateTransition, replay},
};
