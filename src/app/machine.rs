//! Carrying out requests: an app that panics takes nobody with it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use alloy_primitives::{B256, Bytes};
use infinityvm_stf::{Codec, Context, Cost, Source, StateTransition};

use super::stop::AppStop;
use crate::outbox::store::journal::{EntryOutcome, EntryRow, EntrySource};

/// What became of a request.
pub(super) struct Applied {
    pub(super) outcome: EntryOutcome,
    /// The response or the rejection; of a refused request, why.
    pub(super) answer: Bytes,
    /// The root after it.
    pub(super) root: B256,
}

/// The state, and the root that it has.
pub(super) struct Machine<S> {
    pub(super) state: S,
    pub(super) place: u64,
    pub(super) root: B256,
}

impl<S: StateTransition> Machine<S> {
    /// The state of a snapshot, if it has this root.
    pub(super) fn restore(bytes: &[u8], place: u64, root: B256) -> Result<Self, AppStop> {
        let differs = |note: String| AppStop::NotDeterministic { place, note };
        let state = guarded(|| S::restore(bytes)).map_err(|panic| differs(format!("`restore` panicked: {panic}")))?;
        let state = state.map_err(|error| differs(format!("the snapshot cannot be restored: {error}")))?;
        let found = guarded(|| state.root()).map_err(|panic| differs(format!("`root` panicked: {panic}")))?;
        if root != found {
            return Err(differs(format!(
                "the snapshot was written with the root {root}, and has {}",
                B256::from(found)
            )));
        }
        Ok(Self { state, place, root })
    }

    /// What a batch that begins with this state costs before its first request.
    pub(super) fn overhead(&self) -> Result<Cost, AppStop> {
        guarded(|| self.state.overhead()).map_err(|panic| AppStop::NotDeterministic {
            place: self.place,
            note: format!("`overhead` panicked: {panic}"),
        })
    }

    /// The same state a second time.
    pub(super) fn again(&self) -> Result<Self, AppStop> {
        let bytes = guarded(|| self.state.snapshot()).map_err(|panic| AppStop::NotDeterministic {
            place: self.place,
            note: format!("`snapshot` panicked: {panic}"),
        })?;
        Self::restore(&bytes, self.place, self.root)
    }

    /// Carries out the next request. One that is refused leaves a state that must be built anew.
    pub(super) fn apply(&mut self, request: &S::Request, context: &Context) -> Applied {
        let done = guarded(|| {
            let outcome = self.state.apply(request, context);
            let root = B256::from(self.state.root());
            match outcome {
                Ok(response) => Ok((EntryOutcome::Answered, response.encoded(), root)),
                Err(_) if root != self.root => Err("a rejection has changed the root"),
                Err(rejection) => Ok((EntryOutcome::Rejected, rejection.encoded(), root)),
            }
        });
        self.place = context.place;
        let refused =
            |why: String| Applied { outcome: EntryOutcome::Refused, answer: why.into_bytes().into(), root: self.root };
        match done {
            Ok(Ok((outcome, answer, root))) => {
                self.root = root;
                Applied { outcome, answer: answer.into(), root }
            }
            Ok(Err(why)) => refused(why.to_owned()),
            Err(panic) => refused(format!("the app panicked: {panic}")),
        }
    }

    /// Carries out an entry of the journal again. The roots are compared where `check` says so, as that may take the
    /// app long.
    pub(super) fn replay(&mut self, entry: &EntryRow, request: &S::Request, check: bool) -> Result<(), AppStop> {
        let place = entry.place;
        let differs = |note: String| AppStop::NotDeterministic { place, note };
        let accepted = guarded(|| self.state.apply(request, &context(entry)).is_ok());
        let accepted = accepted.map_err(|panic| differs(format!("the app panicked: {panic}")))?;
        if accepted != (entry.outcome == EntryOutcome::Answered) {
            return Err(differs("what was answered is rejected, or the other way round".to_owned()));
        }
        (self.place, self.root) = (place, entry.root);
        if check {
            let found = guarded(|| self.state.root()).map_err(|panic| differs(format!("`root` panicked: {panic}")))?;
            if entry.root != found {
                return Err(differs(format!("the root was {}, and is {}", entry.root, B256::from(found))));
            }
        }
        Ok(())
    }
}

/// Whether an entry was carried out, and so is in a batch.
pub(super) fn counts(entry: &EntryRow) -> bool {
    entry.outcome != EntryOutcome::Refused
}

/// The request of an entry.
pub(super) fn request<S: StateTransition>(entry: &EntryRow) -> Result<S::Request, AppStop> {
    let decoded = guarded(|| S::Request::decode(&entry.request)).map_err(|panic| format!("`decode` panicked: {panic}"));
    decoded
        .and_then(|decoded| decoded.map_err(|error| format!("the request is not read any more: {error}")))
        .map_err(|note| AppStop::NotDeterministic { place: entry.place, note })
}

/// A request as the journal has it, and as it is read from there: what is carried out is what the journal has.
pub(super) fn encoded<S: StateTransition>(request: &S::Request) -> Result<(Vec<u8>, S::Request), String> {
    let (bytes, request) = guarded(|| {
        let bytes = request.encoded();
        let request = S::Request::decode(&bytes);
        (bytes, request)
    })
    .map_err(|panic| format!("the request's encoding panicked: {panic}"))?;
    Ok((bytes, request.map_err(|error| format!("the request's encoding is not read: {error}"))?))
}

/// What an entry was carried out with.
pub(super) fn context(entry: &EntryRow) -> Context {
    Context { place: entry.place, time: entry.time, source: source(entry.source) }
}

pub(super) fn source(source: EntrySource) -> Source {
    match source {
        EntrySource::Request => Source::Request,
        EntrySource::Chain { block, log_index } => Source::Chain { block, log_index },
    }
}

/// Runs code of the app. If it panics, what it said; the states it had in its hands are not used again.
pub(super) fn guarded<T>(code: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(code)).map_err(|panic| {
        let said = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let said = said.or_else(|| panic.downcast_ref::<String>().cloned());
        crate::text::one_line(&said.unwrap_or_else(|| "without a word".to_owned()))
    })
}
