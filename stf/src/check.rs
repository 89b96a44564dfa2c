//! Checks what [`StateTransition`] asks of an app, on requests of one's own choice: for tests.
//!
//! A server and its program that differ are found out by a chain that refuses results, when users have long had their
//! answers. So try both before, on many random requests:
//!
//! ```
//! # use infinityvm_stf::{Batch, Context, Cost, Inputs, ProgramError, RestoreError, Root, StateTransition, Codec, replay};
//! # #[derive(Debug)]
//! # struct Sum(u64);
//! # impl StateTransition for Sum {
//! #     type Request = u64;
//! #     type Response = u64;
//! #     type Rejection = ();
//! #     fn apply(&mut self, request: &u64, _: &Context) -> Result<u64, ()> {
//! #         self.0 = self.0.checked_add(*request).filter(|sum| *sum <= 100).ok_or(())?;
//! #         Ok(self.0)
//! #     }
//! #     fn root(&self) -> Root {
//! #         let mut root = [0; 32];
//! #         root[24..].copy_from_slice(&self.0.to_be_bytes());
//! #         root
//! #     }
//! #     fn inputs(&self, batch: &Batch<u64>) -> Inputs {
//! #         Inputs { onchain: Vec::new(), offchain: batch.encode(), state: Some(self.snapshot()) }
//! #     }
//! #     fn program(inputs: &Inputs) -> Result<Vec<u8>, ProgramError> {
//! #         let mut sum = Sum(u64::decode(inputs.state.as_deref().ok_or("no state")?)?);
//! #         replay(&mut sum, &Batch::decode(&inputs.offchain)?);
//! #         Ok(sum.root().to_vec())
//! #     }
//! #     fn output_root(output: &[u8]) -> Option<Root> {
//! #         output.try_into().ok()
//! #     }
//! #     fn cost(&self, request: &u64) -> Cost {
//! #         Cost { offchain: Batch::<u64>::entry_size(request.encoded().len()), ..Cost::ZERO }
//! #     }
//! #     fn overhead(&self) -> Cost {
//! #         Cost { offchain: Batch::<u64>::HEADER, state: 8, ..Cost::ZERO }
//! #     }
//! #     fn snapshot(&self) -> Vec<u8> {
//! #         self.0.encoded()
//! #     }
//! #     fn restore(bytes: &[u8]) -> Result<Self, RestoreError> {
//! #         Ok(Sum(u64::decode(bytes)?))
//! #     }
//! # }
//! use infinityvm_stf::check::Checker;
//!
//! let mut checker = Checker::new(Sum(1))?;
//! for request in [41, 7, 99] {
//!     let answer = checker.request(request)?; // applied as by a server
//!     assert_eq!(answer.is_ok(), request < 99);
//! }
//! checker.batch()?; // run by the program, and compared
//! # Ok::<(), infinityvm_stf::check::Fault>(())
//! ```

use alloc::vec::Vec;
use core::{error::Error, fmt};

use crate::{Batch, Codec, Context, Cost, Inputs, ProgramError, RestoreError, Root, Source, StateTransition};

/// How much later each request is than the one before, in milliseconds.
const STEP: u64 = 250;
/// Of an encoding so many first bytes are changed, to see that no other bytes mean the same.
const CHANGED: usize = 512;

/// Plays a server: carries out requests, groups them into batches, and runs the program over each.
#[derive(Debug)]
pub struct Checker<S: StateTransition> {
    live: S,
    base: S,
    entries: Vec<(Context, S::Request)>,
    /// Of each entry: its answer, encoded, and the root after it.
    seen: Vec<(bool, Vec<u8>, Root)>,
    cost: Cost,
    number: u64,
    place: u64,
    cycles: Option<fn(&Inputs) -> u64>,
}

/// What an app does that it must not.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The encoding of a request, a response or a rejection is not exact.
    Encoding {
        /// Of which place. That of the request for its answer, too.
        place: u64,
        /// What is wrong.
        what: Inexact,
    },
    /// A rejection changed the root.
    RejectionMoved {
        /// Of which place.
        place: u64,
    },
    /// A request gave another answer or another root when it was carried out again.
    NotDeterministic {
        /// Of which place.
        place: u64,
    },
    /// Two calls of `inputs` or of `program` for the same batch gave different bytes.
    Unsteady {
        /// Of which batch.
        batch: u64,
    },
    /// A snapshot is not taken back.
    Restore(RestoreError),
    /// The state of a snapshot has another root, or another snapshot.
    Snapshot {
        /// The root of the state of which the snapshot was made.
        before: Root,
        /// The root of the state that was restored.
        after: Root,
    },
    /// A batch costs more than [`overhead`](StateTransition::overhead) and [`cost`](StateTransition::cost) said.
    Cost {
        /// Of which batch.
        batch: u64,
        /// What was said.
        said: Cost,
        /// What it is. Cycles only where they are [measured](Checker::cycles).
        is: Cost,
    },
    /// The program did not take the inputs that the app made.
    Program {
        /// Of which batch.
        batch: u64,
        /// What the program said.
        error: ProgramError,
    },
    /// The program's output has no root.
    NoRoot {
        /// Of which batch.
        batch: u64,
    },
    /// The program comes to another root than the server.
    Root {
        /// Of which batch.
        batch: u64,
        /// The server's.
        server: Root,
        /// The program's.
        program: Root,
    },
}

/// Why an encoding is not exact.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Inexact {
    /// The encoding of a value does not decode.
    NotTaken(Vec<u8>),
    /// These bytes decode to a value whose encoding is another.
    Another(Vec<u8>),
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encoding { place, what: Inexact::NotTaken(bytes) } => {
                write!(out, "place {place}: this encoding does not decode: {bytes:02x?}")
            }
            Self::Encoding { place, what: Inexact::Another(bytes) } => {
                write!(out, "place {place}: these bytes decode to a value whose encoding is another: {bytes:02x?}")
            }
            Self::RejectionMoved { place } => write!(out, "place {place}: a rejection changed the root"),
            Self::NotDeterministic { place } => {
                write!(out, "place {place}: carried out again, the request gave another answer or another root")
            }
            Self::Unsteady { batch } => write!(out, "batch {batch}: made again, its inputs or its output are others"),
            Self::Restore(error) => write!(out, "the state's own snapshot is not taken: {error}"),
            Self::Snapshot { .. } => out.write_str("the state of a snapshot is not the one that it was made of"),
            Self::Cost { batch, said, is } => write!(out, "batch {batch}: costs {is:?}, but {said:?} was said"),
            Self::Program { batch, error } => write!(out, "batch {batch}: the program fails: {error}"),
            Self::NoRoot { batch } => write!(out, "batch {batch}: the program's output has no root"),
            Self::Root { batch, .. } => write!(out, "batch {batch}: the program comes to another root than the server"),
        }
    }
}

impl Error for Fault {}

/// Checks that the encoding of a value is exact: that it decodes to a value with the same encoding, and that no bytes
/// that are nearly the same decode to a value whose encoding they are not.
///
/// # Errors
///
/// The bytes that show that it is not.
pub fn encoding<T: Codec>(value: &T) -> Result<(), Inexact> {
    let bytes = value.encoded();
    match T::decode(&bytes) {
        Ok(same) if same.encoded() == bytes => {}
        Ok(_) => return Err(Inexact::Another(bytes)),
        Err(_) => return Err(Inexact::NotTaken(bytes)),
    }
    let own = |bytes: &[u8]| match T::decode(bytes) {
        Ok(other) if other.encoded() != bytes => Err(Inexact::Another(bytes.to_vec())),
        _ => Ok(()),
    };
    for length in 0..bytes.len() {
        own(bytes.get(..length).unwrap_or_default())?;
    }
    for more in [0, 1, 0xff] {
        own(&[bytes.as_slice(), &[more]].concat())?;
    }
    let mut changed = bytes;
    for at in 0..changed.len().min(CHANGED) {
        for bit in 0..8 {
            if let Some(byte) = changed.get_mut(at) {
                *byte ^= 1 << bit;
            }
            own(&changed)?;
            if let Some(byte) = changed.get_mut(at) {
                *byte ^= 1 << bit;
            }
        }
    }
    Ok(())
}

impl<S: StateTransition> Checker<S> {
    /// Begins with this state.
    ///
    /// # Errors
    ///
    /// That its snapshot does not restore it.
    pub fn new(state: S) -> Result<Self, Fault> {
        let base = restored(&state)?;
        Ok(Self {
            live: state,
            base,
            entries: Vec::new(),
            seen: Vec::new(),
            cost: Cost::ZERO,
            number: 1,
            place: 0,
            cycles: None,
        })
    }

    /// Measures the cycles that the program takes, so that these are compared with what the app says, too. Without it
    /// they are not.
    #[must_use]
    pub fn cycles(mut self, measure: fn(&Inputs) -> u64) -> Self {
        self.cycles = Some(measure);
        self
    }

    /// The state as it is now.
    pub const fn state(&self) -> &S {
        &self.live
    }

    /// How many requests the next batch has so far.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.entries.len()
    }

    /// Carries out a user's request, and returns the answer.
    ///
    /// # Errors
    ///
    /// That an encoding is not exact, or that a rejection changed the root.
    pub fn request(&mut self, request: S::Request) -> Result<Result<S::Response, S::Rejection>, Fault> {
        self.request_from(request, Source::Request)
    }

    /// Carries out a request from elsewhere.
    ///
    /// # Errors
    ///
    /// As [`request`](Self::request).
    pub fn request_from(
        &mut self,
        request: S::Request,
        source: Source,
    ) -> Result<Result<S::Response, S::Rejection>, Fault> {
        self.place += 1;
        let place = self.place;
        let inexact = |what| Fault::Encoding { place, what };
        encoding(&request).map_err(inexact)?;
        let context = Context { place, time: place * STEP, source };
        self.cost = self.cost.and(self.live.cost(&request));
        let before = self.live.root();
        let answer = self.live.apply(&request, &context);
        let after = self.live.root();
        if answer.is_err() && before != after {
            return Err(Fault::RejectionMoved { place });
        }
        let (taken, bytes) = encoded(&answer);
        answer.as_ref().map_or_else(encoding, encoding).map_err(inexact)?;
        self.seen.push((taken, bytes, after));
        self.entries.push((context, request));
        Ok(answer)
    }

    /// Ends the batch, runs the program over it, and compares: its root with the server's, the inputs' sizes with what
    /// the app said, each answer and root with those of the requests carried out again. Then goes on with a state that
    /// was restored from a snapshot. Returns the program's output, or `None` if there was no request.
    ///
    /// # Errors
    ///
    /// The first thing that does not hold.
    pub fn batch(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        if self.entries.is_empty() {
            return Ok(None);
        }
        let number = self.number;
        let batch = Batch { number, before: self.base.root(), entries: core::mem::take(&mut self.entries) };
        let inputs = self.base.inputs(&batch);
        let said = self.base.overhead().and(core::mem::take(&mut self.cost));
        let is = Cost {
            onchain: inputs.onchain.len(),
            offchain: inputs.offchain.len(),
            state: inputs.state.as_ref().map_or(0, Vec::len),
            cycles: self.cycles.map_or(0, |measure| measure(&inputs)),
            // Only the contract knows.
            gas: 0,
        };
        if is.onchain > said.onchain || is.offchain > said.offchain || is.state > said.state || is.cycles > said.cycles
        {
            return Err(Fault::Cost { batch: number, said, is });
        }
        let run = |inputs: &Inputs| S::program(inputs).map_err(|error| Fault::Program { batch: number, error });
        let output = run(&inputs)?;
        if self.base.inputs(&batch) != inputs || run(&inputs)? != output {
            return Err(Fault::Unsteady { batch: number });
        }
        let program = S::output_root(&output).ok_or(Fault::NoRoot { batch: number })?;
        let server = self.live.root();
        if program != server {
            return Err(Fault::Root { batch: number, server, program });
        }
        // As after a restart: from bytes.
        for ((context, request), seen) in batch.entries.iter().zip(core::mem::take(&mut self.seen)) {
            let place = context.place;
            let again = S::Request::decode(&request.encoded())
                .map_err(|_| Fault::Encoding { place, what: Inexact::NotTaken(request.encoded()) })?;
            let (taken, bytes) = encoded(&self.base.apply(&again, context));
            if (taken, bytes, self.base.root()) != seen {
                return Err(Fault::NotDeterministic { place });
            }
        }
        // The server's own state goes on as it is; the next batch begins with what its snapshot holds.
        self.base = restored(&self.live)?;
        self.number += 1;
        Ok(Some(output))
    }
}

/// Whether it was carried out, and the answer's encoding.
fn encoded<T: Codec, E: Codec>(answer: &Result<T, E>) -> (bool, Vec<u8>) {
    (answer.is_ok(), answer.as_ref().map_or_else(E::encoded, T::encoded))
}

/// The state of the state's snapshot.
fn restored<S: StateTransition>(state: &S) -> Result<S, Fault> {
    let snapshot = state.snapshot();
    let again = S::restore(&snapshot).map_err(Fault::Restore)?;
    let (before, after) = (state.root(), again.root());
    if before == after && again.snapshot() == snapshot { Ok(again) } else { Err(Fault::Snapshot { before, after }) }
}
