//! A program as the node holds it: a Rust function, or a command.

use std::sync::Arc;

use super::{
    external::{ProgramCommand, ProgramRun},
    program::{ProgramError, ProgramInput, ProgramOutput},
    record::Submission,
};
use crate::job::Revision;

type Function = dyn Fn(ProgramInput<'_>) -> Result<ProgramOutput, ProgramError> + Send + Sync;

/// What can be run for a job.
#[derive(Clone)]
pub(super) enum Program {
    Function(Arc<Function>),
    Command(Arc<ProgramCommand>),
}

impl Program {
    pub(super) fn of<F, O>(program: F) -> Self
    where
        F: Fn(ProgramInput<'_>) -> Result<O, ProgramError> + Send + Sync + 'static,
        O: Into<ProgramOutput>,
    {
        Self::Function(Arc::new(move |input| program(input).map(Into::into)))
    }

    /// `None` where the program panicked.
    pub(super) async fn run(self, job: &Submission, revision: Revision) -> Option<Result<ProgramOutput, ProgramError>> {
        let (request, offchain, state) = (job.request.clone(), job.offchain_input.clone(), job.state.clone());
        match self {
            Self::Function(program) => {
                let ran = tokio::task::spawn_blocking(move || {
                    let onchain = &request.onchain_input;
                    program(ProgramInput { onchain, offchain: &offchain, state: &state, revision })
                });
                ran.await.ok()
            }
            Self::Command(command) => {
                let (onchain, max_cycles) = (request.onchain_input, request.max_cycles);
                Some(command.run(ProgramRun { revision, max_cycles, onchain, offchain, state }).await)
            }
        }
    }
}
